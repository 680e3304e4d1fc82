//! The D-Bus wire format (D-Bus specification, *Message Protocol*), as far as talking to systemd needs it.
//!
//! Invariant: reading never trusts a length: a message has at most [`LONGEST`] bytes and each part of it is looked up within.

/// Longest message that is read; systemd's answers to what is asked here have some hundred bytes.
pub(super) const LONGEST: usize = 1 << 20;

/// Kinds of messages (*Message Format*).
pub(super) const MESSAGE_CALL: u8 = 1;
pub(super) const MESSAGE_RETURN: u8 = 2;
pub(super) const MESSAGE_ERROR: u8 = 3;
pub(super) const MESSAGE_SIGNAL: u8 = 4;

/// Header fields (*Header Fields*).
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// A property's value, of the types that units have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Value {
    Bool(bool),
    Int(i32),
    Uint(u32),
    Long(u64),
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Uints(Vec<u32>),
    Pairs(Vec<(String, String)>),
}

impl Value {
    pub(super) fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Int(_) => "i",
            Value::Uint(_) => "u",
            Value::Long(_) => "t",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Bytes(_) => "ay",
            Value::Uints(_) => "au",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// Writes values one after the other, little-endian and aligned from the first byte on.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn uint(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn long(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.uint(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.byte(0);
    }

    pub(super) fn signature(&mut self, signature: &str) {
        self.byte(u8::try_from(signature.len()).expect("invariant: signatures are short"));
        self.bytes.extend(signature.as_bytes());
        self.byte(0);
    }

    /// An array of elements aligned to `to`, written by `fill`.
    pub(super) fn array(&mut self, to: usize, fill: impl FnOnce(&mut Self)) {
        self.uint(0);
        let at = self.bytes.len() - 4;
        self.align(to);
        let start = self.bytes.len();
        fill(self);
        let bytes = length(self.bytes.len() - start);
        self.bytes[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
    }

    /// A structure's beginning.
    pub(super) fn structure(&mut self) {
        self.align(8);
    }

    pub(super) fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.uint(u32::from(*value)),
            Value::Int(value) => self.uint(value.cast_unsigned()),
            Value::Uint(value) => self.uint(*value),
            Value::Long(value) => self.long(*value),
            Value::Text(text) => self.text(text),
            Value::Texts(list) => self.array(4, |writer| list.iter().for_each(|text| writer.text(text))),
            Value::Bytes(list) => self.array(1, |writer| writer.bytes.extend(list)),
            Value::Uints(list) => self.array(4, |writer| list.iter().for_each(|value| writer.uint(*value))),
            Value::Pairs(list) => self.array(8, |writer| {
                for (first, second) in list {
                    writer.structure();
                    writer.text(first);
                    writer.text(second);
                }
            }),
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("invariant: what we send is far below 4 GiB")
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// None on a connection without a bus in between.
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A whole method call.
pub(super) fn call(serial: u32, target: Target<'_>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![b'l', MESSAGE_CALL, 0, 1] };
    writer.uint(length(body.len()));
    writer.uint(serial);
    writer.array(8, |writer| {
        let mut field = |code: u8, kind: &str, text: &str| {
            writer.structure();
            writer.byte(code);
            writer.signature(kind);
            if kind == "g" { writer.signature(text) } else { writer.text(text) }
        };
        field(PATH, "o", target.path);
        field(INTERFACE, "s", target.interface);
        field(MEMBER, "s", target.member);
        if let Some(destination) = target.destination {
            field(DESTINATION, "s", destination);
        }
        if !signature.is_empty() {
            field(SIGNATURE, "g", signature);
        }
    });
    writer.align(8);
    let mut message = writer.finish();
    message.extend(body);
    message
}

/// A message as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) serial: u32,
    pub(super) reply_to: Option<u32>,
    pub(super) path: String,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) sender: String,
    pub(super) signature: String,
    big: bool,
    body: Vec<u8>,
}

/// Length of the fixed beginning of a message, with the length of the header fields.
pub(super) const PREFIX: usize = 16;

