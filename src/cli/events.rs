//! `events`: what happens to containers, images, volumes and networks, as it happens and since a time.

use super::context::Context;
use super::failure::{self, Failure};
use super::{logs, output, ps, template};
use crate::base::Timestamp;
use crate::engine::{Event, EventQuery};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::process::ExitCode;

/// Show events of the engine
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Filter: container=, event=, image=, label=, network=, pod=, type=, volume= …
    #[arg(short = 'f', long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// From this time on (2026-01-02T15:04:05Z, or 10m for ten minutes ago)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Format: json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Wait for further events; off: print what is there and quit
    #[arg(long, default_value = "true")]
    pub stream: bool,
    /// Do not shorten ids
    #[arg(long, default_value = "true")]
    pub no_trunc: bool,
}

/// # Errors
/// An unknown filter, a malformed time or template, or a journal that cannot be read.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    // Before the wait for an event that would show it.
    args.format.as_deref().map_or(Ok(()), template::check)?;
    if args.format.as_deref().is_some_and(|format| format.trim_start().starts_with("table")) {
        let failure = Failure::invalid("--format: events come one by one and make no table");
        return Err(failure.with_hint("give json, or a template without \"table\""));
    }
    let now = Timestamp::now();
    let time = |text: Option<&str>| text.map(|text| logs::time(text, now)).transpose();
    let query = EventQuery {
        since: time(args.since.as_deref())?,
        until: time(args.until.as_deref())?,
        follow: args.stream,
        filters: ps::filters(&args.filters)?,
    };
    let mut out = io::stdout().lock();
    let mut result = Ok(());
    let mut each = |event: Event| {
        result = text(&event, args.format.as_deref(), !args.no_trunc)
            .and_then(|line| out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|e| failure::output(&e)));
        result.is_ok()
    };
    context.engine()?.events(&query, &mut each)?;
    result.map(|()| ExitCode::SUCCESS)
}

fn text(event: &Event, format: Option<&str>, short: bool) -> Result<String, Failure> {
    match format.map(str::trim).filter(|format| !format.is_empty()) {
        None => Ok(line(event, short)),
        Some("json") => Ok(document(event, short).to_string() + "\n"),
        Some(format) => template::list(Some(format), "", &[], &[fields(event, short)]),
    }
}

/// The id as it is to be shown: of images by name it is a name, which stays.
fn id(event: &Event, short: bool) -> &str {
    let is_id = event.id.len() == 64 && event.id.bytes().all(|b| b.is_ascii_hexdigit());
    if short && is_id { &event.id[..12] } else { &event.id }
}

/// Docker's line: time, type, action, id, attributes in parentheses.
fn line(event: &Event, short: bool) -> String {
    let mut line = format!("{} {} {} {}", local(event.at), event.kind.as_str(), event.action, id(event, short));
    let mut separator = " (";
    for (key, value) in &event.attributes {
        for part in [separator, key, "=", value] {
            line.push_str(part);
        }
        separator = ", ";
    }
    if !event.attributes.is_empty() {
        line.push(')');
    }
    output::cell(&line).into_owned() + "\n"
}

/// Local time with nanoseconds in fixed width and the offset (Go's `2006-01-02T15:04:05.000000000Z07:00`).
fn local(at: Timestamp) -> String {
    let Ok(instant) = jiff::Timestamp::from_nanosecond(i128::from(at.nanos())) else { return at.to_string() };
    let zoned = instant.to_zoned(jiff::tz::TimeZone::system());
    if zoned.offset().is_zero() {
        zoned.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()
    }
}

/// The document of Docker's API.
fn document(event: &Event, short: bool) -> Value {
    let mut document = Map::new();
    let id = id(event, short);
    if matches!(event.kind.as_str(), "container" | "image") {
        document.insert("status".to_owned(), json!(event.action));
        document.insert("id".to_owned(), json!(id));
        if let Some(image) = event.attributes.get("image") {
            document.insert("from".to_owned(), json!(image));
        }
    }
    document.insert("Type".to_owned(), json!(event.kind.as_str()));
    document.insert("Action".to_owned(), json!(event.action));
    document.insert("Actor".to_owned(), json!({ "ID": id, "Attributes": event.attributes }));
    document.insert("scope".to_owned(), json!("local"));
    document.insert("time".to_owned(), json!(event.at.seconds()));
    document.insert("timeNano".to_owned(), json!(event.at.nanos()));
    Value::Object(document)
}

/// What templates may name: Docker's and podman's fields, and the keys of [`document`] for `{{json .}}`.
fn fields(event: &Event, short: bool) -> Value {
    let attribute = |key: &str| event.attributes.get(key).cloned().unwrap_or_default();
    let (id, image) = (id(event, short), attribute("image"));
    let hidden = json!({
        "Status": event.action, "ID": id, "From": image, "Image": image, "Name": attribute("name"), "Attributes": event.attributes,
        "Scope": "local", "Time": event.at.seconds(), "TimeNano": event.at.nanos(), "ContainerExitCode": attribute("exitCode"),
    });
    let mut fields = document(event, short);
    if let (Some(fields), Value::Object(hidden)) = (fields.as_object_mut(), hidden) {
        fields.insert(template::HIDDEN.to_owned(), Value::Object(hidden));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EventKind;

    fn event() -> Event {
        let event = Event::new(EventKind::Container, "die", "0123456789abcdef".repeat(4));
        Event { at: Timestamp::from_nanos(1_700_000_000_120_000_000), ..event.with("name", "web").with("image", "busybox").with("exitCode", 3) }
    }

    #[test]
    fn forms_of_an_event() {
        let event = event();
        let shown = line(&event, true);
        assert!(shown.contains(".120000000") && shown.ends_with(" container die 0123456789ab (exitCode=3, image=busybox, name=web)\n"), "{shown}");
        assert_eq!(
            text(&event, Some("json"), true).unwrap(),
            "{\"status\":\"die\",\"id\":\"0123456789ab\",\"from\":\"busybox\",\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"0123456789ab\",\
             \"Attributes\":{\"exitCode\":\"3\",\"image\":\"busybox\",\"name\":\"web\"}},\"scope\":\"local\",\"time\":1700000000,\"timeNano\":1700000000120000000}\n"
        );
        let template = "{{.Type}} {{.Action}} {{.Status}} {{.Actor.Attributes.name}} {{.Name}} {{.ID}} {{.Time}} {{.TimeNano}} {{.Scope}} {{.From}}";
        assert_eq!(
            text(&event, Some(template), true).unwrap(),
            "container die die web web 0123456789ab 1700000000 1700000000120000000 local busybox\n"
        );
        assert_eq!(text(&event, Some("{{json .}}"), true).unwrap(), text(&event, Some("json"), true).unwrap());
    }

    #[test]
    fn a_malformed_template_is_refused_before_any_event() {
        assert!(template::check("{{").is_err());
        for format in ["", "json", "table {{.ID}}", "{{json .}}", "{{.Nope}}"] {
            template::check(format).unwrap();
        }
    }

    #[test]
    fn an_attribute_cannot_steer_the_terminal() {
        assert!(!line(&event().with("label", "\u{1b}[2J\nx"), true).trim_end().contains(['\u{1b}', '\n']));
    }
}
