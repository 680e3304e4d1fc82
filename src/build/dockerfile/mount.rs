//! `RUN --mount=type=…`: what is written, and what it means once its variables are known.

use super::source::Span;
use crate::base::csv;

/// The options of one `--mount`, in their order; keys in lower case, values unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountText {
    pub options: Vec<(String, Option<String>)>,
    pub span: Span,
}

/// A mount of one `RUN`. Paths may be relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    Bind { target: String, from: Option<String>, source: Option<String>, writable: bool },
    Cache(Cache),
    Tmpfs { target: String, size: Option<u64> },
    Secret(Handed),
    Ssh(Handed),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    pub target: String,
    /// None is the target.
    pub id: Option<String>,
    pub sharing: Sharing,
    pub from: Option<String>,
    pub source: Option<String>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub read_only: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    Shared,
    Private,
    Locked,
}

/// A secret or an agent's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    pub id: String,
    /// None: `/run/secrets/ID` for a secret without `env`, no file for one with it; the agent's own place for ssh.
    pub target: Option<String>,
    /// The variable that carries the secret.
    pub env: Option<String>,
    pub required: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
/// Options and the types that take them.
const OPTIONS: &[(&str, &[&str])] = &[
    ("type", &TYPES),
    ("target", &TYPES),
    ("from", &["bind", "cache"]),
    ("source", &["bind", "cache", "secret", "ssh"]),
    ("readonly", &["bind", "cache"]),
    ("readwrite", &["bind", "cache"]),
    ("id", &["cache", "secret", "ssh"]),
    ("sharing", &["cache"]),
    ("mode", &["cache", "secret", "ssh"]),
    ("uid", &["cache", "secret", "ssh"]),
    ("gid", &["cache", "secret", "ssh"]),
    ("size", &["tmpfs"]),
    ("env", &["secret"]),
    ("required", &["secret", "ssh"]),
];

/// Most options of one mount.
const OPTION_LIMIT: usize = 64;

impl MountText {
    /// # Errors
    /// A field that is no option, `from` with a variable; without variables, all that [`MountText::resolve`] refuses.
    pub fn parse(text: &str, span: Span) -> Result<Self, String> {
        let mut options = Vec::new();
        for field in csv::split(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = canonical(&key.trim().to_ascii_lowercase());
            if !OPTIONS.iter().any(|(known, _)| *known == key) {
                let near = crate::base::nearest(&key, OPTIONS.iter().map(|(known, _)| *known));
                let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return Err(format!("--mount: \"{}\" is no option of a mount{meant}", key.escape_debug()));
            }
            if value.is_none() && !["readonly", "readwrite", "required"].contains(&key.as_str()) {
                return Err(format!("--mount: {key} needs a value"));
            }
            if key == "from" && value.as_ref().is_some_and(|value| value.contains('$')) {
                return Err("--mount: from takes no variables; give the image a name with FROM … AS and use that".to_owned());
            }
            options.push((key, value));
            if options.len() > OPTION_LIMIT {
                return Err(format!("--mount: more than {OPTION_LIMIT} options"));
            }
        }
        let mount = MountText { options, span };
        if !mount.options.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.contains('$'))) {
            mount.resolve(&mut |value| Ok(value.to_owned()))?;
        }
        Ok(mount)
    }

    /// `from`, which is never expanded: the stage, image or context that must be there first.
    pub fn from(&self) -> Option<&str> {
        self.options.iter().rev().find(|(key, _)| key == "from").and_then(|(_, value)| value.as_deref()).filter(|from| !from.is_empty())
    }

    /// The mount, its values expanded by `expand`.
    ///
    /// # Errors
    /// An option that the type does not take, a value that is not right, a target that is missing or is `/`.
    pub fn resolve(&self, expand: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<Mount, String> {
        let mut values: Vec<(&str, Option<String>)> = Vec::new();
        for (key, value) in &self.options {
            let value = match value {
                Some(value) if key != "from" => Some(expand(value).map_err(|why| format!("--mount: {key}: {why}"))?),
                other => other.clone(),
            };
            values.push((key, value));
        }
        let values = Values(values);
        let kind = values.text("type").unwrap_or_else(|| "bind".to_owned()).to_ascii_lowercase();
        if !TYPES.contains(&kind.as_str()) {
            return Err(format!("--mount: \"{}\" is no type of a mount: bind, cache, tmpfs, secret and ssh are", kind.escape_debug()));
        }
        for (key, _) in &values.0 {
            if !OPTIONS.iter().any(|(known, types)| known == key && types.contains(&kind.as_str())) {
                return Err(format!("--mount: {key} is no option of type={kind}"));
            }
        }
        values.mount(&kind)
    }
}

