//! Where AWS keys come from, in the order of AWS's own tools: environment, web identity (a role of a Kubernetes
//! service account), the profile of the shared files, the container's credentials service (ECS, EKS pod identity), the
//! instance metadata service version 2.
//!
//! Invariants: what is configured but does not work is an error, never a reason to look further; without any
//! configuration the metadata service is asked for a bounded time; version 1 of it is never used.

use super::profile;
use super::sts::{self, Caller, Role};
use reqwest::{Client, Method, Url};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Time to reach a service of the machine; without one, packets are dropped rather than refused.
const CONNECT: Duration = Duration::from_secs(1);
/// Time for its whole answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Most bytes of a file or an answer.
const LIMIT: usize = 1 << 20;
/// The container credentials service (Amazon ECS Developer Guide, "Task IAM role").
const CONTAINER_SERVICE: &str = "http://169.254.170.2";
/// Hosts that a container's credentials may be read from in plain HTTP (AWS SDKs and Tools Reference Guide).
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// The instance metadata service.
const METADATA: &str = "http://169.254.169.254";

/// Profiles that may lead to one another.
const PROFILES: u32 = 4;

/// Keys to sign with.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub session: Option<String>,
    /// Where they are from, for messages.
    pub source: String,
}

/// The variables that matter; a value of its own, so that tests need not change the process.
#[derive(Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    pub fn of_process() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let relevant = |name: &str| name.starts_with("AWS_") || name == "HOME";
        Environment(std::env::vars_os().filter_map(|(n, v)| Some((text(n)?, text(v)?))).filter(|(name, _)| relevant(name)).collect())
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn file(&self, variable: &str, default: &str) -> PathBuf {
        self.get(variable).map_or_else(|| PathBuf::from(self.get("HOME").unwrap_or_default()).join(".aws").join(default), PathBuf::from)
    }
}

/// The first keys that are configured; None if there are none at all.
///
/// # Errors
/// Why the configured source does not give keys.
pub async fn find(environment: &Environment, region: &str) -> Result<Option<Keys>, String> {
    if let (Some(id), Some(secret)) = (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        let session = environment.get("AWS_SESSION_TOKEN");
        return Ok(Some(Keys { id, secret, session, source: "keys of AWS_ACCESS_KEY_ID".to_owned() }));
    }
    if let (Some(file), Some(role)) = (environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environment.get("AWS_ROLE_ARN")) {
        let token = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {file} (AWS_WEB_IDENTITY_TOKEN_FILE): {e}"))?;
        let role = Role { arn: &role, session: environment.get("AWS_ROLE_SESSION_NAME"), external_id: None };
        return sts::assume(environment, region, &role, Caller::WebIdentity(token.trim())).await.map(Some);
    }
    let asked = environment.get("AWS_PROFILE").or_else(|| environment.get("AWS_DEFAULT_PROFILE"));
    if let Some(keys) = of_profile(environment, region, asked.as_deref().unwrap_or("default"), asked.is_some(), PROFILES).await? {
        return Ok(Some(keys));
    }
    of_machine(environment).await
}

/// The keys of the role that the machine gives to a container or instance.
async fn of_machine(environment: &Environment) -> Result<Option<Keys>, String> {
    let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER_SERVICE}{path}"));
    if let Some(address) = relative.or_else(|| environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        return of_container(environment, &address).await.map(Some);
    }
    if environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    of_instance(environment).await
}

/// The settings of a profile from both files, the credentials file first; None if neither has it.
fn settings(environment: &Environment, name: &str) -> Result<Option<Vec<(String, String)>>, String> {
    let mut settings: Option<Vec<_>> = None;
    for (path, config_file) in
        [(environment.file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false), (environment.file("AWS_CONFIG_FILE", "config"), true)]
    {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        };
        if let Some(section) = profile::section(&text, name, config_file) {
            settings.get_or_insert_default().extend(section);
        }
    }
    Ok(settings)
}

