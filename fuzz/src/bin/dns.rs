//! Any bytes as a query, as another server's answer, and as a names file: an answer within its limit or none, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcon_fuzz::network::dns::answer::{Outcome, Shuffle, Zone, answer};
use rcon_fuzz::network::dns::message::{self, Query};
use rcon_fuzz::network::dns::table::{self, Entry, Table};

fuzz_target!(|data: &[u8]| {
    let Some((&[a, b], rest)) = data.split_first_chunk::<2>() else { return };
    let (message, file) = rest.split_at(usize::from(u16::from_be_bytes([a, b])).min(rest.len()));
    let entries = [Entry {
        container: "ab".repeat(32),
        name: "db".to_owned(),
        aliases: vec!["all".to_owned()],
        ipv4: Some([10, 0, 0, 1].into()),
        ipv6: Some(1.into()),
    }];
    let good = table::text(&entries);
    let zones = [Zone { name: "front", table: Table(file) }, Zone { name: "back", table: Table(good.as_bytes()) }];
    let mut out = Vec::new();
    for (stream, limit) in [(false, 4096), (true, 65535)] {
        if answer(message, &zones, stream, &mut Shuffle::new(1), &mut out) == Outcome::Answered {
            assert!(out.len() <= limit && out[..2] == message[..2] && out[2] & 0x80 != 0);
            assert!(Query::read(&out).is_err(), "an answer is no query");
            assert!(message::is_answer(&out, message::id(message), message) || Query::read(message).is_err());
        }
    }
    drop(message::is_answer(file, message::id(message), message));
    let mut cut = file.to_vec();
    message::truncate(&mut cut);
    assert!(cut.len() <= file.len());
    for name in file.split(u8::is_ascii_whitespace).take(100) {
        let found = Table(file).addresses(name).map_or(0, |found| found.addresses().count());
        assert!(found <= file.len());
    }
});
