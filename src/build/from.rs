//! What `--from` and `from=` mean: an earlier stage, a named context, an image; without them the context of the build.

use super::cache::Layers;
use super::context::Context;
use super::error::Result;
use super::progress::Begun;
use super::stage::StageRun;
use crate::engine::Engine;
use crate::runtime::{Base, BindSource};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where files come from.
pub enum From {
    /// A stage or an image; `place` names it in messages.
    Tree {
        layers: Layers,
        place: String,
    },
    Context(Arc<Context>),
}

impl From {
    /// # Errors
    /// The stage failed, the image cannot be had.
    pub fn open(stage: &StageRun<'_, '_>, name: Option<&str>) -> Result<From> {
        let solver = stage.solver;
        let Some(name) = name else { return Ok(From::Context(solver.context.clone())) };
        if let Some(index) = solver.stage_named(name, stage.index) {
            let place = format!("stage {name}");
            return Ok(From::Tree { layers: solver.finished(stage.engine, index)?.layers.clone(), place });
        }
        if let Some(context) = solver.named_context(stage.engine, name)? {
            return Ok(From::Context(context));
        }
        let begun = Begun::new(solver.sink, solver.numbers, solver.cancel, format!("[internal] image {name}"));
        let image = stage.image(name, &begun);
        Ok(From::Tree { layers: begun.conclude(image)?.layers, place: format!("image {name}") })
    }
}

/// The tree of layers, read-only, mounted nowhere.
///
/// # Errors
/// A layer is gone, or the kernel refuses.
pub fn mount(engine: &Engine, layers: &Layers) -> Result<OwnedFd> {
    if layers.is_empty() {
        // An empty stage: nothing is found in it.
        let empty = engine.privilege.roots.data.join("build").join("empty");
        crate::base::fs::create_dir_all(&empty, 0o755)?;
        return Ok(BindSource { target: "/".into(), base: Base::Directory(empty), subpath: None }.open()?);
    }
    let overlay = crate::image::stack(&engine.privilege.roots, &engine.db, layers)?;
    Ok(BindSource { target: "/".into(), base: Base::Overlay(overlay), subpath: None }.open()?)
}
