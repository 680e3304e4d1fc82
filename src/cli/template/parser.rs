//! Tokens → a tree of nodes.

use super::lexer::Token;
use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Nesting that no real template reaches; deeper text is refused rather than overflowing the stack.
const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Text(String),
    /// Prints the pipeline's value, unless it declares or assigns.
    Action(Pipeline),
    /// (condition, body) in order, then the else body.
    If {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// Runs a named template with the pipeline's value as dot (nothing: nil).
    Template {
        name: String,
        pipeline: Option<Pipeline>,
    },
    Break,
    Continue,
}

/// A whole text: its nodes, and the templates that it defines by name.
#[derive(Debug)]
pub struct Text {
    pub nodes: Vec<Node>,
    pub named: HashMap<String, Vec<Node>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Variables that take the value.
    pub variables: Vec<String>,
    /// `=` instead of `:=`.
    pub assigns: bool,
    /// Each a list of operands; the value of one is the last argument of the next.
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Function(String),
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    /// A parenthesised pipeline and fields of its value.
    Nested(Box<Pipeline>, Vec<String>),
}

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum End {
    Eof,
    Closed,
    Else,
    ElseIf,
    ElseWith,
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
    depth: usize,
    loops: usize,
    named: HashMap<String, Vec<Node>>,
}

