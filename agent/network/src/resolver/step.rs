//! What becomes of a query, whichever way it came: first when it comes, and again when another resolver has answered it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::rand::{GetRandomFlags, getrandom};

use super::answer::{self, Answer};
use super::message::{NO_SUCH_NAME, Question, REFUSED, SERVER_FAILURE, set_number};
use super::{DNS, Zone};
use crate::egress::{LONGEST, LONGEST_TOLD};

/// A query that came.
pub(super) enum First {
    Answer(Vec<u8>),
    /// Another resolver's to answer.
    NotOurs,
    /// This name is not on the container's list: the answer to give, and the name.
    Forbidden(Vec<u8>, String),
    Nonsense,
}

pub(super) fn first(zone: &Zone, client: IpAddr, query: &[u8]) -> First {
    let Some(question) = Question::read(query) else {
        return First::Nonsense;
    };
    match zone.addresses(client, &question.name) {
        Some(addresses) => First::Answer(question.answer(query, &addresses)),
        None if zone.is_confined(client) && !question.is_of_the_internet() => {
            First::Answer(question.failure(query, REFUSED))
        }
        None if zone.permits(client, &question.name) => First::NotOurs,
        // As if there were no such name: a search list goes on with its next domain.
        None => First::Forbidden(question.failure(query, NO_SUCH_NAME), question.name),
    }
}

/// What another resolver is asked, under a number of its own, so that answers are hard to forge (RFC 5452). Of a container
/// that may not go everywhere it hears the question and nothing else that could be in the message.
pub(super) fn outward(zone: &Zone, client: IpAddr, query: &[u8]) -> io::Result<([u8; 2], Vec<u8>)> {
    let mut message = match Question::read(query) {
        Some(question) if zone.is_confined(client) => question.bare(),
        _ => query.to_vec(),
    };
    let mut number = [0; 2];
    getrandom(&mut number, GetRandomFlags::empty())?;
    set_number(&mut message, number);
    Ok((number, message))
}

/// A query that another resolver answered.
pub(super) enum Second {
    Pass,
    Answer(Vec<u8>),
    /// The supervisor is asked what of it may be told.
    Admission(Found),
}

/// What a name was resolved to.
pub(super) struct Found {
    pub name: String,
    pub ttl_seconds: u32,
    pub addresses: Vec<IpAddr>,
}

impl Found {
    /// Whether what was said of this one is true of the other too.
    pub fn covers(&self, other: &Self) -> bool {
        self.name == other.name
            && self.ttl_seconds >= other.ttl_seconds
            && other.addresses.iter().all(|ip| self.addresses.contains(ip))
    }
}

pub(super) fn second(zone: &Zone, client: IpAddr, query: &[u8], message: &[u8]) -> Second {
    if !zone.is_confined(client) {
        return Second::Pass;
    }
    let Some(question) = Question::read(query) else {
        return Second::Pass;
    };
    // Nothing else opens a way; the name was looked at when it came.
    let Some(kind) = question.for_addresses() else {
        return Second::Answer(question.as_asked(query, message));
    };
    match answer::read(&question, kind, message) {
        Answer::Nothing => Second::Answer(question.as_asked(query, message)),
        Answer::CutShort => Second::Answer(question.too_long(query)),
        Answer::Nonsense => Second::Answer(question.failure(query, SERVER_FAILURE)),
        Answer::Addresses(mut addresses, ttl) => {
            addresses.truncate(crate::egress::MAX_ADMITTED);
            Second::Admission(Found {
                name: question.name,
                ttl_seconds: ttl.min(LONGEST.as_secs() as u32),
                addresses,
            })
        }
    }
}

/// The answer to a query, after the supervisor's word. It is no longer true than a client may take it for.
pub(super) fn third(query: &[u8], ttl_seconds: u32, admitted: &[IpAddr]) -> Vec<u8> {
    match Question::read(query) {
        None => Vec::new(),
        Some(question) if admitted.is_empty() => question.failure(query, REFUSED),
        Some(question) => {
            let ttl = ttl_seconds.min(LONGEST_TOLD.as_secs() as u32);
            question.retell(query, admitted, ttl)
        }
    }
}

pub(super) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    Some(Question::read(query)?.failure(query, SERVER_FAILURE))
}

pub(super) fn resolvers(zone: &Zone, client: IpAddr) -> Vec<SocketAddr> {
    let all = zone.resolvers(client).iter();
    all.map(|ip| SocketAddr::new(*ip, DNS)).collect()
}
