//! What a failed TLS handshake means, and the file or setting that would mend it.

use crate::image::Error;
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use std::path::PathBuf;

/// The TLS error at the root of a failed request, if it is one.
pub fn fault(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        // An `io::Error` shows what it wraps by `get_ref`; its `source` is that of the wrapped error.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// The sentence for a fault; `host` is the name of its directory below `certs.d`. None for a fault that trying again
/// may mend: `first` says that no connection was made yet.
pub fn sentence(registry: String, host: &str, fault: &rustls::Error, first: bool, certs_dirs: &[PathBuf]) -> Option<Error> {
    let dir = certs_dirs.first().map_or_else(|| PathBuf::from("/etc/rcon/certs.d"), Clone::clone).join(host);
    let dir = dir.display();
    let (why, way_out) = match fault {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "its certificate is signed by an authority that this system does not know".to_owned(),
            format!("if the authority is yours, put its certificate into {dir}/ca.crt"),
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => (
            format!("its certificate is not for {host} ({fault})"),
            "use a name that the certificate is for, or have the registry's certificate made for this one".to_owned(),
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => (format!("its certificate is not valid now ({fault})"), "compare this machine's clock, or have the certificate renewed".to_owned()),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => (
            format!("it does not accept us without a client certificate that it knows ({fault})"),
            format!("put the client certificate and its key into {dir}/client.cert and {dir}/client.key"),
        ),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            "it does not speak TLS on this port".to_owned(),
            format!("if plain HTTP is meant, list {host} as an insecure registry (RCON_INSECURE_REGISTRIES={host})"),
        ),
        other if first => (other.to_string(), String::new()),
        _ => return None,
    };
    Some(Error::Tls { registry, why, way_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_names_its_way_out() {
        let dirs = [PathBuf::from("/etc/docker/certs.d")];
        for (fault, why, way_out) in [
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), "authority", "/etc/docker/certs.d/r:5/ca.crt"),
            (rustls::Error::InvalidCertificate(CertificateError::NotValidForName), "not for r:5", "name"),
            (rustls::Error::InvalidCertificate(CertificateError::Expired), "not valid now", "clock"),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), "client certificate", "certs.d/r:5/client.key"),
            (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS", "insecure"),
        ] {
            let Some(Error::Tls { why: said, way_out: advice, .. }) = sentence("r:5".into(), "r:5", &fault, false, &dirs) else { panic!("{fault}") };
            assert!(said.contains(why) && advice.contains(way_out), "{said} / {advice}");
        }
        assert!(sentence("r".into(), "r", &rustls::Error::DecryptError, false, &dirs).is_none(), "a damaged stream is tried again");
    }
}
