//! `--chmod`: octal, or symbolic as in chmod(1): `u=rwX,go=rX`.

use super::{Error, Result};

/// A parsed mode: what becomes of the permission bits of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Absolute(u32),
    Symbolic(Vec<Clause>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of the classes named: `u` 0o4700, `g` 0o2070, `o` 0o1007.
    who: u32,
    operator: u8,
    /// `r`, `w`, `x` of one class.
    permissions: u32,
    /// `X`: execution for directories and what somebody may execute.
    conditional: bool,
    special: u32,
    /// `g=u`: the bits of another class (its shift).
    from: Option<u32>,
}

impl Change {
    /// # Errors
    /// The text is no mode.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why| Error::Mode { text: text.to_owned(), why };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| wrong("an octal mode has digits from 0 to 7"))?;
            return if bits > 0o7777 { Err(wrong("the largest octal mode is 7777")) } else { Ok(Change::Absolute(bits)) };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            symbolic(part.as_bytes(), &mut clauses)
                .ok_or_else(|| wrong("a mode is octal (755) or symbolic ([ugoa][+-=][rwxXst], as in u=rwX,go=rX)"))?;
        }
        Ok(Change::Symbolic(clauses))
    }

    /// The new permission bits of a file that has `mode`.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Change::Absolute(bits) => *bits,
            Change::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut one = self.from.map_or(self.permissions, |shift| mode >> shift & 7);
        if self.conditional && (directory || mode & 0o111 != 0) {
            one |= 1;
        }
        let bits = ((one << 6 | one << 3 | one) & self.who & 0o777) | (self.special & self.who);
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            // chmod(1): the set-id bits of a directory stay unless they are named.
            _ => mode & !(self.who & if directory { 0o1777 | self.special } else { 0o7777 }) | bits,
        }
    }
}

/// `[ugoa]*` and then one or more of operator and permissions.
fn symbolic(text: &[u8], clauses: &mut Vec<Clause>) -> Option<()> {
    let end = text.iter().position(|byte| !b"ugoa".contains(byte))?;
    let class = |byte: u8| match byte {
        b'u' => 0o4700,
        b'g' => 0o2070,
        b'o' => 0o1007,
        _ => 0o7777,
    };
    let who = if end == 0 { 0o7777 } else { text[..end].iter().fold(0, |who, byte| who | class(*byte)) };
    // `+t` is nobody's class but `a` and `o`; chmod(1) takes it from every one.
    let who = if text[end..].contains(&b't') { who | 0o1000 } else { who };
    let mut rest = &text[end..];
    while let [operator @ (b'+' | b'-' | b'='), permissions @ ..] = rest {
        let end = permissions.iter().position(|byte| b"+-=".contains(byte)).unwrap_or(permissions.len());
        let mut clause = Clause { who, operator: *operator, permissions: 0, conditional: false, special: 0, from: None };
        for byte in &permissions[..end] {
            match byte {
                b'r' => clause.permissions |= 4,
                b'w' => clause.permissions |= 2,
                b'x' => clause.permissions |= 1,
                b'X' => clause.conditional = true,
                b's' => clause.special |= 0o6000,
                b't' => clause.special |= 0o1000,
                b'u' | b'g' | b'o' if end == 1 => {
                    clause.from = Some(match byte {
                        b'u' => 6,
                        b'g' => 3,
                        _ => 0,
                    })
                }
                _ => return None,
            }
        }
        clauses.push(clause);
        rest = &permissions[end..];
    }
    rest.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_by_chmod() {
        for (text, mode, directory, expected) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o777, true, 0o644),
            ("4755", 0, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o100, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("u+t", 0o777, true, 0o1777),
            ("g=u", 0o750, false, 0o770),
            ("o=", 0o777, false, 0o770),
            ("u+x-w", 0o644, false, 0o544),
            ("g=rx", 0o2775, true, 0o2755),
            ("g=rx", 0o2775, false, 0o755),
        ] {
            assert_eq!(Change::parse(text).unwrap().apply(mode, directory), expected, "{text} {mode:o}");
        }
        for bad in ["", "8", "77777", "u", "u=q", "u~x", "u=rw,", "rwx", "u=ug", "0x1"] {
            assert!(Change::parse(bad).is_err(), "{bad}");
        }
    }
}
