//! `KEY=VALUE,…`, as `--output`, `--cache-from` and `--cache-to` are written.
//!
//! Invariant: an option is taken by whoever understands it, and what nobody took is an error: none is passed over.

use crate::base::csv;
use crate::engine::request::parse_bool;

/// What differs from flag to flag.
#[derive(Debug, Default)]
pub struct Grammar {
    /// Other names of keys.
    pub aliases: &'static [(&'static str, &'static str)],
    /// A key alone is one that is true.
    pub bare: bool,
    /// A key may be given several times; of those that have one value the last counts.
    pub repeated: bool,
    /// Options that BuildKit has, and why they are not here.
    pub refused: &'static [(&'static str, &'static str)],
}

/// Keys and values not yet understood.
#[derive(Debug)]
pub struct Fields {
    pairs: Vec<(String, String)>,
    grammar: &'static Grammar,
}

impl Fields {
    /// # Errors
    /// A quote that is not closed, a key without a value, a key that is given twice.
    pub fn parse(text: &str, grammar: &'static Grammar) -> Result<Self, String> {
        let mut fields = Fields { pairs: Vec::new(), grammar };
        for field in csv::split(text)? {
            let (key, value) = match field.split_once('=') {
                Some(pair) => pair,
                None if grammar.bare => (field.as_str(), "true"),
                None => return Err(format!("\"{field}\" is not KEY=VALUE")),
            };
            let key = fields.name(key);
            if !grammar.repeated && fields.has(&key) {
                return Err(format!("{key} is given twice"));
            }
            fields.pairs.push((key, value.to_owned()));
        }
        Ok(fields)
    }

    /// What a shorter way of writing comes to.
    pub fn of<const N: usize>(pairs: [(&str, String); N], grammar: &'static Grammar) -> Self {
        Fields { pairs: Vec::from(pairs.map(|(key, value)| (key.to_owned(), value))), grammar }
    }

    /// In lower case and by its usual name; what follows a point is a name that the user gives.
    fn name(&self, key: &str) -> String {
        let key = key.trim();
        let stem = key.find(['.', '[']).unwrap_or(key.len());
        let key = key[..stem].to_ascii_lowercase() + &key[stem..];
        let alias = self.grammar.aliases.iter().find(|(other, _)| *other == key);
        alias.map_or(key, |(_, usual)| (*usual).to_owned())
    }

    pub fn has(&self, key: &str) -> bool {
        self.values(key).next().is_some()
    }

    /// All values of a key, which stay.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn take_all(&mut self, key: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(own, _)| own == key).map(|(_, value)| value).collect()
    }

    /// The last value of a key.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.take_all(key).pop()
    }

    /// Whatever `read` understands.
    ///
    /// # Errors
    /// What it says.
    pub fn take_read<T>(&mut self, read: impl Fn(&str, &str) -> Result<Option<T>, String>) -> Result<Vec<T>, String> {
        let mut taken = Vec::new();
        for (key, value) in std::mem::take(&mut self.pairs) {
            match read(&key, &value)? {
                Some(one) => taken.push(one),
                None => self.pairs.push((key, value)),
            }
        }
        Ok(taken)
    }

    /// # Errors
    /// There is none.
    pub fn kind(&mut self) -> Result<String, String> {
        self.take("type").filter(|kind| !kind.is_empty()).ok_or_else(|| "type is missing".to_owned())
    }

    /// # Errors
    /// Neither true nor false.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        self.take(key).map(|value| parse_bool(&value).map_err(|why| format!("{key}={value}: {why}"))).transpose()
    }

    /// # Errors
    /// What nobody took.
    pub fn finish(self, kind: &str) -> Result<(), String> {
        let Some((key, _)) = self.pairs.first() else { return Ok(()) };
        match self.grammar.refused.iter().find(|(own, _)| own == key) {
            Some((_, why)) => Err(format!("the option {key} is not supported: {why}")),
            None => Err(format!("{key} is no option of type={kind}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Grammar};

    static STRICT: Grammar = Grammar { aliases: &[("source", "src")], bare: false, repeated: false, refused: &[("old", "it is gone")] };
    static EASY: Grammar = Grammar { aliases: &[], bare: true, repeated: true, refused: &[] };

    #[test]
    fn options_are_taken_by_name() {
        let mut read = Fields::parse("TYPE=x, Source = a,\"to=a,b\",on=1", &STRICT).unwrap();
        assert_eq!((read.kind(), read.take("src"), read.flag("on")), (Ok("x".to_owned()), Some(" a".to_owned()), Ok(Some(true))));
        assert_eq!(read.take("to").as_deref(), Some("a,b"));
        assert_eq!(read.finish("x"), Ok(()));
        let mut read = Fields::parse("on,a=1,a=2,b.Own=3,on=maybe", &EASY).unwrap();
        assert_eq!(read.values("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((read.take("a").as_deref(), read.has("a")), (Some("2"), false));
        assert!(read.flag("on").unwrap_err().starts_with("on=maybe: "));
        assert_eq!(read.take_read(|key, value| Ok(key.strip_prefix("b.").map(|own| format!("{own}={value}")))).unwrap(), ["Own=3"]);
        assert_eq!(read.kind(), Err("type is missing".to_owned()));
    }

    #[test]
    fn what_nobody_takes_is_told() {
        for (text, why) in [("a=1", "a is no option of type=x"), ("old=1", "the option old is not supported: it is gone")] {
            assert_eq!(Fields::parse(text, &STRICT).unwrap().finish("x"), Err(why.to_owned()));
        }
        for (text, why) in [("a", "\"a\" is not KEY=VALUE"), ("src=1,source=2", "src is given twice")] {
            assert_eq!(Fields::parse(text, &STRICT).map(drop), Err(why.to_owned()));
        }
    }
}
