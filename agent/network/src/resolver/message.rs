//! DNS messages, as much of them as answering for our own names takes (RFC 1035 4). What goes to other resolvers and back
//! is passed on as it is; only its number changes. Of who may not go everywhere, the question alone is passed on.

use std::net::IpAddr;

/// RFC 6891 6.2.5 recommends to handle as much; a longer answer comes over TCP.
pub(super) const MAX_UDP: usize = 4096;
/// What every client takes over UDP (RFC 1035 2.3.4).
const PLAIN_UDP: usize = 512;
pub(super) const HEADER: usize = 12;
/// Seconds that a client may keep an answer of ours: containers come and go.
const TTL: u32 = 5;

pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
const ANY: u16 = 255;
pub(super) const IN: u16 = 1;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
/// RFC 1035 4.1.1, RCODE.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const NO_SUCH_NAME: u8 = 3;
pub(super) const REFUSED: u8 = 5;

/// More pointers than any honest name needs; beyond it one goes in circles.
const MAX_POINTERS: usize = 16;

/// The one question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// In small letters, without a dot at the end.
    pub name: String,
    kind: u16,
    class: u16,
    /// Where the question ends in its message.
    pub end: usize,
}

impl Question {
    /// Reads a standard query with one question; None is for anything else.
    pub fn read(message: &[u8]) -> Option<Self> {
        match message.get(2)? & (RESPONSE | OPCODE) {
            0 => Self::of(message),
            _ => None,
        }
    }

    /// The one question of any message.
    pub fn of(message: &[u8]) -> Option<Self> {
        if message.get(4..6)? != [0, 1] {
            return None;
        }
        // A first name has nothing to point at.
        let (name, at) = read_name(message, HEADER, 0)?;
        Some(Self {
            name,
            kind: word(message, at)?,
            class: word(message, at + 2)?,
            end: at + 4,
        })
    }

    /// Whether it is one for addresses, and of which kind: A or AAAA.
    pub fn for_addresses(&self) -> Option<u16> {
        (self.class == IN && [A, AAAA].contains(&self.kind)).then_some(self.kind)
    }

    pub fn is_same(&self, other: &Self) -> bool {
        (&self.name, self.kind, self.class) == (&other.name, other.kind, other.class)
    }

    pub fn is_of_the_internet(&self) -> bool {
        self.class == IN
    }

    /// A query with this question and nothing else, number 0.
    pub fn bare(&self) -> Vec<u8> {
        let mut message = vec![0, 0, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(self.kind.to_be_bytes());
        message.extend(self.class.to_be_bytes());
        message
    }

    /// An answer to `bare` as one to the query: its number, and its name in the letters that the client wrote.
    pub fn as_asked(&self, query: &[u8], answer: &[u8]) -> Vec<u8> {
        let mut message = answer.to_vec();
        set_number(&mut message, number(query).unwrap_or_default());
        let same = Self::of(&message).is_some_and(|q| q.is_same(self) && q.end == self.end);
        if same {
            message[HEADER..self.end].copy_from_slice(&query[HEADER..self.end]);
        }
        message
    }

    /// Those of the addresses that were asked for; none where the name is known and has none of that kind.
    pub fn answer(&self, query: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
        let asked = |ip: &&IpAddr| {
            let kind = if ip.is_ipv4() { A } else { AAAA };
            self.class == IN && (self.kind == kind || self.kind == ANY)
        };
        let found: Vec<&IpAddr> = addresses.iter().filter(asked).collect();
        self.with_addresses(query, AUTHORITATIVE, TTL, &found)
    }

    /// What another resolver knows, as far as it may be told, and as much of it as any client takes.
    pub fn retell(&self, query: &[u8], addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
        let room = PLAIN_UDP.saturating_sub(self.end);
        let found: Vec<&IpAddr> = addresses.iter().take(room / 28).collect();
        self.with_addresses(query, 0, ttl, &found)
    }

    fn with_addresses(&self, query: &[u8], flags: u8, ttl: u32, found: &[&IpAddr]) -> Vec<u8> {
        let mut message = self.head(query, flags, NO_ERROR, found.len() as u16);
        for ip in found {
            let (kind, bytes) = match ip {
                IpAddr::V4(ip) => (A, ip.octets().to_vec()),
                IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
            };
            // A pointer to the question's name.
            message.extend([0xc0, HEADER as u8]);
            message.extend(kind.to_be_bytes());
            message.extend(IN.to_be_bytes());
            message.extend(ttl.to_be_bytes());
            message.extend((bytes.len() as u16).to_be_bytes());
            message.extend(bytes);
        }
        message
    }

    /// No answer, and why.
    pub fn failure(&self, query: &[u8], code: u8) -> Vec<u8> {
        self.head(query, 0, code, 0)
    }

    /// It does not fit UDP: the client is to ask over TCP.
    pub fn too_long(&self, query: &[u8]) -> Vec<u8> {
        self.head(query, TRUNCATED, NO_ERROR, 0)
    }

    fn head(&self, query: &[u8], flags: u8, code: u8, answers: u16) -> Vec<u8> {
        let desired = query[2] & RECURSION_DESIRED;
        let mut message = query[..2].to_vec();
        message.extend([RESPONSE | flags | desired, RECURSION_AVAILABLE | code, 0, 1]);
        message.extend(answers.to_be_bytes());
        message.extend([0; 4]);
        message.extend(&query[HEADER..self.end]);
        message
    }
}

/// A name and where it ends: labels, and at most so many pointers to others (RFC 1035 4.1.4). In small letters; a dot inside
/// of a label is marked, so that it looks like no other name.
fn read_name(message: &[u8], at: usize, pointers: usize) -> Option<(String, usize)> {
    let (mut name, mut at, mut left) = (String::new(), at, pointers);
    let mut end = None;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return Some((name, end.unwrap_or(at))),
            1..=63 => {}
            0xc0.. => {
                left = left.checked_sub(1)?;
                let low = usize::from(*message.get(at)?);
                end = end.or(Some(at + 1));
                at = (length & 0x3f) << 8 | low;
                continue;
            }
            _ => return None,
        }
        if name.len() + length > 254 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in message.get(at..at + length)? {
            if *byte == b'.' {
                name.push('\\');
            }
            name.push(char::from(byte.to_ascii_lowercase()));
        }
        at += length;
    }
}

pub(super) fn any_name(message: &[u8], at: usize) -> Option<(String, usize)> {
    read_name(message, at, MAX_POINTERS)
}

pub(super) fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes))
}

/// The number of a message, by which an answer finds its query.
pub(super) fn number(message: &[u8]) -> Option<[u8; 2]> {
    message.get(..2)?.try_into().ok()
}

pub(super) fn set_number(message: &mut [u8], number: [u8; 2]) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&number);
    }
}

/// Whether it is an answer at all.
pub(super) fn is_response(message: &[u8]) -> bool {
    message.len() >= HEADER && message[2] & RESPONSE != 0
}

/// Whether an answer was cut short.
pub(super) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// An answer's RCODE.
pub(super) fn code(message: &[u8]) -> u8 {
    message.get(3).map_or(SERVER_FAILURE, |flags| flags & 15)
}
