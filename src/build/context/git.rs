//! Git repositories as contexts and as sources of ADD, fetched by the `git` program.
//!
//! Invariant: nothing a URL says becomes an option of git; only http, https, ssh and git's own protocol are spoken, also
//! by submodules (CVE-2022-39253); no hook or template runs; git never asks anybody anything. Neither the machine's nor the
//! user's settings of git are read, which could name programs to run; `~/.netrc` and the keys of ssh are what they are. Git
//! and what it starts end with the build, and do not wait for a silent server for ever.

use super::Error;
use super::temporary::Temporary;
use crate::base::Cancel;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

const PROTOCOLS: &str = "https:http:ssh:git";
/// Lines of git's talk that are shown when it fails.
const SHOWN_LINES: usize = 6;
/// Bytes of either of its streams that are kept: the last ones.
const KEPT: usize = 64 << 10;
/// Settings of every run: no programs of others, no settings of the checkout's surroundings, and a server that sends less
/// than a byte a second for a minute is given up.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "credential.helper=",
    "init.defaultBranch=main",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];
/// No question, and the same patience as with HTTP.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4";

/// A parsed repository URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitUrl {
    pub remote: String,
    /// Branch, tag, commit or full reference; None: the remote's HEAD.
    pub reference: Option<String>,
    /// Directory that is taken instead of the whole tree.
    pub directory: Option<String>,
    /// The commit it must turn out to be (a beginning of its name is enough).
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
}

/// A checkout.
#[derive(Debug)]
pub struct Checkout {
    pub tree: Temporary,
    pub commit: String,
    /// When it was committed, in seconds since 1970.
    pub time: Option<i64>,
}

