//! Messages on a monitor's socket: a 32-bit big-endian length of what follows, a type byte, a payload.
//! A length above the limit or a payload that its type does not allow ends the connection.

use super::{Event, Exit, FailureKind};
use crate::base::Timestamp;
use std::time::Duration;

/// Longest frame (type byte and payload).
pub(super) const LIMIT: usize = 1 << 20;
/// Longest first frame: the OCI config with a seccomp profile of the user, from our own parent.
pub(super) const CONFIG_LIMIT: usize = 16 << 20;

/// A frame that no peer of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// From a client to the monitor.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// Serialised `Config`; whether the first of the descriptors sent before it is the network namespace.
    Config {
        netns: bool,
        json: Vec<u8>,
    },
    /// Carries descriptors (SCM_RIGHTS).
    Descriptors,
    Start,
    Abandon,
    /// Its creator leaves, and somebody else will start it.
    Hold,
    Attach {
        stdout: bool,
        stderr: bool,
        stdin: bool,
    },
    Stdin(Vec<u8>),
    StdinEnd,
    Resize {
        columns: u16,
        rows: u16,
    },
    /// The user wants it down, and kills it after `grace`; `again`: to start it anew.
    StopRequested {
        grace: Option<Duration>,
        again: bool,
    },
    /// A probe of its health, now.
    Probe,
    /// From now on name queries are answered by this plan.
    Resolve(Vec<u8>),
    /// From now on these are the sockets of published ports: so many, sent before it.
    Ports(u32),
}

const CONFIG: u8 = 1;
const DESCRIPTORS: u8 = 2;
const START: u8 = 3;
const ABANDON: u8 = 4;
const ATTACH: u8 = 5;
const STDIN: u8 = 6;
const STDIN_END: u8 = 7;
const RESIZE: u8 = 8;
const STOP_REQUESTED: u8 = 9;
const PROBE: u8 = 10;
const RESOLVE: u8 = 11;
const HOLD: u8 = 12;
const PORTS: u8 = 13;
/// Milliseconds of a stop that waits for ever.
const NEVER: u64 = u64::MAX;

const CREATED: u8 = 32;
const STARTED: u8 = 33;
const FAILED: u8 = 34;
const STDOUT: u8 = 35;
const STDERR: u8 = 36;
const EXITED: u8 = 37;
const GONE: u8 = 38;
const PROBED: u8 = 39;
const RESOLVING: u8 = 40;
const HELD: u8 = 41;
const RESERVED: u8 = 42;

