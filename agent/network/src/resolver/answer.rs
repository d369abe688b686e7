//! Answers of other resolvers, read only where somebody may not go everywhere: which addresses a name has, by whatever
//! aliases (RFC 1034 3.6.2).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::message::{A, AAAA, IN, Question, any_name, code, is_truncated, word};

const CNAME: u16 = 5;
/// Records that are looked at.
const MAX_RECORDS: u16 = 256;
/// Aliases from the name to its addresses.
const MAX_ALIASES: usize = 16;

/// What an answer has to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Neither an error nor what was asked for: it can be passed on.
    Nothing,
    /// It has to be asked for over TCP.
    CutShort,
    /// Addresses of the kind that was asked for, and the shortest time to live on the way to them, in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// To another question, or damaged.
    Nonsense,
}

pub(super) fn read(question: &Question, kind: u16, message: &[u8]) -> Answer {
    if is_truncated(message) {
        return Answer::CutShort;
    }
    // An error may come without the question.
    if code(message) != 0 {
        return Answer::Nothing;
    }
    match records(question, kind, message) {
        None => Answer::Nonsense,
        Some(records) => records.addresses_of(&question.name),
    }
}

#[derive(Default)]
struct Records {
    aliases: BTreeMap<String, (String, u32)>,
    addresses: BTreeMap<String, Vec<(IpAddr, u32)>>,
}

impl Records {
    fn addresses_of(&self, name: &str) -> Answer {
        let (mut name, mut shortest) = (name, u32::MAX);
        for _ in 0..=MAX_ALIASES {
            if let Some(found) = self.addresses.get(name) {
                let ttl = found.iter().map(|(_, ttl)| *ttl).min().unwrap_or(0);
                let ips = found.iter().map(|(ip, _)| *ip).collect();
                return Answer::Addresses(ips, ttl.min(shortest));
            }
            match self.aliases.get(name) {
                Some((next, ttl)) => (name, shortest) = (next, shortest.min(*ttl)),
                None => return Answer::Nothing,
            }
        }
        Answer::Nonsense
    }
}

fn records(question: &Question, kind: u16, message: &[u8]) -> Option<Records> {
    let asked = Question::of(message)?;
    let count = word(message, 6)?;
    if !asked.is_same(question) || count > MAX_RECORDS {
        return None;
    }
    let mut records = Records::default();
    let mut at = asked.end;
    for _ in 0..count {
        let (owner, next) = any_name(message, at)?;
        let (of_kind, class) = (word(message, next)?, word(message, next + 2)?);
        let seconds = message.get(next + 4..next + 8)?.try_into().ok()?;
        let data = next + 10;
        let length = usize::from(word(message, next + 8)?);
        at = data + length;
        let bytes = message.get(data..at)?;
        // RFC 2181 8: one with the highest bit is none.
        let ttl = Some(u32::from_be_bytes(seconds))
            .filter(|ttl| *ttl <= i32::MAX as u32)
            .unwrap_or(0);
        if class != IN {
            continue;
        }
        if of_kind == CNAME {
            let (alias_of, end) = any_name(message, data)?;
            if end > at {
                return None;
            }
            records.aliases.entry(owner).or_insert((alias_of, ttl));
        } else if of_kind == kind {
            let ip: IpAddr = match kind {
                A => <[u8; 4]>::try_from(bytes).ok()?.into(),
                AAAA => <[u8; 16]>::try_from(bytes).ok()?.into(),
                _ => return None,
            };
            records.addresses.entry(owner).or_default().push((ip, ttl));
        }
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asked, record};
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    /// An answer with these records to a question for A of mqtt.example.
    fn answer(records: &[Vec<u8>]) -> (Question, Vec<u8>) {
        let query = asked("mqtt.example", A);
        let mut message = query.clone();
        message[2] |= 0x80;
        message[7] = records.len() as u8;
        records.iter().for_each(|record| message.extend(record));
        (Question::read(&query).unwrap(), message)
    }

    #[test]
    fn addresses_are_found_behind_aliases_with_the_shortest_time() {
        let alias = |to: &str, ttl| (CNAME, name(to), ttl);
        let with =
            |owner: &str, (kind, data, ttl): (u16, Vec<u8>, u32)| record(owner, kind, ttl, &data);
        let (question, message) = answer(&[
            with("a.cdn.example", (A, vec![192, 0, 2, 1], 60)),
            with("mqtt.example", alias("b.CDN.example", 300)),
            with("b.cdn.example", alias("a.cdn.example", 20)),
            with("a.cdn.example", (A, vec![192, 0, 2, 2], 90)),
            // Nobody asked for these.
            with("evil.example", (A, vec![192, 0, 2, 66], 60)),
            with("a.cdn.example", (AAAA, vec![0; 16], 60)),
        ]);
        assert_eq!(
            read(&question, A, &message),
            Answer::Addresses(vec![ip(1), ip(2)], 20)
        );
        // The name itself, by a pointer to the question.
        let (question, message) =
            answer(&[b"\xc0\x0c\x00\x01\x00\x01\x80\0\0\0\0\x04\xc0\0\x02\x07".to_vec()]);
        assert_eq!(
            read(&question, A, &message),
            Answer::Addresses(vec![ip(7)], 0)
        );
    }

    fn name(text: &str) -> Vec<u8> {
        asked(text, A)[12..]
            .split_last_chunk::<4>()
            .unwrap()
            .0
            .to_vec()
    }

    #[test]
    fn what_has_no_addresses_is_passed_on() {
        let (question, mut message) = answer(&[]);
        assert_eq!(read(&question, A, &message), Answer::Nothing);
        message[3] = 3;
        assert_eq!(read(&question, A, &message), Answer::Nothing);
        message[2] |= 2;
        assert_eq!(read(&question, A, &message), Answer::CutShort);
    }

    #[test]
    fn broken_and_foreign_answers_do_no_harm() {
        let loops = record("mqtt.example", CNAME, 60, &name("mqtt.example"));
        let (question, message) = answer(&[loops]);
        assert_eq!(read(&question, A, &message), Answer::Nonsense);
        // A pointer to itself.
        let (question, message) =
            answer(&[b"\xc0\x1e\x00\x01\x00\x01\0\0\0\0\0\x04\xc0\0\x02\x07".to_vec()]);
        assert_eq!(read(&question, A, &message), Answer::Nonsense);
        let (_, message) = answer(&[record("mqtt.example", A, 60, &[192, 0, 2, 1])]);
        let other = Question::read(&asked("mqtt.example", AAAA)).unwrap();
        assert_eq!(read(&other, AAAA, &message), Answer::Nonsense);
        for cut in 0..message.len() {
            let answer = read(&question, A, &message[..cut]);
            assert!(
                matches!(answer, Answer::Nonsense | Answer::Nothing),
                "{cut}: {answer:?}"
            );
        }
        // Every byte wrong in turn: whatever it is then, it ends.
        for at in 0..message.len() {
            for value in [0, 1, 63, 64, 0xc0, 0xff] {
                let mut wrong = message.clone();
                wrong[at] = value;
                read(&question, A, &wrong);
            }
        }
    }
}
