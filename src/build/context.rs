//! Build contexts: where the files of a build come from, what of them it sees, and its Dockerfile.
//!
//! A context is a held directory, whether it was there before or was unpacked, downloaded or checked out for this build
//! alone. Nothing is copied from a local one before an instruction asks for it.
//!
//! The Dockerfile is `Dockerfile`, or if that is missing `Containerfile` (podman looks for them in the other order, Docker
//! knows only the first). `-f` is first looked for from where the user is, as in docker and podman, then in the context, as
//! in podman; for a context that is no local directory only there. A name that goes through the context is looked up inside
//! of it, as in docker: where its links lead is the context's to say, and must not be a file of the host. Its ignore file is `<name>.dockerignore` beside it, or
//! else `.containerignore` (podman's) or `.dockerignore` at the top of the context.

mod git;
mod ignore;
mod pattern;
mod temporary;

pub use git::{GitUrl, redacted};
pub use ignore::{Covered, Ignore, IgnoreError, SIZE_LIMIT};
pub use pattern::{Pattern, PatternError, clean, has_wildcards};
pub use temporary::Temporary;

use super::transfer::{self, Selected, Selection};
use crate::base::fs::{self, FsError};
use crate::base::{Cancel, ErrorKind, rooted};
use crate::image::Limits;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A larger Dockerfile is none.
const TEXT_LIMIT: u64 = 16 << 20;
const PIECE: usize = 256 << 10;
/// Names of the Dockerfile, in the order in which they are looked for.
const NAMES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// Why there is no context, or no Dockerfile in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the build context \"{path}\"")]
    Directory {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no {name} in {place}: name it with -f")]
    NoDockerfile { name: String, place: String },
    #[error("cannot read \"{path}\"")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("\"{path}\" is not a regular file of at most 16 MiB")]
    NoText { path: String },
    #[error("\"{path}\" is a link that leads to nothing in the build context: name the file itself with -f")]
    LeadsOut { path: String },
    #[error("the context and the Dockerfile cannot both be read from standard input")]
    TwoInputs,
    #[error("standard input is empty: pipe a Dockerfile or a tar into it")]
    EmptyInput,
    #[error("cannot unpack {place}")]
    Unpack {
        place: String,
        #[source]
        source: Box<crate::engine::Error>,
    },
    #[error("{url} sent neither a tar nor a Dockerfile")]
    NoContext { url: String },
    #[error("{url} needs the program git: install it, or give a directory or a tar")]
    NoGit { url: String },
    #[error("it was cancelled")]
    Cancelled,
    #[error("cannot start git")]
    StartGit {
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {operation} {url}: git says: {message}")]
    Git { operation: &'static str, url: String, message: String },
    #[error("repository {url}: {why}")]
    GitUrl { url: String, why: String },
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Directory { source, .. } | Error::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Error::NoDockerfile { .. } => ErrorKind::NotFound,
            Error::Directory { .. } | Error::Read { .. } | Error::StartGit { .. } | Error::Fs(_) | Error::Cancelled => ErrorKind::Internal,
            Error::Git { .. } => ErrorKind::Unavailable,
            Error::NoGit { .. } => ErrorKind::Unsupported,
            Error::Image(e) => e.kind(),
            Error::Unpack { source, .. } => source.kind(),
            _ => ErrorKind::Invalid,
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// A directory, `-`, or the URL of a tar, a Dockerfile or a git repository.
    pub spec: &'a str,
    /// `-f`; `-` is standard input.
    pub file: Option<&'a str>,
    /// Where trees are made: the build area of the data root.
    pub area: &'a Path,
    /// `BUILDKIT_CONTEXT_KEEP_GIT_DIR`.
    pub keep_git_dir: bool,
    /// What a tar may come to, and how much is fetched.
    pub limits: Limits,
    pub cancel: &'a Cancel,
}

/// The text of a Dockerfile and its name for messages.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    pub name: String,
    pub text: Vec<u8>,
}

/// An open context.
#[derive(Debug)]
pub struct Context {
    root: OwnedFd,
    ignore: Ignore,
    place: String,
    /// Of a git repository.
    commit: Option<String>,
    time: Option<i64>,
    _tree: Option<Temporary>,
}

/// Where a context was found, before its Dockerfile is.
struct Found {
    root: OwnedFd,
    /// Shown in messages.
    place: String,
    local: bool,
    commit: Option<String>,
    /// Seconds since 1970: of the commit, `Last-Modified`, or the newest entry of an archive.
    time: Option<i64>,
    tree: Option<Temporary>,
    /// The context was a Dockerfile itself.
    text: Option<Dockerfile>,
}

impl Context {
    /// Opens a context and reads its Dockerfile and ignore file.
    ///
    /// # Errors
    /// The context or its Dockerfile is not there, cannot be fetched or unpacked; the ignore file is malformed.
    pub fn open(request: &Request<'_>, stdin: &mut dyn Read) -> Result<(Self, Dockerfile)> {
        if request.spec == "-" && request.file == Some("-") {
            return Err(Error::TwoInputs);
        }
        let mut found = find(request, stdin)?;
        let (dockerfile, beside) = match found.text.take() {
            Some(text) => (text, None),
            None => dockerfile(&found, request.file, stdin)?,
        };
        let ignore = match beside {
            Some(ignore) => ignore,
            None => top_ignore(found.root.as_fd())?,
        };
        Ok((
            Context { root: found.root, ignore, place: "the build context".to_owned(), commit: found.commit, time: found.time, _tree: found.tree },
            dockerfile,
        ))
    }

    /// Opens a context that has a name (`--build-context name=…`): no Dockerfile is looked for.
    ///
    /// # Errors
    /// As [`Context::open`].
    pub fn named(name: &str, request: &Request<'_>) -> Result<Self> {
        let found = find(request, &mut std::io::empty())?;
        let ignore = top_ignore(found.root.as_fd())?;
        Ok(Context {
            root: found.root,
            ignore,
            place: format!("build context \"{name}\""),
            commit: found.commit,
            time: found.time,
            _tree: found.tree,
        })
    }

    #[cfg(test)]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// The commit that was checked out, of a git repository.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// When it was made, in seconds since 1970: the commit's time, what the server said (`Last-Modified`), or that of the newest
    /// entry of an archive. None: a local directory has no time of its own.
    pub fn time(&self) -> Option<i64> {
        self.time
    }

    /// Selects for a COPY or ADD.
    ///
    /// # Errors
    /// As [`transfer::select`].
    pub fn select(
        &self,
        instruction: &'static str,
        sources: &[Vec<u8>],
        parents: bool,
        exclude: &[Vec<u8>],
    ) -> std::result::Result<Selected, transfer::Error> {
        let selection = Selection { instruction, place: &self.place, sources, parents, exclude, keep_owner: false };
        transfer::select(self.root.as_fd(), Some(&self.ignore), &selection)
    }
}

fn find(request: &Request<'_>, stdin: &mut dyn Read) -> Result<Found> {
    let Request { spec, area, .. } = *request;
    if spec == "-" {
        let mut input = BufReader::with_capacity(PIECE, stdin);
        if input.fill_buf().map_err(|source| Error::Read { path: "-".to_owned(), source })?.is_empty() {
            return Err(Error::EmptyInput);
        }
        return unpacked(input, request, "-", "the tar on standard input");
    }
    // A directory of that name wins, as in docker.
    if !Path::new(spec).is_dir() {
        if let Some(url) = GitUrl::parse(spec, true)? {
            let checkout = url.checkout(area, url.keep_git_dir.unwrap_or(request.keep_git_dir), request.cancel)?;
            let root = checkout.open(&url)?;
            let place = redacted(spec);
            return Ok(Found {
                root,
                place,
                local: false,
                commit: Some(checkout.commit),
                time: checkout.time,
                tree: Some(checkout.tree),
                text: None,
            });
        }
        if spec.starts_with("http://") || spec.starts_with("https://") {
            let answer = crate::image::open_url(spec, request.cancel, Some(request.limits.source_size))?;
            fs::create_dir_all(area, 0o700)?;
            if let Some(length) = answer.length {
                crate::image::require_bytes(area, &redacted(spec), length)?;
            }
            let modified = answer.header("last-modified").and_then(super::remote::seconds);
            let mut found = unpacked(BufReader::with_capacity(PIECE, answer.body), request, spec, &redacted(spec))?;
            found.time = modified.or(found.time);
            let text = found.text.as_ref().map(|file| file.text.trim_ascii_start());
            // A server's page of excuses is no Dockerfile.
            return if text.is_some_and(|text| text.starts_with(b"<")) { Err(Error::NoContext { url: redacted(spec) }) } else { Ok(found) };
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(spec, flags, Mode::empty()).map_err(|e| Error::Directory { path: spec.to_owned(), source: e.into() })?;
    Ok(Found { root, place: format!("\"{spec}\""), local: true, commit: None, time: None, tree: None, text: None })
}

/// A tar becomes a tree; anything else is the text of a Dockerfile with an empty context.
fn unpacked(mut input: impl BufRead, request: &Request<'_>, name: &str, place: &str) -> Result<Found> {
    let failed = |source| Error::Read { path: redacted(name), source };
    let tree = Temporary::new(request.area)?;
    let root = rustix::io::fcntl_dupfd_cloexec(&tree, 3).map_err(|e| failed(e.into()))?;
    // Enough of the beginning to see through its compression, which then is read again.
    let mut head = Vec::new();
    input.by_ref().take(PIECE as u64).read_to_end(&mut head).map_err(failed)?;
    let (mut text, mut time) = (None, None);
    if transfer::archive::begins_as_tar(head.as_slice()) {
        let whole = BufReader::with_capacity(PIECE, head.as_slice().chain(input));
        let mut archive = crate::image::bounded(whole, request.limits).map_err(failed)?;
        time = crate::engine::unpack_archive(tree.as_fd(), &mut request.cancel.checked(&mut archive), Some(request.limits))
            .map_err(|source| Error::Unpack { place: place.to_owned(), source: Box::new(source) })?;
    } else {
        input.take(TEXT_LIMIT).read_to_end(&mut head).map_err(failed)?;
        if head.len() as u64 > TEXT_LIMIT {
            return Err(Error::NoText { path: redacted(name) });
        }
        text = Some(Dockerfile { name: redacted(name), text: head });
    }
    Ok(Found { root, place: place.to_owned(), local: false, commit: None, time, tree: Some(tree), text })
}

/// The Dockerfile, and the ignore file beside it if there is one.
fn dockerfile(found: &Found, file: Option<&str>, stdin: &mut dyn Read) -> Result<(Dockerfile, Option<Ignore>)> {
    if file == Some("-") {
        let mut text = Vec::new();
        stdin.take(TEXT_LIMIT + 1).read_to_end(&mut text).map_err(|source| Error::Read { path: "-".to_owned(), source })?;
        if text.len() as u64 > TEXT_LIMIT {
            return Err(Error::NoText { path: "-".to_owned() });
        }
        return Ok((Dockerfile { name: "-".to_owned(), text }, None));
    }
    if let Some(name) = file.filter(|_| found.local) {
        let beside = PathBuf::from(format!("{name}.dockerignore"));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |path: &Path| match within(found.root.as_fd(), path) {
            Some(inner) => rooted::open(found.root.as_fd(), &inner, flags),
            None => rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()),
        };
        if let Some(text) = read(open(Path::new(name)), name, TEXT_LIMIT)? {
            let ignore = read(open(&beside), &beside.to_string_lossy(), SIZE_LIMIT)?;
            let ignore = ignore.map(|text| Ignore::parse(&text, &beside.to_string_lossy())).transpose()?;
            return Ok((Dockerfile { name: name.to_owned(), text }, ignore));
        }
    }
    if let Some(name) = file.filter(|name| found.local && std::fs::symlink_metadata(name).is_ok()) {
        return Err(Error::LeadsOut { path: name.to_owned() });
    }
    let names: &[&str] = match &file {
        Some(name) => std::slice::from_ref(name),
        None => &NAMES,
    };
    for name in names {
        if let Some(text) = inside(found.root.as_fd(), name, TEXT_LIMIT)? {
            let beside = format!("{name}.dockerignore");
            let ignore = inside(found.root.as_fd(), &beside, SIZE_LIMIT)?.map(|text| Ignore::parse(&text, &beside)).transpose()?;
            return Ok((Dockerfile { name: (*name).to_owned(), text }, ignore));
        }
    }
    Err(Error::NoDockerfile { name: names.join(" or "), place: found.place.clone() })
}

/// The path beneath the context, of one that goes through it; by what is typed, before any link is followed.
fn within(root: BorrowedFd<'_>, typed: &Path) -> Option<PathBuf> {
    let full = std::path::absolute(typed).ok()?;
    let full = PathBuf::from(OsString::from_vec(clean(full.as_os_str().as_bytes())));
    let context = rustix::fs::fstat(root).ok()?;
    let is_context = |path: &Path| rustix::fs::stat(path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (context.st_dev, context.st_ino));
    // The outermost: what is below it may already be a link of the context.
    let top = full.ancestors().skip(1).filter(|path| is_context(path)).last()?;
    full.strip_prefix(top).ok().map(Path::to_owned)
}

fn top_ignore(root: BorrowedFd<'_>) -> Result<Ignore> {
    for name in [".containerignore", ".dockerignore"] {
        if let Some(text) = inside(root, name, SIZE_LIMIT)? {
            return Ok(Ignore::parse(&text, name)?);
        }
    }
    Ok(Ignore::default())
}

/// A file of the context, links followed inside of it.
fn inside(root: BorrowedFd<'_>, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    read(rooted::open(root, Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY), name, limit)
}

/// None: there is no such file.
fn read(opened: rustix::io::Result<OwnedFd>, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |source: std::io::Error| Error::Read { path: name.to_owned(), source };
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(failed(e.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?;
    let mut text = Vec::new();
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        File::from(file).take(limit + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 <= limit {
            return Ok(Some(text));
        }
    }
    Err(Error::NoText { path: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o640);
            header.set_uid(0);
            header.set_gid(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    struct Bench(PathBuf);

    impl Drop for Bench {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    impl Bench {
        fn new(files: &[(&str, &str)]) -> Self {
            let base = std::env::temp_dir().join(format!("rcon-context-{}", crate::base::random_hex(8)));
            for (name, text) in files {
                let path = base.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            std::fs::create_dir_all(&base).unwrap();
            Bench(base)
        }

        fn open(&self, spec: &str, file: Option<&str>, stdin: &[u8]) -> Result<(Context, Dockerfile)> {
            let area = self.0.join("area");
            Context::open(
                &Request { spec, file, area: &area, keep_git_dir: false, limits: Limits::default(), cancel: &Cancel::default() },
                &mut &*stdin,
            )
        }
    }

    #[test]
    fn the_dockerfile_and_its_ignore_file_are_found() {
        let bench = Bench::new(&[
            ("c/Containerfile", "podman"),
            ("c/.dockerignore", "top"),
            ("c/in/File", "inner"),
            ("c/in/File.dockerignore", "beside"),
            ("out/File", "outer"),
            ("out/File.dockerignore", "\u{feff}outside"),
            ("empty/x", ""),
        ]);
        let context = bench.0.join("c").display().to_string();
        let outer = bench.0.join("out/File").display().to_string();
        let hides = |context: &Context, path: &str| context.ignore().at(path.as_bytes()).0;
        for (file, text, hidden) in [(None, "podman", "top"), (Some("in/File"), "inner", "beside"), (Some(outer.as_str()), "outer", "outside")] {
            let (context, dockerfile) = bench.open(&context, file, b"").unwrap();
            assert_eq!((dockerfile.text.as_slice(), dockerfile.name.as_str()), (text.as_bytes(), file.unwrap_or("Containerfile")));
            assert!(hides(&context, hidden), "{file:?}");
        }
        std::fs::write(bench.0.join("c/Dockerfile"), "docker").unwrap();
        assert_eq!(bench.open(&context, None, b"").unwrap().1.text, b"docker");
        assert_eq!(bench.open(&context, Some("-"), b"piped").unwrap().1.text, b"piped");
        let empty = bench.0.join("empty").display().to_string();
        let error = bench.open(&empty, None, b"").unwrap_err();
        assert_eq!(error.to_string(), format!("there is no Dockerfile or Containerfile in \"{empty}\": name it with -f"));
        assert!(matches!(bench.open(&empty, Some("."), b""), Err(Error::NoText { .. })));
        assert_eq!(bench.open("/none/such", None, b"").unwrap_err().kind(), ErrorKind::NotFound);
        let area = bench.0.join("area");
        let named = Context::named(
            "assets",
            &Request {
                spec: &outer[..outer.len() - 5],
                file: None,
                area: &area,
                keep_git_dir: false,
                limits: Limits::default(),
                cancel: &Cancel::default(),
            },
        )
        .unwrap();
        assert!(named.commit().is_none() && inside(named.root(), "File", 9).unwrap().is_some());
        let missing = named.select("COPY", &[b"none".to_vec()], false, &[]).unwrap_err();
        assert_eq!(missing.to_string(), "COPY none: not found in build context \"assets\"");
        std::fs::remove_file(bench.0.join("c/.dockerignore")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", bench.0.join("c/.dockerignore")).unwrap();
        assert!(!hides(&bench.open(&context, None, b"").unwrap().0, "top"), "a link out of the context leads nowhere");
        std::os::unix::fs::symlink(&outer, bench.0.join("c/way")).unwrap();
        std::os::unix::fs::symlink("in", bench.0.join("c/inner")).unwrap();
        let typed = |name: &str| bench.0.join("c").join(name).display().to_string();
        assert!(matches!(bench.open(&context, Some(&typed("way")), b""), Err(Error::LeadsOut { .. })));
        assert_eq!(bench.open(&context, Some(&typed("inner/File")), b"").unwrap().1.text, b"inner", "a link inside of the context is followed");
        assert_eq!(bench.open(&context, Some(&typed("../out/File")), b"").unwrap().1.text, b"outer", "the user may name any file");
    }

    #[test]
    fn standard_input_is_a_dockerfile_or_a_tar() {
        let bench = Bench::new(&[]);
        let (context, dockerfile) = bench.open("-", None, b"FROM scratch\n").unwrap();
        assert_eq!(dockerfile.text, b"FROM scratch\n");
        assert_eq!(context.select("COPY", &[b".".to_vec()], false, &[]).unwrap().count(), 0);
        let tar = tar_of(&[("Dockerfile", "FROM x"), ("./a", "1"), (".dockerignore", "b"), ("b", "2")]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &tar).unwrap();
        assert_eq!(bench.open("-", None, &tar).unwrap().0.time(), Some(0), "the newest entry's");
        for bytes in [tar.clone(), packed.finish().unwrap(), zstd::encode_all(tar.as_slice(), 1).unwrap()] {
            let (context, dockerfile) = bench.open("-", None, &bytes).unwrap();
            assert_eq!(dockerfile.text, b"FROM x");
            assert_eq!(context.select("COPY", &[b".".to_vec()], false, &[]).unwrap().count(), 3);
        }
        assert!(matches!(bench.open("-", None, b""), Err(Error::EmptyInput)));
        assert!(matches!(bench.open("-", Some("-"), b"x"), Err(Error::TwoInputs)));
        assert!(matches!(bench.open("-", None, &tar_of(&[("../out", "x")])), Err(Error::Unpack { .. })));
        assert!(!bench.0.join("area/out").exists() && !bench.0.join("area/trees/out").exists());
        drop(context);
        assert_eq!(std::fs::read_dir(bench.0.join("area/trees")).unwrap().count(), 0);
    }
}