/// `wanted`: the user named it, so that it must give keys. `depth`: profiles that may still be looked at.
async fn of_profile(environment: &Environment, region: &str, name: &str, wanted: bool, depth: u32) -> Result<Option<Keys>, String> {
    let Some(settings) = settings(environment, name)? else {
        return if wanted { Err(format!("there is no AWS profile \"{name}\" in the shared files")) } else { Ok(None) };
    };
    let get = |key: &str| settings.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.clone());
    if let Some(arn) = get("role_arn").filter(|_| get("web_identity_token_file").is_none() && get("mfa_serial").is_none()) {
        let keys = match (get("source_profile"), get("credential_source").as_deref()) {
            // A role of the profile's own keys.
            (Some(source), _) if source == name => fixed(&get, name),
            (Some(_), _) if depth == 0 => return Err(format!("the AWS profile \"{name}\" leads to ever more profiles (source_profile)")),
            (Some(source), _) => Box::pin(of_profile(environment, region, &source, true, depth - 1)).await?,
            (None, Some("Ec2InstanceMetadata")) => of_instance(environment).await?,
            (None, Some(_)) => of_machine(environment).await?,
            (None, None) => None,
        };
        let keys = keys.ok_or_else(|| format!("the AWS profile \"{name}\" wants the role {arn}, but has no keys to ask for it"))?;
        let role = Role { arn: &arn, session: get("role_session_name"), external_id: get("external_id") };
        return sts::assume(environment, region, &role, Caller::Keys(&keys)).await.map(Some);
    }
    if let Some(keys) = fixed(&get, name) {
        return Ok(Some(keys));
    }
    for other in ["mfa_serial", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file", "login_session"] {
        if get(other).is_some() {
            return Err(format!(
                "the AWS profile \"{name}\" gets its keys by {other}, which rcon does not do; set AWS_ACCESS_KEY_ID and the like \
                 (aws configure export-credentials --format env), or configure the credential helper docker-credential-ecr-login"
            ));
        }
    }
    if wanted { Err(format!("the AWS profile \"{name}\" holds no keys")) } else { Ok(None) }
}

/// Keys that are written in a profile.
fn fixed(get: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<Keys> {
    let (id, secret) = (get("aws_access_key_id")?, get("aws_secret_access_key")?);
    Some(Keys { id, secret, session: get("aws_session_token"), source: format!("keys of the AWS profile \"{name}\"") })
}

async fn of_container(environment: &Environment, address: &str) -> Result<Keys, String> {
    let url = Url::parse(address).map_err(|e| format!("the address of the container's credentials is not valid: {e}"))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) || CONTAINER_HOSTS.contains(&host);
    if url.scheme() != "https" && !(url.scheme() == "http" && here) {
        return Err("the container's credentials are read over HTTPS, or from this machine (AWS_CONTAINER_CREDENTIALS_FULL_URI)".to_owned());
    }
    let token = match environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(std::fs::read_to_string(&file).map_err(|e| format!("cannot read {file}: {e}"))?),
        None => environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let mut request = machine_client()?.get(url);
    if let Some(token) = token {
        request = request.header("authorization", token.trim());
    }
    let (status, text) = exchange(request, "the container's credentials service").await?;
    parse(&text, "keys of the container's role").ok_or_else(|| format!("the container's credentials service answered {status} without keys"))
}

/// Version 2 (Amazon EC2 User Guide, "Use the Instance Metadata Service"): a session token by PUT, then the role's keys.
async fn of_instance(environment: &Environment) -> Result<Option<Keys>, String> {
    const WHAT: &str = "the instance metadata service";
    let base = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
    let base = base.trim_end_matches('/');
    let client = machine_client()?;
    let ask = client.request(Method::PUT, format!("{base}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "300");
    // No answer, or one without a token: this machine is no instance.
    let token = match exchange(ask, WHAT).await {
        Ok((200, token)) => token,
        Ok((status, _)) => {
            tracing::debug!("{WHAT} answered {status}");
            return Ok(None);
        }
        Err(why) => {
            tracing::debug!("{why}");
            return Ok(None);
        }
    };
    let get = |path: String| {
        exchange(
            client.get(format!("{base}/latest/meta-data/iam/security-credentials/{path}")).header("x-aws-ec2-metadata-token", token.trim()),
            WHAT,
        )
    };
    let (status, roles) = get(String::new()).await?;
    let Some(role) = roles.lines().next().map(str::trim).filter(|role| status == 200 && !role.is_empty()) else { return Ok(None) };
    if !role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@-_".contains(&b)) {
        return Err(format!("{WHAT} names no valid role"));
    }
    let (status, text) = get(role.to_owned()).await?;
    let keys = parse(&text, &format!("keys of the instance's role {role}"));
    keys.map(Some).ok_or_else(|| format!("{WHAT} answered {status} without keys for the role {role}"))
}

fn parse(text: &str, source: &str) -> Option<Keys> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        access_key_id: String,
        secret_access_key: String,
        token: Option<String>,
    }
    let answer: Answer = serde_json::from_str(text).ok()?;
    Some(Keys { id: answer.access_key_id, secret: answer.secret_access_key, session: answer.token, source: source.to_owned() })
}

