//! Runs a template's nodes over a JSON value.
//!
//! An absent field is an error (as with a struct in Go), except the few that Docker leaves out of its documents
//! when they are unset; a null prints as `<no value>`.

use super::functions;
use super::parser::{Node, Operand, Pipeline};
use super::{HIDDEN, LABELS};
use serde_json::Value;
use std::collections::HashMap;

/// Fields that documents may lack although their type has them.
const OPTIONAL: &[&str] = &[
    "Health",
    "Healthcheck",
    "StopSignal",
    "StopTimeout",
    "Init",
    "SizeRw",
    "SizeRootFs",
    "Variant",
    "Annotations",
    "Shell",
    "Options",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "Entrypoint",
    "Cmd",
    "OnBuild",
    "Name",
    "UsageData",
    "Status",
    "Comment",
    "Author",
    "Parent",
    "Tmpfs",
    "Sysctls",
    "Mounts",
    "MacAddress",
    "Driver",
];

/// Fields that are maps: a key that they lack is no error.
const MAPS: &[&str] = &[
    "Annotations",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];
/// Nodes that one run may take: far more than any document needs, and an end for a mistake.
const STEP_LIMIT: usize = 1_000_000;
/// Bytes of the output, and of one value on the way: a template can double a text at each step.
const SIZE_LIMIT: usize = 64 << 20;
/// Named templates inside each other.
const TEMPLATE_DEPTH: usize = 100;

/// What the error of an unknown field says.
pub const NO_FIELD: &str = "map has no entry for key";
/// Fields that are pointers in Docker's types, and those that are lists: how Go prints them when they are nil.
const POINTERS: &[&str] = &["Health", "Healthcheck", "Init", "IPAMConfig", "MemorySwappiness", "OomKillDisable", "PidsLimit", "StopTimeout"];
const LISTS: &[&str] = &[
    "Aliases",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "OnBuild",
    "ReadonlyPaths",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
];

/// How Go prints a value that is null.
fn null_text(pipeline: &Pipeline) -> &'static str {
    let field = match pipeline.commands.as_slice() {
        [command] => match command.as_slice() {
            [Operand::Fields(fields) | Operand::Variable(_, fields) | Operand::Nested(_, fields)] => fields,
            _ => return "<no value>",
        },
        _ => return "<no value>",
    };
    match field.last().map(String::as_str) {
        Some(last) if POINTERS.contains(&last) => "<nil>",
        Some(last) if LISTS.contains(&last) => "[]",
        Some(last) if MAPS.contains(&last) => "map[]",
        _ => "<no value>",
    }
}

/// What stops a list of nodes early.
#[derive(PartialEq)]
enum Flow {
    Go,
    Break,
    Continue,
}

/// What a template is run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A document of `inspect`, which lacks fields that are unset.
    Document,
    /// A row of a list, which has all its fields.
    Row,
    /// The titles of a list's columns: functions that need real data pass them on.
    Titles,
}

/// The state of one run.
pub struct Machine<'a> {
    root: &'a Value,
    of: Of,
    named: &'a HashMap<String, Vec<Node>>,
    variables: Vec<(String, Value)>,
    out: String,
    /// Named templates that are running.
    depth: usize,
    /// Nodes run so far.
    steps: usize,
}

impl<'a> Machine<'a> {
    pub fn new(root: &'a Value, of: Of, named: &'a HashMap<String, Vec<Node>>) -> Self {
        Machine { root, of, named, variables: vec![(String::new(), root.clone())], out: String::new(), depth: 0, steps: 0 }
    }

