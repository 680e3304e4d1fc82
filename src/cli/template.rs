//! `--format`: Go's text/template over JSON values, and the forms `json`, `table` and `table TEMPLATE`.

mod eval;
mod functions;
mod lexer;
mod parser;

use super::failure::Failure;
use super::{output, table};
use serde_json::{Map, Value};

/// Docker's exit code of `inspect` and its kin for a template that is none (sysexits.h: EX_USAGE).
const MALFORMED: u8 = 64;

/// Key of a row that holds its labels for `.Label "k"`; never printed.
pub const LABELS: &str = "\0labels";
/// Key of an object that holds further fields which templates may name; never printed.
pub const HIDDEN: &str = "\0fields";

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    text: parser::Text,
}

impl Template {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens = lexer::lex(text)?;
        Ok(Template { text: parser::parse(tokens)? })
    }

    /// The text for one value.
    ///
    /// # Errors
    /// A field that the value does not have, or a function used wrongly.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        eval::Machine::new(value, eval::Of::Document, &self.text.named).run(&self.text.nodes)
    }

    /// The text for one row of a list.
    fn row(&self, row: &Value) -> Result<String, String> {
        eval::Machine::new(row, eval::Of::Row, &self.text.named).run(&self.text.nodes)
    }

    /// The header line of a table: every field is replaced by its title.
    fn header(&self, titles: &Value) -> Result<String, String> {
        eval::Machine::new(titles, eval::Of::Titles, &self.text.named).run(&self.text.nodes)
    }
}

/// Interprets `\t` and `\n` as Docker's command line does, but only between actions: within them a string constant says
/// itself what it means (Docker breaks `{{join .X "\n"}}` of a list).
fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    loop {
        let (between, action) = rest.split_at(rest.find("{{").unwrap_or(rest.len()));
        out += &between.replace("\\t", "\t").replace("\\n", "\n");
        if action.is_empty() {
            return out;
        }
        let (action, after) = action.split_at(end_of_action(action));
        out += action;
        rest = after;
    }
}

/// Length of the action at the start of the text; all of it if the action has no end.
fn end_of_action(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match quote {
            _ if escaped => escaped = false,
            Some(open) if byte == open => quote = None,
            Some(b'"') if byte == b'\\' => escaped = true,
            Some(_) => {}
            None if matches!(byte, b'"' | b'`') => quote = Some(byte),
            None if text.as_bytes()[at..].starts_with(b"}}") => return at + 2,
            None => {}
        }
    }
    text.len()
}

fn parse(text: &str) -> Result<Template, Failure> {
    Template::parse(&unescape(text)).map_err(|e| Failure::invalid(format!("template parsing error: {e}")))
}

/// Whether a format can be used at all, for commands whose rows come later or never.
///
/// # Errors
/// The template is malformed.
pub fn check(format: &str) -> Result<(), Failure> {
    parse(format).map(drop).map_err(|failure| failure.with_code(MALFORMED))
}

fn execute(result: Result<String, String>) -> Result<String, Failure> {
    result.map_err(|error| match error.split_once('\n') {
        // The second line says what there is instead.
        Some((error, hint)) => Failure::invalid(format!("template: {error}")).with_hint(hint),
        None => Failure::invalid(format!("template: {error}")),
    })
}

