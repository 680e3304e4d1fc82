//! `commit`: the changes of a container as a new image, with the container's own settings.
//!
//! A running container rests meanwhile unless asked otherwise. Whoever is killed while it rests does not leave it so: a
//! locked mark in the live directory says whose pause it is, and the next look at the container ends one whose owner died.

use super::image::{changes, described, parse_reference};
use super::{Engine, Error, Result, Status, View};
use crate::base::fs::Context;
use crate::base::{Roots, Timestamp, failpoint};
use crate::image::Spool;
use crate::monitor::Live;
use crate::oci::{Digest, ImageDefaults, Reference};
use crate::state::record;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

/// In the live directory: the pause of a commit, locked by the process that commits.
const PAUSE: &str = "commit";

/// What `commit` was asked for.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Name that the image gets.
    pub name: Option<String>,
    pub author: Option<String>,
    /// Message of the history.
    pub message: Option<String>,
    /// Dockerfile instructions: `CMD ["sh"]`, `ENV A=b`, …
    pub changes: Vec<String>,
    /// Freeze a running container while its files are read.
    pub pause: bool,
    /// One layer with everything instead of one more layer.
    pub squash: bool,
    /// Its manifest has Docker's media types instead of OCI's.
    pub docker_format: bool,
}

impl Engine {
    /// Makes the image and returns its id. Volumes are not in it.
    ///
    /// # Errors
    /// `NoSuch`; `Invalid` for a malformed name or instruction, before anything is read; `Conflict` while the container is
    /// being removed; `Unsupported` for a file whose name is a layer's mark for a deleted one.
    pub fn commit(&self, name: &str, options: &CommitOptions) -> Result<String> {
        let target = options.name.as_deref().map(parse_reference).transpose()?;
        if target.as_ref().is_some_and(|target| target.digest().is_some()) {
            return Err(Error::invalid("cannot commit to a reference with a digest"));
        }
        let view = self.view(name)?;
        if view.status == Status::Removing {
            return Err(Error::conflict(format!("container \"{name}\" is being removed")));
        }
        if let Some(rootfs) = &view.record.spec.rootfs {
            return Err(Error::Invalid {
                message: format!("container \"{name}\" has no image that another one could be made on: its root is {}", rootfs.directory.display()),
                hint: Some(format!("make an image of all its files: rcon export {name} | rcon import - NAME")),
            });
        }
        let image_id = view.record.spec.image_id.as_str();
        let image = self.db.image(image_id)?.ok_or_else(|| Error::no_such("image", image_id))?;
        let defaults = defaults(&view.record, &described(&image)?.config.unwrap_or_default(), &options.changes)?;
        let pause = if options.pause && view.status == Status::Running { Pause::begin(&self.privilege.roots, &view)? } else { None };
        hit("engine.commit.paused")?;
        let layer = self.spool(name, &view, options.squash);
        // Whether that went well or not, nothing of the container is needed any more.
        pause.map_or(Ok(()), Pause::end)?;
        let layer = layer?;
        hit("engine.commit.spooled")?;
        let id = self.record_commit(&image, layer, options, &view.record, defaults, target.as_ref())?;
        self.emit([super::events::of_container(&view.record, "commit").with("imageID", &id)]);
        Ok(id)
    }

    /// The tar of the new layer; None when the container changed nothing.
    fn spool(&self, name: &str, view: &View, squash: bool) -> Result<Option<Spool>> {
        let changes = if squash { None } else { Some(self.layer_changes(name, &view.record)?) };
        if changes.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let mut spool = Spool::new(&self.privilege.roots, &self.db)?;
        self.pack_layer(name, view, changes.as_deref(), &mut spool)?;
        Ok(Some(spool))
    }

    fn record_commit(
        &self,
        image: &record::Image,
        layer: Option<Spool>,
        options: &CommitOptions,
        container: &record::Container,
        defaults: ImageDefaults,
        target: Option<&Reference>,
    ) -> Result<String> {
        let base = (!options.squash).then_some(image);
        let unreadable = |source: serde_json::Error| Error::Failed {
            operation: format!("read the config of image {}", image.id),
            kind: crate::base::ErrorKind::Internal,
            source: Box::new(source),
        };
        let own: Value = serde_json::from_slice(&image.config).map_err(unreadable)?;
        let config = |diff_id: Option<&Digest>| document(own, diff_id, defaults, options, container);
        let mut made = crate::image::add_layer(&self.privilege.roots, &self.db, &self.registry, base, layer, config, target)?;
        if options.docker_format {
            // The manifest is written when somebody wants it.
            made.manifest_type = Some(crate::oci::media::DOCKER_MANIFEST.to_owned());
            self.db.write(true, |tx| tx.put_image(&made))?;
        }
        Ok(made.id)
    }
}

