//! Where requests go: the registry of a name and its mirrors, over which transport, and what follows a redirect.
//!
//! Invariants: a header with credentials and a client certificate go to the host they belong to and to no host that
//! it sends us to; HTTPS never becomes HTTP, except at first contact with a registry that is listed as insecure.

use super::certs::{self, Certificates};
use super::{CONNECT, STALL, tls};
use crate::image::{Error, RegistryConfig};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// Most redirects of one request.
const REDIRECTS: usize = 10;
/// What answers for the default registry's name.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";
/// Words with which servers say that they want TLS: Go's net/http, nginx, Apache, HAProxy and Envoy have one of them.
const WANTS_TLS: [&str; 3] = ["https server", "https port", "ssl-enabled"];

/// A base address that serves `/v2/`.
pub struct Endpoint {
    /// `https://host:port[/prefix]`, no slash at the end.
    base: RefCell<String>,
    /// Name for messages and credentials: the registry's name, or the mirror's host.
    pub host: String,
    certificates: Certificates,
    certs_dirs: Vec<PathBuf>,
    certs: BTreeMap<String, Vec<PathBuf>>,
    /// Listed as insecure: certificates are not verified, and plain HTTP will do.
    insecure: bool,
    patience: Option<Duration>,
    /// The scheme was changed already.
    switched: Cell<bool>,
    /// By origin: what the registry sends us to has connections, authorities and certificates of its own.
    clients: RefCell<HashMap<String, Client>>,
}

/// The mirrors of a registry in order, then the registry.
///
/// # Errors
/// A mirror's address is not valid, or a certificate file cannot be used.
pub fn of(config: &RegistryConfig, registry: &str) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = Vec::new();
    for mirror in config.mirrors.get(registry).into_iter().flatten() {
        endpoints.push(mirror_endpoint(config, mirror)?);
    }
    endpoints.push(own(config, registry, Some(STALL))?);
    Ok(endpoints)
}

/// The registry itself. `patience` is the longest silence of its answers; None where a request may take any time to
/// be sent.
///
/// # Errors
/// The settings or a certificate file cannot be used.
pub fn own(config: &RegistryConfig, registry: &str, patience: Option<Duration>) -> Result<Endpoint, Error> {
    config.usable()?;
    let host = if registry == "docker.io" { DEFAULT_REGISTRY_HOST } else { registry };
    let names: &[&str] = if registry == host { &[host] } else { &[registry, host] };
    let certificates = certs::read(&config.certs_dirs, &config.certs, names)?;
    let insecure = config.insecure.iter().any(|listed| listed == registry);
    // A registry of this machine has a certificate only if somebody said so.
    let plain = is_loopback(registry) && certificates.roots.is_empty() && certificates.identity.is_none() && !insecure;
    let scheme = if plain { "http" } else { "https" };
    let endpoint = Endpoint::new(format!("{scheme}://{host}"), registry.to_owned(), certificates, config, insecure);
    Ok(Endpoint { patience, ..endpoint })
}

fn mirror_endpoint(config: &RegistryConfig, mirror: &str) -> Result<Endpoint, Error> {
    let refused = |why: &str| Error::Unsupported { reference: format!("mirror \"{}\"", mirror.escape_default()), why: why.to_owned() };
    let url = Url::parse(mirror).map_err(|e| refused(&e.to_string()))?;
    let name = url.host_str().ok_or_else(|| refused("it has no host"))?;
    let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let insecure = config.insecure.contains(&host);
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&host) || insecure => {}
        "http" => return Err(refused("plain HTTP is only for loopback addresses and registries listed as insecure")),
        _ => return Err(refused("its scheme is not https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("credentials belong into the docker config file, under the mirror's host"));
    }
    let certificates = certs::read(&config.certs_dirs, &config.certs, &[&host])?;
    Ok(Endpoint::new(mirror.trim_end_matches('/').to_owned(), host, certificates, config, insecure))
}

impl Endpoint {
    fn new(base: String, host: String, certificates: Certificates, config: &RegistryConfig, insecure: bool) -> Self {
        Endpoint {
            base: RefCell::new(base),
            host,
            certificates,
            certs_dirs: config.certs_dirs.clone(),
            certs: config.certs.clone(),
            insecure,
            patience: Some(STALL),
            switched: Cell::new(false),
            clients: RefCell::default(),
        }
    }

    /// A service beside a registry: its base address, and its `host[:port]` for certificates and messages.
    ///
    /// # Errors
    /// A certificate file cannot be used.
    pub fn at(config: &RegistryConfig, base: String, host: String, patience: Option<Duration>) -> Result<Self, Error> {
        let certificates = certs::read(&config.certs_dirs, &config.certs, &[&host])?;
        Ok(Endpoint { patience, ..Endpoint::new(base, host, certificates, config, false) })
    }

