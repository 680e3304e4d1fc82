//! Answers to `401`: basic authentication and the bearer token flow (distribution-spec token specification).
//!
//! Tokens are kept per endpoint and repository and never used for another repository. They are asked for with the
//! scope `repository:NAME:pull` alone, unless the caller says what more it is about to do ([`Authority::ask_for`]).

use super::challenge::{self, Challenge};
use super::credentials::{Credentials, Stores};
use super::{Endpoint, LONGEST_RETRY_AFTER, body, ecr};
use crate::image::{Error, RegistryConfig};
use crate::oci::Reference;
use base64::Engine as _;
use oci_distribution::secrets::RegistryAuth;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Url};
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
    credentials: RefCell<HashMap<String, Held>>,
    config: RegistryConfig,
    /// A server asked for a pause.
    not_before: Cell<Option<Instant>>,
    /// Scopes to ask for instead of `repository:NAME:pull`.
    scopes: Vec<String>,
    /// For `login`: no scope, and a refresh token is asked for.
    signing_in: bool,
    /// The refresh token that came with the last token.
    refresh: RefCell<Option<String>>,
}

/// Credentials of one host.
struct Held {
    credentials: Credentials,
    /// None: they are good until they are refused.
    until: Option<Instant>,
    /// Made from the cloud's own keys, not looked up.
    minted: bool,
}

impl Authority {
    pub fn new(config: &RegistryConfig) -> Self {
        Authority {
            stores: Stores::new(config),
            known: RefCell::default(),
            credentials: RefCell::default(),
            not_before: Cell::new(None),
            scopes: Vec::new(),
            signing_in: false,
            refresh: RefCell::default(),
            config: config.clone(),
        }
    }

    /// For `login`: these credentials and no others, tokens without a scope.
    ///
    /// # Errors
    /// The docker config is not valid JSON.
    pub fn signing_in(config: &RegistryConfig, endpoint: &Endpoint, credentials: Credentials) -> Result<Self, Error> {
        let authority = Authority { signing_in: true, ..Authority::new(config) };
        authority.hold(endpoint, Held { credentials, until: None, minted: false });
        Ok(authority)
    }

    /// The refresh token that a token server gave for the password.
    pub fn refresh_token(&self) -> Option<String> {
        self.refresh.borrow().clone()
    }

    /// Asks for these scopes (token specification, "resource scope grammar") instead of pulling alone.
    pub fn ask_for(&mut self, scopes: Vec<String>) {
        self.scopes = scopes;
    }

    /// The header that was accepted before and has not expired.
    pub fn known(&self, endpoint: &Endpoint, repository: &str) -> Option<HeaderValue> {
        let known = self.known.borrow();
        let (header, until) = known.get(&(endpoint.base(), repository.to_owned()))?;
        (Instant::now() < *until).then(|| header.clone())
    }

    /// True if there is anything to offer, whether the registry asked for it or not.
    pub fn has_credentials(&self, endpoint: &Endpoint) -> bool {
        match self.credentials.borrow().get(&endpoint.host) {
            Some(held) => held.credentials != Credentials::anonymous(),
            None => self.stores.find(&endpoint.host).is_ok_and(|found| found != Credentials::anonymous()),
        }
    }

    /// Remembers the `Retry-After` of a server; returns it in seconds.
    pub fn note_pause(&self, header: Option<&HeaderValue>) -> Option<u64> {
        let seconds = super::retry_after(header)?;
        if seconds <= LONGEST_RETRY_AFTER {
            self.not_before.set(Some(Instant::now() + Duration::from_secs(seconds)));
        }
        Some(seconds)
    }

    /// Seconds a server asked us to wait, from now.
    pub fn asked_pause(&self) -> Option<u64> {
        let left = self.not_before.get()?.checked_duration_since(Instant::now())?;
        Some(left.as_secs() + 1)
    }

    /// The sentence for a refusal, by what was offered.
    pub fn denied(&self, endpoint: &Endpoint, name: String) -> Error {
        if self.has_credentials(endpoint) { Error::Credentials { registry: endpoint.host.clone(), name } } else { Error::Denied { name } }
    }

    fn hold(&self, endpoint: &Endpoint, held: Held) {
        self.credentials.borrow_mut().insert(endpoint.host.clone(), held);
    }

