//! What a registry has: tags of a repository, manifests that refer to another (OCI 1.1), repositories by a word.

use super::{Ask, Endpoint, Registry, STALL, body, broken, endpoint};
use crate::image::{Error, RegistryConfig};
use crate::oci::{Descriptor, Digest, Document, Reference, media};
use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;

/// Most bytes of one page of a list.
const PAGE_LIMIT: usize = 8 << 20;
/// Most pages of a list.
const PAGES: usize = 1000;
/// Names asked for in one page.
const PAGE_NAMES: &str = "1000";
/// Who answers searches of the default registry.
const HUB_SEARCH: &str = "https://index.docker.io";

/// One repository of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    pub name: String,
    pub description: String,
    pub star_count: u64,
    pub is_official: bool,
}

/// The manifests that name another one as their subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Referrers {
    pub manifests: Vec<serde_json::Value>,
    /// The registry has the API; otherwise they come from the tag that stands in for it.
    pub by_registry: bool,
}

/// The tag that lists the referrers of a digest where the registry does not (distribution-spec, "Referrers Tag Schema").
pub fn fallback_tag(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(64).collect();
    format!("{}-{hex}", digest.algorithm().as_str())
}

impl Registry {
    /// Every tag of the repository, as the registry itself (no mirror) lists them.
    ///
    /// # Errors
    /// The registry cannot be asked, or has no such repository.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let endpoint = self.endpoints.last().expect("invariant: the registry itself is always an endpoint");
        let first = Ask { path: &format!("tags/list?n={PAGE_NAMES}"), operation: "list the tags", ..Ask::default() };
        let mut tags = Vec::new();
        self.pages(endpoint, &first, &mut |bytes| {
            let page: Page = serde_json::from_slice(bytes).ok()?;
            tags.extend(page.tags.unwrap_or_default());
            Some(true)
        })
        .await
        .map_err(|error| match error {
            Error::Answer { status: 404, .. } => Error::NotFound { reference: self.reference.familiar_name() },
            other => other,
        })?;
        Ok(tags)
    }

    /// The manifests that have `digest` as their subject, all or those of one artifact type.
    ///
    /// # Errors
    /// The registry cannot be asked, or answers something else than an index.
    pub async fn referrers(&self, digest: &Digest, artifact_type: Option<&str>) -> Result<Referrers, Error> {
        let endpoint = self.endpoints.last().expect("invariant: the registry itself is always an endpoint");
        let mut path = format!("referrers/{digest}");
        if let Some(kind) = artifact_type
            && let Ok(url) = Url::parse_with_params("x:", [("artifactType", kind)])
        {
            path.push_str(url.as_str().trim_start_matches("x:"));
        }
        let first = Ask { path: &path, accept: Some(media::OCI_INDEX), operation: "list the referrers", ..Ask::default() };
        let mut manifests = Vec::new();
        let mut bad = None;
        let mut take = |bytes: &[u8]| match index_entries(bytes) {
            Ok(entries) => {
                manifests.extend(entries);
                Some(true)
            }
            Err(why) => {
                bad = Some(why);
                None
            }
        };
        let by_registry = match self.pages(endpoint, &first, &mut take).await {
            Ok(()) => true,
            Err(Error::Answer { status: 404, .. }) => false,
            Err(error) => return Err(error),
        };
        if !by_registry {
            match self.manifest(&fallback_tag(digest)).await {
                Ok(raw) => {
                    let source = Document::parse(&raw.bytes, raw.content_type.as_deref());
                    source.map_err(|source| Error::Manifest { reference: fallback_tag(digest), source })?;
                    manifests = index_entries(&raw.bytes).unwrap_or_default();
                }
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(kind) = artifact_type {
            // A registry need not filter (distribution-spec, "Listing Referrers").
            manifests.retain(|entry| entry.get("artifactType").and_then(|v| v.as_str()) == Some(kind));
        }
        Ok(Referrers { manifests, by_registry })
    }

    /// Reads a list page by page. `take` gets each page and says whether more is wanted; None: the page is nonsense.
    async fn pages(&self, endpoint: &Endpoint, first: &Ask<'_>, take: &mut dyn FnMut(&[u8]) -> Option<bool>) -> Result<(), Error> {
        let operation = first.operation;
        let protocol = |why: &str| Error::Protocol { registry: endpoint.host.clone(), operation: operation.to_owned(), why: why.to_owned() };
        let mut next: Option<Url> = None;
        let mut seen = Vec::new();
        for _ in 0..PAGES {
            let later = Ask { address: next.as_ref(), accept: first.accept, operation, ..Ask::default() };
            let ask = if next.is_some() { &later } else { first };
            let response = self.retried(endpoint, async || self.send(endpoint, ask).await).await?;
            let url = response.url().clone();
            let following = next_page(response.headers(), &url);
            let read = tokio::time::timeout(STALL, body(response, PAGE_LIMIT, &|| "a page of the list".to_owned())).await;
            let bytes = read.map_err(|_| protocol("it stopped in the middle of a page"))?.map_err(|e| broken(endpoint, &url, operation, e))?;
            let more = take(&bytes).ok_or_else(|| protocol("it is not the JSON that the protocol asks for"))?;
            if !more || following.is_none() {
                return Ok(());
            }
            // A page that leads back to one before it.
            if following.as_ref().is_some_and(|following| seen.contains(following)) {
                return Err(protocol("its list goes in circles"));
            }
            seen.push(url);
            next = following;
        }
        Err(protocol("its list does not end"))
    }
}

/// Searches a registry for repositories: with Docker's search (v1) where the registry has it, else by looking through
/// its catalogue.
///
/// # Errors
/// The registry cannot be asked, or has neither.
pub async fn search(config: &RegistryConfig, host: &str, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        results: Vec<Found>,
    }
    let whole: Reference = format!("{host}/search").parse().map_err(|why: String| Error::List { message: why, missing: false })?;
    let mut registry = Registry::new(config, &whole)?;
    registry.authority.ask_for(vec!["registry:catalog:*".to_owned()]);
    let endpoint = endpoint::own(config, whole.registry(), Some(STALL))?;
    let count = limit.to_string();
    let mut found = Vec::new();
    let searched = loop {
        let base = if whole.registry() == "docker.io" { HUB_SEARCH.to_owned() } else { endpoint.base() };
        let url = Url::parse_with_params(&format!("{base}/v1/search"), [("q", term), ("n", &count)]);
        let url = url.map_err(|e| Error::List { message: e.to_string(), missing: false })?;
        let mut take = |bytes: &[u8]| {
            found = serde_json::from_slice::<Answer>(bytes).ok()?.results;
            Some(false)
        };
        let first = Ask { address: Some(&url), operation: "search", ..Ask::default() };
        match registry.pages(&endpoint, &first, &mut take).await {
            Err(error) if endpoint.fall_back(&error) => {}
            other => break other,
        }
    };
    match searched {
        Err(Error::Answer { status: 404 | 405, .. } | Error::Protocol { .. }) if whole.registry() != "docker.io" => {}
        other => {
            other?;
            found.truncate(limit);
            return Ok(found);
        }
    }
    #[derive(Deserialize)]
    struct Catalogue {
        repositories: Option<Vec<String>>,
    }
    let mut found = Vec::new();
    let mut take = |bytes: &[u8]| {
        let page: Catalogue = serde_json::from_slice(bytes).ok()?;
        let names = page.repositories.unwrap_or_default().into_iter().filter(|name| name.contains(term));
        found.extend(names.map(|name| Found { name, ..Found::default() }));
        Some(found.len() < limit)
    };
    let catalogue = endpoint.address(&format!("_catalog?n={PAGE_NAMES}"))?;
    let first = Ask { address: Some(&catalogue), operation: "list its repositories", ..Ask::default() };
    registry.pages(&endpoint, &first, &mut take).await?;
    found.truncate(limit);
    Ok(found)
}

