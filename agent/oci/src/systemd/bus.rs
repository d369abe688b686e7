//! A connection to D-Bus, or to systemd itself, for a few calls one after another, all before one deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{self, Body, Call, FIXED, Message};

/// An answer to `AUTH` is a word and a number of 32 digits.
const LONGEST_LINE: usize = 1024;

/// Ends of jobs that are kept while something else is waited for.
const MOST_JOBS: usize = 16;

/// Who answers at a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A bus, with systemd behind one of its names.
    Bus(PathBuf),
    /// systemd, and nobody else.
    Systemd(PathBuf),
}

impl Peer {
    pub fn path(&self) -> &Path {
        match self {
            Peer::Bus(path) | Peer::Systemd(path) => path,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("nobody listens: {0}")]
    Absent(std::io::Error),
    #[error("no answer within {}", shown(*.0))]
    Late(Duration),
    #[error("the connection was closed")]
    Closed,
    #[error("root is not let in: {0:?}")]
    Rejected(String),
    #[error("it sent {0}")]
    Nonsense(&'static str),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What the callee says.
    #[error("{text} ({name})")]
    Refused { name: String, text: String },
}

fn shown(patience: Duration) -> String {
    match patience.as_secs() {
        0 => format!("{} ms", patience.as_millis()),
        seconds => format!("{seconds} s"),
    }
}

/// The end of a job of systemd's.
#[derive(Debug)]
struct Ended {
    sender: String,
    job: String,
    result: String,
}

#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    patience: Duration,
    deadline: Instant,
    ended: Vec<Ended>,
}

/// To whom the bus itself listens.
const DAEMON: &str = "org.freedesktop.DBus";

impl Bus {
    /// All that is done with it is done within `patience`.
    pub fn connect(peer: &Peer, patience: Duration) -> Result<Bus, BusError> {
        let mut bus = Bus {
            stream: open(peer.path(), patience)?,
            serial: 0,
            patience,
            deadline: Instant::now() + patience,
            ended: Vec::new(),
        };
        bus.authenticate()?;
        if let Peer::Bus(_) = peer {
            let daemon = Call {
                destination: DAEMON,
                path: "/org/freedesktop/DBus",
                interface: DAEMON,
                member: "Hello",
            };
            bus.call(&daemon, &Body::default())?;
        }
        Ok(bus)
    }

    /// Asks a bus for the signals of a kind; systemd sends them to its own peers without.
    pub fn subscribe(&mut self, rule: &str) -> Result<(), BusError> {
        let daemon = Call {
            destination: DAEMON,
            path: "/org/freedesktop/DBus",
            interface: DAEMON,
            member: "AddMatch",
        };
        self.call(&daemon, &Body::default().text(rule)).map(drop)
    }

    /// Waits for the answer.
    pub fn call(&mut self, to: &Call<'_>, body: &Body) -> Result<Message, BusError> {
        self.serial += 1;
        let serial = self.serial;
        self.write(&message::call(serial, to, body))?;
        loop {
            let message = self.next()?;
            match message.kind {
                message::METHOD_RETURN if message.answers == Some(serial) => return Ok(message),
                message::ERROR if message.answers == Some(serial) => {
                    return Err(BusError::Refused {
                        name: message.error.clone(),
                        text: message.explanation().into(),
                    });
                }
                _ => self.note_job(&message)?,
            }
        }
    }

    /// Waits until `sender` says that the job is done; how it ended.
    pub fn wait_for_job(&mut self, sender: &str, job: &str) -> Result<String, BusError> {
        loop {
            // Others may send us signals too.
            let found = self
                .ended
                .iter()
                .find(|ended| ended.sender == sender && ended.job == job);
            if let Some(ended) = found {
                return Ok(ended.result.clone());
            }
            let message = self.next()?;
            self.note_job(&message)?;
        }
    }

    /// A job may end before the call that made it is answered.
    fn note_job(&mut self, message: &Message) -> Result<(), BusError> {
        let is_end = message.kind == message::SIGNAL
            && message.interface == super::units::MANAGER
            && message.member == "JobRemoved";
        if !is_end {
            return Ok(());
        }
        let mut arguments = message.arguments("uoss").map_err(BusError::Nonsense)?;
        let mut read = || -> Result<Ended, &'static str> {
            arguments.u32()?;
            let job = arguments.text()?.into();
            arguments.text()?;
            Ok(Ended {
                sender: message.sender.clone(),
                job,
                result: arguments.text()?.into(),
            })
        };
        let ended = read().map_err(BusError::Nonsense)?;
        if self.ended.len() == MOST_JOBS {
            self.ended.remove(0);
        }
        self.ended.push(ended);
        Ok(())
    }

    /// SASL's EXTERNAL (D-Bus specification, "Authentication Protocol"): the kernel tells the other side who we are.
    fn authenticate(&mut self) -> Result<(), BusError> {
        let uid = nix::unistd::geteuid().to_string();
        let digits: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        // Both lines at once, and nothing more before the answer: systemd (252) leaves what comes with BEGIN in its buffer
        // until something else comes.
        self.write(format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() == LONGEST_LINE {
                return Err(BusError::Nonsense("an endless line"));
            }
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            return Err(BusError::Rejected(line));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Message, BusError> {
        let mut fixed = [0; FIXED];
        self.fill(&mut fixed)?;
        let mut whole = fixed.to_vec();
        whole.resize(message::length(&fixed).map_err(BusError::Nonsense)?, 0);
        self.fill(&mut whole[FIXED..])?;
        message::parse(&whole).map_err(BusError::Nonsense)
    }

    fn fill(&mut self, mut room: &mut [u8]) -> Result<(), BusError> {
        while !room.is_empty() {
            self.stream.set_read_timeout(Some(self.time_left()?))?;
            match self.stream.read(room) {
                Ok(0) => return Err(BusError::Closed),
                Ok(count) => room = &mut room[count..],
                Err(error) => self.unless_it_can_wait(error)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), BusError> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.time_left()?))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => self.unless_it_can_wait(error)?,
            }
        }
        Ok(())
    }

    fn unless_it_can_wait(&self, error: std::io::Error) -> Result<(), BusError> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Err(BusError::Closed),
            _ => Err(error.into()),
        }
    }

    /// Never nothing, which would be for ever.
    fn time_left(&self) -> Result<Duration, BusError> {
        match self.deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(BusError::Late(self.patience)),
        }
    }
}

/// std's connect waits for ever where a listener takes nobody in.
fn open(path: &Path, patience: Duration) -> Result<UnixStream, BusError> {
    let io = |errno: nix::Error| BusError::Io(errno.into());
    let address = UnixAddr::new(path).map_err(io)?;
    let (family, kind, flags) = (
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
    );
    let socket = socket(family, kind, flags, None).map_err(io)?;
    let millis = i64::try_from(patience.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(millis)).map_err(io)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(socket.into()),
        Err(nix::Error::EAGAIN) => Err(BusError::Late(patience)),
        Err(errno) => Err(BusError::Absent(errno.into())),
    }
}

#[cfg(test)]
pub mod tests;