    /// `https://host:port[/prefix]`, no slash at the end.
    pub fn base(&self) -> String {
        self.base.borrow().clone()
    }

    /// The address of `path` in the API: after `/v2/`, or after the prefix of a mirror that has `/v2/` in it
    /// (`https://cache.example/v2/docker-hub`: projects of a shared cache).
    pub fn address(&self, path: &str) -> Result<Url, Error> {
        let base = self.base.borrow();
        let text = if base.contains("/v2/") { format!("{base}/{path}") } else { format!("{base}/v2/{path}") };
        Url::parse(&text).map_err(|e| Error::Unsupported { reference: text.escape_default().to_string(), why: e.to_string() })
    }

    /// Spoken to in plain HTTP.
    pub fn plain(&self) -> bool {
        self.base.borrow().starts_with("http://")
    }

    /// True if `url` is on this very host, port and scheme.
    pub fn owns(&self, url: &Url) -> bool {
        Url::parse(&self.base.borrow()).is_ok_and(|own| own.origin() == url.origin())
    }

    /// The client for an address: the endpoint's own, or one of a host that it sent us to. There the authorities of
    /// this registry are trusted too (they sign token and storage servers of the same house), while its client
    /// certificate is not shown.
    ///
    /// # Errors
    /// A certificate file cannot be used, or TLS cannot be set up.
    pub fn client(&self, url: &Url) -> Result<Client, Error> {
        let origin = url.origin().ascii_serialization();
        if let Some(client) = self.clients.borrow().get(&origin) {
            return Ok(client.clone());
        }
        let name = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let client = if self.owns(url) {
            build(url, &self.certificates, !self.insecure, is_loopback(&host), self.patience)?
        } else {
            let mut certificates = certs::read(&self.certs_dirs, &self.certs, &[&host])?;
            certificates.roots.extend(self.certificates.roots.iter().cloned());
            build(url, &certificates, true, is_loopback(&host), self.patience)?
        };
        self.clients.borrow_mut().insert(origin, client.clone());
        Ok(client)
    }

    /// Sends a request and follows its redirects. `authorization` is for the origin of `url` alone; `dress` adds
    /// headers and body, anew for each hop. Only reading requests are followed.
    ///
    /// # Errors
    /// No answer, or a redirect that is refused.
    pub async fn follow(
        &self,
        method: Method,
        url: Url,
        authorization: Option<&HeaderValue>,
        operation: &str,
        dress: &dyn Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let first = url.origin();
        let refused = |why: &str| Error::Redirect { registry: self.host.clone(), why: why.to_owned() };
        let mut url = url;
        for _ in 0..=REDIRECTS {
            let mut request = dress(self.client(&url)?.request(method.clone(), url.clone()));
            if let Some(authorization) = authorization.filter(|_| url.origin() == first) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|e| self.explain(&url, operation, e))?;
            let target = response.headers().get(LOCATION).filter(|_| is_redirect(response.status()));
            let (Some(target), true) = (target, method == Method::GET || method == Method::HEAD) else { return Ok(response) };
            let target = target.to_str().ok().and_then(|target| url.join(target).ok()).ok_or_else(|| refused("the new address is not valid"))?;
            match (url.scheme(), target.scheme()) {
                (_, "https") | ("http", "http") => {}
                ("https", "http") => return Err(refused("it leads from HTTPS to plain HTTP")),
                _ => return Err(refused("it leads neither to HTTPS nor to HTTP")),
            }
            tracing::debug!("{} redirects to {}", self.host, target.host_str().unwrap_or_default());
            url = target;
        }
        Err(refused("it never ends"))
    }

    /// Why no answer came from `url`, in words that name the way out.
    pub fn explain(&self, url: &Url, operation: &str, error: reqwest::Error) -> Error {
        let registry = self.name_of(url);
        let host = if self.owns(url) { self.host.clone() } else { authority(url) };
        let fault = tls::fault(&error);
        if let Some(sentence) = fault.and_then(|fault| tls::sentence(registry.clone(), &host, &fault, error.is_connect(), &self.certs_dirs)) {
            return sentence;
        }
        Error::Unreachable { registry, operation: operation.to_owned(), source: Box::new(NoAnswer::of(&error)) }
    }

    /// How messages name the host of `url`.
    pub fn name_of(&self, url: &Url) -> String {
        if self.owns(url) { self.host.clone() } else { format!("{} (where {} sent us)", authority(url), self.host) }
    }

    /// At first contact with an insecure registry that has no TLS: plain HTTP from now on. True if that is worth a try.
    pub fn fall_back(&self, error: &Error) -> bool {
        let no_tls = match error {
            Error::Tls { .. } => true,
            error => super::is_refused(error),
        };
        self.insecure && no_tls && !self.plain() && self.switch("https://", "http://")
    }

    /// After a plain request that a server on TLS refused: HTTPS from now on. True if that is worth a try.
    pub fn step_up(&self, status: StatusCode, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(&body[..body.len().min(1024)]).to_ascii_lowercase();
        let wanted = status == StatusCode::BAD_REQUEST && WANTS_TLS.iter().any(|words| text.contains(words));
        wanted && self.plain() && self.switch("http://", "https://")
    }

    fn switch(&self, from: &str, to: &str) -> bool {
        if self.switched.replace(true) {
            return false;
        }
        let changed = self.base.borrow().strip_prefix(from).map(|rest| format!("{to}{rest}"));
        changed.map(|changed| *self.base.borrow_mut() = changed).is_some()
    }

    #[cfg(test)]
    pub fn for_test(base: &str, host: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        Endpoint::new(base.to_owned(), host.to_owned(), Certificates::default(), &RegistryConfig::default(), false)
    }
}