/// A list of rows in the asked form. `titles` maps fields to column titles; `default` is the template of the
/// default table.
///
/// # Errors
/// The template is malformed or names a field that the rows do not have.
pub fn list(format: Option<&str>, default: &str, titles: &[(&str, &str)], rows: &[Value]) -> Result<String, Failure> {
    let format = format.map(str::trim).filter(|format| !format.is_empty()).unwrap_or("table");
    if format == "json" {
        return Ok(rows.iter().map(|row| functions::json(row) + "\n").collect());
    }
    let (body, is_table) = match format.strip_prefix("table") {
        Some("") => (default, true),
        Some(rest) if rest.starts_with([' ', '\t', '{']) => (rest.trim_start(), true),
        _ => (format, false),
    };
    let template = parse(body)?;
    let mut lines = Vec::with_capacity(rows.len() + 1);
    if is_table || rows.is_empty() {
        let header: Map<String, Value> = titles.iter().map(|(field, title)| ((*field).to_owned(), Value::from(*title))).collect();
        match template.header(&Value::Object(header)) {
            outcome if is_table => lines.push(execute(outcome)?),
            // Without a row the titles tell what fields there are; what else they are not good for is no fault.
            Err(error) if error.contains(eval::NO_FIELD) => return execute(Err(error)),
            _ => {}
        }
    }
    for row in rows {
        lines.push(execute(if is_harmless(row) { template.row(row) } else { template.row(&shown(row)) })?);
    }
    Ok(if is_table { table::render(&lines) } else { lines.iter().map(|line| format!("{line}\n")).collect() })
}

/// The fields of `known` that a list in this form needs, so that rows of many objects hold no others; None: it may ask for any.
pub fn fields(format: Option<&str>, default: &str, known: &[&str]) -> Option<Vec<String>> {
    let format = format.map(str::trim).filter(|format| !format.is_empty()).unwrap_or("table");
    let mut text = match format.strip_prefix("table") {
        Some("") => default,
        Some(rest) => rest,
        None if format == "json" => return None,
        None => format,
    };
    let mut fields: Vec<String> = Vec::new();
    while let Some(at) = text.find("{{") {
        let (action, rest) = text[at..].split_at(end_of_action(&text[at..]));
        text = rest;
        // Behind a variable, and behind a dot alone, may be the whole row.
        if action.contains('$') {
            return None;
        }
        for part in action.split('.').skip(1) {
            let name = &part[..part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len())];
            let name = if name == "Label" { LABELS } else { name };
            if name != LABELS && !known.contains(&name) {
                return None;
            }
            if !fields.iter().any(|field| field == name) {
                fields.push(name.to_owned());
            }
        }
    }
    Some(fields)
}

/// Nothing in it is to be escaped.
fn is_harmless(row: &Value) -> bool {
    match row {
        Value::String(text) => matches!(output::cell(text), std::borrow::Cow::Borrowed(_)),
        Value::Object(fields) => fields.values().all(is_harmless),
        _ => true,
    }
}

/// A row with its control characters escaped: labels and commands come from images and must not steer the terminal.
fn shown(row: &Value) -> Value {
    match row {
        Value::String(text) => Value::String(output::cell(text).into_owned()),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shown(value))).collect(),
        other => other.clone(),
    }
}