/// Appends one frame.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let length = u32::try_from(length).expect("invariant: callers keep frames below their limit");
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Request::Config { netns, json } => put(&mut out, CONFIG, &[&[u8::from(*netns)], json]),
            Request::Descriptors => put(&mut out, DESCRIPTORS, &[]),
            Request::Start => put(&mut out, START, &[]),
            Request::Abandon => put(&mut out, ABANDON, &[]),
            Request::Hold => put(&mut out, HOLD, &[]),
            Request::Attach { stdout, stderr, stdin } => {
                put(&mut out, ATTACH, &[&[u8::from(*stdout) | u8::from(*stderr) << 1 | u8::from(*stdin) << 2]]);
            }
            Request::Stdin(data) => put(&mut out, STDIN, &[data]),
            Request::StdinEnd => put(&mut out, STDIN_END, &[]),
            Request::Resize { columns, rows } => put(&mut out, RESIZE, &[&columns.to_be_bytes(), &rows.to_be_bytes()]),
            Request::StopRequested { grace, again } => {
                let grace = grace.map_or(NEVER, |grace| u64::try_from(grace.as_millis()).unwrap_or(NEVER));
                put(&mut out, STOP_REQUESTED, &[&[u8::from(*again)], &grace.to_be_bytes()]);
            }
            Request::Probe => put(&mut out, PROBE, &[]),
            Request::Resolve(plan) => put(&mut out, RESOLVE, &[plan]),
            Request::Ports(count) => put(&mut out, PORTS, &[&count.to_be_bytes()]),
        }
        out
    }

    pub(super) fn decode((kind, payload): (u8, Vec<u8>)) -> Result<Self, Malformed> {
        let empty = |request: Request| if payload.is_empty() { Ok(request) } else { Err(Malformed("a payload where none belongs")) };
        match kind {
            CONFIG => match payload.split_first() {
                Some((netns @ (0 | 1), json)) => Ok(Request::Config { netns: *netns == 1, json: json.to_vec() }),
                _ => Err(Malformed("a configuration without a head")),
            },
            DESCRIPTORS => empty(Request::Descriptors),
            START => empty(Request::Start),
            ABANDON => empty(Request::Abandon),
            HOLD => empty(Request::Hold),
            ATTACH => match payload[..] {
                [flags] if flags < 8 => Ok(Request::Attach { stdout: flags & 1 != 0, stderr: flags & 2 != 0, stdin: flags & 4 != 0 }),
                _ => Err(Malformed("an attach request with unknown flags")),
            },
            STDIN => Ok(Request::Stdin(payload)),
            STDIN_END => empty(Request::StdinEnd),
            RESIZE => match payload[..] {
                [a, b, c, d] => Ok(Request::Resize { columns: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) }),
                _ => Err(Malformed("a window size of the wrong length")),
            },
            STOP_REQUESTED => match (&payload[..], field(&payload, 1).map(u64::from_be_bytes)) {
                ([again @ (0 | 1), rest @ ..], Some(grace)) if rest.len() == 8 => {
                    Ok(Request::StopRequested { grace: (grace != NEVER).then(|| Duration::from_millis(grace)), again: *again == 1 })
                }
                _ => Err(Malformed("a stop request of the wrong length")),
            },
            PROBE => empty(Request::Probe),
            RESOLVE => Ok(Request::Resolve(payload)),
            PORTS => match payload[..] {
                [a, b, c, d] => Ok(Request::Ports(u32::from_be_bytes([a, b, c, d]))),
                _ => Err(Malformed("a number of ports of the wrong length")),
            },
            _ => Err(Malformed("an unknown request")),
        }
    }
}

impl Event {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Event::Created { pid } => put(out, CREATED, &[&pid.to_be_bytes()]),
            Event::Started { pid, at } => put(out, STARTED, &[&pid.to_be_bytes(), &at.nanos().to_be_bytes()]),
            Event::Failed { kind, message } => {
                let text = &message.as_bytes()[..message.floor_char_boundary(64 << 10)];
                put(out, FAILED, &[&[*kind as u8], text]);
            }
            Event::Stdout(data) => put(out, STDOUT, &[data]),
            Event::Stderr(data) => put(out, STDERR, &[data]),
            Event::Exited { exit, restarting } => {
                let flags = [u8::from(exit.oom_killed), u8::from(*restarting)];
                put(out, EXITED, &[&exit.code.to_be_bytes(), &exit.at.nanos().to_be_bytes(), &flags]);
            }
            Event::Gone => put(out, GONE, &[]),
            Event::Resolving => put(out, RESOLVING, &[]),
            Event::Held => put(out, HELD, &[]),
            Event::Reserved => put(out, RESERVED, &[]),
            Event::Probed { well } => put(out, PROBED, &[&[u8::from(*well)]]),
        }
    }

    pub(super) fn decode((kind, payload): (u8, Vec<u8>)) -> Result<Self, Malformed> {
        let wrong = Malformed("an event of the wrong length");
        match kind {
            CREATED => Ok(Event::Created { pid: i32::from_be_bytes(field(&payload, 0).ok_or(wrong)?) }),
            STARTED => Ok(Event::Started {
                pid: i32::from_be_bytes(field(&payload, 0).ok_or(wrong)?),
                at: Timestamp::from_nanos(i64::from_be_bytes(field(&payload, 4).ok_or(wrong)?)),
            }),
            FAILED => {
                let (kind, text) = payload.split_first().ok_or(wrong)?;
                let kind = match kind {
                    0 => FailureKind::NotFound,
                    1 => FailureKind::NotExecutable,
                    2 => FailureKind::Invalid,
                    _ => FailureKind::Other,
                };
                Ok(Event::Failed { kind, message: String::from_utf8_lossy(text).into_owned() })
            }
            STDOUT => Ok(Event::Stdout(payload)),
            STDERR => Ok(Event::Stderr(payload)),
            EXITED => {
                let [oom_killed, restarting] = field(&payload, 12).ok_or(wrong)?;
                let exit = Exit {
                    code: i32::from_be_bytes(field(&payload, 0).ok_or(wrong)?),
                    oom_killed: oom_killed != 0,
                    at: Timestamp::from_nanos(i64::from_be_bytes(field(&payload, 4).ok_or(wrong)?)),
                };
                Ok(Event::Exited { exit, restarting: restarting != 0 })
            }
            GONE => Ok(Event::Gone),
            RESOLVING => Ok(Event::Resolving),
            HELD => Ok(Event::Held),
            RESERVED => Ok(Event::Reserved),
            PROBED => match payload[..] {
                [well @ (0 | 1)] => Ok(Event::Probed { well: well == 1 }),
                _ => Err(wrong),
            },
            _ => Err(Malformed("an unknown event")),
        }
    }
}

