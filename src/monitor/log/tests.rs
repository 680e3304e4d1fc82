//! The writer: lines and parts, losses, receivers.

use super::*;
use std::os::unix::net::UnixDatagram;

struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rcon-log-{}", crate::base::random_hex(12)));
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn spec(driver: &str, pairs: &[(&str, &str)]) -> LogSpec {
    LogSpec { driver: driver.to_owned(), options: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
}

fn open(place: &Place, spec: &LogSpec, context: &LogContext) -> Writer {
    Writer::open(&place.0, &place.0, spec, context).unwrap().unwrap()
}

#[test]
fn a_record_that_a_crash_cut_off_does_not_take_the_next_one_with_it() {
    let place = Place::new();
    std::fs::write(path(&place.0, "json-file"), b"{\"log\":\"ha").unwrap();
    let mut writer = open(&place, &LogSpec::default(), &LogContext::default());
    writer.write(1, b"next\n");
    let text = std::fs::read_to_string(path(&place.0, "json-file")).unwrap();
    assert!(text.starts_with("{\"log\":\"ha\n{\"log\":\"next"), "{text}");
    assert_eq!(writer.files.as_ref().unwrap().written(), text.len() as u64);
}

#[test]
fn chosen_attributes_are_in_every_record() {
    let place = Place::new();
    let context = LogContext { attributes: [("tag".to_owned(), "web".to_owned())].into(), ..LogContext::default() };
    let mut writer = open(&place, &spec("local", &[]), &context);
    writer.write(2, b"x\n");
    let text = std::fs::read_to_string(path(&place.0, "local")).unwrap();
    assert!(text.contains("\"stream\":\"stderr\",\"attrs\":{\"tag\":\"web\"},"), "{text}");
    assert!(unreadable(&spec("none", &[])).is_some() && unreadable(&spec("local", &[])).is_none());
}

#[test]
fn lines_that_find_no_room_are_counted_and_told_when_there_is_room_again() {
    let place = Place::new();
    let mut writer = open(&place, &LogSpec::default(), &LogContext::default());
    writer.write(1, b"one\n");
    // A file that refuses every write, like a full disk.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let real = writer.exchange(full);
    writer.write(1, b"two\nthree\n");
    writer.write(2, b"four\n");
    assert_eq!(std::fs::read_to_string(place.0.join(LOST)).unwrap(), "2", "the count is written at most once a second");
    drop(writer.exchange(real));
    writer.write(1, b"five\n");
    writer.finish();
    assert_eq!(std::fs::read_to_string(place.0.join(LOST)).unwrap(), "3");
    let text = std::fs::read_to_string(path(&place.0, "json-file")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("\"lost\":3") && lines[2].contains("five"), "{text}");
}

#[test]
fn a_slow_receiver_makes_wait_for_a_while_or_costs_lines_that_are_counted() {
    let place = Place::new();
    let socket = place.0.join("log.sock");
    let receiver = UnixDatagram::bind(&socket).unwrap();
    let address = format!("unixgram://{}", socket.display());
    for (mode, lines) in [("blocking", 3_000), ("non-blocking", 20_000)] {
        let mut options = vec![("syslog-address", address.as_str()), ("mode", mode), ("cache-disabled", "true")];
        if mode == "non-blocking" {
            options.push(("max-buffer-size", "64k"));
        }
        let mut writer = open(&place, &spec("syslog", &options), &LogContext { tag: "web".to_owned(), ..LogContext::default() });
        let mut sent = 0;
        while sent < lines && writer.holds_back().is_none() {
            writer.write(1, format!("line {sent} {}\n", "x".repeat(400)).as_bytes());
            sent += 1;
        }
        assert_eq!(writer.holds_back().is_some(), mode == "blocking");
        assert!(writer.waits_for().is_some());
        let mut buffer = [0; 4096];
        receiver.set_nonblocking(true).unwrap();
        let mut seen = 0;
        loop {
            match receiver.recv(&mut buffer) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    assert!(
                        text.starts_with("<30>") && text.contains(" web[") && (mode != "blocking" || text.contains(&format!(": line {seen} "))),
                        "{text}"
                    );
                    seen += 1;
                }
                Err(_) if writer.waits_for().is_some() => writer.flush(),
                Err(_) => break,
            }
        }
        writer.finish();
        let lost: u64 = std::fs::read_to_string(place.0.join(LOST)).unwrap_or_else(|_| "0".to_owned()).parse().unwrap();
        assert_eq!(seen + lost, sent, "{mode}");
        assert_eq!(lost > 0, mode == "non-blocking");
    }
}

#[test]
fn a_receiver_that_is_not_there_is_named() {
    let place = Place::new();
    let error = Writer::open(&place.0, &place.0, &spec("syslog", &[("syslog-address", "unix:///nowhere/log")]), &LogContext::default());
    assert!(error.err().unwrap().to_string().contains("unix:///nowhere/log"));
}
