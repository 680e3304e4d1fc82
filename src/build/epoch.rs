//! `SOURCE_DATE_EPOCH`: the one time that everything of a build gets (reproducible-builds.org, "SOURCE_DATE_EPOCH
//! specification"; BuildKit's `docs/build-repro.md`).
//!
//! It is a build argument, also from the client's environment, or the default of an `ARG` before the first `FROM`. Besides a
//! number of seconds it may be `context`, the name of a `--build-context`, or that of a stage `FROM scratch` with a single
//! `ADD` from elsewhere: then it is the time of that source, if it has one.

use super::context::Context;
use super::dockerfile::{Dockerfile, Instruction, Origin, Stage};
use super::error::{Error, Result};
use super::remote;
use super::request::BuildRequest;
use super::state::Arguments;
use crate::base::Cancel;
use std::fmt;

pub const NAME: &str = "SOURCE_DATE_EPOCH";
/// The last second that RFC 3339 has digits for in every time zone.
const LATEST: i64 = 253_402_207_200;

/// Seconds since 1970, never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(i64);

impl Epoch {
    pub fn seconds(self) -> i64 {
        self.0
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|seconds| digits && *seconds <= LATEST).map(Epoch)
    }
}

/// RFC 3339, as image configs have it.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    No,
    /// The time of a source that has none: all is as if nothing was asked for.
    Timeless,
    At(Epoch),
}

impl Asked {
    pub fn epoch(self) -> Option<Epoch> {
        match self {
            Asked::At(epoch) => Some(epoch),
            Asked::No | Asked::Timeless => None,
        }
    }
}

/// Where the time of a source can be had from.
pub struct Sources<'a> {
    pub request: &'a BuildRequest,
    pub file: &'a Dockerfile,
    pub context: &'a Context,
    /// The build area of the data root.
    pub area: &'a std::path::Path,
    pub limits: crate::image::Limits,
    pub cancel: &'a Cancel,
    /// Opens a named context.
    pub named: &'a dyn Fn(&str) -> Result<Option<std::sync::Arc<Context>>>,
}

/// The epoch of the build; a name in its place is replaced by the number that it comes to, for whoever asks for the argument.
///
/// # Errors
/// It is neither a number of seconds nor the name of a source; the source cannot be had.
pub fn resolve(arguments: &mut Arguments, sources: &Sources<'_>) -> Result<Asked> {
    let Some(text) = arguments.inherited(NAME).map(str::to_owned).filter(|text| !text.is_empty()) else { return Ok(Asked::No) };
    if let Some(epoch) = Epoch::parse(&text) {
        return Ok(Asked::At(epoch));
    }
    let Some(time) = sources.time(arguments, &text)? else {
        arguments.set(NAME, None);
        return Ok(Asked::Timeless);
    };
    // Times before 1970 are of no use to anybody who reads the variable.
    let epoch = Epoch(time.clamp(0, LATEST));
    arguments.set(NAME, Some(epoch.0.to_string()));
    Ok(Asked::At(epoch))
}

impl Sources<'_> {
    /// The time of the source of that name, in seconds since 1970; None: it has none.
    fn time(&self, arguments: &Arguments, name: &str) -> Result<Option<i64>> {
        if name == "context" {
            return Ok(self.context.time());
        }
        if let Some(context) = (self.named)(name)? {
            return Ok(context.time());
        }
        let wrong = |why: &str| Err(Error::invalid(format!("{NAME}={name}: {why}")));
        let Some(index) = self.file.stage(name, self.file.stages.len()) else {
            return wrong("expected seconds since 1970, context, or the name of a build context or a stage");
        };
        let stage = &self.file.stages[index];
        let Some(address) = only_source(stage).filter(|_| stage.base.text.eq_ignore_ascii_case("scratch")) else {
            return wrong("only a stage FROM scratch with a single ADD of one URL or repository has a time");
        };
        let address = arguments.global(self.file, address)?.text;
        if !remote::is_remote(address.as_bytes()) {
            return wrong("what its ADD takes is in the build context, and has no time");
        }
        let headers = remote::authorization(self.request, &address)?;
        let wanted = remote::Request {
            url: &address,
            area: self.area,
            checksum: None,
            keep_git_dir: false,
            exclude: &[],
            headers: &headers,
            limits: self.limits,
            cancel: self.cancel,
        };
        Ok(remote::fetch(&wanted)?.time)
    }
}

/// The source of the only instruction of a stage, if that is an ADD of one.
fn only_source(stage: &Stage) -> Option<&super::dockerfile::Word> {
    let [statement] = stage.instructions.as_slice() else { return None };
    let Instruction::Add(transfer) = &statement.instruction else { return None };
    match transfer.sources.as_slice() {
        [Origin::Path(word)] if transfer.from.is_none() => Some(word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_a_plain_number() {
        assert_eq!(Epoch::parse("0").map(|epoch| epoch.to_string()).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(Epoch::parse("1445412480").map(|epoch| epoch.to_string()).as_deref(), Some("2015-10-21T07:28:00Z"));
        assert_eq!(Epoch::parse("253402207200").map(|epoch| epoch.to_string()).as_deref(), Some("9999-12-30T22:00:00Z"));
        for bad in ["", "-1", "+1", "1.5", "x", " 1", "253402207201", "99999999999999999999"] {
            assert_eq!(Epoch::parse(bad), None, "{bad:?}");
        }
    }
}
