//! `ps --ns`: the namespaces of containers, by the kernel's numbers.

use crate::cli::failure::Failure;
use crate::cli::template;
use crate::engine::View;
use serde_json::{Map, Value, json};

const TABLE: &str = "{{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.CGROUPNS}}\t{{.IPC}}\t{{.MNT}}\t{{.NET}}\t{{.PIDNS}}\t{{.USERNS}}\t{{.UTS}}";
const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Pid", "PID"),
    ("CGROUPNS", "CGROUPNS"),
    ("IPC", "IPC"),
    ("MNT", "MNT"),
    ("NET", "NET"),
    ("PIDNS", "PIDNS"),
    ("USERNS", "USERNS"),
    ("UTS", "UTS"),
];
/// Field, and the file in `/proc/PID/ns` (namespaces(7)).
const NAMESPACES: [(&str, &str); 7] =
    [("CGROUPNS", "cgroup"), ("IPC", "ipc"), ("MNT", "mnt"), ("NET", "net"), ("PIDNS", "pid"), ("USERNS", "user"), ("UTS", "uts")];

/// # Errors
/// A malformed template.
pub fn table(views: &[View], format: Option<&str>, trunc: bool) -> Result<String, Failure> {
    let rows: Vec<Value> = views.iter().map(|view| row(view, trunc)).collect();
    template::list(format, TABLE, TITLES, &rows)
}

/// A container that does not run has none.
fn row(view: &View, trunc: bool) -> Value {
    let record = &view.record;
    let mut row = Map::new();
    row.insert("ID".to_owned(), json!(if trunc { record.id.short() } else { record.id.as_str() }));
    row.insert("Names".to_owned(), json!(record.name.as_str()));
    row.insert("Pid".to_owned(), json!(view.pid));
    for (field, file) in NAMESPACES {
        let link = std::fs::read_link(format!("/proc/{}/ns/{file}", view.pid)).ok().filter(|_| view.pid != 0);
        let text = link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
        // `net:[4026531840]`
        let number: String = text.chars().filter(char::is_ascii_digit).collect();
        row.insert(field.to_owned(), json!(number));
    }
    Value::Object(row)
}
