use std::os::unix::net::UnixListener;
use std::thread::{JoinHandle, spawn};

use super::super::message::tests::{answer, job_removed, path, refusal, variant};
use super::*;

/// A socket at which `script` speaks to whoever comes first.
pub struct Fake {
    folder: tempfile::TempDir,
    thread: JoinHandle<()>,
}

/// One connection, from its other side.
pub struct Served(UnixStream);

impl Fake {
    pub fn new(script: impl FnOnce(&mut Served) + Send + 'static) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("bus")).unwrap();
        let thread = spawn(move || {
            let mut served = Served(listener.accept().unwrap().0);
            script(&mut served);
            // What is silent stays there.
            let _ = served.0.read_to_end(&mut Vec::new());
        });
        Fake { folder, thread }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    /// Whether the script was content.
    pub fn end(self) {
        self.thread.join().unwrap();
    }
}

impl Served {
    pub fn say(&mut self, bytes: &[u8]) {
        // Whoever has heard enough may be gone.
        let _ = self.0.write_all(bytes);
    }

    fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn let_in(&mut self) {
        let uid = nix::unistd::geteuid().to_string();
        let digits: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.hear_line(), format!("\0AUTH EXTERNAL {digits}\r\n"));
        assert_eq!(self.hear_line(), "BEGIN\r\n");
        // Nothing more comes until it is let in.
        self.0.set_nonblocking(true).unwrap();
        let early = self.0.read(&mut [0]).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
        self.say(b"OK 0123456789abcdef0123456789abcdef\r\n");
    }

    /// A call's number, and the call.
    pub fn hear(&mut self) -> (u32, Message) {
        let mut fixed = [0; FIXED];
        self.0.read_exact(&mut fixed).unwrap();
        let mut whole = fixed.to_vec();
        whole.resize(message::length(&fixed).unwrap(), 0);
        self.0.read_exact(&mut whole[FIXED..]).unwrap();
        let serial = u32::from_le_bytes(fixed[8..12].try_into().unwrap());
        (serial, message::parse(&whole).unwrap())
    }

    /// Hears this call, and answers it.
    pub fn expect(&mut self, member: &str, sender: &str, body: &Body) -> Message {
        let (serial, call) = self.hear();
        assert_eq!(call.member, member);
        self.say(&answer(serial, sender, body));
        call
    }
}

type Script = fn(&mut Served);

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

const ASK: Call<'_> = Call {
    destination: "a.b",
    path: "/p",
    interface: "i.j",
    member: "Ask",
};

fn asked(peer: &Peer, patience: Duration) -> Result<String, BusError> {
    let answer = Bus::connect(peer, patience)?.call(&ASK, &Body::default().text("?"))?;
    let text = answer
        .arguments("v")
        .and_then(|mut value| value.variant_text());
    Ok(text.map_err(BusError::Nonsense)?.into())
}

#[test]
fn a_bus_is_greeted_and_systemd_is_not() {
    let bus = Fake::new(|served| {
        served.let_in();
        served.expect("Hello", DAEMON, &Body::default().text(":1.7"));
        let call = served.expect("Ask", ":1.1", &variant("yes"));
        assert_eq!(call.arguments("s").unwrap().text(), Ok("?"));
    });
    assert_eq!(asked(&Peer::Bus(bus.path()), LONG).unwrap(), "yes");
    bus.end();

    let systemd = Fake::new(|served| {
        served.let_in();
        served.expect("Ask", "", &variant("yes"));
    });
    assert_eq!(asked(&Peer::Systemd(systemd.path()), LONG).unwrap(), "yes");
    systemd.end();
}

#[test]
fn a_refusal_is_told_in_the_callees_words() {
    let fake = Fake::new(|served| {
        served.let_in();
        let (serial, _) = served.hear();
        served.say(&refusal(serial, "org.x.Denied", "not you"));
    });
    let refused = asked(&Peer::Systemd(fake.path()), LONG)
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "not you (org.x.Denied)");
    fake.end();
}

#[test]
fn a_caller_that_is_not_let_in_is_told() {
    let fake = Fake::new(|served| {
        served.hear_line();
        served.say(b"REJECTED EXTERNAL\r\n");
    });
    let refused = asked(&Peer::Systemd(fake.path()), LONG)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("REJECTED EXTERNAL"), "{refused}");
    fake.end();
}

