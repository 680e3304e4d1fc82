//! The small reactor of one pull, push or download: it ends with the wish that it ends.

use super::Error;
use crate::base::Cancel;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

/// A reactor of this thread.
pub struct Reactor {
    /// Some until it is dropped.
    runtime: Option<Runtime>,
}

impl Reactor {
    /// # Errors
    /// The system has no descriptors left.
    pub fn start() -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::Start { what: "the network reactor", source: Box::new(e) })?;
        Ok(Reactor { runtime: Some(runtime) })
    }

    /// Waits for the outcome. What is cancelled is dropped where it stands.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or the future's own.
    pub fn wait<T>(&self, cancel: &Cancel, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let ended = Arc::new(Notify::new());
        let end = ended.clone();
        let _watch = cancel.watch(move || end.notify_one());
        let runtime = self.runtime.as_ref().expect("invariant: taken only by drop");
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = ended.notified() => Err(Error::Cancelled),
                outcome = future => outcome,
            }
        })
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Names are looked up by blocking calls of threads of their own: nobody waits for a silent resolver.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_not_waited_for() {
        let (cancel, reactor) = (Cancel::default(), Reactor::start().unwrap());
        assert!(matches!(reactor.wait(&cancel, async { Ok(1) }), Ok(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| cancel.cancel());
            let waited = reactor.wait(&cancel, std::future::pending::<Result<(), Error>>());
            assert!(matches!(waited, Err(Error::Cancelled)));
        });
        // One that is cancelled already is not begun.
        assert!(matches!(reactor.wait(&cancel, async { Ok(1) }), Err(Error::Cancelled)));
    }
}
