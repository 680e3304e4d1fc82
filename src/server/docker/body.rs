//! The body of a request, read by a blocking handler.

use super::reply::Refusal;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Documents of clients are small; a larger one is no document.
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Pieces that wait for a handler that is busy; then the client waits.
const WAITING: usize = 16;

/// Reads what the client sends, as it comes.
pub struct BodyReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl BodyReader {
    /// Called on the reactor.
    pub fn new(mut incoming: Incoming) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while let Some(frame) = incoming.frame().await {
                let piece = match frame {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => Ok(data),
                        Err(_) => continue,
                    },
                    Err(error) => Err(io::Error::other(error)),
                };
                if sender.send(piece).await.is_err() {
                    // The handler wants no more; the rest is read, so that the client gets to the answer.
                    while incoming.frame().await.is_some_and(|frame| frame.is_ok()) {}
                    return;
                }
            }
        });
        BodyReader { receiver, piece: Bytes::new() }
    }

    /// The whole body as a document; an empty one is the default.
    ///
    /// # Errors
    /// It is too large, or not what is expected.
    pub fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, Refusal> {
        let mut text = Vec::new();
        self.by_ref().take(DOCUMENT_LIMIT + 1).read_to_end(&mut text)?;
        if text.len() as u64 > DOCUMENT_LIMIT {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request's document is larger than {DOCUMENT_LIMIT} bytes")));
        }
        document(&text)
    }
}

/// Nothing and `null` (which a `docker commit` of 20.10 sends) are the default.
fn document<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, Refusal> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let read: Option<T> = serde_json::from_slice(text).map_err(|error| Refusal::invalid(format!("invalid JSON: {error}")))?;
    Ok(read.unwrap_or_default())
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let read = |text: &str| document::<std::collections::BTreeMap<String, u8>>(text.as_bytes()).map(|map| map.len());
        assert_eq!((read("").unwrap(), read("null\n").unwrap(), read(r#"{"a":1}"#).unwrap()), (0, 0, 1));
        assert!(read("{").unwrap_err().message.starts_with("invalid JSON"));
    }
}