    async fn credentials(&self, endpoint: &Endpoint) -> Result<Credentials, Error> {
        if let Some(held) = self.credentials.borrow().get(&endpoint.host)
            && held.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(held.credentials.clone());
        }
        let found = self.stores.ask(&endpoint.host).await?;
        if found == Credentials::anonymous() && self.mint(endpoint).await? {
            return Box::pin(self.credentials(endpoint)).await;
        }
        self.hold(endpoint, Held { credentials: found.clone(), until: None, minted: false });
        Ok(found)
    }

    /// Makes credentials from the cloud's own keys, where the host is of a cloud that has such. False: there are none.
    async fn mint(&self, endpoint: &Endpoint) -> Result<bool, Error> {
        let Some(host) = ecr::Host::parse(&endpoint.host) else { return Ok(false) };
        let Some(token) = ecr::token(&self.config, &host).await? else { return Ok(false) };
        let until = Some(Instant::now() + token.lifetime);
        self.hold(endpoint, Held { credentials: Credentials::basic(&token.user, &token.password), until, minted: true });
        Ok(true)
    }

    /// After a refusal of stored credentials, which a cloud's registry takes for some hours only: true if there are
    /// fresh ones to try.
    ///
    /// # Errors
    /// The cloud refuses its own keys.
    pub async fn reconsider(&self, endpoint: &Endpoint, repository: &str) -> Result<bool, Error> {
        let stored = self.credentials.borrow().get(&endpoint.host).is_some_and(|held| !held.minted && held.credentials != Credentials::anonymous());
        if self.signing_in || !stored || !self.mint(endpoint).await? {
            return Ok(false);
        }
        self.known.borrow_mut().remove(&(endpoint.base(), repository.to_owned()));
        Ok(true)
    }

    /// Does what a `401` asks for; the request is then sent again. `sent` is the header that was refused.
    ///
    /// # Errors
    /// Nothing more can be offered, or the challenge is refused.
    pub async fn answer(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
        round: u32,
    ) -> Result<(), Error> {
        self.respond(endpoint, reference.repository(), &reference.familiar_name(), headers, sent, round).await
    }

    /// [`Authority::answer`] for any repository, or for none; `name` is for messages.
    ///
    /// # Errors
    /// As [`Authority::answer`].
    pub async fn respond(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        name: &str,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
        round: u32,
    ) -> Result<(), Error> {
        let key = (endpoint.base(), repository.to_owned());
        // Several transfers share the token: another one may have renewed it meanwhile.
        if self.known(endpoint, repository).is_some_and(|newer| Some(&newer) != sent) {
            return Ok(());
        }
        self.known.borrow_mut().remove(&key);
        let credentials = self.credentials(endpoint).await?;
        let denied = || self.denied(endpoint, name.to_owned());
        // A fresh token that is refused will be refused again; an old one may have expired.
        if sent.is_some() && round > 1 {
            return Err(denied());
        }
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = texts.flat_map(challenge::parse).collect();
        let bearer = challenges.iter().find_map(|c| match c {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        let (header, lifetime) = match (bearer, &credentials) {
            (_, Credentials::Plain(RegistryAuth::Bearer(token))) => (format!("Bearer {token}"), u64::from(u16::MAX)),
            (Some((realm, service)), _) => {
                let (token, lifetime) = self.token(endpoint, repository, name, realm, service.as_deref(), &credentials).await?;
                (format!("Bearer {token}"), lifetime)
            }
            (None, Credentials::Plain(RegistryAuth::Basic(user, password))) if challenges.contains(&Challenge::Basic) => {
                (basic(user, password), self.lifetime(endpoint))
            }
            _ => return Err(denied()),
        };
        let header = sensitive(&header).ok_or_else(denied)?;
        let until = Instant::now() + Duration::from_secs(lifetime.saturating_sub(TOKEN_SKEW).max(5));
        self.known.borrow_mut().insert(key, (header, until));
        Ok(())
    }

    /// Seconds for which the credentials of a host are good.
    fn lifetime(&self, endpoint: &Endpoint) -> u64 {
        let until = self.credentials.borrow().get(&endpoint.host).and_then(|held| held.until);
        until.map_or(u64::from(u16::MAX), |until| until.saturating_duration_since(Instant::now()).as_secs())
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        name: &str,
        realm: &str,
        service: Option<&str>,
        credentials: &Credentials,
    ) -> Result<(String, u64), Error> {
        let mut url = check_realm(endpoint, realm)?;
        let scopes = match (self.signing_in, self.scopes.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![format!("repository:{repository}:pull")],
            (false, false) => self.scopes.clone(),
        };
        let operation = "get a token";
        let mut authorization = None;
        let mut form = None;
        if let Credentials::Identity(token) = credentials {
            form = Some(encode(&[
                ("grant_type", "refresh_token"),
                ("service", service.unwrap_or_default()),
                ("client_id", "rcon"),
                ("scope", &scopes.join(" ")),
                ("refresh_token", token),
            ]));
        } else {
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            if let Credentials::Plain(RegistryAuth::Basic(user, password)) = credentials {
                if self.signing_in {
                    url.query_pairs_mut().append_pair("account", user).append_pair("client_id", "rcon").append_pair("offline_token", "true");
                }
                authorization = Some(sensitive(&basic(user, password)).ok_or_else(|| self.denied(endpoint, name.to_owned()))?);
            }
        }
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let dress = |request: RequestBuilder| match &form {
            Some(form) => request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone()),
            None => request,
        };
        let response = endpoint.follow(method, url, authorization.as_ref(), operation, &dress).await?;
        let registry = endpoint.host.clone();
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Err(self.denied(endpoint, name.to_owned())),
            429 => return Err(Error::RateLimited { registry, after: self.note_pause(response.headers().get(RETRY_AFTER)) }),
            status => {
                self.note_pause(response.headers().get(RETRY_AFTER));
                return Err(Error::Answer { registry, operation: operation.to_owned(), status, message: String::new() });
            }
        }
        let refused = |why: &str| Error::Challenge { registry: endpoint.host.clone(), why: why.to_owned() };
        let bytes = body(response, TOKEN_LIMIT, &String::new).await.map_err(|_| refused("its token server's answer cannot be read"))?;
        let token = parse_token(&bytes).ok_or_else(|| refused("its token server's answer holds no token"))?;
        *self.refresh.borrow_mut() = token.refresh;
        Ok((token.token, token.lifetime))
    }
}

