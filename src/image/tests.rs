//! Images as a whole: a small registry on loopback that misbehaves on demand, archives there and back, garbage.
mod durable;
mod store;

use super::*;
use crate::oci::{Digest, media};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Data and run roots of their own, removed on drop.
struct Scratch(Roots);

impl Scratch {
    fn new() -> Self {
        let base = std::env::temp_dir().join(format!("rcon-image-{}", crate::base::random_hex(12)));
        let roots = Roots { data: base.join("data"), run: base.join("run") };
        fs::create_dir_all(&roots.data).unwrap();
        fs::create_dir_all(&roots.run).unwrap();
        Scratch(roots)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.0.data.parent().unwrap()));
    }
}

fn layer_tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image in memory.
struct Sample {
    blobs: HashMap<String, Vec<u8>>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<String>,
}

/// `tars` with the compression of each; noise makes the layers large enough to be cut.
fn sample(tars: &[(Vec<u8>, media::Compression)]) -> Sample {
    let mut blobs = HashMap::new();
    let mut layers = Vec::new();
    let mut diffs = Vec::new();
    let mut names = Vec::new();
    for (tar, compression) in tars {
        let (blob, kind) = match compression {
            media::Compression::None => (tar.clone(), media::OCI_LAYER),
            media::Compression::Gzip => (gzip(tar), media::OCI_LAYER_GZIP),
            media::Compression::Zstd => (zstd::encode_all(tar.as_slice(), 1).unwrap(), media::OCI_LAYER_ZSTD),
        };
        let digest = Digest::of(&blob).to_string();
        diffs.push(Digest::of(tar).to_string());
        layers.push(serde_json::json!({"mediaType": kind, "digest": digest, "size": blob.len()}));
        names.push(digest.clone());
        blobs.insert(digest, blob);
    }
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = serde_json::to_vec(&config).unwrap();
    let digest = Digest::of(&config).to_string();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": digest, "size": config.len()}, "layers": layers});
    blobs.insert(digest, config.clone());
    Sample { blobs, manifest: serde_json::to_vec(&manifest).unwrap(), config, layers: names }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state & 0xff) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// What the registry does wrong.
#[derive(Default)]
struct Faults {
    /// Cut the first answers to a layer after this many bytes.
    cut: Option<usize>,
    cuts_left: AtomicUsize,
    /// Ignore ranges.
    no_range: bool,
    /// Ask for a bearer token.
    token: bool,
    /// Serve other bytes for blobs.
    corrupt: bool,
    /// Digests of the layers that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<String>>>,
}

/// Serves until the test process ends.
fn serve(sample: Sample, faults: Faults) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let (seen, host) = (ranges.clone(), address.clone());
    let shared = Arc::new((sample, faults));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (shared, seen, host) = (shared.clone(), seen.clone(), host.clone());
            std::thread::spawn(move || {
                // A client that hangs up is part of the tests.
                drop(answer(stream.unwrap(), &shared.0, &shared.1, &seen, &host));
            });
        }
    });
    Server { address, ranges }
}

/// First byte asked for, and whether the good token was shown.
fn read_headers(reader: &mut impl BufRead, seen: &Mutex<Vec<String>>) -> std::io::Result<(Option<usize>, bool)> {
    let mut range = None;
    let mut authorised = false;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("range: bytes=") {
            range = value.trim().trim_end_matches('-').parse::<usize>().ok();
            seen.lock().unwrap().push(value.trim().to_owned());
        }
        authorised |= lower.starts_with("authorization: bearer good");
        if line == "\r\n" {
            return Ok((range, authorised));
        }
    }
}

fn answer(mut stream: TcpStream, sample: &Sample, faults: &Faults, seen: &Mutex<Vec<String>>, host: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (range, authorised) = read_headers(&mut reader, seen)?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        if path.starts_with("/token") {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{{\"token\":\"good\"}}")?;
            continue;
        }
        if faults.token && !authorised {
            write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\nContent-Length: 0\r\n\r\n"
            )?;
            continue;
        }
        let (body, kind) = match path.rsplit('/').next().unwrap_or_default() {
            _ if path.contains("/manifests/latest") || path.contains(Digest::of(&sample.manifest).as_str()) => {
                (Some(&sample.manifest), media::OCI_MANIFEST)
            }
            digest => (sample.blobs.get(digest), "application/octet-stream"),
        };
        let Some(body) = body else {
            write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let layer = sample.layers.iter().find(|layer| path.ends_with(layer.as_str()));
        faults.asked.lock().unwrap().extend(layer.filter(|_| request.starts_with("GET")).cloned());
        let is_layer = layer.is_some();
        let mut body = body.clone();
        if faults.corrupt && is_layer {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        let from = range.filter(|_| !faults.no_range).unwrap_or(0);
        let status = if from > 0 {
            format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", body.len() - 1, body.len())
        } else {
            "200 OK".to_owned()
        };
        let digest = Digest::of(&body);
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\r\n",
            body.len() - from
        )?;
        if request.starts_with("HEAD") {
            continue;
        }
        if let Some(cut) = faults.cut.filter(|cut| is_layer && body.len() > *cut)
            && faults.cuts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
        {
            stream.write_all(&body[from..(from + cut).min(body.len())])?;
            return stream.shutdown(std::net::Shutdown::Both);
        }
        stream.write_all(&body[from..])?;
    }
}

