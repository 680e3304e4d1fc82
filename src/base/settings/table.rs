//! One table of a settings file, taken apart key by key.
//!
//! Whoever reads a table asks for each key it knows and then calls [`Table::finish`], which refuses what
//! nobody asked for: a mistyped key is never a setting that silently does nothing.

use super::{SettingsError, Source};
use crate::base::{ByteSize, Space, nearest};
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A table, or what is left of it.
pub struct Table<'a> {
    source: &'a Source,
    /// As written: `image.limits`; empty for the whole file.
    name: String,
    /// Byte offset of the table in the file.
    at: usize,
    entries: DeTable<'a>,
    /// Every key that was asked for.
    known: Vec<&'static str>,
}

/// A value with its place.
pub struct Item<T> {
    pub value: T,
    at: usize,
}

impl<'a> Table<'a> {
    pub(super) fn parse(source: &'a Source) -> Result<Self, SettingsError> {
        let document = DeTable::parse(&source.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            source.wrong(at, error.message().replace('\n', ", "))
        })?;
        Ok(Table { source, name: String::new(), at: 0, entries: document.into_inner(), known: Vec::new() })
    }

    /// `/etc/rcon/rcon.toml:12`: where the table begins.
    pub fn place(&self) -> String {
        format!("{}:{}", self.source.path.display(), self.source.line(self.at))
    }

    fn path(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let key = if plain { key.to_owned() } else { format!("\"{}\"", key.escape_default()) };
        if self.name.is_empty() { key } else { format!("{}.{key}", self.name) }
    }

    /// An error about the table as a whole.
    pub fn wrong(&self, why: impl std::fmt::Display) -> SettingsError {
        self.source.wrong(self.at, format!("{}: {why}", self.name))
    }

    /// An error about a value of the table.
    pub fn wrong_value<T>(&self, key: &str, item: &Item<T>, why: impl std::fmt::Display) -> SettingsError {
        self.source.wrong(item.at, format!("{}: {why}", self.path(key)))
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.entries.remove(key)
    }

    fn mismatch(&self, key: &str, value: &Spanned<DeValue<'a>>, wanted: &str) -> SettingsError {
        let found = value.get_ref().type_str();
        self.source.wrong(value.span().start, format!("{}: expected {wanted}, found {} {found}", self.path(key), article(found)))
    }

    /// # Errors
    /// Not `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.mismatch(key, &value, "true or false"))
    }

    /// # Errors
    /// Not a whole number of that range.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = value.get_ref().as_integer() else { return Err(self.mismatch(key, &value, &wanted)) };
        let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| range.contains(number));
        let item = Item { value: (), at: value.span().start };
        parsed.map(Some).ok_or_else(|| self.wrong_value(key, &item, format!("expected {wanted}, found {}", number.as_str())))
    }

    /// A size in bytes: a number, or a text with a unit (`"64GiB"`).
    ///
    /// # Errors
    /// Neither of them.
    pub fn size(&mut self, key: &'static str) -> Result<Option<u64>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let item = Item { value: (), at: value.span().start };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            _ => return Err(self.mismatch(key, &value, "a size such as \"64GiB\"")),
        };
        text.parse::<ByteSize>().map(|size| Some(size.0)).map_err(|why| self.wrong_value(key, &item, why))
    }

    /// A size in bytes, or a share of a disk (`"20%"`).
    ///
    /// # Errors
    /// Neither of them.
    pub fn space(&mut self, key: &'static str) -> Result<Option<Space>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let item = Item { value: (), at: value.span().start };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            _ => return Err(self.mismatch(key, &value, "a size such as \"64GiB\" or a share such as \"20%\"")),
        };
        text.parse().map(Some).map_err(|why: String| self.wrong_value(key, &item, why))
    }

    /// # Errors
    /// Not a string.
    pub fn text(&mut self, key: &'static str) -> Result<Option<Item<String>>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        self.string(key, &value, "a string").map(Some)
    }

    fn string(&self, key: &str, value: &Spanned<DeValue<'a>>, wanted: &str) -> Result<Item<String>, SettingsError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Item { value: text.to_string(), at: value.span().start }),
            _ => Err(self.mismatch(key, value, wanted)),
        }
    }

    /// # Errors
    /// Not a list of strings.
    pub fn texts(&mut self, key: &'static str) -> Result<Option<Vec<Item<String>>>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let wanted = "a list of strings";
        let Some(items) = value.get_ref().as_array() else { return Err(self.mismatch(key, &value, wanted)) };
        items.iter().map(|item| self.string(key, item, wanted)).collect::<Result<_, _>>().map(Some)
    }

    /// # Errors
    /// Not a table.
    pub fn table(&mut self, key: &'static str) -> Result<Option<Table<'a>>, SettingsError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        self.inner(key, value).map(Some)
    }

    /// Every key that is left, each of which must be a table: `[registry."host"]`.
    ///
    /// # Errors
    /// One of them is no table.
    pub fn tables(&mut self) -> Result<Vec<(String, Table<'a>)>, SettingsError> {
        let mut tables = Vec::new();
        for (key, value) in std::mem::take(&mut self.entries) {
            let key = key.into_inner().to_string();
            let table = self.inner(&key, value)?;
            tables.push((key, table));
        }
        Ok(tables)
    }

    fn inner(&self, key: &str, value: Spanned<DeValue<'a>>) -> Result<Table<'a>, SettingsError> {
        let at = value.span().start;
        if !value.get_ref().is_table() {
            return Err(self.mismatch(key, &value, "a table"));
        }
        let DeValue::Table(entries) = value.into_inner() else { unreachable!("invariant: looked at above") };
        Ok(Table { source: self.source, name: self.path(key), at, entries, known: Vec::new() })
    }

    /// Ends the reading: nothing may be left.
    ///
    /// # Errors
    /// A key that nobody asked for, with the known one it may have been meant to be.
    pub fn finish(self) -> Result<(), SettingsError> {
        let position = |key: &Spanned<DeString<'a>>| key.span().start;
        let Some(key) = self.entries.keys().min_by_key(|key| position(key)) else { return Ok(()) };
        let known = self.known.iter().copied();
        let mut why = format!("unknown key {}", self.path(key.get_ref()));
        match nearest(key.get_ref(), known.clone()) {
            Some(near) => why.push_str(&format!("; did you mean {near}?")),
            None => why.push_str(&format!("; there are {}", known.collect::<Vec<_>>().join(", "))),
        }
        Err(self.source.wrong(position(key), why))
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, read: impl Fn(&mut Table<'_>) -> Result<(), SettingsError>) -> String {
        let source = Source::of(text);
        let outcome = source.table().and_then(|mut table| {
            read(&mut table)?;
            table.finish()
        });
        let text = outcome.unwrap_err().to_string();
        text.strip_prefix("cannot use the settings in /test/rcon.toml, ").unwrap().to_owned()
    }

    fn image(table: &mut Table<'_>) -> Result<(), SettingsError> {
        let Some(mut image) = table.table("image")? else { return Ok(()) };
        image.boolean("keep_blobs")?;
        image.integer("count", 1..=8)?;
        image.size("limit")?;
        image.texts("list")?;
        image.finish()
    }

    #[test]
    fn errors_name_line_key_and_way_out() {
        for (text, wanted) in [
            ("\n[image]\nkeep_blob = true\n", "line 3: unknown key image.keep_blob; did you mean keep_blobs?"),
            ("[image]\nfrobnicate = 1", "line 2: unknown key image.frobnicate; there are keep_blobs, count, limit, list"),
            ("[imag]\n", "line 1: unknown key imag; did you mean image?"),
            ("[image]\nkeep_blobs = 'yes'", "line 2: image.keep_blobs: expected true or false, found a string"),
            ("[image]\ncount = 9", "line 2: image.count: expected a whole number from 1 to 8, found 9"),
            ("[image]\ncount = -1", "line 2: image.count: expected a whole number from 1 to 8, found -1"),
            ("[image]\ncount = 1.5", "line 2: image.count: expected a whole number from 1 to 8, found a float"),
            ("image.limit = '1x'", "line 1: image.limit: invalid size \"1x\": expected a number with an optional unit b, k, m, g or t"),
            ("[image]\nlist = ['a', 1]", "line 2: image.list: expected a list of strings, found an integer"),
            ("image = 1", "line 1: image: expected a table, found an integer"),
        ] {
            assert_eq!(error(text, image), wanted, "{text}");
        }
        assert!(error("[image]\nkeep_blobs = true\nkeep_blobs = false", image).starts_with("line 3: duplicate key"));
        assert!(error("[image\n", image).starts_with("line 1: "));
        let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        // Refused, not a crash: the parser bounds its recursion.
        assert!(error(&deep, image).starts_with("line 1: "));
    }

    #[test]
    fn values_are_read() {
        let source = Source::of("[image]\nkeep_blobs=true\ncount=0x8\nlimit='1.5g'\nlist=['a','b']\n['b.c']\nx=1");
        let mut table = source.table().unwrap();
        let mut image = table.table("image").unwrap().unwrap();
        assert_eq!(image.place(), "/test/rcon.toml:1");
        assert_eq!(
            (image.boolean("keep_blobs"), image.integer("count", 0..=8), image.size("limit")),
            (Ok(Some(true)), Ok(Some(8)), Ok(Some(3 << 29)))
        );
        assert_eq!(image.texts("list").unwrap().unwrap().iter().map(|item| item.value.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((image.boolean("other"), image.finish()), (Ok(None), Ok(())));
        let (name, mut free) = table.tables().unwrap().remove(0);
        assert_eq!((name.as_str(), free.integer("x", 0..=1)), ("b.c", Ok(Some(1))));
        assert_eq!(free.wrong("why").to_string(), "cannot use the settings in /test/rcon.toml, line 6: \"b.c\": why");
    }
}
