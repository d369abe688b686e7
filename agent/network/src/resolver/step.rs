//! What becomes of a query, whichever way it came: first when it comes, and again when another resolver has answered it.

use std::net::{IpAddr, SocketAddr};

use super::answer::{self, Answer};
use super::message::{NO_SUCH_NAME, Question, SERVER_FAILURE};
use super::{DNS, Zone};

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
        None if zone.permits(client, &question.name) => First::NotOurs,
        // As if there were no such name: a search list goes on with its next domain.
        None => First::Forbidden(question.failure(query, NO_SUCH_NAME), question.name),
    }
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

pub(super) fn second(zone: &Zone, client: IpAddr, query: &[u8], message: &[u8]) -> Second {
    if !zone.is_confined(client) {
        return Second::Pass;
    }
    let Some(question) = Question::read(query) else {
        return Second::Pass;
    };
    // Nothing else opens a way; the name was looked at when it came.
    let Some(kind) = question.for_addresses() else {
        return Second::Pass;
    };
    match answer::read(&question, kind, message) {
        Answer::Nothing => Second::Pass,
        Answer::CutShort => Second::Answer(question.too_long(query)),
        Answer::Nonsense => Second::Answer(question.failure(query, SERVER_FAILURE)),
        Answer::Addresses(mut addresses, ttl) => {
            addresses.truncate(crate::egress::MAX_ADMITTED);
            Second::Admission(Found {
                name: question.name,
                ttl_seconds: ttl.min(LONGEST_TTL),
                addresses,
            })
        }
    }
}

/// As long as an admission lasts: a client that keeps the answer so long finds the way open.
const LONGEST_TTL: u32 = 3600;

/// The answer to a query, after the supervisor's word.
pub(super) fn third(query: &[u8], ttl_seconds: u32, admitted: &[IpAddr]) -> Vec<u8> {
    match Question::read(query) {
        None => Vec::new(),
        Some(question) if admitted.is_empty() => question.failure(query, super::message::REFUSED),
        Some(question) => question.retell(query, admitted, ttl_seconds),
    }
}

pub(super) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    Some(Question::read(query)?.failure(query, SERVER_FAILURE))
}

pub(super) fn resolvers(zone: &Zone, client: IpAddr) -> Vec<SocketAddr> {
    let all = zone.resolvers(client).iter();
    all.map(|ip| SocketAddr::new(*ip, DNS)).collect()
}
