//! Reading a container's log: across rotated files, from its end, and on as it grows.

use super::log::{path as log_path, rotated};
use super::{Error, LogLine, LogQuery};
use crate::base::Timestamp;
use crate::base::fs::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// Highest number of rotated files (the limit of `max-file`).
const MOST_FILES: u32 = 1000;

/// How often a rotation that came between is answered by another look.
const ROTATIONS: u32 = 100;

/// How often a follower asks whether the container still runs, while its log does not change.
const LIVENESS: Duration = Duration::from_millis(100);

/// Reads a container's log files (rotated ones too), calling `each`; with `follow` it goes on until `alive`
/// says false and all is read, or `each` returns false, or `until` has passed. A container without a log
/// has no lines; a damaged record (a crash of the machine) is skipped.
///
/// # Errors
/// A log file that cannot be read.
pub fn read_log(container_dir: &Path, query: &LogQuery, alive: &dyn Fn() -> bool, each: &mut dyn FnMut(LogLine) -> bool) -> Result<(), Error> {
    let path = log_path(container_dir);
    // Watched before reading: nothing written in between is missed.
    let watch = query.follow.then(|| Watch::new(container_dir)).transpose()?;
    let mut files = open_all(&path)?;
    if let Some(count) = query.tail {
        seek_to_tail(&path, &mut files, count)?;
    }
    let mut last = None;
    for mut file in files {
        if !file.read(&path, query, each)? {
            return Ok(());
        }
        last = Some(file);
    }
    let Some(watch) = watch else { return Ok(()) };
    loop {
        // Asked before reading: what a dead container wrote is all there.
        let running = alive();
        if !catch_up(&path, &mut last, query, each)? || !running {
            return Ok(());
        }
        if query.until.is_some_and(|until| Timestamp::now() > until) {
            return Ok(());
        }
        watch.wait()?;
    }
}

/// One open log file, read up to some point.
struct LogFile {
    reader: BufReader<File>,
    identity: (u64, u64),
    /// The beginning of a record that is being written.
    partial: Vec<u8>,
}

fn identity(meta: &std::fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl LogFile {
    fn open(path: &Path) -> Result<Option<Self>, Error> {
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => {
                let file = other.on("open", path)?;
                let identity = identity(&file.metadata().on("stat", path)?);
                Ok(Some(LogFile { reader: BufReader::with_capacity(32 << 10, file), identity, partial: Vec::new() }))
            }
        }
    }

    /// Gives all complete records to `each`; false: it wants no more.
    fn read(&mut self, path: &Path, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<bool, Error> {
        loop {
            let count = self.reader.read_until(b'\n', &mut self.partial).on("read", path)?;
            if self.partial.last() != Some(&b'\n') {
                if count == 0 {
                    return Ok(true);
                }
                continue;
            }
            let record = parse(&self.partial);
            self.partial.clear();
            let Some(line) = record else { continue };
            if query.since.is_some_and(|since| line.at < since) {
                continue;
            }
            if query.until.is_some_and(|until| line.at > until) || !each(line) {
                return Ok(false);
            }
        }
    }

    /// Someone cut the log to nothing (`truncate -s 0`): begins anew.
    fn rewind_if_cut(&mut self, path: &Path) -> Result<(), Error> {
        let position = self.reader.stream_position().on("read", path)?;
        if self.reader.get_ref().metadata().on("stat", path)?.len() < position {
            self.reader.seek(SeekFrom::Start(0)).on("read", path)?;
            self.partial.clear();
        }
        Ok(())
    }
}

/// All files, oldest first, as they stood together at one moment: looked at again until no rotation came between.
fn open_all(path: &Path) -> Result<Vec<LogFile>, Error> {
    let mut files = open_once(path)?;
    // A writer that rotates faster than a listing takes wins: then what is shown has a gap, which it has anyway.
    for _ in 0..ROTATIONS {
        let newest = std::fs::metadata(path).ok().map(|meta| identity(&meta));
        if newest == files.last().map(|file| file.identity) {
            break;
        }
        files = open_once(path)?;
    }
    Ok(files)
}

/// Opened newest first, over the one hole that a rotation moves through the numbers.
fn open_once(path: &Path) -> Result<Vec<LogFile>, Error> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut holes = 0;
    for n in 0..=MOST_FILES {
        match LogFile::open(&rotated(path, n))? {
            Some(file) if files.last().is_none_or(|newer| newer.identity != file.identity) => files.push(file),
            Some(_) => {}
            None => holes += 1,
        }
        if holes == 2 {
            break;
        }
    }
    files.reverse();
    Ok(files)
}

