//! Where this process keeps what it keeps, and what it may do.

use std::path::{Path, PathBuf};

/// The two trees of one engine: durable data, and live facts that a reboot clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Durable data: database, layers, volumes, container files.
    pub data: PathBuf,
    /// Live facts on a tmpfs: sockets, locks, pids.
    pub run: PathBuf,
}

/// What this process may do, decided once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privilege {
    pub roots: Roots,
    /// Effective uid 0 in the initial user namespace.
    pub rootful: bool,
}

impl Roots {
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// Durable files of one container: overlay upper and work, logs, generated `/etc` files.
    pub fn container(&self, id: &super::ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// Live files of one container: monitor lock and socket, pid record.
    pub fn live(&self, id: &super::ContainerId) -> PathBuf {
        self.run.join("containers").join(id.as_str())
    }

    /// Durable files of one pod: its generated `/etc` files.
    pub fn pod(&self, id: &super::PodId) -> PathBuf {
        self.data.join("pods").join(id.as_str())
    }

    /// Live files of one pod: the namespaces that it holds, its `/dev/shm`.
    pub fn live_pod(&self, id: &super::PodId) -> PathBuf {
        self.run.join("pods").join(id.as_str())
    }

    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    pub fn blobs(&self) -> PathBuf {
        self.data.join("blobs").join("sha256")
    }

    pub fn ingest(&self) -> PathBuf {
        self.data.join("ingest")
    }

    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub fn database(&self) -> PathBuf {
        self.data.join("rcon.db")
    }
}

impl Privilege {
    /// `/var/lib/rcon` and `/run/rcon` for root; under the user's XDG directories otherwise. An explicit
    /// root wins.
    pub fn detect(data: Option<&Path>, run: Option<&Path>) -> Self {
        let rootful = rustix::process::geteuid().is_root();
        let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let default_data = || {
            if rootful {
                PathBuf::from("/var/lib/rcon")
            } else {
                std::env::var_os("XDG_DATA_HOME").map_or_else(|| home().join(".local/share"), PathBuf::from).join("rcon")
            }
        };
        let default_run = || {
            if rootful {
                PathBuf::from("/run/rcon")
            } else {
                let uid = rustix::process::geteuid().as_raw();
                std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from(format!("/tmp/rcon-run-{uid}")), PathBuf::from).join("rcon")
            }
        };
        let roots = Roots { data: data.map_or_else(default_data, Path::to_path_buf), run: run.map_or_else(default_run, Path::to_path_buf) };
        Privilege { roots, rootful }
    }
}
