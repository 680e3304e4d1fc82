//! The use cases against a real database and real files, without a running container.
mod build_cache;

use super::*;
use crate::base::{ContainerId, ErrorKind, Roots};
use crate::state::Db;
use record::{Container, ContainerSpec, Image, Layer, Mount, MountKind, Phase};
use std::path::PathBuf;

struct Bed {
    dir: PathBuf,
    engine: Engine,
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Bed {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("rcon-engine-{}", crate::base::random_hex(12)));
        let roots = Roots { data: dir.join("data"), run: dir.join("run") };
        let privilege = Privilege { roots, rootful: true };
        let db = Db::open(&privilege.roots).unwrap();
        Bed {
            dir,
            engine: Engine {
                privilege,
                db,
                registry: RegistryConfig::default(),
                defaults: Defaults::default(),
                id_pool: Vec::new(),
                cni: CniSettings::default(),
                notify_socket: None,
                cancel: crate::base::Cancel::default(),
                cache_policy: CachePolicy::default(),
            },
        }
    }

    fn roots(&self) -> &Roots {
        &self.engine.privilege.roots
    }

    /// An image of one layer per given directory name; names are tags or digests.
    fn image(&self, number: u8, layers: &[&str], names: &[&str]) -> String {
        let id = format!("sha256:{:064x}", u64::from(number) << 4);
        let image = Image {
            id: id.clone(),
            config: br#"{"architecture":"amd64","os":"linux","config":{"Labels":{"a":"1"}},"rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
            manifest_digest: None,
            manifest: None,
            manifest_type: None,
            layers: layers.iter().map(|l| format!("chain-{l}")).collect(),
            size: 100,
            created: Timestamp::from_nanos(i64::from(number) * 1_000_000_000),
            pulled: Timestamp::now(),
        };
        self.engine
            .db
            .write(false, |tx| {
                for name in layers {
                    let dir = self.roots().layers().join(name).join("diff");
                    std::fs::create_dir_all(dir).unwrap();
                    tx.put_layer(&Layer {
                        chain_id: format!("chain-{name}"),
                        diff_id: format!("sha256:{name}"),
                        blob: None,
                        blob_size: 0,
                        media_type: String::new(),
                        dir: (*name).to_owned(),
                        size: 1,
                        tar_size: 0,
                    })?;
                }
                tx.put_image(&image)?;
                for name in names {
                    tx.put_name(&name.parse::<Reference>().unwrap().to_string(), &id)?;
                }
                Ok::<_, crate::state::Error>(())
            })
            .unwrap();
        id
    }

    fn container(&self, name: &str, number: i64, image_id: &str, change: impl FnOnce(&mut Container)) -> ContainerId {
        let mut container = Self::record(name, number, image_id);
        change(&mut container);
        let dir = self.roots().container(&container.id);
        std::fs::create_dir_all(dir.join("upper")).unwrap();
        std::fs::create_dir_all(dir.join("work")).unwrap();
        self.engine.db.write(false, |tx| tx.insert_container(&container)).unwrap();
        container.id
    }

    /// An exited container, `number` seconds old in 1970.
    fn record(name: &str, number: i64, image_id: &str) -> Container {
        let spec = ContainerSpec { version: 1, image: "busybox".to_owned(), image_id: image_id.to_owned(), ..ContainerSpec::default() };
        Container {
            created: Timestamp::from_nanos(number * 1_000_000_000),
            phase: Phase::Exited,
            started: Timestamp::from_nanos(1),
            finished: Timestamp::from_nanos(2),
            ..Container::new(ContainerId::random(), name.parse().unwrap(), spec)
        }
    }

    fn names(&self, all: bool, pairs: &[(&str, &str)]) -> Vec<String> {
        self.engine.list(all, &filters(pairs)).unwrap().iter().map(|v| v.record.name.to_string()).collect()
    }
}

