//! From a path to its handler.

use super::reply::{Answer, Refusal, Reply};
use super::{
    Call, OLDEST, VERSION, archive, attach, build, containers, create, exec, images, lifetime, logs, networks, stats, system, transfer, volumes,
};
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;

/// The parts of a path behind its version, decoded, and the version.
///
/// # Errors
/// A version that is not spoken.
pub fn split(path: &str) -> Result<(Vec<String>, (u32, u32)), Refusal> {
    let decode = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let mut parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let newest = number(VERSION).expect("invariant: a constant");
    let version = parts.first().and_then(|part| part.strip_prefix('v')).filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    let Some(text) = version else { return Ok((parts, newest)) };
    let wrong = |why: &str| Refusal::invalid(format!("client version {text} is {why}"));
    let version = number(text).ok_or_else(|| wrong("no version"))?;
    if version > newest {
        return Err(wrong(&format!("too new. Maximum supported API version is {VERSION}")));
    }
    if Some(version) < number(OLDEST) {
        return Err(wrong(&format!("too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version")));
    }
    parts.remove(0);
    Ok((parts, version))
}

fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Finds the handler and lets it answer.
pub fn answer(mut call: Call) -> Answer {
    let method = call.method.clone();
    let path = std::mem::take(&mut call.path);
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["containers", rest @ ..] => container(call, &method, rest),
        ["exec", rest @ ..] => match (method, rest) {
            (Method::POST, [id, "start"]) => exec::start(call, id),
            (Method::POST, [id, "resize"]) => exec::resize(call, id),
            (Method::GET, [id, "json"]) => exec::inspect(call, id),
            _ => unknown(&call, &parts),
        },
        ["images", rest @ ..] => image(call, &method, rest),
        ["networks", rest @ ..] => network(call, &method, rest),
        ["volumes", rest @ ..] => volume(call, &method, rest),
        other => rest(call, &method, other),
    }
}

fn container(call: Call, method: &Method, parts: &[&str]) -> Answer {
    match (method, parts) {
        (&Method::GET, ["json"]) => containers::list(call),
        (&Method::POST, ["create"]) => create::create(call),
        (&Method::POST, ["prune"]) => containers::prune(call),
        (&Method::GET, [name, "json"]) => containers::inspect(call, name),
        (&Method::GET, [name, "top"]) => containers::top(call, name),
        (&Method::GET, [name, "changes"]) => containers::changes(call, name),
        (&Method::GET, [name, "logs"]) => logs::logs(call, name),
        (&Method::GET, [name, "stats"]) => stats::stats(call, name),
        (&Method::GET, [name, "export"]) => archive::export(call, name),
        (&Method::HEAD, [name, "archive"]) => archive::stat(call, name),
        (&Method::GET, [name, "archive"]) => archive::read(call, name),
        (&Method::PUT, [name, "archive"]) => archive::write(call, name),
        (&Method::POST, [name, "start"]) => lifetime::start(call, name),
        (&Method::POST, [name, "stop"]) => lifetime::stop(call, name),
        (&Method::POST, [name, "restart"]) => lifetime::restart(call, name),
        (&Method::POST, [name, "kill"]) => lifetime::kill(call, name),
        (&Method::POST, [name, "pause"]) => lifetime::pause(call, name),
        (&Method::POST, [name, "unpause"]) => lifetime::unpause(call, name),
        (&Method::POST, [name, "wait"]) => lifetime::wait(call, name),
        (&Method::POST, [name, "resize"]) => attach::resize(call, name),
        (&Method::POST, [name, "attach"]) => attach::attach(call, name),
        (&Method::POST, [name, "rename"]) => containers::rename(call, name),
        (&Method::POST, [name, "update"]) => containers::update(call, name),
        (&Method::POST, [name, "exec"]) => exec::create(call, name),
        (&Method::DELETE, [name]) => containers::remove(call, name),
        _ => unknown(&call, &[&["containers"], parts].concat()),
    }
}

