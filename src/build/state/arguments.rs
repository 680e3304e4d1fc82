//! Build arguments: given on the command line, set by the builder, or by `ARG` before the first `FROM`.

use crate::build::dockerfile::{Dockerfile, Expanded, Fault, Instruction, Word, expand};
use std::collections::{BTreeMap, BTreeSet};

/// Known without `ARG`, part of the environment of a `RUN`, but neither of its history nor of its key.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
/// Arguments for the builder itself.
const BUILDER: [&str; 2] = ["BUILDKIT_", "SOURCE_DATE_EPOCH"];

/// Those of them that the builder heeds, or that change nothing (there is one syntax).
const HEEDED: [&str; 9] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    "SOURCE_DATE_EPOCH",
];

pub fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name == *proxy || name == proxy.to_ascii_lowercase())
}

/// What `ARG` and `FROM` can ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--build-arg`.
    given: BTreeMap<String, String>,
    /// The global scope: the automatic ones (`TARGETPLATFORM`, …) and `ARG` before the first `FROM`.
    globals: BTreeMap<String, String>,
}

impl Arguments {
    /// Evaluates the global scope.
    ///
    /// # Errors
    /// A default that cannot be expanded.
    pub fn new(file: &Dockerfile, given: BTreeMap<String, String>, automatic: BTreeMap<String, String>) -> Result<Self, Fault> {
        let mut arguments = Arguments { given, globals: automatic };
        for statement in &file.globals {
            let Instruction::Arg(list) = &statement.instruction else { continue };
            let mut values = Vec::new();
            for argument in list {
                let name = arguments.global(file, &argument.name)?.text;
                let value = match (arguments.given.get(&name), &argument.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => Some(arguments.global(file, default)?.text),
                    (None, None) => None,
                };
                values.push((name, value));
            }
            arguments.globals.extend(values.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        }
        Ok(arguments)
    }

    /// Expands a word of `FROM` or of a global `ARG`.
    ///
    /// # Errors
    /// It cannot be expanded.
    pub fn global(&self, file: &Dockerfile, word: &Word) -> Result<Expanded, Fault> {
        let lookup = |name: &str| self.globals.get(name).map(String::as_str);
        expand(&word.text, file.directives.escape(), &lookup).map_err(|why| file.fault(word.span, why))
    }

    pub fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// The value that `ARG name` without a default has in a stage.
    pub fn inherited(&self, name: &str) -> Option<&str> {
        self.given(name).or_else(|| self.globals.get(name).map(String::as_str))
    }

    /// Another value for an argument that was given or is global; None takes it away.
    pub fn set(&mut self, name: &str, value: Option<String>) {
        let scope = if self.given.contains_key(name) { &mut self.given } else { &mut self.globals };
        match value {
            Some(value) => drop(scope.insert(name.to_owned(), value)),
            None => drop((self.given.remove(name), self.globals.remove(name))),
        }
    }

    /// The global scope's names.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.globals.keys().map(String::as_str)
    }

    /// Proxies that were given.
    pub fn proxies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given.iter().filter(|(name, _)| is_proxy(name)).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A given argument that asks the builder for something that it does not do.
    pub fn unheeded(&self) -> Option<&str> {
        let asks = |(name, value): &(&String, &String)| {
            BUILDER.iter().any(|prefix| name.starts_with(prefix))
                && !HEEDED.contains(&name.as_str())
                && !matches!(value.as_str(), "0" | "false")
                && !value.is_empty()
        };
        self.given.iter().find(asks).map(|(name, _)| name.as_str())
    }

    /// Given arguments that no `ARG` of the file asks for.
    pub fn unused(&self, file: &Dockerfile) -> Vec<&str> {
        let statements = file.globals.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions));
        let mut asked: BTreeSet<&str> = BTreeSet::new();
        for statement in statements {
            if let Instruction::Arg(list) = &statement.instruction {
                asked.extend(list.iter().map(|argument| argument.name.text.as_str()));
            }
        }
        let builder = |name: &str| is_proxy(name) || BUILDER.iter().any(|prefix| name.starts_with(prefix));
        self.given.keys().map(String::as_str).filter(|name| !asked.contains(name) && !builder(name)).collect()
    }
}
