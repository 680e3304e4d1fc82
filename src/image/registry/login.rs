//! `login` and `logout`: credentials are verified at the registry before they are kept.

use super::auth::Authority;
use super::credentials::{Credentials, Kept, Stores, host_of};
use super::{ERROR_BODY, Endpoint, STALL, body, endpoint, error_message};
use crate::image::{Error, RegistryConfig};
use oci_distribution::secrets::RegistryAuth;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};

/// Rounds of authentication: the challenge, its answer, and one after a change of scheme.
const ROUNDS: u32 = 4;
const OPERATION: &str = "log in";

/// The registry that a server argument means: `https://index.docker.io/v1/` and no text at all are Docker Hub.
fn registry_of(server: &str) -> &str {
    match host_of(server) {
        "" | "index.docker.io" => "docker.io",
        host => host,
    }
}

/// # Errors
/// The registry refuses the credentials or cannot be reached; they cannot be kept.
pub fn login(config: &RegistryConfig, server: &str, user: &str, password: &str) -> Result<Kept, Error> {
    let registry = registry_of(server);
    // Nothing is asked of the registry that could not be kept afterwards.
    let stores = Stores::new(config);
    let refresh = sign_in(config, registry, user, password)?;
    stores.keep(registry, user, password, refresh.as_deref())
}

/// Asks a registry whether it takes these credentials, and keeps nothing.
///
/// # Errors
/// The registry refuses the credentials or cannot be reached.
pub fn verify_login(config: &RegistryConfig, server: &str, user: &str, password: &str) -> Result<(), Error> {
    sign_in(config, registry_of(server), user, password).map(drop)
}

/// The token that stands for the credentials from now on, if the registry gave one.
fn sign_in(config: &RegistryConfig, registry: &str, user: &str, password: &str) -> Result<Option<String>, Error> {
    // The second caller in one process finds it installed, which is what we want.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::Start { what: "the network reactor", source: Box::new(e) })?;
    let endpoint = endpoint::own(config, registry, Some(STALL))?;
    let authority = Authority::signing_in(config, &endpoint, Credentials::basic(user, password))?;
    runtime.block_on(verify(&authority, &endpoint, user))?;
    Ok(authority.refresh_token())
}

/// Asks the registry's root with the credentials (distribution-spec, "Determining support").
async fn verify(authority: &Authority, endpoint: &Endpoint, user: &str) -> Result<(), Error> {
    let refused = |error: Error| match error {
        Error::Denied { .. } | Error::Credentials { .. } => Error::Login { registry: endpoint.host.clone(), user: user.to_owned() },
        other => other,
    };
    for round in 1..=ROUNDS {
        let known = authority.known(endpoint, "");
        let sent = endpoint.follow(Method::GET, endpoint.address("")?, known.as_ref(), OPERATION, &|request| request).await;
        let response = match sent {
            Err(error) if endpoint.fall_back(&error) => continue,
            other => other?,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status == StatusCode::UNAUTHORIZED && endpoint.owns(response.url()) {
            authority.respond(endpoint, "", &endpoint.host, response.headers(), known.as_ref(), round).await.map_err(refused)?;
            continue;
        }
        let registry = endpoint.name_of(response.url());
        let after = authority.note_pause(response.headers().get(RETRY_AFTER));
        let text = body(response, ERROR_BODY, &|| "the error".to_owned()).await.unwrap_or_default();
        if endpoint.step_up(status, &text) {
            continue;
        }
        return Err(match status {
            StatusCode::FORBIDDEN => refused(authority.denied(endpoint, registry)),
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { registry, after },
            _ => Error::Answer { registry, operation: OPERATION.to_owned(), status: status.as_u16(), message: error_message(&text) },
        });
    }
    Err(refused(authority.denied(endpoint, endpoint.host.clone())))
}

/// # Errors
/// A credential helper failed.
pub fn stored(config: &RegistryConfig, server: &str) -> Result<Option<(String, String)>, Error> {
    Ok(match Stores::new(config).find(registry_of(server))? {
        Credentials::Plain(RegistryAuth::Basic(user, password)) => Some((user, password)),
        _ => None,
    })
}

/// # Errors
/// The docker config or a credential helper cannot be changed.
pub fn logout(config: &RegistryConfig, server: &str) -> Result<bool, Error> {
    Stores::new(config).forget(registry_of(server))
}

#[cfg(test)]
mod tests {
    use super::registry_of;

    #[test]
    fn servers_mean_registries() {
        for (server, registry) in [
            ("", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("quay.io", "quay.io"),
            ("https://r.example:5000/v2/", "r.example:5000"),
            ("r.example/team", "r.example"),
        ] {
            assert_eq!(registry_of(server), registry, "{server}");
        }
    }
}
