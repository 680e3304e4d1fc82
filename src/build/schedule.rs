//! Which stage is built next: at most as many at once as there are workers, each when all that it is made from is there.
//!
//! Invariant: a stage takes things only from stages before it. A worker that must wait for a stage that nobody builds yet
//! (only a trigger of a base image asks for one that the Dockerfile does not name) builds what that one needs itself, so
//! that the first stage that is not finished is always being worked on: nothing waits in a circle.

use super::error::{Error, Result};
use crate::base::Cancel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The stages of one build for one platform.
pub struct Schedule<T> {
    /// What each stage is made from; None: it is not built.
    sources: Vec<Option<Vec<usize>>>,
    progress: Mutex<Progress<T>>,
    changed: Condvar,
}

struct Progress<T> {
    stages: Vec<Stage<T>>,
    /// The first error; the others came of it.
    failed: Option<Error>,
}

enum Stage<T> {
    /// Nobody has begun it (or ever will).
    Waiting,
    Begun,
    Finished(Arc<T>),
}

impl<T> Schedule<T> {
    pub fn new(sources: Vec<Option<Vec<usize>>>) -> Self {
        let stages = sources.iter().map(|_| Stage::Waiting).collect();
        Schedule { sources, progress: Mutex::new(Progress { stages, failed: None }), changed: Condvar::new() }
    }

    /// How many stages are built.
    pub fn count(&self) -> usize {
        self.sources.iter().flatten().count()
    }

    pub fn is_needed(&self, index: usize) -> bool {
        self.sources[index].is_some()
    }

