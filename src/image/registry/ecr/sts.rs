//! Keys of a role from the security token service (AWS STS API Reference, AssumeRole and AssumeRoleWithWebIdentity).

use super::keys::{self, Environment, Keys};
use super::signature;
use reqwest::Url;
use std::time::Duration;

const VERSION: &str = "2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded";
const PATIENCE: Duration = Duration::from_secs(30);
const WHAT: &str = "the security token service";

/// A role, as a profile or the environment names it.
pub struct Role<'a> {
    pub arn: &'a str,
    pub session: Option<String>,
    pub external_id: Option<String>,
}

/// Who asks for the role.
pub enum Caller<'a> {
    Keys(&'a Keys),
    /// A token of an identity provider; the request is then not signed.
    WebIdentity(&'a str),
}

/// # Errors
/// The service cannot be asked, or refuses.
pub async fn assume(environment: &Environment, region: &str, role: &Role<'_>, caller: Caller<'_>) -> Result<Keys, String> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let address = environment.get("AWS_ENDPOINT_URL_STS").or_else(|| environment.get("AWS_ENDPOINT_URL"));
    let address = address.unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
    let url = Url::parse(&format!("{}/", address.trim_end_matches('/'))).map_err(|e| format!("the address {address} is not valid: {e}"))?;
    let name = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let session = role.session.clone().unwrap_or_else(|| "rcon".to_owned());
    let mut form = Url::parse("form://x/").expect("invariant: a constant address");
    form.query_pairs_mut().append_pair("Version", VERSION).append_pair("RoleArn", role.arn).append_pair("RoleSessionName", &session);
    if let Some(id) = &role.external_id {
        form.query_pairs_mut().append_pair("ExternalId", id);
    }
    if let Caller::WebIdentity(token) = caller {
        form.query_pairs_mut().append_pair("Action", "AssumeRoleWithWebIdentity").append_pair("WebIdentityToken", token);
    } else {
        form.query_pairs_mut().append_pair("Action", "AssumeRole");
    }
    let body = form.query().unwrap_or_default().to_owned();
    let client = keys::builder(PATIENCE).build().map_err(|e| e.to_string())?;
    let mut request = client.post(url.clone()).header("content-type", FORM);
    if let Caller::Keys(keys) = caller {
        for (name, value) in signature::sign(keys, region, "sts", &super::now(), &[("content-type", FORM)], &host, url.path(), body.as_bytes()) {
            request = request.header(name, value);
        }
    }
    let (status, text) = keys::exchange(request.body(body), WHAT).await?;
    let get = |name: &str| element(&text, name);
    match (get("AccessKeyId"), get("SecretAccessKey"), get("SessionToken")) {
        (Some(id), Some(secret), session) if status == 200 => Ok(Keys { id, secret, session, source: format!("keys of the role {}", role.arn) }),
        _ => Err(format!("{WHAT} answered {status} for the role {}: {}", role.arn, get("Message").unwrap_or_default())),
    }
}

/// The text of an XML element that holds nothing but text; the service's answers have each name once.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    let value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    Some(value.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn elements_are_read() {
        assert_eq!(element("<a><Message>x &amp; y</Message></a>", "Message").as_deref(), Some("x & y"));
        assert_eq!(element("<Message>", "Message"), None);
    }
}