fn hit(name: &str) -> Result<()> {
    failpoint::hit(name).map_err(|source| Error::Failed {
        operation: format!("pass {name}"),
        kind: crate::base::ErrorKind::Internal,
        source: Box::new(source),
    })
}

/// What the container was created with, changed by the instructions. As in a Dockerfile, a new ENTRYPOINT takes the command
/// of the old one away.
fn defaults(container: &record::Container, image: &ImageDefaults, instructions: &[String]) -> Result<ImageDefaults> {
    let (spec, process) = (&container.spec, &container.spec.process);
    let keys = |names: &[String]| (!names.is_empty()).then(|| names.iter().map(|name| (name.clone(), json!({}))).collect());
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut defaults = ImageDefaults {
        user: text(&process.user),
        exposed_ports: keys(&spec.exposed),
        env: Some(process.env.clone()),
        entrypoint: process.entrypoint.clone(),
        cmd: process.cmd.clone(),
        volumes: keys(&spec.image_volumes),
        working_dir: text(&process.workdir),
        labels: (!spec.labels.is_empty()).then(|| spec.labels.clone()),
        stop_signal: process.stop_signal.map(|signal| signal.to_string()),
        healthcheck: spec.healthcheck.as_ref().map(|check| serde_json::to_value(check).expect("invariant: a health check is plain data")),
        on_build: (!spec.on_build.is_empty()).then(|| spec.on_build.clone()),
        shell: image.shell.clone(),
    };
    let is = |instruction: &String, name: &str| instruction.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(name));
    if instructions.iter().any(|i| is(i, "ENTRYPOINT")) {
        defaults.cmd = None;
    }
    for instruction in instructions {
        changes::apply(&mut defaults, instruction)?;
    }
    Ok(defaults)
}

/// The base's config document with what is new: fields that we do not know stay.
fn document(
    mut document: Value,
    diff_id: Option<&Digest>,
    defaults: ImageDefaults,
    options: &CommitOptions,
    container: &record::Container,
) -> Vec<u8> {
    if !document.is_object() {
        document = json!({});
    }
    let object = document.as_object_mut().expect("invariant: made an object above");
    // Docker's notes about the container that the *base* was made in.
    for key in ["container", "container_config", "docker_version", "id", "parent", "parent_id", "author"] {
        object.remove(key);
    }
    let created = Timestamp::now().to_string();
    let mut step = json!({ "created": created, "created_by": container.spec.process.cmd.clone().unwrap_or_default().join(" ") });
    let notes = [("author", &options.author), ("comment", &options.message)];
    for (key, value) in notes.into_iter().filter_map(|(key, value)| Some((key, value.as_ref().filter(|text| !text.is_empty())?))) {
        step[key] = json!(value);
        if key == "author" {
            object.insert(key.to_owned(), json!(value));
        }
    }
    if diff_id.is_none() {
        step["empty_layer"] = json!(true);
    }
    let list = |value: Option<&Value>| value.and_then(Value::as_array).filter(|_| !options.squash).cloned().unwrap_or_default();
    let mut diff_ids = list(object.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")));
    let mut history = list(object.get("history"));
    diff_ids.extend(diff_id.map(|diff_id| json!(diff_id.as_str())));
    history.push(step);
    object.insert("created".to_owned(), json!(created));
    object.insert("config".to_owned(), serde_json::to_value(defaults).expect("invariant: an image's defaults are plain data"));
    object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    object.insert("history".to_owned(), Value::Array(history));
    serde_json::to_vec(&document).expect("invariant: a config document is JSON")
}

/// A container frozen by us, which [`end_abandoned`] lets go on when we are killed.
struct Pause {
    live: Live,
    path: PathBuf,
    /// Locked while we live.
    _mark: File,
}

impl Pause {
    /// None: it ended meanwhile.
    fn begin(roots: &Roots, view: &View) -> Result<Option<Self>> {
        let live_dir = roots.live(&view.record.id);
        let Some(live) = Live::read(&live_dir).filter(|live| live.pid.is_some()) else { return Ok(None) };
        let path = live_dir.join(PAUSE);
        let mark = File::options().write(true).create(true).truncate(false).open(&path).on("create", &path)?;
        if rustix::fs::flock(&mark, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::Conflict {
                message: format!("container {} is being committed by another command", view.record.name),
                hint: Some("wait for it, or commit without a pause (--pause=false)".to_owned()),
            });
        }
        let pause = Pause { live, path, _mark: mark };
        pause.live.cgroup.freeze()?;
        Ok(Some(pause))
    }

    fn end(self) -> Result<()> {
        Ok(self.live.cgroup.thaw()?)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // After an error on the way too; the mark goes last, so that a kill in between is noticed.
        if let Err(error) = self.live.cgroup.thaw() {
            tracing::warn!("cannot let the container go on: {error}");
            return;
        }
        drop(std::fs::remove_file(&self.path));
    }
}