/// # Errors
/// What is out of place.
pub fn parse(tokens: Vec<Token>) -> Result<Text, String> {
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), depth: 0, loops: 0, named: HashMap::new() };
    match parser.list()? {
        (nodes, End::Eof) => Ok(Text { nodes, named: parser.named }),
        (_, End::Closed) => Err("unexpected {{end}}".to_owned()),
        (_, End::Else | End::ElseIf | End::ElseWith) => Err("unexpected {{else}}".to_owned()),
    }
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, End), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deeply".to_owned());
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.tokens.next() {
                None => break End::Eof,
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(Token::Open) => match self.action()? {
                    Ok(node) => nodes.push(node),
                    Err(end) => break end,
                },
                Some(other) => return Err(format!("unexpected {other:?}")),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// A node, or the end of the enclosing list.
    fn action(&mut self) -> Result<Result<Node, End>, String> {
        let keyword = match self.tokens.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let node = match keyword.as_str() {
            "end" => {
                self.tokens.next();
                self.close()?;
                return Ok(Err(End::Closed));
            }
            "else" => {
                self.tokens.next();
                for (word, end) in [("if", End::ElseIf), ("with", End::ElseWith)] {
                    if self.tokens.peek() == Some(&Token::Word(word.to_owned())) {
                        self.tokens.next();
                        return Ok(Err(end));
                    }
                }
                self.close()?;
                return Ok(Err(End::Else));
            }
            "if" => {
                self.tokens.next();
                self.conditional()?
            }
            "range" => {
                self.tokens.next();
                let pipeline = self.pipeline_to_close()?;
                self.loops += 1;
                let (body, end) = self.list()?;
                self.loops -= 1;
                Node::Range { pipeline, body, otherwise: self.otherwise(end)? }
            }
            "with" => {
                self.tokens.next();
                self.with()?
            }
            "define" => {
                self.tokens.next();
                self.define()?;
                // It is no part of the output where it stands.
                Node::Text(String::new())
            }
            "template" | "block" => {
                self.tokens.next();
                self.template(keyword == "block")?
            }
            "break" | "continue" if self.loops > 0 => {
                self.tokens.next();
                self.close()?;
                if keyword == "break" { Node::Break } else { Node::Continue }
            }
            _ => Node::Action(self.pipeline_to_close()?),
        };
        Ok(Ok(node))
    }

    fn with(&mut self) -> Result<Node, String> {
        let pipeline = self.pipeline_to_close()?;
        let (body, end) = self.list()?;
        let otherwise = if end == End::ElseWith {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err("nested too deeply".to_owned());
            }
            let next = self.with()?;
            self.depth -= 1;
            vec![next]
        } else {
            self.otherwise(end)?
        };
        Ok(Node::With { pipeline, body, otherwise })
    }

    fn define(&mut self) -> Result<(), String> {
        if self.depth > 1 {
            return Err("unexpected {{define}}".to_owned());
        }
        let name = self.template_name("define")?;
        self.close()?;
        let body = self.named_body()?;
        self.named.insert(name, body);
        Ok(())
    }

    /// `template "name" pipeline`, or `block "name" pipeline` with a body that defines it where nothing else does.
    fn template(&mut self, is_block: bool) -> Result<Node, String> {
        let name = self.template_name(if is_block { "block" } else { "template" })?;
        let given = self.tokens.peek() != Some(&Token::Close);
        if is_block && !given {
            return Err("missing value for block clause".to_owned());
        }
        let pipeline = if given { Some(self.pipeline()?) } else { None };
        self.close()?;
        if is_block {
            let body = self.named_body()?;
            self.named.entry(name.clone()).or_insert(body);
        }
        Ok(Node::Template { name, pipeline })
    }

    fn template_name(&mut self, clause: &str) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Str(name)) => Ok(name),
            other => Err(format!("unexpected {} in {clause} clause", describe(other.as_ref()))),
        }
    }

    /// Up to `{{end}}`; a loop around it is not one of its own.
    fn named_body(&mut self) -> Result<Vec<Node>, String> {
        let loops = std::mem::take(&mut self.loops);
        let list = self.list()?;
        self.loops = loops;
        match list {
            (nodes, End::Closed) => Ok(nodes),
            (_, End::Eof) => Err("unexpected end of the template: an {{end}} is missing".to_owned()),
            _ => Err("unexpected {{else}}".to_owned()),
        }
    }

    fn conditional(&mut self) -> Result<Node, String> {
        let mut branches = Vec::new();
        loop {
            let condition = self.pipeline_to_close()?;
            let (body, end) = self.list()?;
            branches.push((condition, body));
            if end != End::ElseIf {
                return Ok(Node::If { branches, otherwise: self.otherwise(end)? });
            }
        }
    }

    /// The else body, if `end` was an else.
    fn otherwise(&mut self, end: End) -> Result<Vec<Node>, String> {
        match end {
            End::Closed => Ok(Vec::new()),
            End::Else => match self.list()? {
                (nodes, End::Closed) => Ok(nodes),
                _ => Err("expected {{end}} after {{else}}".to_owned()),
            },
            End::Eof => Err("unexpected end of the template: an {{end}} is missing".to_owned()),
            End::ElseIf => Err("unexpected {{else if}}".to_owned()),
            End::ElseWith => Err("unexpected {{else with}}".to_owned()),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            other => Err(format!("unexpected {} in an action", describe(other.as_ref()))),
        }
    }

    fn pipeline_to_close(&mut self) -> Result<Pipeline, String> {
        let pipeline = self.pipeline()?;
        self.close()?;
        Ok(pipeline)
    }

    fn pipeline(&mut self) -> Result<Pipeline, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deeply".to_owned());
        }
        let (variables, assigns) = self.declaration();
        let mut commands = vec![self.command()?];
        while self.tokens.peek() == Some(&Token::Pipe) {
            self.tokens.next();
            commands.push(self.command()?);
        }
        self.depth -= 1;
        Ok(Pipeline { variables, assigns, commands })
    }

    /// `$a :=`, `$a, $b :=` or `$a =` at the start of a pipeline.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = ahead.next() {
            names.push(name);
            match ahead.next() {
                Some(Token::Comma) if names.len() == 1 => {}
                Some(operator @ (Token::Declare | Token::Assign)) => {
                    self.tokens = ahead;
                    return (names, operator == Token::Assign);
                }
                _ => break,
            }
        }
        (Vec::new(), false)
    }

    fn command(&mut self) -> Result<Vec<Operand>, String> {
        let mut operands = Vec::new();
        while !matches!(self.tokens.peek(), None | Some(Token::Close | Token::RightParen | Token::Pipe)) {
            operands.push(self.operand()?);
        }
        if operands.is_empty() { Err("missing value for a command".to_owned()) } else { Ok(operands) }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let token = self.tokens.next();
        Ok(match token {
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Str(text)) => Operand::Str(text),
            Some(Token::Int(value)) => Operand::Int(value),
            Some(Token::Float(value)) => Operand::Float(value),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                _ => Operand::Function(word),
            },
            Some(Token::Field { name, .. }) => {
                let mut fields = vec![name];
                fields.extend(self.fields());
                Operand::Fields(fields)
            }
            Some(Token::Variable(name)) => Operand::Variable(name, self.fields()),
            Some(Token::LeftParen) => {
                let pipeline = self.pipeline()?;
                if self.tokens.next() != Some(Token::RightParen) {
                    return Err("unclosed left paren".to_owned());
                }
                Operand::Nested(Box::new(pipeline), self.fields())
            }
            other => return Err(format!("unexpected {} in an action", describe(other.as_ref()))),
        })
    }

    /// Fields that follow without a blank.
    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some(Token::Field { name, adjacent: true }) = self.tokens.peek() {
            fields.push(name.clone());
            self.tokens.next();
        }
        fields
    }
}

fn describe(token: Option<&Token>) -> String {
    match token {
        None => "end".to_owned(),
        Some(Token::Close) => "\"}}\"".to_owned(),
        Some(Token::RightParen) => "right paren".to_owned(),
        Some(Token::Word(word)) => format!("\"{word}\""),
        Some(Token::Declare) => "\":=\"".to_owned(),
        Some(Token::Assign) => "\"=\"".to_owned(),
        Some(Token::Comma) => "\",\"".to_owned(),
        Some(other) => format!("{other:?}"),
    }
}
