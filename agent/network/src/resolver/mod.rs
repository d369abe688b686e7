//! Names on one network: containers find each other by name and alias, everything else is asked of the board's resolvers.
//!
//! For a process of its own, without privileges: it is given sockets that are bound already and a stream on which the
//! supervisor tells it what it knows. It ends when that stream does, so none outlives a killed supervisor.
//! Everything is bounded: queries on their way, connections, sizes and times.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::rand::{GetRandomFlags, getrandom};

use message::{MAX_UDP, Question, SERVER_FAILURE, is_response, number, set_number};

mod message;
mod tcp;
#[cfg(test)]
mod tests;
mod zone;

pub use zone::Zone;

/// Queries that wait for another resolver; the oldest gives way. A socket each.
const MAX_WAITING: usize = 128;
/// How long one resolver may take before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A zone's JSON: far more than a board's containers need.
const MAX_ZONE_BYTES: usize = 256 * 1024;
const DNS: u16 = 53;

type Shared = Arc<RwLock<Zone>>;

/// A query that another resolver has.
struct Waiting {
    socket: UdpSocket,
    client: SocketAddr,
    query: Vec<u8>,
    asked_as: [u8; 2],
    /// How many resolvers were asked.
    tried: usize,
    until: Instant,
}

/// Answers queries of the network's containers until `control` ends.
///
/// # Errors
/// When a socket or `control` is broken, or `control` says something that is no zone.
pub fn serve(
    clients: Ipv4Net,
    udp: UdpSocket,
    tcp: TcpListener,
    control: UnixStream,
) -> io::Result<()> {
    for nonblocking in [
        udp.set_nonblocking(true),
        tcp.set_nonblocking(true),
        control.set_nonblocking(true),
    ] {
        nonblocking?;
    }
    let mut resolver = Resolver {
        clients,
        udp,
        zone: Shared::default(),
        waiting: VecDeque::new(),
    };
    let mut conversations = tcp::Conversations::default();
    let mut told = Vec::new();
    loop {
        resolver.give_up_late();
        let ready = resolver.wait(&tcp, &control, &conversations)?;
        if ready.control && !hear(&control, &mut told, &resolver.zone)? {
            return Ok(());
        }
        for index in ready.answered.into_iter().rev() {
            resolver.pass_back(index);
        }
        if ready.udp {
            resolver.take_queries();
        }
        conversations.go_on(&ready.conversations, &resolver.zone);
        if ready.tcp {
            conversations.accept(&tcp, clients);
        }
    }
}

/// Takes what the supervisor says; false at the end.
fn hear(mut control: &UnixStream, told: &mut Vec<u8>, zone: &Shared) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match control.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => told.extend(&buffer[..length]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if told.len() > MAX_ZONE_BYTES {
            return Err(io::Error::other("a zone of too many bytes"));
        }
        while let Some(end) = told.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = told.drain(..=end).collect();
            let new = serde_json::from_slice(&line).map_err(io::Error::other)?;
            *zone.write().unwrap_or_else(|e| e.into_inner()) = new;
        }
    }
    Ok(true)
}

/// What `poll` found.
struct Ready {
    control: bool,
    udp: bool,
    tcp: bool,
    /// Positions in `waiting`, ascending.
    answered: Vec<usize>,
    conversations: Vec<bool>,
}

struct Resolver {
    clients: Ipv4Net,
    udp: UdpSocket,
    zone: Shared,
    waiting: VecDeque<Waiting>,
}

