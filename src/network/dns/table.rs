//! The text of a network's names file, and looking names up in it where it lies: nothing is parsed beforehand, nothing is
//! kept but the bytes, which all monitors of the network share.
//!
//! The lines are sorted by their bytes, so that a line is found by halving:
//! - `eID<TAB>NAME<TAB>ALIASES<TAB>IPV4<TAB>IPV6`: a container, aliases with blanks between them, `-` for an address that
//!   it does not have;
//! - `nNAME<TAB>ADDRESS ADDRESS …`: who has this name or alias, in lower case;
//! - `pADDRESS<TAB>NAME`: whose address that is.
//!
//! Invariant: any bytes may be looked up in any bytes; what is not such a line is not found.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Digits of a container's short id. All 64 are no name: a label has 63 bytes at most.
const SHORT: usize = 12;

/// What a container is called on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// All 64 digits.
    pub container: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl Entry {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Whether a text may stand in the table: one word, which no line or field ends.
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text != "-" && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// The text of the entries, all of whose texts are words.
pub fn text(entries: &[Entry]) -> String {
    let mut lines: Vec<String> = Vec::with_capacity(entries.len() * 5);
    let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries {
        let field = |address: Option<String>| address.unwrap_or_else(|| "-".to_owned());
        let (ipv4, ipv6) = (field(entry.ipv4.map(|a| a.to_string())), field(entry.ipv6.map(|a| a.to_string())));
        lines.push(format!("e{}\t{}\t{}\t{ipv4}\t{ipv6}", entry.container, entry.name, entry.aliases.join(" ")));
        for address in entry.addresses() {
            lines.push(format!("p{address}\t{}", entry.name));
        }
        for name in entry.aliases.iter().chain([&entry.name]) {
            let held = holders.entry(name.to_ascii_lowercase()).or_default();
            // A name that is an alias, too, is one holder.
            for address in entry.addresses().map(|a| a.to_string()) {
                if !held.contains(&address) {
                    held.push(address);
                }
            }
        }
    }
    lines.extend(holders.into_iter().map(|(name, held)| format!("n{name}\t{}", held.join(" "))));
    lines.sort_unstable();
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// A names file's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a>(pub &'a [u8]);

/// Addresses under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a>(&'a [u8]);

impl Found<'_> {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.split(|&b| b == b' ' || b == b'\t').filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
    }
}

impl<'a> Table<'a> {
    #[cfg(test)]
    pub fn entries(&self) -> Vec<Entry> {
        self.0.split(|&b| b == b'\n').filter_map(entry).collect()
    }

    /// Who is called so, by name, alias or short id; `name` is in lower case.
    pub fn addresses(&self, name: &[u8]) -> Option<Found<'a>> {
        if name.is_empty() || name.contains(&b'\t') || name.contains(&b'\n') {
            return None;
        }
        if let Some((key, value)) = self.first(b'n', name)
            && key.len() == name.len()
        {
            return Some(Found(value));
        }
        if name.len() != SHORT || !name.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        // Behind the container's name and its aliases.
        let (_, value) = self.first(b'e', name)?;
        value.splitn(3, |&b| b == b'\t').nth(2).map(Found)
    }

    /// Whose address that is.
    pub fn name_of(&self, address: IpAddr) -> Option<&'a str> {
        let text = address.to_string();
        let (key, value) = self.first(b'p', text.as_bytes())?;
        std::str::from_utf8(value).ok().filter(|_| key == text.as_bytes())
    }

    /// Key and value of the first line of this kind whose key begins so. An exact match is the first, for the tab behind
    /// it sorts before whatever a word may go on with.
    fn first(&self, kind: u8, prefix: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = self.0;
        // The line sought begins at `low` or behind it, and before `high`.
        let (mut low, mut high) = (0, bytes.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = bytes[low..middle].iter().rposition(|&b| b == b'\n').map_or(low, |at| low + at + 1);
            let end = bytes[middle..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| middle + at);
            let line = &bytes[start..end];
            let before = line.first().is_none_or(|&k| k < kind || k == kind && line[1..] < *prefix);
            if before { low = (end + 1).min(bytes.len()) } else { high = start }
        }
        let line = bytes[low..].split(|&b| b == b'\n').next()?;
        let line = line.strip_prefix(&[kind])?;
        let key = line.iter().position(|&b| b == b'\t')?;
        let (key, value) = (&line[..key], &line[key + 1..]);
        key.starts_with(prefix).then_some((key, value))
    }
}

#[cfg(test)]
fn entry(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line.strip_prefix(b"e")?).ok()?;
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (container, name, aliases) = (next()?.to_owned(), next()?.to_owned(), next()?);
    let aliases = aliases.split(' ').filter(|alias| !alias.is_empty()).map(str::to_owned).collect();
    Some(Entry { container, name, aliases, ipv4: next()?.parse().ok(), ipv6: next()?.parse().ok() })
}