/// One value through a `--format` of `inspect`, `info` or `version`, with its line end.
///
/// # Errors
/// As [`list`].
pub fn one(format: &str, value: &Value) -> Result<String, Failure> {
    if format == "json" {
        return Ok(functions::json(value) + "\n");
    }
    let template = parse(format).map_err(|failure| failure.with_code(MALFORMED))?;
    Ok(execute(template.render(value))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "Id": "0123456789abcdef", "Name": "/web", "Size": 12, "Ratio": 1.5, "Empty": "", "None": null, "On": true,
            "Config": {"Labels": {"k": "v", "a": "b"}, "Env": ["A=1", "B=2"], "Cmd": []},
            "State": {"Status": "running", "Health": {"Status": "healthy"}, "ExitCode": 0},
            "NetworkSettings": {
                "Networks": {"bridge": {"IPAddress": "172.16.0.2"}},
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null},
            },
        })
    }

    #[test]
    fn tabs_and_newlines_are_meant_between_actions_only() {
        assert_eq!(unescape(r#"{{.A}}\t{{join .B "\n"}}\n"#), "{{.A}}\t{{join .B \"\\n\"}}\n");
        assert_eq!(unescape(r#"{{"}}\t\"}}"}}\t{{`}}\`}}\n"#), "{{\"}}\\t\\\"}}\"}}\t{{`}}\\`}}\n");
        assert_eq!(unescape(r"a\tb{{.A\t"), "a\tb{{.A\\t");
    }

    #[test]
    fn a_list_needs_what_its_format_names() {
        let known = ["ID", "Names", "Size"];
        let needed = |format: Option<&str>| fields(format, "{{.ID}}\t{{.Names}}", &known);
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!((needed(None), needed(Some("table"))), (list(&["ID", "Names"]), list(&["ID", "Names"])));
        assert_eq!(needed(Some("{{.Size}} costs. {{if .ID}}{{.Size}}{{end}}")), list(&["Size", "ID"]));
        assert_eq!(needed(Some("table {{.Label \"a.b\"}}")), None, "the label's name may be one");
        assert_eq!(needed(Some("{{.Label \"a\"}}")), list(&[LABELS]));
        for all in ["json", "{{json .}}", "{{.}}", "{{range $k, $v := .}}{{end}}", "{{.Foo}}", "{{printf \"%v.\" .ID}}"] {
            assert_eq!(needed(Some(all)), None, "{all}");
        }
    }

    #[test]
    fn rows_cannot_steer_the_terminal() {
        let rows = [json!({"Labels": "a=\u{1b}]0;x\u{7}\nb", LABELS: {"a": "\u{9b}1m"}})];
        assert_eq!(list(Some("{{.Labels}}"), "", &[], &rows).unwrap(), "a=\\u{1b}]0;x\\u{7}\\nb\n");
        assert_eq!(list(Some("{{.Label \"a\"}}"), "", &[], &rows).unwrap(), "\\u{9b}1m\n");
        assert_eq!(list(Some("json"), "", &[], &[json!({"A": "\u{1b}"})]).unwrap(), "{\"A\":\"\\u001b\"}\n");
    }

    #[test]
    fn what_scripts_rely_on() {
        let value = document();
        for (template, expected) in [
            ("{{.Id}}", "0123456789abcdef"),
            ("{{ .State.Health.Status }}", "healthy"),
            ("{{json .State}}", r#"{"Status":"running","Health":{"Status":"healthy"},"ExitCode":0}"#),
            ("{{index .Config.Labels \"k\"}}", "v"),
            ("{{index .Config.Labels \"missing\"}}|", "|"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "172.16.0.2"),
            ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}}={{if $c}}{{(index $c 0).HostPort}}{{else}}-{{end}};{{end}}", "443/tcp=-;80/tcp=8080;"),
            ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=2"),
            ("{{join .Config.Env \" \"}}", "A=1 B=2"),
            ("{{.Config.Env}} {{.Config.Labels}} {{.Config.Cmd}}", "[A=1 B=2] map[a:b k:v] []"),
            ("{{.Size}} {{.Ratio}} {{.On}} {{.None}}", "12 1.5 true <no value>"),
            ("{{len .Config.Env}}{{len .Name}}", "24"),
            ("{{if eq .State.Status \"running\" \"paused\"}}up{{else}}down{{end}}", "up"),
            ("{{if and .On (gt .Size 10)}}y{{else if .On}}m{{else}}n{{end}}", "y"),
            ("{{if not .On}}a{{else if .Empty}}b{{else}}c{{end}}", "c"),
            ("{{with .State}}{{.Status}}{{end}}{{with .Empty}}x{{else}}none{{end}}", "runningnone"),
            ("{{range .Config.Cmd}}x{{else}}empty{{end}}", "empty"),
            ("{{.Name | upper}} {{title .State.Status}} {{lower \"ABC\"}}", "/WEB Running abc"),
            (
                "{{truncate .Id 4}} {{printf \"%.3s %5d|%-5s|%q %v %t %05.1f\" .Id .Size \"ab\" \"x\\ty\" .Config.Env .On 2.25}}",
                r#"0123 012    12|ab   |"x\ty" [A=1 B=2] true 002.2"#,
            ),
            ("{{pad \"x\" 1 2}}|{{slice .Id 2 5}}|{{split \"a,b\" \",\"}}|{{index (split \"a,b\" \",\") 1}}", " x  |234|[a b]|b"),
            ("{{$x := .Name}}{{$x}}{{$x = \"y\"}}{{$x}}{{/* c */}}", "/weby"),
            ("a  {{- /* trim */ -}}  b {{- .Size -}} c", "ab12c"),
            ("{{println .Size \"x\"}}", "12 x\n"),
            ("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3"),
            ("{{slice .Config.Env 1}}{{or .Empty \"d\"}}{{and .On .Size}}", "[B=2]d12"),
            ("{{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}} {{eq .None nil}}", "true true true false true"),
            ("{{`raw {{x`}}{{\"}}\"}}", "raw {{x}}"),
            ("{{.}}", "map["),
            ("{{$.Name}}{{with .State}}{{$.Name}}{{end}}", "/web/web"),
            ("{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}", "A=1"),
            ("{{if .State.Healthcheck}}x{{end}}", ""),
            ("{{define \"T\"}}<{{.}}>{{end}}{{template \"T\" .Size}}{{template \"T\"}}", "<12><<no value>>"),
            ("{{block \"B\" .State}}{{.Status}}{{end}}{{template \"B\" .State}}", "runningrunning"),
            ("{{with .Empty}}a{{else with .State}}{{.Status}}{{else}}b{{end}}", "running"),
            ("{{html \"<a&'\"}}|{{js \"a'<\"}}|{{urlquery \"a b&c/ü\"}}", "&lt;a&amp;&#39;|a\\'\\u003C|a+b%26c%2F%C3%BC"),
            ("{{.Config.Labels.missing}}{{.NetworkSettings.Networks.other}}", "<no value><no value>"),
            ("{{0x10}} {{1_000}} {{'a'}} {{0b11}}", "16 1000 97 3"),
            ("{{range 3}}{{.}}{{end}}", "012"),
            (
                "{{printf \"%T %c %U %o %e %08.3f %x %X %-4d| %+d %6s\" 1 97 97 8 1.5 3.14159 \"hi\" 255 7 5 true}}",
                "int a U+0061 10 1.500000e+00 0003.142 6869 FF 7   | +5 %!s(bool=true)",
            ),
        ] {
            let got = Template::parse(template).and_then(|t| t.render(&value)).unwrap_or_else(|e| panic!("{template}: {e}"));
            if template == "{{.}}" {
                assert!(got.starts_with(expected));
            } else {
                assert_eq!(got, expected, "{template}");
            }
        }
    }

    const WORDS: &[&str] = &[
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define \"a\"",
        "template \"a\"",
        "block \"a\" .",
        "break",
        "continue",
        ".",
        ".Config",
        ".Config.Labels",
        ".Name",
        "$",
        "$x",
        "$y",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        "\"s\"",
        "\"%s%s\"",
        "`r`",
        "'c'",
        "7",
        "1.5",
        "-3",
        "nil",
        "true",
        "not",
        "and",
        "or",
        "len",
        "index",
        "slice",
        "printf",
        "print",
        "join",
        "split",
        "json",
        "eq",
        "lt",
        "html",
        "pad",
        "truncate",
        "text",
        "/* c */",
        "%",
        "ä",
        "\"",
        " ",
        "\n",
    ];

    /// Words of the language in any order: an answer or an error, never a panic, never for ever.
    #[test]
    fn nonsense_is_answered() {
        let words = proptest::collection::vec(proptest::sample::select(WORDS), 0..40);
        let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config { cases: 3000, ..Default::default() });
        let outcome = runner.run(&words, |words| {
            for separator in ["", " "] {
                if let Ok(template) = Template::parse(&words.join(separator)) {
                    drop(template.render(&document()));
                    drop(template.header(&json!({"Name": "NAME"})));
                }
            }
            Ok(())
        });
        outcome.unwrap();
        let doubling = "{{$x := \"ab\"}}{{range 100}}{{$x = printf \"%s%s\" $x $x}}{{end}}";
        assert!(Template::parse(doubling).and_then(|t| t.render(&json!({}))).unwrap_err().contains("longer"));
    }

    #[test]
    fn errors_name_the_place() {
        for (template, word) in [
            ("{{.Nope}}", "Nope"),
            ("{{.State.Nope}}", ".State.Nope"),
            ("{{.None.X}}", "nil"),
            ("{{.Name.X}}", "X"),
            ("{{", "unclosed action"),
            ("{{.Name", "unclosed action"),
            ("{{if .On}}", "end"),
            ("{{end}}", "end"),
            ("{{nope .}}", "\"nope\" not defined"),
            ("{{index .Config.Env 9}}", "out of range"),
            ("{{$x}}", "undefined variable"),
            ("{{\"abc}}", "unterminated"),
            ("{{.Name \"arg\"}}", "argument"),
            ("{{lt 1 \"a\"}}", "incompatible"),
            ("{{.Name | }}", "missing"),
            ("{{}}", "missing"),
            ("{{(.Name}}", "paren"),
            ("{{template \"x\"}}", "\"x\" not defined"),
            ("{{define \"x\"}}", "end"),
            ("{{define x}}{{end}}", "define clause"),
            ("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}", "exceeded"),
            ("{{range 1000000000000}}x{{end}}", "too"),
        ] {
            let error = Template::parse(template).and_then(|t| t.render(&document())).unwrap_err();
            assert!(error.contains(word), "{template}: {error}");
        }
    }

    #[test]
    fn forms_of_a_list() {
        let rows = [json!({"ID": "abc", "Names": "web", LABELS: {"com.x.role": "db"}}), json!({"ID": "d", "Names": "longer-name", LABELS: {}})];
        let titles = [("ID", "CONTAINER ID"), ("Names", "NAMES")];
        let show = |format: Option<&str>| list(format, "{{.ID}}\t{{.Names}}", &titles, &rows).unwrap();
        assert_eq!(show(None), "CONTAINER ID   NAMES\nabc            web\nd              longer-name\n");
        assert_eq!(show(Some("table")), show(None));
        assert_eq!(show(Some("json")), "{\"ID\":\"abc\",\"Names\":\"web\"}\n{\"ID\":\"d\",\"Names\":\"longer-name\"}\n");
        assert_eq!(show(Some("{{.ID}}\\t{{.Names}}")), "abc\tweb\nd\tlonger-name\n");
        assert_eq!(show(Some("table {{.Names}}\\t{{.Label \"com.x.role\"}}")), "NAMES         role\nweb           db\nlonger-name   \n");
        assert!(list(Some("{{.Bogus}}"), "", &titles, &rows).is_err());
        assert!(list(Some("{{.Bogus}}"), "", &titles, &[]).is_err(), "also without a row");
        assert!(list(Some("{{.Status}}"), "", &titles, &rows).is_err(), "only documents lack fields");
        assert_eq!(list(Some("{{range .Names}}x{{end}}"), "", &titles, &[]).unwrap(), "");
        let nil = json!({"HostConfig": {"CapAdd": null, "Sysctls": null}, "State": {}});
        assert_eq!(
            one("{{.HostConfig.CapAdd}} {{.HostConfig.Sysctls}} {{.State.Health}} {{json .HostConfig.CapAdd}}", &nil).unwrap(),
            "[] map[] <nil> null\n"
        );
        assert_eq!(one("{{", &nil).unwrap_err().exit_code(crate::cli::failure::Class::Other), 64);
        assert_eq!(one("json", &json!({"a": 1})).unwrap(), "{\"a\":1}\n");
    }
}
