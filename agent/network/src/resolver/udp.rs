//! Queries over UDP: those that another resolver has, and those that wait for the supervisor.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use rustix::event::{PollFd, PollFlags};

use super::admissions::{Admissions, Standing};
use super::message::{MAX_UDP, is_response, number, set_number};
use super::share::greediest;
use super::step::{First, Second, failure, first, outward, resolvers, second, third};
use super::{Zone, is_client};

/// Queries that wait; a socket each. The oldest of who has the most gives way.
pub(super) const MAX_WAITING: usize = 128;
/// Queries that are taken at a time: a flood does not keep the answers waiting.
const MAX_TAKEN: usize = 512;
/// Queries of containers that the resolver has not been told of yet.
const MAX_UNKNOWN: usize = 16;
/// How long one resolver, or the supervisor, may take.
const PATIENCE: Duration = Duration::from_millis(1500);

struct Waiting {
    client: SocketAddr,
    query: Vec<u8>,
    until: Instant,
    on: On,
}

enum On {
    /// Another resolver.
    Resolver {
        socket: UdpSocket,
        asked_as: [u8; 2],
        /// How many were asked.
        tried: usize,
    },
    /// The supervisor.
    Admission { id: u32, ttl_seconds: u32 },
    /// The supervisor too, for word of who this is.
    Zone,
}

pub(super) struct Queries {
    clients: Ipv4Net,
    socket: UdpSocket,
    waiting: VecDeque<Waiting>,
}