/// A header that is kept out of logs.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A form's body (`application/x-www-form-urlencoded`).
fn encode(pairs: &[(&str, &str)]) -> String {
    let mut form = Url::parse("form://x/").expect("invariant: a constant address");
    form.query_pairs_mut().extend_pairs(pairs);
    form.query().unwrap_or_default().to_owned()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[derive(Debug, PartialEq)]
struct Token {
    token: String,
    /// Seconds.
    lifetime: u64,
    refresh: Option<String>,
}

fn parse_token(bytes: &[u8]) -> Option<Token> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
        refresh_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let refresh = answer.refresh_token.filter(|token| !token.is_empty());
    Some(Token { token, lifetime: answer.expires_in.unwrap_or(TOKEN_LIFETIME).max(TOKEN_LIFETIME), refresh })
}

/// A token server is spoken to over HTTPS; in plain HTTP only if the registry itself is. An address of a
/// private network is taken only if it is the registry's own: a registry must not aim us at our own network.
fn check_realm(endpoint: &Endpoint, realm: &str) -> Result<Url, Error> {
    let refused = |why: &str| Error::Challenge { registry: endpoint.host.clone(), why: why.to_owned() };
    let url = Url::parse(realm).map_err(|_| refused("the address of its token server is not valid"))?;
    let base = Url::parse(&endpoint.base()).map_err(|_| refused("its own address is not valid"))?;
    let same_host = url.host_str() == base.host_str();
    match url.scheme() {
        "https" => {}
        "http" if endpoint.plain() && (same_host || super::endpoint::is_loopback(url.host_str().unwrap_or_default())) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read() {
        let read = |text: &str| parse_token(text.as_bytes()).map(|t| (t.token, t.lifetime, t.refresh));
        assert_eq!(read(r#"{"token":"t"}"#), Some(("t".to_owned(), 60, None)));
        assert_eq!(read(r#"{"access_token":"a","expires_in":300,"refresh_token":"r"}"#), Some(("a".to_owned(), 300, Some("r".to_owned()))));
        assert_eq!(read(r#"{"token":""}"#), None);
    }

    #[test]
    fn realms_are_checked() {
        let secure = Endpoint::for_test("https://registry.example", "h");
        assert!(check_realm(&secure, "https://auth.example/token").is_ok());
        for bad in ["http://auth.example/token", "https://127.0.0.1/token", "https://10.0.0.1/t", "https://[::1]/t", "file:///etc", "x"] {
            assert!(check_realm(&secure, bad).is_err(), "{bad}");
        }
        let local = Endpoint::for_test("http://127.0.0.1:5000", "127.0.0.1:5000");
        assert!(check_realm(&local, "http://127.0.0.1:5001/token").is_ok());
        assert!(check_realm(&local, "http://10.0.0.1/token").is_err());
    }
}