impl GitUrl {
    /// None: not the URL of a git repository. `bare`: also `github.com/…` without a scheme counts.
    ///
    /// # Errors
    /// One whose reference or query is not understood.
    pub fn parse(text: &str, bare: bool) -> Result<Option<Self>, Error> {
        let (before, fragment) = text.split_once('#').map_or((text, None), |(before, fragment)| (before, Some(fragment)));
        let (remote, query) = before.split_once('?').map_or((before, None), |(remote, query)| (remote, Some(query)));
        let web = remote.starts_with("http://") || remote.starts_with("https://");
        let of_github = bare && remote.starts_with("github.com/");
        let scheme = remote.starts_with("git://") || remote.starts_with("ssh://");
        if !(scheme || of_github || (web && remote.trim_end_matches('/').ends_with(".git")) || is_scp(remote)) {
            return Ok(None);
        }
        let mut url = GitUrl { remote: if of_github { format!("https://{remote}") } else { remote.to_owned() }, ..GitUrl::default() };
        if let Some(fragment) = fragment {
            let (reference, directory) = fragment.split_once(':').map_or((fragment, ""), |parts| parts);
            url.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
            url.directory = Some(directory.to_owned()).filter(|text| !text.is_empty());
        }
        let invalid = |why: String| Error::GitUrl { url: redacted(text), why };
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "ref" | "branch" | "tag" => url.reference = Some(value.to_owned()),
                "subdir" => url.directory = Some(value.to_owned()),
                "checksum" | "commit" => url.checksum = Some(value.to_owned()),
                "keep-git-dir" => url.keep_git_dir = Some(!matches!(value, "0" | "false")),
                _ => {
                    return Err(invalid(format!(
                        "its query has the unknown key \"{key}\": known are ref, branch, tag, subdir, checksum, keep-git-dir"
                    )));
                }
            }
        }
        if let Some(reference) = url.reference.as_ref().filter(|text| !is_reference(text)) {
            return Err(invalid(format!("\"{reference}\" is no name of a branch, tag or commit")));
        }
        if url.remote.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err(invalid("it has a space or a control character".to_owned()));
        }
        Ok(Some(url))
    }

    /// Fetches the one commit, with its submodules, into a tree of its own; modes are 644 and 755, whatever the umask.
    ///
    /// # Errors
    /// What git says; a commit that is not the one wanted; a directory that is not in the tree.
    pub fn checkout(&self, area: &Path, keep_git_dir: bool, cancel: &Cancel) -> Result<Checkout, Error> {
        self.checkout_by(area, keep_git_dir, PROTOCOLS, cancel)
    }

    fn checkout_by(&self, area: &Path, keep_git_dir: bool, protocols: &str, cancel: &Cancel) -> Result<Checkout, Error> {
        let tree = Temporary::new(area)?;
        let git = Git { url: self, directory: tree.path(), protocols, cancel };
        git.run("prepare the checkout", &["init", "-q", "--template="])?;
        git.run("prepare the checkout", &["remote", "add", "origin", &self.remote])?;
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        let shallow = git.run("fetch", &["fetch", "-q", "--no-tags", "--depth=1", "origin", reference]);
        let commit = match shallow {
            Ok(_) => "FETCH_HEAD".to_owned(),
            // An abbreviated commit, or a server that gives out no single ones: only the whole history knows it.
            Err(error) if self.reference.as_ref().is_some_and(|text| text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit())) => {
                git.run("fetch", &["fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
                git.run("find the commit", &["rev-parse", "--verify", "--end-of-options", &format!("{reference}^{{commit}}")]).map_err(|_| error)?
            }
            Err(error) => return Err(error),
        };
        git.run("check out", &["checkout", "-q", "--detach", &commit])?;
        let commit = git.run("find the commit", &["rev-parse", "--verify", "HEAD"])?;
        if let Some(wanted) = self.checksum.as_ref().filter(|wanted| wanted.is_empty() || !commit.starts_with(wanted.as_str())) {
            return Err(Error::GitUrl { url: redacted(&self.remote), why: format!("its commit is {commit}, and not {wanted} as demanded") });
        }
        let time = git.run("read the commit", &["log", "-1", "--no-show-signature", "--format=%ct", "HEAD"])?.parse().ok();
        if tree.path().join(".gitmodules").is_file() {
            git.run("fetch the submodules", &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        settle(tree.path(), keep_git_dir)?;
        Ok(Checkout { tree, commit, time })
    }
}

impl Checkout {
    /// The directory of the checkout that the URL means, found inside of it.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn open(&self, url: &GitUrl) -> Result<std::os::fd::OwnedFd, Error> {
        use std::os::fd::AsFd;
        let directory = url.directory.as_deref().unwrap_or("");
        crate::base::rooted::open(self.tree.as_fd(), Path::new(directory), OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|e| Error::GitUrl { url: redacted(&url.remote), why: format!("its directory \"{directory}\" cannot be opened: {e}") })
    }
}

struct Git<'a> {
    url: &'a GitUrl,
    directory: &'a Path,
    protocols: &'a str,
    cancel: &'a Cancel,
}

