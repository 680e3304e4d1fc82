//! `--passwd-entry`, `--group-entry`: a user and group in numbers that the image does not know get a line in its files, in
//! the container's own layer, when the container is made.

use super::super::{Engine, Error, Result};
use crate::base::rooted;
use crate::state::record::{Container, Image};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// No table of users is larger.
const FILE_LIMIT: u64 = 10 << 20;
/// What the name of a user is who has none.
const FULL_NAME: &str = "container user";

/// A line that is wanted, and what it needs to be of use.
struct Wanted<'a> {
    flag: &'static str,
    file: &'static str,
    id: u32,
    entry: &'a str,
}

impl Engine {
    /// Adds the lines that the request asks for; those that are there already are told. Nobody else uses the layer yet.
    ///
    /// # Errors
    /// `Invalid` for a user or group that is not a number; what the file system refuses.
    pub(super) fn add_accounts(&self, record: &Container, image: &Image, warnings: &mut Vec<String>) -> Result<()> {
        let wanted = wanted(record)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let directory = self.privilege.roots.container(&record.id);
        let root = self.beneath_with(record, image)?.for_writing(&directory, true).open()?;
        for want in &wanted {
            let path = Path::new(want.file);
            if !add(root.as_fd(), want, &fill(want.entry, record, want.id)).map_err(|e| failed(path, e))? {
                warnings.push(format!("{}: id {} is in the image's /{} already, which stays as it is", want.flag, want.id, want.file));
            }
        }
        drop(root);
        // The mark of a volatile overlay would refuse the next one.
        Ok(crate::base::fs::remove_tree(&directory.join("work/work/incompat"))?)
    }
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Failed {
        operation: format!("add the user to {} of the container", path.display()),
        kind: crate::base::ErrorKind::Internal,
        source: Box::new(source),
    }
}

/// What the flags ask for; they are about `--user` in numbers.
fn wanted(record: &Container) -> Result<Vec<Wanted<'_>>> {
    let host = &record.spec.host;
    let (user, group) = record.spec.process.user.split_once(':').map_or((record.spec.process.user.as_str(), None), |(u, g)| (u, Some(g)));
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let refuse = |flag: &str, what: &str| {
        Err(Error::Invalid { message: format!("{flag} is for a {what} that is given as a number"), hint: Some("give --user UID[:GID]".to_owned()) })
    };
    let mut wanted = Vec::new();
    if let Some(entry) = &host.passwd_entry {
        let Some(id) = number(user) else { return refuse("--passwd-entry", "user") };
        wanted.push(Wanted { flag: "--passwd-entry", file: "etc/passwd", id, entry });
    }
    if let Some(entry) = &host.group_entry {
        let Some(id) = group.and_then(number) else { return refuse("--group-entry", "group") };
        wanted.push(Wanted { flag: "--group-entry", file: "etc/group", id, entry });
    }
    Ok(wanted)
}

/// Podman's words in an entry.
fn fill(entry: &str, record: &Container, id: u32) -> String {
    let user = record.spec.process.user.split(':').next().unwrap_or_default();
    let home = if record.spec.process.workdir.is_empty() { "/" } else { &record.spec.process.workdir };
    // The longer words first: one begins with another.
    entry
        .replace("$USERNAME", user)
        .replace("$USERLIST", user)
        .replace("$GROUPNAME", &id.to_string())
        .replace("$UID", user)
        .replace("$GID", &group(record).unwrap_or(0).to_string())
        .replace("$NAME", FULL_NAME)
        .replace("$HOME", home)
}

fn group(record: &Container) -> Option<u32> {
    record.spec.process.user.split_once(':').and_then(|(_, group)| group.parse().ok())
}

/// False: a line with this id is there.
fn add(root: BorrowedFd<'_>, want: &Wanted<'_>, line: &str) -> std::io::Result<bool> {
    let mut file = match rooted::open(root, Path::new(want.file), OFlags::RDWR | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Err(Errno::NOENT) => make(root, want.file)?,
        other => File::from(other?),
    };
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    (&mut file).take(FILE_LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(std::io::Error::other("it is larger than 10 MiB"));
    }
    let id = want.id.to_string();
    if text.split(|byte| *byte == b'\n').any(|known| known.split(|byte| *byte == b':').nth(2) == Some(id.as_bytes())) {
        return Ok(false);
    }
    let gap = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    file.write_all(format!("{gap}{}\n", line.trim_end_matches('\n')).as_bytes())?;
    Ok(true)
}

/// A table in a root that has none.
fn make(root: BorrowedFd<'_>, path: &str) -> std::io::Result<File> {
    let (directory, name) = path.split_once('/').expect("invariant: both files are in /etc");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let parent = match rooted::open(root, Path::new(directory), flags) {
        Err(Errno::NOENT) => {
            mkdirat(root, directory, Mode::from_raw_mode(0o755))?;
            rooted::open(root, Path::new(directory), flags)?
        }
        other => other?,
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(&parent, name, flags, Mode::from_raw_mode(0o644))?))
}

#[cfg(test)]
mod tests {
    use super::{add, fill, wanted};
    use crate::state::record::{Container, ContainerSpec, HostSpec, ProcessSpec};
    use std::os::fd::AsFd;

    fn container(user: &str) -> Container {
        let process = ProcessSpec { user: user.to_owned(), workdir: "/srv".to_owned(), ..ProcessSpec::default() };
        let host = HostSpec { passwd_entry: Some("$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh".to_owned()), ..HostSpec::default() };
        let spec = ContainerSpec { process, host, ..ContainerSpec::default() };
        Container::new(crate::base::ContainerId::random(), "web".parse().unwrap(), spec)
    }

    #[test]
    fn a_line_is_filled_and_added_once() {
        let base = std::env::temp_dir().join(format!("rcon-accounts-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(&base).unwrap();
        let root = std::fs::File::open(&base).unwrap();
        let record = container("4321:55");
        let want = wanted(&record).unwrap().remove(0);
        let line = fill(want.entry, &record, want.id);
        assert_eq!(line, "4321:*:4321:55:container user:/srv:/bin/sh");
        assert!(add(root.as_fd(), &want, &line).unwrap(), "there was no /etc");
        assert!(!add(root.as_fd(), &want, &line).unwrap());
        std::fs::write(base.join("etc/passwd"), "root:x:0:0::/:/bin/sh").unwrap();
        assert!(add(root.as_fd(), &want, &line).unwrap());
        assert_eq!(std::fs::read_to_string(base.join("etc/passwd")).unwrap(), format!("root:x:0:0::/:/bin/sh\n{line}\n"));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_name_has_its_line_in_the_image() {
        for user in ["", "web", "web:5", "4294967295"] {
            assert!(wanted(&container(user)).is_err(), "{user}");
        }
    }
}
