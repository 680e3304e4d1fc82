//! The `[trust]` section: what is accepted, rejected, or needs a signature, by registry and repository.

use super::Key;
use crate::base::settings::{self, SettingsError, Table};
use crate::oci::Reference;
use std::collections::BTreeMap;
use std::path::Path;

/// What is done with images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Accept,
    Reject,
    Signed(Signed),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// One of these keys must have signed it.
    pub keys: Vec<Key>,
    /// The scope that the signed repository must lie in, canonical; None: it is the image's own repository.
    pub identity: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub decision: Decision,
    /// A tag alone is not enough.
    pub require_digest: bool,
    /// For errors: `trust policy for docker.io/library (/etc/rcon/rcon.toml:12)`.
    pub shown: String,
}

/// One rule for each scope, and one for all other names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    default: Rule,
    /// By canonical scope.
    scopes: BTreeMap<String, Rule>,
}

impl Default for Policy {
    fn default() -> Self {
        let shown = "default trust policy".to_owned();
        Policy { default: Rule { decision: Decision::Accept, require_digest: false, shown }, scopes: BTreeMap::new() }
    }
}

impl Policy {
    /// The rule of the longest scope that the name lies in.
    pub fn rule(&self, reference: &Reference) -> &Rule {
        let name = canonical(reference);
        let scopes = self.scopes.iter().filter(|(scope, _)| in_scope(&name, scope));
        scopes.max_by_key(|(scope, _)| scope.len()).map_or(&self.default, |(_, rule)| rule)
    }

    pub fn default_rule(&self) -> &Rule {
        &self.default
    }

    /// Nothing is ever refused.
    pub fn accepts_all(&self) -> bool {
        let open = |rule: &Rule| rule.decision == Decision::Accept && !rule.require_digest;
        open(&self.default) && self.scopes.values().all(open)
    }

    /// Scope (empty: all other names) and what is done, for people.
    pub fn summary(&self) -> Vec<(String, String)> {
        let of = |rule: &Rule| {
            let decision = match &rule.decision {
                Decision::Accept => "accept".to_owned(),
                Decision::Reject => "reject".to_owned(),
                Decision::Signed(signed) => {
                    format!("signed with {}", signed.keys.iter().map(|key| key.shown.as_str()).collect::<Vec<_>>().join(" or "))
                }
            };
            if rule.require_digest { format!("{decision}, by digest only") } else { decision }
        };
        let scopes = self.scopes.iter().map(|(scope, rule)| (scope.clone(), of(rule)));
        std::iter::once((String::new(), of(&self.default))).chain(scopes).collect()
    }
}

/// The name that policies are about: registry and repository in one spelling. Two spellings that reach the same
/// repository must not fall under different rules: host names have no case, ports of the schemes may be left
/// out, and the default registry answers to several names.
pub fn canonical(reference: &Reference) -> String {
    format!("{}/{}", canonical_registry(reference.registry()), reference.repository())
}