impl Queries {
    pub fn new(clients: Ipv4Net, socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            clients,
            socket,
            waiting: VecDeque::new(),
        })
    }

    /// The one that clients send to, then those that wait for another resolver.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let own = PollFd::new(&self.socket, PollFlags::IN);
        let others = self.waiting.iter().filter_map(|waiting| match &waiting.on {
            On::Resolver { socket, .. } => Some(PollFd::new(socket, PollFlags::IN)),
            On::Admission { .. } | On::Zone => None,
        });
        [own].into_iter().chain(others)
    }

    pub fn first_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Goes on with what is ready, in the order of `poll_fds`.
    pub fn go_on(&mut self, ready: &[bool], zone: &Zone, admissions: &mut Admissions) {
        let asked = self.waiting.iter().enumerate();
        let asked: Vec<usize> = asked
            .filter(|(_, waiting)| matches!(waiting.on, On::Resolver { .. }))
            .map(|(index, _)| index)
            .collect();
        let others = asked.iter().zip(ready.iter().skip(1)).rev();
        for (index, _) in others.filter(|(_, ready)| **ready) {
            self.take_answer(*index, zone, admissions);
        }
        if ready.first().copied().unwrap_or(false) {
            self.take_queries(zone, admissions);
        }
        self.give_up_late(zone);
    }

    fn take_queries(&mut self, zone: &Zone, admissions: &mut Admissions) {
        let mut buffer = [0; MAX_UDP];
        for _ in 0..MAX_TAKEN {
            let Ok((length, client)) = self.socket.recv_from(&mut buffer) else {
                return;
            };
            if is_client(self.clients, client) {
                self.take(client, &buffer[..length], zone, admissions);
            }
        }
    }

    fn take(&mut self, client: SocketAddr, query: &[u8], zone: &Zone, admissions: &mut Admissions) {
        if !zone.knows(client.ip()) {
            // It has just been started; or it lies about its address.
            return self.wait(client, query.to_vec(), On::Zone);
        }
        match first(zone, client.ip(), query) {
            First::Answer(answer) => self.send(client, &answer),
            First::Forbidden(answer, name) => {
                admissions.forbidden(client.ip(), name);
                self.send(client, &answer);
            }
            First::NotOurs if admissions.shares.take(client.ip(), Instant::now()) => {
                self.forward(client, query.to_vec(), 0, zone);
            }
            First::NotOurs | First::Nonsense => {}
        }
    }

    fn wait(&mut self, client: SocketAddr, query: Vec<u8>, on: On) {
        let unknown = |waiting: &Waiting| matches!(waiting.on, On::Zone);
        let leaves = if matches!(on, On::Zone) {
            let all = self.waiting.iter().filter(|w| unknown(w)).count();
            let oldest = self.waiting.iter().position(unknown);
            oldest.filter(|_| all >= MAX_UNKNOWN)
        } else if self.waiting.len() >= MAX_WAITING {
            let most = greediest(self.waiting.iter().map(|w| w.client.ip()));
            self.waiting
                .iter()
                .position(|w| Some(w.client.ip()) == most)
        } else {
            None
        };
        if let Some(index) = leaves {
            self.waiting.remove(index);
        }
        self.waiting.push_back(Waiting {
            client,
            query,
            until: Instant::now() + PATIENCE,
            on,
        });
    }

    /// Asks the next resolver that can be asked; says so to the client when there is none.
    fn forward(&mut self, client: SocketAddr, query: Vec<u8>, tried: usize, zone: &Zone) {
        let resolvers = resolvers(zone, client.ip());
        for (index, resolver) in resolvers.iter().enumerate().skip(tried) {
            let asked = outward(zone, client.ip(), &query)
                .and_then(|(number, message)| Ok((ask(*resolver, &message)?, number)));
            if let Ok((socket, asked_as)) = asked {
                let tried = index + 1;
                let on = On::Resolver {
                    socket,
                    asked_as,
                    tried,
                };
                return self.wait(client, query, on);
            }
        }
        self.fail(client, &query);
    }

    fn take_answer(&mut self, index: usize, zone: &Zone, admissions: &mut Admissions) {
        let Some(waiting) = self.waiting.get(index) else {
            return;
        };
        let On::Resolver {
            socket,
            asked_as,
            tried,
        } = &waiting.on
        else {
            return;
        };
        let mut buffer = [0; MAX_UDP];
        let Ok(length) = socket.recv(&mut buffer) else {
            // Refused: nobody listens there. The next one is asked.
            let tried = *tried;
            if let Some(waiting) = self.waiting.remove(index) {
                self.forward(waiting.client, waiting.query, tried, zone);
            }
            return;
        };
        let answer = &mut buffer[..length];
        if !is_response(answer) || number(answer) != Some(*asked_as) {
            return;
        }
        let Some(mut waiting) = self.waiting.remove(index) else {
            return;
        };
        set_number(answer, number(&waiting.query).unwrap_or_default());
        let client = waiting.client;
        match second(zone, client.ip(), &waiting.query, answer) {
            Second::Pass => self.send(client, answer),
            Second::Answer(own) => self.send(client, &own),
            Second::Admission(found) => {
                let ttl_seconds = found.ttl_seconds;
                match admissions.ask(client.ip(), found) {
                    Standing::Told(addresses) => {
                        let answer = third(&waiting.query, ttl_seconds, &addresses);
                        self.send(client, &answer);
                    }
                    Standing::Asked(id) => {
                        waiting.on = On::Admission { id, ttl_seconds };
                        waiting.until = Instant::now() + PATIENCE;
                        // In the place of the one that it was.
                        self.waiting.push_back(waiting);
                    }
                    Standing::Refused => self.fail(client, &waiting.query),
                }
            }
        }
    }

    /// The supervisor's word.
    pub fn admitted(&mut self, id: u32, addresses: &[IpAddr]) {
        let is = |waiting: &Waiting| matches!(waiting.on, On::Admission { id: of, .. } if of == id);
        let waiting = self.waiting.iter().position(is);
        let Some(waiting) = waiting.and_then(|index| self.waiting.remove(index)) else {
            return;
        };
        if let On::Admission { ttl_seconds, .. } = waiting.on {
            let answer = third(&waiting.query, ttl_seconds, addresses);
            self.send(waiting.client, &answer);
        }
    }

    /// Who was not known may be by now.
    pub fn zone_is_new(&mut self, zone: &Zone, admissions: &mut Admissions) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.on {
                On::Zone if zone.knows(waiting.client.ip()) => {
                    self.take(waiting.client, &waiting.query, zone, admissions);
                }
                _ => self.waiting.push_back(waiting),
            }
        }
    }

    fn give_up_late(&mut self, zone: &Zone) {
        let now = Instant::now();
        while let Some(index) = self.waiting.iter().position(|w| w.until <= now)
            && let Some(late) = self.waiting.remove(index)
        {
            match late.on {
                On::Resolver { tried, .. } => self.forward(late.client, late.query, tried, zone),
                On::Admission { .. } => self.fail(late.client, &late.query),
                On::Zone => {}
            }
        }
    }

    fn fail(&self, client: SocketAddr, query: &[u8]) {
        if let Some(failure) = failure(query) {
            self.send(client, &failure);
        }
    }

    fn send(&self, client: SocketAddr, answer: &[u8]) {
        let _ = self.socket.send_to(answer, client);
    }
}

/// A port of its own for each query, so that answers are hard to forge (RFC 5452).
fn ask(resolver: SocketAddr, query: &[u8]) -> io::Result<UdpSocket> {
    let own: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(resolver)?;
    socket.send(query)?;
    Ok(socket)
}
