//! Credentials as the docker CLI keeps them: `~/.docker/config.json` and its credential helpers.

use crate::image::{Error, RegistryConfig};
use base64::Engine as _;
use oci_distribution::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for a credential helper to answer.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// Most bytes a credential helper may answer.
const HELPER_LIMIT: u64 = 64 << 10;
/// The name under which docker keeps the credentials of its default registry.
const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// What is known about us at a registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    Plain(RegistryAuth),
    /// An OAuth2 refresh token (`docker login` with a browser).
    Identity(String),
}

/// The parts of docker's config file that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: HashMap<String, AuthEntry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Where credentials come from.
pub struct Stores {
    config: DockerConfig,
}

impl Stores {
    /// # Errors
    /// The docker config is not valid JSON.
    pub fn new(config: &RegistryConfig) -> Result<Self, Error> {
        let config = match &config.docker_config {
            Some(text) => serde_json::from_str(text).map_err(Error::DockerConfig)?,
            None => DockerConfig::default(),
        };
        Ok(Stores { config })
    }

    /// The credentials for a registry: its helper, else the common helper, else the file. A helper that is
    /// configured but fails is an error, never a reason to look elsewhere (CVE-2021-41092).
    ///
    /// # Errors
    /// A helper that cannot be run or answers nonsense.
    pub fn find(&self, registry: &str) -> Result<Credentials, Error> {
        let server = if registry == "docker.io" { DEFAULT_SERVER } else { registry };
        let own = self.config.cred_helpers.iter().find(|(name, _)| host_of(name) == host_of(server)).map(|(_, helper)| helper);
        if let Some(helper) = own.or(self.config.creds_store.as_ref()).filter(|helper| !helper.is_empty()) {
            return ask_helper(helper, server);
        }
        let entry = self.config.auths.get(server).or_else(|| {
            let same = self.config.auths.iter().find(|(name, _)| host_of(name) == host_of(server));
            same.map(|(_, entry)| entry)
        });
        Ok(entry.map_or(Credentials::Plain(RegistryAuth::Anonymous), AuthEntry::credentials))
    }
}

impl AuthEntry {
    fn credentials(&self) -> Credentials {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Credentials::Identity(token);
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Credentials::Plain(RegistryAuth::Bearer(token));
        }
        let decoded = filled(&self.auth).and_then(|auth| base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok());
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| {
            let (user, password) = text.split_once(':')?;
            Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
        });
        let pair = pair.or_else(|| Some((filled(&self.username)?, self.password.clone().unwrap_or_default())));
        Credentials::Plain(pair.map_or(RegistryAuth::Anonymous, |(user, password)| RegistryAuth::Basic(user, password)))
    }
}

/// `https://index.docker.io/v1/` → `index.docker.io`; the default registry's names are one.
fn host_of(server: &str) -> &str {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match bare.split('/').next().unwrap_or(bare) {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        host => host,
    }
}

/// The credential helper protocol: the server on stdin, JSON on stdout.
fn ask_helper(helper: &str, server: &str) -> Result<Credentials, Error> {
    let failed = |why: String| Error::Helper { helper: helper.escape_default().to_string(), registry: server.to_owned(), why };
    if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(failed("its name is not a file name".to_owned()));
    }
    let mut command = Command::new(format!("docker-credential-{helper}"));
    let command = command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    let mut stdin = child.stdin.take().expect("invariant: stdin is piped");
    let stdout = child.stdout.take().expect("invariant: stdout is piped");
    // A helper that does not read its input has closed the pipe; what it answers tells.
    drop(stdin.write_all(server.as_bytes()));
    drop(stdin);
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(HELPER_LIMIT).read_to_end(&mut output);
        // Nobody listens after the deadline.
        drop(sender.send(read.map(|_| output)));
    });
    let answer = receiver.recv_timeout(HELPER_TIME);
    if answer.is_err() {
        child.kill().map_err(|e| failed(e.to_string()))?;
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if reader.join().is_err() {
        return Err(failed("its output cannot be read".to_owned()));
    }
    let output = answer.map_err(|_| failed("it did not answer in 30 seconds".to_owned()))?.map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&output);
        if said.contains("credentials not found") {
            return Ok(Credentials::Plain(RegistryAuth::Anonymous));
        }
        return Err(failed(said.chars().filter(|c| !c.is_control()).take(200).collect()));
    }
    helper_answer(&output).ok_or_else(|| failed("its answer is not the expected JSON".to_owned()))
}

fn helper_answer(output: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let answer: Answer = serde_json::from_slice(output).ok()?;
    Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity(answer.secret),
        "" => Credentials::Plain(RegistryAuth::Anonymous),
        user => Credentials::Plain(RegistryAuth::Basic(user.to_owned(), answer.secret)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_entries_as_docker_writes_them() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="},"quay.io":{"identitytoken":"i"},
            "http://r.example:5000/v2/":{"username":"a","password":"b"},"empty.example":{}},"credHelpers":{"bad.example":"../evil"}}"#;
        let config = RegistryConfig { docker_config: Some(text.to_owned()), ..Default::default() };
        let stores = Stores::new(&config).unwrap();
        let basic = |user: &str, password: &str| Credentials::Plain(RegistryAuth::Basic(user.to_owned(), password.to_owned()));
        assert_eq!(stores.find("docker.io").unwrap(), basic("u", "p:w"));
        assert_eq!(stores.find("quay.io").unwrap(), Credentials::Identity("i".to_owned()));
        assert_eq!(stores.find("r.example:5000").unwrap(), basic("a", "b"));
        assert_eq!(stores.find("r.example").unwrap(), Credentials::Plain(RegistryAuth::Anonymous));
        assert_eq!(stores.find("empty.example").unwrap(), Credentials::Plain(RegistryAuth::Anonymous));
        assert!(matches!(stores.find("bad.example"), Err(Error::Helper { .. })));
        assert_eq!(helper_answer(br#"{"ServerURL":"x","Username":"<token>","Secret":"s"}"#), Some(Credentials::Identity("s".to_owned())));
    }
}