fn canonical_registry(registry: &str) -> String {
    let lower = registry.to_ascii_lowercase();
    let host = lower.strip_suffix(":443").or(lower.strip_suffix(":80")).unwrap_or(&lower);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// True if the name is the scope or lies below it, component by component.
pub fn in_scope(name: &str, scope: &str) -> bool {
    name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A registry, or a registry and the beginning of a repository, in canonical form.
fn scope(text: &str) -> Option<String> {
    let reference: Reference = format!("{text}/x").parse().ok()?;
    let (registry, path) = text.split_once('/').map_or((text, None), |(registry, path)| (registry, Some(path)));
    if reference.registry() != registry && registry != "index.docker.io" {
        return None;
    }
    let registry = canonical_registry(registry);
    Some(path.map_or_else(|| registry.clone(), |path| format!("{registry}/{path}")))
}

/// What the files say so far. Scopes take over what `[trust]` itself says only in the end.
#[derive(Default)]
pub struct Draft {
    default: Option<String>,
    keys: Vec<Key>,
    require_digest: bool,
    place: String,
    scopes: BTreeMap<String, ScopeDraft>,
}

struct ScopeDraft {
    decision: String,
    keys: Option<Vec<Key>>,
    identity: Option<String>,
    require_digest: Option<bool>,
    shown: String,
    /// Its error should it name no key.
    keyless: SettingsError,
}

const DECISIONS: [&str; 3] = ["accept", "reject", "signed"];

impl Draft {
    /// Takes over a `[trust]` section. The rule of a scope replaces an earlier one of the same scope as a whole.
    ///
    /// # Errors
    /// An unknown key, a value that is not valid, a key file that cannot be used.
    pub fn read(&mut self, mut table: Table<'_>) -> Result<(), SettingsError> {
        if let Some(default) = decision(&mut table, "default")? {
            self.default = Some(default);
            self.place = table.place();
        }
        if let Some(keys) = keys(&mut table)? {
            self.keys = keys;
        }
        if let Some(required) = table.boolean("require_digest")? {
            self.require_digest = required;
            self.place = table.place();
        }
        if let Some(mut section) = table.table("scope")? {
            for (name, table) in section.tables()? {
                self.scope(&name, table)?;
            }
        }
        table.finish()
    }

    fn scope(&mut self, name: &str, mut table: Table<'_>) -> Result<(), SettingsError> {
        let hint = "expected a registry or a registry with the beginning of a repository, such as \"docker.io/library\"";
        let scope_name = scope(name).ok_or_else(|| table.wrong(format!("not a scope: {hint}")))?;
        let decision = decision(&mut table, "policy")?.ok_or_else(|| table.wrong("policy is missing: accept, reject or signed"))?;
        let keys = keys(&mut table)?;
        let identity = match table.text("identity")? {
            Some(item) => Some(scope(&item.value).ok_or_else(|| table.wrong_value("identity", &item, format!("not a scope: {hint}")))?),
            None => None,
        };
        if decision != "signed" && (keys.is_some() || identity.is_some()) {
            return Err(table.wrong(format!("keys and identity are for policy = \"signed\", not for \"{decision}\"")));
        }
        let require_digest = table.boolean("require_digest")?;
        let shown = format!("trust policy for {scope_name} ({})", table.place());
        let keyless = table.wrong("policy = \"signed\" needs keys, here or in [trust]");
        table.finish()?;
        self.scopes.insert(scope_name, ScopeDraft { decision, keys, identity, require_digest, shown, keyless });
        Ok(())
    }

    /// # Errors
    /// A rule asks for signatures and there is no key for it.
    pub fn finish(self) -> Result<Policy, SettingsError> {
        let Draft { default, keys, require_digest, place, scopes } = self;
        let mut policy = Policy::default();
        if !place.is_empty() {
            policy.default.shown = format!("default trust policy ({place})");
        }
        let decide = |text: &str, own: Option<Vec<Key>>, identity: Option<String>| match text {
            "reject" => Some(Decision::Reject),
            "signed" => {
                let keys = own.unwrap_or_else(|| keys.clone());
                (!keys.is_empty()).then_some(Decision::Signed(Signed { keys, identity }))
            }
            _ => Some(Decision::Accept),
        };
        if let Some(text) = default {
            let keyless = || SettingsError::file(Path::new(&place), "trust: default = \"signed\" needs keys");
            policy.default.decision = decide(&text, None, None).ok_or_else(keyless)?;
        }
        policy.default.require_digest = require_digest;
        for (name, draft) in scopes {
            let decision = decide(&draft.decision, draft.keys, draft.identity).ok_or(draft.keyless)?;
            let require_digest = draft.require_digest.unwrap_or(require_digest);
            policy.scopes.insert(name, Rule { decision, require_digest, shown: draft.shown });
        }
        Ok(policy)
    }
}

fn decision(table: &mut Table<'_>, key: &'static str) -> Result<Option<String>, SettingsError> {
    match table.text(key)? {
        Some(item) if DECISIONS.contains(&item.value.as_str()) => Ok(Some(item.value)),
        Some(item) => Err(table.wrong_value(key, &item, format!("expected accept, reject or signed, found \"{}\"", item.value.escape_default()))),
        None => Ok(None),
    }
}

/// Public keys: absolute paths of PEM files, or the PEM itself.
fn keys(table: &mut Table<'_>) -> Result<Option<Vec<Key>>, SettingsError> {
    let Some(items) = table.texts("keys")? else { return Ok(None) };
    let mut keys = Vec::new();
    for item in &items {
        let refused = |why: String| table.wrong_value("keys", item, why);
        let key = if item.value.trim_start().starts_with("-----BEGIN") {
            let shown = format!("in {}", table.place());
            Key::parse(&item.value, &shown).map_err(|why| refused(format!("not a public key: {why}")))?
        } else if item.value.starts_with('/') {
            let text = settings::text(Path::new(&item.value)).map_err(|error| refused(error.to_string()))?;
            let text = text.ok_or_else(|| refused(format!("there is no file {}", item.value)))?;
            Key::parse(&text, &item.value).map_err(|why| refused(format!("{} is no public key: {why}", item.value)))?
        } else {
            return Err(refused("expected the absolute path of a PEM file, or PEM text".to_owned()));
        };
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(table.wrong("keys is empty: an image that must be signed by nobody can never be taken"));
    }
    Ok(Some(keys))
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::Signer;
    use super::*;
    use crate::base::settings::Source;

    fn read(texts: &[&str]) -> Result<Policy, String> {
        let mut draft = Draft::default();
        for text in texts {
            let source = Source::of(text);
            let mut table = source.table().map_err(|e| e.to_string())?;
            if let Some(section) = table.table("trust").map_err(|e| e.to_string())? {
                draft.read(section).map_err(|e| e.to_string())?;
            }
        }
        draft.finish().map_err(|e| e.to_string())
    }

    fn of(policy: &Policy, name: &str) -> &'static str {
        match policy.rule(&name.parse().unwrap()).decision {
            Decision::Accept => "accept",
            Decision::Reject => "reject",
            Decision::Signed(_) => "signed",
        }
    }

    #[test]
    fn the_longest_scope_wins_in_every_spelling() {
        let key = Signer::ecdsa().pem();
        let text = format!(
            "[trust]\ndefault='reject'\nkeys=['''{key}''']\n[trust.scope.'docker.io']\npolicy='accept'\n[trust.scope.'docker.io/library/evil']\npolicy='reject'\n\
             [trust.scope.'R.example/team']\npolicy='signed'\n[trust.scope.'r.example/team/open']\npolicy='accept'\n[trust.scope.'h.example:5000']\npolicy='accept'"
        );
        let policy = read(&[&text]).unwrap();
        for (name, wanted) in [
            ("busybox", "accept"),
            ("evil:1", "reject"),
            ("index.docker.io/library/evil", "reject"),
            ("registry-1.docker.io/library/evil", "reject"),
            ("Registry-1.Docker.io:443/library/evil", "reject"),
            ("Docker.io/library/evil", "reject"),
            ("docker.io/library/evil/below", "reject"),
            ("evil2", "accept"),
            ("r.example/team/a", "signed"),
            ("R.Example:443/team/a/b", "signed"),
            ("r.example/team", "signed"),
            ("r.example/teams/a", "reject"),
            ("r.example/team/open/x", "accept"),
            ("h.example:5000/a", "accept"),
            ("h.example:5001/a", "reject"),
            ("h.example/a", "reject"),
            ("localhost/a", "reject"),
        ] {
            assert_eq!(of(&policy, name), wanted, "{name}");
        }
        assert!(policy.rule(&"evil".parse().unwrap()).shown.starts_with("trust policy for docker.io/library/evil (/test/rcon.toml:"));
        assert!(!policy.accepts_all() && Policy::default().accepts_all());
    }

    #[test]
    fn later_rules_replace_and_inherit() {
        let policy = read(&[
            "[trust]\nrequire_digest=true\n[trust.scope.'a.example']\npolicy='reject'\n[trust.scope.'b.example']\npolicy='accept'\nrequire_digest=false",
            "trust.scope.'a.example'={policy='accept'}",
        ])
        .unwrap();
        let required = |name: &str| policy.rule(&name.parse().unwrap()).require_digest;
        assert_eq!((required("x"), required("a.example/x"), required("b.example/x")), (true, true, false));
        assert_eq!(of(&policy, "a.example/x"), "accept");
        assert!(!policy.accepts_all());
    }

    #[test]
    fn faults_are_named() {
        let key = Signer::edwards().pem();
        let accept_with_keys = format!("[trust.scope.'a.example']\npolicy='accept'\nkeys=['''{key}''']");
        for (text, part) in [
            ("[trust]\ndefault='deny'", "line 2: trust.default: expected accept, reject or signed, found \"deny\""),
            ("[trust]\ndefault='signed'", "default = \"signed\" needs keys"),
            ("[trust.scope.'a.example']\npolicy='signed'", "line 1: trust.scope.\"a.example\": policy = \"signed\" needs keys, here or in [trust]"),
            ("[trust.scope.'busybox']\npolicy='accept'", "not a scope: expected a registry"),
            ("[trust.scope.'a.example/']\npolicy='accept'", "not a scope"),
            ("[trust.scope.'a.example/x:1']\npolicy='accept'", "not a scope"),
            ("[trust.scope.'a.example']", "policy is missing"),
            ("[trust.scope.'a.example']\npolcy='accept'", "policy is missing"),
            ("[trust.scope.'a.example']\npolicy='accept'\nidentty='x'", "unknown key trust.scope.\"a.example\".identty; did you mean identity?"),
            ("[trust]\nkeys=[]", "keys is empty"),
            ("[trust]\nkeys=['key.pub']", "line 2: trust.keys: expected the absolute path"),
            ("[trust]\nkeys=['/nonexistent/key.pub']", "there is no file /nonexistent/key.pub"),
            ("[trust]\nkeys=['-----BEGIN X-----']", "not a public key"),
            ("[trust]\n'a.example'='reject'", "unknown key trust.\"a.example\""),
            (&accept_with_keys, "keys and identity are for policy = \"signed\""),
        ] {
            let error = read(&[text]).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
