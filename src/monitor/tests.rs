//! The relay with real processes behind it: output, exit, restart, stdin, slow and dying clients.
#![allow(clippy::unwrap_used, clippy::zombie_processes)]

mod resolver;

use super::life::Monitor;
use super::peer::Peer;
use super::relay;
use super::run::{Failure, Made, Run, Streams, non_blocking, terminal};
use super::*;
use crate::runtime::cgroup::Group;
use crate::state::record::{HealthAction, LogSpec, RestartPolicy};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// A plain process in the place of a container.
struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// The script runs once a line arrived here.
    gate: OwnedFd,
}

impl Run for Process {
    fn pid(&self) -> i32 {
        self.pid
    }
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
    fn start(&mut self) -> Result<(), Failure> {
        assert_eq!(rustix::io::write(&self.gate, b"\n"), Ok(1));
        Ok(())
    }
    fn group(&self) -> Group {
        serde_json::from_value(serde_json::json!({"path": "/none"})).unwrap()
    }
    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }
    fn oom_watch(&self) -> Option<crate::runtime::cgroup::OomWatch> {
        None
    }

    fn oom_kills(&self) -> u64 {
        0
    }
    /// The process of the probe is the probe itself here: its status is the verdict.
    fn probe(&self, plan: &HealthPlan, _report: &mut dyn FnMut(ProbeResult)) -> Result<OwnedFd, Failure> {
        let child = Command::new(&plan.command[0]).args(&plan.command[1..]).spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap())
    }
    fn kill_all(&mut self) -> Result<(), Failure> {
        let group = rustix::process::Pid::from_raw(self.pid).unwrap();
        match rustix::process::kill_process_group(group, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => panic!("{error}"),
        }
    }
    fn delete(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

fn shell(script: &str, tty: bool) -> Made {
    // Only the reader is inherited.
    let (reader, gate) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty()).unwrap();
    rustix::io::fcntl_setfd(&gate, rustix::io::FdFlags::CLOEXEC).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read g </proc/self/fd/{}; {script}", reader.as_raw_fd())]).process_group(0);
    let streams = if tty {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let slave = || std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        command.stdin(slave()).stdout(slave()).stderr(slave());
        Some(terminal(master).unwrap())
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    let mut child = command.spawn().unwrap();
    drop(command);
    let streams = streams.unwrap_or_else(|| {
        let streams = Streams {
            stdin: Some(child.stdin.take().unwrap().into()),
            stdout: Some(child.stdout.take().unwrap().into()),
            stderr: Some(child.stderr.take().unwrap().into()),
            console: None,
        };
        [&streams.stdin, &streams.stdout, &streams.stderr].into_iter().flatten().for_each(|fd| non_blocking(fd).unwrap());
        streams
    });
    let pid = i32::try_from(child.id()).unwrap();
    let pidfd = rustix::process::pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::PidfdFlags::empty()).unwrap();
    Made { run: Box::new(Process { pid, pidfd, gate }), streams }
}

/// What the engine was asked, in order.
type Asked = Arc<Mutex<Vec<String>>>;

struct Engine {
    asked: Asked,
    pauses: Vec<Duration>,
    /// What `created` answers once it was fine as often as the number says.
    refusal: Option<(u32, String)>,
}