    /// # Errors
    /// The expression that failed and why.
    pub fn run(mut self, nodes: &[Node]) -> Result<String, String> {
        let root = self.root;
        self.nodes(nodes, root)?;
        Ok(self.out)
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Go {
                return Ok(flow);
            }
        }
        Ok(Flow::Go)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        self.steps += 1;
        if self.steps > STEP_LIMIT || self.out.len() > SIZE_LIMIT {
            return Err(format!("too many steps: more than {STEP_LIMIT}, or more than {SIZE_LIMIT} bytes"));
        }
        match node {
            Node::Template { name, pipeline } => self.template(name, pipeline.as_ref(), dot)?,
            Node::Text(text) => self.out.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    match value {
                        Value::Null => self.out.push_str(null_text(pipeline)),
                        value => self.out.push_str(&functions::show(&value)),
                    }
                }
            }
            Node::If { branches, otherwise } => {
                let scope = self.variables.len();
                let mut chosen = otherwise;
                for (condition, body) in branches {
                    let value = self.pipeline(condition, dot)?;
                    if functions::truth(&value) {
                        chosen = body;
                        break;
                    }
                }
                let flow = self.nodes(chosen, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With { pipeline, body, otherwise } => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = if functions::truth(&value) { self.nodes(body, &value)? } else { self.nodes(otherwise, dot)? };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range { pipeline, body, otherwise } => return self.range(pipeline, body, otherwise, dot),
        }
        Ok(Flow::Go)
    }

    /// A named template sees its own dot and `$`, and none of the variables around it.
    fn template(&mut self, name: &str, pipeline: Option<&Pipeline>, dot: &Value) -> Result<(), String> {
        let value = pipeline.map_or(Ok(Value::Null), |pipeline| self.pipeline(pipeline, dot))?;
        let nodes = self.named.get(name).ok_or_else(|| format!("template \"{name}\" not defined"))?;
        if self.depth == TEMPLATE_DEPTH {
            return Err(format!("exceeded maximum template depth ({TEMPLATE_DEPTH})"));
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
        self.nodes(nodes, &value)?;
        self.variables = outer;
        self.depth -= 1;
        Ok(())
    }

    fn range(&mut self, pipeline: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, String> {
        let value = self.commands(pipeline, dot)?;
        let items = match value {
            Value::Null => Vec::new(),
            Value::Array(list) => list.into_iter().enumerate().map(|(i, item)| (Value::from(i), item)).collect(),
            Value::Object(map) => {
                let mut items: Vec<(String, Value)> = map.into_iter().filter(|(key, _)| !key.starts_with('\0')).collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(key, item)| (Value::from(key), item)).collect()
            }
            Value::Number(n) if n.as_u64().is_some_and(|n| n > STEP_LIMIT as u64) => {
                return Err(format!("range over too many integers: more than {STEP_LIMIT}"));
            }
            Value::Number(n) => (0..n.as_u64().unwrap_or(0)).map(|i| (Value::from(i), Value::from(i))).collect(),
            other => return Err(format!("range can't iterate over {}", functions::show(&other))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            match pipeline.variables.as_slice() {
                [] => {}
                [one] => self.set(one, item.clone(), pipeline.assigns)?,
                [first, second, ..] => {
                    self.set(first, key, pipeline.assigns)?;
                    self.set(second, item.clone(), pipeline.assigns)?;
                }
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Go)
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) -> Result<(), String> {
        if !assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some(slot) => slot.1 = value,
            None => return Err(format!("undefined variable \"${name}\"")),
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.commands(pipeline, dot)?;
        if let Some(name) = pipeline.variables.first() {
            self.set(name, value.clone(), pipeline.assigns)?;
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn command(&mut self, operands: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value, String> {
        let (first, rest) = operands.split_first().ok_or("missing value for a command")?;
        match first {
            Operand::Function(name) => self.call(name, rest, piped, dot),
            Operand::Fields(fields) | Operand::Variable(_, fields) | Operand::Nested(_, fields) if !rest.is_empty() || piped.is_some() => {
                let (last, parents) = match fields.split_last() {
                    Some((last, parents)) if last == "Label" => (last, parents),
                    _ => return Err(format!("at <{}>: can't give an argument to a non-function", name_of(first))),
                };
                let parent = match first {
                    Operand::Fields(_) => self.walk(dot, parents, first)?,
                    Operand::Variable(name, _) => {
                        let value = self.variable(name)?;
                        self.walk(&value, parents, first)?
                    }
                    Operand::Nested(inner, _) => {
                        let value = self.pipeline(inner, dot)?;
                        self.walk(&value, parents, first)?
                    }
                    _ => unreachable!("invariant: matched above"),
                };
                let key = match (rest, piped) {
                    ([only], None) => self.operand(only, dot)?,
                    ([], Some(value)) => value,
                    _ => return Err(format!("at <.{last}>: wrong number of arguments")),
                };
                Ok(self.label(&parent, &functions::show(&key)))
            }
            _ if !rest.is_empty() || piped.is_some() => Err(format!("at <{}>: can't give an argument to a non-function", name_of(first))),
            operand => self.operand(operand, dot),
        }
    }

    /// `.Label "k"`: the label's value, or in a header the last word of its key.
    fn label(&self, parent: &Value, key: &str) -> Value {
        if self.of == Of::Titles {
            let last = key.rsplit('.').next().unwrap_or(key);
            return Value::from(last.replace(['-', '_'], " "));
        }
        parent.get(LABELS).and_then(|labels| labels.get(key)).cloned().unwrap_or_else(|| Value::from(""))
    }

    fn call(&mut self, name: &str, operands: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value, String> {
        if !functions::exists(name) {
            return Err(format!("function \"{name}\" not defined"));
        }
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            // `and` and `or` stop at the first value that decides.
            let decided = (name == "and" && !functions::truth(&value)) || (name == "or" && functions::truth(&value));
            if decided {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        if self.of == Of::Titles && name == "json" && arguments.len() == 1 {
            return Ok(arguments.swap_remove(0));
        }
        let value = functions::call(name, &arguments).map_err(|e| format!("error calling {name}: {e}"))?;
        if value.as_str().is_some_and(|text| text.len() > SIZE_LIMIT) {
            return Err(format!("error calling {name}: the text is longer than {SIZE_LIMIT} bytes"));
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Null),
            Operand::Bool(value) => Ok(Value::from(*value)),
            Operand::Int(value) => Ok(Value::from(*value)),
            Operand::Float(value) => Ok(Value::from(*value)),
            Operand::Str(text) => Ok(Value::from(text.as_str())),
            Operand::Function(name) => self.call(name, &[], None, dot),
            Operand::Fields(fields) => self.walk(dot, fields, operand),
            Operand::Variable(name, fields) => {
                let value = self.variable(name)?;
                self.walk(&value, fields, operand)
            }
            Operand::Nested(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                self.walk(&value, fields, operand)
            }
        }
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable \"${name}\""))
    }

    fn walk(&self, start: &Value, fields: &[String], whole: &Operand) -> Result<Value, String> {
        let mut value = start;
        for (at, field) in fields.iter().enumerate() {
            let in_map = at > 0 && MAPS.contains(&fields[at - 1].as_str());
            value = match value {
                Value::Object(map) => match map.get(field).or_else(|| map.get(HIDDEN)?.get(field)) {
                    Some(value) => value,
                    None if self.of == Of::Document && (in_map || OPTIONAL.contains(&field.as_str())) => &Value::Null,
                    None => return Err(format!("executing \"\" at <{}>: {NO_FIELD} \"{field}\"\n{}", name_of(whole), meant(map, field))),
                },
                Value::Null => return Err(format!("executing \"\" at <{}>: nil pointer evaluating {field}", name_of(whole))),
                _ => return Err(format!("executing \"\" at <{}>: can't evaluate field {field} in a value that has no fields", name_of(whole))),
            };
        }
        Ok(value.clone())
    }
}

/// An operand as it was written.
fn name_of(operand: &Operand) -> String {
    let path = |fields: &[String]| fields.iter().map(|field| format!(".{field}")).collect::<String>();
    match operand {
        Operand::Fields(fields) => path(fields),
        Operand::Variable(name, fields) => format!("${name}{}", path(fields)),
        Operand::Nested(_, fields) => format!("(…){}", path(fields)),
        Operand::Dot => ".".to_owned(),
        Operand::Str(text) => format!("\"{text}\""),
        Operand::Function(name) => name.clone(),
        other => format!("{other:?}"),
    }
}

/// The field that was meant by another one's name, or all there are; a line of its own behind the error.
fn meant(map: &serde_json::Map<String, Value>, field: &str) -> String {
    let known = map.keys().map(String::as_str).filter(|key| !key.starts_with('\0'));
    match crate::base::nearest(field, known.clone()) {
        Some(near) => format!("did you mean .{near}?"),
        None => format!("the fields are {}", known.map(|key| format!(".{key}")).collect::<Vec<_>>().join(" ")),
    }
}
