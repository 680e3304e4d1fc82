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
        let read = self.by_ref().take(DOCUMENT_LIMIT + 1).read_to_end(&mut text);
        read.map_err(|error| Refusal::invalid(format!("the request's document ends early: {error}")))?;
        if text.len() as u64 > DOCUMENT_LIMIT {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request's document is larger than {DOCUMENT_LIMIT} bytes")));
        }
        document(text.trim_ascii())
    }
}

fn document<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, Refusal> {
    match text.first() {
        None => return Ok(T::default()),
        // What clients send that have nothing to say.
        Some(_) if text == b"null" => return Ok(T::default()),
        Some(b'{') => {}
        // serde would take a list for the fields in their order.
        Some(_) => return Err(Refusal::invalid("invalid JSON: the request's document is no object")),
    }
    if has_nul(text) {
        return Err(Refusal::invalid("the request's document has a NUL character, which no name, path or word can have"));
    }
    serde_json::from_slice(text).map_err(|error| Refusal::invalid(format!("invalid JSON: {error}")))
}

/// Whether a string of a document has a NUL character, which must be written `\u0000` there (RFC 8259, section 7).
fn has_nul(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(|byte| *byte == b'\\') {
        let escape = &text[at + found + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        at += found + 1 + usize::from(!escape.is_empty());
    }
    false
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
    use super::super::wire::{ExecBody, NetworkBody};
    use super::*;

    #[test]
    fn documents() {
        for nothing in ["", "null"] {
            assert_eq!(document::<NetworkBody>(nothing.as_bytes()).unwrap().name, "");
        }
        assert_eq!(document::<NetworkBody>(br#"{"Name":"a\\u0000"}"#).unwrap().name, "a\\u0000", "a backslash, and no NUL behind it");
        for bad in
            ["[]", r#"["a"]"#, "1", "{", r#"{"Name":5}"#, r#"{"Name":"a\u0000"}"#, r#"{"Name":"\\\u0000"}"#, &"{\"a\":".repeat(100_000), "\u{feff}{}"]
        {
            let refusal = document::<NetworkBody>(bad.as_bytes()).map(drop).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{}", refusal.message);
        }
        assert!(document::<ExecBody>(b"{\"Cmd\":[\"\xff\"]}").is_err());
    }
}
