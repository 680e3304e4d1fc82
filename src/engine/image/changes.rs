//! The Dockerfile instructions that change an image's config without running anything: `import --change`.

use crate::base::go_duration;
use crate::engine::{Error, Result};
use crate::oci::{ImageDefaults, exposed_ports};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SHELL: [&str; 2] = ["/bin/sh", "-c"];
const KNOWN: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// Applies one instruction.
///
/// # Errors
/// `Invalid` for an unknown instruction or arguments that it does not take.
pub fn apply(defaults: &mut ImageDefaults, instruction: &str) -> Result<()> {
    let text = instruction.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let wrong = |why: String| Error::invalid(format!("invalid change \"{}\": {why}", text.escape_debug()));
    let name = word.to_ascii_uppercase();
    if rest.is_empty() && name != "CMD" {
        let known = KNOWN.split(", ").any(|known| known == name);
        return Err(wrong(if known { format!("{name} needs an argument") } else { format!("expected one of {KNOWN}") }));
    }
    let shell = defaults.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
    match name.as_str() {
        "CMD" => defaults.cmd = Some(command(rest, &shell)),
        "ENTRYPOINT" => defaults.entrypoint = Some(command(rest, &shell)),
        "SHELL" => defaults.shell = Some(array(rest).ok_or_else(|| wrong("SHELL takes a JSON array".to_owned()))?),
        "ENV" => {
            let environment = defaults.env.get_or_insert_default();
            for (key, value) in pairs(rest).map_err(wrong)? {
                let own = format!("{key}=");
                environment.retain(|entry| !entry.starts_with(&own));
                environment.push(format!("{key}={value}"));
            }
        }
        "LABEL" => defaults.labels.get_or_insert_default().extend(pairs(rest).map_err(wrong)?),
        "EXPOSE" => {
            for word in rest.split_whitespace() {
                let ports = exposed_ports(word).ok_or_else(|| wrong(format!("\"{word}\" is no port")))?;
                defaults.exposed_ports.get_or_insert_default().extend(ports.into_iter().map(|port| (port, json!({}))));
            }
        }
        "VOLUME" => {
            let paths = array(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            defaults.volumes.get_or_insert_default().extend(paths.into_iter().map(|path| (path, json!({}))));
        }
        "WORKDIR" => {
            let before = defaults.working_dir.clone().unwrap_or_else(|| "/".to_owned());
            let joined = if rest.starts_with('/') { rest.to_owned() } else { format!("{}/{rest}", before.trim_end_matches('/')) };
            defaults.working_dir = Some(joined);
        }
        "USER" => defaults.user = Some(rest.to_owned()),
        "STOPSIGNAL" => {
            rest.parse::<crate::base::Signal>().map_err(|e| wrong(e.to_string()))?;
            defaults.stop_signal = Some(rest.to_owned());
        }
        "ONBUILD" => defaults.on_build.get_or_insert_default().push(rest.to_owned()),
        "HEALTHCHECK" => defaults.healthcheck = Some(health(rest, &shell).map_err(wrong)?),
        _ => return Err(wrong(format!("expected one of {KNOWN}"))),
    }
    Ok(())
}

/// The exec form, if it is one.
fn array(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn command(text: &str, shell: &[String]) -> Vec<String> {
    match array(text) {
        Some(words) => words,
        None if text.is_empty() => Vec::new(),
        None => shell.iter().cloned().chain([text.to_owned()]).collect(),
    }
}

/// `K=V K2="a b"`, or the old form `K the rest`.
fn pairs(text: &str) -> std::result::Result<BTreeMap<String, String>, String> {
    let words = words(text)?;
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| format!("{first} has no value"))?;
        return Ok(BTreeMap::from([(key.to_owned(), value.trim().to_owned())]));
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{word}\" is not KEY=VALUE")),
    };
    words.iter().map(pair).collect()
}

/// Words with the quotes and backslashes of a Dockerfile taken away.
fn words(text: &str) -> std::result::Result<Vec<String>, String> {
    let (mut words, mut word, mut quote, mut some) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, some) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if some || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                some = false;
            }
            (c, _) => word.push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is not closed"));
    }
    if some || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// `NONE`, or `[--interval=30s …] CMD command`.
fn health(text: &str, shell: &[String]) -> std::result::Result<Value, String> {
    let mut rest = text;
    let mut check = serde_json::Map::new();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).ok_or("CMD or NONE is missing")?;
        let (key, value) = flag.split_once('=').ok_or_else(|| format!("--{flag} needs a value"))?;
        let number = match key {
            "retries" => value.parse::<i64>().ok(),
            "interval" | "timeout" | "start-period" | "start-interval" => go_duration(value),
            _ => return Err(format!("--{key} is not a flag of HEALTHCHECK")),
        };
        let number = number.filter(|n| *n >= 0).ok_or_else(|| format!("--{key}: \"{value}\" is not valid"))?;
        let field = match key {
            "retries" => "Retries",
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            _ => "StartInterval",
        };
        check.insert(field.to_owned(), json!(number));
        rest = after.trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match word.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !command.is_empty() => match array(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None if *shell == SHELL => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            None => std::iter::once("CMD".to_owned()).chain(shell.iter().cloned()).chain([command.to_owned()]).collect(),
        },
        _ => return Err("expected NONE, or CMD and a command".to_owned()),
    };
    check.insert("Test".to_owned(), json!(test));
    Ok(Value::Object(check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_config() {
        let mut defaults = ImageDefaults::default();
        for change in [
            "CMD [\"sh\", \"-c\", \"true\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\" C=d\\ e",
            "ENV A new value",
            "LABEL one=1 'two'=2",
            "EXPOSE 80 8000-8001/udp",
            "VOLUME [\"/a b\"]",
            "VOLUME /c /d",
            "WORKDIR /srv",
            "WORKDIR app",
            "USER 1000:1000",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://localhost",
        ] {
            apply(&mut defaults, change).unwrap();
        }
        assert_eq!(
            serde_json::to_value(&defaults).unwrap(),
            json!({
                "User": "1000:1000",
                "ExposedPorts": {"80/tcp": {}, "8000/udp": {}, "8001/udp": {}},
                "Env": ["B=two words", "C=d e", "A=new value"],
                "Entrypoint": ["/bin/sh", "-c", "run it"],
                "Cmd": ["sh", "-c", "true"],
                "Volumes": {"/a b": {}, "/c": {}, "/d": {}},
                "WorkingDir": "/srv/app",
                "Labels": {"one": "1", "two": "2"},
                "StopSignal": "SIGQUIT",
                "Healthcheck": {"Interval": 5_000_000_000u64, "Retries": 3, "Test": ["CMD-SHELL", "curl -f http://localhost"]},
                "OnBuild": ["RUN x"],
            })
        );
    }

    #[test]
    fn what_is_refused_says_why() {
        for (change, words) in [
            ("RUN x", "expected one of CMD"),
            ("ENV", "ENV needs an argument"),
            ("ENV A", "A has no value"),
            ("LABEL a=\"b", "is not closed"),
            ("EXPOSE 0", "\"0\" is no port"),
            ("EXPOSE 80/icmp", "is no port"),
            ("HEALTHCHECK --interval=x CMD y", "--interval"),
            ("HEALTHCHECK sh", "expected NONE"),
            ("STOPSIGNAL SIGNONE", "SIGNONE"),
            ("SHELL sh", "JSON array"),
        ] {
            let error = apply(&mut ImageDefaults::default(), change).unwrap_err().to_string();
            assert!(error.contains(words), "{change}: {error}");
        }
    }
}
