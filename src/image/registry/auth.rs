//! Answers to `401`: basic authentication and the bearer token flow (distribution-spec token specification).
//!
//! Tokens are kept per endpoint and repository and never used for another repository. They are asked for with the
//! scope `repository:NAME:pull` alone, unless the caller says what more it is about to do ([`Authority::ask_for`]).

use super::credentials::{Credentials, Stores};
use super::{Endpoint, body};
use crate::image::{Error, RegistryConfig};
use crate::oci::Reference;
use base64::Engine as _;
use oci_distribution::secrets::RegistryAuth;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Most bytes of a token server's answer.
const TOKEN_LIMIT: usize = 256 << 10;
/// Lifetime of a token that says nothing (token specification).
const TOKEN_LIFETIME: u64 = 60;
/// A token is renewed this long before it expires.
const TOKEN_SKEW: u64 = 10;

/// Credentials and tokens of one pull.
pub struct Authority {
    stores: Stores,
    known: RefCell<HashMap<(String, String), (HeaderValue, Instant)>>,
    credentials: RefCell<HashMap<String, Credentials>>,
    /// A server asked for a pause.
    not_before: Cell<Option<Instant>>,
    /// Scopes to ask for instead of `repository:NAME:pull`.
    scopes: Vec<String>,
}

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, PartialEq)]
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Authority {
    /// # Errors
    /// The docker config is not valid JSON.
    pub fn new(config: &RegistryConfig) -> Result<Self, Error> {
        Ok(Authority {
            stores: Stores::new(config)?,
            known: RefCell::default(),
            credentials: RefCell::default(),
            not_before: Cell::new(None),
            scopes: Vec::new(),
        })
    }

    /// Asks for these scopes (token specification, "resource scope grammar") instead of pulling alone.
    pub fn ask_for(&mut self, scopes: Vec<String>) {
        self.scopes = scopes;
    }

    /// The header that was accepted before and has not expired.
    pub fn known(&self, endpoint: &Endpoint, repository: &str) -> Option<HeaderValue> {
        let known = self.known.borrow();
        let (header, until) = known.get(&(endpoint.base.clone(), repository.to_owned()))?;
        (Instant::now() < *until).then(|| header.clone())
    }

    pub fn has_credentials(&self, endpoint: &Endpoint) -> bool {
        self.credentials.borrow().get(&endpoint.host).is_some_and(|c| *c != Credentials::Plain(RegistryAuth::Anonymous))
    }

    /// Remembers the `Retry-After` of a server.
    pub fn wait_until(&self, seconds: u64) {
        self.not_before.set(Some(Instant::now() + Duration::from_secs(seconds)));
    }

    /// Seconds a server asked us to wait, from now.
    pub fn asked_pause(&self) -> Option<u64> {
        self.not_before.get().map(|at| at.saturating_duration_since(Instant::now()).as_secs() + 1)
    }

    fn credentials(&self, endpoint: &Endpoint) -> Result<Credentials, Error> {
        if let Some(found) = self.credentials.borrow().get(&endpoint.host) {
            return Ok(found.clone());
        }
        let found = self.stores.find(&endpoint.host)?;
        self.credentials.borrow_mut().insert(endpoint.host.clone(), found.clone());
        Ok(found)
    }

    /// Does what a `401` asks for; the request is then sent again.
    ///
    /// # Errors
    /// Nothing more can be offered, or the challenge is refused.
    pub async fn answer(&self, endpoint: &Endpoint, reference: &Reference, headers: &HeaderMap, round: u32) -> Result<(), Error> {
        let key = (endpoint.base.clone(), reference.repository().to_owned());
        let had_one = self.known.borrow_mut().remove(&key).is_some();
        let credentials = self.credentials(endpoint)?;
        let anonymous = credentials == Credentials::Plain(RegistryAuth::Anonymous);
        let denied = || {
            let name = reference.familiar_name();
            if anonymous { Error::Denied { name } } else { Error::Credentials { registry: endpoint.host.clone(), name } }
        };
        // A fresh token that is refused will be refused again; an old one may have expired.
        if had_one && round > 1 {
            return Err(denied());
        }
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = texts.flat_map(parse_challenges).collect();
        let bearer = challenges.iter().find_map(|c| match c {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        let (header, lifetime) = match (bearer, &credentials) {
            (_, Credentials::Plain(RegistryAuth::Bearer(token))) => (format!("Bearer {token}"), u64::from(u16::MAX)),
            (Some((realm, service)), _) => {
                let (token, lifetime) = self.token(endpoint, reference, realm, service.as_deref(), &credentials).await?;
                (format!("Bearer {token}"), lifetime)
            }
            (None, Credentials::Plain(RegistryAuth::Basic(user, password))) if challenges.contains(&Challenge::Basic) => {
                (basic(user, password), u64::from(u16::MAX))
            }
            _ => return Err(denied()),
        };
        let mut header = HeaderValue::from_str(&header).map_err(|_| denied())?;
        header.set_sensitive(true);
        let until = Instant::now() + Duration::from_secs(lifetime.saturating_sub(TOKEN_SKEW).max(5));
        self.known.borrow_mut().insert(key, (header, until));
        Ok(())
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        realm: &str,
        service: Option<&str>,
        credentials: &Credentials,
    ) -> Result<(String, u64), Error> {
        let mut url = check_realm(endpoint, realm)?;
        let scopes = if self.scopes.is_empty() { vec![format!("repository:{}:pull", reference.repository())] } else { self.scopes.clone() };
        let operation = "get a token";
        let request = if let Credentials::Identity(token) = credentials {
            let mut form = reqwest::Url::parse("form://x/").expect("invariant: a constant address");
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("client_id", "rcon")
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", token);
            let text = form.query().unwrap_or_default().to_owned();
            endpoint.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(text)
        } else {
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            match credentials {
                Credentials::Plain(RegistryAuth::Basic(user, password)) => endpoint.client.get(url).basic_auth(user, Some(password)),
                _ => endpoint.client.get(url),
            }
        };
        let unreachable = |e: reqwest::Error| Error::Unreachable {
            registry: endpoint.host.clone(),
            operation: operation.to_owned(),
            source: Box::new(e.without_url()),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let name = reference.familiar_name();
        match status {
            200 => {}
            401 | 403 if *credentials == Credentials::Plain(RegistryAuth::Anonymous) => return Err(Error::Denied { name }),
            401 | 403 => return Err(Error::Credentials { registry: endpoint.host.clone(), name }),
            429 => return Err(Error::RateLimited { registry: endpoint.host.clone() }),
            _ => return Err(Error::Answer { registry: endpoint.host.clone(), operation: operation.to_owned(), status, message: String::new() }),
        }
        let refused = |why: &str| Error::Challenge { registry: endpoint.host.clone(), why: why.to_owned() };
        let bytes = body(response, TOKEN_LIMIT, &String::new).await.map_err(|_| refused("its token server's answer cannot be read"))?;
        parse_token(&bytes).ok_or_else(|| refused("its token server's answer holds no token"))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// The token and its lifetime in seconds.
fn parse_token(bytes: &[u8]) -> Option<(String, u64)> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    Some((token, answer.expires_in.unwrap_or(TOKEN_LIFETIME).max(TOKEN_LIFETIME)))
}

/// A token server is spoken to over HTTPS; in plain HTTP only if the registry itself is. An address of a
/// private network is taken only if it is the registry's own: a registry must not aim us at our own network.
fn check_realm(endpoint: &Endpoint, realm: &str) -> Result<Url, Error> {
    let refused = |why: &str| Error::Challenge { registry: endpoint.host.clone(), why: why.to_owned() };
    let url = Url::parse(realm).map_err(|_| refused("the address of its token server is not valid"))?;
    let base = Url::parse(&endpoint.base).map_err(|_| refused("its own address is not valid"))?;
    let same_host = url.host_str() == base.host_str();
    match url.scheme() {
        "https" => {}
        "http" if endpoint.plain && (same_host || super::endpoint::is_loopback(url.host_str().unwrap_or_default())) => {}
        _ => return Err(refused("its token server is not reached over HTTPS")),
    }
    let literal = url.host_str().map(|host| host.trim_matches(['[', ']'])).and_then(|host| host.parse::<std::net::IpAddr>().ok());
    let private = literal.is_some_and(|address| match address {
        std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified(),
    });
    // A registry of this machine may have its token server beside it under another loopback name or port.
    let both_here = literal.is_some_and(|address| address.is_loopback()) && super::endpoint::is_loopback(&endpoint.host);
    if private && !same_host && !both_here {
        return Err(refused("its token server is an address of a private network"));
    }
    Ok(url)
}

/// Reads `Bearer realm="…",service="…"` and `Basic realm="…"` (RFC 9110, 11.6.1); other schemes are skipped.
pub fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = text.trim_start();
    while let Some((scheme, parameters)) = take_word(rest) {
        let (parameters, after) = take_parameters(parameters);
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let find = |key: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone());
            if let Some(realm) = find("realm") {
                challenges.push(Challenge::Bearer { realm, service: find("service") });
            }
        }
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    challenges
}

fn take_word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// `name=value` pairs up to the next scheme.
fn take_parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([',', ' ', '\t']);
        let Some((name, after)) = take_word(start) else { return (found, "") };
        let Some(after) = after.strip_prefix('=') else { return (found, start) };
        let after = after.trim_start();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = characters.next() {
                match c {
                    '\\' => value.extend(characters.next().map(|(_, c)| c)),
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    c => value.push(c),
                }
            }
            found.push((name.to_owned(), value));
            text = &quoted[end..];
        } else {
            let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
            found.push((name.to_owned(), after[..end].to_owned()));
            text = &after[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) };
        assert_eq!(
            parse_challenges(r#"Bearer realm="https://auth.example/token",service="reg, istry",scope="repository:a/b:pull""#),
            [bearer("https://auth.example/token", Some("reg, istry"))]
        );
        assert_eq!(parse_challenges(r#"Basic realm="x", Bearer realm=y"#), [Challenge::Basic, bearer("y", None)]);
        assert_eq!(parse_challenges(r#"Negotiate, BASIC realm="a\"b""#), [Challenge::Basic]);
        for odd in ["", ",", "Bearer", "Bearer realm=\"unclosed", "=", "Basic realm"] {
            drop(parse_challenges(odd));
        }
    }

    #[test]
    fn tokens_are_read() {
        assert_eq!(parse_token(br#"{"token":"t"}"#), Some(("t".to_owned(), 60)));
        assert_eq!(parse_token(br#"{"access_token":"a","expires_in":300}"#), Some(("a".to_owned(), 300)));
        assert_eq!(parse_token(br#"{"token":""}"#), None);
    }

    #[test]
    fn realms_are_checked() {
        let endpoint = |base: &str, plain| Endpoint { base: base.to_owned(), host: "h".to_owned(), plain, client: plain_client() };
        let secure = endpoint("https://registry.example", false);
        assert!(check_realm(&secure, "https://auth.example/token").is_ok());
        for bad in ["http://auth.example/token", "https://127.0.0.1/token", "https://10.0.0.1/t", "https://[::1]/t", "file:///etc", "x"] {
            assert!(check_realm(&secure, bad).is_err(), "{bad}");
        }
        let local = endpoint("http://127.0.0.1:5000", true);
        assert!(check_realm(&local, "http://127.0.0.1:5001/token").is_ok());
        assert!(check_realm(&local, "http://10.0.0.1/token").is_err());
    }

    fn plain_client() -> reqwest::Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        reqwest::Client::builder().tls_certs_only(std::iter::empty()).build().unwrap()
    }
}