/// Names of images have slashes: the verb is the last part.
fn image(call: Call, method: &Method, parts: &[&str]) -> Answer {
    match (method, parts) {
        (&Method::GET, ["json"]) => images::list(call),
        (&Method::POST, ["create"]) => transfer::create(call),
        (&Method::GET, ["search"]) => images::search(call),
        (&Method::POST, ["prune"]) => images::prune(call),
        (&Method::POST, ["load"]) => transfer::load(call),
        (&Method::GET, ["get"]) => transfer::save(call, Vec::new()),
        (&Method::GET, [name @ .., "get"]) => transfer::save(call, vec![name.join("/")]),
        (&Method::GET, [name @ .., "json"]) => images::inspect(call, &name.join("/")),
        (&Method::GET, [name @ .., "history"]) => images::history(call, &name.join("/")),
        (&Method::POST, [name @ .., "tag"]) => images::tag(call, &name.join("/")),
        (&Method::POST, [name @ .., "push"]) => transfer::push(call, &name.join("/")),
        (&Method::DELETE, name) if !name.is_empty() => images::remove(call, &name.join("/")),
        _ => unknown(&call, &[&["images"], parts].concat()),
    }
}

fn network(call: Call, method: &Method, parts: &[&str]) -> Answer {
    match (method, parts) {
        (&Method::GET, []) => networks::list(call),
        (&Method::POST, ["create"]) => networks::create(call),
        (&Method::POST, ["prune"]) => networks::prune(call),
        (&Method::GET, [name]) => networks::inspect(call, name),
        (&Method::DELETE, [name]) => networks::remove(call, name),
        (&Method::POST, [name, "connect"]) => networks::connect(call, name),
        (&Method::POST, [name, "disconnect"]) => networks::disconnect(call, name),
        _ => unknown(&call, &[&["networks"], parts].concat()),
    }
}

fn volume(call: Call, method: &Method, parts: &[&str]) -> Answer {
    match (method, parts) {
        (&Method::GET, []) => volumes::list(call),
        (&Method::POST, ["create"]) => volumes::create(call),
        (&Method::POST, ["prune"]) => volumes::prune(call),
        (&Method::GET, [name]) => volumes::inspect(call, name),
        (&Method::DELETE, [name]) => volumes::remove(call, name),
        _ => unknown(&call, &[&["volumes"], parts].concat()),
    }
}

fn rest(call: Call, method: &Method, parts: &[&str]) -> Answer {
    match (method, parts) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => system::ping(&call),
        (&Method::GET, ["version"]) => system::version(&call),
        (&Method::GET, ["info"]) => system::info(call),
        (&Method::GET, ["events"]) => system::events(call),
        (&Method::GET, ["system", "df"]) => system::usage(call),
        (&Method::POST, ["auth"]) => system::auth(call),
        (&Method::POST, ["commit"]) => containers::commit(call),
        (&Method::POST, ["build"]) => build::build(call),
        (&Method::POST, ["build", "prune"]) => build::prune(call),
        (&Method::GET, ["distribution", name @ .., "json"]) => images::distribution(call, &name.join("/")),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        )),
        (&Method::GET, ["plugins"]) => Ok(Reply::ok(serde_json::json!([]))),
        _ => unknown(&call, parts),
    }
}

/// What Docker has and this server does not is told apart from what nobody has.
fn unknown(call: &Call, parts: &[&str]) -> Answer {
    let asked = format!("{} /{}", call.method, parts.join("/"));
    match parts.first() {
        Some(&("session" | "grpc" | "plugins" | "checkpoints")) => {
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, format!("{asked} is not supported by rcon serve")))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, format!("page not found: {asked}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_versions() {
        let parts = |path: &str| split(path).map(|(parts, version)| (parts.join("|"), version));
        assert_eq!(parts("/v1.45/containers/a%2Fb/json").unwrap(), ("containers|a/b|json".to_owned(), (1, 45)));
        assert_eq!(parts("/_ping").unwrap(), ("_ping".to_owned(), (1, 51)));
        assert_eq!(parts("//volumes/").unwrap().0, "volumes");
        assert_eq!(parts("/volumes/a%zz+b%2").unwrap().0, "volumes|a%zz+b%2", "what is no encoding stays, and a plus sign is one");
        assert!(parts("/v1.99/info").unwrap_err().message.contains("too new"));
        assert!(parts("/v1.10/info").unwrap_err().message.contains("too old"));
    }
}