/// One name for an option.
fn canonical(key: &str) -> String {
    match key {
        "src" => "source",
        "dst" | "destination" => "target",
        "ro" => "readonly",
        "rw" => "readwrite",
        other => other,
    }
    .to_owned()
}

struct Values<'m>(Vec<(&'m str, Option<String>)>);

impl Values<'_> {
    fn find(&self, key: &str) -> Option<&Option<String>> {
        self.0.iter().rev().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    /// The value, if it is not empty.
    fn text(&self, key: &str) -> Option<String> {
        self.find(key).cloned().flatten().filter(|value| !value.is_empty())
    }

    fn switch(&self, key: &str) -> Result<Option<bool>, String> {
        match self.find(key) {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
                other => Err(format!("--mount: {key} is true or false, not \"{}\"", other.escape_debug())),
            },
        }
    }

    fn number(&self, key: &str, radix: u32, default: u32) -> Result<u32, String> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let most = if radix == 8 { 0o7777 } else { u32::MAX };
        let number = u32::from_str_radix(&text, radix).ok().filter(|n| *n <= most && !text.starts_with('+'));
        number.ok_or_else(|| format!("--mount: {key}: \"{}\" is no {}", text.escape_debug(), if radix == 8 { "octal mode" } else { "id" }))
    }

    fn target(&self, kind: &str) -> Result<String, String> {
        self.text("target").ok_or_else(|| format!("--mount: type={kind} needs target="))
    }

    fn mount(&self, kind: &str) -> Result<Mount, String> {
        if let Some(target) = self.text("target") {
            let parts = target.split('/').filter(|part| !part.is_empty() && *part != ".");
            if target.starts_with('/') && parts.fold(0usize, |depth, part| if part == ".." { depth.saturating_sub(1) } else { depth + 1 }) == 0 {
                return Err("--mount: target must not be /".to_owned());
            }
        }
        let writable = match (self.switch("readwrite")?, self.switch("readonly")?) {
            (Some(write), None) => Some(write),
            (None, Some(read)) => Some(!read),
            (None, None) => None,
            (Some(write), Some(read)) if write != read => Some(write),
            (Some(_), Some(_)) => return Err("--mount: readonly and readwrite contradict each other".to_owned()),
        };
        let (from, source) = (self.text("from"), self.text("source"));
        Ok(match kind {
            "bind" => Mount::Bind { target: self.target(kind)?, from, source, writable: writable.unwrap_or(false) },
            "cache" => Mount::Cache(Cache {
                target: self.target(kind)?,
                id: self.text("id"),
                sharing: self.sharing()?,
                from,
                source,
                mode: self.number("mode", 8, 0o755)?,
                uid: self.number("uid", 10, 0)?,
                gid: self.number("gid", 10, 0)?,
                read_only: !writable.unwrap_or(true),
            }),
            "tmpfs" => Mount::Tmpfs { target: self.target(kind)?, size: self.size()? },
            "secret" => Mount::Secret(self.handed(0o400, None)?),
            _ => Mount::Ssh(self.handed(0o600, Some("default"))?),
        })
    }

    fn sharing(&self) -> Result<Sharing, String> {
        match self.text("sharing").map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("shared") => Ok(Sharing::Shared),
            Some("private") => Ok(Sharing::Private),
            Some("locked") => Ok(Sharing::Locked),
            Some(other) => Err(format!("--mount: sharing is shared, private or locked, not \"{}\"", other.escape_debug())),
        }
    }

    fn size(&self) -> Result<Option<u64>, String> {
        let Some(text) = self.text("size") else { return Ok(None) };
        let size = text.parse::<crate::base::ByteSize>().map_err(|why| format!("--mount: size: {why}"))?;
        Ok(Some(size.0))
    }

    /// `source` is another word for `id`, and a target alone names the secret after its file.
    fn handed(&self, mode: u32, default: Option<&str>) -> Result<Handed, String> {
        let target = self.text("target");
        let of_target = || target.as_ref().and_then(|target| target.rsplit('/').next()).filter(|name| !name.is_empty()).map(str::to_owned);
        let id = self.text("id").or_else(|| self.text("source")).or_else(|| default.map(str::to_owned)).or_else(of_target);
        Ok(Handed {
            id: id.ok_or("--mount: type=secret needs id= or target=")?,
            target,
            env: self.text("env"),
            required: self.switch("required")?.unwrap_or(false),
            mode: self.number("mode", 8, mode)?,
            uid: self.number("uid", 10, 0)?,
            gid: self.number("gid", 10, 0)?,
        })
    }
}
