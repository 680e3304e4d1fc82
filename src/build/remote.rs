//! `ADD` of a URL or a git repository: fetched into a tree of its own, then selected like any other source.
//!
//! A file has mode 0600 and the time of `Last-Modified` (1970 without one, as in BuildKit), and its name is the server's
//! (`Content-Disposition`) or the last of the URL. What was fetched once is kept in the build area and asked for with its
//! `ETag`, so that an unchanged file costs one answer.

use super::context::{Error as ContextError, GitUrl, Temporary, redacted};
use super::transfer::{self, Selected, Selection};
use crate::base::fs::{self, Context as _, FsError};
use crate::base::held;
use crate::base::{Cancel, ErrorKind, random_hex};
use crate::image::Limits;
use crate::oci::{Algorithm, Digest, DigestHasher};
use rustix::fs::{FlockOperation, Mode, Timespec, Timestamps};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// In the build area: files that were fetched.
const DOWNLOADS: &str = crate::engine::DOWNLOADS;
const PIECE: usize = 128 << 10;
/// Longest name of a file.
const NAME_LIMIT: usize = 255;

/// Why a remote source could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ADD {url}: its digest is {actual}, and not {expected} as --checksum demands")]
    Checksum { url: String, expected: String, actual: String },
    #[error("ADD {url}: --checksum={text} is neither a digest (sha256:…) nor, for a repository, a commit")]
    NoChecksum { url: String, text: String },
    #[error("ADD {url}: the server broke off")]
    Broken {
        url: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Repository(#[from] ContextError),
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Checksum { .. } | Error::NoChecksum { .. } => ErrorKind::Invalid,
            Error::Broken { .. } => ErrorKind::Unavailable,
            Error::Repository(e) => e.kind(),
            Error::Image(e) => e.kind(),
            Error::Fs(_) => ErrorKind::Internal,
            Error::Transfer(e) => e.kind(),
        }
    }
}

/// What an ADD asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub url: &'a str,
    /// The build area of the data root.
    pub area: &'a Path,
    pub checksum: Option<&'a str>,
    pub keep_git_dir: bool,
    pub exclude: &'a [Vec<u8>],
    /// Headers of the request: `Authorization` from a secret.
    pub headers: &'a [(String, String)],
    /// How much is fetched.
    pub limits: Limits,
    pub cancel: &'a Cancel,
}

/// A fetched source; its files are there as long as it is.
#[derive(Debug)]
pub struct Fetched {
    _tree: Temporary,
    root: OwnedFd,
    source: Vec<u8>,
    exclude: Vec<Vec<u8>>,
    url: String,
    /// Of a git repository.
    pub commit: Option<String>,
    /// The commit's time, or `Last-Modified`, in seconds since 1970.
    pub time: Option<i64>,
    /// Of a file.
    pub digest: Option<Digest>,
}

/// What is remembered of a file that was fetched.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Kept {
    etag: Option<String>,
    last_modified: Option<String>,
    name: String,
    /// Name of the data beside the record.
    body: String,
    digest: Digest,
}

/// The source is fetched and not looked for in the context.
pub fn is_remote(source: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(source) else { return false };
    text.starts_with("http://") || text.starts_with("https://") || !matches!(GitUrl::parse(text, false), Ok(None))
}

/// The header that a secret named after the server holds (`HTTP_AUTH_TOKEN_host`, `HTTP_AUTH_HEADER_host`).
///
/// # Errors
/// The secret cannot be read, or is not text.
pub fn authorization(request: &super::BuildRequest, address: &str) -> super::error::Result<Vec<(String, String)>> {
    // Read as by the client: with `http://a\@b/` it asks a, and not b.
    let Some((host, port)) = crate::image::server_of_url(address) else { return Ok(Vec::new()) };
    let usual = port == (if address.starts_with("https") { 443 } else { 80 });
    let hosts = [Some(format!("{host}:{port}")), usual.then_some(host)];
    for (name, prefix) in [("HTTP_AUTH_HEADER_", ""), ("HTTP_AUTH_TOKEN_", "Bearer ")] {
        for host in hosts.iter().flatten() {
            let Some(secret) = request.secrets.get(&format!("{name}{host}")) else { continue };
            let value = String::from_utf8(secret.read()?).map_err(|_| super::error::Error::invalid(format!("secret {name}{host} is not text")))?;
            return Ok(vec![("Authorization".to_owned(), format!("{prefix}{}", value.trim()))]);
        }
    }
    Ok(Vec::new())
}

