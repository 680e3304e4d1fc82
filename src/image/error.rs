//! Why an image could not be pulled, loaded or saved.

use super::layer::UnpackError;
use super::trust::Refusal;
use crate::base::fs::FsError;
use crate::base::settings::SettingsError;
use crate::base::{ByteSize, ErrorKind};
use crate::oci::{Digest, ManifestError};
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user ended it, or what it was for.
    #[error("it was cancelled")]
    Cancelled,
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    State(#[from] crate::state::Error),
    #[error("pull access denied for {name}: the repository does not exist or needs a login")]
    Denied { name: String },
    #[error("push access denied for {name}: the repository needs a login that may write to it")]
    PushDenied { name: String },
    #[error("registry {registry} refused the credentials for {name}")]
    Credentials { registry: String, name: String },
    #[error("no image {reference} in the registry")]
    NotFound { reference: String },
    #[error("registry {registry} limits the rate of requests: too many were made{}", again(*after))]
    RateLimited {
        registry: String,
        /// Seconds after which it may be tried again, if the registry said so.
        after: Option<u64>,
    },
    #[error("cannot make a secure connection to registry {registry}: {why}")]
    Tls {
        registry: String,
        why: String,
        /// What would mend it; may be empty.
        way_out: String,
    },
    #[error("cannot use the certificates in {}: {why}", path.display())]
    Certificate { path: std::path::PathBuf, why: String },
    #[error("registry {registry} redirects in a way that is refused: {why}")]
    Redirect { registry: String, why: String },
    #[error("registry {registry} stopped sending layer {layer}")]
    Stalled { registry: String, layer: String },
    #[error("cannot reach registry {registry} to {operation}")]
    Unreachable {
        registry: String,
        operation: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("registry {registry} answered {status} when asked to {operation}{}", detail(message))]
    Answer { registry: String, operation: String, status: u16, message: String },
    #[error("registry {registry} gave an answer of no use when asked to {operation}: {why}")]
    Protocol { registry: String, operation: String, why: String },
    #[error("cannot read layer {layer} to push it")]
    PushRead {
        layer: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot compress layer {layer} to push it")]
    PushWrite {
        layer: String,
        #[source]
        source: io::Error,
    },
    #[error("{message}")]
    List { message: String, missing: bool },
    #[error("registry {registry} asks for authentication in a way that is refused: {why}")]
    Challenge { registry: String, why: String },
    #[error("registry {registry} refused the login of user \"{user}\": wrong user name, password or access token")]
    Login { registry: String, user: String },
    #[error("cannot get a token for registry {registry} from AWS: {why}")]
    Aws { registry: String, why: String },
    #[error("cannot use the credential helper docker-credential-{helper} for {registry}: {why}")]
    Helper { helper: String, registry: String, why: String },
    #[error("the docker config file is not valid JSON")]
    DockerConfig(#[source] serde_json::Error),
    #[error("{what} has the wrong digest: expected {expected}, got {actual}")]
    Digest { what: String, expected: Digest, actual: Digest },
    #[error("{what} has {actual} bytes where {expected} were announced")]
    Size { what: String, expected: u64, actual: u64 },
    #[error("{what} has more bytes than the limit of {limit}")]
    TooLarge { what: String, limit: u64 },
    #[error("cannot use the manifest of {reference}")]
    Manifest {
        reference: String,
        #[source]
        source: ManifestError,
    },
    #[error("cannot use the config of {reference}: {why}")]
    Config { reference: String, why: String },
    #[error("no image of {reference} for platform {wanted}; there is {offered}")]
    Platform { reference: String, wanted: String, offered: String },
    #[error("{reference}: {why}")]
    Unsupported { reference: String, why: String },
    #[error("cannot unpack layer {layer}")]
    Layer {
        layer: String,
        #[source]
        source: UnpackError,
    },
    /// Of a step of a build.
    #[error("what the step has written cannot be a layer")]
    Seal(#[source] UnpackError),
    #[error("cannot decompress layer {layer}")]
    Decompress {
        layer: String,
        #[source]
        source: io::Error,
    },
    #[error("layer {layer} expands to more than {limit} bytes ({key} in [image.limits] of the settings)")]
    Expansion { layer: String, limit: u64, key: &'static str },
    /// More than the settings allow.
    #[error("{subject} has {actual} {what}, more than the limit of {limit} (image.limits.{key} in the settings)")]
    Limit { subject: String, what: &'static str, actual: u64, limit: u64, key: &'static str },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The trust policy does not let the image in.
    #[error(transparent)]
    Refused(Box<Refusal>),
    #[error("cannot read the image archive")]
    ArchiveRead(#[source] UnpackError),
    #[error("the image archive is not valid: {0}")]
    Archive(String),
    #[error("cannot write the image archive")]
    ArchiveWrite(#[source] io::Error),
    #[error("image {image} cannot be saved: the blob of layer {layer} was not kept")]
    BlobMissing { image: String, layer: String },
    /// What the store holds of a layer is not what was verified when it came.
    #[error("layer {layer} of image {image} is damaged: {why}")]
    Damaged { image: String, layer: String, why: String },
    /// `needed` and `free` in bytes; `needed` is the least that the manifest lets expect, if there is one.
    #[error("not enough space for {what}: {} has {} free{}", path.display(), ByteSize(*free).decimal(), at_least(*needed))]
    DiskFull {
        what: String,
        path: PathBuf,
        needed: Option<u64>,
        free: u64,
        #[source]
        source: Option<Box<Error>>,
    },
    #[error("cannot read {url}")]
    Download {
        url: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot start {what}")]
    Start {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer that was there is gone: another process removed its last image meanwhile.
    #[error("layer {0} was removed while the image was fetched")]
    Vanished(String),
    #[error("the blob stream of layer {0} ended early")]
    CutOff(String),
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn again(after: Option<u64>) -> String {
    after.map_or_else(String::new, |seconds| format!("; it may be tried again in {seconds} seconds"))
}

fn at_least(needed: Option<u64>) -> String {
    needed.map_or_else(String::new, |bytes| format!(", at least {} are needed", ByteSize(bytes).decimal()))
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Denied { .. } | Error::PushDenied { .. } | Error::Credentials { .. } => ErrorKind::Unauthorized,
            Error::Helper { .. } | Error::Login { .. } | Error::Aws { .. } => ErrorKind::Unauthorized,
            Error::Challenge { .. } | Error::Redirect { .. } => ErrorKind::Forbidden,
            Error::Tls { .. } | Error::Stalled { .. } | Error::Cancelled => ErrorKind::Unavailable,
            Error::Certificate { .. } => ErrorKind::Invalid,
            Error::NotFound { .. } | Error::Platform { .. } => ErrorKind::NotFound,
            Error::RateLimited { .. } | Error::Unreachable { .. } | Error::Download { .. } | Error::CutOff(_) | Error::Vanished(_) => {
                ErrorKind::Unavailable
            }
            Error::Answer { status: 403, .. } => ErrorKind::Forbidden,
            Error::Answer { .. } => ErrorKind::Unavailable,
            Error::Unsupported { .. } | Error::Manifest { source: ManifestError::Schema1 | ManifestError::Unsupported(_), .. } => {
                ErrorKind::Unsupported
            }
            Error::Digest { .. } | Error::Size { .. } | Error::TooLarge { .. } | Error::Manifest { .. } | Error::Config { .. } => ErrorKind::Invalid,
            Error::Limit { .. } | Error::Settings(_) => ErrorKind::Invalid,
            Error::Refused(_) => ErrorKind::Forbidden,
            Error::Decompress { .. } | Error::Expansion { .. } | Error::Archive(_) | Error::DockerConfig(_) => ErrorKind::Invalid,
            Error::Layer { source, .. } | Error::ArchiveRead(source) | Error::Seal(source) => match source {
                UnpackError::File { .. } | UnpackError::Read(_) => ErrorKind::Internal,
                _ => ErrorKind::Invalid,
            },
            Error::BlobMissing { .. } => ErrorKind::Conflict,
            Error::Protocol { .. } => ErrorKind::Unavailable,
            Error::PushRead { .. } | Error::PushWrite { .. } => ErrorKind::Internal,
            Error::List { missing: true, .. } => ErrorKind::NotFound,
            Error::List { .. } => ErrorKind::Invalid,
            Error::Damaged { .. } | Error::DiskFull { .. } => ErrorKind::Internal,
            Error::State(error) => error.kind(),
            Error::Fs(_) | Error::ArchiveWrite(_) | Error::Start { .. } => ErrorKind::Internal,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Denied { .. } => Some("check the spelling, or log in with `rcon login`"),
            Error::PushDenied { .. } => Some("check the spelling of the repository, or log in with `rcon login` as somebody who may write to it"),
            Error::Credentials { .. } => Some("log in anew with `rcon login`, or ask for the right to use the repository"),
            Error::RateLimited { .. } => Some("log in to raise the limit, or wait"),
            Error::Refused(refusal) => Some(refusal.hint()),
            Error::Platform { .. } => Some("choose another platform with --platform"),
            Error::DiskFull { .. } => Some("free space with rcon system prune (rcon system df shows what takes it), or choose another --root"),
            Error::Damaged { .. } | Error::BlobMissing { .. } => {
                Some("rcon system check --repair removes what is damaged; then pull or load the image again")
            }
            _ => None,
        }
    }

    /// [`Error::hint`], or an action that names the host or file at hand.
    pub fn advice(&self) -> Option<String> {
        match self {
            Error::Tls { way_out, .. } => Some(way_out.clone()).filter(|text| !text.is_empty()),
            Error::Denied { name } if super::registry::wants_aws_keys(name) => {
                Some("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role".to_owned())
            }
            other => other.hint().map(str::to_owned),
        }
    }

    /// Trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::CutOff(_) | Error::Stalled { .. } => true,
            Error::RateLimited { after, .. } => after.is_none_or(|seconds| seconds <= super::registry::LONGEST_RETRY_AFTER),
            // Two of the 5xx are about what was asked for, not about now.
            Error::Answer { status, .. } => matches!(status, 408 | 425 | 500..=599) && !matches!(status, 501 | 505),
            _ => false,
        }
    }
}