/// Why there is no answer: the innermost cause, without the layers of the HTTP client around it and without the
/// address, which may hold the secrets of a redirect.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct NoAnswer {
    why: String,
    /// Not even a connection was made.
    pub connect: bool,
}

impl NoAnswer {
    fn of(error: &reqwest::Error) -> Self {
        let mut inner: &dyn std::error::Error = error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        let why = if error.is_timeout() { "no answer came in time".to_owned() } else { inner.to_string() };
        NoAnswer { why, connect: error.is_connect() }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// `host[:port]` of an address.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn build(url: &Url, certificates: &Certificates, verify: bool, loopback: bool, patience: Option<Duration>) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("rcon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .redirect(Policy::none())
        .referer(false);
    if let Some(patience) = patience {
        builder = builder.read_timeout(patience);
    }
    if url.scheme() == "http" {
        // No certificate is ever looked at, so the system's need not be read.
        builder = builder.tls_certs_only(std::iter::empty());
    } else {
        builder = builder.https_only(true).tls_certs_merge(certificates.roots.iter().cloned());
        if let Some(identity) = &certificates.identity {
            builder = builder.identity(identity.clone());
        }
        if !verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
    }
    // As everywhere (Go's httpproxy, curl): what is on this machine is not reached through a proxy.
    if loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| Error::Start { what: "the HTTP client", source: Box::new(e) })
}

/// `localhost`, 127.0.0.0/8 or ::1, with or without a port.
pub fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_by_name_and_address() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["docker.io", "localhost.example", "128.0.0.1", "10.0.0.1:5000", "[fe80::1]"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    fn bases(registry: &str, insecure: &[&str], mirrors: &[&str]) -> Vec<String> {
        let config = RegistryConfig {
            insecure: insecure.iter().map(|s| (*s).to_owned()).collect(),
            mirrors: [(registry.to_owned(), mirrors.iter().map(|s| (*s).to_owned()).collect())].into(),
            ..RegistryConfig::default()
        };
        of(&config, registry).map_or_else(|e| vec![e.to_string()], |found| found.iter().map(Endpoint::base).collect())
    }

    #[test]
    fn mirrors_come_first_and_plain_http_is_for_loopback() {
        assert_eq!(bases("docker.io", &[], &[]), ["https://registry-1.docker.io"]);
        assert_eq!(bases("localhost:5000", &[], &[]), ["http://localhost:5000"]);
        assert_eq!(bases("r.lan", &["r.lan"], &[]), ["https://r.lan"]);
        assert_eq!(bases("q.io", &["m:1"], &["http://m:1/", "https://n"]), ["http://m:1", "https://n", "https://q.io"]);
        assert!(bases("q.io", &[], &["http://m"])[0].contains("plain HTTP is only for loopback"));
        assert!(bases("q.io", &[], &["https://u:p@m"])[0].contains("docker config file"));
    }

    #[test]
    fn addresses_of_plain_and_prefixed_endpoints() {
        let address = |base: &str| Endpoint::for_test(base, "h").address("a/b/manifests/1").unwrap().to_string();
        assert_eq!(address("https://r"), "https://r/v2/a/b/manifests/1");
        assert_eq!(address("https://r/x"), "https://r/x/v2/a/b/manifests/1");
        assert_eq!(address("https://r/v2/hub"), "https://r/v2/hub/a/b/manifests/1");
    }

    #[test]
    fn a_scheme_changes_once_and_only_when_allowed() {
        let local = Endpoint::for_test("http://127.0.0.1:5000", "127.0.0.1:5000");
        assert!(!local.step_up(StatusCode::BAD_REQUEST, b"bad name"));
        assert!(local.step_up(StatusCode::BAD_REQUEST, b"Client sent an HTTP request to an HTTPS server.\n"));
        assert_eq!(local.base(), "https://127.0.0.1:5000");
        let strict = Endpoint::for_test("https://r", "r");
        let tls = Error::Tls { registry: "r".into(), why: "x".into(), way_out: String::new() };
        assert!(!strict.fall_back(&tls), "HTTPS never becomes HTTP by itself");
    }
}
