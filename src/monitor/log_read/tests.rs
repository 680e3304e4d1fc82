//! Reading: rotation, tails, times, following, what is missing.

use super::super::LogContext;
use super::super::log::{Writer, path as log_path};
use super::*;
use crate::state::record::LogSpec;

struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn place() -> Scratch {
    let path = std::env::temp_dir().join(format!("rcon-log-{}", crate::base::random_hex(12)));
    std::fs::create_dir(&path).unwrap();
    Scratch(path)
}

fn writer(place: &Scratch, options: &[(&str, &str)]) -> Writer {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Writer::open(&place.0, &place.0, &LogSpec { driver: "json-file".to_owned(), options }, &LogContext::default()).unwrap().unwrap()
}

fn lines(place: &Scratch, query: &LogQuery) -> Vec<String> {
    let mut out = Vec::new();
    let mut each = |line: LogLine| {
        out.push(line.gap.map_or_else(|| String::from_utf8(line.data).unwrap(), |gap| format!("{gap:?}")));
        true
    };
    read_log(&log_path(&place.0, "json-file"), query, &|| false, &mut each).unwrap();
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
        read_log(&log_path(&place.0, "json-file"), &query, &alive, &mut |line| {
            seen.push(String::from_utf8(line.data).unwrap().trim().parse::<usize>().unwrap());
            true
        })
        .unwrap();
    });
    assert_eq!(seen, (0..2000).collect::<Vec<_>>());
}

#[test]
fn compressed_files_are_read_like_plain_ones() {
    let place = place();
    let mut log = writer(&place, &[("max-size", "2k"), ("max-file", "50"), ("compress", "true")]);
    for n in 0..200 {
        log.write(1, format!("line {n}\n").as_bytes());
    }
    log.finish();
    let names: Vec<String> = std::fs::read_dir(&place.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().filter(|name| name.ends_with(".gz")).count() >= 5 && !names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
    let all = lines(&place, &LogQuery::default());
    assert_eq!(all, (0..200).map(|n| format!("line {n}\n")).collect::<Vec<_>>());
    for tail in [0, 1, 30, 77, 1000] {
        let expected = &all[all.len().saturating_sub(tail)..];
        assert_eq!(lines(&place, &LogQuery { tail: Some(tail), ..LogQuery::default() }), expected, "{tail}");
    }
    // The next start goes on with the numbers of the files.
    let mut log = writer(&place, &[("max-size", "2k"), ("max-file", "50"), ("compress", "true")]);
    for n in 200..300 {
        log.write(1, format!("line {n}\n").as_bytes());
    }
    assert_eq!(lines(&place, &LogQuery::default()).len(), 300);
}

#[test]
fn a_follower_that_rotation_has_overtaken_says_so() {
    for files in ["1", "2"] {
        let place = place();
        let mut log = writer(&place, &[("max-size", "300"), ("max-file", files)]);
        log.write(1, b"first\n");
        let mut seen = Vec::new();
        let mut rounds = 0;
        let alive = || true;
        read_log(&log_path(&place.0, "json-file"), &LogQuery { follow: true, ..LogQuery::default() }, &alive, &mut |line| {
            seen.push(line.gap);
            rounds += 1;
            if rounds == 1 {
                for n in 0..100 {
                    log.write(1, format!("line {n}\n").as_bytes());
                }
            }
            line.data != b"line 99\n"
        })
        .unwrap();
        assert_eq!(seen[0], None);
        assert!(seen.iter().flatten().all(|gap| matches!(gap, Gap::Files(missing) if *missing > 5)), "{seen:?}");
        assert_eq!(seen.iter().flatten().count(), 1, "{seen:?}");
    }
}

#[test]
fn lost_lines_are_told_where_they_were_lost() {
    let place = place();
    let mut log = writer(&place, &[]);
    log.write(1, b"a\n");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let real = log.exchange(full);
    log.write(1, b"b\nc\n");
    drop(log.exchange(real));
    log.write(1, b"d\n");
    assert_eq!(lines(&place, &LogQuery::default()), ["a\n", "Lines(2)", "d\n"]);
}
