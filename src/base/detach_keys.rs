//! Detach keys: a sequence of key presses that ends a session and leaves the container running.
//!
//! Keys of an unfinished sequence are held back until the next key decides; then they are sent on.

/// The sequence, and how much of it was typed.
#[derive(Debug, Clone)]
pub struct DetachKeys {
    keys: Vec<u8>,
    held: usize,
}

impl Default for DetachKeys {
    /// ctrl-p, ctrl-q.
    fn default() -> Self {
        DetachKeys { keys: vec![16, 17], held: 0 }
    }
}

impl DetachKeys {
    /// Reads a comma list of single characters or `ctrl-` with one of `a-z @ [ \ ] ^ _`.
    ///
    /// # Errors
    /// A key that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = |word: &str| match word.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
            Some(b"@") => Ok(0),
            Some([other @ b'['..=b'_']) => Ok(other - b'[' + 27),
            Some(_) => Err(format!("unknown key \"{word}\" in the detach keys")),
            None => match word.as_bytes() {
                [byte] => Ok(*byte),
                _ => Err(format!("unknown key \"{word}\" in the detach keys: expected a character or ctrl-x")),
            },
        };
        Ok(DetachKeys { keys: text.split(',').map(key).collect::<Result<_, _>>()?, held: 0 })
    }

    /// What of `input` goes to the container, and whether the sequence is complete (what follows it is dropped).
    pub fn feed(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len() + self.held);
        for byte in input {
            // On a mismatch the longest still possible start of the sequence stays held back.
            loop {
                if self.keys.get(self.held) == Some(byte) {
                    self.held += 1;
                    break;
                }
                if self.held == 0 {
                    out.push(*byte);
                    break;
                }
                let shorter = (0..self.held).rev().find(|&n| self.keys[..n] == self.keys[self.held - n..self.held]).unwrap_or(0);
                out.extend_from_slice(&self.keys[..self.held - shorter]);
                self.held = shorter;
            }
            if self.held == self.keys.len() {
                self.held = 0;
                return (out, true);
            }
        }
        (out, false)
    }

    /// What was held back, when no more keys come.
    pub fn flush(&mut self) -> Vec<u8> {
        self.keys[..std::mem::take(&mut self.held)].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::DetachKeys;

    #[test]
    fn grammar() {
        for (text, keys) in
            [("ctrl-p,ctrl-q", vec![16, 17]), ("a", vec![97]), ("ctrl-@,ctrl-[,ctrl-_", vec![0, 27, 31]), ("ctrl-\\,x", vec![28, 120])]
        {
            assert_eq!(DetachKeys::parse(text).unwrap().keys, keys, "{text}");
        }
        for bad in ["", "ab", "ctrl-A", "ctrl-", "ctrl-pq", "a,,b"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_held_back_until_decided() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.feed(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.feed(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.feed(b"\x11rest"), (Vec::new(), true));
        assert_eq!(keys.feed(b"\x11"), (b"\x11".to_vec(), false));
        assert_eq!((keys.feed(b"\x10").0, keys.flush(), keys.flush()), (Vec::new(), vec![16], Vec::new()));
        let mut keys = DetachKeys::parse("a,a,b").unwrap();
        assert_eq!(keys.feed(b"aaab"), (b"a".to_vec(), true));
    }
}