#[test]
fn answers_that_are_none_are_refused() {
    let scripts: [(&str, Script); 5] = [
        ("an endless line", |served| served.say(&[b'x'; 4096])),
        ("no D-Bus message", |served| {
            served.let_in();
            served.say(&[0; 64]);
        }),
        ("too large", |served| {
            served.let_in();
            served.say(&[
                b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0,
            ]);
        }),
        ("does not fit its own lengths", |served| {
            served.let_in();
            let (serial, _) = served.hear();
            let mut bytes = answer(serial, ":1.1", &variant("yes"));
            bytes[20] ^= 0xff;
            bytes[12] ^= 1;
            served.say(&bytes);
        }),
        ("other arguments than expected", |served| {
            served.let_in();
            served.expect("Ask", ":1.1", &path("/not/a/variant"));
        }),
    ];
    for (expected, script) in scripts {
        let fake = Fake::new(script);
        let refused = asked(&Peer::Systemd(fake.path()), LONG)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
        fake.end();
    }
}

#[test]
fn a_connection_that_is_cut_is_told() {
    for cut in [0, 5, FIXED, FIXED + 9] {
        let fake = Fake::new(move |served| {
            served.let_in();
            let (serial, _) = served.hear();
            served.say(&answer(serial, ":1.1", &variant("yes"))[..cut]);
            served.0.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let cut = asked(&Peer::Systemd(fake.path()), LONG).unwrap_err();
        assert!(matches!(cut, BusError::Closed), "{cut}");
        fake.end();
    }
}

#[test]
fn a_peer_that_is_silent_or_busy_with_others_is_not_waited_for_for_ever() {
    let scripts: [Script; 3] = [
        |_| {},
        |served| {
            served.let_in();
            served.hear();
        },
        |served| {
            served.let_in();
            let signal = job_removed(":1.1", "/j/1", "other.scope", "done");
            while served.0.write_all(&signal).is_ok() {}
        },
    ];
    for script in scripts {
        let fake = Fake::new(script);
        let late = asked(&Peer::Systemd(fake.path()), SHORT).unwrap_err();
        assert_eq!(late.to_string(), "no answer within 100 ms");
        fake.end();
    }
}

/// connect(2) itself waits when nobody takes anybody in.
#[test]
fn a_listener_that_takes_nobody_in_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let listener = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    nix::sys::socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    let late = asked(&Peer::Systemd(path), SHORT).unwrap_err();
    assert!(matches!(late, BusError::Late(_)), "{late}");
    drop(first);
}

#[test]
fn nobody_at_all_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let absent = asked(&Peer::Systemd(folder.path().join("bus")), LONG).unwrap_err();
    assert!(matches!(absent, BusError::Absent(_)), "{absent}");
}

/// Anybody on a bus may send us a signal that looks like systemd's.
#[test]
fn only_systemd_ends_its_jobs() {
    let fake = Fake::new(|served| {
        served.let_in();
        served.say(&job_removed(":1.666", "/j/1", "a.scope", "done"));
        let (serial, _) = served.hear();
        served.say(&job_removed(":1.1", "/j/2", "a.scope", "done"));
        served.say(&answer(serial, ":1.1", &path("/j/1")));
        served.say(&job_removed(":1.1", "/j/1", "a.scope", "failed"));
    });
    let mut bus = Bus::connect(&Peer::Systemd(fake.path()), LONG).unwrap();
    let answer = bus.call(&ASK, &Body::default()).unwrap();
    let job = answer.arguments("o").unwrap().text().unwrap().to_owned();
    assert_eq!(bus.wait_for_job(&answer.sender, &job).unwrap(), "failed");
    drop(bus);
    fake.end();
}

#[test]
fn a_flood_of_ends_is_not_kept() {
    let fake = Fake::new(|served| {
        served.let_in();
        for number in 0..1000 {
            served.say(&job_removed(
                ":1.1",
                &format!("/j/{number}"),
                "a.scope",
                "done",
            ));
        }
        served.expect("Ask", ":1.1", &variant("yes"));
    });
    let mut bus = Bus::connect(&Peer::Systemd(fake.path()), LONG).unwrap();
    bus.call(&ASK, &Body::default()).unwrap();
    assert_eq!(bus.ended.len(), MOST_JOBS);
    drop(bus);
    fake.end();
}
