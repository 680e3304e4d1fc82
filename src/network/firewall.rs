//! Our nftables tables: whether they stand, making them anew, adding and removing elements.
//!
//! Invariants: no other table is changed. A table is made by one transaction that carries a marker (a table comment with the
//! version of its rules); marker, object count and rule count together tell whether it stands.

use super::message::{Batch, CREATE, EXCLUSIVE, Reader, attributes};
use super::nftables::{self, Element, Family, Transaction};
use super::rules;
use crate::state::record::Network;
use crate::sys::netlink::{NetlinkError, message};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

pub(super) const NAME: &str = "rcon";
/// Elements per transaction: keeps a batch below the socket's send buffer.
const CHUNK: usize = 500;
/// Attempts at a question whose dump of rules was interrupted by somebody's change.
const ATTEMPTS: u32 = 100;

/// What the kernel says of our table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Missing,
    /// Another version, or someone took rules out.
    Stale {
        handle: [u8; 8],
    },
    /// The table stands, but knows nothing of the network.
    Lacking,
    Current,
}

fn marker() -> Vec<u8> {
    let text = format!("rcon rules {}", rules::VERSION);
    // The form of nft's table comments: type 0, length, text with its NUL.
    let mut bytes = vec![0, u8::try_from(text.len() + 1).expect("invariant: the text is short")];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Lets those who change the table get on with it, for longer the more often we came too late: many containers may start at once.
pub(super) fn step_back(attempt: u32) {
    if attempt > 0 {
        std::thread::sleep(std::time::Duration::from_micros(u64::from(attempt.min(40)) * 200));
    }
}

/// One datagram with three questions: the table, the network's element, the rules.
pub(super) fn standing(fd: BorrowedFd<'_>, family: Family, network: &Network) -> Result<Standing, NetlinkError> {
    let sign = rules::sign_of(network);
    for attempt in 0..ATTEMPTS {
        step_back(attempt);
        let mut batch = Batch::new();
        batch.message(nftables::kind(nftables::GET_TABLE), 0, &family.header(), |a| a.text(nftables::TABLE, NAME));
        batch.message(nftables::kind(nftables::GET_ELEMENT), 0, &family.header(), |a| {
            a.text(nftables::TABLE, NAME);
            nftables::write_element(a, &sign, None);
        });
        batch.dump(nftables::kind(nftables::GET_RULE), &family.header(), |a| a.text(nftables::TABLE, NAME));
        let mut answers = batch.ask(fd)?;
        if answers.interrupted {
            continue;
        }
        let table = match answers.take(0) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Standing::Missing),
            other => other?,
        };
        let Some(found) = table.first().map(|reply| attributes(reply, nftables::NFGENMSG)) else { return Ok(Standing::Missing) };
        let handle = found.find(nftables::TABLE_HANDLE).and_then(|h| h.try_into().ok()).ok_or(NetlinkError::Malformed)?;
        let marked = found.find(nftables::TABLE_USERDATA) == Some(&marker()[..]);
        let complete = found.find_network_number(nftables::TABLE_USE) == Some(rules::OBJECTS);
        if !marked || !complete || answers.take(2)?.len() != rules::count(family) {
            return Ok(Standing::Stale { handle });
        }
        return match answers.take(1) {
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(Standing::Lacking),
            other => other.map(|_| Standing::Current),
        };
    }
    Err(NetlinkError::Interrupted)
}

/// Counts the changes that anybody makes to any table.
pub(super) fn generation(fd: BorrowedFd<'_>) -> Result<u32, NetlinkError> {
    let replies = message::request(fd, nftables::kind(nftables::GET_GENERATION), &Family::V4.header(), |_| ())?;
    let number = |reply: &Vec<u8>| attributes(reply, nftables::NFGENMSG).find_network_number(nftables::GENERATION);
    replies.iter().find_map(number).ok_or(NetlinkError::Malformed)
}

/// Makes the table in one transaction, in place of the stale one if there is one. `generation`: of before the look that found none,
/// or that one.
///
/// ERESTART means that another process was faster: look again. It is refused before its rules are read: a transaction that fails
/// behind them (since the table stands by now) leaves them where those who count the rules at that moment see them, and take a
/// table that was just made for a stale one.
pub(super) fn make(fd: BorrowedFd<'_>, family: Family, generation: u32, stale: Option<[u8; 8]>, elements: &[Element]) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::of_generation(family, NAME, generation);
    if let Some(handle) = stale {
        transaction.message(nftables::DELETE_TABLE, 0, |a| a.put(nftables::TABLE_HANDLE, &handle));
    }
    transaction.message(nftables::NEW_TABLE, CREATE | EXCLUSIVE, |a| a.put(nftables::TABLE_USERDATA, &marker()));
    rules::write(&mut transaction, family);
    let (now, later) = elements.split_at(elements.len().min(CHUNK));
    now.iter().for_each(|element| transaction.add(element));
    transaction.commit(fd)?;
    add(fd, family, later)
}

