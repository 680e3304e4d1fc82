//! Blob transfers that survive broken connections.

use super::{Ask, Endpoint, Registry, TRIES, announce, body, pause};
use crate::image::{Error, Progress};
use crate::oci::Descriptor;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc::Sender;

/// Bytes that must arrive for the count of tries to start again.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 256 << 10;

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    Complete,
    /// The receiver hung up: it failed and knows why.
    Abandoned,
}

impl Registry {
    /// Reads a small blob (the config) whole and verifies it.
    ///
    /// # Errors
    /// No endpoint has it, wrong digest or size.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: usize, what: &str) -> Result<Vec<u8>, Error> {
        if descriptor.size > limit as u64 {
            return Err(Error::TooLarge { what: what.to_owned(), limit: limit as u64 });
        }
        let mut attempt = 0;
        loop {
            let endpoint = &self.endpoints[attempt as usize % self.endpoints.len()];
            attempt += 1;
            let outcome = async {
                let response = self.open(endpoint, descriptor, 0).await?;
                let bytes = body(response, limit, &|| what.to_owned()).await.map_err(|e| self.broken(endpoint, "read a blob", e))?;
                if bytes.len() as u64 != descriptor.size {
                    return Err(Error::Size { what: what.to_owned(), expected: descriptor.size, actual: bytes.len() as u64 });
                }
                if !descriptor.digest.matches(&bytes) {
                    let actual = crate::oci::Digest::of(&bytes);
                    return Err(Error::Digest { what: what.to_owned(), expected: descriptor.digest.clone(), actual });
                }
                Ok(bytes)
            };
            let another = (attempt as usize) < self.endpoints.len();
            match outcome.await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if another => tracing::debug!("{}: {error}", endpoint.host),
                Err(error) if error.is_transient() && attempt < TRIES => tokio::time::sleep(pause(attempt, self.authority.asked_pause())).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Streams a blob from byte `from` on; a broken connection is taken up where it broke.
    ///
    /// # Errors
    /// What remains after all tries.
    pub async fn blob(
        &self,
        descriptor: &Descriptor,
        mut from: u64,
        to: &Sender<Bytes>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Fetched, Error> {
        let layer = descriptor.digest.short();
        let mut attempt = 0;
        let mut which = 0;
        loop {
            let endpoint = &self.endpoints[which];
            let before = from;
            let error = match self.stream(endpoint, descriptor, &mut from, to, progress).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            if which + 1 < self.endpoints.len() {
                tracing::debug!("{}: {error}", endpoint.host);
                which += 1;
                continue;
            }
            attempt = if from - before >= PROGRESS_BYTES { 1 } else { attempt + 1 };
            if !error.is_transient() || attempt >= TRIES {
                return Err(error);
            }
            let pause = pause(attempt, self.authority.asked_pause());
            announce(progress, layer, pause, &error);
            tokio::time::sleep(pause).await;
        }
    }

    async fn stream(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        from: &mut u64,
        to: &Sender<Bytes>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Fetched, Error> {
        let mut response = self.open(endpoint, descriptor, *from).await?;
        // A server that ignores the range sends everything again.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { *from };
        if response.status() == StatusCode::PARTIAL_CONTENT && range_start(&response).is_some_and(|start| start != *from) {
            return Err(self.cut_off(descriptor));
        }
        let mut reported = *from;
        let id = descriptor.digest.short().to_owned();
        loop {
            let chunk = response.chunk().await.map_err(|e| self.unreachable(endpoint, "read a blob", e))?;
            let Some(mut chunk) = chunk else { break };
            let drop_now = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            skip -= drop_now as u64;
            let chunk = chunk.split_off(drop_now);
            if chunk.is_empty() {
                continue;
            }
            *from += chunk.len() as u64;
            if to.send(chunk).await.is_err() {
                return Ok(Fetched::Abandoned);
            }
            if *from - reported >= REPORT_BYTES || *from >= descriptor.size {
                reported = *from;
                progress(Progress::Downloading { id: id.clone(), done: *from });
            }
            if *from > descriptor.size {
                // The receiver counts too and refuses it.
                return Ok(Fetched::Complete);
            }
        }
        if *from < descriptor.size { Err(self.cut_off(descriptor)) } else { Ok(Fetched::Complete) }
    }

    fn cut_off(&self, descriptor: &Descriptor) -> Error {
        Error::CutOff(descriptor.digest.short().to_owned())
    }

    async fn open(&self, endpoint: &Endpoint, descriptor: &Descriptor, from: u64) -> Result<Response, Error> {
        let path = format!("blobs/{}", descriptor.digest);
        self.send(endpoint, &Ask { method: Method::GET, path: &path, accept: None, from, operation: "read a blob" }).await
    }
}

/// First byte of a partial answer.
fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
