//! Reproducible builds: the same sources give the same bytes, whenever and wherever they are built.

use crate::environment::Environment;
use crate::outcome::Done;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// 21 October 2015, 07:28 UTC.
const EPOCH: i64 = 1_445_412_480;
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn write(engine: &Environment, name: &str, bytes: impl AsRef<[u8]>) {
    let path = engine.root.join("context").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn build(engine: &Environment, flags: &[&str]) -> Done {
    engine.rcon(&[&["build", "--progress", "plain"], flags, &["context"]].concat())
}

/// Answers every request within the engine's network with what `answer` makes of its path; at 127.0.0.1:8000.
fn serve(engine: &Environment, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) {
    let namespace = fs::File::open(format!("/proc/{}/ns/net", engine.host_pid())).unwrap();
    let (ready, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut line, mut rest) = (String::new(), String::new());
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            drop(reader.read_line(&mut line));
            while reader.read_line(&mut rest).is_ok_and(|count| count > 2) {}
            // The client may have what it wants already.
            drop(stream.write_all(&answer(line.split(' ').nth(1).unwrap_or_default())));
        }
    });
    wait.recv().unwrap();
}

fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A tar with one file of that time.
fn tar_of(name: &str, text: &str, time: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o640);
    header.set_uid(5);
    header.set_gid(6);
    header.set_mtime(time);
    builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// Files of a tar: their bytes, and their times.
fn files(tar: &[u8]) -> BTreeMap<String, (Vec<u8>, u64)> {
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), (bytes, entry.header().mtime().unwrap()))
    };
    tar::Archive::new(tar).entries().unwrap().map(read).collect()
}

fn blob<'f>(files: &'f BTreeMap<String, (Vec<u8>, u64)>, digest: &Value) -> &'f [u8] {
    &files[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))].0
}

/// Manifest and configuration of the one image of a layout.
fn image(files: &BTreeMap<String, (Vec<u8>, u64)>) -> (Value, Value) {
    let index: Value = serde_json::from_slice(&files["index.json"].0).unwrap();
    let manifest: Value = serde_json::from_slice(blob(files, &index["manifests"][0]["digest"])).unwrap();
    let config = serde_json::from_slice(blob(files, &manifest["config"]["digest"])).unwrap();
    (manifest, config)
}

const EVERYTHING: &str = "FROM busybox AS tools\n\
    RUN mkdir -p /out/sub && echo made > /out/sub/file && ln /out/sub/file /out/hard && ln -s sub/file /out/soft && mkfifo /out/fifo\n\
    FROM scratch AS fetched\nADD http://127.0.0.1:8000/file.bin /data/\nADD http://127.0.0.1:8000/plain /data/\n\
    FROM busybox\n\
    WORKDIR /work/deep/down\n\
    COPY file dir /copied/\nCOPY --link --chown=7:8 dir /linked\nCOPY --from=tools /out /out\nCOPY --from=fetched /data /data\nADD archive.tar.gz /unpacked\n\
    COPY <<EOF /etc/made.conf\nvalue=1\nEOF\n\
    RUN <<EOF\nset -e\nrm /bin/ash\nmkdir /new && touch /new/x\nchmod 700 /etc\nrm -rf /out/sub && mkdir -p /out/sub/again\nEOF\n\
    RUN --mount=type=bind,source=dir,target=/mnt/here --mount=type=cache,target=/var/cache/it --mount=type=tmpfs,target=/scratch cp -r /mnt/here /kept\n\
    RUN --mount=type=secret,id=key,target=/etc/deep/key cat /etc/deep/key > /dev/null && echo done > /done\n\
    RUN true\n\
    ENV A=b\nCMD [\"sh\"]\n";

/// An engine with that context, made in an order of its own.
fn engine(order: bool) -> Environment {
    let engine = Environment::new();
    write(&engine, "Dockerfile", EVERYTHING);
    let mut names = ["dir/a", "dir/b", "dir/c", "file"];
    if order {
        names.reverse();
    }
    for name in names {
        write(&engine, name, name);
    }
    fs::hard_link(engine.root.join("context/dir/a"), engine.root.join("context/dir/z")).unwrap();
    fs::set_permissions(engine.root.join("context/dir/b"), fs::Permissions::from_mode(0o4711)).unwrap();
    write(&engine, "key", "hidden");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar_of("inner/file", "packed", 7)).unwrap();
    write(&engine, "archive.tar.gz", packed.finish().unwrap());
    serve(&engine, |path| {
        let headers = if path == "/plain" { String::new() } else { format!("Last-Modified: {MODIFIED}\r\n") };
        answer(&headers, path.as_bytes())
    });
    engine
}

