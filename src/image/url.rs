//! A file of the web as a stream (`import URL`).

use super::Error;
use ::bytes::Bytes;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Time to open a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest silence of the server.
const STALL: Duration = Duration::from_secs(60);
/// Pieces waiting for a slow reader.
const QUEUE: usize = 32;

/// The body of an answer, received by a thread of its own.
pub struct Download {
    pieces: Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Asks for a URL and returns its body once the server has answered with success.
///
/// # Errors
/// The server cannot be reached or refuses.
pub fn open(url: &str) -> Result<Download, Error> {
    // A second call only says that it is set already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let (to, mut pieces) = channel(QUEUE);
    let shown = url.to_owned();
    let client = reqwest::Client::builder().user_agent(concat!("rcon/", env!("CARGO_PKG_VERSION"))).connect_timeout(CONNECT).read_timeout(STALL);
    let client = client.build().map_err(|e| Error::Start { what: "the HTTP client", source: Box::new(e) })?;
    let address = url.to_owned();
    let thread = std::thread::Builder::new().name("download".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(fetch(client, address, to)),
            // The reader that went away needs no answer.
            Err(e) => drop(to.blocking_send(Err(e))),
        }
    });
    thread.map_err(|e| Error::Start { what: "the download", source: Box::new(e) })?;
    // The first piece is empty: the answer was a success.
    let refused = |source: io::Error| Error::Download { url: shown.clone(), source };
    match pieces.blocking_recv() {
        Some(Ok(current)) => Ok(Download { pieces, current }),
        Some(Err(e)) => Err(refused(e)),
        None => Err(refused(io::ErrorKind::UnexpectedEof.into())),
    }
}

async fn fetch(client: reqwest::Client, url: String, to: Sender<io::Result<Bytes>>) {
    let failed = |e: reqwest::Error| io::Error::other(e.without_url());
    let mut response = match client.get(&url).send().await.and_then(reqwest::Response::error_for_status) {
        Ok(response) => response,
        Err(e) => return drop(to.send(Err(failed(e))).await),
    };
    let mut next = Ok(Some(Bytes::new()));
    loop {
        let piece = match next {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => return,
            Err(e) => Err(failed(e)),
        };
        let last = piece.is_err();
        if to.send(piece).await.is_err() || last {
            return;
        }
        next = response.chunk().await;
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
