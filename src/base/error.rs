//! The closed set of error kinds. Each front door maps a kind once: exit code, HTTP status, gRPC code.

/// What went wrong, as far as a caller must tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is malformed or contradicts itself; repeating it cannot help.
    Invalid,
    /// The named object does not exist.
    NotFound,
    /// The object exists but its state or another holder forbids the operation.
    Conflict,
    /// Credentials are missing or were refused.
    Unauthorized,
    /// The kernel or a policy forbids it.
    Forbidden,
    /// A feature this kernel or build lacks, or that rcon refuses by name.
    Unsupported,
    /// A peer (registry, monitor) cannot be reached or answered wrongly; a retry may help.
    Unavailable,
    /// The container's command was not found (exit code 127).
    CommandNotFound,
    /// The container's command was found but cannot be executed (exit code 126).
    CommandNotExecutable,
    /// Something else failed in the host: I/O, memory, a bug.
    Internal,
}
