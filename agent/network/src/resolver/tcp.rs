//! Queries over TCP (RFC 7766): one at a time on each connection, few connections, for a short time. Nothing here waits:
//! the loop of `serve` says when a socket is ready.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::admissions::{Admissions, Standing};
use super::message::{number, set_number};
use super::share::greediest;
use super::step::{First, Second, failure, first, outward, resolvers, second, third};
use super::{Zone, is_client};

/// A socket or two each. One of who has the most gives way.
const MAX_CONVERSATIONS: usize = 16;
/// Of one container.
const MAX_PER_CLIENT: usize = 8;
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
    asked_as: [u8; 2],
    /// How many were asked for this query.
    tried: usize,
}

/// A query that waits for the supervisor's word.
struct Admission {
    id: u32,
    query: Vec<u8>,
    ttl_seconds: u32,
}

/// One client's connection.
struct Conversation {
    from: IpAddr,
    client: Side,
    asked: Option<Asked>,
    admission: Option<Admission>,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Conversations(Vec<Conversation>);

impl Conversations {
    /// Takes a client, or turns it away: beyond its share, and strangers.
    pub fn accept(&mut self, listener: &TcpListener, clients: Ipv4Net, zone: &Zone) {
        let Ok((stream, client)) = listener.accept() else {
            return;
        };
        let own = self.0.iter().filter(|c| c.from == client.ip()).count();
        let welcome = is_client(clients, client) && zone.knows(client.ip()) && own < MAX_PER_CLIENT;
        if !welcome || stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.0.len() >= MAX_CONVERSATIONS {
            let most = greediest(self.0.iter().map(|c| c.from));
            let oldest = self.0.iter().position(|c| Some(c.from) == most);
            oldest.map(|index| self.0.remove(index));
        }
        self.0.push(Conversation {
            from: client.ip(),
            client: Side::new(stream),
            asked: None,
            admission: None,
            until: Instant::now() + PATIENCE,
        });
    }

    /// One each, in their order.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|c| match (&c.asked, &c.admission) {
            (Some(asked), _) => asked.side.poll_fd(),
            // What the client says meanwhile waits; its end is seen.
            (None, Some(_)) => PollFd::new(&c.client.stream, PollFlags::empty()),
            (None, None) => c.client.poll_fd(),
        })
    }

    pub fn first_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|c| c.until).min()
    }

    /// Goes on with those that are ready or late, and drops the ones that ended. `ready` is in the order of `poll_fds`.
    pub fn go_on(&mut self, ready: &[bool], zone: &Zone, admissions: &mut Admissions) {
        let now = Instant::now();
        let mut ready = ready.iter();
        self.0.retain_mut(|conversation| {
            let ready = ready.next().copied().unwrap_or(false);
            let late = conversation.until <= now;
            match (ready, late) {
                (true, _) => conversation.go_on(zone, admissions).is_ok(),
                (false, true) => conversation.is_late(zone).is_ok(),
                (false, false) => true,
            }
        });
    }
}

impl Conversations {
    /// The supervisor's word.
    pub fn admitted(&mut self, id: u32, addresses: &[IpAddr]) {
        let is = |c: &mut Conversation| {
            let admission = c.admission.take_if(|admission| admission.id == id)?;
            let answer = third(&admission.query, admission.ttl_seconds, addresses);
            c.answer(&answer).ok()
        };
        self.0.iter_mut().find_map(is);
    }
}

impl Conversation {
    fn go_on(&mut self, zone: &Zone, admissions: &mut Admissions) -> io::Result<()> {
        if let Some(asked) = &mut self.asked {
            match asked.side.go_on() {
                Ok(None) => return Ok(()),
                Ok(Some(mut answer)) if number(&answer) == Some(asked.asked_as) => {
                    set_number(&mut answer, number(&asked.query).unwrap_or_default());
                    let query = std::mem::take(&mut asked.query);
                    self.asked = None;
                    return self.answered(query, &answer, zone, admissions);
                }
                Ok(Some(_)) | Err(_) => return self.is_late(zone),
            }
        }
        if self.admission.is_some() {
            // Ready without being asked for anything: the connection is gone.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let Some(query) = self.client.go_on()? else {
            return Ok(());
        };
        match first(zone, self.from, &query) {
            First::Answer(answer) => self.answer(&answer),
            First::Forbidden(answer, name) => {
                admissions.forbidden(self.from, name);
                self.answer(&answer)
            }
            First::NotOurs if admissions.shares.take(self.from, Instant::now()) => {
                self.ask(query, 0, zone)
            }
            First::NotOurs => self.fail(&query),
            First::Nonsense => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn answered(
        &mut self,
        query: Vec<u8>,
        answer: &[u8],
        zone: &Zone,
        admissions: &mut Admissions,
    ) -> io::Result<()> {
        match second(zone, self.from, &query, answer) {
            Second::Pass => self.answer(answer),
            Second::Answer(own) => self.answer(&own),
            Second::Admission(found) => {
                self.until = Instant::now() + PATIENCE;
                let ttl_seconds = found.ttl_seconds;
                match admissions.ask(self.from, found) {
                    Standing::Refused => self.fail(&query),
                    Standing::Told(addresses) => {
                        let answer = third(&query, ttl_seconds, &addresses);
                        self.answer(&answer)
                    }
                    Standing::Asked(id) => {
                        self.admission = Some(Admission {
                            id,
                            query,
                            ttl_seconds,
                        });
                        Ok(())
                    }
                }
            }
        }
    }

    fn fail(&mut self, query: &[u8]) -> io::Result<()> {
        let failure = failure(query).ok_or(io::ErrorKind::InvalidData)?;
        self.answer(&failure)
    }

    /// The next resolver is asked; a client that does not go on is left.
    fn is_late(&mut self, zone: &Zone) -> io::Result<()> {
        match (self.asked.take(), self.admission.take()) {
            (Some(asked), _) => self.ask(asked.query, asked.tried, zone),
            (None, Some(admission)) => self.fail(&admission.query),
            (None, None) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn ask(&mut self, query: Vec<u8>, tried: usize, zone: &Zone) -> io::Result<()> {
        self.until = Instant::now() + PATIENCE;
        for (index, resolver) in resolvers(zone, self.from).iter().enumerate().skip(tried) {
            let Ok(stream) = begin_to_connect(*resolver) else {
                continue;
            };
            let mut side = Side::new(stream);
            let (asked_as, message) = outward(zone, self.from, &query)?;
            side.send(&message)?;
            self.asked = Some(Asked {
                side,
                query,
                asked_as,
                tried: index + 1,
            });
            return Ok(());
        }
        self.fail(&query)
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
