//! The query of a request: `all=1&filters={"status":["running"]}`.

use super::reply::Refusal;
use crate::base::Timestamp;
use serde_json::Value;

#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of this key; what is given empty is as if it were not given.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// As Docker reads them: only empty, `0`, `no`, `false` and `none` are false.
    pub fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| !matches!(text.trim().to_ascii_lowercase().as_str(), "0" | "no" | "false" | "none"))
    }

    /// One that is on unless it is turned off.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.text(key).is_some() { self.flag(key) } else { default }
    }

    /// # Errors
    /// It is no number.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Refusal> {
        let parse = |text: &str| text.parse().map_err(|_| Refusal::invalid(format!("invalid value \"{text}\" for {key}: expected a number")));
        self.text(key).map(parse).transpose()
    }

    /// A moment: seconds since 1970 with a fraction, RFC 3339, or a duration before now.
    ///
    /// # Errors
    /// It is none of them.
    pub fn time(&self, key: &str) -> Result<Option<Timestamp>, Refusal> {
        let now = Timestamp::now();
        let parse = |text: &str| crate::engine::parse_time(text, now).ok_or_else(|| Refusal::invalid(format!("invalid time \"{text}\" for {key}")));
        // Clients send 0 for "from the beginning" and for "no end".
        self.text(key).filter(|text| *text != "0").map(parse).transpose()
    }

    /// A number of the process's terminal, 0 if it is not given.
    ///
    /// # Errors
    /// It is no number.
    pub fn size(&self) -> Result<(u16, u16), Refusal> {
        Ok((self.number("w")?.unwrap_or(0), self.number("h")?.unwrap_or(0)))
    }

    /// `filters`: a JSON object of lists, or (from old clients) of objects whose keys are meant.
    ///
    /// # Errors
    /// It is neither.
    pub fn filters(&self) -> Result<Vec<(String, String)>, Refusal> {
        let Some(text) = self.text("filters") else { return Ok(Vec::new()) };
        let wrong = || Refusal::invalid(format!("invalid filter \"{text}\""));
        let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) else { return Err(wrong()) };
        let mut filters = Vec::new();
        for (key, values) in map {
            match values {
                Value::Array(values) => {
                    for value in values {
                        filters.push((key.clone(), value.as_str().ok_or_else(wrong)?.to_owned()));
                    }
                }
                Value::Object(values) => {
                    filters.extend(values.into_iter().filter(|(_, on)| on != &Value::Bool(false)).map(|(value, _)| (key.clone(), value)));
                }
                _ => return Err(wrong()),
            }
        }
        Ok(filters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse(
            "all=1&t=a%20b+c&empty=&size=0&filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%2C%22status%22%3A%7B%22up%22%3Atrue%2C%22no%22%3Afalse%7D%7D",
        );
        assert!(query.flag("all") && !query.flag("size") && !query.flag("empty") && !query.flag("nothing"));
        assert_eq!(query.text("t"), Some("a b c"));
        assert_eq!(query.filters().unwrap(), [("label".to_owned(), "a=b".to_owned()), ("status".to_owned(), "up".to_owned())]);
        assert!(Query::parse("filters=x").filters().is_err() && Query::parse("filters=[1]").filters().is_err());
        assert_eq!(Query::parse("&a=%zz%2&&b").0, [("a".to_owned(), "%zz%2".to_owned()), ("b".to_owned(), String::new())]);
        assert!(query.number::<u32>("t").is_err() && query.number::<u32>("all").unwrap() == Some(1));
    }
}