impl Git<'_> {
    /// Runs git in the checkout and returns what it printed.
    fn run(&self, operation: &'static str, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("git");
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        command.args(arguments).current_dir(self.directory).stdin(Stdio::null());
        // Nothing of a repository that the command is run in; what may be asked, is answered with no.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIT_") && name != "GIT_SSH_COMMAND") {
            command.env_remove(name);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", self.protocols).env("LC_ALL", "C");
        command.env("GIT_CEILING_DIRECTORIES", self.directory.parent().unwrap_or(Path::new("/")));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1");
        command.env_remove("SSH_ASKPASS").env("GIT_ASKPASS", "true");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", SSH);
        }
        let url = redacted(&self.url.remote);
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoGit { url: url.clone() },
            _ => Error::StartGit { source },
        };
        let (success, stdout, stderr) = self.attend(&mut command).map_err(failed)?;
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if success {
            return Ok(String::from_utf8_lossy(&stdout).trim().to_owned());
        }
        let talk = String::from_utf8_lossy(&stderr).replace(&self.url.remote, &url);
        let lines: Vec<&str> = talk.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let message = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ").replace(char::is_control, " ");
        Err(Error::Git { operation, url, message })
    }

    /// Runs it to its end, or to that of the build: whether it succeeded, and what it said.
    fn attend(&self, command: &mut Command) -> std::io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let mut child = crate::sys::dependent::follow(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        // One that has ended by itself needs no end.
        let _watch = self.cancel.watch(move || {
            pidfd_send_signal(&process, Signal::KILL).ok();
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let talk = scope.spawn(|| stderr.map_or(Ok(Vec::new()), tail));
            (stdout.map_or(Ok(Vec::new()), tail), talk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        Ok((child.wait()?.success(), stdout?, stderr?))
    }
}

/// The end of what comes out of a pipe.
fn tail(mut pipe: impl Read) -> std::io::Result<Vec<u8>> {
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(kept),
            Ok(count) => kept.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    !user.starts_with('-') && word(user) && rest.split_once(':').is_some_and(|(host, path)| !host.starts_with('-') && word(host) && !path.is_empty())
}

/// git-check-ref-format(1), and never an option or a refspec.
fn is_reference(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['-', '+', '/'])
        && !text.contains("..")
        && !text.contains("@{")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"~^:?*[\\".contains(&byte))
}

/// Without the password of a URL.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if rest[..at].contains(':') => format!("{scheme}://***{}", &rest[at..]),
        _ => url.to_owned(),
    }
}

