//! Records of Docker's `json-file` format: `{"log":"…","stream":"stdout","attrs":{…},"time":"…"}` and a newline.
//!
//! Two keys are ours, and others skip them: `segment` in the first record of a file numbers the files of a log, so that
//! a reader knows when one is missing; `lost` says how many lines could not be written before this place.

use std::collections::BTreeMap;

/// What JSON needs escaped, and bytes that may begin such a thing: E2 begins U+2028 and U+2029.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    let mut index = 0;
    let others = [b'"', b'\\', b'<', b'>', b'&', 0xe2];
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// `"attrs":{…},` of every record, or nothing.
pub(super) fn attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    if attributes.is_empty() {
        return Vec::new();
    }
    let map = serde_json::to_string(attributes).expect("invariant: a map of texts is plain data");
    format!("\"attrs\":{map},").into_bytes()
}

/// Appends one record. `attributes` as made by [`attributes`].
pub(super) fn record(out: &mut Vec<u8>, stream: u8, data: &[u8], attributes: &[u8], at: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in data.utf8_chunks() {
        escape(out, chunk.valid());
        // Go replaces each invalid byte on its own (encoding/json).
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    let name: &[u8] = if stream == 2 { b"stderr" } else { b"stdout" };
    for part in [&b"\",\"stream\":\""[..], name, b"\",", attributes, b"\"time\":\"", at.as_bytes(), b"\"}\n"] {
        out.extend_from_slice(part);
    }
}

/// Says that `lines` are missing here.
pub(super) fn lost(lines: u64, at: &str) -> Vec<u8> {
    format!("{{\"log\":\"\",\"stream\":\"stderr\",\"lost\":{lines},\"time\":\"{at}\"}}\n").into_bytes()
}

/// The first of `records` with the number of its file, and the length of what it replaces.
pub(super) fn numbered(records: &[u8], segment: u64) -> (Vec<u8>, usize) {
    let length = records.iter().position(|b| *b == b'\n').map_or(records.len(), |i| i + 1);
    let mut first = records[..length].to_vec();
    first.truncate(length.saturating_sub(2));
    first.extend_from_slice(format!(",\"segment\":{segment}}}\n").as_bytes());
    (first, length)
}

/// JSON string escapes as Docker's log writer chooses them: `<`, `>`, `&`, U+2028 and U+2029 too.
fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut rest = 0;
    while let Some(skip) = bytes[rest..].iter().position(|byte| SPECIAL[usize::from(*byte)]) {
        out.extend_from_slice(&bytes[rest..rest + skip]);
        rest += skip;
        let length = match bytes[rest] {
            b'"' => add(out, b"\\\"", 1),
            b'\\' => add(out, b"\\\\", 1),
            b'\n' => add(out, b"\\n", 1),
            b'\r' => add(out, b"\\r", 1),
            b'\t' => add(out, b"\\t", 1),
            0xe2 if bytes[rest..].starts_with("\u{2028}".as_bytes()) => add(out, b"\\u2028", 3),
            0xe2 if bytes[rest..].starts_with("\u{2029}".as_bytes()) => add(out, b"\\u2029", 3),
            0xe2 => add(out, &bytes[rest..rest + 3], 3),
            other => add(out, format!("\\u{other:04x}").as_bytes(), 1),
        };
        rest += length;
    }
    out.extend_from_slice(&bytes[rest..]);
}

fn add(out: &mut Vec<u8>, text: &[u8], length: usize) -> usize {
    out.extend_from_slice(text);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: &[u8]) -> String {
        let mut out = Vec::new();
        record(&mut out, 1, data, b"", "T");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_look_like_dockers() {
        assert_eq!(text(b"hi\n"), "{\"log\":\"hi\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
        assert_eq!(text(b"\x1b<\"\\\xff\xfe\r\t"), "{\"log\":\"\\u001b\\u003c\\\"\\\\\\ufffd\\ufffd\\r\\t\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
        assert!(text("é😀…".as_bytes()).contains("é😀…"));
        assert!(text("a\u{2028}b\u{2029}".as_bytes()).contains("a\\u2028b\\u2029\""));
        let map = [("tag".to_owned(), "a\"b".to_owned())].into();
        let mut out = Vec::new();
        record(&mut out, 2, b"x", &attributes(&map), "T");
        assert_eq!(String::from_utf8(out).unwrap(), "{\"log\":\"x\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"a\\\"b\"},\"time\":\"T\"}\n");
    }

    #[test]
    fn every_text_is_read_back_as_it_was() {
        for text in ["", "plain", "\u{0}\u{1f}\u{7f}", "\u{2027}\u{2028}\u{202a}", "é\u{e000}\u{10ffff}", "\\n\"<>&'"] {
            let mut out = Vec::new();
            record(&mut out, 1, text.as_bytes(), b"", "T");
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap()["log"], text);
        }
    }

    #[test]
    fn the_first_record_of_a_file_carries_its_number() {
        let mut out = Vec::new();
        record(&mut out, 1, b"a\n", b"", "T");
        record(&mut out, 1, b"b\n", b"", "T");
        let (first, length) = numbered(&out, 7);
        assert_eq!(String::from_utf8(first).unwrap(), "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"T\",\"segment\":7}\n");
        assert_eq!(length, out.len() / 2);
    }
}