/// Fetches a URL.
///
/// # Errors
/// It cannot be fetched, or is not what `--checksum` demands.
pub fn fetch(request: &Request<'_>) -> Result<Fetched, Error> {
    let exclude = request.exclude.to_vec();
    let url = redacted(request.url);
    if let Some(mut git) = GitUrl::parse(request.url, false)? {
        if let Some(text) = request.checksum {
            if !(4..=64).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::NoChecksum { url, text: text.to_owned() });
            }
            git.checksum = Some(text.to_ascii_lowercase());
        }
        let checkout = git.checkout(request.area, git.keep_git_dir.unwrap_or(request.keep_git_dir), request.cancel)?;
        let root = checkout.open(&git)?;
        let (commit, time) = (Some(checkout.commit), checkout.time);
        return Ok(Fetched { _tree: checkout.tree, root, source: b".".to_vec(), exclude, url, commit, time, digest: None });
    }
    let wanted = request.checksum.map(|text| text.parse::<Digest>().map_err(|_| Error::NoChecksum { url: url.clone(), text: text.to_owned() }));
    let wanted = wanted.transpose()?;
    let tree = Temporary::new(request.area)?;
    let store = request.area.join(DOWNLOADS);
    fs::create_dir_all(&store, 0o700)?;
    // What is kept is not pruned while it is looked at.
    let _held = held::lock(&store, FlockOperation::LockShared)?;
    let (kept, time) = download(request, &store, wanted.as_ref(), &tree)?;
    let root = rustix::io::fcntl_dupfd_cloexec(tree.as_fd(), 3).on("open", tree.path())?;
    Ok(Fetched { _tree: tree, root, source: kept.name.into_bytes(), exclude, url, commit: None, time, digest: Some(kept.digest) })
}

impl Fetched {
    /// What was fetched: one file, or the contents of a repository.
    ///
    /// # Errors
    /// Nothing is left after `--exclude`; the tree cannot be read.
    pub fn selected(&self) -> Result<Selected, transfer::Error> {
        let sources = [self.source.clone()];
        // A name with `*` in it would be taken for a pattern: such a file is the only one there.
        let sources = if super::context::has_wildcards(&self.source) { [b"*".to_vec()] } else { sources };
        let selection =
            Selection { instruction: "ADD", place: &self.url, sources: &sources, parents: false, exclude: &self.exclude, keep_owner: false };
        transfer::select(self.root.as_fd(), None, &selection)
    }
}