/// What git keeps in a tree is modes of 644 and 755; only we write here. Takes away `.git` as well.
fn settle(directory: &Path, keep_git_dir: bool) -> Result<(), Error> {
    use crate::base::fs::Context as _;
    use std::os::unix::fs::PermissionsExt;
    rustix::fs::chmod(directory, Mode::from_raw_mode(0o755)).on("set the mode of", directory)?;
    for entry in std::fs::read_dir(directory).on("list", directory)? {
        let path = entry.on("list", directory)?.path();
        if path.file_name() == Some(OsStr::new(".git")) {
            if !keep_git_dir {
                let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.on("remove", &path)?;
            }
            continue;
        }
        let stat = std::fs::symlink_metadata(&path).on("examine", &path)?;
        if stat.is_dir() {
            settle(&path, keep_git_dir)?;
        } else if stat.is_file() {
            let mode = if stat.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).on("set the mode of", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn urls_are_told_apart() {
        for (text, expected) in [
            ("https://host/a.git", Some(("https://host/a.git", None, None))),
            ("https://host/a.git#v1:sub/dir", Some(("https://host/a.git", Some("v1"), Some("sub/dir")))),
            ("https://host/a.git#:sub", Some(("https://host/a.git", None, Some("sub")))),
            ("https://host/a.git?ref=b&subdir=c", Some(("https://host/a.git", Some("b"), Some("c")))),
            ("git@host:me/a.git#main", Some(("git@host:me/a.git", Some("main"), None))),
            ("ssh://git@host/a", Some(("ssh://git@host/a", None, None))),
            ("github.com/me/a", Some(("https://github.com/me/a", None, None))),
            ("https://host/a.tar.gz", None),
            ("https://host/a", None),
            ("./dir", None),
            ("-oProxyCommand=x@host:y", None),
        ] {
            let parsed = GitUrl::parse(text, true).unwrap();
            let parsed = parsed.as_ref().map(|url| (url.remote.as_str(), url.reference.as_deref(), url.directory.as_deref()));
            assert_eq!(parsed, expected, "{text}");
        }
        assert_eq!(GitUrl::parse("github.com/me/a", false).unwrap(), None);
        for bad in ["--upload-pack=x", "a:b:c..d", "a b", "+x", "a^{}", "a@{1}", "x\ny"] {
            let fragment = bad.replace(':', "..");
            assert!(GitUrl::parse(&format!("https://host/a.git#{fragment}"), true).is_err(), "{bad}");
        }
        assert!(GitUrl::parse("https://host/a.git?depth=1", true).is_err());
        assert_eq!(redacted("https://me:secret@host/a.git"), "https://***@host/a.git");
    }

    fn git(directory: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]);
        assert!(command.args(arguments).current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").status().unwrap().success(), "{arguments:?}");
    }

    #[test]
    fn a_commit_is_checked_out_and_hostile_trees_stay_inside() {
        let base = std::env::temp_dir().join(format!("rcon-git-{}", crate::base::random_hex(8)));
        let (repository, area) = (base.join("repository"), base.join("area"));
        std::fs::create_dir_all(repository.join("sub")).unwrap();
        git(&repository, &["init", "-q"]);
        std::fs::write(repository.join("sub/Dockerfile"), "FROM scratch\n").unwrap();
        std::os::unix::fs::symlink("/etc", repository.join("out")).unwrap();
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "-q", "-m", "one"]);
        git(&repository, &["tag", "v1"]);
        std::fs::write(repository.join("later"), "x").unwrap();
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "-q", "-m", "two"]);
        let mut url = GitUrl { remote: format!("file://{}", repository.display()), ..GitUrl::default() };
        let whole = url.checkout_by(&area, false, "file", &Cancel::default()).unwrap();
        assert!(whole.tree.path().join("later").exists() && !whole.tree.path().join(".git").exists());
        url.reference = Some("v1".to_owned());
        url.directory = Some("sub".to_owned());
        let tagged = url.checkout_by(&area, true, "file", &Cancel::default()).unwrap();
        assert!(!tagged.tree.path().join("later").exists() && tagged.tree.path().join(".git").exists());
        assert!(tagged.open(&url).is_ok());
        assert_eq!(std::fs::metadata(tagged.tree.path().join("sub/Dockerfile")).unwrap().mode() & 0o7777, 0o644);
        let short =
            GitUrl { reference: Some(tagged.commit[..9].to_owned()), ..url.clone() }.checkout_by(&area, false, "file", &Cancel::default()).unwrap();
        assert_eq!(short.commit, tagged.commit);
        for directory in ["out", "none", "../.."] {
            let opened = tagged.open(&GitUrl { directory: Some(directory.to_owned()), ..url.clone() });
            assert_eq!(opened.is_ok(), directory == "../..", "{directory}: the way up ends at the checkout, a link leads nowhere");
        }
        assert!(matches!(
            GitUrl { checksum: Some("1234".to_owned()), ..url.clone() }.checkout_by(&area, false, "file", &Cancel::default()),
            Err(Error::GitUrl { .. })
        ));
        let refused = url.checkout(&area, false, &Cancel::default()).unwrap_err();
        assert!(refused.to_string().contains("not allowed"), "{refused}");
        drop((whole, tagged, short));
        assert_eq!(std::fs::read_dir(area.join("trees")).unwrap().count(), 0);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_silent_server_is_not_waited_for_once_it_is_cancelled() {
        let area = std::env::temp_dir().join(format!("rcon-git-{}", crate::base::random_hex(8)));
        for scheme in ["git", "http"] {
            let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let remote = format!("{scheme}://{}/a.git", server.local_addr().unwrap());
            let (cancel, url) = (Cancel::default(), GitUrl { remote, ..GitUrl::default() });
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut silent, _) = server.accept().unwrap();
                    let _asked = silent.read(&mut [0; 16]).unwrap();
                    cancel.cancel();
                    // Its end, and so that of whatever held the connection: nothing is left behind.
                    while silent.read(&mut [0; 4096]).unwrap_or(0) > 0 {}
                });
                assert!(matches!(url.checkout(&area, false, &cancel), Err(Error::Cancelled)));
            });
        }
        assert_eq!(std::fs::read_dir(area.join("trees")).unwrap().count(), 0);
        std::fs::remove_dir_all(area).unwrap();
    }
}
