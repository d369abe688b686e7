//! Queries over TCP (RFC 7766): one at a time on each connection, few connections, for a short time. Nothing here waits:
//! the loop of `serve` says when a socket is ready.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::message::{Question, SERVER_FAILURE};
use super::{Own, Shared, is_client, own_answer, resolvers};

/// A socket or two each.
const MAX_CONVERSATIONS: usize = 16;
/// For a query to come whole, a resolver to answer, an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes on their way, one side of a connection.
struct Side {
    stream: TcpStream,
    coming: Vec<u8>,
    going: Vec<u8>,
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            coming: Vec::new(),
            going: Vec::new(),
        }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let what = match self.going.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::OUT,
        };
        PollFd::new(&self.stream, what)
    }

    /// RFC 1035 4.2.2: two bytes of length, and the message.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        self.going.extend(length.to_be_bytes());
        self.going.extend(message);
        Ok(())
    }

    /// Writes what goes; reads when nothing does. A whole message, once it is there.
    fn go_on(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.going.is_empty() {
            match self.stream.write(&self.going) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.going.drain(..written)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        loop {
            let wanted = match *self.coming.as_slice() {
                [a, b, ..] => 2 + usize::from(u16::from_be_bytes([a, b])),
                _ => 2,
            };
            if wanted > 2 && self.coming.len() == wanted {
                return Ok(Some(std::mem::take(&mut self.coming).split_off(2)));
            }
            let mut buffer = [0; 2048];
            let room = (wanted - self.coming.len()).min(buffer.len());
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.coming.extend(&buffer[..length]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

/// A resolver that has been asked.
struct Asked {
    side: Side,
    query: Vec<u8>,
    /// How many were asked for this query.
    tried: usize,
}

/// One client's connection.
struct Conversation {
    from: IpAddr,
    client: Side,
    asked: Option<Asked>,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Conversations(Vec<Conversation>);

impl Conversations {
    /// Takes a client, or turns it away: beyond the bound, and strangers.
    pub fn accept(&mut self, listener: &TcpListener, clients: Ipv4Net) {
        let Ok((stream, client)) = listener.accept() else {
            return;
        };
        let welcome = is_client(clients, client) && self.0.len() < MAX_CONVERSATIONS;
        if !welcome || stream.set_nonblocking(true).is_err() {
            return;
        }
        self.0.push(Conversation {
            from: client.ip(),
            client: Side::new(stream),
            asked: None,
            until: Instant::now() + PATIENCE,
        });
    }

    /// One each, in their order.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|c| match &c.asked {
            Some(asked) => asked.side.poll_fd(),
            None => c.client.poll_fd(),
        })
    }

    pub fn first_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|c| c.until).min()
    }

    /// Goes on with those that are ready or late, and drops the ones that ended. `ready` is in the order of `poll_fds`.
    pub fn go_on(&mut self, ready: &[bool], zone: &Shared) {
        let now = Instant::now();
        let mut ready = ready.iter();
        self.0.retain_mut(|conversation| {
            let ready = ready.next().copied().unwrap_or(false);
            let late = conversation.until <= now;
            match (ready, late) {
                (true, _) => conversation.go_on(zone).is_ok(),
                (false, true) => conversation.is_late(zone).is_ok(),
                (false, false) => true,
            }
        });
    }
}

impl Conversation {
    fn go_on(&mut self, zone: &Shared) -> io::Result<()> {
        if let Some(asked) = &mut self.asked {
            match asked.side.go_on() {
                Ok(None) => return Ok(()),
                Ok(Some(answer)) if answer.get(..2) == asked.query.get(..2) => {
                    self.asked = None;
                    return self.answer(&answer);
                }
                Ok(Some(_)) | Err(_) => return self.is_late(zone),
            }
        }
        let Some(query) = self.client.go_on()? else {
            return Ok(());
        };
        match own_answer(zone, self.from, &query) {
            Own::Answer(answer) => self.answer(&answer),
            Own::NotOurs => self.ask(query, 0, zone),
            Own::Nonsense => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The next resolver is asked; a client that does not go on is left.
    fn is_late(&mut self, zone: &Shared) -> io::Result<()> {
        match self.asked.take() {
            Some(asked) => self.ask(asked.query, asked.tried, zone),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn ask(&mut self, query: Vec<u8>, tried: usize, zone: &Shared) -> io::Result<()> {
        self.until = Instant::now() + PATIENCE;
        for (index, resolver) in resolvers(zone, self.from).iter().enumerate().skip(tried) {
            let Ok(stream) = begin_to_connect(*resolver) else {
                continue;
            };
            let mut side = Side::new(stream);
            side.send(&query)?;
            self.asked = Some(Asked {
                side,
                query,
                tried: index + 1,
            });
            return Ok(());
        }
        let question = Question::read(&query).ok_or(io::ErrorKind::InvalidData)?;
        self.answer(&question.failure(&query, SERVER_FAILURE))
    }

    fn answer(&mut self, answer: &[u8]) -> io::Result<()> {
        self.until = Instant::now() + PATIENCE;
        self.client.send(answer)
    }
}

/// The connection is there, or it has failed, when the socket becomes writable.
fn begin_to_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(e) => Err(e.into()),
    }
}
