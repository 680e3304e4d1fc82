//! Orders to hidden stages: a length, with it the descriptors, and a document; and what a stage answers that could not do its part.

use super::super::{Error, Result};
use crate::base::ErrorKind;
use crate::runtime;
use crate::sys::rights;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg, send, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes of a document: a command line and an environment are limited to about 6 MiB (execve(2)).
const LIMIT: u64 = 16 << 20;
/// Standard streams, a lock and a network namespace.
const DESCRIPTORS: usize = 5;

/// Sends a document and descriptors over a stream socket.
///
/// # Errors
/// Whoever reads is gone.
pub(super) fn hand_over(socket: &OwnedFd, document: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let json = serde_json::to_vec(document)?;
    if rights::send(socket, &(json.len() as u64).to_le_bytes(), descriptors)? != size_of::<u64>() {
        return Err(io::Error::other("the socket took a part of a number"));
    }
    send_all(socket, &json)
}

/// # Errors
/// Whoever reads is gone.
pub(super) fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| send(socket, bytes, SendFlags::NOSIGNAL))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Receives what [`hand_over`] has sent.
///
/// # Errors
/// Whoever sends is gone, or sends something else.
pub(super) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0u8; size_of::<u64>()];
    let mut descriptors = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let length = u64::from_le_bytes(length);
    if got.bytes != size_of::<u64>() || length > LIMIT {
        return Err(io::Error::other("what was handed over has no length"));
    }
    let mut json = vec![0u8; usize::try_from(length).map_err(io::Error::other)?];
    std::fs::File::from(socket.try_clone()?).read_exact(&mut json)?;
    Ok((serde_json::from_slice(&json)?, descriptors))
}

/// Why a stage could not do its part.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refused {
    kind: Kind,
    message: String,
}

/// The kinds that a caller tells apart.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Kind {
    NotFound,
    NotExecutable,
    Invalid,
    Unsupported,
    Other,
}

impl Refused {
    pub(super) fn other(message: impl ToString) -> Self {
        Refused { kind: Kind::Other, message: message.to_string() }
    }

    pub(super) fn into_error(self, operation: &str) -> Error {
        let kind = match self.kind {
            Kind::NotFound => ErrorKind::CommandNotFound,
            Kind::NotExecutable => ErrorKind::CommandNotExecutable,
            Kind::Invalid => ErrorKind::Invalid,
            Kind::Unsupported => ErrorKind::Unsupported,
            Kind::Other => ErrorKind::Internal,
        };
        Error::Failed { operation: operation.to_owned(), kind, source: self.message.into() }
    }
}

impl From<&runtime::Error> for Refused {
    fn from(error: &runtime::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::CommandNotFound => Kind::NotFound,
            ErrorKind::CommandNotExecutable => Kind::NotExecutable,
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::Unsupported => Kind::Unsupported,
            _ => Kind::Other,
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Refused { kind, message }
    }
}

/// Starts a hidden stage by its name; our end of its socket.
///
/// # Errors
/// It cannot be started.
pub(super) fn start(name: &str) -> Result<OwnedFd> {
    let failed = |operation: &str, source: Box<dyn std::error::Error + Send + Sync>| Error::Failed {
        operation: operation.to_owned(),
        kind: ErrorKind::Internal,
        source,
    };
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|error| failed("make a socket", error.into()))?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(|error| failed("open /dev/null", error.into()))?;
    let name = std::ffi::CString::new(name).expect("invariant: the name of a stage has no NUL");
    let executable = runtime::protected_exe()?;
    crate::sys::spawn::detached(executable.as_fd(), &[&name], &[], null.as_fd(), theirs.as_fd())
        .map_err(|error| failed("start a process", error.into()))?;
    Ok(ours)
}