/// Moves on through everything written since, following rotations by the identity of files.
fn catch_up(path: &Path, last: &mut Option<LogFile>, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<bool, Error> {
    if let Some(file) = last {
        file.rewind_if_cut(path)?;
        let newest = std::fs::metadata(path).ok().map(|meta| identity(&meta));
        // After the look: a file that is no longer the newest gets no more records.
        if !file.read(path, query, each)? {
            return Ok(false);
        }
        if newest.is_none_or(|newest| newest == file.identity) {
            return Ok(true);
        }
    }
    let mut files = open_all(path)?;
    if let Some(done) = last
        && let Some(index) = files.iter().position(|file| file.identity == done.identity)
    {
        files.drain(..=index);
    }
    for mut file in files {
        if !file.read(path, query, each)? {
            return Ok(false);
        }
        *last = Some(file);
    }
    Ok(true)
}

/// Drops whole older files and positions the first kept one so that `count` records remain.
fn seek_to_tail(path: &Path, files: &mut Vec<LogFile>, count: usize) -> Result<(), Error> {
    let mut wanted = count;
    let mut keep = files.len();
    for file in files.iter_mut().rev() {
        let (start, found) = tail_start(file.reader.get_ref(), wanted).on("read", path)?;
        file.reader.seek(SeekFrom::Start(start)).on("read", path)?;
        keep -= 1;
        wanted -= found;
        if wanted == 0 {
            break;
        }
    }
    files.drain(..keep);
    Ok(())
}

/// Offset from which at most `count` complete records follow, and how many they are.
fn tail_start(file: &File, count: usize) -> std::io::Result<(u64, usize)> {
    let mut buffer = [0u8; 16 << 10];
    let mut end = file.metadata()?.len();
    let mut seen = 0;
    while end > 0 {
        let length = end.min(buffer.len() as u64);
        let chunk = &mut buffer[..length as usize];
        file.read_exact_at(chunk, end - length)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            if *byte == b'\n' {
                if seen == count {
                    return Ok((end - length + index as u64 + 1, count));
                }
                seen += 1;
            }
        }
        end -= length;
    }
    Ok((0, seen))
}

fn parse(record: &[u8]) -> Option<LogLine> {
    #[derive(serde::Deserialize)]
    struct Record {
        log: String,
        stream: String,
        time: String,
    }
    let record: Record = serde_json::from_slice(record).ok()?;
    let stream = if record.stream == "stderr" { 2 } else { 1 };
    Some(LogLine { at: Timestamp::parse_rfc3339(&record.time)?, stream, data: record.log.into_bytes() })
}

/// Tells when something in the directory of a log changed.
struct Watch(OwnedFd);

impl Watch {
    fn new(directory: &Path) -> Result<Self, Error> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(Error::system("watch a log"))?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, events).on("watch", directory)?;
        Ok(Watch(watch))
    }

    /// Until something changed, or it is time to ask whether the container lives.
    fn wait(&self) -> Result<(), Error> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&super::relay::timespec(LIVENESS))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Error::system("wait for a log to change")(error)),
        }
        let mut events = [0u8; 4096];
        loop {
            match rustix::io::read(&self.0, &mut events[..]) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Error::system("read the changes of a log")(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::Writer;
    use super::*;
    use crate::state::record::LogSpec;

    struct Place(std::path::PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn place() -> Place {
        let path = std::env::temp_dir().join(format!("rcon-log-{}", crate::base::random_hex(12)));
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }

    fn writer(place: &Place, options: &[(&str, &str)]) -> Writer {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Writer::open(&place.0, &LogSpec { driver: "json-file".to_owned(), options }).unwrap().unwrap()
    }

    fn lines(place: &Place, query: &LogQuery) -> Vec<String> {
        let mut out = Vec::new();
        let mut each = |line: LogLine| {
            out.push(String::from_utf8(line.data).unwrap());
            true
        };
        read_log(&place.0, query, &|| false, &mut each).unwrap();
        out
    }

    #[test]
    fn lines_and_parts_are_read_back() {
        let place = place();
        let mut log = writer(&place, &[]);
        log.write(1, b"one\ntw");
        log.write(2, b"err");
        log.write(1, b"o\n");
        log.write(1, &vec![b'x'; (16 << 10) + 5]);
        log.write(1, b"\n");
        log.finish();
        let read = lines(&place, &LogQuery::default());
        let short: Vec<&str> = read.iter().map(|line| if line.len() > 10 { "long" } else { line }).collect();
        assert_eq!(short, ["one\n", "two\n", "long", "xxxxx\n", "err"]);
        assert_eq!(read[2].len(), 16 << 10);
    }

    #[test]
    fn rotation_keeps_the_newest_files_and_tail_spans_them() {
        let place = place();
        let mut log = writer(&place, &[("max-size", "300"), ("max-file", "3")]);
        for n in 0..100 {
            log.write(1, format!("line {n}\n").as_bytes());
        }
        let mut names: Vec<u64> = std::fs::read_dir(&place.0).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        names.sort_unstable();
        assert_eq!(names.len(), 3);
        assert!(names[2] <= 300, "{names:?}");
        let all = lines(&place, &LogQuery::default());
        assert_eq!(all.last().unwrap(), "line 99\n");
        for tail in [0, 1, 4, 7, 1000] {
            let expected = &all[all.len().saturating_sub(tail)..];
            assert_eq!(lines(&place, &LogQuery { tail: Some(tail), ..LogQuery::default() }), expected, "{tail}");
        }
    }

    #[test]
    fn since_and_until_bound_the_lines() {
        let place = place();
        let mut log = writer(&place, &[]);
        log.write(1, b"a\n");
        let middle = Timestamp::now();
        log.write(1, b"b\n");
        assert_eq!(lines(&place, &LogQuery { since: Some(middle), ..LogQuery::default() }), ["b\n"]);
        assert_eq!(lines(&place, &LogQuery { until: Some(middle), ..LogQuery::default() }), ["a\n"]);
    }

    #[test]
    fn a_follower_sees_every_line_across_rotations() {
        let place = place();
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // More files than are ever rotated away while the reader sleeps.
                let mut log = writer(&place, &[("max-size", "2k"), ("max-file", "1000")]);
                for n in 0..2000 {
                    log.write(1, format!("{n}\n").as_bytes());
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            let query = LogQuery { follow: true, ..LogQuery::default() };
            let alive = || !done.load(std::sync::atomic::Ordering::Acquire);
            read_log(&place.0, &query, &alive, &mut |line| {
                seen.push(String::from_utf8(line.data).unwrap().trim().parse::<usize>().unwrap());
                true
            })
            .unwrap();
        });
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
    }
}