#[test]
fn the_same_sources_give_the_same_archive() {
    let flags = ["--no-cache", "-t", "made:1", "--secret", "id=key,src=context/key", "--build-arg", "SOURCE_DATE_EPOCH=1445412480"];
    let outputs = ["-o", "type=oci,dest=oci.tar,rewrite-timestamp=true", "-o", "type=docker,dest=docker.tar,rewrite-timestamp=true,compression=zstd"];
    let made = |order| {
        let engine = engine(order);
        build(&engine, &[&flags[..], &outputs, &["--metadata-file", "meta.json", "-o", "type=tar,dest=files.tar"]].concat()).ok();
        let read = |name: &str| fs::read(engine.root.join(name)).unwrap();
        let meta: Value = serde_json::from_slice(&read("meta.json")).unwrap();
        // Nothing of an image that is only written somewhere is in the store.
        assert_eq!(engine.rcon(&["images", "-aq"]).ok().lines().count(), 1, "busybox alone");
        (read("oci.tar"), read("docker.tar"), read("files.tar"), meta["containerimage.digest"].as_str().unwrap().to_owned())
    };
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let one = made(false);
    // In another second: what takes the present time shows.
    crate::outcome::eventually("another second", || {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() > began + 1
    });
    let two = made(true);
    assert_eq!(one.3, two.3, "the digest of the manifest");
    assert!(one.0 == two.0 && one.1 == two.1 && one.2 == two.2, "oci {} docker {} files {}", one.0 == two.0, one.1 == two.1, one.2 == two.2);
    let archive = files(&one.0);
    let (manifest, config) = image(&archive);
    assert_eq!(config["created"], "2015-10-21T07:28:00Z");
    let base = config["history"].as_array().unwrap().iter().filter(|step| step["comment"] != "buildkit.dockerfile.v0").count();
    assert!(config["history"].as_array().unwrap()[base..].iter().all(|step| step["created"] == "2015-10-21T07:28:00Z"), "{config}");
    let index: Value = serde_json::from_slice(&archive["index.json"].0).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.created"], "2015-10-21T07:28:00Z");
    let layers = manifest["layers"].as_array().unwrap();
    let mut seen = BTreeMap::new();
    for layer in &layers[1..] {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(blob(&archive, &layer["digest"])).read_to_end(&mut tar).unwrap();
        seen.extend(files(&tar).into_iter().map(|(name, (_, time))| (name, time)));
    }
    assert!(seen.values().all(|time| *time <= EPOCH as u64), "{seen:?}");
    // What is older keeps its time: an entry of an archive, a file of a server.
    assert_eq!((seen["unpacked/inner/file"], seen["data/file.bin"], seen["data/plain"]), (7, 784_111_777, 0));
    for stray in ["mnt/", "mnt/here/", "var/cache/it/", "scratch/", "etc/deep/", "etc/resolv.conf", "etc/hosts", "dev/", "proc/", "sys/", "run/"] {
        assert!(!seen.contains_key(stray), "{stray}: {seen:?}");
    }
    let all = files(&one.2);
    assert!(all.len() > 20 && all.values().all(|(_, time)| *time == EPOCH as u64), "all files of a tar have the one time");
}

#[test]
fn an_epoch_leaves_the_cache_and_the_base_alone() {
    let engine = Environment::new();
    write(&engine, "Dockerfile", "FROM busybox\nRUN head -c 9 /dev/urandom > /random\nCOPY file /\n");
    write(&engine, "file", "x");
    let made = |epoch: &str, name: &str| {
        let output = format!("type=oci,dest={name},rewrite-timestamp=true,compression=uncompressed");
        let done = build(&engine, &["--build-arg", &format!("SOURCE_DATE_EPOCH={epoch}"), "-o", &output]);
        assert_eq!(done.code, 0, "{}", done.err);
        let archive = files(&fs::read(engine.root.join(name)).unwrap());
        let (manifest, config) = image(&archive);
        let layers: Vec<Vec<u8>> = manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&archive, &layer["digest"]).to_vec()).collect();
        (done.err.matches(" CACHED").count(), layers, config)
    };
    let (_, first, config) = made("0", "one.tar");
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let (cached, second, _) = made("1000", "two.tar");
    assert_eq!(cached, 2, "time is no input of a step");
    assert_eq!(first[0], second[0], "the base stays");
    let (one, two) = (files(&first[1]), files(&second[1]));
    assert_eq!((&one["random"].0, one["random"].1, two["random"].1), (&two["random"].0, 0, 1000));
    let third = made("0", "three.tar");
    assert_eq!((third.0, &third.1), (2, &first), "and the same epoch is the same again");
    // In the store, too, and it runs.
    build(&engine, &["--build-arg", "SOURCE_DATE_EPOCH=5", "-o", "type=image,rewrite-timestamp=true", "-t", "kept"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "--network", "none", "kept", "stat", "-c", "%Y", "/random", "/file"]).ok(), "5\n5");
    engine.rcon(&["system", "check"]).ok();
}

