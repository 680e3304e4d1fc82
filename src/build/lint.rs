//! The well-known rules of `--check`: what works, but is likely to be a mistake.
//!
//! Most rules need the file alone. Those that need the build (`UndefinedVar` with the base's environment,
//! `InvalidBaseImagePlatform`, `CopyIgnoredFile`) are found by the solver, which makes their warnings here or in `state`;
//! [`kept`] leaves out what the file says to skip.

use super::dockerfile::{Checks, Command, Dockerfile, Fault, Instruction, Pair, Span, Stage, Statement, Warning, Word};
use super::state::Arguments;
use crate::base::nearest;
use crate::oci::{Platform, Reference};
use std::collections::{BTreeMap, BTreeSet};

/// Names that mean something else in FROM and COPY --from.
const RESERVED: [&str; 2] = ["context", "scratch"];
/// Words in the name of a variable that say it holds a secret, unless it also says it is public.
const SECRET: [&str; 11] = ["apikey", "auth", "credential", "credentials", "key", "passwd", "password", "pword", "pass", "secret", "token"];
const PUBLIC: &str = "public";

/// All warnings that the file alone gives reason for, in the order of their places; `automatic` holds the arguments that
/// the builder sets.
///
/// # Errors
/// A default of a global ARG that cannot be expanded.
pub fn lint(file: &Dockerfile, checks: &Checks, automatic: &BTreeMap<String, String>) -> Result<Vec<Warning>, Fault> {
    let mut rules = Rules { file, found: file.warnings.clone() };
    rules.casing();
    rules.stage_names();
    let defaults = Arguments::new(file, BTreeMap::new(), automatic.clone())?;
    rules.base_arguments(&defaults);
    let mut inherited = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        rules.platform(stage);
        let above = file.stage(&stage.base.text, index).and_then(|parent| inherited.get(parent)).copied().unwrap_or_default();
        inherited.push(rules.stage(stage, above));
    }
    rules.secrets();
    if checks.experimental_all || checks.experimental.iter().any(|rule| rule.eq_ignore_ascii_case("InvalidDefinitionDescription")) {
        rules.descriptions();
    }
    Ok(kept(file, checks, rules.found))
}

/// `warnings` without those that a directive or a comment skips, in the order of their places.
pub fn kept(file: &Dockerfile, checks: &Checks, mut warnings: Vec<Warning>) -> Vec<Warning> {
    let skips = |checks: &Option<Checks>, rule: &str| checks.as_ref().is_some_and(|checks| checks.skips(rule));
    warnings.retain(|warning| {
        let at = warning.span.start;
        let stage = file.stages[..file.stages.partition_point(|stage| stage.span.start <= at)].last();
        let statements = stage.map_or(file.globals.as_slice(), |stage| stage.instructions.as_slice());
        let statement = statements[..statements.partition_point(|statement| statement.span.start <= at)].last();
        let here = statement.filter(|statement| at < statement.span.end.max(statement.span.start + 1));
        let skipped = checks.skips(warning.rule)
            || stage.is_some_and(|stage| skips(&stage.checks, warning.rule))
            || here.is_some_and(|statement| skips(&statement.checks, warning.rule));
        !skipped
    });
    warnings.sort_by_key(|warning| (warning.span.start, warning.rule));
    warnings
}

/// A base image that is not for the platform that is built.
pub fn base_platform(stage: &Stage, image: &str, found: &Platform, wanted: &Platform) -> Warning {
    let text = format!("the base image {image} is for {found}, but this build is for {wanted}");
    Warning { rule: "InvalidBaseImagePlatform", text, span: stage.base.span }
}

/// A source that the ignore file takes out of the context.
pub fn copy_ignored(keyword: &str, path: &str, span: Span) -> Warning {
    Warning { rule: "CopyIgnoredFile", text: format!("{keyword} takes \"{path}\", which the ignore file leaves out of the context"), span }
}

/// What a stage inherits from the one it is built from.
#[derive(Debug, Clone, Copy, Default)]
struct Inherited {
    /// An absolute WORKDIR was set.
    directory: bool,
    /// SHELL was set: whoever chose a shell knows what its form means.
    shell: bool,
}

