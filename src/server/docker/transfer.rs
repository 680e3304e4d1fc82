//! Images that come and go: pull, import, push, load and save, with their progress as Docker tells it.

use super::Call;
use super::reply::{Answer, Refusal, Reply, Sink, describe};
use crate::engine::{Engine, ImportOptions};
use crate::image::{Form, Output, Progress, PushOptions};
use crate::oci::Reference;
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::sync::{Mutex, PoisonError};

/// Where the credentials of a request stand.
const AUTH: &str = "x-registry-auth";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Credentials {
    username: String,
    password: String,
    /// Of old clients, instead of both.
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

/// An engine that knows the credentials that came with the request, and no others: those of this server are nobody else's.
///
/// # Errors
/// They cannot be read.
pub fn with_credentials(call: &Call) -> Result<Engine, Refusal> {
    let engine = call.own_engine()?;
    let header = call.headers.get(AUTH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given: Credentials = if header.is_empty() { Credentials::default() } else { decoded(header, AUTH)? };
    if !given.registrytoken.is_empty() {
        return Err(Refusal::invalid("registrytoken is not supported: send username and password, or an identitytoken"));
    }
    let server = if given.serveraddress.is_empty() { "https://index.docker.io/v1/" } else { &given.serveraddress };
    let entry = given.entry();
    let auths = if entry == json!({}) { json!({}) } else { json!({server: entry}) };
    Ok(engine.with_docker_config(json!({"auths": auths}).to_string()))
}

/// The same for a build, which may ask several registries.
///
/// # Errors
/// They cannot be read.
pub fn with_registries(call: &Call) -> Result<Engine, Refusal> {
    const CONFIG: &str = "x-registry-config";
    let engine = call.own_engine()?;
    let header = call.headers.get(CONFIG).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given: BTreeMap<String, Credentials> = if header.is_empty() { BTreeMap::new() } else { decoded(header, CONFIG)? };
    let auths: Map<String, Value> = given.into_iter().map(|(server, given)| (server, given.entry())).collect();
    Ok(engine.with_docker_config(json!({"auths": auths}).to_string()))
}

fn decoded<T: serde::de::DeserializeOwned>(header: &str, name: &str) -> Result<T, Refusal> {
    let wrong = || Refusal::invalid(format!("the header {name} is no base64 of credentials"));
    let header = header.trim_end_matches('=');
    let alphabet = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let text = alphabet.decode(header).or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(header)).map_err(|_| wrong())?;
    serde_json::from_slice(&text).map_err(|_| wrong())
}

impl Credentials {
    /// As a docker config file has them.
    fn entry(&self) -> Value {
        let mut entry = json!({});
        if !self.identitytoken.is_empty() {
            entry["identitytoken"] = json!(self.identitytoken);
        }
        if !self.auth.is_empty() {
            entry["auth"] = json!(self.auth);
        } else if !self.username.is_empty() {
            entry["auth"] = json!(base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.username, self.password)));
        }
        entry
    }
}

/// Progress as documents; what several threads report is written in turn.
struct Told<'a> {
    sink: Mutex<(&'a mut Sink, HashMap<String, u64>)>,
}

impl<'a> Told<'a> {
    fn new(sink: &'a mut Sink) -> Self {
        Told { sink: Mutex::new((sink, HashMap::new())) }
    }

    fn say(&self, document: &Value) {
        let mut held = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that has gone ends the work by its own way.
        drop(held.0.document(document));
    }

    fn show(&self, event: Progress) {
        let line = |id: &str, status: &str| json!({"status": status, "progressDetail": {}, "id": id});
        let part = |id: &str, status: &str, done: u64| {
            let held = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            let total = held.1.get(id).copied().unwrap_or(0);
            json!({"status": status, "progressDetail": {"current": done, "total": total}, "id": id})
        };
        let document = match event {
            Progress::Note(text) => json!({"status": text}),
            Progress::Layer { id, total } => {
                self.sink.lock().unwrap_or_else(PoisonError::into_inner).1.insert(id.clone(), total);
                line(&id, "Pulling fs layer")
            }
            Progress::Exists { id } => line(&id, "Already exists"),
            Progress::Downloading { id, done } => part(&id, "Downloading", done),
            Progress::Done { id } => line(&id, "Pull complete"),
            Progress::Preparing { id } => line(&id, "Preparing"),
            Progress::Uploading { id, done } => part(&id, "Pushing", done),
            Progress::Pushed { id } => line(&id, "Pushed"),
            Progress::Present { id } => line(&id, "Layer already exists"),
            Progress::Mounted { id, from } => line(&id, &format!("Mounted from {from}")),
            Progress::Retrying { id, .. } => line(&id, "Retrying"),
        };
        self.say(&document);
    }
}

