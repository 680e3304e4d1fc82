//! Records, leases and migrations against real files.
use super::record::*;
use super::*;
use crate::base::{ContainerName, ErrorKind, Timestamp};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

struct Place(Roots);

impl Place {
    fn new() -> Self {
        let base = std::env::temp_dir().join(format!("rcon-state-{}", crate::base::random_hex(12)));
        Place(Roots { data: base.join("data"), run: base.join("run") })
    }
    fn db(&self) -> Db {
        Db::open(&self.0).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.data.parent().unwrap()).unwrap();
    }
}

#[test]
fn secrets_have_one_name_each_and_go_by_id() {
    let place = Place::new();
    let db = place.db();
    let secret = |id: &str, name: &str| secret::Secret { id: id.to_owned(), name: name.to_owned(), ..secret::Secret::default() };
    let insert = |secret: &secret::Secret, data: &[u8]| db.write(true, |tx| tx.insert_secret(secret, data)).unwrap();
    assert!(insert(&secret("1", "a"), b"one"));
    assert!(!insert(&secret("2", "a"), b"two"), "the name is taken");
    assert!(insert(&secret("3", "b"), b"\0\xff"));
    assert_eq!(db.secrets().unwrap().iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!((db.secret_data("1").unwrap(), db.secret_data("2").unwrap()), (Some(b"one".to_vec()), None));
    assert!(db.write(true, |tx| tx.delete_secret("1")).unwrap());
    assert!(!db.write(true, |tx| tx.delete_secret("1")).unwrap());
    assert_eq!(place.db().secrets().unwrap().len(), 1);
}

fn container(name: &str) -> Container {
    Container::new(ContainerId::random(), name.parse().unwrap(), ContainerSpec::default())
}

fn volume(name: &str) -> Volume {
    Volume {
        name: name.parse().unwrap(),
        created: Timestamp::now(),
        driver: "local".to_owned(),
        labels: Default::default(),
        options: Default::default(),
        anonymous: false,
    }
}

fn mounting(name: &str, volume: &str) -> Container {
    let mut made = container(name);
    made.spec.mounts.push(Mount {
        destination: "/data".into(),
        kind: MountKind::Volume { name: volume.parse().unwrap(), anonymous: false, no_copy: false, subpath: None },
        read_only: false,
        mode: String::new(),
        propagation: String::new(),
        options: crate::state::record::MountOptions::default(),
    });
    made
}

fn network(prefix: u8) -> Network {
    let gateway = Some(Ipv4Addr::new(172, 30, 0, 1).into());
    let pool = Pool { subnet: Ipv4Addr::new(172, 30, 0, 0).into(), prefix, gateway, range: None, auxiliary: BTreeMap::new() };
    Network { id: "n".to_owned(), device: "rcon0".to_owned(), pools: vec![pool], ..Network::new("bridge", Driver::Bridge, BTreeMap::new()) }
}

fn insert(db: &Db, made: &Container) -> Result<(), Error> {
    db.write(false, |tx| tx.insert_container(made))
}

#[test]
fn containers_round_trip_and_are_found() {
    let place = Place::new();
    let db = place.db();
    let mut made = container("web");
    insert(&db, &made).unwrap();
    assert_eq!(db.container(&made.id).unwrap().as_ref(), Some(&made));
    made.phase = Phase::Exited;
    made.exit_code = 3;
    db.write(true, |tx| tx.update_container(&made)).unwrap();
    let other: ContainerName = "api".parse().unwrap();
    db.write(false, |tx| tx.rename_container(&made.id, &other)).unwrap();
    made.name = other;
    for text in [made.id.as_str(), "api", made.id.short(), &made.id.as_str()[..1]] {
        assert_eq!(db.find_container(text).unwrap().as_ref(), Some(&made), "{text}");
    }
    for text in ["", "web", "zz", "API"] {
        assert_eq!(db.find_container(text).unwrap(), None, "{text}");
    }
    db.write(false, |tx| tx.delete_container(&made.id)).unwrap();
    assert!(db.containers().unwrap().is_empty());
    let gone = db.write(false, |tx| tx.update_container(&made)).unwrap_err();
    assert!(matches!(gone, Error::ContainerMissing { .. }));
}

#[test]
fn an_ambiguous_prefix_is_an_error_but_a_name_wins() {
    let place = Place::new();
    let db = place.db();
    for (first, name) in [("a", "one"), ("a", "two"), ("b", "ab")] {
        let mut made = container(name);
        made.id = format!("{first}{}", &made.id.as_str()[1..]).parse().unwrap();
        insert(&db, &made).unwrap();
    }
    assert!(matches!(db.find_container("a"), Err(Error::Ambiguous { fits, .. }) if fits.len() == 2));
    assert_eq!(db.find_container("ab").unwrap().unwrap().name.as_str(), "ab");
}

#[test]
fn twenty_threads_race_for_one_name_and_a_new_database() {
    let place = Place::new();
    let wins: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let db = place.db();
                    match insert(&db, &container("same")) {
                        Ok(()) => 1,
                        Err(Error::NameTaken { name, .. }) if name == "same" => 0,
                        Err(other) => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    assert_eq!(place.db().containers().unwrap().len(), 1);
}

#[test]
fn a_failed_transaction_changes_nothing() {
    let place = Place::new();
    let db = place.db();
    let net = network(24);
    let made = container("web");
    let failed: Result<(), Error> = db.write(true, |tx| {
        tx.insert_container(&made)?;
        tx.lease_endpoint(&net, &made.id, Addresses::default(), true)?;
        Err(Error::NetworkFull { network: "x".to_owned() })
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(db.containers().unwrap().is_empty());
    insert(&db, &made).unwrap();
}

fn v4(last: u8) -> Addresses {
    Addresses { ipv4: Some(Ipv4Addr::new(172, 30, 0, last)), ipv6: None }
}

#[test]
fn addresses_are_lowest_first_and_run_out() {
    let place = Place::new();
    let db = place.db();
    let net = network(29);
    let ids: Vec<ContainerId> = (0..6).map(|_| ContainerId::random()).collect();
    let lease = |id: &ContainerId| db.write(false, |tx| tx.lease_endpoint(&net, id, Addresses::default(), true));
    for (id, last) in ids.iter().zip(2..7) {
        assert_eq!(lease(id).unwrap(), v4(last));
    }
    assert_eq!(lease(&ids[0]).unwrap(), v4(2));
    assert!(matches!(lease(&ids[5]), Err(Error::NetworkFull { network }) if network == "bridge"));
    db.write(false, |tx| tx.release_leases(&ids[2])).unwrap();
    assert_eq!(lease(&ids[5]).unwrap(), v4(4));
}

#[test]
fn ports_conflict_as_sockets_do() {
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let table = [
        (None, ip("127.0.0.1"), true),
        (ip("0.0.0.0"), ip("10.0.0.1"), true),
        (ip("10.0.0.1"), ip("10.0.0.2"), false),
        (ip("0.0.0.0"), ip("::1"), false),
        (ip("::"), None, true),
        (ip("10.0.0.1"), ip("10.0.0.1"), true),
    ];
    for (first, second, taken) in table {
        let place = Place::new();
        let db = place.db();
        let port = |host_ip| PublishedPort { host_ip, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
        let (a, b) = (ContainerId::random(), ContainerId::random());
        let lease = |id: &ContainerId, port: &PublishedPort| db.write(false, |tx| tx.lease_port(id, port));
        lease(&a, &port(first)).unwrap();
        lease(&a, &port(first)).unwrap();
        let answer = lease(&b, &port(second));
        assert_eq!(matches!(&answer, Err(Error::PortTaken { holder, .. }) if *holder == a), taken, "{first:?} {second:?} {answer:?}");
        lease(&b, &PublishedPort { protocol: Protocol::Udp, ..port(second) }).unwrap();
        db.write(false, |tx| tx.lease_endpoint(&network(24), &a, Addresses::default(), true)).unwrap();
        assert_eq!(db.published().unwrap(), [Publication { owner: a.clone(), target: v4(2), port: port(first) }]);
    }
}

#[test]
fn volumes_in_use_stay() {
    let place = Place::new();
    let db = place.db();
    let made = mounting("web", "data");
    assert!(matches!(insert(&db, &made), Err(Error::VolumeMissing { name, .. }) if name == "data"));
    let data = volume("data");
    let fresh: Result<bool, Error> = db.write(false, |tx| {
        tx.insert_container(&made)?;
        tx.insert_volume(&data)
    });
    assert!(fresh.unwrap());
    assert!(!db.write(false, |tx| tx.insert_volume(&data)).unwrap());
    assert_eq!(db.volume_users(&data.name).unwrap(), std::slice::from_ref(&made.id));
    let refused = db.write(false, |tx| tx.delete_volume(&data.name)).unwrap_err();
    assert!(matches!(&refused, Error::VolumeInUse { holders, .. } if holders == std::slice::from_ref(&made.id)));
    db.write(false, |tx| tx.delete_container(&made.id)).unwrap();
    db.write(false, |tx| tx.delete_volume(&data.name)).unwrap();
    assert!(db.volumes().unwrap().is_empty());
}

#[test]
fn images_hold_their_layers_and_are_held_by_names_and_containers() {
    let place = Place::new();
    let db = place.db();
    let layer = |n: &str| Layer {
        chain_id: format!("sha256:{n}"),
        diff_id: String::new(),
        blob: None,
        blob_size: 0,
        media_type: String::new(),
        dir: n.to_owned(),
        size: 1,
        tar_size: 0,
    };
    let image = Image {
        id: "sha256:ab12".to_owned(),
        config: b"{}".to_vec(),
        manifest_digest: None,
        manifest: Some(vec![0, 255]),
        manifest_type: None,
        layers: vec!["sha256:2".to_owned(), "sha256:1".to_owned()],
        size: 2,
        created: Timestamp::now(),
        pulled: Timestamp::now(),
    };
    assert!(matches!(db.write(false, |tx| tx.put_image(&image)), Err(Error::LayerMissing { .. })));
    let done: Result<(), Error> = db.write(false, |tx| {
        for n in ["1", "2", "3"] {
            tx.put_layer(&layer(n))?;
        }
        tx.put_image(&image)?;
        tx.put_name("docker.io/library/a:1", &image.id)
    });
    done.unwrap();
    assert_eq!(db.image(&image.id).unwrap().as_ref(), Some(&image));
    assert_eq!(db.images_by_prefix("ab").unwrap(), ["sha256:ab12"]);
    assert!(db.images_by_prefix("b").unwrap().is_empty());
    assert_eq!(db.image_named("docker.io/library/a:1").unwrap().as_deref(), Some("sha256:ab12"));
    assert_eq!(db.layers(&image.layers).unwrap()[0].dir, "2");
    assert_eq!(db.write(false, |tx| tx.delete_unused_layers()).unwrap(), [layer("3")]);

    let mut made = container("web");
    made.spec.image_id = image.id.clone();
    insert(&db, &made).unwrap();
    assert!(
        matches!(db.write(false, |tx| tx.delete_image(&image.id)), Err(Error::ImageInUse { names, containers, .. }) if names.len() == 1 && containers.len() == 1)
    );
    let done: Result<(), Error> = db.write(false, |tx| {
        tx.delete_name("docker.io/library/a:1")?;
        tx.delete_container(&made.id)?;
        tx.delete_image(&image.id)
    });
    done.unwrap();
    assert!(matches!(insert(&db, &made), Err(Error::ImageMissing { .. })));
    assert_eq!(db.write(false, |tx| tx.delete_unused_layers()).unwrap().len(), 2);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new();
    let db = place.db();
    db.connection.execute_batch("PRAGMA user_version=99").unwrap();
    open::checkpoint(&db, 0).unwrap();
    drop(db);
    let before = std::fs::read(place.0.database()).unwrap();
    assert!(matches!(Db::open(&place.0), Err(Error::TooNew { found: 99, .. })));
    assert_eq!(std::fs::read(place.0.database()).unwrap(), before);
}

#[test]
fn damage_names_the_file() {
    let place = Place::new();
    let db = place.db();
    db.connection.execute_batch("DROP TABLE containers").unwrap();
    let error = db.containers().unwrap_err();
    assert!(error.to_string().contains("rcon.db"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("containers"));
    drop(db);
    std::fs::write(place.0.database(), b"this is not a database, not at all").unwrap();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", place.0.database().display())).unwrap();
    }
    let error = Db::open(&place.0).err().unwrap();
    assert!(error.to_string().contains("rcon.db"), "{error}");
}

#[test]
fn a_damaged_file_is_told_with_a_way_out_and_left_alone() {
    let place = Place::new();
    let db = place.db();
    for n in 0..200 {
        insert(&db, &container(&format!("c{n}"))).unwrap();
    }
    open::checkpoint(&db, 0).unwrap();
    drop(db);
    let path = place.0.database();
    let whole = std::fs::read(&path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[4096..40960].fill(0xa5);
    for damaged in [&whole[..8192], &[7; 5000][..], &scribbled] {
        std::fs::write(&path, damaged).unwrap();
        let error = Db::open(&place.0).and_then(|db| db.containers().map(drop)).err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("rcon.db") && error.hint().unwrap().contains("move both away"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
    std::fs::write(&path, b"").unwrap();
    drop(place.db());
    std::fs::create_dir_all(place.0.containers().join("x")).unwrap();
    std::fs::write(&path, b"").unwrap();
    let error = Db::open(&place.0).err().unwrap();
    assert!(matches!(error, Error::Emptied { .. }) && error.hint().is_some(), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn a_damaged_record_costs_that_record_only() {
    let place = Place::new();
    let db = place.db();
    let (good, bad) = (container("good"), container("bad"));
    insert(&db, &good).unwrap();
    insert(&db, &bad).unwrap();
    db.connection.execute("UPDATE containers SET document='{', phase='started' WHERE name='bad'", []).unwrap();
    assert_eq!(db.containers().unwrap(), [good]);
    assert!(db.active_containers().unwrap().is_empty());
    assert!(matches!(db.find_container("bad"), Err(Error::Document { .. })));
    assert_eq!(db.find_id("bad").unwrap(), Some(bad.id));
}

#[test]
fn active_containers_are_found_by_the_index() {
    let place = Place::new();
    let db = place.db();
    let mut made: Vec<Container> = [Phase::Created, Phase::Started, Phase::Exited, Phase::Removing, Phase::Restarting]
        .map(|phase| Container { phase, ..container(&format!("c{phase:?}")) })
        .into();
    made.iter().for_each(|made| insert(&db, made).unwrap());
    made.retain(|made| matches!(made.phase, Phase::Started | Phase::Removing | Phase::Restarting));
    let mut active = db.active_containers().unwrap();
    active.sort_by_key(|found| found.created);
    assert_eq!(active, made);
    let sql =
        "EXPLAIN QUERY PLAN SELECT name, document FROM containers WHERE phase IN ('started', 'removing', 'restarting') ORDER BY created DESC, id";
    let plan: String = db.connection.query_row(sql, [], |row| row.get(3)).unwrap();
    assert!(plan.contains("containers_by_phase"), "{plan}");
}

#[test]
fn the_data_root_is_private_and_the_log_is_folded_back() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let db = place.db();
    assert_eq!(std::fs::metadata(&place.0.data).unwrap().permissions().mode() & 0o777, 0o700);
    let mut made = container("web");
    insert(&db, &made).unwrap();
    made.error = "x".repeat(LARGE_WAL as usize);
    db.write(false, |tx| tx.update_container(&made)).unwrap();
    let log = || std::fs::metadata(format!("{}-wal", place.0.database().display())).unwrap().len();
    assert!(log() > LARGE_WAL);
    db.checkpoint_if_large().unwrap();
    assert_eq!(log(), 0);
    // Whoever makes it huge folds it himself when he ends.
    made.error = "y".repeat(HUGE_WAL as usize);
    place.db().write(false, |tx| tx.update_container(&made)).unwrap();
    assert_eq!(log(), 0);
    assert_eq!(place.db().container(&made.id).unwrap().unwrap(), made);
}