#[test]
fn the_epoch_comes_from_where_it_is_said() {
    let engine = Environment::new();
    write(&engine, "Dockerfile", "ARG SOURCE_DATE_EPOCH=1000\nFROM busybox\nARG SOURCE_DATE_EPOCH\nRUN echo \"$SOURCE_DATE_EPOCH\" > /seen\n");
    let created = || engine.rcon(&["image", "inspect", "-f", "{{.Created}}", "made"]).ok();
    let seen = || engine.rcon(&["run", "--rm", "--network", "none", "made", "cat", "/seen"]).ok();
    build(&engine, &["-t", "made"]).ok();
    assert_eq!((created().as_str(), seen().as_str()), ("1970-01-01T00:16:40Z", "1000"));
    let mut command = engine.command(&["build", "-q", "-t", "made", "context"]);
    assert!(command.env("SOURCE_DATE_EPOCH", "2000").output().unwrap().status.success());
    assert_eq!((created().as_str(), seen().as_str()), ("1970-01-01T00:33:20Z", "2000"));
    let mut command = engine.command(&["build", "-q", "-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=3000", "context"]);
    assert!(command.env("SOURCE_DATE_EPOCH", "2000").output().unwrap().status.success());
    assert_eq!((created().as_str(), seen().as_str()), ("1970-01-01T00:50:00Z", "3000"));
    // Nothing: a local directory has no time of its own.
    build(&engine, &["-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=context"]).ok();
    assert!(!created().starts_with("1970") && seen().is_empty());
    build(&engine, &["--build-arg", "SOURCE_DATE_EPOCH=tomorrow"]).fails(1, "SOURCE_DATE_EPOCH=tomorrow: expected seconds since 1970");
    build(&engine, &["-o", "type=oci,dest=x,rewrite-timestamp=true", "--build-arg", "SOURCE_DATE_EPOCH="])
        .fails(1, "rewrite-timestamp=true needs SOURCE_DATE_EPOCH");
}

#[test]
fn the_epoch_may_be_a_sources_time() {
    let engine = Environment::new();
    let dockerfile = "FROM scratch AS remote\nADD http://127.0.0.1:8000/dated /\nFROM scratch AS files\nCOPY Dockerfile /\nFROM scratch\nLABEL a=b\n";
    let archive = tar_of("Dockerfile", dockerfile, 4000);
    write(&engine, "Dockerfile", dockerfile);
    let body = archive.clone();
    serve(&engine, move |path| match path {
        "/dated" => answer(&format!("Last-Modified: {MODIFIED}\r\n"), b"x"),
        "/dated.tar" => answer(&format!("Last-Modified: {MODIFIED}\r\n"), &body),
        _ => answer("", &body),
    });
    let created = || engine.rcon(&["image", "inspect", "-f", "{{.Created}}", "made"]).ok();
    let argument = |name: &str| format!("SOURCE_DATE_EPOCH={name}");
    let flags = |name: &str| ["build".to_owned(), "-q".to_owned(), "-t".to_owned(), "made".to_owned(), "--build-arg".to_owned(), argument(name)];
    let run = |name: &str, rest: &[&str]| {
        let flags = flags(name);
        let words: Vec<&str> = flags.iter().map(String::as_str).chain(rest.iter().copied()).collect();
        engine.rcon(&words)
    };
    run("context", &["http://127.0.0.1:8000/dated.tar"]).ok();
    assert_eq!(created(), "1994-11-06T08:49:37Z", "Last-Modified");
    run("context", &["http://127.0.0.1:8000/undated.tar"]).ok();
    assert_eq!(created(), "1970-01-01T01:06:40Z", "the newest entry");
    run("remote", &["context"]).ok();
    assert_eq!(created(), "1994-11-06T08:49:37Z", "what a stage adds");
    run("other", &["--build-context", "other=http://127.0.0.1:8000/undated.tar", "context"]).ok();
    assert_eq!(created(), "1970-01-01T01:06:40Z", "a named context");
    run("files", &["context"]).fails(1, "SOURCE_DATE_EPOCH=files: only a stage FROM scratch with a single ADD");
    let piped = engine.rcon_with_input(&["build", "-q", "-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=context", "-"], &archive);
    assert_eq!((piped.code, created().as_str()), (0, "1970-01-01T01:06:40Z"), "{}", piped.err);
}

#[test]
fn files_that_are_written_have_the_epoch() {
    let engine = Environment::new();
    write(&engine, "Dockerfile", "FROM scratch\nCOPY dir /dir\n");
    write(&engine, "dir/file", "x");
    build(&engine, &["--build-arg", "SOURCE_DATE_EPOCH=1445412480", "-o", "out"]).ok();
    let time = |name: &str| fs::metadata(Path::new(&engine.root).join(name)).unwrap().mtime();
    assert_eq!((time("out/dir"), time("out/dir/file")), (EPOCH, EPOCH));
}