    /// One worker: builds what is next until nothing is left to begin.
    pub fn work(&self, cancel: &Cancel, build: &dyn Fn(usize) -> Result<T>) {
        loop {
            let mut progress = self.progress();
            let next = loop {
                let left = (0..self.sources.len()).any(|index| self.is_open(&progress, index));
                if !left || progress.failed.is_some() || cancel.is_cancelled() {
                    return;
                }
                match self.ready(&progress, self.sources.len()) {
                    Some(next) => break next,
                    None => progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner),
                }
            };
            progress.stages[next] = Stage::Begun;
            drop(progress);
            self.end(cancel, next, build(next));
        }
    }

    /// What an earlier stage came to; `build` is for what nobody has begun.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when it fails.
    pub fn wait(&self, cancel: &Cancel, index: usize, build: &dyn Fn(usize) -> Result<T>) -> Result<Arc<T>> {
        let mut progress = self.progress();
        loop {
            if let Stage::Finished(finished) = &progress.stages[index] {
                return Ok(finished.clone());
            }
            if progress.failed.is_some() || cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let next = if self.is_open(&progress, index) { self.ready(&progress, index + 1) } else { None };
            progress = match next {
                Some(next) => {
                    progress.stages[next] = Stage::Begun;
                    drop(progress);
                    self.end(cancel, next, build(next));
                    self.progress()
                }
                None => self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// It was cancelled: those that wait look again.
    pub fn wake(&self) {
        let _progress = self.progress();
        self.changed.notify_all();
    }

    /// When no worker is left: what the stage came to.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn outcome(&self, index: usize) -> Result<Arc<T>> {
        let mut progress = self.progress();
        match (progress.failed.take(), &progress.stages[index]) {
            (Some(error), _) => Err(error),
            (None, Stage::Finished(finished)) => Ok(finished.clone()),
            (None, _) => Err(Error::Cancelled),
        }
    }

    /// When no worker is left: all that was built.
    pub fn all(&self) -> Vec<Arc<T>> {
        let finished = |stage: &Stage<T>| if let Stage::Finished(finished) = stage { Some(finished.clone()) } else { None };
        self.progress().stages.iter().filter_map(finished).collect()
    }

    fn end(&self, cancel: &Cancel, index: usize, outcome: Result<T>) {
        let failed = outcome.is_err();
        let mut progress = self.progress();
        match outcome {
            Ok(finished) => progress.stages[index] = Stage::Finished(Arc::new(finished)),
            // A cancelled stage is the consequence of another's error.
            Err(error) if matches!(progress.failed, None | Some(Error::Cancelled)) => progress.failed = Some(error),
            Err(_) => {}
        }
        drop(progress);
        self.changed.notify_all();
        if failed {
            cancel.cancel();
        }
    }

    /// It is to be built, and nobody has begun it.
    fn is_open(&self, progress: &Progress<T>, index: usize) -> bool {
        self.sources[index].is_some() && matches!(progress.stages[index], Stage::Waiting)
    }

    /// The first open stage before `end` all of whose sources are there.
    fn ready(&self, progress: &Progress<T>, end: usize) -> Option<usize> {
        let is_there = |source: &usize| matches!(progress.stages[*source], Stage::Finished(_));
        (0..end).find(|index| self.is_open(progress, *index) && self.sources[*index].iter().flatten().all(is_there))
    }

    fn progress(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Runs the graph with so many workers; the order in which stages ended, and the most that ran at once.
    fn run(schedule: &Schedule<usize>, workers: usize, build: &(dyn Fn(usize) -> Result<usize> + Sync)) -> (Vec<usize>, usize) {
        let cancel = Cancel::default();
        let (order, running, most) = (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicUsize::new(0));
        let step = |index| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            let outcome = build(index);
            running.fetch_sub(1, Ordering::SeqCst);
            order.lock().unwrap().push(index);
            outcome
        };
        std::thread::scope(|scope| {
            (0..workers).for_each(|_| drop(scope.spawn(|| schedule.work(&cancel, &step))));
        });
        (order.into_inner().unwrap(), most.into_inner())
    }

    #[test]
    fn thousands_of_stages_need_few_workers() {
        // A chain beside stages that need nothing; the last needs all; one is not needed.
        let mut sources: Vec<Option<Vec<usize>>> =
            (0..2000).map(|index| Some(if index % 2 == 1 && index > 1 { vec![index - 2] } else { Vec::new() })).collect();
        sources[10] = None;
        sources.push(Some((0..2000).filter(|index| *index != 10).collect()));
        let schedule = Schedule::new(sources);
        let (order, most) = run(&schedule, 4, &Ok);
        assert_eq!((order.len(), order.last(), schedule.count()), (2000, Some(&2000), 2000));
        assert!(most <= 4 && !order.contains(&10), "{most}");
        let odd: Vec<usize> = order.iter().copied().filter(|index| index % 2 == 1).collect();
        assert!(odd.is_sorted());
        assert_eq!(*schedule.outcome(2000).unwrap(), 2000);
    }

    #[test]
    fn what_nobody_builds_yet_is_built_by_who_waits_for_it() {
        // Stages 6 to 9 need nothing that is named, and ask for the end of the chain 0..=5; 9 is begun before any of it.
        let mut sources: Vec<_> = (0..6).map(|index: usize| Some(index.checked_sub(1).into_iter().collect())).collect();
        sources.extend((6..10).map(|_| Some(Vec::new())));
        let (schedule, cancel) = (Schedule::new(sources), Cancel::default());
        let build = |index: usize| if index > 5 { schedule.wait(&cancel, 5, &Ok).map(|found| *found + index) } else { Ok(index) };
        schedule.progress().stages[9] = Stage::Begun;
        schedule.end(&cancel, 9, build(9));
        assert_eq!(*schedule.outcome(9).unwrap(), 14);
        assert_eq!(run(&schedule, 1, &build).0, [6, 7, 8]);
        assert_eq!(*schedule.outcome(6).unwrap(), 11);
    }

    #[test]
    fn the_first_error_ends_all() {
        let schedule = Schedule::new(vec![Some(vec![]), Some(vec![0]), Some(vec![1])]);
        let (order, _) = run(&schedule, 2, &|index| if index == 1 { Err(Error::invalid("no")) } else { Ok(index) });
        assert_eq!((order, schedule.outcome(2).unwrap_err().to_string()), (vec![0, 1], "no".to_owned()));
    }

    #[test]
    fn those_that_wait_end_when_it_is_cancelled() {
        let (schedule, cancel) = (Arc::new(Schedule::<usize>::new(vec![Some(vec![]), Some(vec![0])])), Cancel::default());
        schedule.progress().stages[0] = Stage::Begun;
        let waker = schedule.clone();
        let _watch = cancel.watch(move || waker.wake());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| schedule.wait(&cancel, 0, &Ok));
            scope.spawn(|| schedule.work(&cancel, &Ok));
            cancel.cancel();
            assert!(matches!(waits.join().unwrap(), Err(Error::Cancelled)));
        });
        assert!(matches!(schedule.outcome(1), Err(Error::Cancelled)));
    }
}