/// Lets a frozen container go on whose committer died. True if that is what it was.
pub(super) fn end_abandoned(live_dir: &Path, live: &Live) -> bool {
    let path = live_dir.join(PAUSE);
    let Ok(mark) = File::open(&path) else { return false };
    if rustix::fs::flock(&mark, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    let thawed = live.cgroup.thaw().is_ok();
    if thawed {
        drop(std::fs::remove_file(&path));
    }
    thawed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> record::Container {
        let process = record::ProcessSpec {
            entrypoint: Some(vec!["/e".to_owned()]),
            cmd: Some(vec!["sh".to_owned(), "-c".to_owned()]),
            env: vec!["A=1".to_owned()],
            ..record::ProcessSpec::default()
        };
        let spec = record::ContainerSpec { process, ..record::ContainerSpec::default() };
        record::Container::new(crate::base::ContainerId::random(), "web".parse().unwrap(), spec)
    }

    #[test]
    fn instructions_go_over_the_containers_settings() {
        let with = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
            defaults(&container(), &ImageDefaults::default(), &changes).unwrap()
        };
        let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(" ");
        let plain = with(&[]);
        assert_eq!((words(&plain.entrypoint), words(&plain.cmd)), ("/e".to_owned(), "sh -c".to_owned()));
        let changed = with(&["ENTRYPOINT [\"/new\"]", "ENV A=2", "ENV B=3"]);
        assert_eq!((words(&changed.entrypoint), words(&changed.cmd), words(&changed.env)), ("/new".to_owned(), String::new(), "A=2 B=3".to_owned()));
        let both = with(&["CMD [\"x\"]", "ENTRYPOINT [\"/new\"]"]);
        assert_eq!(words(&both.cmd), "x");
        assert!(defaults(&container(), &ImageDefaults::default(), &["RUN x".to_owned()]).is_err());
    }

    #[test]
    fn the_document_keeps_what_it_does_not_know() {
        let base = br#"{"architecture":"amd64","os":"linux","x":1,"container":"c","author":"old","config":{"Cmd":["a"]},
            "rootfs":{"type":"layers","diff_ids":["sha256:a"]},"history":[{"created_by":"base"}]}"#;
        let digest = Digest::of(b"layer");
        let options = CommitOptions { author: Some("me".into()), message: Some("why".into()), ..CommitOptions::default() };
        let read = |diff_id, options: &CommitOptions| -> Value {
            serde_json::from_slice(&document(serde_json::from_slice(base).unwrap(), diff_id, ImageDefaults::default(), options, &container()))
                .unwrap()
        };
        let made = read(Some(&digest), &options);
        assert_eq!((&made["x"], &made["author"], made.get("container")), (&json!(1), &json!("me"), None));
        assert_eq!(made["rootfs"]["diff_ids"], json!(["sha256:a", digest.as_str()]));
        assert_eq!((&made["history"][1]["comment"], &made["history"][1]["created_by"]), (&json!("why"), &json!("sh -c")));
        assert_eq!(read(None, &options)["history"][1]["empty_layer"], json!(true));
        let squashed = read(Some(&digest), &CommitOptions { squash: true, ..options });
        assert_eq!((squashed["rootfs"]["diff_ids"].as_array().map(Vec::len), squashed["history"].as_array().map(Vec::len)), (Some(1), Some(1)));
    }
}