struct Rules<'f> {
    file: &'f Dockerfile,
    found: Vec<Warning>,
}

impl Rules<'_> {
    fn warn(&mut self, rule: &'static str, span: Span, text: String) {
        self.found.push(Warning { rule, text, span });
    }

    fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.file.globals.iter().chain(self.file.stages.iter().flat_map(|stage| &stage.instructions))
    }

    /// ConsistentInstructionCasing.
    fn casing(&mut self) {
        let stages = self.file.stages.iter().map(|stage| &stage.keyword);
        let keywords: Vec<Word> = self.statements().map(|statement| &statement.keyword).chain(stages).cloned().collect();
        let upper = keywords.iter().filter(|word| is_upper(&word.text)).count();
        let lower = keywords.iter().filter(|word| is_lower(&word.text)).count();
        let (fits, name): (fn(&str) -> bool, _) = if lower > upper { (is_lower, "lower") } else { (is_upper, "upper") };
        for word in keywords.iter().filter(|word| !fits(&word.text)) {
            let text = format!("{} is not written as most instructions are, in {name} case", word.text);
            self.warn("ConsistentInstructionCasing", word.span, text);
        }
    }

    /// StageNameCasing, FromAsCasing, DuplicateStageName, ReservedStageName.
    fn stage_names(&mut self) {
        let mut seen = BTreeSet::new();
        for stage in &self.file.stages {
            let (Some(name), Some(keyword), Some(key)) = (&stage.name, &stage.as_keyword, stage.key()) else { continue };
            if key != name.text {
                self.warn("StageNameCasing", name.span, format!("the stage name {} should be in lower case", name.text));
            }
            let same = (is_upper(&keyword.text) && is_upper(&stage.keyword.text)) || (is_lower(&keyword.text) && is_lower(&stage.keyword.text));
            if !same {
                let text = format!("{} and {} are not written in the same case", stage.keyword.text, keyword.text);
                self.warn("FromAsCasing", keyword.span, text);
            }
            if RESERVED.contains(&key.as_str()) {
                self.warn("ReservedStageName", name.span, format!("the stage name {key} means something else"));
            }
            if !seen.insert(key.clone()) {
                self.warn("DuplicateStageName", name.span, format!("another stage is named {key}, too; the last one wins"));
            }
        }
    }

    /// UndefinedArgInFrom, InvalidDefaultArgInFrom: with nothing but the defaults of the global scope.
    fn base_arguments(&mut self, defaults: &Arguments) {
        let declared: BTreeSet<String> = self.file.globals.iter().flat_map(arguments).map(|word| word.text.clone()).collect();
        for (index, stage) in self.file.stages.iter().enumerate() {
            for word in [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten().filter(|word| word.varies()) {
                let Ok(expanded) = defaults.global(self.file, word) else { continue };
                let unknown: Vec<&String> = expanded.undefined.iter().filter(|name| !declared.contains(*name)).collect();
                for name in &unknown {
                    let near = nearest(name, defaults.globals().chain(declared.iter().map(String::as_str)));
                    let meant = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                    self.warn("UndefinedArgInFrom", word.span, format!("no ARG before the first FROM declares {name}{meant}"));
                }
                let image = &expanded.text;
                let fine = image == "scratch" || self.file.stage(image, index).is_some() || image.parse::<Reference>().is_ok();
                if word.span == stage.base.span && !fine {
                    let text = format!("with the defaults of its arguments, \"{}\" becomes \"{image}\", which is no image", word.text);
                    self.warn("InvalidDefaultArgInFrom", word.span, text);
                }
            }
        }
    }

    /// RedundantTargetPlatform, FromPlatformFlagConstDisallowed.
    fn platform(&mut self, stage: &Stage) {
        let Some(platform) = &stage.platform else { return };
        if ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&platform.text.as_str()) {
            self.warn("RedundantTargetPlatform", platform.span, format!("--platform={} is the default", platform.text));
        }
        // A stage that is named after its platform means it.
        let named = |part: &str| stage.key().is_some_and(|key| key.contains(part));
        let meant = platform.text.parse::<Platform>().is_ok_and(|parsed| named(&parsed.os) || named(&parsed.arch));
        if !platform.varies() && !meant {
            let text = format!("--platform={} is always the same, whatever the build is for", platform.text);
            self.warn("FromPlatformFlagConstDisallowed", platform.span, text);
        }
    }

    /// The rules that look at one instruction after the other.
    fn stage(&mut self, stage: &Stage, above: Inherited) -> Inherited {
        let mut state = above;
        let mut last: BTreeMap<&'static str, Span> = BTreeMap::new();
        for statement in &stage.instructions {
            let span = statement.span;
            match &statement.instruction {
                Instruction::Cmd(command) => {
                    self.only_one(&mut last, "CMD", span);
                    self.shell_form("CMD", command, span, state);
                }
                Instruction::Entrypoint(command) => {
                    self.only_one(&mut last, "ENTRYPOINT", span);
                    self.shell_form("ENTRYPOINT", command, span, state);
                }
                Instruction::Healthcheck(_) => self.only_one(&mut last, "HEALTHCHECK", span),
                Instruction::Shell(_) => state.shell = true,
                Instruction::Maintainer(_) => {
                    let text = "MAINTAINER is deprecated; LABEL org.opencontainers.image.authors says the same";
                    self.warn("MaintainerDeprecated", span, text.to_owned());
                }
                Instruction::Workdir(path) if path.text.starts_with(['/', '$', '"', '\'']) => state.directory = true,
                Instruction::Workdir(path) if !state.directory => {
                    let text = format!("the directory {} is relative to whatever the base image sets", path.text);
                    self.warn("WorkdirRelativePath", path.span, text);
                }
                Instruction::Env(pairs) => self.legacy("ENV", pairs),
                Instruction::Label(pairs) => self.legacy("LABEL", pairs),
                Instruction::Expose(words) => self.expose(words),
                _ => {}
            }
        }
        state
    }

    /// MultipleInstructionsDisallowed, at the one that is of no use.
    fn only_one(&mut self, last: &mut BTreeMap<&'static str, Span>, name: &'static str, span: Span) {
        if let Some(before) = last.insert(name, span) {
            let text = format!("another {name} follows in this stage, and only the last one counts");
            self.warn("MultipleInstructionsDisallowed", before, text);
        }
    }

    fn shell_form(&mut self, name: &str, command: &Command, span: Span, state: Inherited) {
        if matches!(command, Command::Shell(_)) && !state.shell {
            let text = format!("{name} should be a JSON array: in its shell form the process gets no signals");
            self.warn("JSONArgsRecommended", span, text);
        }
    }

    fn legacy(&mut self, name: &str, pairs: &[Pair]) {
        for pair in pairs.iter().filter(|pair| pair.legacy) {
            let text = format!("{name} {key}=value should be written instead of {name} {key} value", key = pair.key.text);
            self.warn("LegacyKeyValueFormat", pair.key.span.to(pair.value.span), text);
        }
    }

    /// ExposeProtoCasing, ExposeInvalidFormat.
    fn expose(&mut self, words: &[Word]) {
        for word in words.iter().filter(|word| !word.varies()) {
            let (ports, protocol) = word.text.split_once('/').unwrap_or((&word.text, ""));
            if protocol.bytes().any(|b| b.is_ascii_uppercase()) {
                self.warn("ExposeProtoCasing", word.span, format!("the protocol in {} should be in lower case", word.text));
            }
            if ports.contains(':') {
                let text = format!("{} names an address or a port of the host, which EXPOSE leaves out", word.text);
                self.warn("ExposeInvalidFormat", word.span, text);
            }
        }
    }

    /// SecretsUsedInArgOrEnv.
    fn secrets(&mut self) {
        let mut found = Vec::new();
        for statement in self.statements() {
            let names: Vec<&Word> = match &statement.instruction {
                Instruction::Env(pairs) => pairs.iter().map(|pair| &pair.key).collect(),
                Instruction::Arg(list) => list.iter().map(|argument| &argument.name).collect(),
                _ => continue,
            };
            let keyword = statement.keyword.text.to_ascii_uppercase();
            let secret = names.into_iter().filter(|name| holds_secret(&name.text));
            found.extend(
                secret.map(|name| (name.span, format!("{keyword} {} stays readable in the image; RUN --mount=type=secret does not", name.text))),
            );
        }
        for (span, text) in found {
            self.warn("SecretsUsedInArgOrEnv", span, text);
        }
    }

    /// InvalidDefinitionDescription: a comment over a stage or an argument that does not begin with its name.
    fn descriptions(&mut self) {
        let stages = self.file.stages.iter().filter_map(|stage| Some((stage.name.as_ref()?, &stage.comments)));
        let globals = self.file.globals.iter().filter_map(|statement| Some((arguments(statement).next()?, &statement.comments)));
        let named: Vec<(String, Span)> = stages
            .chain(globals)
            .filter_map(|(name, comments)| {
                let (comment, span) = comments.last()?;
                let described = comments.iter().any(|(comment, _)| comment.starts_with(&format!("{} ", name.text)));
                (!described && !comment.is_empty() && !comment.starts_with("check=")).then(|| (name.text.clone(), *span))
            })
            .collect();
        for (name, span) in named {
            let text = format!("the comment does not begin with {name}; an empty line after it says that it is no description");
            self.warn("InvalidDefinitionDescription", span, text);
        }
    }
}

