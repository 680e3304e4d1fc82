//! Blob transfers that survive broken connections.

use super::{Ask, Endpoint, Registry, TRIES, announce, body, broken, pause};
use crate::image::{Error, Progress};
use crate::oci::Descriptor;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// Bytes that must arrive for the count of tries to start again.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 256 << 10;

/// Longest silence in the middle of a transfer before the connection is given up and the transfer resumed.
const QUIET: Duration = Duration::from_secs(20);
/// Time over which a transfer must move at least [`LEAST`] bytes; only waiting for the peer counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewer bytes in a [`WINDOW`] are a stalled transfer in disguise.
const LEAST: u64 = 16 << 10;
const READ: &str = "read a blob";

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
        let mut last = None;
        for endpoint in self.asked() {
            let outcome = self.retried(endpoint, async || {
                let response = self.open(endpoint, descriptor, 0).await?;
                let url = response.url().clone();
                let bytes = body(response, limit, &|| what.to_owned()).await.map_err(|e| broken(endpoint, &url, READ, e))?;
                if bytes.len() as u64 != descriptor.size {
                    return Err(Error::Size { what: what.to_owned(), expected: descriptor.size, actual: bytes.len() as u64 });
                }
                if !descriptor.digest.matches(&bytes) {
                    let actual = crate::oci::Digest::of(&bytes);
                    return Err(Error::Digest { what: what.to_owned(), expected: descriptor.digest.clone(), actual });
                }
                Ok(bytes)
            });
            match outcome.await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    tracing::debug!("{}: {error}", endpoint.host);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::CutOff(descriptor.digest.short().to_owned())))
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
        let endpoints = self.asked();
        let mut which = 0;
        loop {
            let endpoint = &endpoints[which];
            let before = from;
            let error = match self.stream(endpoint, descriptor, &mut from, to, progress).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            if which + 1 < endpoints.len() {
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
        let mut pace = Pace::default();
        let id = descriptor.digest.short().to_owned();
        loop {
            let Some(mut chunk) = pace.next(&mut response).await.map_err(|e| e.of(endpoint, &response, descriptor))? else { break };
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
        self.send(endpoint, &Ask { path: &path, from, operation: READ, ..Ask::default() }).await
    }
}

/// Watches that a transfer moves: neither silence nor a trickle may hold a pull for ever.
#[derive(Default)]
struct Pace {
    waited: Duration,
    moved: u64,
}

enum Halt {
    Stalled,
    Broken(reqwest::Error),
}

impl Pace {
    async fn next(&mut self, response: &mut Response) -> Result<Option<Bytes>, Halt> {
        let start = Instant::now();
        let chunk = tokio::time::timeout(QUIET, response.chunk()).await.map_err(|_| Halt::Stalled)?.map_err(Halt::Broken)?;
        self.waited += start.elapsed();
        self.moved += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.waited >= WINDOW {
            if self.moved < LEAST && chunk.is_some() {
                return Err(Halt::Stalled);
            }
            *self = Pace::default();
        }
        Ok(chunk)
    }
}

impl Halt {
    fn of(self, endpoint: &Endpoint, response: &Response, descriptor: &Descriptor) -> Error {
        match self {
            Halt::Stalled => Error::Stalled { registry: endpoint.name_of(response.url()), layer: descriptor.digest.short().to_owned() },
            Halt::Broken(error) => endpoint.explain(response.url(), READ, error),
        }
    }
}

/// First byte of a partial answer.
fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
