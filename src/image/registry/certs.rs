//! Certificate authorities and client certificates of single registries, in directories as Docker has them:
//! `certs.d/HOST[:PORT]/` with `*.crt` (authorities to trust) and pairs `NAME.cert` + `NAME.key` (who we are).
//!
//! Invariant: a file that is there but cannot be used is an error that names it, never a weaker connection.

use crate::image::Error;
use reqwest::{Certificate, Identity};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most bytes of one file.
const FILE_LIMIT: u64 = 4 << 20;

/// What one registry needs besides the system's authorities.
#[derive(Clone, Default)]
pub struct Certificates {
    pub roots: Vec<Certificate>,
    pub identity: Option<Identity>,
}

/// Reads the directories of one host: those beneath `dirs`, and those of `own`, which must be there; `names` are the names it goes by (`docker.io`, `registry-1.docker.io`).
///
/// # Errors
/// A file that cannot be read or holds no certificate, a certificate without its key, a key without its certificate.
pub fn read(dirs: &[PathBuf], own: &BTreeMap<String, Vec<PathBuf>>, names: &[&str]) -> Result<Certificates, Error> {
    let mut found = Certificates::default();
    for dir in names.iter().filter_map(|name| own.get(*name)).flatten() {
        if !dir.is_dir() {
            return Err(Error::Certificate { path: dir.clone(), why: "the settings name it and it is not a directory".to_owned() });
        }
        read_dir(dir, &mut found)?;
    }
    for dir in dirs {
        for name in names {
            // A host of a URL has neither, but a directory above must never be reached by one.
            if !name.is_empty() && !name.contains('/') && !name.starts_with('.') {
                read_dir(&dir.join(name), &mut found)?;
            }
        }
    }
    Ok(found)
}

fn read_dir(dir: &Path, found: &mut Certificates) -> Result<(), Error> {
    let failed = |path: &Path, why: String| Error::Certificate { path: path.to_owned(), why };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(failed(dir, e.to_string())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|e| failed(dir, e.to_string()))?.path());
    }
    // The same certificate is offered at every start, whatever the order on disk.
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                let roots = Certificate::from_pem_bundle(&content(&path)?).map_err(|e| failed(&path, e.to_string()))?;
                if roots.is_empty() {
                    return Err(failed(&path, "it holds no certificate in PEM form".to_owned()));
                }
                found.roots.extend(roots);
            }
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(failed(&path, format!("its key {} is missing; an authority to trust is called *.crt", key.display())));
                }
                let mut pem = content(&path)?;
                pem.push(b'\n');
                pem.extend(content(&key)?);
                let identity = Identity::from_pem(&pem).map_err(|e| failed(&path, with_source(&e)))?;
                found.identity.get_or_insert(identity);
            }
            Some("key") if !path.with_extension("cert").exists() => {
                return Err(failed(&path, format!("its certificate {} is missing", path.with_extension("cert").display())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn content(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::Certificate { path: path.to_owned(), why };
    let metadata = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
    if !metadata.is_file() || metadata.len() > FILE_LIMIT {
        return Err(failed(format!("it is no regular file of at most {FILE_LIMIT} bytes")));
    }
    std::fs::read(path).map_err(|e| failed(e.to_string()))
}

fn with_source(error: &reqwest::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_settings_must_be_there() {
        let own = BTreeMap::from([("r.example".to_owned(), vec![PathBuf::from("/nonexistent/certs")])]);
        let error = read(&[], &own, &["r.example"]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/certs") && error.contains("settings"), "{error}");
        assert!(read(&[], &own, &["other.example"]).is_ok());
        assert!(read(&[PathBuf::from("/nonexistent")], &BTreeMap::new(), &["r.example"]).is_ok());
    }
}
