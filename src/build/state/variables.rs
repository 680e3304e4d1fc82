//! The variables of a stage: its environment, and below that its build arguments.

use std::collections::HashMap;

/// Names with values in the order in which they came first.
#[derive(Debug, Clone, Default)]
struct Ordered {
    entries: Vec<(String, Option<String>)>,
    index: HashMap<String, usize>,
}

impl Ordered {
    fn set(&mut self, name: &str, value: Option<String>) {
        match self.index.get(name) {
            Some(at) => self.entries[*at].1 = value,
            None => {
                self.index.insert(name.to_owned(), self.entries.len());
                self.entries.push((name.to_owned(), value));
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Option<String>> {
        self.index.get(name).map(|at| &self.entries[*at].1)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Variables {
    environment: Ordered,
    arguments: Ordered,
}

impl Variables {
    /// Of `KEY=value` entries.
    pub fn new(environment: &[String]) -> Self {
        let mut variables = Variables::default();
        for entry in environment {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            variables.environment.set(name, Some(value.to_owned()));
        }
        variables
    }

    pub fn set(&mut self, name: &str, value: String) {
        self.environment.set(name, Some(value));
    }

    /// `ARG`: None is declared without a value.
    pub fn declare(&mut self, name: &str, value: Option<String>) {
        self.arguments.set(name, value);
    }

    /// The environment beats arguments.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.environment.find(name).or_else(|| self.arguments.find(name)).and_then(Option::as_deref)
    }

    pub fn declared(&self, name: &str) -> bool {
        self.arguments.find(name).is_some()
    }

    pub fn has(&self, name: &str) -> bool {
        self.environment.find(name).is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.environment.entries.iter().chain(&self.arguments.entries).map(|(name, _)| name.as_str())
    }

    /// `KEY=value` entries of the image's config.
    pub fn environment(&self) -> Vec<String> {
        self.environment.entries.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or_default())).collect()
    }

    /// All declared arguments with the value that a `RUN` sees.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.arguments.entries.iter().map(|(name, _)| (name.as_str(), self.find(name)))
    }
}
