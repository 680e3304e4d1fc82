//! Whiteout names of layer tars (image-spec layer.md, "Whiteouts").

/// Prefix of a file that removes its namesake from the layers below.
pub const PREFIX: &[u8] = b".wh.";
/// Marks its directory opaque: nothing of the layers below shows through.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of aufs bookkeeping (`.wh..wh.plnk`, `.wh..wh.aufs`, …) that old builders left in layers.
const META_PREFIX: &[u8] = b".wh..wh.";

/// What the last component of an entry's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// An ordinary file of that name.
    Plain,
    /// Removes this name of the layers below.
    Removes(&'a [u8]),
    /// Its directory is opaque.
    Opaque,
    /// aufs bookkeeping: not part of the image.
    Ignored,
    /// `.wh.` alone, or `.wh..`, `.wh...`: would remove nothing, the directory itself or its parent.
    Invalid,
}

/// Reads a file name (one path component).
pub fn meaning(name: &[u8]) -> Meaning<'_> {
    if name == OPAQUE {
        return Meaning::Opaque;
    }
    if name.starts_with(META_PREFIX) {
        return Meaning::Ignored;
    }
    match name.strip_prefix(PREFIX) {
        None => Meaning::Plain,
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(removed) => Meaning::Removes(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (name, expected) in [
            (&b"a"[..], Meaning::Plain),
            (b".wh", Meaning::Plain),
            (b".wh.a", Meaning::Removes(b"a")),
            (b".wh..a", Meaning::Removes(b".a")),
            (b".wh..wh..opq", Meaning::Opaque),
            (b".wh..wh.plnk", Meaning::Ignored),
            (b".wh.", Meaning::Invalid),
            (b".wh..", Meaning::Invalid),
            (b".wh...", Meaning::Invalid),
        ] {
            assert_eq!(meaning(name), expected, "{}", name.escape_ascii());
        }
    }
}
