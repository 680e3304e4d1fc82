//! `--format`: Go's text/template over JSON values, and the forms `json`, `table` and `table TEMPLATE`.

mod eval;
mod functions;
mod lexer;
mod parser;

use super::failure::Failure;
use super::{output, table};
use serde_json::{Map, Value};

/// Key of a row that holds its labels for `.Label "k"`; never printed.
pub const LABELS: &str = "\0labels";

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<parser::Node>,
}

impl Template {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens = lexer::lex(text)?;
        Ok(Template { nodes: parser::parse(tokens)? })
    }

    /// The text for one value.
    ///
    /// # Errors
    /// A field that the value does not have, or a function used wrongly.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        eval::Machine::new(value, false).run(&self.nodes)
    }

    /// The header line of a table: every field is replaced by its title.
    fn header(&self, titles: &Value) -> Result<String, String> {
        eval::Machine::new(titles, true).run(&self.nodes)
    }
}

/// Interprets `\t` and `\n` as Docker's command line does.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn parse(text: &str) -> Result<Template, Failure> {
    Template::parse(&unescape(text)).map_err(|e| Failure::invalid(format!("template parsing error: {e}")))
}

fn execute(result: Result<String, String>) -> Result<String, Failure> {
    result.map_err(|e| Failure::invalid(format!("template: {e}")))
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
    if is_table {
        let header: Map<String, Value> = titles.iter().map(|(field, title)| ((*field).to_owned(), Value::from(*title))).collect();
        lines.push(execute(template.header(&Value::Object(header)))?);
    }
    for row in rows {
        lines.push(execute(template.render(&shown(row)))?);
    }
    Ok(if is_table { table::render(&lines) } else { lines.iter().map(|line| format!("{line}\n")).collect() })
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
    Ok(execute(parse(format)?.render(value))? + "\n")
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
        ] {
            let got = Template::parse(template).and_then(|t| t.render(&value)).unwrap_or_else(|e| panic!("{template}: {e}"));
            if template == "{{.}}" {
                assert!(got.starts_with(expected));
            } else {
                assert_eq!(got, expected, "{template}");
            }
        }
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
        assert_eq!(one("json", &json!({"a": 1})).unwrap(), "{\"a\":1}\n");
    }
}
