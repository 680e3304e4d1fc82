//! What the store keeps of an image and how it is told: blobs dropped, tars made again, damage found and mended.

use super::*;
use crate::image::check::{Damage, check, forget_layer};

fn names(path: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn save_all(scratch: &Scratch, db: &Db, image: &record::Image, form: Form) -> Vec<u8> {
    let mut tar = Vec::new();
    let named = vec!["example.com/a/b:c".parse().unwrap()];
    save(&scratch.0, db, &[(named, image.clone())], &[], form, Output::Stream(&mut tar)).unwrap();
    tar
}

#[test]
fn blobs_are_dropped_and_saved_layers_are_the_original_tars() {
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let sample = two_layers();
    let config: crate::oci::ImageDocument = serde_json::from_slice(&sample.config).unwrap();
    let server = serve(sample, Faults::default());
    let image = pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap().image;
    assert_eq!(names(&scratch.0.blobs()), Vec::<String>::new());
    assert_eq!(names(&scratch.0.ingest()), Vec::<String>::new());
    assert!(!pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap().changed);

    let tar = save_all(&scratch, &db, &image, Form::Docker);
    let mut held = Vec::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let path = entry.unwrap().path().unwrap().to_string_lossy().into_owned();
        held.extend(path.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}")));
    }
    assert!(config.rootfs.diff_ids.iter().all(|diff| held.contains(diff)), "{held:?}");
    let other = Scratch::new();
    let other_db = Db::open(&other.0).unwrap();
    let loaded = load(&other.0, &other_db, &RegistryConfig::default(), &mut tar.as_slice(), None, &|_| {}).unwrap();
    assert_eq!(loaded[0].1.id, image.id);
    check_files(&other, &other_db, &loaded[0].1);
    assert_eq!(names(&other.0.blobs()), Vec::<String>::new());
}

#[test]
fn forms_of_an_archive() {
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let server = serve(two_layers(), Faults::default());
    let image = pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap().image;
    let oci = save_all(&scratch, &db, &image, Form::Oci);
    let files: Vec<String> =
        tar::Archive::new(oci.as_slice()).entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
    assert!(files.contains(&"index.json".to_owned()) && !files.contains(&"manifest.json".to_owned()), "{files:?}");
    let directory = scratch.0.data.join("saved");
    save(&scratch.0, &db, &[(Vec::new(), image.clone())], &[], Form::Dir, Output::Directory(&directory)).unwrap();
    let manifest: crate::oci::Manifest = serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    for layer in &manifest.layers {
        assert!(layer.digest.matches(&fs::read(directory.join(layer.digest.hex())).unwrap()));
    }
    assert!(directory.join("version").is_file() && directory.join(manifest.config.digest.hex()).is_file());
    assert!(save(&scratch.0, &db, &[(Vec::new(), image)], &[], Form::Dir, Output::Directory(&directory)).is_err());
}

#[test]
fn a_layer_that_is_here_on_another_base_is_not_fetched_again() {
    let big = layer_tar(&[("data", &noise(400_000))]);
    let base = |text: &[u8]| (layer_tar(&[("base", text)]), media::Compression::Gzip);
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    for (text, count) in [(b"one", 2), (b"two", 1)] {
        let faults = Faults::default();
        let asked = faults.asked.clone();
        let server = serve(sample(&[base(text), (big.clone(), media::Compression::Gzip)]), faults);
        let image = pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap().image;
        assert_eq!(asked.lock().unwrap().len(), count);
        let overlay = overlay(&scratch.0, &db, &image).unwrap();
        assert_eq!(fs::read(overlay.layers_dir.join(&overlay.lowers[0]).join("data")).unwrap(), noise(400_000));
    }
}

#[test]
fn pulls_of_images_that_share_a_blob_fetch_it_once() {
    // The same blob on different bases is a layer of its own each time: only the download can be shared.
    let big = (layer_tar(&[("data", &noise(2_000_000))]), media::Compression::Gzip);
    let faults = Faults::default();
    let asked = faults.asked.clone();
    let server = serve(sample(&[big.clone(), big.clone(), big]), faults);
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert_eq!(names(&scratch.0.layers()).len(), 3);
}

#[test]
fn damage_is_found_and_a_pull_mends_it() {
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let faults = Faults::default();
    let asked = faults.asked.clone();
    let server = serve(two_layers(), faults);
    let image = pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap().image;
    let report = check(&scratch.0, &db, false).unwrap();
    assert_eq!((report.images, report.layers, report.findings.len(), report.unverified.len()), (1, 2, 0, 0));

    let base = db.layer(&image.layers[0]).unwrap().unwrap();
    let file = scratch.0.layers().join(&base.dir).join("diff/bin/big");
    let mut bytes = fs::read(&file).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(check(&scratch.0, &db, true).unwrap().findings, []);
    let found = check(&scratch.0, &db, false).unwrap().findings;
    assert_eq!(found.iter().map(|f| f.what.clone()).collect::<Vec<_>>(), [Damage::Layer(image.layers[0].clone())]);
    let failed = save(&scratch.0, &db, &[(Vec::new(), image.clone())], &[], Form::Docker, Output::Stream(&mut std::io::sink()));
    assert!(matches!(failed, Err(Error::Damaged { .. })), "{failed:?}");

    forget_layer(&scratch.0, &db, &image.layers[0]).unwrap();
    let found = check(&scratch.0, &db, false).unwrap().findings;
    assert_eq!(found.len(), 1);
    assert!(matches!(&found[0].what, Damage::Image(id) if *id == image.id), "{found:?}");
    asked.lock().unwrap().clear();
    let again = pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap();
    assert!(again.changed);
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert_eq!(check(&scratch.0, &db, false).unwrap().findings, []);
    check_files(&scratch, &db, &again.image);

    // A directory that vanished shows to a pull by itself.
    fs::remove_dir_all(scratch.0.layers().join(&db.layer(&image.layers[1]).unwrap().unwrap().dir)).unwrap();
    assert!(pull_with(&server, &scratch, &db, &RegistryConfig::default()).unwrap().changed);
    fs::create_dir_all(scratch.0.layers().join("0123456789abcdef/diff")).unwrap();
    fs::write(scratch.0.layers().join("0123456789abcdef/diff/x"), [1; 5000]).unwrap();
    let found = check(&scratch.0, &db, true).unwrap().findings;
    assert!(matches!(found[0].what, Damage::Leftover), "{found:?}");
}

#[test]
fn an_imported_tar_is_an_image() {
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let tar = layer_tar(&[("etc/issue", b"imported")]);
    let config = |diff: &Digest| {
        serde_json::to_vec(&serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff.as_str()]}}))
            .unwrap()
    };
    let name: Reference = "imported:1".parse().unwrap();
    let settings = RegistryConfig::default();
    let image = import(&scratch.0, &db, &settings, &mut gzip(&tar).as_slice(), config, Some(&name)).unwrap();
    assert_eq!(db.image_named(&name.to_string()).unwrap(), Some(image.id.clone()));
    let lower = overlay(&scratch.0, &db, &image).unwrap();
    assert_eq!(fs::read(lower.layers_dir.join(&lower.lowers[0]).join("etc/issue")).unwrap(), b"imported");
    assert_eq!(names(&scratch.0.ingest()), Vec::<String>::new());
    for bad in [&b""[..], b"this is no tar at all, but text that is long enough to be read as the start of one"] {
        assert!(import(&scratch.0, &db, &settings, &mut &*bad, config, None).is_err());
    }
    assert_eq!(db.images().unwrap().len(), 1);
}
