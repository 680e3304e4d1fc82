//! # build
//! ## Lives here
//! Dockerfile → stages → graph → solve → commit: the front end (`dockerfile`), contexts and file transfer (`context`,
//! `transfer`), the solver with its cache, the image configuration, outputs.
//! ## Invariants
//! - The key of a step is made of the content it starts from (the chain id of its layers) and of what it does; time is never
//!   part of it. A step's result is a layer like any other, recorded before its key is.
//! - A build leaves nothing: steps run in stages that end with the builder, and every finished step is found again by the
//!   next build, whatever killed this one.
//! - Nothing outside of the context is read by a `COPY`; nothing outside of the root that is built is written.
//! ## Not here
//! How a process is isolated (`runtime`), how a step gets its network and files (`engine`), layers and images (`image`).
//! ## Decisions
//! - Keys name the chain id of the layers below, not the definition that made them: a rebuilt stage with the same files finds
//!   all that follows in the cache, without a second look-up by content. Rejected: BuildKit's two phases, which it needs since
//!   its snapshots have no name by content before they are exported.
//! - The upper directory of a step's overlay becomes the layer itself: it is read once for its DiffID, and nothing is copied.
//! - Each platform of a build is a solver of its own over the one cache: what is the same for all has the same key, so that it
//!   is done once and found by the others, also with `--no-cache`. Rejected: one graph over all platforms, which would find the
//!   same steps by the same keys, with a second kind of them.
//! - An image with rewritten times names its steps by the keys that they have on the layers it holds, so that a chain of them is
//!   found from the first to the last. Rejected: keys of the layers as they were made, of which only the first is ever asked for.
//! - A cache elsewhere is a list of keys and layers under an image manifest: a key names content, so that what was found there
//!   is recorded here as if it had been made here. Rejected: BuildKit's documents, whose keys follow from its own graph.
//! - A layer of such a cache is fetched when its step is reached, since the next step may need its files: `COPY --from` has
//!   their digest in its key. Rejected: taking a whole chain for granted and fetching it last, as BuildKit can.
//! - Attestations are kept as predicates in the index of the image's name; their statements name the digest of a manifest, which
//!   is known only when the layers are written somewhere.
//! - With `SOURCE_DATE_EPOCH` a provenance tells neither an id nor the times of the call (all three are optional in SLSA), so that
//!   the same sources give the same index, attestations included. Without it they are told as in BuildKit. Rejected: BuildKit's
//!   random id and times in any case, which make every index another one and lead to no record of ours; the epoch in place of
//!   the times, which would attest what did not happen.
//! - While a build runs no layer is collected, rather than each step pinning its own: a removal meanwhile frees its bytes at the
//!   next collection. Rejected: a row for each layer that a build holds, which a killed build would leave.

mod attest;
mod cache;
mod call;
mod context;
mod copy;
mod dockerfile;
mod epoch;
mod error;
mod exec;
mod fields;
mod from;
mod key;
mod lint;
mod mounts;
mod output;
mod platform;
mod product;
mod progress;
mod remote;
mod request;
mod rewrite;
mod running;
mod schedule;
mod shared;
mod solve;
mod stage;
mod state;
mod transfer;

pub use attest::Attest;
pub use cache::{CacheFrom, CacheTo};
pub use call::{Lines, Outline, Parameter, Target, Targets, Wanted, outline, targets};
pub use error::Error;
pub use output::{Annotation, Built, Output};
pub use progress::{Event, Stream, Warning};
pub use request::{Allow, BuildRequest, SecretSource};

