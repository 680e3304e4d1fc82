//! Settings files: `rcon.toml` and the drop-ins beside it, found, read and handed out as tables.
//!
//! What a key means is decided in the room it belongs to; here is only what all of them share: which files
//! there are, in which order they apply, and errors that name file and line. Nothing is read before somebody
//! asks, and where there is no directory of settings that costs one failed open(2).

mod table;

pub use table::{Item, Table};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The machine's settings.
pub const SYSTEM: &str = "/etc/rcon/rcon.toml";
/// Most bytes of one file: far more than anybody writes by hand.
const LIMIT: u64 = 1 << 20;

/// Settings that cannot be used, with the place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    path: PathBuf,
    /// From 1.
    line: Option<usize>,
    why: String,
}

impl SettingsError {
    /// An error about a whole file.
    pub fn file(path: &Path, why: impl Into<String>) -> Self {
        SettingsError { path: path.to_owned(), line: None, why: why.into() }
    }
}

impl std::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "cannot use the settings in {}, line {line}: {}", self.path.display(), self.why),
            None => write!(f, "cannot use the settings in {}: {}", self.path.display(), self.why),
        }
    }
}

impl std::error::Error for SettingsError {}

/// One file of settings, read but not understood yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    text: String,
}

impl Source {
    #[cfg(test)]
    pub fn of(text: &str) -> Self {
        Source { path: PathBuf::from("/test/rcon.toml"), text: text.to_owned() }
    }

    /// Parses the file as TOML.
    ///
    /// # Errors
    /// It is not valid TOML; the line is named.
    pub fn table(&self) -> Result<Table<'_>, SettingsError> {
        Table::parse(self)
    }

    /// From 1.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count()
    }

    fn wrong(&self, offset: usize, why: impl Into<String>) -> SettingsError {
        SettingsError { path: self.path.clone(), line: Some(self.line(offset)), why: why.into() }
    }
}

/// The files that apply, first to last: a later one overrides single keys of those before.
///
/// With `explicit` that file (which must exist) and its drop-ins alone; else the machine's, and then the
/// `user`'s own. Drop-ins of `x.toml` are `x.toml.d/*.toml` in the order of their names.
///
/// # Errors
/// A file cannot be read, is too large, or others than root and its user may write to it.
pub fn sources(explicit: Option<&Path>, user: Option<&Path>) -> Result<Vec<Source>, SettingsError> {
    let mut found = Vec::new();
    match explicit {
        Some(path) => {
            let main = read(path)?.ok_or_else(|| SettingsError::file(path, "there is no such file"))?;
            found.push(main);
            drop_ins(path, &mut found)?;
        }
        None => {
            family(Path::new(SYSTEM), &mut found)?;
            if let Some(user) = user {
                family(user, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// A file that need not exist, and its drop-ins.
fn family(path: &Path, found: &mut Vec<Source>) -> Result<(), SettingsError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    // One look at the directory answers for the file and its drop-ins on the many hosts that have neither.
    match rustix::fs::openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(SettingsError::file(parent, error.to_string())),
        Ok(_) => {}
    }
    found.extend(read(path)?);
    drop_ins(path, found)
}

fn drop_ins(path: &Path, found: &mut Vec<Source>) -> Result<(), SettingsError> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let failed = |error: std::io::Error| SettingsError::file(&directory, error.to_string());
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // Hidden files are those that editors leave.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        found.extend(read(&path)?);
    }
    Ok(())
}

/// None: there is no such file.
fn read(path: &Path) -> Result<Option<Source>, SettingsError> {
    Ok(text(path)?.map(|text| Source { path: path.to_owned(), text }))
}

/// The text of a file that settings depend on (a settings file, a key); None: there is no such file.
///
/// # Errors
/// It cannot be read, is too large, or others than root and its user may write to it.
pub fn text(path: &Path) -> Result<Option<String>, SettingsError> {
    let failed = |why: String| SettingsError::file(path, why);
    // NONBLOCK: a fifo of that name must not hang every command.
    let file = match rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => File::from(other.map_err(|error| failed(error.to_string()))?),
    };
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("it is not a regular file".to_owned()));
    }
    // Settings decide what is trusted: they are taken only from who may decide.
    let own = metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw();
    if !own || metadata.mode() & 0o002 != 0 {
        return Err(failed("others than root and you may write to it; set its owner with chown and its mode with chmod o-w".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(failed(format!("it has more than {LIMIT} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| failed("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch() -> PathBuf {
        let path = std::env::temp_dir().join(format!("rcon-settings-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(path.join("rcon.toml.d")).unwrap();
        path
    }

    #[test]
    fn drop_ins_follow_by_name() {
        let directory = scratch();
        let main = directory.join("rcon.toml");
        assert!(sources(Some(&main), None).unwrap_err().to_string().ends_with("rcon.toml: there is no such file"));
        for (name, text) in [("rcon.toml", "a=1"), ("rcon.toml.d/20-b.toml", "b=1"), ("rcon.toml.d/10-c.toml", "c=1")] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        for other in ["rcon.toml.d/.30-x.toml", "rcon.toml.d/40-x.toml~", "rcon.toml.d/readme"] {
            std::fs::write(directory.join(other), "not toml").unwrap();
        }
        let found = sources(Some(&main), None).unwrap();
        assert_eq!(found.iter().map(|source| source.text.as_str()).collect::<Vec<_>>(), ["a=1", "c=1", "b=1"]);
        // The user's own come after the machine's; a directory that is not there is no error.
        let user = sources(None, Some(&main)).unwrap();
        assert_eq!(user.last().map(|source| source.text.as_str()), Some("b=1"));
        assert!(sources(None, Some(&directory.join("none/rcon.toml"))).is_ok());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_safe_files_are_taken() {
        let directory = scratch();
        let main = directory.join("rcon.toml");
        let refused = |part: &str| {
            let text = sources(Some(&main), None).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        std::fs::write(&main, "").unwrap();
        std::fs::set_permissions(&main, std::fs::Permissions::from_mode(0o646)).unwrap();
        refused("chmod o-w");
        std::fs::set_permissions(&main, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(sources(Some(&main), None).is_ok());
        std::fs::write(&main, [0xff]).unwrap();
        refused("UTF-8");
        std::fs::write(&main, vec![b' '; usize::try_from(LIMIT).unwrap() + 1]).unwrap();
        refused("more than");
        std::fs::remove_file(&main).unwrap();
        std::fs::create_dir(&main).unwrap();
        refused("not a regular file");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