fn arguments(statement: &Statement) -> impl Iterator<Item = &Word> {
    let list = if let Instruction::Arg(list) = &statement.instruction { list.as_slice() } else { &[] };
    list.iter().map(|argument| &argument.name)
}

fn is_upper(word: &str) -> bool {
    !word.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_lower(word: &str) -> bool {
    !word.bytes().any(|b| b.is_ascii_uppercase())
}

fn holds_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let parts = || lower.split('_');
    parts().any(|part| SECRET.contains(&part)) && !parts().any(|part| part == PUBLIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::parse;

    fn automatic() -> BTreeMap<String, String> {
        ["TARGETPLATFORM", "BUILDPLATFORM"].map(|name| (name.to_owned(), "linux/amd64".to_owned())).into()
    }

    /// `Rule@line:column` of each warning.
    fn found(text: &str) -> String {
        let file = parse(text.as_bytes(), "D").unwrap();
        let warnings = lint(&file, &file.directives.check, &automatic()).unwrap();
        let shown = warnings.iter().map(|warning| {
            let place = file.source.place(warning.span.start);
            format!("{}@{}:{}", warning.rule, place.line, place.column)
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rules_find_their_mistakes() {
        for (text, expected) in [
            ("FROM a\nRUN x\nCMD [\"x\"]\n", ""),
            ("FROM a AS Web\n", "StageNameCasing@1:11"),
            ("FROM a as web\n", "FromAsCasing@1:8"),
            ("from a as web\n", ""),
            ("from a AS web\n", "FromAsCasing@1:8"),
            ("FROM a\nRUN x \\\n\n y\n", "NoEmptyContinuation@3:1"),
            ("FROM a\nrun x\nRUN y\n", "ConsistentInstructionCasing@2:1"),
            ("from a\nrun x\nRUN y\n", "ConsistentInstructionCasing@3:1"),
            ("FROM a\nRun x\n", "ConsistentInstructionCasing@2:1"),
            ("FROM a AS x\nFROM b AS X2\nFROM c AS x\n", "StageNameCasing@2:11 DuplicateStageName@3:11"),
            ("FROM a AS scratch\n", "ReservedStageName@1:11"),
            ("FROM a AS context\n", "ReservedStageName@1:11"),
            ("FROM a\nCMD x\n", "JSONArgsRecommended@2:1"),
            ("FROM a\nENTRYPOINT ['x']\n", "JSONArgsRecommended@2:1"),
            ("FROM a\nSHELL [\"b\", \"-c\"]\nCMD x\n", ""),
            ("FROM a AS b\nSHELL [\"b\", \"-c\"]\nFROM b\nCMD x\n", ""),
            ("FROM a\nMAINTAINER x\n", "MaintainerDeprecated@2:1"),
            ("FROM a:$tag\n", "InvalidDefaultArgInFrom@1:6 UndefinedArgInFrom@1:6"),
            ("ARG tag\nFROM a:${tag}\n", "InvalidDefaultArgInFrom@2:6"),
            ("ARG tag\nFROM a:${tag:-1}\n", ""),
            ("ARG tag=1\nFROM a:$tag\n", ""),
            ("ARG v=UPPER\nFROM $v\n", "InvalidDefaultArgInFrom@2:6"),
            ("ARG v=x\nFROM a AS x\nFROM $v\n", ""),
            ("FROM a\nWORKDIR b\n", "WorkdirRelativePath@2:9"),
            ("FROM a\nWORKDIR /a\nWORKDIR b\n", ""),
            ("FROM a AS b\nWORKDIR /a\nFROM b\nWORKDIR b\n", ""),
            ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]\nCMD [\"z\"]\n", "MultipleInstructionsDisallowed@2:1 MultipleInstructionsDisallowed@3:1"),
            ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK NONE\n", "MultipleInstructionsDisallowed@2:1"),
            ("FROM a\nCMD [\"x\"]\nFROM b\nCMD [\"y\"]\n", ""),
            ("FROM a\nENV x y\nLABEL x y\n", "LegacyKeyValueFormat@2:5 LegacyKeyValueFormat@3:7"),
            ("FROM --platform=$TARGETPLATFORM a\n", "RedundantTargetPlatform@1:6"),
            ("FROM --platform=${TARGETPLATFORM} a\n", "RedundantTargetPlatform@1:6"),
            ("FROM --platform=$BUILDPLATFORM a\n", ""),
            ("FROM --platform=$BUILDPLATFROM a\n", "UndefinedArgInFrom@1:6"),
            ("FROM --platform=linux/amd64 a\n", "FromPlatformFlagConstDisallowed@1:6"),
            ("FROM --platform=linux/amd64 a AS web-amd64\n", ""),
            ("FROM a\nARG API_KEY\nENV db_password=x KEYBOARD=y\n", "SecretsUsedInArgOrEnv@2:5 SecretsUsedInArgOrEnv@3:5"),
            ("FROM a\nENV PUBLIC_KEY=x TOKENS=y\n", ""),
            ("FROM a\nEXPOSE 80/TCP\n", "ExposeProtoCasing@2:8"),
            ("FROM a\nEXPOSE 127.0.0.1:80:80 80\n", "ExposeInvalidFormat@2:8"),
            ("# the web\nFROM a AS web\n", ""),
            ("# check=experimental=all\n# the web\nFROM a AS web\n", "InvalidDefinitionDescription@2:1"),
            ("# check=experimental=InvalidDefinitionDescription\n# web is it\nFROM a AS web\n# v w\n\nFROM b AS c\n", ""),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn rules_can_be_skipped() {
        for (text, expected) in [
            ("# check=skip=JSONArgsRecommended\nFROM a\nCMD x\nMAINTAINER y\n", "MaintainerDeprecated@4:1"),
            ("# check=skip=all\nFROM a\nCMD x\nMAINTAINER y\n", ""),
            ("FROM a\n# check=skip=all\nCMD x\nMAINTAINER y\n", "MaintainerDeprecated@4:1"),
            ("FROM a\n# check=skip=maintainerdeprecated\nMAINTAINER y\nMAINTAINER z\n", "MaintainerDeprecated@4:1"),
            ("FROM b\n# check=skip=JSONArgsRecommended\nFROM a\nCMD x\nFROM c\nCMD y\n", "JSONArgsRecommended@6:1"),
            ("FROM a\n# check=skip=NoEmptyContinuation\nRUN x \\\n\n y\n", ""),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn the_solver_makes_its_own() {
        let file = parse(b"FROM a\n# check=skip=CopyIgnoredFile\nCOPY x /\nCOPY y /\n", "D").unwrap();
        let copy = |index: usize| copy_ignored("COPY", "x", file.stages[0].instructions[index].span);
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let base = base_platform(&file.stages[0], "a", &platform("linux/arm64"), &platform("linux/amd64"));
        assert_eq!(base.text, "the base image a is for linux/arm64, but this build is for linux/amd64");
        let left = kept(&file, &file.directives.check, vec![copy(1), copy(0), base.clone()]);
        assert_eq!(left, [base, copy(1)]);
    }
}