fn filters(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn containers_are_listed_by_dockers_filters() {
    let bed = Bed::new();
    let base = bed.image(1, &["l1"], &["busybox"]);
    let built = bed.image(2, &["l1", "l2"], &["app:1"]);
    bed.container("web-1", 1, &base, |c| {
        c.spec.labels.insert("tier".to_owned(), "front".to_owned());
        c.spec.exposed = vec!["80/tcp".to_owned()];
    });
    bed.container("db-1", 2, &built, |c| {
        c.exit_code = 3;
        c.spec.image = "app:1".to_owned();
    });
    bed.container("new-1", 3, &base, |c| {
        c.phase = Phase::Created;
        c.started = Timestamp::NEVER;
    });
    assert!(bed.names(false, &[]).is_empty());
    assert_eq!(bed.names(true, &[]), ["new-1", "db-1", "web-1"]);
    for (pairs, expected) in [
        (&[("name", "^/?db")][..], &["db-1"][..]),
        (&[("name", "web"), ("name", "db")], &["db-1", "web-1"]),
        (&[("status", "created")], &["new-1"]),
        (&[("status", "exited"), ("label", "tier=front")], &["web-1"]),
        (&[("exited", "3")], &["db-1"]),
        (&[("exited", "0")], &["web-1"]),
        (&[("before", "new-1"), ("since", "web-1")], &["db-1"]),
        (&[("ancestor", "busybox")], &["new-1", "db-1", "web-1"]),
        (&[("ancestor", "app:1")], &["db-1"]),
        (&[("ancestor", "missing")], &[]),
        (&[("expose", "70-90")], &["web-1"]),
        (&[("health", "healthy")], &[]),
        (&[("network", "host")], &[]),
    ] {
        assert_eq!(bed.names(true, pairs), expected, "{pairs:?}");
    }
    for wrong in [("colour", "red"), ("status", "odd"), ("name", "("), ("exited", "x")] {
        assert_eq!(bed.engine.list(true, &filters(&[wrong])).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    assert_eq!(bed.engine.list(true, &filters(&[("since", "missing")])).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn images_are_found_tagged_and_removed_by_dockers_rules() {
    let bed = Bed::new();
    let engine = &bed.engine;
    let used = bed.image(1, &["l1"], &["busybox"]);
    let free = bed.image(2, &["l2"], &["app:1", "app:2", "other:1"]);
    bed.image(3, &["l3"], &[]);
    bed.container("user-1", 1, &used, |_| ());
    assert_eq!(engine.image("busybox:latest").unwrap().image.id, used);
    assert_eq!(engine.image(&free).unwrap().tags.len(), 3);
    assert_eq!(engine.image("0000").unwrap_err().to_string(), "image id prefix \"0000\" is ambiguous");
    assert_eq!(engine.images(&filters(&[("dangling", "true")])).unwrap().len(), 1);
    assert_eq!(engine.images(&filters(&[("reference", "app*")])).unwrap()[0].tags.len(), 2);
    assert_eq!(engine.images(&filters(&[("label", "a=1"), ("before", "app:1")])).unwrap().len(), 1);
    assert_eq!(engine.inspect_image("busybox").unwrap()["RepoTags"], serde_json::json!(["busybox:latest"]));
    // By tag: only the name goes while there are others.
    let removed = engine.remove_image("app:1", false).unwrap();
    assert_eq!((removed.untagged, removed.deleted.len()), (vec!["Untagged: app:1".to_owned()], 0));
    // By id with two repositories: force.
    assert_eq!(engine.remove_image(&free, false).err().map(|e| e.kind()), Some(ErrorKind::Conflict));
    let removed = engine.remove_image(&free, true).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (2, vec![format!("Deleted: {free}")]));
    assert!(!bed.roots().layers().join("l2").exists(), "its layer went with it");
    // The last tag of a used image: refused, with force only untagged.
    let refused = engine.remove_image("busybox", false).err().map(|e| e.to_string()).unwrap();
    assert!(refused.contains("must force") && refused.contains("container"), "{refused}");
    assert!(engine.remove_image("busybox", true).unwrap().deleted.is_empty());
    assert!(engine.image(&used).unwrap().tags.is_empty());
    engine.tag(&used, "back:1").unwrap();
    assert_eq!(engine.image("back:1").unwrap().image.id, used);
    assert_eq!(engine.tag(&used, "back@sha256:00").unwrap_err().kind(), ErrorKind::Invalid);
    // Prune: the dangling one; with all, nothing that a container uses.
    assert_eq!(engine.prune_images(false, &[]).unwrap().deleted.len(), 1);
    assert!(engine.prune_images(true, &[]).unwrap().deleted.is_empty());
}

#[test]
fn an_image_that_cannot_be_read_is_not_taken_for_one_without_labels() {
    let bed = Bed::new();
    let (fine, damaged) = (bed.image(1, &["a"], &["fine"]), bed.image(2, &["b"], &["damaged"]));
    let mut image = bed.engine.db.image(&damaged).unwrap().unwrap();
    image.config = b"{".to_vec();
    bed.engine.db.write(false, |tx| tx.put_image(&image)).unwrap();
    let listed =
        |pairs: &[(&str, &str)]| -> Vec<String> { bed.engine.images(&filters(pairs)).unwrap().into_iter().map(|view| view.image.id).collect() };
    assert_eq!(listed(&[]), [damaged.clone(), fine.clone()]);
    assert_eq!(listed(&[("label", "a=1")]), std::slice::from_ref(&fine));
    assert_eq!(listed(&[("label!", "keep")]), [fine]);
    // What says that it may go only for want of a label stays.
    bed.engine.prune_images(true, &filters(&[("label!", "keep")])).unwrap();
    assert_eq!(listed(&[]), [damaged]);
    for told in [bed.engine.inspect_image("damaged").map(drop), bed.engine.history("damaged").map(drop)] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("read the config of image"), "{told}");
    }
}

#[test]
fn volumes_live_from_create_to_prune() {
    use std::os::unix::fs::MetadataExt;
    let bed = Bed::new();
    let engine = &bed.engine;
    let image = bed.image(1, &["l1"], &[]);
    let labels = [("k".to_owned(), "v".to_owned())];
    let named = engine.create_volume(Some("data"), &labels, &[]).unwrap();
    assert_eq!(engine.create_volume(Some("data"), &[], &[]).unwrap(), named, "the same name is success");
    let anonymous = engine.create_volume(None, &[], &[]).unwrap();
    assert_eq!(anonymous.name.as_str().len(), 64);
    assert!(engine.create_volume(Some("a/b"), &[], &[]).is_err());
    let path = engine.volume_mountpoint(&named.name);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
    assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o701);
    assert_eq!(engine.inspect_volume("data").unwrap()["Mountpoint"], serde_json::json!(path.to_string_lossy()));
    let id = bed.container("user-1", 1, &image, |c| {
        c.spec.mounts.push(volume_mount("data", false));
    });
    let refused = engine.remove_volume("data", true).unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains(id.as_str()), "{refused}");
    assert_eq!(engine.volumes(&filters(&[("dangling", "true")])).unwrap(), std::slice::from_ref(&anonymous));
    assert_eq!(engine.volumes(&filters(&[("name", "at"), ("label", "k=v")])).unwrap().len(), 1);
    std::fs::write(engine.volume_mountpoint(&anonymous.name).join("f"), vec![0; 500]).unwrap();
    engine.create_volume(Some("spare"), &[], &[]).unwrap();
    let pruned = engine.prune_volumes(false, &[]).unwrap();
    assert_eq!((pruned.deleted, pruned.reclaimed), (vec![anonymous.name.to_string()], 500));
    assert_eq!(engine.prune_volumes(true, &[]).unwrap().deleted, ["spare"]);
    assert!(engine.remove_volume("spare", true).is_ok());
    assert_eq!(engine.remove_volume("spare", false).unwrap_err().kind(), ErrorKind::NotFound);
}