/// The head is sent: a failure is the last document.
fn told(sink: &mut Sink, work: impl FnOnce(&Told<'_>) -> Result<(), crate::engine::Error>) -> Result<(), Refusal> {
    let told = Told::new(sink);
    if let Err(error) = work(&told) {
        let message = describe(&error);
        told.say(&json!({"errorDetail": {"message": message}, "error": message}));
    }
    Ok(())
}

/// `docker pull`, or `docker import`.
pub fn create(call: Call) -> Answer {
    if let Some(source) = call.query.text("fromSrc") {
        let source = source.to_owned();
        return import(call, source);
    }
    let image = call.query.text("fromImage").ok_or_else(|| Refusal::invalid("neither fromImage nor fromSrc is given"))?.to_owned();
    let tag = call.query.text("tag").map(str::to_owned);
    let platform = call.query.text("platform").map(str::to_owned);
    let engine = with_credentials(&call)?;
    let name = match &tag {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) => format!("{image}:{tag}"),
        None => image.clone(),
    };
    let reference: Reference = name.parse().map_err(|error: String| Refusal::invalid(format!("invalid reference format: {error}")))?;
    let is_whole = tag.is_none() && reference.digest().is_none() && !image.rsplit('/').next().unwrap_or_default().contains(':');
    // No tag at all asks for all of them; the client sends "latest" by itself.
    let references = if is_whole { engine.remote_tags(&image)? } else { vec![reference] };
    Ok(Reply::documents(move |sink| {
        told(sink, |told| {
            for reference in &references {
                let pulled = engine.pull(&reference.to_string(), platform.as_deref(), &|event| told.show(event))?;
                told.say(&json!({"status": format!("Digest: {}", pulled.digest)}));
                let status = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
                told.say(&json!({"status": format!("Status: {status} {}", reference.familiar())}));
            }
            Ok(())
        })
    }))
}

fn import(mut call: Call, source: String) -> Answer {
    let text = |key: &str| call.query.text(key).map(str::to_owned);
    let name = text("repo").map(|repository| call.query.text("tag").map_or(repository.clone(), |tag| format!("{repository}:{tag}")));
    let options = ImportOptions {
        source: source.clone(),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        message: text("message"),
        platform: text("platform"),
        name,
    };
    let engine = call.own_engine()?;
    let id = if source == "-" { engine.import(&mut call.body, &options)? } else { engine.import(&mut engine.open_url(&source)?, &options)? };
    Ok(Reply::documents(move |sink| Ok(sink.document(&json!({"status": id}))?)))
}

pub fn push(call: Call, name: &str) -> Answer {
    let engine = with_credentials(&call)?;
    let tag = call.query.text("tag");
    let references = engine.push_references(&tag.map_or(name.to_owned(), |tag| format!("{name}:{tag}")), tag.is_none())?;
    let platform = call.query.text("platform").map(platform).transpose()?;
    Ok(Reply::documents(move |sink| {
        told(sink, |told| {
            for reference in &references {
                told.say(&json!({"status": format!("The push refers to repository [{}]", reference.name())}));
                let pushed = engine.push(reference, platform.as_deref(), &PushOptions::default(), &|event| told.show(event))?;
                let tag = reference.tag().unwrap_or_default();
                told.say(&json!({"status": format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size)}));
                told.say(&json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": pushed.digest.to_string(), "Size": pushed.size}}));
            }
            Ok(())
        })
    }))
}

/// `{"os":"linux","architecture":"arm64"}` as `linux/arm64`.
fn platform(text: &str) -> Result<String, Refusal> {
    let document: Value = serde_json::from_str(text).map_err(|_| Refusal::invalid(format!("invalid platform {text}")))?;
    let parts = ["os", "architecture", "variant"].map(|key| document[key].as_str().unwrap_or_default());
    Ok(parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

pub fn load(mut call: Call) -> Answer {
    let quiet = call.query.flag("quiet");
    let platform = call.query.text("platform").map(platform).transpose()?;
    let engine = call.own_engine()?;
    Ok(Reply::documents(move |sink| {
        told(sink, |told| {
            let show = |event| {
                if !quiet {
                    told.show(event);
                }
            };
            for name in engine.load(&mut call.body, platform.as_deref(), &show)? {
                let label = if name.starts_with("sha256:") { "Loaded image ID" } else { "Loaded image" };
                told.say(&json!({"stream": format!("{label}: {name}\n")}));
            }
            Ok(())
        })
    }))
}

pub fn save(call: Call, mut names: Vec<String>) -> Answer {
    names.extend(call.query.all("names").map(str::to_owned));
    if names.is_empty() {
        return Err(Refusal::invalid("no image is named"));
    }
    let platform = call.query.text("platform").map(platform).transpose()?;
    let engine = call.own_engine()?;
    for name in &names {
        engine.image(name)?;
    }
    Ok(Reply::tar(move |sink| {
        let mut out = BufWriter::with_capacity(256 << 10, sink);
        engine.save(&names, platform.as_deref(), Form::Docker, Output::Stream(&mut out))?;
        Ok(out.flush()?)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read() {
        assert_eq!(platform(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#).unwrap(), "linux/arm/v7");
        assert!(platform("linux").is_err());
    }
}
