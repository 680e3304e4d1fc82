//! pod logs: the logs of the members as one.

use super::super::{Engine, Error, Result};
use crate::monitor::{LogLine, LogQuery};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Lines of one member that wait to be taken: bounds the memory of a merge.
const AHEAD: usize = 256;

type Line = (usize, LogLine);

impl Engine {
    /// Hands the lines of the members' logs to `each` with the member's id and name until it returns false or all logs
    /// end: by time, or as they come where they are followed. Empty `containers`: all members.
    ///
    /// # Errors
    /// There is no such pod or member, or the first log that cannot be read, after the lines before it.
    pub fn pod_logs(&self, name: &str, containers: &[String], query: &LogQuery, each: &mut dyn FnMut(&str, &str, LogLine) -> bool) -> Result<()> {
        let pod = self.find_pod(name)?;
        let mut members = self.db.pod_members(&pod.id)?;
        for wanted in containers {
            let found = members.iter().any(|member| is_called(member, wanted));
            if !found {
                return Err(Error::invalid(format!("container {wanted} is not in pod {name}")));
            }
        }
        members.retain(|member| containers.is_empty() || containers.iter().any(|wanted| is_called(member, wanted)));
        let names: Vec<(String, String)> = members.iter().map(|member| (member.id.to_string(), member.name.to_string())).collect();
        let mut show = |(member, line): Line| each(&names[member].0, &names[member].1, line);
        if query.follow {
            let (sender, lines) = sync_channel(AHEAD);
            for (member, (id, _)) in names.iter().enumerate() {
                self.read_member(member, id, query, sender.clone());
            }
            drop(sender);
            return follow(&lines, &mut show);
        }
        let sources = names.iter().enumerate().map(|(member, (id, _))| {
            let (sender, lines) = sync_channel(AHEAD);
            self.read_member(member, id, query, sender);
            lines
        });
        merge(&sources.collect::<Vec<_>>(), &mut show)
    }

    /// Reads one log on a thread of its own, which ends with the log or with the receiver; it may outlive the call, waiting
    /// for a line that nobody wants any more.
    fn read_member(&self, member: usize, id: &str, query: &LogQuery, sender: SyncSender<Result<Line>>) {
        let (privilege, registry, id, query) = (self.privilege.clone(), self.registry.clone(), id.to_owned(), query.clone());
        std::thread::spawn(move || {
            let read =
                Engine::open(privilege, registry).and_then(|engine| engine.logs(&id, &query, &mut |line| sender.send(Ok((member, line))).is_ok()));
            if let Err(error) = read {
                // Nobody listens any more: then nobody wants to know.
                drop(sender.send(Err(error)));
            }
        });
    }
}

fn is_called(member: &crate::state::record::Container, wanted: &str) -> bool {
    member.name.as_str() == wanted || (!wanted.is_empty() && member.id.as_str().starts_with(wanted))
}

fn follow(lines: &Receiver<Result<Line>>, show: &mut dyn FnMut(Line) -> bool) -> Result<()> {
    for line in lines {
        if !show(line?) {
            break;
        }
    }
    Ok(())
}

/// The oldest of the next lines of all, until all have ended.
fn merge(sources: &[Receiver<Result<Line>>], show: &mut dyn FnMut(Line) -> bool) -> Result<()> {
    let mut first = Ok(());
    let mut next: Vec<Option<Line>> = sources.iter().map(|_| None).collect();
    let mut ended = vec![false; sources.len()];
    loop {
        for (source, lines) in sources.iter().enumerate() {
            if next[source].is_none() && !ended[source] {
                match lines.recv() {
                    Ok(Ok(line)) => next[source] = Some(line),
                    Ok(Err(error)) => {
                        ended[source] = true;
                        first = first.and(Err(error));
                    }
                    Err(_) => ended[source] = true,
                }
            }
        }
        let oldest = next.iter().enumerate().filter_map(|(source, line)| line.as_ref().map(|(_, line)| (line.at, source))).min();
        let Some(line) = oldest.and_then(|(_, source)| next[source].take()) else { return first };
        if !show(line) {
            return first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn lines_are_merged_by_time_and_an_error_hides_no_line() {
        let line = |member, at| Ok((member, LogLine { at: Timestamp::from_nanos(at), stream: 1, ..LogLine::nothing() }));
        let (a, from_a) = sync_channel(8);
        let (b, from_b) = sync_channel(8);
        for sent in [a.send(line(0, 1)), a.send(line(0, 5)), b.send(line(1, 2)), b.send(Err(Error::invalid("broken"))), a.send(line(0, 6))] {
            sent.unwrap();
        }
        drop((a, b));
        let mut seen = Vec::new();
        let outcome = merge(&[from_a, from_b], &mut |(member, line)| {
            seen.push((member, line.at.nanos()));
            true
        });
        assert_eq!(seen, [(0, 1), (1, 2), (0, 5), (0, 6)]);
        assert_eq!(outcome.unwrap_err().to_string(), "broken");
    }
}
