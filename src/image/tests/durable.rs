//! Pulls whose files are synced behind them: what is used after the machine has stopped, and what is fetched anew.

use super::*;
use crate::image::durable::{finish, settle, settle_under};
use crate::state::unsynced::Unsynced;

/// A pulled image of two layers, unsynced: a test's binary has no stage that would sync it.
struct Pull {
    scratch: Scratch,
    db: Db,
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
    image: record::Image,
}

impl Pull {
    fn new(settings: &RegistryConfig) -> Self {
        let (scratch, faults) = (Scratch::new(), Faults::default());
        let db = Db::open(&scratch.0).unwrap();
        let asked = faults.asked.clone();
        let server = serve(two_layers(), faults);
        let image = pull_with(&server, &scratch, &db, settings).unwrap().image;
        asked.lock().unwrap().clear();
        Pull { scratch, db, server, asked, image }
    }

    fn unsynced(&self) -> Vec<Unsynced> {
        self.db.unsynced_layers().unwrap()
    }

    /// As the first command under another boot of the machine.
    fn reboot(&self) -> bool {
        settle_under(&self.scratch.0, &self.db, &self.image.layers, &self.unsynced(), "another boot").unwrap()
    }

    fn file(&self, layer: usize, path: &str) -> std::path::PathBuf {
        let row = self.db.layer(&self.image.layers[layer]).unwrap().unwrap();
        self.scratch.0.layers().join(row.dir).join(path)
    }

    /// A pull brings back `layers` layers, and everything is right.
    fn comes_back(&self, settings: &RegistryConfig, layers: usize) {
        pull_with(&self.server, &self.scratch, &self.db, settings).unwrap();
        assert_eq!(self.asked.lock().unwrap().len(), layers);
        check_files(&self.scratch, &self.db, &self.image);
        let report = check::check(&self.scratch.0, &self.db, false).unwrap();
        assert_eq!((report.layers, report.findings), (2, Vec::new()));
    }
}

#[test]
fn the_note_goes_when_the_layers_are_synced() {
    let pull = Pull::new(&RegistryConfig::default());
    let mut chains: Vec<String> = pull.unsynced().into_iter().map(|layer| layer.chain_id).collect();
    chains.sort();
    let mut wanted = pull.image.layers.clone();
    wanted.sort();
    assert_eq!(chains, wanted);
    assert!(settle(&pull.scratch.0, &pull.db, &pull.image.layers).unwrap(), "the same boot: nothing is lost");
    assert_eq!(pull.unsynced().len(), 2);
    finish(&pull.scratch.0, &pull.db, &content::disk(&pull.scratch.0).unwrap()).unwrap();
    assert_eq!(pull.unsynced(), []);
    // Synced is synced: whatever boot it is, nothing is looked at.
    fs::write(pull.file(0, "diff/bin/big"), b"").unwrap();
    assert!(pull.reboot());
}

#[test]
fn what_waits_for_the_disk_needs_no_note() {
    let pull = Pull::new(&RegistryConfig { wait_for_disk: true, ..RegistryConfig::default() });
    assert_eq!(pull.unsynced(), []);
}

#[test]
fn files_that_reached_the_disk_are_used() {
    for settings in [RegistryConfig::default(), keeping()] {
        let pull = Pull::new(&settings);
        assert!(pull.reboot());
        assert_eq!(pull.unsynced(), []);
        pull.comes_back(&settings, 0);
    }
}

#[test]
fn what_the_power_took_is_fetched_anew() {
    type Loss = fn(&Pull);
    let losses: [(&str, Loss); 5] = [
        ("contents", |pull| fs::write(pull.file(0, "diff/bin/big"), b"").unwrap()),
        ("zeros", |pull| fs::write(pull.file(0, "diff/bin/big"), vec![0; 3_000_000]).unwrap()),
        ("a name", |pull| fs::remove_file(pull.file(0, "diff/etc/hostname")).unwrap()),
        ("the record of the tar", |pull| fs::write(pull.file(0, "tar-split"), b"").unwrap()),
        ("the directory", |pull| fs::remove_dir_all(pull.file(0, "")).unwrap()),
    ];
    for (what, lose) in losses {
        let pull = Pull::new(&RegistryConfig::default());
        lose(&pull);
        assert!(!pull.reboot(), "{what}");
        assert!(overlay(&pull.scratch.0, &pull.db, &pull.image).is_err(), "{what}");
        assert_eq!(pull.unsynced(), [], "{what}: the other layer is sound");
        assert!(pull.db.images().unwrap().is_empty() && pull.db.names().unwrap().is_empty(), "{what}");
        pull.comes_back(&RegistryConfig::default(), 1);
    }
}

#[test]
fn a_kept_blob_that_the_power_took_is_fetched_anew() {
    let pull = Pull::new(&keeping());
    let blob: Digest = pull.db.layer(&pull.image.layers[0]).unwrap().unwrap().blob.unwrap().parse().unwrap();
    let path = content::blob_path(&pull.scratch.0, &blob);
    let length = fs::metadata(&path).unwrap().len();
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
    assert!(!pull.reboot());
    pull.comes_back(&keeping(), 1);
}

#[test]
fn what_the_disk_refused_is_not_believed() {
    let pull = Pull::new(&RegistryConfig::default());
    crate::image::durable::refused(&pull.db, pull.unsynced()).unwrap();
    // Right in memory, and under this boot: still it goes.
    assert!(!settle(&pull.scratch.0, &pull.db, &pull.image.layers).unwrap());
    pull.comes_back(&RegistryConfig::default(), 2);
}
