//! What the suites of both command lines share: the outcome of a command, waiting with a deadline, where the fixtures are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "exit code; stderr: {}; stdout: {}", self.err, self.out);
        self.out.trim_end().to_owned()
    }

    #[track_caller]
    pub fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "exit code; stderr: {}", self.err);
        assert!(self.err.contains(words), "stderr lacks «{words}»: {}", self.err);
        self
    }
}

pub fn fixtures() -> PathBuf {
    std::env::var_os("RCON_TEST_FIXTURES").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fixtures"), PathBuf::from)
}

/// Waits for a condition with a deadline, which a machine that does much else must not miss; never sleeps longer than it must.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 60 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