impl Lifecycle for Engine {
    fn created(&mut self, pid: i32) -> Result<(), String> {
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        match &mut self.refusal {
            Some((0, message)) => Err(message.clone()),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
    fn oom(&mut self, _kills: u64) {}
    fn resized(&mut self, _columns: u16, _rows: u16) {}

    fn started(&mut self, _pid: i32, _at: Timestamp, restart_count: u32) {
        self.asked.lock().unwrap().push(format!("started {restart_count}"));
    }
    fn health_changed(&mut self, _status: HealthStatus) {}
    fn exited(&mut self, exit: &Exit, _ran_for: Duration, cause: Cause) -> Option<Duration> {
        let how = if cause == Cause::Itself { "false".to_owned() } else { format!("{cause:?}") };
        self.asked.lock().unwrap().push(format!("exited {} {how}", exit.code));
        if cause == Cause::Stop { None } else { self.pauses.pop() }
    }
    fn forsaken(&mut self, killed: bool) {
        self.asked.lock().unwrap().push(format!("forsaken {killed}"));
    }
    fn restart_failed(&mut self, _error: &str) -> Option<Duration> {
        None
    }
    fn finished(&mut self, exit: &Exit, error: Option<&str>) {
        self.asked.lock().unwrap().push(format!("finished {} {}", exit.code, error.is_some()));
    }
}

struct Setup {
    client: Client,
    thread: JoinHandle<()>,
    config: Config,
    asked: Asked,
    base: PathBuf,
}

#[derive(Default, Clone)]
struct Options {
    tty: bool,
    stdin_once: bool,
    pauses: Vec<Duration>,
    fails: bool,
    refusal: Option<(u32, String)>,
    health: Option<HealthPlan>,
    /// Where `resolver::Echo` has its socket.
    resolver: Option<PathBuf>,
}

fn setup(script: &'static str, options: Options) -> Setup {
    let id = ContainerId::random();
    // Longer than a socket address can hold.
    let base = std::env::temp_dir().join(format!("rcon-monitor-{}", crate::base::random_hex(12)));
    let root = base.join("x".repeat(120));
    let config = Config {
        live_dir: root.join("run").join(id.as_str()),
        container_dir: root.join("data").join(id.as_str()),
        data_root: root.join("data"),
        run_root: root.join("run"),
        id,
        spec: serde_json::Value::Null,
        root: runtime::Root::Directory(PathBuf::new()),
        user: runtime::User::default(),
        cgroup_path: String::new(),
        reaper: false,
        tty: options.tty,
        console_size: (80, 25),
        open_stdin: true,
        stdin_once: options.stdin_once,
        log: LogSpec::default(),
        restart: RestartPolicy::No,
        auto_remove: false,
        time_limit: None,
        notify: None,
        reserved: Timestamp::NEVER,
        netns_of_init: false,
        resolver: options.resolver.as_ref().map(|directory| serde_json::json!(directory)),
        health: options.health.clone(),
        journal: super::Journal::default(),
        pod: None,
        sources: Vec::new(),
        log_context: super::LogContext::default(),
    };
    std::fs::create_dir_all(&config.container_dir).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let asked = Asked::default();
    let engine = Engine { asked: Arc::clone(&asked), pauses: options.pauses.clone(), refusal: options.refusal.clone() };
    let for_thread = config.clone();
    let lock = live::take_lock(&config.live_dir).unwrap();
    let listener = relay::listen(&config.live_dir).unwrap();
    let log = log::Writer::open(&config.container_dir, &config.live_dir, &config.log, &config.log_context).unwrap();
    let thread = std::thread::spawn(move || {
        let creator = Peer::new(theirs.into(), true);
        Monitor::new(for_thread, lock, listener, log, Box::new(engine), &resolver::make, creator).run(&mut || {
            if options.fails {
                return Err(Failure { kind: FailureKind::NotFound, message: "no such command".to_owned() });
            }
            Ok(shell(script, options.tty))
        });
    });
    Setup { client: Client::on(ours.into()), thread, config, asked, base }
}

impl Setup {
    fn next(&mut self) -> Event {
        self.client.next(PATIENCE).unwrap().expect("an event in time")
    }

    fn start(&mut self) {
        assert!(matches!(self.next(), Event::Created { .. }));
        self.client.attach(true, true, true).unwrap();
        self.client.start().unwrap();
        assert!(matches!(self.next(), Event::Started { .. }));
    }

    /// Ends the test: the monitor left nothing, and asked the engine this.
    fn finish(self, asked: &[&str]) {
        self.thread.join().unwrap();
        assert!(!self.config.live_dir.exists());
        assert!(!is_alive(&self.config.live_dir));
        assert_eq!(*self.asked.lock().unwrap(), asked);
        std::fs::remove_dir_all(&self.base).unwrap();
    }
}

/// Everything up to `Gone`: stdout, stderr and the other events.
fn collect(client: &mut Client) -> (Vec<u8>, Vec<u8>, Vec<Event>) {
    let (mut out, mut err, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match client.next(PATIENCE).unwrap().expect("an event in time") {
            Event::Stdout(data) => out.extend(data),
            Event::Stderr(data) => err.extend(data),
            Event::Gone => return (out, err, rest),
            other => rest.push(other),
        }
    }
}

fn exits(events: &[Event]) -> Vec<(i32, bool)> {
    events.iter().filter_map(|event| if let Event::Exited { exit, restarting } = event { Some((exit.code, *restarting)) } else { None }).collect()
}

#[test]
fn output_exit_log_and_end_come_in_order() {
    let mut setup = setup("echo out; echo err >&2; read x; printf tail; exit 3", Options::default());
    setup.start();
    let live = Live::read(&setup.config.live_dir).unwrap();
    assert!(live.pid.is_some() && live.start_ticks > 0 && is_alive(&setup.config.live_dir));
    setup.client.write_stdin(b"\n").unwrap();
    let (out, err, rest) = collect(&mut setup.client);
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\ntail"[..], &b"err\n"[..]));
    assert_eq!(exits(&rest), [(3, false)]);
    assert!(matches!(setup.client.next(PATIENCE), Err(Error::Lost)));
    let mut logged = Vec::new();
    read_log(&log_path(&setup.config.container_dir, "json-file"), &LogQuery::default(), &|| false, &mut |line| {
        logged.push((line.stream, line.data));
        true
    })
    .unwrap();
    logged.sort();
    assert_eq!(logged, [(1, b"out\n".to_vec()), (1, b"tail".to_vec()), (2, b"err\n".to_vec())]);
    setup.finish(&["started 0", "exited 3 false", "finished 3 false"]);
}

#[test]
fn one_that_is_held_waits_for_somebody_else() {
    let mut setup = setup("echo out", Options::default());
    assert!(matches!(setup.next(), Event::Created { .. }));
    setup.client.hold().unwrap();
    assert_eq!(setup.next(), Event::Held);
    let live = Live::read(&setup.config.live_dir).unwrap();
    assert!(live.waiting && live.pid.is_some());
    let other = Client::connect(&setup.config.live_dir).unwrap();
    // Its creator leaves.
    setup.client = other;
    setup.client.attach(true, true, false).unwrap();
    setup.client.start().unwrap();
    assert!(matches!(setup.next(), Event::Started { .. }));
    let (out, _, rest) = collect(&mut setup.client);
    assert_eq!((out.as_slice(), exits(&rest)), (&b"out\n"[..], vec![(0, false)]));
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

#[test]
fn one_that_is_held_can_be_taken_down() {
    let mut setup = setup("echo never", Options::default());
    assert!(matches!(setup.next(), Event::Created { .. }));
    setup.client.hold().unwrap();
    assert_eq!(setup.next(), Event::Held);
    setup.client.stop_requested(Some(Duration::from_secs(10))).unwrap();
    let (out, _, rest) = collect(&mut setup.client);
    assert_eq!((out.as_slice(), exits(&rest)), (&b""[..], Vec::new()));
    setup.finish(&["finished 0 false"]);
}

#[test]
fn a_signal_is_128_more_and_orphans_do_not_hold_the_end() {
    let mut setup = setup("sleep 1000 & kill -9 $$", Options::default());
    setup.start();
    let (_, _, rest) = collect(&mut setup.client);
    assert_eq!(exits(&rest), [(137, false)]);
    setup.finish(&["started 0", "exited 137 false", "finished 137 false"]);
}

#[test]
fn stdin_ends_once_and_all_of_it_comes_back() {
    let mut setup = setup("cat", Options { stdin_once: true, ..Options::default() });
    setup.start();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    setup.client.write_stdin(&data).unwrap();
    setup.client.close_stdin().unwrap();
    let (out, _, rest) = collect(&mut setup.client);
    assert!(out == data);
    assert_eq!(exits(&rest), [(0, false)]);
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

#[test]
fn restarts_until_the_engine_says_no() {
    let pause = Duration::from_millis(5);
    let mut setup = setup("echo run; exit 7", Options { pauses: vec![pause, pause], ..Options::default() });
    setup.start();
    let (out, _, rest) = collect(&mut setup.client);
    assert_eq!(out, b"run\nrun\nrun\n");
    assert_eq!(exits(&rest), [(7, true), (7, true), (7, false)]);
    setup.finish(&["started 0", "exited 7 false", "started 1", "exited 7 false", "started 2", "exited 7 false", "finished 7 false"]);
}

fn probed_by(script: &str, action: HealthAction) -> Option<HealthPlan> {
    Some(HealthPlan {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
        start_period: Duration::ZERO,
        start_interval: Duration::from_secs(5),
        retries: 2,
        action,
        stop_signal: crate::base::Signal::TERM,
        stop_timeout: Some(Duration::from_secs(10)),
    })
}

#[test]
fn an_unhealthy_container_is_killed_stopped_or_restarted() {
    for (action, code, asked) in [
        (HealthAction::Kill, 137, "exited 137 false"),
        (HealthAction::Stop, 143, "exited 143 Stop"),
        (HealthAction::Restart, 143, "exited 143 Restart"),
    ] {
        let mut setup = setup("exec sleep 1000", Options { health: probed_by("exit 1", action), ..Options::default() });
        setup.start();
        let (_, _, rest) = collect(&mut setup.client);
        assert_eq!(exits(&rest), [(code, false)]);
        setup.finish(&["started 0", asked, &format!("finished {code} false")]);
    }
}

#[test]
fn a_container_that_ignores_the_stop_of_its_health_is_killed() {
    // Unhealthy once it ignores the signal.
    let marker = std::env::temp_dir().join(format!("rcon-monitor-deaf-{}", crate::base::random_hex(8)));
    let mut plan = probed_by(&format!("test ! -e {}", marker.display()), HealthAction::Restart).unwrap();
    plan.stop_timeout = Some(Duration::from_millis(50));
    let script: &'static str = format!("trap '' TERM; touch {}; while :; do sleep 0.01; done", marker.display()).leak();
    let mut setup = setup(script, Options { health: Some(plan), ..Options::default() });
    setup.start();
    let (_, _, rest) = collect(&mut setup.client);
    assert_eq!(exits(&rest), [(137, false)]);
    setup.finish(&["started 0", "exited 137 Restart", "finished 137 false"]);
    std::fs::remove_file(marker).unwrap();
}

#[test]
fn a_probe_on_demand_is_answered_and_one_in_flight_does_not_outlive_the_container() {
    let mut plan = probed_by("exit 0", HealthAction::None).unwrap();
    plan.interval = Duration::from_secs(3600);
    let mut one = setup("read x", Options { health: Some(plan), ..Options::default() });
    one.start();
    one.client.probe().unwrap();
    assert_eq!(one.next(), Event::Probed { well: true });
    one.client.write_stdin(b"\n").unwrap();
    collect(&mut one.client);
    one.finish(&["started 0", "exited 0 false", "finished 0 false"]);

    let mut hanging = setup("read x", Options { health: probed_by("exec sleep 1000", HealthAction::None), ..Options::default() });
    hanging.start();
    hanging.client.probe().unwrap();
    hanging.client.write_stdin(b"\n").unwrap();
    let (_, _, rest) = collect(&mut hanging.client);
    assert!(rest.iter().any(|event| matches!(event, Event::Failed { .. })), "{rest:?}");
    hanging.finish(&["started 0", "exited 0 false", "finished 0 false"]);

    let mut without = setup("read x", Options::default());
    without.start();
    without.client.probe().unwrap();
    assert!(matches!(without.next(), Event::Failed { .. }));
    without.client.write_stdin(b"\n").unwrap();
    collect(&mut without.client);
    without.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

#[test]
fn a_stop_cancels_a_pending_restart() {
    let mut setup = setup("exit 1", Options { pauses: vec![Duration::from_secs(3600)], ..Options::default() });
    setup.start();
    assert!(matches!(setup.next(), Event::Exited { restarting: true, .. }));
    let mut other = Client::connect(&setup.config.live_dir).unwrap();
    other.stop_requested(None).unwrap();
    let (_, _, rest) = collect(&mut setup.client);
    assert_eq!(exits(&rest), [(1, false)]);
    assert_eq!(exits(&collect(&mut other).2), [(1, false)]);
    setup.finish(&["started 0", "exited 1 false", "finished 1 false"]);
}

#[test]
fn a_stop_is_brought_to_its_end_when_the_client_is_killed() {
    let mut setup = setup("trap '' TERM; echo up; while :; do sleep 0.01; done", Options::default());
    setup.client.attach(true, false, false).unwrap();
    setup.start();
    assert_eq!(setup.next(), Event::Stdout(b"up\n".to_vec()));
    let mut other = Client::connect(&setup.config.live_dir).unwrap();
    other.stop_requested(Some(Duration::from_millis(50))).unwrap();
    drop(other);
    let (_, _, rest) = collect(&mut setup.client);
    assert_eq!(exits(&rest), [(137, false)]);
    setup.finish(&["started 0", "forsaken true", "exited 137 Stop", "finished 137 false"]);
}

#[test]
fn a_client_that_is_killed_in_a_restart_is_replaced_by_the_monitor() {
    for killed in [true, false] {
        let marker = std::env::temp_dir().join(format!("rcon-monitor-again-{}", crate::base::random_hex(8)));
        let script: &'static str = format!("rm {0} 2>/dev/null && exit 7; touch {0}; exec sleep 1000", marker.display()).leak();
        let mut setup = setup(script, Options { pauses: vec![Duration::ZERO], ..Options::default() });
        setup.start();
        while !marker.exists() {
            std::thread::yield_now();
        }
        let mut other = Client::connect(&setup.config.live_dir).unwrap();
        other.restart_requested(Some(Duration::ZERO)).unwrap();
        if killed {
            drop(other);
            let (_, _, rest) = collect(&mut setup.client);
            assert_eq!(exits(&rest), [(137, true), (7, false)]);
            setup.finish(&["started 0", "forsaken true", "exited 137 Restart", "started 1", "exited 7 false", "finished 7 false"]);
        } else {
            assert_eq!(exits(&collect(&mut other).2), [(137, false)]);
            collect(&mut setup.client);
            setup.finish(&["started 0", "exited 137 Stop", "finished 137 false"]);
            std::fs::remove_file(&marker).unwrap();
        }
    }
}

#[test]
fn the_container_outlives_its_creator_and_others_attach() {
    let mut setup = setup("read x; echo got $x", Options::default());
    setup.start();
    let mut other = Client::connect(&setup.config.live_dir).unwrap();
    // What a SIGKILL of the command does to its connection.
    let (spare, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut setup.client, Client::on(spare.into())));
    other.attach(true, true, true).unwrap();
    other.write_stdin(b"hi\n").unwrap();
    let (out, _, rest) = collect(&mut other);
    assert_eq!(out, b"got hi\n");
    assert_eq!(exits(&rest), [(0, false)]);
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

#[test]
fn an_abandoned_container_is_taken_down() {
    let mut abandoned = setup("sleep 1000", Options::default());
    assert!(matches!(abandoned.next(), Event::Created { .. }));
    abandoned.client.abandon().unwrap();
    assert_eq!(abandoned.next(), Event::Gone);
    abandoned.finish(&[]);

    let mut lost = setup("sleep 1000", Options::default());
    assert!(matches!(lost.next(), Event::Created { .. }));
    let (spare, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut lost.client, Client::on(spare.into())));
    lost.finish(&["finished 128 true"]);
}

#[test]
fn a_failed_creation_is_told() {
    let mut setup = setup("", Options { fails: true, ..Options::default() });
    assert_eq!(setup.next(), Event::Failed { kind: FailureKind::NotFound, message: "no such command".to_owned() });
    assert_eq!(setup.next(), Event::Gone);
    setup.finish(&[]);
}

#[test]
fn what_the_engine_cannot_connect_does_not_start() {
    let refusal = |after| Some((after, "no bridge".to_owned()));
    let mut first = setup("echo run", Options { refusal: refusal(0), ..Options::default() });
    assert_eq!(first.next(), Event::Failed { kind: FailureKind::Other, message: "no bridge".to_owned() });
    assert_eq!(first.next(), Event::Gone);
    first.finish(&[]);
    let pauses = vec![Duration::from_millis(5)];
    let mut again = setup("echo run; exit 7", Options { pauses, refusal: refusal(1), ..Options::default() });
    again.start();
    let (out, _, rest) = collect(&mut again.client);
    assert_eq!(out, b"run\n");
    assert_eq!(exits(&rest), [(7, true), (7, false)]);
    again.finish(&["started 0", "exited 7 false", "finished 7 true"]);
}

#[test]
fn a_slow_creator_loses_nothing_and_a_slow_attacher_is_dropped() {
    let mut setup = setup("head -c 5000000 /dev/zero; echo end >&2", Options::default());
    assert!(matches!(setup.next(), Event::Created { .. }));
    let mut slow = Client::connect(&setup.config.live_dir).unwrap();
    slow.attach(true, true, false).unwrap();
    setup.client.attach(true, true, false).unwrap();
    setup.client.start().unwrap();
    let (out, err, rest) = collect(&mut setup.client);
    assert_eq!(out.len(), 5_000_000);
    assert_eq!(err, b"end\n");
    assert_eq!(exits(&rest), [(0, false)]);
    let mut events = Vec::new();
    while let Ok(Some(event)) = slow.next(PATIENCE) {
        events.push(event);
    }
    assert!(matches!(events.last(), Some(Event::Failed { .. })));
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

#[test]
fn a_terminal_is_one_stream_with_a_size() {
    let mut setup = setup("read x; stty size; echo on stderr >&2", Options { tty: true, ..Options::default() });
    setup.start();
    setup.client.resize(123, 45).unwrap();
    setup.client.write_stdin(b"\n").unwrap();
    let (out, err, rest) = collect(&mut setup.client);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("45 123\r\n") && text.contains("on stderr\r\n"), "{text:?}");
    assert!(err.is_empty());
    assert_eq!(exits(&rest), [(0, false)]);
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

#[test]
fn configuration_and_descriptors_arrive_and_what_follows_is_kept() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let setup = setup("true", Options { fails: true, ..Options::default() });
    let null = std::fs::File::open("/dev/null").unwrap();
    let held: Vec<BorrowedFd<'_>> = (0..450).map(|_| null.as_fd()).collect();
    let mut creator = Peer::new(theirs.into(), true);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut client = Client::configure(ours.into(), &setup.config, Some(null.as_fd()), &held).unwrap();
            client.start().unwrap();
            client
        });
        let received = stage::receive(&mut creator).unwrap();
        assert!(received.netns.is_some());
        assert_eq!(received.held.len(), 450);
        let config: Config = serde_json::from_slice(&received.json).unwrap();
        assert_eq!(config.id, setup.config.id);
        let _client = sender.join().unwrap();
        creator.receive();
        assert_eq!(creator.request(), Some(frame::Request::Start));
    });
    setup.finish(&[]);
}

