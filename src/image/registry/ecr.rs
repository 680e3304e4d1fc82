//! Amazon ECR: a private registry's password is a token that the ECR service gives for AWS keys
//! (`GetAuthorizationToken`), good for twelve hours.
//!
//! The keys are found as AWS's own tools find them (`keys`). A credential helper or a login for the host comes first;
//! ECR Public (`public.ecr.aws`) is an ordinary registry with bearer tokens.

mod keys;
mod profile;
mod signature;
mod sts;

use super::{Endpoint, body};
use crate::image::{Error, RegistryConfig};
use base64::Engine as _;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use std::time::Duration;

/// Longest wait for the ECR service.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of its answer.
const LIMIT: usize = 256 << 10;
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const JSON: &str = "application/x-amz-json-1.1";
/// A token is renewed this long before it ends.
const SKEW: u64 = 300;
/// Lifetime of a token that names no end.
const LIFETIME: u64 = 3600;

/// A private registry's host, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    host: String,
    region: String,
    /// Address of the service that gives its tokens.
    api: String,
}

/// User name and password for a while.
pub struct Token {
    pub user: String,
    pub password: String,
    pub lifetime: Duration,
}

impl Host {
    /// `ACCOUNT.dkr.ecr[-fips].REGION.amazonaws.com[.cn]` or `ACCOUNT.dkr-ecr[-fips].REGION.on.aws`; None for others.
    pub fn parse(host: &str) -> Option<Self> {
        let (account, rest) = host.split_once('.')?;
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (service, rest) = ["dkr.ecr-fips.", "dkr.ecr.", "dkr-ecr-fips.", "dkr-ecr."].iter().find_map(|s| Some((*s, rest.strip_prefix(s)?)))?;
        let (region, domain) = rest.split_once('.')?;
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return None;
        }
        let fips = service.contains("fips");
        // Endpoints of the service: AWS General Reference, "Amazon ECR endpoints and quotas".
        let api = match (domain, fips) {
            ("amazonaws.com" | "amazonaws.com.cn", false) => format!("https://api.ecr.{region}.{domain}"),
            ("amazonaws.com" | "amazonaws.com.cn", true) => format!("https://ecr-fips.{region}.{domain}"),
            ("on.aws", false) => format!("https://ecr.{region}.api.aws"),
            ("on.aws", true) => format!("https://ecr-fips.{region}.api.aws"),
            _ => return None,
        };
        Some(Host { host: host.to_owned(), region: region.to_owned(), api })
    }

    fn failed(&self, why: impl Into<String>) -> Error {
        Error::Aws { registry: self.host.clone(), why: why.into() }
    }
}

/// A token for a registry; None if this machine has no AWS keys.
///
/// # Errors
/// Keys are configured but cannot be had, or the service refuses them.
pub async fn token(config: &RegistryConfig, host: &Host) -> Result<Option<Token>, Error> {
    let environment = keys::Environment::of_process();
    let found = keys::find(&environment, &host.region).await.map_err(|why| host.failed(why))?;
    let Some(keys) = found else { return Ok(None) };
    let variable = |name: &str| environment.get(name);
    let api = variable("AWS_ENDPOINT_URL_ECR").or_else(|| variable("AWS_ENDPOINT_URL")).unwrap_or_else(|| host.api.clone());
    let url = Url::parse(&format!("{}/", api.trim_end_matches('/'))).map_err(|e| host.failed(format!("the address {api} is not valid: {e}")))?;
    let name = url.host_str().ok_or_else(|| host.failed(format!("the address {api} has no host")))?;
    let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let headers =
        signature::sign(&keys, &host.region, "ecr", &now(), &[("content-type", JSON), ("x-amz-target", TARGET)], &authority, url.path(), b"{}");
    let mut dressed = Vec::new();
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(&value).map_err(|_| host.failed("the AWS keys hold characters that cannot be sent"))?;
        value.set_sensitive(true);
        dressed.push((HeaderName::from_static(name), value));
    }
    let endpoint = Endpoint::at(config, api, authority, Some(PATIENCE))?;
    let dress = |request: RequestBuilder| {
        let request = request.header(CONTENT_TYPE, JSON).header("x-amz-target", TARGET).body("{}");
        dressed.iter().fold(request, |request, (name, value)| request.header(name, value))
    };
    let response = endpoint.follow(Method::POST, url, None, "get a token", &dress).await?;
    let status = response.status();
    let bytes = body(response, LIMIT, &String::new).await.map_err(|_| host.failed("the answer of the ECR service cannot be read"))?;
    if status != StatusCode::OK {
        return Err(host.failed(format!("the ECR service answered {}: {} ({})", status.as_u16(), reason(&bytes), keys.source)));
    }
    read(&bytes).map(Some).ok_or_else(|| host.failed("the answer of the ECR service holds no token"))
}

/// `20150830T123600Z`.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The service's words, safe to print.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type", default)]
        kind: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => format!("{} {}", refusal.kind.rsplit('#').next().unwrap_or_default(), refusal.message),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    };
    text.trim().chars().filter(|c| !c.is_control()).take(300).collect()
}

fn read(body: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        authorization_data: Vec<Data>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        authorization_token: String,
        expires_at: Option<f64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let data = answer.authorization_data.into_iter().next()?;
    let decoded = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data.authorization_token).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let left = data.expires_at.map_or(LIFETIME, |at| seconds_until(at, jiff::Timestamp::now().as_second()));
    Some(Token { user: user.to_owned(), password: password.to_owned(), lifetime: Duration::from_secs(left.saturating_sub(SKEW).max(60)) })
}

/// Seconds from `now` to a point of time given as a JSON number; 0 if it is past or no number of this world.
fn seconds_until(at: f64, now: i64) -> u64 {
    format!("{:.0}", at.clamp(0.0, 1e12)).parse::<i64>().map_or(0, |at| u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_apart() {
        for (host, region, api) in [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", "https://api.ecr.us-east-1.amazonaws.com"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "https://api.ecr.cn-north-1.amazonaws.com.cn"),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "https://ecr-fips.us-gov-west-1.amazonaws.com"),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1", "https://ecr.eu-west-1.api.aws"),
        ] {
            let parsed = Host::parse(host).unwrap();
            assert_eq!((parsed.region.as_str(), parsed.api.as_str()), (region, api), "{host}");
        }
        for host in [
            "public.ecr.aws",
            "12345678901.dkr.ecr.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.us-east-1.example.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com:444",
            "123456789012.dkr.ecr..amazonaws.com",
            "docker.io",
        ] {
            assert_eq!(Host::parse(host), None, "{host}");
        }
    }

    #[test]
    fn answers_are_read() {
        let at = jiff::Timestamp::now().as_second() + 43_200;
        let token = read(format!(r#"{{"authorizationData":[{{"authorizationToken":"QVdTOnB3","expiresAt":{at}.5}}]}}"#).as_bytes()).unwrap();
        assert_eq!((token.user.as_str(), token.password.as_str()), ("AWS", "pw"));
        assert!(token.lifetime > Duration::from_secs(42_000) && token.lifetime < Duration::from_secs(43_000), "{:?}", token.lifetime);
        assert!(read(br#"{"authorizationData":[]}"#).is_none());
        assert_eq!(
            reason(br#"{"__type":"com.amazonaws#UnrecognizedClientException","message":"bad\u001b token"}"#),
            "UnrecognizedClientException bad token"
        );
        assert_eq!((seconds_until(f64::NAN, 5), seconds_until(3.0, 5), seconds_until(9.0, 5)), (0, 0, 4));
    }
}