fn volume_mount(name: &str, read_only: bool) -> Mount {
    Mount {
        destination: format!("/mnt/{name}").into(),
        kind: MountKind::Volume { name: name.parse().unwrap(), anonymous: false, no_copy: false, subpath: None },
        read_only,
        mode: String::new(),
        propagation: String::new(),
        options: record::MountOptions::default(),
    }
}

#[test]
fn cp_sees_layers_upper_and_volumes_of_a_stopped_container() {
    let bed = Bed::new();
    let engine = &bed.engine;
    let image = bed.image(1, &["l1"], &[]);
    let layer = bed.roots().layers().join("l1/diff");
    std::fs::create_dir_all(layer.join("etc")).unwrap();
    std::fs::write(layer.join("etc/motd"), "from the image").unwrap();
    std::os::unix::fs::symlink("/mnt/data", layer.join("link")).unwrap();
    let volume = engine.create_volume(Some("data"), &[], &[]).unwrap();
    engine.create_volume(Some("fixed"), &[], &[]).unwrap();
    let id = bed.container("box", 1, &image, |c| c.spec.mounts = vec![volume_mount("data", false), volume_mount("fixed", true)]);
    let (from, to) = (bed.dir.join("from"), bed.dir.join("to"));
    std::fs::write(&from, "new").unwrap();
    let inside = |path: &'static str| CopyPath::Container { container: "box", path: path.as_bytes() };
    // Out of the image, into the upper, through a link into a volume, and back.
    engine.copy(inside("/etc/motd"), CopyPath::Host(&to), false, false).unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "from the image");
    engine.copy(CopyPath::Host(&from), inside("/etc/motd"), false, false).unwrap();
    assert_eq!(std::fs::read_to_string(bed.roots().container(&id).join("upper/etc/motd")).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(layer.join("etc/motd")).unwrap(), "from the image");
    engine.copy(CopyPath::Host(&from), inside("/link/file"), false, false).unwrap();
    assert_eq!(std::fs::read_to_string(engine.volume_mountpoint(&volume.name).join("file")).unwrap(), "new");
    let mut archive = Vec::new();
    engine.copy_out("box", b"/mnt/data", false, &mut archive).unwrap();
    let names: Vec<String> =
        tar::Archive::new(&archive[..]).entries().unwrap().map(|e| String::from_utf8_lossy(&e.unwrap().path_bytes()).into_owned()).collect();
    assert_eq!(names, ["data/", "data/file"]);
    engine.copy_in("box", b"/etc", &mut &archive[..], true).unwrap();
    assert!(bed.roots().container(&id).join("upper/etc/data/file").exists());
    // What must be refused.
    let refused = |r: Result<()>| r.unwrap_err().kind();
    assert_eq!(refused(engine.copy(CopyPath::Host(&from), inside("/mnt/fixed/file"), false, false)), ErrorKind::Forbidden);
    assert_eq!(refused(engine.copy(inside("/missing"), CopyPath::Host(&to), false, false)), ErrorKind::NotFound);
    assert_eq!(refused(engine.copy_in("box", b"/etc/motd", &mut &archive[..], true)), ErrorKind::Conflict);
    assert_eq!(refused(engine.copy(CopyPath::Host(&from), CopyPath::Host(&to), false, false)), ErrorKind::Invalid);
}

#[test]
fn a_thousand_containers_are_listed() {
    let bed = Bed::new();
    let image = bed.image(1, &["l1"], &["busybox"]);
    let insert = |tx: &crate::state::Tx<'_>| (0..1000).try_for_each(|n| tx.insert_container(&Bed::record(&format!("c-{n}"), n, &image)));
    bed.engine.db.write(false, insert).unwrap();
    assert_eq!(bed.names(true, &[("name", "c-"), ("ancestor", "busybox")]).len(), 1000);
}
