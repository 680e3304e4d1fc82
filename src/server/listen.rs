//! The sockets of `rcon serve`: where they are, who may connect, and how the server ends.

use super::docker::Api;
use crate::base::fs::{Context, FsError};
use crate::engine::Engine;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::Mode;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Each attached client, waiting client and follower of a log holds one.
const BLOCKING_THREADS: usize = 4096;
/// Engine calls block in threads of their own; these only move bytes.
const REACTOR_THREADS: usize = 2;
/// How long a client may take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long requests that are under way may take to end once the server is told to.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What a server listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// The sockets that systemd hands over (sd_listen_fds(3)).
    Activation,
}

/// Why the server cannot begin, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("\"{path}\" is served by another process already")]
    Served { path: String },
    #[error("\"{path}\" exists and is not a socket")]
    NotASocket { path: String },
    #[error("no socket was handed over by systemd")]
    NoActivation,
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("cannot run the server")]
    Reactor(#[from] std::io::Error),
}

/// A listening socket; its file goes with it.
struct Listening {
    listener: UnixListener,
    /// None: it is not ours to remove.
    path: Option<PathBuf>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Somebody may have removed it: then that is done.
            drop(std::fs::remove_file(path));
        }
    }
}

/// Serves until SIGTERM or SIGINT. `group` may connect besides root. `ready` is called once clients can connect.
///
/// # Errors
/// A socket cannot be made, or is another server's.
pub fn serve(engine: Engine, info: super::Info, addresses: &[Address], group: Option<u32>, ready: &mut dyn FnMut()) -> Result<(), Error> {
    let listening = addresses.iter().map(|address| listen(address, group)).collect::<Result<Vec<_>, _>>()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(REACTOR_THREADS).max_blocking_threads(BLOCKING_THREADS).enable_all().build()?;
    let api = Arc::new(Api::new(engine, info));
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        for one in &listening {
            let listener = tokio::net::UnixListener::from_std(one.listener.try_clone()?)?;
            tokio::spawn(accept(listener, Arc::clone(&api)));
        }
        ready();
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        api.end();
        Ok::<_, std::io::Error>(())
    })?;
    runtime.shutdown_timeout(END_PATIENCE);
    Ok(())
}

fn listen(address: &Address, group: Option<u32>) -> Result<Listening, Error> {
    let path = match address {
        Address::Unix(path) => path,
        Address::Activation => {
            let listener = crate::sys::activation::socket().ok_or(Error::NoActivation)?;
            listener.set_nonblocking(true)?;
            return Ok(Listening { listener, path: None });
        }
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).on("create", parent)?;
    }
    clear(path)?;
    // Nobody else may connect, not even between bind and chmod.
    let listener = {
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        bound.on("listen on", path)?
    };
    let listening = Listening { listener, path: Some(path.clone()) };
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group)).on("give to its group", path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).on("open to its group", path)?;
    }
    listening.listener.set_nonblocking(true)?;
    Ok(listening)
}

/// Removes a socket that nobody serves any more.
fn clear(path: &Path) -> Result<(), Error> {
    let shown = || path.display().to_string();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Err::<(), _>(error).on("stat", path).expect_err("invariant: made from an error").into()),
        Ok(meta) if !meta.file_type().is_socket() => Err(Error::NotASocket { path: shown() }),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(Error::Served { path: shown() }),
            Err(_) => Ok(std::fs::remove_file(path).on("remove", path)?),
        },
    }
}

async fn accept(listener: tokio::net::UnixListener, api: Arc<Api>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptor is left: some request will end.
                tracing::warn!("cannot accept a client: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let api = Arc::clone(&api);
                async move { Ok::<_, std::convert::Infallible>(super::docker::handle(api, request).await) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
}
