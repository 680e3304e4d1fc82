//! Which containers a verb is for: names, files that hold ids, those that a filter meets, or all of them.

use super::context::is_missing;
use super::failure::{Failure, USAGE};
use super::ps::filters;
use crate::engine::{Engine, Status};

/// The containers of a verb.
#[derive(clap::Args, Debug)]
pub struct Targets {
    /// All containers that it can be done to
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Read an id from a file, as --cidfile of run writes it
    #[arg(long, value_name = "FILE")]
    pub cidfile: Vec<String>,
    /// Those of them that a filter of ps meets: label=…, name=…
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Nothing is wrong with a container that does not exist
    #[arg(short = 'i', long)]
    pub ignore: bool,
    #[arg(required_unless_present_any = ["all", "cidfile", "filter"], value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

impl Targets {
    /// Their names, as typed; ids for `--all` and `--filter`, of those whose status is `meant`.
    ///
    /// # Errors
    /// `--all` or `--filter` together with others (exit code 125), an unreadable file, or the engine fails.
    pub fn resolve(&self, engine: &Engine, meant: fn(Status) -> bool) -> Result<Vec<String>, Failure> {
        if self.all || !self.filter.is_empty() {
            if !self.containers.is_empty() || !self.cidfile.is_empty() {
                let flag = if self.all { "--all" } else { "--filter" };
                return Err(Failure::invalid(format!("conflicting options: {flag} and containers by name or file")).with_code(USAGE));
            }
            return matching(engine, &self.filter, meant);
        }
        let mut names = self.containers.clone();
        for path in &self.cidfile {
            match crate::base::fs::read_to_string(path.as_ref()) {
                Ok(text) => names.push(text.lines().next().unwrap_or_default().trim().to_owned()),
                Err(error) if self.ignore && error.source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::from(error).with_code(USAGE)),
            }
        }
        if self.ignore {
            names.retain(|name| !engine.view(name).map_err(Failure::from).is_err_and(|failure| is_missing(&failure)));
        }
        Ok(names)
    }
}

/// Ids of the containers that meet the filters and whose status is `meant`.
///
/// # Errors
/// A filter that is none, or the engine fails.
pub fn matching(engine: &Engine, filter: &[String], meant: fn(Status) -> bool) -> Result<Vec<String>, Failure> {
    let views = engine.list(true, &filters(filter)?)?;
    Ok(views.into_iter().filter(|view| meant(view.status)).map(|view| view.record.id.as_str().to_owned()).collect())
}

pub fn any(_: Status) -> bool {
    true
}

pub fn alive(status: Status) -> bool {
    matches!(status, Status::Running | Status::Paused | Status::Restarting)
}