use crate::base::Timestamp;
use crate::base::fs::Context as _;
use crate::engine::Engine;
use crate::oci::Platform;
use progress::{Begun, Numbers, Sink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Builds the image, unless the engine's wish to end comes first; what is to go to standard output goes to `out`. None: the Dockerfile was only to be checked.
///
/// # Errors
/// The first thing that fails; everything else is ended then. What was finished is found by the next build.
pub fn build(engine: &Engine, request: &BuildRequest, sink: Sink<'_>, out: &mut (dyn std::io::Write + Send)) -> Result<Option<Built>, Error> {
    build_from(engine, request, sink, &mut standard_input(engine)?, out)
}

/// [`build`] whose standard input (a context or Dockerfile that is `-`) is another stream.
///
/// # Errors
/// As [`build`].
pub fn build_from(
    engine: &Engine,
    request: &BuildRequest,
    sink: Sink<'_>,
    input: &mut dyn std::io::Read,
    out: &mut (dyn std::io::Write + Send),
) -> Result<Option<Built>, Error> {
    // Told before anything happens; the cache stays as it is, for nobody knows what it may take.
    engine.registry.usable()?;
    let began = Timestamp::now();
    let built = build_since(began, engine, request, sink, (input, out));
    // What a failed build has left counts too. Who has cancelled it does not want to wait: the next build does it.
    if !built.as_ref().is_err_and(Error::is_cancelled)
        && let Err(error) = engine.collect_build_cache(began)
    {
        // The result is what it is, whatever becomes of the cache.
        tracing::warn!("cannot prune the build cache: {error}");
    }
    built
}

fn build_since(
    began: Timestamp,
    engine: &Engine,
    request: &BuildRequest,
    sink: Sink<'_>,
    (input, out): (&mut dyn std::io::Read, &mut (dyn std::io::Write + Send)),
) -> Result<Option<Built>, Error> {
    let cancel = &engine.cancel;
    let numbers = Numbers::default();
    engine.sweep_trees();
    let begun = Begun::new(sink, &numbers, cancel, "[internal] load build definition".to_owned());
    let loaded = load(engine, request, input, &begun);
    let (file, context, text) = begun.conclude(loaded)?;
    let target = solve::target(&file, request.target.as_deref())?;
    let platforms = platform::wanted(request)?;
    let shared = shared::Shared::new(engine, platforms.len() > 1);
    let solver = |platform: Platform| solve::Solver::new(request, (platform, &shared), (&file, &context), (sink, &numbers, cancel));
    let has_index = platforms.len() > 1 || platform::always_index(request)? || !request.attest.is_empty();
    let mut solvers = platforms.into_iter().map(solver).collect::<Result<Vec<_>, _>>()?;
    solvers.iter_mut().try_for_each(|solver| solver.date(engine))?;
    let violated = solvers[0].lint()?;
    if request.check {
        return Ok(None);
    }
    if violated > 0 && file.directives.check.error {
        let hint = Some("see the warnings, or drop error=true of the check directive".to_owned());
        return Err(Error::Invalid { message: format!("the Dockerfile violates {violated} of the rules that it asks to be errors"), hint });
    }
    let epoch = solvers[0].epoch;
    output::check(request, epoch, has_index)?;
    // Until the image names its layers, only this keeps a removal of the base or of the cache from taking them away.
    let held = crate::image::hold_layers(&engine.privilege.roots)?;
    if !request.no_cache && !request.cache_from.is_empty() {
        let platforms: Vec<Platform> = solvers.iter().map(|solver| solver.platform().clone()).collect();
        shared.import(cache::Imports::read(engine, &request.cache_from, &platforms, (sink, &numbers)));
    }
    let finished = solve::solve(engine, &solvers, target)?;
    shared.remember();
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let begun = Begun::new(sink, &numbers, cancel, "exporting the result".to_owned());
    let outcomes: Vec<output::Outcome<'_>> = finished
        .iter()
        .zip(&solvers)
        .map(|(finished, solver)| output::Outcome { finished, platform: solver.platform(), materials: &solver.materials })
        .collect();
    let invocation = attest::Invocation {
        request,
        dockerfile: (&text.name, &text.text),
        commit: context.commit(),
        call: epoch.epoch().is_none().then(|| attest::Call { id: crate::base::random_hex(32), began, ended: Timestamp::now() }),
    };
    let delivered = output::deliver(engine, &outcomes, (&invocation, epoch.epoch()), out, &begun);
    let delivered = delivered.and_then(|built| if cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(built) });
    let built = begun.conclude(delivered)?;
    let all: Vec<_> = solvers.iter().flat_map(solve::Solver::built).collect();
    cache::export(engine, &request.cache_to, (&finished, &all), (sink, &numbers))?;
    drop(held);
    if cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(Some(built)) }
}

/// Where temporary trees of builds are.
fn area(engine: &Engine) -> PathBuf {
    engine.build_area()
}

/// Ours, until the engine is cancelled.
fn standard_input(engine: &Engine) -> Result<impl std::io::Read, Error> {
    let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(std::io::Error::from);
    Ok(stdin.and_then(|stdin| engine.cancel.reader(stdin.into())).on("read", Path::new("standard input"))?)
}

/// What a build begins with.
type Loaded = (dockerfile::Dockerfile, Arc<context::Context>, context::Dockerfile);

/// The Dockerfile, read, and the context.
fn load(engine: &Engine, request: &BuildRequest, input: &mut dyn std::io::Read, begun: &Begun<'_>) -> Result<Loaded, Error> {
    let area = area(engine);
    let argument = |name: &str| request.arguments.get(name).filter(|value| !value.is_empty());
    if let Some(name) = argument("BUILDKIT_BUILD_NAME") {
        begun.say(&format!("this build is called {name}"));
    }
    let keep_git_dir = argument("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let (spec, file) = (request.context.as_str(), request.dockerfile.as_deref());
    let wanted = context::Request { spec, file, area: &area, keep_git_dir, limits: engine.registry.limits, cancel: &engine.cancel };
    let (context, text) = context::Context::open(&wanted, input)?;
    begun.say(&format!("read {} ({} bytes)", text.name, text.text.len()));
    context.commit().into_iter().for_each(|commit| begun.say(&format!("commit {commit}")));
    let mut file = dockerfile::parse(&text.text, &text.name)?;
    if let Some(checks) = argument("BUILDKIT_DOCKERFILE_CHECK") {
        let parsed = dockerfile::Checks::parse(checks);
        file.directives.check = parsed.map_err(|why| Error::invalid(format!("--build-arg BUILDKIT_DOCKERFILE_CHECK={checks}: {why}")))?;
    }
    Ok((file, Arc::new(context), text))
}