fn two_layers() -> Sample {
    let big = noise(3_000_000);
    sample(&[
        (layer_tar(&[("etc/hostname", b"one"), ("bin/big", &big)]), media::Compression::Gzip),
        (layer_tar(&[("etc/.wh.hostname", b""), ("etc/issue", b"two")]), media::Compression::Zstd),
    ])
}

/// Settings under which blobs are kept.
fn keeping() -> RegistryConfig {
    RegistryConfig { keep_blobs: true, ..RegistryConfig::default() }
}

fn pull_from(server: &Server, scratch: &Scratch, db: &Db) -> Result<Pulled, Error> {
    pull_with(server, scratch, db, &keeping())
}

fn pull_with(server: &Server, scratch: &Scratch, db: &Db, settings: &RegistryConfig) -> Result<Pulled, Error> {
    let reference = format!("{}/team/app:latest", server.address).parse().unwrap();
    super::pull(&scratch.0, db, settings, &reference, &"linux/amd64".parse().unwrap(), &Cancel::default(), &|_| {})
}

fn check_files(scratch: &Scratch, db: &Db, image: &record::Image) {
    let overlay = overlay(&scratch.0, db, image).unwrap();
    assert_eq!(overlay.lowers.len(), 2);
    let (top, base) = (overlay.layers_dir.join(&overlay.lowers[0]), overlay.layers_dir.join(&overlay.lowers[1]));
    assert_eq!(fs::read(base.join("bin/big")).unwrap(), noise(3_000_000));
    assert_eq!(fs::read(top.join("etc/issue")).unwrap(), b"two");
    assert!(fs::symlink_metadata(top.join("etc/hostname")).is_ok());
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    for no_range in [false, true] {
        let scratch = Scratch::new();
        let db = Db::open(&scratch.0).unwrap();
        let server =
            serve(two_layers(), Faults { cut: Some(1_200_000), cuts_left: AtomicUsize::new(1), no_range, token: true, ..Default::default() });
        let pulled = pull_from(&server, &scratch, &db).unwrap();
        assert!(pulled.changed);
        let ranges = server.ranges.lock().unwrap().clone();
        assert!(ranges.iter().any(|range| range != "0-"), "{ranges:?}");
        check_files(&scratch, &db, &pulled.image);
        assert_eq!(fs::read_dir(scratch.0.ingest()).unwrap().count(), 0);
        let again = pull_from(&server, &scratch, &db).unwrap();
        assert!(!again.changed);
        assert_eq!(again.image.id, pulled.image.id);
    }
}

#[test]
fn a_partial_file_of_a_killed_pull_is_used_and_dropped_if_damaged() {
    for damaged in [false, true] {
        let scratch = Scratch::new();
        let db = Db::open(&scratch.0).unwrap();
        let sample = two_layers();
        let digest: Digest = sample.layers[0].parse().unwrap();
        let mut part = sample.blobs[&sample.layers[0]][..1_000_000].to_vec();
        part[500_000] ^= u8::from(damaged);
        fs::create_dir_all(scratch.0.ingest()).unwrap();
        fs::write(scratch.0.ingest().join(format!("{}.partial", digest.hex())), part).unwrap();
        let server = serve(sample, Faults::default());
        let pulled = pull_from(&server, &scratch, &db).unwrap();
        check_files(&scratch, &db, &pulled.image);
        assert_eq!(server.ranges.lock().unwrap().as_slice(), ["1000000-"]);
    }
}

#[test]
fn wrong_bytes_leave_nothing_behind() {
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let server = serve(two_layers(), Faults { corrupt: true, ..Default::default() });
    let error = pull_from(&server, &scratch, &db).err().unwrap();
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
    assert!(db.images().unwrap().is_empty() && db.all_layers().unwrap().is_empty());
    assert_eq!(fs::read_dir(scratch.0.layers()).unwrap().count(), 0);
    let missing = format!("{}/team/app:none", server.address).parse().unwrap();
    let error = super::pull(&scratch.0, &db, &RegistryConfig::default(), &missing, &Platform::host(), &Cancel::default(), &|_| {}).err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[test]
fn two_pulls_at_once_share_the_work() {
    let scratch = Scratch::new();
    drop(Db::open(&scratch.0).unwrap());
    let server = serve(two_layers(), Faults::default());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let db = Db::open(&scratch.0).unwrap();
                let pulled = pull_from(&server, &scratch, &db).unwrap();
                check_files(&scratch, &db, &pulled.image);
            });
        }
    });
    assert_eq!(fs::read_dir(scratch.0.layers()).unwrap().count(), 2);
}

