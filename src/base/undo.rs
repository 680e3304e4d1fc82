//! The stack of inverses that every multi-step use case keeps while it may still fail.

use std::error::Error;

type Step<'a> = Box<dyn FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + 'a>;

/// Inverse steps, run newest first on drop unless [`Undo::commit`]ted: an early `?` rolls back by itself.
/// A step that fails is logged and does not stop the others.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

impl<'a> Undo<'a> {
    pub fn new() -> Self {
        Undo { steps: Vec::new() }
    }

    /// Remembers how to take back the step just done; `what` names it in the report.
    pub fn push<E>(&mut self, what: &'static str, step: impl FnOnce() -> Result<(), E> + 'a)
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.steps.push((what, Box::new(move || step().map_err(Into::into))));
    }

    /// The whole succeeded: nothing is taken back.
    pub fn commit(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                tracing::warn!("could not take back {what}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Undo;
    use std::cell::RefCell;

    fn fine() -> Result<(), std::io::Error> {
        Ok(())
    }

    #[test]
    fn runs_newest_first_and_past_failures() {
        let log = RefCell::new(Vec::new());
        let mut undo = Undo::new();
        undo.push("a", || {
            log.borrow_mut().push("a");
            fine()
        });
        undo.push("b", || Err(std::io::Error::other("stuck")));
        undo.push("c", || {
            log.borrow_mut().push("c");
            fine()
        });
        drop(undo);
        assert_eq!(*log.borrow(), ["c", "a"]);
    }

    #[test]
    fn drop_rolls_back_and_commit_does_not() {
        let count = RefCell::new(0);
        {
            let mut undo = Undo::new();
            undo.push("x", || {
                *count.borrow_mut() += 1;
                fine()
            });
        }
        let mut undo = Undo::new();
        undo.push("x", || {
            *count.borrow_mut() += 1;
            fine()
        });
        undo.commit();
        assert_eq!(*count.borrow(), 1);
    }
}
