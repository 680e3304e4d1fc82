//! What a `401` asks for: the challenges of its `WWW-Authenticate` headers (RFC 9110, 11.6.1).

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, PartialEq)]
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// Reads `Bearer realm="…",service="…"` and `Basic realm="…"` (RFC 9110, 11.6.1); other schemes are skipped.
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = text.trim_start();
    while let Some((scheme, parameters)) = take_word(rest) {
        let (parameters, after) = take_parameters(parameters);
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let find = |key: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone());
            if let Some(realm) = find("realm") {
                challenges.push(Challenge::Bearer { realm, service: find("service") });
            }
        }
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    challenges
}

fn take_word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// `name=value` pairs up to the next scheme.
fn take_parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([',', ' ', '\t']);
        let Some((name, after)) = take_word(start) else { return (found, "") };
        let Some(after) = after.strip_prefix('=') else { return (found, start) };
        let after = after.trim_start();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = characters.next() {
                match c {
                    '\\' => value.extend(characters.next().map(|(_, c)| c)),
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    c => value.push(c),
                }
            }
            found.push((name.to_owned(), value));
            text = &quoted[end..];
        } else {
            let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
            found.push((name.to_owned(), after[..end].to_owned()));
            text = &after[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) };
        assert_eq!(
            parse(r#"Bearer realm="https://auth.example/token",service="reg, istry",scope="repository:a/b:pull""#),
            [bearer("https://auth.example/token", Some("reg, istry"))]
        );
        assert_eq!(parse(r#"Basic realm="x", Bearer realm=y"#), [Challenge::Basic, bearer("y", None)]);
        assert_eq!(parse(r#"Negotiate, BASIC realm="a\"b""#), [Challenge::Basic]);
        for odd in ["", ",", "Bearer", "Bearer realm=\"unclosed", "=", "Basic realm"] {
            drop(parse(odd));
        }
    }
}