/// The entries of an index as they are written there: a referrer carries fields that a plain descriptor has not.
fn index_entries(bytes: &[u8]) -> Result<Vec<serde_json::Value>, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let entries = value.get("manifests").and_then(serde_json::Value::as_array).ok_or("it is no index")?;
    for entry in entries {
        serde_json::from_value::<Descriptor>(entry.clone()).map_err(|e| e.to_string())?;
    }
    Ok(entries.clone())
}

/// The next page of a list (RFC 8288), if it is on the same origin: our credentials go nowhere else.
fn next_page(headers: &HeaderMap, current: &Url) -> Option<Url> {
    let texts = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let link = texts.flat_map(|text| text.split(',')).find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let target = link.trim().strip_prefix('<')?.split('>').next()?;
    current.join(target).ok().filter(|url| url.origin() == current.origin())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn pages_follow_each_other_on_one_origin() {
        let current = Url::parse("https://r.example/v2/_catalog?n=2").unwrap();
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_str(link).unwrap());
            next_page(&headers, &current).map(String::from)
        };
        assert_eq!(next("</v2/_catalog?last=b&n=2>; rel=\"next\"").as_deref(), Some("https://r.example/v2/_catalog?last=b&n=2"));
        assert_eq!(next("<https://evil.example/x>; rel=\"next\""), None);
        assert_eq!(next("</x>; rel=\"prev\""), None);
        assert_eq!(next("nonsense; rel=\"next\""), None);
    }

    #[test]
    fn referrers_without_the_api_have_a_tag() {
        assert_eq!(fallback_tag(&Digest::of(b"")), "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(index_entries(br#"{"manifests":[{"mediaType":"a","digest":"x","size":1}]}"#).is_err());
        assert!(index_entries(br#"{"layers":[]}"#).is_err());
    }
}
