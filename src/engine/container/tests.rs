//! create, name conflicts, volumes and removal on a real database and a real overlay, without starting anything.
use super::super::Engine;
use super::super::request::{CreateContainer, MountRequest, MountSource, PullPolicy, VolumesFrom};
use crate::base::{Privilege, Roots, Timestamp, random_hex};
use crate::state::record::{Image, Layer, MountKind, Phase};
use std::path::PathBuf;

struct Place {
    base: PathBuf,
    engine: Engine,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.base));
    }
}

/// An engine on fresh roots with one image `busybox` that has `/data/file` and `VOLUME /data`.
fn place() -> Place {
    let base = std::env::temp_dir().join(format!("rcon-engine-{}", random_hex(8)));
    let roots = Roots { data: base.join("data"), run: base.join("run") };
    let engine = Engine::open(Privilege { roots: roots.clone(), rootful: true }, crate::image::RegistryConfig::default()).unwrap();
    let chain = format!("sha256:{}", "a".repeat(64));
    let diff = roots.layers().join("one/diff");
    std::fs::create_dir_all(diff.join("data")).unwrap();
    std::fs::write(diff.join("data/file"), b"hello").unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"],"Env":["A=1"],"Volumes":{{"/data":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{chain}"]}}}}"#
    );
    let id = format!("sha256:{}", "b".repeat(64));
    let layer = Layer {
        chain_id: chain.clone(),
        diff_id: chain.clone(),
        blob: None,
        blob_size: 0,
        media_type: String::new(),
        dir: "one".into(),
        size: 5,
        tar_size: 0,
    };
    let image = Image {
        id: id.clone(),
        config: config.into_bytes(),
        manifest_digest: None,
        manifest: None,
        manifest_type: None,
        layers: vec![chain],
        size: 5,
        created: Timestamp::NEVER,
        pulled: Timestamp::NEVER,
    };
    engine
        .db
        .write(false, |tx| -> Result<(), crate::state::Error> {
            tx.put_layer(&layer)?;
            tx.put_image(&image)?;
            tx.put_name("docker.io/library/busybox:latest", &id)
        })
        .unwrap();
    Place { base, engine }
}

fn request(name: &str) -> CreateContainer {
    let mut request =
        CreateContainer { image: "busybox".into(), pull: PullPolicy::Never, name: Some(name.parse().unwrap()), ..CreateContainer::default() };
    request.host.network = crate::state::record::NetworkMode::None;
    request
}

#[test]
fn create_copies_up_and_remove_takes_all_back() {
    let place = place();
    let (engine, roots) = (&place.engine, &place.engine.privilege.roots);
    let created = engine.create(&request("web"), &|_| {}).unwrap().record;
    let MountKind::Volume { name, anonymous: true, .. } = &created.spec.mounts[0].kind else { panic!("{:?}", created.spec.mounts) };
    let data = roots.volumes().join(name.as_str()).join("_data");
    assert_eq!(std::fs::read(data.join("file")).unwrap(), b"hello");
    assert_eq!(engine.view("web").unwrap().record.phase, Phase::Created);
    let taken = engine.create(&request("web"), &|_| {}).err().unwrap();
    assert!(taken.to_string().contains(created.id.as_str()), "{taken}");
    // Another container refers to the anonymous volume: it outlives its maker.
    let from = VolumesFrom { container: "web".into(), read_only: true, text: "web:ro".into() };
    let mut second = request("second");
    second.volumes_from = vec![from];
    let second = engine.create(&second, &|_| {}).unwrap().record;
    assert!(second.spec.mounts[0].read_only);
    engine.remove("web", false, true).unwrap();
    assert!(data.exists());
    engine.remove("second", false, true).unwrap();
    assert!(!data.exists());
    assert!(!roots.container(&created.id).exists());
    assert!(engine.db.containers().unwrap().is_empty() && engine.db.volumes().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(roots.volumes()).unwrap().count(), 0);
}

