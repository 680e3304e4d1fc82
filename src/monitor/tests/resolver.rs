//! The loop drives a resolver: from the first run to the last, between its own work, by plans that come later, too.
use super::*;
use rustix::event::PollFlags;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Instant;

/// Sends back what it gets, and once more when a deadline has passed. Its plan is the directory of its socket.
struct Echo {
    directory: PathBuf,
    socket: Option<UnixDatagram>,
    again: Option<(Instant, Vec<u8>)>,
}

pub(super) fn make(plan: &[u8]) -> Result<Box<dyn Resolver>, String> {
    Ok(Box::new(Echo { directory: parse(plan)?, socket: None, again: None }))
}

fn parse(plan: &[u8]) -> Result<PathBuf, String> {
    serde_json::from_slice(plan).map_err(|_| "no plan".to_owned())
}

impl Echo {
    fn send(&self, data: &[u8]) {
        let client = self.directory.join("client");
        self.socket.as_ref().unwrap().send_to(data, client).unwrap();
    }
}

impl Resolver for Echo {
    fn follow(&mut self, plan: &[u8]) -> Result<(), String> {
        self.directory = parse(plan)?;
        self.socket = None;
        Ok(())
    }
    fn enter(&mut self, pid: i32) -> Result<(), String> {
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        if self.directory.ends_with("refused") {
            return Err("not there".to_owned());
        }
        if self.socket.is_none() {
            let socket = UnixDatagram::bind(self.directory.join("server")).map_err(|error| error.to_string())?;
            socket.set_nonblocking(true).unwrap();
            self.socket = Some(socket);
        }
        Ok(())
    }
    fn leave(&mut self) {
        self.socket = None;
    }
    fn sources<'a>(&'a self, add: &mut dyn FnMut(u64, BorrowedFd<'a>, PollFlags)) {
        if let Some(socket) = &self.socket {
            add(7, socket.as_fd(), PollFlags::IN);
        }
    }
    fn deadline(&self) -> Option<Instant> {
        self.again.as_ref().map(|(at, _)| *at)
    }
    fn ready(&mut self, token: u64) {
        assert_eq!(token, 7);
        let mut buffer = [0; 16];
        let length = self.socket.as_ref().unwrap().recv(&mut buffer).unwrap();
        self.send(&buffer[..length]);
        self.again = Some((Instant::now() + Duration::from_millis(30), buffer[..length].to_vec()));
    }
    fn expire(&mut self) {
        let (at, data) = self.again.take().unwrap();
        assert!(at <= Instant::now());
        self.send(&data);
    }
}

/// A directory for sockets, and the client's.
fn place(base: &Path, name: &str) -> (PathBuf, UnixDatagram) {
    let directory = base.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let client = UnixDatagram::bind(directory.join("client")).unwrap();
    client.set_read_timeout(PATIENCE).unwrap();
    (directory, client)
}

fn ask(client: &UnixDatagram, directory: &Path, text: &str) {
    client.send_to(text.as_bytes(), directory.join("server")).unwrap();
    let mut buffer = [0; 16];
    for _ in 0..2 {
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], text.as_bytes());
    }
}

#[test]
fn it_answers_from_the_start_and_over_a_restart_and_by_a_later_plan() {
    let base = std::env::temp_dir().join(format!("rcon-echo-{}", crate::base::random_hex(8)));
    let (first, client) = place(&base, "first");
    let options = Options { resolver: Some(first.clone()), pauses: vec![Duration::from_millis(300)], ..Options::default() };
    let mut setup = setup("read x; exit 1", options);
    assert!(matches!(setup.next(), Event::Created { .. }));
    ask(&client, &first, "gate");
    setup.client.attach(false, false, true).unwrap();
    setup.client.start().unwrap();
    assert!(matches!(setup.next(), Event::Started { .. }));
    ask(&client, &first, "runs");
    setup.client.write_stdin(b"\n").unwrap();
    assert!(matches!(setup.next(), Event::Exited { restarting: true, .. }));
    ask(&client, &first, "between");
    assert!(matches!(setup.next(), Event::Started { .. }));

    let (second, other) = place(&base, "second");
    setup.client.resolve(&serde_json::json!(second)).unwrap();
    assert_eq!(setup.next(), Event::Resolving);
    ask(&other, &second, "second");
    for (plan, message) in [(serde_json::json!(1), "no plan"), (serde_json::json!(base.join("refused")), "not there")] {
        setup.client.resolve(&plan).unwrap();
        assert_eq!(setup.next(), Event::Failed { kind: FailureKind::Other, message: message.to_owned() });
    }
    setup.client.write_stdin(b"\n").unwrap();
    collect(&mut setup.client);
    setup.finish(&["started 0", "exited 1 false", "started 1", "exited 1 false", "finished 1 false"]);
    std::fs::remove_dir_all(&base).unwrap();
}

#[test]
fn a_container_without_one_gets_one_later() {
    let base = std::env::temp_dir().join(format!("rcon-echo-{}", crate::base::random_hex(8)));
    let (directory, client) = place(&base, "late");
    let mut setup = setup("read x", Options::default());
    setup.start();
    setup.client.resolve(&serde_json::json!(directory)).unwrap();
    assert_eq!(setup.next(), Event::Resolving);
    ask(&client, &directory, "late");
    setup.client.write_stdin(b"\n").unwrap();
    collect(&mut setup.client);
    setup.finish(&["started 0", "exited 0 false", "finished 0 false"]);
    std::fs::remove_dir_all(&base).unwrap();
}

#[test]
fn where_it_cannot_answer_the_container_does_not_start() {
    let options = Options { resolver: Some("/refused".into()), ..Options::default() };
    let mut setup = setup("true", options);
    assert_eq!(setup.next(), Event::Failed { kind: FailureKind::Other, message: "not there".to_owned() });
    assert_eq!(setup.next(), Event::Gone);
    setup.finish(&[]);
}