/// Puts the file into the tree, from the store if the server says that it is unchanged. What is kept of it, and its time.
fn download(request: &Request<'_>, store: &Path, wanted: Option<&Digest>, tree: &Temporary) -> Result<(Kept, Option<i64>), Error> {
    let key = Digest::of(request.url.as_bytes());
    let record = store.join(format!("{}.json", key.hex()));
    let kept: Option<Kept> = std::fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let kept = kept.filter(|kept| is_name(&kept.name) && is_name(&kept.body) && store.join(&kept.body).is_file());
    // Taken before the server is asked: another build that is told of a newer file removes what is kept.
    let kept = match kept.map(|kept| (take(&store.join(&kept.body), &kept, tree), kept)) {
        Some((Err(e), _)) if e.source.kind() == std::io::ErrorKind::NotFound => None,
        Some((taken, kept)) => Some(taken.map(|()| kept)?),
        None => None,
    };
    let mut headers = request.headers.to_vec();
    if let Some(kept) = &kept {
        let conditions = [("If-None-Match", &kept.etag), ("If-Modified-Since", &kept.last_modified)];
        headers.extend(conditions.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    }
    let mut answer = crate::image::ask_url(request.url, &headers, request.cancel, Some(request.limits.source_size))?;
    let outdated = kept.as_ref().filter(|_| !answer.unchanged).map(|kept| tree.path().join(&kept.name));
    let kept = match kept.filter(|_| answer.unchanged) {
        Some(kept) => {
            verify(request, &kept, &tree.path().join(&kept.name), wanted)?;
            kept
        }
        None if answer.unchanged => {
            let source = std::io::Error::other("it says that a file is unchanged (304) which was not fetched before");
            return Err(Error::Broken { url: redacted(request.url), source });
        }
        None => {
            let body = format!("{}.{}", key.hex(), random_hex(8));
            let path = store.join(&body);
            if let Some(length) = answer.length {
                crate::image::require_bytes(store, &redacted(request.url), length)?;
            }
            // What is not what was asked for is not kept either.
            let received = receive(request, &mut answer, body, &path).and_then(|fresh| verify(request, &fresh, &path, wanted).map(|()| fresh));
            let fresh = received.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
            outdated.map(|place| fs::remove_file(&place)).transpose()?;
            // Before it is known to others, who may replace it in their turn.
            take(&path, &fresh, tree)?;
            let old = std::fs::read(&record).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
            let text = serde_json::to_vec(&fresh).map_err(std::io::Error::other).on("describe", &record)?;
            fs::replace(&record, &text, 0o600)?;
            if let Some(old) = old.filter(|old| is_name(&old.body)) {
                fs::remove_file(&store.join(old.body))?;
            }
            fresh
        }
    };
    let time = kept.last_modified.as_deref().and_then(seconds);
    Ok((kept, time))
}

/// Puts a file of the store into the tree, where it stays whatever becomes of the store.
fn take(body: &Path, kept: &Kept, tree: &Temporary) -> Result<(), FsError> {
    let place = tree.path().join(&kept.name);
    std::fs::hard_link(body, &place).on("link", &place)
}

/// Holds a file against `--checksum`.
fn verify(request: &Request<'_>, kept: &Kept, file: &Path, wanted: Option<&Digest>) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    let actual = if wanted.algorithm() == Algorithm::Sha256 { kept.digest.clone() } else { digest(file, wanted.algorithm())? };
    if actual == *wanted {
        return Ok(());
    }
    Err(Error::Checksum { url: redacted(request.url), expected: wanted.to_string(), actual: actual.to_string() })
}

fn digest(path: &Path, algorithm: Algorithm) -> Result<Digest, FsError> {
    let file = File::open(path).on("open", path)?;
    Ok(Digest::of_stream(algorithm, file).on("read", path)?.0)
}

fn receive(request: &Request<'_>, answer: &mut crate::image::Answer, body: String, path: &Path) -> Result<Kept, Error> {
    let mut file = File::options().write(true).create_new(true).open(path).on("create", path)?;
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; PIECE];
    loop {
        match answer.body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                file.write_all(&buffer[..count]).on("write", path)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Broken { url: redacted(request.url), source }),
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600)).on("set the mode of", path)?;
    let at = Timespec { tv_sec: answer.header("last-modified").and_then(seconds).unwrap_or(0), tv_nsec: 0 };
    rustix::fs::futimens(&file, &Timestamps { last_access: at, last_modification: at }).on("set the times of", path)?;
    let name = file_name(request.url, answer.header("content-disposition"));
    let header = |name| answer.header(name).map(str::to_owned);
    Ok(Kept { etag: header("etag"), last_modified: header("last-modified"), name, body, digest: hasher.finish() })
}

/// `Wed, 21 Oct 2015 07:28:00 GMT` in seconds.
pub fn seconds(date: &str) -> Option<i64> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok().map(jiff::Timestamp::as_second)
}

fn file_name(url: &str, disposition: Option<&str>) -> String {
    let told = disposition.and_then(|text| {
        text.split(';').map(str::trim).find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.eq_ignore_ascii_case("filename").then(|| value.trim_matches('"').rsplit('/').next().unwrap_or_default().to_owned())
        })
    });
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let last = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).map(unescaped);
    told.into_iter().chain(last).find(|name| is_name(name)).unwrap_or_else(|| "download".to_owned())
}

