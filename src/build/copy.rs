//! `COPY` and `ADD`: sources selected and hashed, then, unless that has been done before, put into the tree.

use super::cache::{self, Solved, Work};
use super::error::Result;
use super::from::{self, From};
use super::key::Key;
use super::progress::Begun;
use super::remote;
use super::stage::StageRun;
use super::state::{Given, TransferStep, joined};
use super::transfer::{self, ModeChange, Selected, Selection, Target};
use crate::base::fs::Context as _;
use crate::image::Draft;
use crate::oci::Digest;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};

/// Copies, or finds what was copied before.
///
/// # Errors
/// A source that is not there, a conflict in the destination, an unknown owner.
pub fn copy(stage: &mut StageRun<'_, '_>, description: &str, step: &TransferStep, begun: &Begun<'_>) -> Result<Solved> {
    let instruction = if step.add { "ADD" } else { "COPY" };
    let exclude: Vec<Vec<u8>> = step.exclude.iter().map(|pattern| pattern.clone().into_bytes()).collect();
    let chmod = step.chmod.as_deref().map(ModeChange::parse).transpose()?;
    let (mut local, mut addresses, mut documents) = (Vec::new(), Vec::new(), Vec::new());
    for source in &step.sources {
        match source {
            Given::Path(path) if step.add && remote::is_remote(path.as_bytes()) => addresses.push(path.as_str()),
            Given::Path(path) => local.push(path.clone().into_bytes()),
            Given::File { name, content } => documents.push(Selected::document(name, content.as_bytes())),
        }
    }
    if step.checksum.is_some() && (addresses.len() != 1 || step.sources.len() != 1) {
        return Err(super::Error::invalid("ADD --checksum is for one address: leave it out, or give each address an ADD of its own"));
    }
    let mut selected = Selected::default();
    // Held as long as what was selected from it.
    let mut tree: Option<OwnedFd> = None;
    if !local.is_empty() {
        selected = match From::open(stage, step.from.as_deref())? {
            From::Context(context) => context.select(instruction, &local, step.parents, &exclude)?,
            From::Tree { layers, place } => {
                let root = tree.insert(from::mount(stage.engine, &layers)?);
                let selection = Selection { instruction, place: &place, sources: &local, parents: step.parents, exclude: &exclude, keep_owner: true };
                transfer::select(root.as_fd(), None, &selection)?
            }
        };
    }
    let mut fetched = Vec::new();
    for address in &addresses {
        let (source, files) = fetch(stage, step, address, &exclude, begun)?;
        selected = selected.and(files);
        fetched.push(source);
    }
    for document in documents {
        selected = selected.and(document);
    }
    let limits = stage.engine.registry.limits;
    selected.check_holes(&stage.engine.privilege.roots.data, &limits)?;
    let destination = absolute(step);
    let unpack = step.unpack.unwrap_or(step.add && addresses.is_empty());
    let mut key = Key::new(instruction, stage.below());
    key.field("files", stage.solver.shared.digest(&selected)?.as_str());
    key.field("destination", &destination);
    key.field("chown", step.chown.as_deref().unwrap_or_default());
    key.field("chmod", step.chmod.as_deref().unwrap_or_default());
    key.field("how", format!("{:?}", (step.link, step.parents, unpack)));
    let below = stage.layers.clone();
    let work = Work { key: key.finish(), description, below: &below, anew: stage.anew, shared: stage.solver.shared, begun };
    let solved = cache::solve(stage.engine, &work, |draft| {
        put(stage, draft, &selected, &destination, step, chmod.as_ref(), unpack)?;
        Ok(true)
    })?;
    drop((tree, fetched));
    Ok(solved)
}

/// What an address leads to; the provenance tells it.
fn fetch(
    stage: &StageRun<'_, '_>,
    step: &TransferStep,
    address: &str,
    exclude: &[Vec<u8>],
    begun: &Begun<'_>,
) -> Result<(remote::Fetched, Selected)> {
    begun.say(&format!("fetching {}", super::context::redacted(address)));
    let area = super::area(stage.engine);
    let headers = remote::authorization(stage.solver.request, address)?;
    let wanted = remote::Request {
        url: address,
        area: &area,
        checksum: step.checksum.as_deref(),
        keep_git_dir: step.keep_git_dir.unwrap_or(false),
        exclude,
        headers: &headers,
        limits: stage.engine.registry.limits,
        cancel: &stage.engine.cancel,
    };
    let source = remote::fetch(&wanted)?;
    source.commit.iter().for_each(|commit| {
        begun.say(&format!("commit {commit}"));
        stage.solver.materials.commit(address, commit);
    });
    source.digest.iter().for_each(|digest| stage.solver.materials.file(address, digest));
    let files = source.selected()?;
    if source.digest.is_some() {
        let description = format!("ADD {}", super::context::redacted(address));
        stage.engine.note_download(&Digest::of(address.as_bytes()), &description, files.size())?;
    }
    Ok((source, files))
}

fn put(
    stage: &StageRun<'_, '_>,
    draft: &Draft,
    selected: &Selected,
    destination: &str,
    step: &TransferStep,
    chmod: Option<&ModeChange>,
    unpack: bool,
) -> Result<()> {
    let whole = stage.tree(draft)?;
    // What is linked does not depend on what is below.
    let alone = step.link.then(|| open(draft)).transpose()?;
    let target = Target {
        root: alone.as_ref().unwrap_or(&whole).as_fd(),
        destination: destination.as_bytes(),
        accounts: whole.as_fd(),
        chown: step.chown.as_deref(),
        chmod,
    };
    if unpack {
        transfer::add(selected, &target, stage.engine.registry.limits)?
    } else {
        transfer::apply(selected, &target)?
    }
    Ok(())
}

/// The draft without the layers below.
fn open(draft: &Draft) -> Result<OwnedFd> {
    let upper = draft.upper();
    Ok(rustix::fs::open(&upper, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open", &upper)?)
}

/// The destination from the root; a slash at its end, which means a directory, stays.
fn absolute(step: &TransferStep) -> String {
    let typed = step.destination.as_str();
    let is_directory = typed.ends_with('/') || matches!(typed, "." | "..") || typed.ends_with("/.") || typed.ends_with("/..");
    let path = joined(&step.directory, typed);
    if is_directory && path != "/" { format!("{path}/") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_stays() {
        let at = |destination: &str| {
            let step = TransferStep {
                add: false,
                sources: Vec::new(),
                destination: destination.to_owned(),
                directory: "/srv".to_owned(),
                from: None,
                chown: None,
                chmod: None,
                link: false,
                parents: false,
                exclude: Vec::new(),
                checksum: None,
                keep_git_dir: None,
                unpack: None,
            };
            absolute(&step)
        };
        for (typed, expected) in [("a", "/srv/a"), ("a/", "/srv/a/"), (".", "/srv/"), ("./", "/srv/"), ("/", "/"), ("/b/../c/", "/c/"), ("..", "/")] {
            assert_eq!(at(typed), expected, "{typed}");
        }
    }
}
