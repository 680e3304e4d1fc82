//! One record of comma-separated values, as the values of flags and `RUN --mount` are written (RFC 4180): a field may be
//! quoted as a whole, `""` is a quote inside.

/// The fields of a record; of an empty text one that is empty.
///
/// # Errors
/// A quote that is not closed, stands within a field or is followed by text.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(format!("the quote in \"{}\" must stand around the whole field", rest[..end].escape_debug()));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("a comma is missing after a quoted field".to_owned()),
        }
    }
}

/// The field up to its closing quote, and what follows.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (piece, after) = rest.split_once('"').ok_or("the quote \" is not closed")?;
        field.push_str(piece);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn csv_records() {
        for (text, fields) in
            [("a,b", vec!["a", "b"]), ("\"a,b\",c", vec!["a,b", "c"]), ("\"a\"\"b\"", vec!["a\"b"]), ("a,", vec!["a", ""]), ("", vec![""])]
        {
            assert_eq!(split(text).unwrap(), fields, "{text}");
        }
        for bad in ["a\"b", "\"a", "\"a\"b"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