pub fn builder(answer: Duration) -> reqwest::ClientBuilder {
    Client::builder().connect_timeout(CONNECT.max(answer / 6)).timeout(answer).redirect(reqwest::redirect::Policy::none()).referer(false)
}

/// A client for services of this machine: no proxy, no long wait.
fn machine_client() -> Result<Client, String> {
    builder(ANSWER).no_proxy().build().map_err(|e| e.to_string())
}

pub async fn exchange(request: reqwest::RequestBuilder, what: &str) -> Result<(u16, String), String> {
    let failed = |e: reqwest::Error| {
        let e = e.without_url();
        let cause = std::error::Error::source(&e).map_or_else(String::new, |source| format!(": {source}"));
        format!("cannot ask {what}: {e}{cause}")
    };
    let response = request.send().await.map_err(failed)?;
    let status = response.status().as_u16();
    let bytes = super::body(response, LIMIT, &String::new).await.map_err(|_| format!("the answer of {what} cannot be read"))?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    fn find_now(pairs: &[(&str, &str)]) -> Result<Option<Keys>, String> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(find(&environment(pairs), "us-east-1"))
    }

    #[test]
    fn the_environment_comes_first_then_the_profile() {
        let dir = std::env::temp_dir().join(format!("rcon-aws-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(dir.join(".aws")).unwrap();
        std::fs::write(dir.join(".aws/credentials"), "[default]\naws_access_key_id=D\naws_secret_access_key=s\n[two]\naws_access_key_id=T\n")
            .unwrap();
        std::fs::write(dir.join(".aws/config"), "[profile two]\naws_secret_access_key=t\n[profile sso]\nsso_session=x\n[profile none]\n[profile loop]\nrole_arn=r\nsource_profile=pool\n[profile pool]\nrole_arn=r\nsource_profile=loop\n").unwrap();
        let home = ("HOME", dir.to_str().unwrap());
        let off = ("AWS_EC2_METADATA_DISABLED", "true");
        let id = |pairs: &[(&str, &str)]| find_now(pairs).map(|keys| keys.map(|keys| keys.id));
        assert_eq!(id(&[home, ("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "s")]), Ok(Some("E".to_owned())));
        assert_eq!(id(&[home]), Ok(Some("D".to_owned())));
        assert_eq!(id(&[home, ("AWS_PROFILE", "two")]), Ok(Some("T".to_owned())));
        assert_eq!(id(&[("HOME", "/none"), off]), Ok(None));
        for (profile, words) in
            [("sso", "sso_session"), ("none", "holds no keys"), ("three", "no AWS profile \"three\""), ("loop", "ever more profiles")]
        {
            assert!(id(&[home, off, ("AWS_PROFILE", profile)]).is_err_and(|why| why.contains(words)), "{profile}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn container_credentials_stay_on_this_machine() {
        for address in ["http://10.0.0.1/c", "http://evil.example/c", "ftp://localhost/c", "nonsense"] {
            let found = find_now(&[("HOME", "/none"), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)]);
            assert!(found.is_err(), "{address}");
        }
    }

    #[test]
    fn answers_are_read() {
        let keys = parse(r#"{"AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":"x"}"#, "").unwrap();
        assert_eq!((keys.id.as_str(), keys.session.as_deref()), ("A", Some("T")));
        assert!(parse(r#"{"Code":"Failed"}"#, "").is_none());
    }
}
