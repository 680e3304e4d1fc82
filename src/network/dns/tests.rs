//! Messages, tables and answers; what the sockets do is in `served`.
mod served;

use super::answer::{Outcome, SECONDS, Shuffle, Zone, answer};
use super::message::{self, Code, Query, Unreadable};
use super::table::{Entry, Table, text};
use proptest::prelude::*;
use std::net::IpAddr;

const A: u16 = 1;
const MX: u16 = 15;
const AAAA: u16 = 28;
const PTR: u16 = 12;
const SRV: u16 = 33;
const ANY: u16 = 255;

/// A query with id 0x1234; `edns`: the size that it announces.
fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some(size) = edns {
        let [a, b] = size.to_be_bytes();
        bytes.extend_from_slice(&[0, 0, 41, a, b, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}

/// What an answer says: code, truncated, records as text.
#[derive(Debug, PartialEq)]
struct Said {
    code: u8,
    truncated: bool,
    records: Vec<String>,
}

fn said(bytes: &[u8]) -> Said {
    let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    assert_eq!((half(0), bytes[2] & 0x80), (0x1234, 0x80), "{bytes:?}");
    let name = |mut at: usize| {
        let mut labels = Vec::new();
        while bytes[at] != 0 {
            let size = usize::from(bytes[at]);
            labels.push(String::from_utf8(bytes[at + 1..at + 1 + size].to_vec()).unwrap());
            at += 1 + size;
        }
        (labels.join("."), at + 1)
    };
    let mut at = if half(4) == 1 { name(12).1 + 4 } else { 12 };
    let mut records = Vec::new();
    for _ in 0..half(6) {
        assert_eq!(half(at), 0xc00c, "the name of the question");
        let (kind, length) = (half(at + 2), usize::from(half(at + 10)));
        let data = &bytes[at + 12..at + 12 + length];
        records.push(match kind {
            A => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
            AAAA => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
            PTR => name(at + 12).0,
            other => panic!("a record of type {other}"),
        });
        at += 12 + length;
    }
    Said { code: bytes[3] & 0xf, truncated: bytes[2] & 2 != 0, records }
}

fn id(number: u32) -> String {
    format!("{number:012x}{}", "0".repeat(52))
}

fn entry(number: u32, name: &str, aliases: &[&str], ipv4: Option<&str>, ipv6: Option<&str>) -> Entry {
    Entry {
        container: id(number),
        name: name.to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        ipv4: ipv4.map(|a| a.parse().unwrap()),
        ipv6: ipv6.map(|a| a.parse().unwrap()),
    }
}

fn samples() -> (String, String) {
    let front = [
        entry(0xabc, "Web.1", &["web", "all"], Some("10.1.0.2"), Some("fd00::2")),
        entry(0xabd, "web-2", &["web", "all", "www.example.org"], Some("10.1.0.3"), None),
        entry(0xdef, "db", &["all", "db"], Some("10.1.0.4"), None),
        entry(0xe00, "six", &[], None, Some("fd00::6")),
    ];
    let back = [entry(0xdef, "db", &[], Some("10.2.0.4"), None), entry(0xfff, "cache", &[], Some("10.2.0.5"), None)];
    (text(&front), text(&back))
}

/// Asks for a name on the networks "front" and "Back.net".
fn ask_bytes(query: &[u8]) -> (Outcome, Vec<u8>) {
    let (front, back) = samples();
    let zones = [Zone { name: "front", table: Table(front.as_bytes()) }, Zone { name: "Back.net", table: Table(back.as_bytes()) }];
    let mut out = vec![9; 3];
    (answer(query, &zones, false, &mut Shuffle::new(1), &mut out), out)
}

fn ask(name: &str, kind: u16) -> Option<Said> {
    let (outcome, out) = ask_bytes(&query(name, kind, None));
    (outcome == Outcome::Answered).then(|| said(&out))
}

#[test]
fn names_are_found_by_every_name_and_nothing_else_is_ours() {
    let short = &id(0xdef)[..12];
    let table: [(&str, u16, &[&str]); 18] = [
        ("web.1", A, &["10.1.0.2"]),
        ("WEB.1", AAAA, &["fd00::2"]),
        ("db", A, &["10.1.0.4"]),
        ("db", AAAA, &[]),
        ("db", MX, &[]),
        ("six", A, &[]),
        ("six", AAAA, &["fd00::6"]),
        ("web.1", ANY, &["10.1.0.2", "fd00::2"]),
        ("www.example.org", A, &["10.1.0.3"]),
        (short, A, &["10.1.0.4"]),
        ("cache", A, &["10.2.0.5"]),
        ("db.front", A, &["10.1.0.4"]),
        ("db.back.NET", A, &["10.2.0.4"]),
        (&format!("{short}.back.net"), A, &["10.2.0.4"]),
        ("_http._tcp.db", SRV, &[]),
        ("4.0.1.10.in-addr.arpa", PTR, &["db.front"]),
        ("5.0.2.10.in-addr.arpa", PTR, &["cache.Back.net"]),
        ("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", PTR, &["Web.1.front"]),
    ];
    for (name, kind, expected) in table {
        let mut answer = ask(name, kind).unwrap_or_else(|| panic!("{name} is not ours"));
        answer.records.sort();
        assert_eq!(answer, Said { code: 0, truncated: false, records: expected.iter().map(|t| (*t).to_owned()).collect() }, "{name} {kind}");
    }
    let more = &id(0xdef)[..20];
    for (name, kind) in [
        ("", A),
        ("d", A),
        ("db2", A),
        ("web", SRV + 1000),
        ("front", A),
        (".front", A),
        ("cache.front", A),
        ("db.other", A),
        ("example.org", A),
        (more, A),
        (&short[..11], A),
        ("_http._tcp.other", SRV),
        ("_http", SRV),
        ("9.0.1.10.in-addr.arpa", PTR),
        ("04.0.1.10.in-addr.arpa", PTR),
        ("0.1.10.in-addr.arpa", PTR),
        ("1.4.0.1.10.in-addr.arpa", PTR),
    ] {
        let ours = ask(name, kind);
        assert!(if name == "web" { ours.is_some_and(|said| said.records.is_empty()) } else { ours.is_none() }, "{name}");
    }
    let mut chaos = query("db", A, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(ask_bytes(&chaos).0, Outcome::Foreign);
    let mut dot = query("dbXfront", A, None);
    dot[15] = b'.';
    assert_eq!(ask_bytes(&dot).0, Outcome::Foreign, "a dot within a label is no separator");
}

#[test]
fn holders_of_an_alias_come_in_changing_order() {
    let (front, _) = samples();
    let zones = [Zone { name: "front", table: Table(front.as_bytes()) }];
    let mut order = Shuffle::new(77);
    let mut firsts = std::collections::BTreeMap::new();
    let mut out = Vec::new();
    for _ in 0..3000 {
        assert_eq!(answer(&query("all", A, None), &zones, false, &mut order, &mut out), Outcome::Answered);
        let records = said(&out).records;
        assert_eq!(records.len(), 3);
        *firsts.entry(records[0].clone()).or_insert(0) += 1;
    }
    assert_eq!(firsts.len(), 3, "{firsts:?}");
    assert!(firsts.values().all(|&count| (800..1200).contains(&count)), "{firsts:?}");
}

#[test]
fn long_answers_are_cut_and_say_so() {
    let many: Vec<Entry> = (0..300).map(|n| entry(n, &format!("c{n}"), &["all"], Some(&format!("10.0.{}.{}", n / 250, n % 250 + 1)), None)).collect();
    let text = text(&many);
    let zones = [Zone { name: "front", table: Table(text.as_bytes()) }];
    let size = |edns: Option<u16>, stream: bool| {
        let mut out = Vec::new();
        assert_eq!(answer(&query("all", A, edns), &zones, stream, &mut Shuffle::new(1), &mut out), Outcome::Answered);
        let answer = said(&out);
        (out.len(), answer.records.len(), answer.truncated)
    };
    assert_eq!(size(None, false), (501, 30, true));
    assert_eq!(size(Some(100), false), (512, 30, true));
    assert_eq!(size(Some(1232), false), (1232, 75, true));
    assert!(size(Some(65535), false).2);
    assert_eq!(size(None, true), (21 + 300 * 16, 300, false));
    assert_eq!(said(&ask_bytes(&query("db", A, Some(4096))).1).records, ["10.1.0.4"]);
    let with_edns = ask_bytes(&query("db", A, Some(4096))).1;
    assert_eq!(with_edns[with_edns.len() - 11..], [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let record = &with_edns[20..36];
    assert_eq!(record[6..10], SECONDS.to_be_bytes());
}

#[test]
fn malformed_queries_are_refused() {
    let good = query("db", A, Some(512));
    let spoilt = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Query::read(&bytes).err()
    };
    assert_eq!(spoilt(&|_| ()), None);
    let format = Some(Unreadable::With(Code::FormatError));
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(Change<'_>, Option<Unreadable>); 12] = [
        (&|b| b.truncate(11), Some(Unreadable::Nothing)),
        (&|b| b[2] |= 0x80, Some(Unreadable::Nothing)),
        (&|b| b[2] |= 0x28, Some(Unreadable::With(Code::NotImplemented))),
        (&|b| b[5] = 0, format),
        (&|b| b[5] = 2, format),
        // A name that points to itself.
        (&|b| b.splice(12..14, [0xc0, 12]).for_each(drop), format),
        (&|b| b[12] = 64, format),
        (&|b| b[12] = 63, format),
        (&|b| b.truncate(18), format),
        (&|b| b[11] = 2, format),
        (&|b| b[10] = 255, format),
        (&|b| b[26] = 1, Some(Unreadable::With(Code::BadVersion))),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(spoilt(change), expected, "{index}");
    }
    let long = query(&["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(62)].join("."), A, None);
    assert_eq!(Query::read(&long).err(), format);
    let longest = query(&["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join("."), A, None);
    assert_eq!(Query::read(&longest).unwrap().name(&mut [0; 255]).unwrap().len(), 253);
    let (outcome, out) = ask_bytes(&long);
    assert_eq!((outcome, said(&out).code), (Outcome::Answered, 1));
    assert_eq!(ask_bytes(&[0; 5]).0, Outcome::Ignored);
}

#[test]
fn answers_of_others_count_only_for_their_question() {
    let question = query("db.example", A, None);
    let mut out = Vec::new();
    message::refuse(&question, Code::ServerFailure, &mut out);
    assert!(message::is_answer(&out, 0x1234, &question));
    assert!(message::is_failure(&out));
    assert!(!message::is_answer(&out, 0x1235, &question));
    assert!(!message::is_answer(&question, 0x1234, &question), "a question is no answer");
    assert!(!message::is_answer(&out, 0x1234, &query("db.example", AAAA, None)));
    assert!(!message::is_answer(&out, 0x1234, &query("dc.example", A, None)));
    assert!(message::is_answer(&out, 0x1234, &query("DB.example", A, None)));
    out.extend_from_slice(&[7; 100]);
    message::truncate(&mut out);
    assert_eq!(said(&out), Said { code: 2, truncated: true, records: Vec::new() });
}

#[test]
fn the_file_is_replaced_and_read_back() {
    let directory = std::env::temp_dir().join(format!("rcon-names-{}", crate::base::random_hex(8)));
    let path = directory.join("networks/x/names");
    assert_eq!(super::names::read(&path).unwrap(), []);
    let entries = [entry(1, "db", &["a", "b"], Some("10.0.0.1"), Some("fd00::1")), entry(2, "web", &[], None, None)];
    super::names::write(&path, &entries).unwrap();
    assert_eq!(super::names::read(&path).unwrap(), entries);
    let mut names = super::names::Names::new(path.clone());
    names.look();
    assert!(names.table().addresses(b"db").is_some());
    super::names::write(&path, &entries[1..]).unwrap();
    names.look();
    assert!(names.table().addresses(b"db").is_none());
    assert!(names.table().addresses(b"web").is_some());
    for bad in ["a b", "a\tb", "a\nn10.0.0.1", "", "-"] {
        let error = super::names::write(&path, &[entry(1, "db", &[bad], None, None)]).unwrap_err();
        assert_eq!(error.to_string(), format!("\"{bad}\" cannot be a name on a network: it is not one word"));
    }
    std::fs::remove_file(&path).unwrap();
    names.look();
    assert!(names.table().addresses(b"web").is_none());
    std::fs::remove_dir_all(&directory).unwrap();
}

proptest! {
    #[test]
    fn any_bytes_are_answered_within_the_limit_or_not_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..600), table in proptest::collection::vec(any::<u8>(), 0..200)) {
        let zones = [Zone { name: "front", table: Table(&table) }];
        let mut out = Vec::new();
        if answer(&bytes, &zones, false, &mut Shuffle::new(3), &mut out) == Outcome::Answered {
            prop_assert!(out.len() <= 4096 && out.len() >= 12);
            prop_assert_eq!(&out[..2], &bytes[..2]);
        }
        drop(Table(&table).entries());
        message::is_answer(&bytes, 0, &table);
        message::truncate(&mut bytes.clone());
    }

    #[test]
    fn every_name_of_a_table_is_found_and_no_other(entries in proptest::collection::vec(("[a-c]{1,3}[.-]?[a-c]{0,2}", proptest::collection::vec("[a-d]{1,2}", 0..3), any::<u32>()), 0..12), absent in "[a-e.-]{1,4}") {
        let entries: Vec<Entry> = entries.into_iter().enumerate().map(|(index, (name, aliases, address))| {
            Entry { container: id(u32::try_from(index).unwrap()), name, aliases, ipv4: Some(address.into()), ipv6: None }
        }).collect();
        let text = text(&entries);
        let table = Table(text.as_bytes());
        let holders = |name: &str| {
            let mut found: Vec<IpAddr> = entries.iter().filter(|e| e.name == name || e.aliases.iter().any(|a| a == name)).flat_map(Entry::addresses).collect();
            found.sort();
            found.dedup();
            found
        };
        let found = |name: &str| {
            let mut found: Vec<IpAddr> = table.addresses(name.as_bytes()).map(|f| f.addresses().collect()).unwrap_or_default();
            found.sort();
            found
        };
        for entry in &entries {
            for name in entry.aliases.iter().chain([&entry.name]) {
                prop_assert_eq!(found(name), holders(name));
            }
            prop_assert_eq!(found(&entry.container[..12]), vec![IpAddr::from(entry.ipv4.unwrap())]);
            prop_assert!(table.name_of(entry.ipv4.unwrap().into()).is_some());
        }
        prop_assert_eq!(found(&absent), holders(&absent));
        let mut back = table.entries();
        back.sort_by(|a, b| a.container.cmp(&b.container));
        prop_assert_eq!(back, entries);
    }
}