/// Removes the table with all that is in it; ENOENT: there is none.
pub(super) fn remove_table(fd: BorrowedFd<'_>, family: Family) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new(family, NAME);
    transaction.message(nftables::DELETE_TABLE, 0, |_| {});
    transaction.commit(fd)
}

/// Adds elements; one that redirects elsewhere is replaced.
pub(super) fn add(fd: BorrowedFd<'_>, family: Family, elements: &[Element]) -> Result<(), NetlinkError> {
    for chunk in elements.chunks(CHUNK) {
        let mut transaction = Transaction::new(family, NAME);
        chunk.iter().for_each(|element| transaction.add(element));
        match transaction.commit(fd) {
            Err(error) if matches!(error.errno(), Some(Errno::EXIST | Errno::BUSY)) => replace(fd, family, chunk)?,
            other => other?,
        }
    }
    Ok(())
}

/// One transaction in which those elements that stand with another value are taken out first.
fn replace(fd: BorrowedFd<'_>, family: Family, elements: &[Element]) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new(family, NAME);
    for element in elements {
        if lookup(fd, family, element)?.is_some_and(|standing| standing.data != element.data) {
            transaction.delete(element);
        }
    }
    elements.iter().for_each(|element| transaction.add(element));
    transaction.commit(fd)
}

/// Removes those of the elements that stand with exactly this value.
pub(super) fn remove(fd: BorrowedFd<'_>, family: Family, elements: &[Element]) -> Result<(), NetlinkError> {
    for chunk in elements.chunks(CHUNK) {
        let mut standing = Vec::new();
        for element in chunk {
            if lookup(fd, family, element)?.is_some_and(|found| found.data == element.data) {
                standing.push(element);
            }
        }
        match delete(fd, family, &standing) {
            // Another process removed one of them meanwhile: one by one, so that the others go.
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                for element in standing {
                    match delete(fd, family, &[element]) {
                        Err(error) if error.errno() == Some(Errno::NOENT) => {}
                        other => other?,
                    }
                }
            }
            other => other?,
        }
    }
    Ok(())
}

fn delete(fd: BorrowedFd<'_>, family: Family, elements: &[&Element]) -> Result<(), NetlinkError> {
    if elements.is_empty() {
        return Ok(());
    }
    let mut transaction = Transaction::new(family, NAME);
    elements.iter().for_each(|element| transaction.delete(element));
    transaction.commit(fd)
}

/// The element that stands under this one's key.
fn lookup(fd: BorrowedFd<'_>, family: Family, element: &Element) -> Result<Option<Element>, NetlinkError> {
    let replies = message::request(fd, nftables::kind(nftables::GET_ELEMENT), &family.header(), |a| {
        a.text(nftables::TABLE, NAME);
        nftables::write_element(a, element, None);
    });
    match replies {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(replies) => Ok(replies.iter().flat_map(|reply| parse_elements(reply, element.set)).next()),
    }
}

/// All elements of all our sets and maps; none if there is no table.
pub(super) fn elements(fd: BorrowedFd<'_>, family: Family) -> Result<Vec<Element>, NetlinkError> {
    let mut found = Vec::new();
    for (set, _) in rules::SETS {
        let replies = message::dump(fd, nftables::kind(nftables::GET_ELEMENT), &family.header(), |a| {
            a.text(nftables::TABLE, NAME);
            a.text(nftables::ELEMENTS_SET, set);
        });
        match replies {
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            other => found.extend(other?.iter().flat_map(|reply| parse_elements(reply, set))),
        }
    }
    Ok(found)
}

fn parse_elements(reply: &[u8], set: &'static str) -> Vec<Element> {
    let value = |item: Reader<'_>, kind: u16| item.find_nested(kind).and_then(|v| v.find(nftables::VALUE)).map(<[u8]>::to_vec);
    let Some(list) = attributes(reply, nftables::NFGENMSG).find_nested(nftables::ELEMENTS) else { return Vec::new() };
    list.filter_map(|(_, item)| {
        let item = Reader::within(item);
        let end = item.find_network_number(nftables::ELEMENT_FLAGS).is_some_and(|flags| flags & nftables::INTERVAL_END != 0);
        Some(Element { set, key: value(item, nftables::ELEMENT_KEY)?, data: value(item, nftables::ELEMENT_DATA), end })
    })
    .collect()
}
