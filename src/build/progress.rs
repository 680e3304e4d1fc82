//! What a build tells while it works; whoever called it renders it.

use super::error::{Error, Result};
use crate::base::Cancel;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where the events go; called from several threads.
pub type Sink<'a> = &'a (dyn Fn(Event) + Sync);

/// Which of a step's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// One thing that happened. `step` is the number under which it was begun.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `[build 2/5] RUN make`.
    Begun {
        step: u32,
        name: String,
    },
    /// Output of its process, or a line about what it does.
    Output {
        step: u32,
        stream: Stream,
        bytes: Vec<u8>,
    },
    /// Part of its work is done, of a total if that is known (bytes, files).
    Done {
        step: u32,
        took: Duration,
    },
    /// Its result was there already.
    Cached {
        step: u32,
    },
    Failed {
        step: u32,
        took: Duration,
        message: String,
    },
    /// Another step failed first.
    Cancelled {
        step: u32,
    },
    Warning(Warning),
}

/// Something in the Dockerfile that works, but is likely to be a mistake; or a cache that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The name under which `# check=skip=` knows it.
    pub rule: &'static str,
    pub text: String,
    /// Name of the Dockerfile and number of the line; or the flag that it is about.
    pub place: String,
    /// The lines around it; empty where it is about none.
    pub excerpt: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.rule, self.text, self.place)
    }
}

/// Numbers the steps of a build.
#[derive(Debug, Default)]
pub struct Numbers(AtomicU32);

impl Numbers {
    pub fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A step that was begun and is not done.
pub struct Begun<'a> {
    pub step: u32,
    sink: Sink<'a>,
    cancel: &'a Cancel,
    at: Instant,
}

impl<'a> Begun<'a> {
    pub fn new(sink: Sink<'a>, numbers: &Numbers, cancel: &'a Cancel, name: String) -> Self {
        let step = numbers.next();
        sink(Event::Begun { step, name });
        Begun { step, sink, cancel, at: Instant::now() }
    }

    pub fn output(&self, stream: Stream, bytes: &[u8]) {
        (self.sink)(Event::Output { step: self.step, stream, bytes: bytes.to_vec() });
    }

    pub fn warn(&self, warning: Warning) {
        (self.sink)(Event::Warning(warning));
    }

    /// A line about what it does.
    pub fn say(&self, line: &str) {
        self.output(Stream::Err, format!("{line}\n").as_bytes());
    }

    pub fn done(self) {
        (self.sink)(Event::Done { step: self.step, took: self.at.elapsed() });
    }

    pub fn cached(self) {
        (self.sink)(Event::Cached { step: self.step });
    }

    /// Ends it as its outcome says; what fails once the build is cancelled fails for that.
    pub fn conclude<T>(self, outcome: Result<T>) -> Result<T> {
        let step = self.step;
        let outcome = outcome.map_err(|error| if self.cancel.is_cancelled() { Error::Cancelled } else { error });
        match &outcome {
            Ok(_) => self.done(),
            Err(Error::Cancelled) => (self.sink)(Event::Cancelled { step }),
            Err(error) => (self.sink)(Event::Failed { step, took: self.at.elapsed(), message: error.to_string() }),
        }
        outcome
    }
}
