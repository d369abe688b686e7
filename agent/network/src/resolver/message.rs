//! DNS messages, as much of them as answering for our own names takes (RFC 1035 4). What goes to other resolvers and back
//! is passed on as it is; only its number changes.

use std::net::IpAddr;

/// RFC 6891 6.2.5 recommends to handle as much; a longer answer comes over TCP.
pub(super) const MAX_UDP: usize = 4096;
const HEADER: usize = 12;
/// Seconds that a client may keep an answer: containers come and go.
const TTL: u32 = 5;

const A: u16 = 1;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const IN: u16 = 1;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
/// RFC 1035 4.1.1, RCODE.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const SERVER_FAILURE: u8 = 2;

/// The one question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// In small letters, without a dot at the end.
    pub name: String,
    kind: u16,
    class: u16,
    /// Where the question ends in its message.
    end: usize,
}

impl Question {
    /// Reads a standard query with one question; None is for anything else.
    pub fn read(message: &[u8]) -> Option<Self> {
        let flags = *message.get(2)?;
        if flags & (RESPONSE | OPCODE) != 0 || message.get(4..6)? != [0, 1] {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // 64 and more are pointers, which a first name has nothing to point at.
            if length > 63 || name.len() + length > 254 {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            let label = message.get(at..at + length)?;
            name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            at += length;
        }
        let word = |at| {
            Some(u16::from_be_bytes(
                message.get(at..at + 2)?.try_into().ok()?,
            ))
        };
        Some(Self {
            name,
            kind: word(at)?,
            class: word(at + 2)?,
            end: at + 4,
        })
    }

    /// Those of the addresses that were asked for; none where the name is known and has none of that kind.
    pub fn answer(&self, query: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
        let asked = |ip: &&IpAddr| {
            let kind = if ip.is_ipv4() { A } else { AAAA };
            self.class == IN && (self.kind == kind || self.kind == ANY)
        };
        let found: Vec<&IpAddr> = addresses.iter().filter(asked).collect();
        let mut message = self.head(query, AUTHORITATIVE, NO_ERROR, found.len() as u16);
        for ip in found {
            let (kind, bytes) = match ip {
                IpAddr::V4(ip) => (A, ip.octets().to_vec()),
                IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
            };
            // A pointer to the question's name.
            message.extend([0xc0, HEADER as u8]);
            message.extend(kind.to_be_bytes());
            message.extend(IN.to_be_bytes());
            message.extend(TTL.to_be_bytes());
            message.extend((bytes.len() as u16).to_be_bytes());
            message.extend(bytes);
        }
        message
    }

    /// No answer, and why.
    pub fn failure(&self, query: &[u8], code: u8) -> Vec<u8> {
        self.head(query, 0, code, 0)
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