#[test]
fn a_refused_create_leaves_nothing() {
    let place = place();
    let engine = &place.engine;
    let mut bad = request("web");
    let missing = MountSource::Bind { source: place.base.join("none"), create: false, recursive: true };
    bad.mounts = vec![MountRequest {
        destination: "/x".into(),
        source: missing,
        read_only: false,
        mode: String::new(),
        propagation: String::new(),
        options: crate::state::record::MountOptions::default(),
        bind_text: None,
    }];
    assert!(engine.create(&bad, &|_| {}).err().unwrap().to_string().contains("bind source path does not exist"));
    let mut bad = request("web");
    bad.volumes_from = vec![VolumesFrom { container: "ghost".into(), read_only: false, text: "ghost".into() }];
    assert_eq!(engine.create(&bad, &|_| {}).err().unwrap().to_string(), "no such container: ghost");
    let mut bad = request("web");
    bad.host.cap_add = vec!["NONSENSE".into()];
    assert!(engine.create(&bad, &|_| {}).is_err());
    let mut bad = request("web");
    bad.image = "nowhere".into();
    assert_eq!(engine.create(&bad, &|_| {}).err().unwrap().to_string(), "no such image: nowhere");
    assert!(engine.db.containers().unwrap().is_empty() && engine.db.volumes().unwrap().is_empty());
    let left = |path: PathBuf| std::fs::read_dir(path).map_or(0, Iterator::count);
    assert_eq!(left(engine.privilege.roots.containers()) + left(engine.privilege.roots.volumes()), 0);
}

#[test]
fn one_of_many_gets_the_name_and_a_named_volume_is_filled_once() {
    let place = place();
    let roots = place.engine.privilege.roots.clone();
    let mut wanted = request("same");
    let source = MountSource::Volume {
        name: Some("shared".parse().unwrap()),
        no_copy: false,
        subpath: None,
        labels: Default::default(),
        options: Default::default(),
    };
    wanted.mounts = vec![MountRequest {
        destination: "/data".into(),
        source,
        read_only: false,
        mode: String::new(),
        propagation: String::new(),
        options: crate::state::record::MountOptions::default(),
        bind_text: None,
    }];
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let (roots, wanted) = (roots.clone(), wanted.clone());
                scope.spawn(move || {
                    let engine = Engine::open(Privilege { roots, rootful: true }, crate::image::RegistryConfig::default()).unwrap();
                    engine.create(&wanted, &|_| {}).is_ok()
                })
            })
            .collect();
        tries.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    assert_eq!(place.engine.db.containers().unwrap().len(), 1);
    assert_eq!(std::fs::read(roots.volumes().join("shared/_data/file")).unwrap(), b"hello");
    assert_eq!(std::fs::read_dir(roots.containers()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_removal_is_finished_by_the_next_command() {
    let place = place();
    let engine = &place.engine;
    let mut record = engine.create(&request("web"), &|_| {}).unwrap().record;
    super::remove::begin_removal(&engine.db, &mut record, true).unwrap();
    engine.reconcile().unwrap();
    assert!(engine.db.containers().unwrap().is_empty() && engine.db.volumes().unwrap().is_empty());
    assert!(engine.view("web").is_err());
}

#[test]
fn the_directory_of_a_create_that_died_is_swept_and_that_of_one_under_way_is_not() {
    let place = place();
    let engine = &place.engine;
    let roots = &engine.privilege.roots;
    let kept = engine.create(&request("web"), &|_| {}).unwrap().record.id;
    let dead = crate::base::ContainerId::random();
    std::fs::create_dir_all(roots.container(&dead).join("upper")).unwrap();
    let (_lock, under_way) = engine.prepare(&request("next"), &|_| {}).unwrap();
    engine.sweep_containers().unwrap();
    assert!(!roots.container(&dead).exists());
    assert!(roots.container(&kept).exists() && roots.container(&under_way.record.id).exists());
}