fn field<const N: usize>(payload: &[u8], at: usize) -> Option<[u8; N]> {
    payload.get(at..at + N)?.try_into().ok()
}

/// Bytes of a stream, cut into frames. Holds no memory while nothing is half received.
pub(super) struct Decoder {
    buffer: Vec<u8>,
    limit: usize,
}

impl Decoder {
    pub(super) fn new(limit: usize) -> Self {
        Decoder { buffer: Vec::new(), limit }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Bytes received and not yet taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// The next complete frame: its type and payload.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, Malformed> {
        let Some(head) = field::<4>(&self.buffer, 0) else { return Ok(None) };
        let length = u32::from_be_bytes(head) as usize;
        if length == 0 || length > self.limit {
            return Err(Malformed("a frame of an impossible length"));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let frame = (self.buffer[4], self.buffer[5..4 + length].to_vec());
        if self.buffer.len() == 4 + length {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..4 + length);
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_events_survive_the_trip_byte_by_byte() {
        let requests = [
            Request::Config { netns: true, json: b"{}".to_vec() },
            Request::Descriptors,
            Request::Start,
            Request::Abandon,
            Request::Hold,
            Request::Attach { stdout: true, stderr: false, stdin: true },
            Request::Stdin(vec![0, 255]),
            Request::StdinEnd,
            Request::Resize { columns: 300, rows: 2 },
            Request::StopRequested { grace: Some(Duration::from_millis(1500)), again: false },
            Request::StopRequested { grace: None, again: true },
            Request::Probe,
            Request::Resolve(b"{}".to_vec()),
            Request::Ports(450),
        ];
        let mut decoder = Decoder::new(LIMIT);
        for request in requests {
            for byte in request.encode() {
                assert_eq!(decoder.next(), Ok(None));
                decoder.push(&[byte]);
            }
            assert_eq!(Request::decode(decoder.next().unwrap().unwrap()), Ok(request));
        }
        let at = Timestamp::from_nanos(5);
        let events = [
            Event::Created { pid: 7 },
            Event::Started { pid: 7, at },
            Event::Failed { kind: FailureKind::NotExecutable, message: "é".to_owned() },
            Event::Stdout(b"x".to_vec()),
            Event::Stderr(Vec::new()),
            Event::Exited { exit: Exit { code: 137, oom_killed: true, at }, restarting: true },
            Event::Probed { well: true },
            Event::Resolving,
            Event::Held,
            Event::Reserved,
            Event::Gone,
        ];
        let mut all = Vec::new();
        events.iter().for_each(|event| event.encode(&mut all));
        decoder.push(&all);
        for event in events {
            assert_eq!(Event::decode(decoder.next().unwrap().unwrap()), Ok(event));
        }
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn malformed_frames_are_refused() {
        for head in [[0, 0, 0, 0, 1], [0xff, 0, 0, 0, 1]] {
            let mut decoder = Decoder::new(LIMIT);
            decoder.push(&head);
            assert!(decoder.next().is_err());
        }
        for bad in [
            (START, vec![1]),
            (ATTACH, vec![8]),
            (RESIZE, vec![1]),
            (99, vec![]),
            (CONFIG, vec![]),
            (STOP_REQUESTED, vec![]),
            (PORTS, vec![0; 3]),
            (STOP_REQUESTED, vec![2; 9]),
        ] {
            assert!(Request::decode(bad).is_err());
        }
        for bad in [(CREATED, vec![1]), (EXITED, vec![0; 13]), (FAILED, vec![]), (1, vec![])] {
            assert!(Event::decode(bad).is_err());
        }
    }
}