/// One component of a path.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= NAME_LIMIT && !name.contains(['/', '\0'])
}

/// Percent signs of a URL taken back, if what comes out is text.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::os::unix::fs::MetadataExt;

    /// Answers `count` requests, to each with what `answer` makes of its head; returns the heads.
    fn serve(count: usize, answer: impl Fn(&str) -> String + Send + 'static) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut heads = Vec::new();
            for _ in 0..count {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = String::new();
                let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).unwrap() > 2 {}
                stream.write_all(answer(&head).as_bytes()).unwrap();
                heads.push(head);
            }
            heads
        });
        (address, thread)
    }

    #[test]
    fn what_is_too_much_or_not_what_was_asked_for_is_not_kept() {
        let area = std::env::temp_dir().join(format!("rcon-remote-{}", random_hex(8)));
        let (address, server) = serve(4, |head| {
            let length = if head.starts_with("GET /endless") { "" } else { "Content-Length: 20\r\n" };
            let more = if head.starts_with("GET /headers") { "X: y\r\n".repeat(101) } else { String::new() };
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{length}{more}\r\n{}", "x".repeat(20))
        });
        let cancel = Cancel::default();
        let limits = |source_size| Limits { source_size, ..Limits::default() };
        let other = Digest::of(b"other").to_string();
        let cases = [
            ("announced", limits(19), None, "has 20 bytes, more than the limit of 19 (image.limits.max_source_size in the settings)"),
            ("endless", limits(19), None, "it sends more than 19 bytes (image.limits.max_source_size in the settings)"),
            ("headers", limits(20), None, "message head is too large"),
            ("other", limits(20), Some(other.as_str()), "as --checksum demands"),
        ];
        for (name, limits, checksum, expected) in cases {
            let url = format!("{address}/{name}");
            let request = Request { url: &url, area: &area, checksum, keep_git_dir: false, exclude: &[], headers: &[], limits, cancel: &cancel };
            let error = fetch(&request).unwrap_err();
            let mut text = error.to_string();
            let mut next = std::error::Error::source(&error);
            while let Some(cause) = next {
                text = format!("{text}: {cause}");
                next = cause.source();
            }
            assert!(text.contains(expected), "{name}: {text}");
            assert_eq!(std::fs::read_dir(area.join("downloads")).unwrap().count(), 0, "{name}");
        }
        server.join().unwrap();
        std::fs::remove_dir_all(area).unwrap();
    }

    #[test]
    fn a_file_is_fetched_once_and_asked_for_again() {
        let area = std::env::temp_dir().join(format!("rcon-remote-{}", random_hex(8)));
        let (address, server) = serve(3, |head| {
            if head.to_ascii_lowercase().contains("if-none-match: \"one\"") {
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nETag: \"one\"\r\n\r\n".to_owned()
            } else {
                let date = "Wed, 21 Oct 2015 07:28:00 GMT";
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"one\"\r\nLast-Modified: {date}\r\nContent-Length: 5\r\n\r\nhello")
            }
        });
        let url = format!("{address}/dir/a%20file?q=1");
        let cancel = Cancel::default();
        let request = Request {
            url: &url,
            area: &area,
            checksum: None,
            keep_git_dir: false,
            exclude: &[],
            headers: &[],
            limits: Limits::default(),
            cancel: &cancel,
        };
        let first = fetch(&request).unwrap();
        let path = first._tree.path().join("a file");
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        let stat = std::fs::metadata(&path).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o600, 1_445_412_480));
        let good = Digest::of(b"hello").to_string();
        let second = fetch(&Request { checksum: Some(&good), ..request }).unwrap();
        assert_eq!((second.selected().unwrap().size(), second.commit.as_deref(), second.time), (5, None, Some(1_445_412_480)));
        let bad = Digest::of(b"other").to_string();
        let error = fetch(&Request { checksum: Some(&bad), ..request }).unwrap_err();
        assert!(matches!((&error, error.kind()), (Error::Checksum { .. }, ErrorKind::Invalid)), "{error}");
        assert!(matches!(fetch(&Request { checksum: Some("md5:x"), ..request }), Err(Error::NoChecksum { .. })));
        let heads = server.join().unwrap();
        assert!(heads[0].starts_with("GET /dir/a%20file?q=1 "), "{heads:?}");
        drop((first, second));
        assert_eq!(std::fs::read_dir(area.join("trees")).unwrap().count(), 0);
        std::fs::remove_dir_all(area).unwrap();
    }

    #[test]
    fn what_another_build_replaces_meanwhile_is_still_there() {
        let area = std::env::temp_dir().join(format!("rcon-remote-{}", random_hex(8)));
        let store = area.join(DOWNLOADS);
        let (address, server) = serve(3, move |head| {
            if !head.to_ascii_lowercase().contains("if-none-match") {
                return "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"one\"\r\nContent-Length: 5\r\n\r\nhello".to_owned();
            }
            // The other build has had a newer file.
            for entry in std::fs::read_dir(&store).unwrap().map(Result::unwrap).filter(|entry| entry.path().extension().unwrap() != "json") {
                std::fs::remove_file(entry.path()).unwrap();
            }
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nETag: \"one\"\r\n\r\n".to_owned()
        });
        let (url, cancel, limits) = (format!("{address}/a"), Cancel::default(), Limits::default());
        let sha512 = Digest::of_stream(Algorithm::Sha512, &b"hello"[..]).unwrap().0.to_string();
        let checksum = Some(sha512.as_str());
        let request = Request { url: &url, area: &area, checksum, keep_git_dir: false, exclude: &[], headers: &[], limits, cancel: &cancel };
        for time in ["fetched", "unchanged, and gone meanwhile", "gone, and fetched again"] {
            let fetched = fetch(&request).unwrap();
            assert_eq!(std::fs::read(fetched._tree.path().join("a")).unwrap(), b"hello", "{time}");
        }
        server.join().unwrap();
        std::fs::remove_dir_all(area).unwrap();
    }

    #[test]
    fn a_silent_server_is_not_waited_for_once_it_is_cancelled() {
        let area = std::env::temp_dir().join(format!("rcon-remote-{}", random_hex(8)));
        // Before its answer, and in the middle of it.
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"] {
            let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let (url, cancel) = (format!("http://{}/a", server.local_addr().unwrap()), Cancel::default());
            let request = Request {
                url: &url,
                area: &area,
                checksum: None,
                keep_git_dir: false,
                exclude: &[],
                headers: &[],
                limits: Limits::default(),
                cancel: &cancel,
            };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = server.accept().unwrap();
                    let _asked = stream.read(&mut [0; 16]).unwrap();
                    stream.write_all(answer.as_bytes()).unwrap();
                    cancel.cancel();
                    while stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {}
                });
                assert!(fetch(&request).is_err());
            });
        }
        assert_eq!(std::fs::read_dir(area.join("trees")).unwrap().count() + std::fs::read_dir(area.join("downloads")).unwrap().count(), 0);
        std::fs::remove_dir_all(area).unwrap();
    }

    #[test]
    fn names_come_from_the_server_or_the_url() {
        for (url, disposition, expected) in [
            ("https://h/a/b.tar.gz?x=1#y", None, "b.tar.gz"),
            ("https://h/a", Some("attachment; filename=\"c d.txt\""), "c d.txt"),
            ("https://h/a", Some("attachment; filename=\"../../etc/passwd\""), "passwd"),
            ("https://h/a", Some("attachment; filename=\"..\""), "a"),
            ("https://h/%2e%2e", None, "download"),
            ("https://h/a%2fb", None, "download"),
            ("https://h/", None, "download"),
            ("https://h", None, "download"),
        ] {
            assert_eq!(file_name(url, disposition), expected, "{url} {disposition:?}");
        }
        for (source, expected) in [("http://a/b", true), ("git@h:p", true), ("a/b", false), ("github.com/a/b", false)] {
            assert_eq!(is_remote(source.as_bytes()), expected, "{source}");
        }
    }
}
