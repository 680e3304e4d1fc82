//! Where requests go: the registry of a name and its mirrors, and over which transport.

use super::{CONNECT, STALL};
use crate::image::{Error, RegistryConfig};
use reqwest::redirect::Policy;
use std::time::Duration;

/// Most redirects of one request.
const REDIRECTS: usize = 10;
/// What answers for the default registry's name.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// A base address that serves `/v2/`.
pub struct Endpoint {
    /// `https://host:port[/prefix]`, no slash at the end.
    pub base: String,
    /// Name for messages and credentials: the registry's name, or the mirror's host.
    pub host: String,
    /// Plain HTTP.
    pub plain: bool,
    pub client: reqwest::Client,
}

/// The mirrors of a registry in order, then the registry.
///
/// # Errors
/// A mirror's address is not valid, or TLS cannot be set up.
pub fn of(config: &RegistryConfig, registry: &str) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = Vec::new();
    for mirror in config.mirrors.get(registry).into_iter().flatten() {
        endpoints.push(mirror_endpoint(config, mirror)?);
    }
    endpoints.push(own_endpoint(config, registry, Some(STALL))?);
    Ok(endpoints)
}

/// The registry itself, for what is written to it: no mirror, and no limit on the time until an answer comes, since
/// that includes the sending of a body of any size. The sender watches its progress.
///
/// # Errors
/// TLS cannot be set up.
pub fn for_upload(config: &RegistryConfig, registry: &str) -> Result<Endpoint, Error> {
    own_endpoint(config, registry, None)
}

fn own_endpoint(config: &RegistryConfig, registry: &str, stall: Option<Duration>) -> Result<Endpoint, Error> {
    let plain = is_loopback(registry) || config.insecure.iter().any(|listed| listed == registry);
    let host = if registry == "docker.io" { DEFAULT_REGISTRY_HOST } else { registry };
    let scheme = if plain { "http" } else { "https" };
    Ok(Endpoint { base: format!("{scheme}://{host}"), host: registry.to_owned(), plain, client: client(plain, is_loopback(registry), stall)? })
}

fn mirror_endpoint(config: &RegistryConfig, mirror: &str) -> Result<Endpoint, Error> {
    let refused = |why: &str| Error::Unsupported { reference: format!("mirror \"{}\"", mirror.escape_default()), why: why.to_owned() };
    let url = reqwest::Url::parse(mirror).map_err(|e| refused(&e.to_string()))?;
    let name = url.host_str().ok_or_else(|| refused("it has no host"))?;
    let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let loopback = is_loopback(&host);
    let plain = match url.scheme() {
        "https" => false,
        "http" if loopback || config.insecure.contains(&host) => true,
        "http" => return Err(refused("plain HTTP is only for loopback addresses and registries listed as insecure")),
        _ => return Err(refused("its scheme is not https")),
    };
    Ok(Endpoint { base: mirror.trim_end_matches('/').to_owned(), host, plain, client: client(plain, loopback, Some(STALL))? })
}

fn client(plain: bool, loopback: bool, stall: Option<Duration>) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("rcon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        // Authorization is dropped by the client when a redirect leaves host or port.
        .redirect(Policy::limited(REDIRECTS))
        .referer(false);
    if let Some(stall) = stall {
        builder = builder.read_timeout(stall);
    }
    if plain {
        // No certificate is ever looked at, so the system's need not be read.
        builder = builder.tls_certs_only(std::iter::empty());
    } else {
        builder = builder.https_only(true);
    }
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
    use super::is_loopback;

    #[test]
    fn loopback_by_name_and_address() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["docker.io", "localhost.example", "128.0.0.1", "10.0.0.1:5000", "[fe80::1]"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