/// In place of those of before, for as long as the container lives and no longer.
#[test]
fn sockets_of_ports_that_come_later_are_held_until_the_end() {
    use std::io::Read;
    let mut setup = setup("read x", Options::default());
    setup.start();
    // The other end of each is closed when nobody holds it any more.
    let pairs = |count: usize| -> (Vec<UnixStream>, Vec<UnixStream>) { (0..count).map(|_| UnixStream::pair().unwrap()).unzip() };
    let is_held = |end: &mut UnixStream| {
        end.set_nonblocking(true).unwrap();
        end.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let (mut first, given) = pairs(450);
    setup.client.reserve(&given.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
    assert_eq!(setup.next(), Event::Reserved);
    drop(given);
    assert!(first.iter_mut().all(is_held));
    let (mut second, given) = pairs(1);
    let mut other = Client::connect(&setup.config.live_dir).unwrap();
    other.reserve(&[given[0].as_fd()]).unwrap();
    assert_eq!(other.next(PATIENCE).unwrap(), Some(Event::Reserved));
    drop(given);
    assert!(is_held(&mut second[0]) && !first.iter_mut().any(is_held));
    // One that announces more than it sends changes nothing.
    let frame = frame::Request::Ports(3).encode();
    rustix::net::send(other.fd(), &frame, rustix::net::SendFlags::empty()).unwrap();
    let Some(Event::Failed { message, .. }) = other.next(PATIENCE).unwrap() else { panic!("three of nothing were taken") };
    assert_eq!(message, "the monitor has got 0 of 3 sockets of published ports");
    assert!(is_held(&mut second[0]));
    setup.client.write_stdin(b"\n").unwrap();
    collect(&mut setup.client);
    assert!(!is_held(&mut second[0]));
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
}

/// What a monitor said before it left is heard, also by one that was still sending.
#[test]
fn a_request_that_is_not_taken_any_more_is_no_error() {
    let setup = setup("true", Options { fails: true, ..Options::default() });
    let null = std::fs::File::open("/dev/null").unwrap();
    for held in [0, 450] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut monitor = Peer::new(theirs.into(), false);
        let failed = Event::Failed { kind: FailureKind::Other, message: "no room".to_owned() };
        monitor.tell(&failed);
        drop(monitor);
        let mut client = Client::configure(ours.into(), &setup.config, None, &vec![null.as_fd(); held]).unwrap();
        client.attach(true, true, false).unwrap();
        client.start().unwrap();
        client.write_stdin(b"word").unwrap();
        assert_eq!(client.next(PATIENCE).unwrap(), Some(failed));
        assert!(matches!(client.next(PATIENCE), Err(Error::Lost)));
    }
    setup.finish(&[]);
}
