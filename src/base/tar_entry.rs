//! Headers of the tars that we write: types, modes, owners, nanosecond times and extended attributes, in the pax format
//! (IEEE 1003.1) over the GNU one. The same metadata gives the same bytes.

use rustix::fs::{FileType, Stat};

/// Room of `name` and `linkname` in a header.
const NAME_FIELD: usize = 100;
/// Tars are made of blocks of this many bytes.
pub const BLOCK: usize = 512;

/// Key and value of a pax record.
pub type Record = (Vec<u8>, Vec<u8>);

/// The header of a file with this metadata; its type is set for everything but hard links. None: a tar has no form for it
/// (sockets).
pub fn header(stat: &Stat, (uid, gid): (u32, u32)) -> Option<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    let kind = FileType::from_raw_mode(stat.st_mode);
    header.set_entry_type(match kind {
        FileType::RegularFile => tar::EntryType::Regular,
        FileType::Directory => tar::EntryType::Directory,
        FileType::Symlink => tar::EntryType::Symlink,
        FileType::Fifo => tar::EntryType::Fifo,
        FileType::BlockDevice => tar::EntryType::Block,
        FileType::CharacterDevice => tar::EntryType::Char,
        _ => return None,
    });
    if matches!(kind, FileType::BlockDevice | FileType::CharacterDevice) {
        header.set_device_major(rustix::fs::major(stat.st_rdev)).expect("invariant: a GNU header has room for device numbers");
        header.set_device_minor(rustix::fs::minor(stat.st_rdev)).expect("invariant: a GNU header has room for device numbers");
    }
    Some(header)
}

/// The header of an empty file of mode 0, owned by root: a whiteout of a layer.
pub fn mark() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// What a header has no room for of a modification time.
pub fn precise_time(stat: &Stat) -> Option<Record> {
    let nanos = stat.st_mtime_nsec;
    (nanos != 0 || stat.st_mtime < 0).then(|| (b"mtime".to_vec(), pax_time(stat.st_mtime, nanos as u32)))
}

/// The bytes before an entry's data: extended records, where the header has not room for everything, and the header.
pub fn head(mut header: tar::Header, mut pax: Vec<Record>, name: &[u8], link: Option<&[u8]>) -> Vec<u8> {
    if name.len() > NAME_FIELD {
        pax.push((b"path".to_vec(), name.to_vec()));
    }
    let old = header.as_old_mut();
    let fits = name.len().min(NAME_FIELD);
    old.name[..fits].copy_from_slice(&name[..fits]);
    if let Some(link) = link {
        if link.len() > NAME_FIELD {
            pax.push((b"linkpath".to_vec(), link.to_vec()));
        }
        let fits = link.len().min(NAME_FIELD);
        old.linkname[..fits].copy_from_slice(&link[..fits]);
    }
    header.set_cksum();
    let mut bytes = Vec::with_capacity(BLOCK);
    if !pax.is_empty() {
        let records: Vec<u8> = pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        let mut extended = tar::Header::new_ustar();
        extended.set_entry_type(tar::EntryType::XHeader);
        extended.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
        extended.set_mode(0o644);
        extended.set_uid(0);
        extended.set_gid(0);
        extended.set_mtime(0);
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        bytes.extend_from_slice(extended.as_bytes());
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

/// Zero bytes after that many bytes of data.
pub fn padding(length: u64) -> usize {
    (BLOCK - (length % BLOCK as u64) as usize) % BLOCK
}

/// `seconds.nanoseconds`; the fraction counts towards the past for times before 1970.
fn pax_time(seconds: i64, nanos: u32) -> Vec<u8> {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000).into_bytes()
}

/// `LENGTH KEY=VALUE\n`, the length counting itself (pax, IEEE 1003.1).
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_count_themselves() {
        assert_eq!(pax_record(b"path", b"x"), b"9 path=x\n");
        assert_eq!(pax_record(b"path", b""), b"8 path=\n");
        let long = pax_record(b"path", &[b'a'; 88]);
        let length = long.iter().position(|b| *b == b' ').map(|at| String::from_utf8_lossy(&long[..at]).parse::<usize>());
        assert_eq!(length, Some(Ok(long.len())));
    }

    #[test]
    fn pax_times_go_below_zero() {
        assert_eq!(pax_time(1, 5), b"1.000000005");
        assert_eq!(pax_time(-1, 500_000_000), b"-0.500000000");
    }

    #[test]
    fn blocks_are_whole() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        assert_eq!(head(header.clone(), Vec::new(), b"a", None).len(), BLOCK);
        assert_eq!(head(header, Vec::new(), &[b'n'; 101], None).len(), 3 * BLOCK);
    }
}