impl Resolver {
    fn wait(
        &self,
        tcp: &TcpListener,
        control: &UnixStream,
        conversations: &tcp::Conversations,
    ) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(control, PollFlags::IN),
            PollFd::new(&self.udp, PollFlags::IN),
            PollFd::new(tcp, PollFlags::IN),
        ];
        let sockets = self.waiting.iter();
        fds.extend(sockets.map(|w| PollFd::new(&w.socket, PollFlags::IN)));
        fds.extend(conversations.poll_fds());
        let deadlines = self.waiting.iter().map(|w| w.until);
        let first = deadlines.chain(conversations.first_deadline()).min();
        // Without queries on their way nothing wakes this process but a client.
        let timeout = first.and_then(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left + Duration::from_millis(1)).ok()
        });
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => fds.iter_mut().for_each(|fd| fd.clear_revents()),
            Err(e) => return Err(e.into()),
            Ok(_) => {}
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let answered = (0..self.waiting.len()).filter(|i| ready[3 + i]).collect();
        Ok(Ready {
            control: ready[0],
            udp: ready[1],
            tcp: ready[2],
            answered,
            conversations: ready[3 + self.waiting.len()..].to_vec(),
        })
    }

    fn take_queries(&mut self) {
        let mut buffer = [0; MAX_UDP];
        // A flood does not keep the answers waiting.
        for _ in 0..MAX_WAITING {
            let Ok((length, client)) = self.udp.recv_from(&mut buffer) else {
                return;
            };
            if !is_client(self.clients, client) {
                continue;
            }
            let query = &buffer[..length];
            match own_answer(&self.zone, client.ip(), query) {
                Own::Answer(answer) => {
                    let _ = self.udp.send_to(&answer, client);
                }
                Own::NotOurs => self.forward(client, query.to_vec(), 0),
                Own::Nonsense => {}
            }
        }
    }

    /// Asks the next resolver that can be asked; says so to the client when there is none.
    fn forward(&mut self, client: SocketAddr, query: Vec<u8>, tried: usize) {
        let resolvers = resolvers(&self.zone, client.ip());
        for (index, resolver) in resolvers.iter().enumerate().skip(tried) {
            let Ok((socket, asked_as)) = self.ask(*resolver, &query) else {
                continue;
            };
            if self.waiting.len() >= MAX_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting {
                socket,
                client,
                query,
                asked_as,
                tried: index + 1,
                until: Instant::now() + PATIENCE,
            });
            return;
        }
        if let Some(question) = Question::read(&query) {
            let failure = question.failure(&query, SERVER_FAILURE);
            let _ = self.udp.send_to(&failure, client);
        }
    }

    /// A port and a number of its own for each query, so that answers are hard to forge (RFC 5452).
    fn ask(&mut self, resolver: SocketAddr, query: &[u8]) -> io::Result<(UdpSocket, [u8; 2])> {
        let own: IpAddr = match resolver {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((own, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(resolver)?;
        let mut asked_as = [0; 2];
        getrandom(&mut asked_as, GetRandomFlags::empty())?;
        let mut query = query.to_vec();
        set_number(&mut query, asked_as);
        socket.send(&query)?;
        Ok((socket, asked_as))
    }

    fn pass_back(&mut self, index: usize) {
        let Some(waiting) = self.waiting.get(index) else {
            return;
        };
        let mut buffer = [0; MAX_UDP];
        let Ok(length) = waiting.socket.recv(&mut buffer) else {
            // Refused: nobody listens there. The next one is asked.
            if let Some(waiting) = self.waiting.remove(index) {
                self.forward(waiting.client, waiting.query, waiting.tried);
            }
            return;
        };
        let answer = &mut buffer[..length];
        if !is_response(answer) || number(answer) != Some(waiting.asked_as) {
            return;
        }
        set_number(answer, number(&waiting.query).unwrap_or_default());
        let _ = self.udp.send_to(answer, waiting.client);
        self.waiting.remove(index);
    }

    fn give_up_late(&mut self) {
        let now = Instant::now();
        while let Some(index) = self.waiting.iter().position(|w| w.until <= now)
            && let Some(late) = self.waiting.remove(index)
        {
            self.forward(late.client, late.query, late.tried);
        }
    }
}

/// What we say to a query ourselves.
enum Own {
    Answer(Vec<u8>),
    NotOurs,
    Nonsense,
}

fn own_answer(zone: &Shared, client: IpAddr, query: &[u8]) -> Own {
    let Some(question) = Question::read(query) else {
        return Own::Nonsense;
    };
    let zone = zone.read().unwrap_or_else(|e| e.into_inner());
    match zone.addresses(client, &question.name) {
        Some(addresses) => Own::Answer(question.answer(query, &addresses)),
        None => Own::NotOurs,
    }
}

fn resolvers(zone: &Shared, client: IpAddr) -> Vec<SocketAddr> {
    let zone = zone.read().unwrap_or_else(|e| e.into_inner());
    let all = zone.resolvers(client).iter();
    all.map(|ip| SocketAddr::new(*ip, DNS)).collect()
}

/// Nobody else is answered: the gateway's address can be reached by others too.
fn is_client(clients: Ipv4Net, from: SocketAddr) -> bool {
    matches!(from.ip(), IpAddr::V4(ip) if clients.contains(&ip))
}
