//! Opening, creating and migrating the database file, and folding back its write-ahead log.

use super::schema::{MIGRATIONS, VERSION};
use super::{Db, Error};
use crate::base::fs::Context;
use crate::base::{Roots, fs};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for another writer.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// Opens the database; the fast path (it exists and is current) makes no directory and takes no lock.
pub(super) fn open(roots: &Roots) -> Result<Db, Error> {
    let path = roots.database();
    // Before SQLite sees it: it would throw away the log beside an empty file.
    refuse_emptied(roots, &path)?;
    let db = match connect(&path, false) {
        Ok(db) => db,
        // It may just not exist; anything else fails again, with its reason, below.
        Err(_) => {
            fs::create_dir_all(&roots.data, 0o700)?;
            return create_or_migrate(roots);
        }
    };
    match version(&db)? {
        VERSION => {
            super::reserve::keep(&db);
            Ok(db)
        }
        newer if newer > VERSION => Err(Error::TooNew { path, found: newer, supported: VERSION }),
        _ => {
            drop(db);
            create_or_migrate(roots)
        }
    }
}

/// Runs the missing migrations while no other process does.
fn create_or_migrate(roots: &Roots) -> Result<Db, Error> {
    let lock = std::fs::File::open(&roots.data).on("open", &roots.data)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).on("lock", &roots.data)?;
    let path = roots.database();
    let mut db = connect(&path, true)?;
    let found = version(&db)?;
    db.found_version = found;
    if found > VERSION {
        return Err(Error::TooNew { path, found, supported: VERSION });
    }
    if found == 0 {
        // Kept in the file: later openers find it in this mode.
        let run = |sql: &str| db.connection.query_row(sql, [], |row| row.get::<_, String>(0));
        run("PRAGMA journal_mode=WAL").map_err(Error::sqlite("switch to a write-ahead log", &path))?;
    }
    let pending = usize::try_from(found).unwrap_or(0);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(pending) {
        let sql = format!("BEGIN IMMEDIATE; {migration}; PRAGMA user_version={}; COMMIT", index + 1);
        db.connection.execute_batch(&sql).map_err(Error::sqlite(format!("migrate the schema to version {}", index + 1), &path))?;
    }
    // The version stands in the file itself, where an older rcon finds it first.
    checkpoint(&db, 0)?;
    super::reserve::keep(&db);
    Ok(db)
}

/// A file of no bytes is what a crash during the very first command leaves; beside containers or layers it is what a
/// broken file system or a mistake left, and a new database would disown all of them.
fn refuse_emptied(roots: &Roots, path: &Path) -> Result<(), Error> {
    if !std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) {
        return Ok(());
    }
    let holds = |directory: &Path| std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
    match [roots.containers(), roots.layers()].into_iter().find(|directory| holds(directory)) {
        Some(beside) => Err(Error::Emptied { path: path.to_path_buf(), beside }),
        None => Ok(()),
    }
}

fn connect(path: &Path, create: bool) -> Result<Db, Error> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let failed = || Error::sqlite("open the database", path);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed())?;
    connection.busy_handler(Some(wait_for_others)).map_err(failed())?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed())?;
    Ok(Db { connection, path: path.to_path_buf(), found_version: VERSION })
}

/// Waits in short sleeps: SQLite's own back-off goes to 100 ms a step, far longer than a transaction here.
fn wait_for_others(tries: i32) -> bool {
    let tries = u32::try_from(tries).unwrap_or(0);
    let pause = if tries < 20 { Duration::from_micros(250) } else { Duration::from_millis(2) };
    std::thread::sleep(pause);
    Duration::from_millis(2) * tries < BUSY_LIMIT
}

/// Reads the schema version; the settings that hold for this connection only are made on the way
/// (none of them writes to the file).
fn version(db: &Db) -> Result<i64, Error> {
    let failed = || Error::sqlite("read the schema version", &db.path);
    let version = db.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed())?;
    if version <= VERSION {
        db.connection.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0").map_err(failed())?;
    }
    Ok(version)
}

/// Folds back and truncates the log if it has `limit` bytes or more and nobody else is using it.
pub(super) fn checkpoint(db: &Db, limit: u64) -> Result<(), Error> {
    let mut log = db.path.as_os_str().to_owned();
    log.push("-wal");
    if std::fs::metadata(&log).map_or(0, |meta| meta.len()) < limit {
        return Ok(());
    }
    let failed = || Error::sqlite("fold back the write-ahead log", &db.path);
    // A second connection, because this one must not wait for others.
    let second = Connection::open_with_flags(&db.path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed())?;
    second.busy_timeout(Duration::ZERO).map_err(failed())?;
    second.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed())?;
    let outcome = second.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
        Err(error) => Err(failed()(error)),
    }
}