#[test]
fn saved_images_load_again_and_garbage_goes() {
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let server = serve(two_layers(), Faults::default());
    let pulled = pull_from(&server, &scratch, &db).unwrap();
    let name: Reference = "example.com/a/b:c".parse().unwrap();
    let mut tar = Vec::new();
    save(&scratch.0, &db, &[(vec![name.clone()], pulled.image.clone())], &[], Form::Docker, Output::Stream(&mut tar)).unwrap();
    let mut again = Vec::new();
    save(&scratch.0, &db, &[(vec![name.clone()], pulled.image.clone())], &[], Form::Docker, Output::Stream(&mut again)).unwrap();
    assert_eq!(tar, again);

    let other = Scratch::new();
    let other_db = Db::open(&other.0).unwrap();
    let loaded = load(&other.0, &other_db, &keeping(), &mut gzip(&tar).as_slice(), Some(&"linux/amd64".parse().unwrap()), &|_| {}).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].0, Some(name.clone()));
    assert_eq!((&loaded[0].1.id, &loaded[0].1.manifest_digest), (&pulled.image.id, &pulled.image.manifest_digest));
    check_files(&other, &other_db, &loaded[0].1);
    assert_eq!(other_db.image_named(&name.to_string()).unwrap(), Some(pulled.image.id.clone()));
    assert_eq!(fs::read_dir(other.0.ingest()).unwrap().count(), 0);

    let mut damaged = tar.clone();
    let at = damaged.windows(4).rposition(|w| w == [0x28, 0xb5, 0x2f, 0xfd]).unwrap() + 20;
    damaged[at] ^= 1;
    let third = Scratch::new();
    let third_db = Db::open(&third.0).unwrap();
    assert!(load(&third.0, &third_db, &keeping(), &mut damaged.as_slice(), None, &|_| {}).is_err());
    assert!(load(&third.0, &third_db, &keeping(), &mut &tar[..tar.len() / 2], None, &|_| {}).is_err());
    assert!(third_db.images().unwrap().is_empty());

    assert_eq!(collect_garbage(&other.0, &other_db, false).unwrap(), 0);
    fs::create_dir_all(other.0.layers().join("0123456789abcdef/diff")).unwrap();
    fs::write(other.0.ingest().join("left"), vec![1u8; 8192]).unwrap();
    fs::write(other.0.layers().join("stray"), "of nobody").unwrap();
    let partial = other.0.ingest().join("00.partial");
    fs::write(&partial, "to go on with").unwrap();
    other_db
        .write(true, |tx| {
            tx.delete_name(&name.to_string())?;
            tx.delete_image(&pulled.image.id)
        })
        .unwrap();
    assert!(collect_garbage(&other.0, &other_db, false).unwrap() > 3_000_000);
    assert!(partial.exists());
    assert!(collect_garbage(&other.0, &other_db, true).unwrap() > 0);
    for path in [other.0.layers(), other.0.blobs(), other.0.ingest()] {
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "{}", path.display());
    }
}

#[test]
fn a_docker_archive_is_verified_by_its_diff_ids() {
    let sample = two_layers();
    let make = |second: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, data: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, data).unwrap();
        };
        let mut base = Vec::new();
        flate2::read::GzDecoder::new(sample.blobs[&sample.layers[0]].as_slice()).read_to_end(&mut base).unwrap();
        add("one/layer.tar", &base);
        add("two/layer.tar", second);
        add(&format!("{}.json", Digest::of(&sample.config).hex()), &sample.config);
        let manifest = serde_json::json!([{"Config": format!("{}.json", Digest::of(&sample.config).hex()),
            "RepoTags": ["app:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
        add("manifest.json", &serde_json::to_vec(&manifest).unwrap());
        builder.into_inner().unwrap()
    };
    let second = zstd::decode_all(sample.blobs[&sample.layers[1]].as_slice()).unwrap();
    let scratch = Scratch::new();
    let db = Db::open(&scratch.0).unwrap();
    let loaded = load(&scratch.0, &db, &keeping(), &mut make(&second).as_slice(), None, &|_| {}).unwrap();
    assert_eq!(loaded[0].0.as_ref().map(ToString::to_string).as_deref(), Some("docker.io/library/app:1"));
    check_files(&scratch, &db, &loaded[0].1);
    let other = Scratch::new();
    let db = Db::open(&other.0).unwrap();
    let wrong = layer_tar(&[("etc/issue", b"evil")]);
    let error = load(&other.0, &db, &keeping(), &mut make(&wrong).as_slice(), None, &|_| {}).err().unwrap();
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
    assert!(db.images().unwrap().is_empty());
}

#[test]
fn damaged_bytes_are_told_as_such_whoever_meets_them_first() {
    let scratch = Scratch::new();
    super::content::prepare(&scratch.0).unwrap();
    let tar = layer_tar(&[("file", b"text")]);
    for (what, bytes) in [("a header", 0), ("a text", 512)] {
        let mut damaged = tar.clone();
        damaged[bytes] ^= 1;
        let blob = Some((Digest::of(&tar), tar.len() as u64));
        let expected = super::stream::Expected { layer: "x".to_owned(), blob, diff_id: Digest::of(&tar), limits: RegistryConfig::default().limits };
        let dir = super::content::LayerDir::new(&scratch.0).unwrap();
        let error = super::stream::unpack(damaged.as_slice(), &expected, &dir.diff()).unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{what}: {error:?}");
    }
}