/// The message's whole length, told by its first [`PREFIX`] bytes. None: no message, or too long a one.
pub(super) fn total(prefix: &[u8; PREFIX]) -> Option<usize> {
    let big = endianness(prefix[0])?;
    let mut reader = Reader { bytes: prefix, at: 4, big };
    let (body, _serial, fields) = (reader.uint()?, reader.uint()?, reader.uint()?);
    let header = PREFIX.checked_add(usize::try_from(fields).ok()?)?.checked_next_multiple_of(8)?;
    header.checked_add(usize::try_from(body).ok()?).filter(|total| *total <= LONGEST)
}

fn endianness(mark: u8) -> Option<bool> {
    match mark {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// Reads a message of which the length is known. None: malformed.
    pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
        let big = endianness(*bytes.first()?)?;
        let mut message = Message { kind: *bytes.get(1)?, big, ..Message::default() };
        let mut reader = Reader { bytes, at: 4, big };
        let body = usize::try_from(reader.uint()?).ok()?;
        message.serial = reader.uint()?;
        let fields = usize::try_from(reader.uint()?).ok()?;
        let end = PREFIX.checked_add(fields).filter(|end| *end <= bytes.len())?;
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match kind.as_str() {
                "s" | "o" => {
                    let text = reader.text()?;
                    match code {
                        PATH => message.path = text,
                        INTERFACE => message.interface = text,
                        MEMBER => message.member = text,
                        ERROR_NAME => message.error = text,
                        SENDER => message.sender = text,
                        _ => {}
                    }
                }
                "u" => {
                    let number = reader.uint()?;
                    message.reply_to = if code == REPLY_SERIAL { Some(number) } else { message.reply_to };
                }
                "g" => {
                    let text = reader.signature()?;
                    if code == SIGNATURE {
                        message.signature = text;
                    }
                }
                // No other type is defined for a field.
                _ => return None,
            }
        }
        reader.align(8);
        message.body = bytes.get(reader.at..reader.at.checked_add(body)?)?.to_vec();
        Some(message)
    }

    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big: self.big }
    }
}

/// Reads values one after the other; None at the end, or for what is no such value.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    pub(super) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    #[cfg(test)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[cfg(test)]
    pub(super) fn long(&mut self) -> Option<u64> {
        self.align(8);
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let part = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    pub(super) fn uint(&mut self) -> Option<u32> {
        self.align(4);
        let big = self.big;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.uint()?).ok()?;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let mut body = Writer::default();
        body.text("x");
        body.array(8, |writer| {
            writer.structure();
            writer.text("B");
            writer.variant(&Value::Bool(true));
            writer.structure();
            writer.text("L");
            writer.variant(&Value::Long(7));
        });
        let body = body.finish();
        let wanted = [
            b"\x01\0\0\0x\0\0\0".as_slice(),
            // Length without the padding before the first structure; each structure begins at a multiple of eight.
            b"\x28\0\0\0\0\0\0\0"[..4].as_ref(),
            b"\0\0\0\0",
            b"\x01\0\0\0B\0",
            b"\x01b\0\0\0\0\x01\0\0\0",
            b"\x01\0\0\0L\0",
            b"\x01t\0\0\0\0\0\0\0\0",
            b"\x07\0\0\0\0\0\0\0",
        ]
        .concat();
        assert_eq!(body, wanted);
        let target = Target { destination: Some("org.x"), path: "/a", interface: "i.f", member: "Do" };
        let bytes = call(9, target, "sa(sv)", &body);
        assert_eq!(total(bytes[..PREFIX].try_into().unwrap()), Some(bytes.len()));
        let message = Message::parse(&bytes).unwrap();
        let seen = (message.kind, message.serial, message.path.as_str(), message.interface.as_str(), message.member.as_str());
        assert_eq!(seen, (MESSAGE_CALL, 9, "/a", "i.f", "Do"));
        assert_eq!((message.signature.as_str(), message.body().text().unwrap().as_str()), ("sa(sv)", "x"));
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_refused() {
        let target = Target { destination: None, path: "/a", interface: "i", member: "m" };
        let bytes = call(1, target, "s", b"\x02\0\0\0ab\0");
        for cut in 0..bytes.len() {
            assert!(Message::parse(&bytes[..cut]).is_none(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] = 0xff;
            // No panic, whatever comes out.
            if let Some(message) = Message::parse(&other) {
                message.body().text();
            }
        }
        let mut prefix: [u8; PREFIX] = bytes[..PREFIX].try_into().unwrap();
        prefix[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(total(&prefix), None);
        prefix[0] = b'x';
        assert_eq!(total(&prefix), None);
    }
}
