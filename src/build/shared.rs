//! What the builds of one Dockerfile for several platforms have in common: what is the same for all of them is done once.

use super::cache::Imports;
use super::context::{self, Context};
use super::error::Result;
use super::progress::Warning;
use super::solve::IMAGE;
use super::transfer::{Memo, Selected};
use crate::engine::Engine;
use crate::oci::Digest;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub struct Shared {
    memo: Mutex<Memo>,
    /// Steps of this build: their results are taken also where others' are not (`--no-cache`).
    made: Mutex<HashSet<Digest>>,
    /// Warnings that were told.
    told: Mutex<HashSet<(&'static str, String, String)>>,
    /// Named contexts that were opened.
    contexts: Mutex<BTreeMap<String, Arc<Context>>>,
    /// Held while a base image is had: an image of two platforms has one name.
    images: Mutex<()>,
    /// Caches elsewhere; set before the first step.
    imports: OnceLock<Imports>,
    /// There are several platforms: steps are told apart by theirs.
    pub several: bool,
}

impl Shared {
    pub fn new(engine: &Engine, several: bool) -> Self {
        let memo = Memo::open(&engine.build_area().join(crate::engine::DIGESTS));
        Shared {
            memo: Mutex::new(memo),
            made: Mutex::default(),
            told: Mutex::default(),
            contexts: Mutex::default(),
            images: Mutex::default(),
            imports: OnceLock::new(),
            several,
        }
    }

    /// The content key of what was selected.
    ///
    /// # Errors
    /// A file cannot be read, or changed meanwhile.
    pub fn digest(&self, selected: &Selected) -> Result<Digest> {
        Ok(selected.digest(&mut lock(&self.memo))?)
    }

    /// Keeps the digests that were made, for the next build.
    pub fn remember(&self) {
        if let Err(error) = lock(&self.memo).save() {
            tracing::debug!("{error}: {}", error.source);
        }
    }

    /// A step's result is this build's own.
    pub fn note_made(&self, key: &Digest) {
        lock(&self.made).insert(key.clone());
    }

    pub fn has_made(&self, key: &Digest) -> bool {
        lock(&self.made).contains(key)
    }

    /// Whether a warning is new.
    pub fn is_new(&self, warning: &Warning) -> bool {
        lock(&self.told).insert((warning.rule, warning.text.clone(), warning.place.clone()))
    }

    /// Results are taken from these, too.
    pub fn import(&self, imports: Imports) {
        self.imports.get_or_init(|| imports);
    }

    pub fn imports(&self) -> Option<&Imports> {
        self.imports.get()
    }

    /// Keeps the stages of other platforms from getting a base image as long as it is held; None: there are none.
    pub fn image_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.several.then(|| lock(&self.images))
    }

    /// The directory that `text` (`--build-context name=text`) means; None: it is an image.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn context(&self, engine: &Engine, name: &str, text: &str) -> Result<Option<Arc<Context>>> {
        if text.starts_with(IMAGE) {
            return Ok(None);
        }
        let key = name.to_ascii_lowercase();
        let mut contexts = lock(&self.contexts);
        if let Some(open) = contexts.get(&key) {
            return Ok(Some(open.clone()));
        }
        let area = super::area(engine);
        let wanted =
            context::Request { spec: text, file: None, area: &area, keep_git_dir: false, limits: engine.registry.limits, cancel: &engine.cancel };
        let context = Arc::new(Context::named(name, &wanted)?);
        contexts.insert(key, context.clone());
        Ok(Some(context))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
