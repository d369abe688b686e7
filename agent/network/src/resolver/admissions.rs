//! What the supervisor is asked, and how much of it and of other resolvers each container may have: one that asks much waits
//! for itself alone.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::control::{Control, Said, Told};
use super::share::{Shares, greediest};
use super::step::Found;

/// Questions to the supervisor of one container at once. Those beyond wait here.
const MAX_ASKED: usize = 8;
/// All that wait or are asked: as many as queries can be on their way.
const MAX_OPEN: usize = 160;
/// Who asked has gone by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same answer is not asked about again so soon. Less than what an admission lasts beyond its time to live.
const REMEMBERED: Duration = Duration::from_secs(5);
const MAX_REMEMBERED: usize = 128;
/// Between two words about what is not on a list.
const FORBIDDEN_EVERY: Duration = Duration::from_secs(1);

/// How it stands with an answer.
pub(super) enum Standing {
    /// The supervisor's word will bear this number.
    Asked(u32),
    /// It has said so a moment ago.
    Told(Vec<IpAddr>),
    /// It is asked too much.
    Refused,
}

struct Open {
    id: u32,
    client: IpAddr,
    found: Found,
    until: Instant,
    /// The supervisor has been asked.
    said: bool,
}

struct Remembered {
    client: IpAddr,
    found: Found,
    admitted: Vec<IpAddr>,
    until: Instant,
}

pub(super) struct Admissions {
    pub control: Control,
    pub shares: Shares,
    last: u32,
    open: VecDeque<Open>,
    remembered: VecDeque<Remembered>,
    forbidden_at: Option<Instant>,
}

impl Admissions {
    pub fn new(control: Control) -> Self {
        Self {
            control,
            shares: Shares::default(),
            last: 0,
            open: VecDeque::new(),
            remembered: VecDeque::new(),
            forbidden_at: None,
        }
    }

    /// What the supervisor says; none at the end. An admission is noted.
    pub fn hear(&mut self) -> io::Result<Option<Vec<Told>>> {
        self.control.go_on();
        let Some(all) = self.control.hear()? else {
            return Ok(None);
        };
        for told in &all {
            match told {
                // Whoever has an address now may be another than before.
                Told::Zone(_) => self.remembered.clear(),
                Told::Admitted { id, addresses } => self.note(*id, addresses),
            }
        }
        self.go_on(Instant::now());
        Ok(Some(all))
    }

    fn note(&mut self, id: u32, admitted: &[IpAddr]) {
        let index = self.open.iter().position(|open| open.id == id);
        let Some(open) = index.and_then(|index| self.open.remove(index)) else {
            return;
        };
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Remembered {
            client: open.client,
            found: open.found,
            admitted: admitted.to_vec(),
            until: Instant::now() + REMEMBERED,
        });
    }

    /// Asks what may be told, unless that is known.
    pub fn ask(&mut self, client: IpAddr, found: Found) -> Standing {
        let now = Instant::now();
        self.remembered.retain(|one| one.until > now);
        let known = |one: &&Remembered| one.client == client && one.found.covers(&found);
        if let Some(known) = self.remembered.iter().find(known) {
            let mut told = found.addresses;
            told.retain(|ip| known.admitted.contains(ip));
            return Standing::Told(told);
        }
        self.open.retain(|open| open.until > now);
        if self.open.len() >= MAX_OPEN {
            let most = greediest(self.open.iter().map(|open| open.client));
            let newest = self.open.iter().rposition(|o| Some(o.client) == most);
            if most == Some(client) {
                return Standing::Refused;
            }
            newest.map(|index| self.open.remove(index));
        }
        self.last = self.last.wrapping_add(1);
        self.open.push_back(Open {
            id: self.last,
            client,
            found,
            until: now + PATIENCE,
            said: false,
        });
        self.go_on(now);
        Standing::Asked(self.last)
    }

    /// Says to the supervisor what it may be asked.
    fn go_on(&mut self, now: Instant) {
        self.open.retain(|open| open.until > now);
        for index in 0..self.open.len() {
            let open = &self.open[index];
            let same = |o: &&Open| o.said && o.client == open.client;
            let asked = self.open.iter().filter(same).count();
            let IpAddr::V4(client) = open.client else {
                continue;
            };
            if open.said || asked >= MAX_ASKED {
                continue;
            }
            let said = self.control.say(&Said::Found {
                id: open.id,
                client,
                name: open.found.name.clone(),
                ttl_seconds: open.found.ttl_seconds,
                addresses: open.found.addresses.clone(),
            });
            self.open[index].said = said;
        }
    }

    pub fn forbidden(&mut self, client: IpAddr, name: String) {
        let now = Instant::now();
        let soon = self
            .forbidden_at
            .is_some_and(|at| now < at + FORBIDDEN_EVERY);
        if let (IpAddr::V4(client), false) = (client, soon) {
            self.forbidden_at = Some(now);
            // For a log: nothing in it that a terminal would obey.
            let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
            let name = name.chars().map(plain).collect();
            self.control.say(&Said::Forbidden { client, name });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;

    fn found(name: &str, ips: &[u8]) -> Found {
        Found {
            name: name.into(),
            ttl_seconds: 60,
            addresses: ips.iter().map(|n| [192, 0, 2, *n].into()).collect(),
        }
    }

    fn pair() -> (Admissions, UnixStream, BufReader<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let reader = BufReader::new(theirs.try_clone().unwrap());
        (Admissions::new(Control::new(ours).unwrap()), theirs, reader)
    }

    fn heard(reader: &mut BufReader<UnixStream>) -> Vec<u32> {
        let lines = reader.lines().map_while(Result::ok);
        let ids = lines.map(|line| match serde_json::from_str(&line).unwrap() {
            Said::Found { id, .. } => id,
            said => panic!("{said:?}"),
        });
        ids.collect()
    }

    #[test]
    fn one_that_asks_much_waits_for_itself() {
        let (mut admissions, mut theirs, mut reader) = pair();
        let (greedy, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for n in 0..20 {
            let standing = admissions.ask(greedy, found(&format!("{n}.example"), &[7]));
            assert!(matches!(standing, Standing::Asked(_)));
        }
        admissions.ask(other, found("mqtt.example", &[7]));
        // Eight of the one, and the other behind them.
        assert_eq!(heard(&mut reader), [1, 2, 3, 4, 5, 6, 7, 8, 21]);
        let told = Told::Admitted {
            id: 3,
            addresses: vec![],
        };
        let line = serde_json::to_string(&told).unwrap() + "\n";
        io::Write::write_all(&mut theirs, line.as_bytes()).unwrap();
        assert_eq!(admissions.hear().unwrap(), Some(vec![told]));
        assert_eq!(heard(&mut reader), [9]);
        // With all places taken it is the one that is refused.
        for n in 20..400 {
            admissions.ask(greedy, found(&format!("{n}.example"), &[7]));
        }
        let more = admissions.ask(greedy, found("more.example", &[7]));
        assert!(matches!(more, Standing::Refused));
        let more = admissions.ask(other, found("more.example", &[7]));
        assert!(matches!(more, Standing::Asked(_)));
        assert_eq!(admissions.open.len(), MAX_OPEN);
    }

    #[test]
    fn what_was_just_said_is_not_asked_again() {
        let (mut admissions, _theirs, mut reader) = pair();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        admissions.ask(one, found("mqtt.example", &[7, 8, 9]));
        admissions.note(1, &[[192, 0, 2, 8].into(), [192, 0, 2, 7].into()]);
        let told = |admissions: &mut Admissions, client, found| match admissions.ask(client, found)
        {
            Standing::Told(addresses) => Some(addresses),
            _ => None,
        };
        let again = told(&mut admissions, one, found("mqtt.example", &[9, 7]));
        assert_eq!(again, Some(vec![[192, 0, 2, 7].into()]));
        // Another's, another name, another address, a longer time.
        assert_eq!(
            told(&mut admissions, other, found("mqtt.example", &[7])),
            None
        );
        assert_eq!(told(&mut admissions, one, found("a.example", &[7])), None);
        assert_eq!(
            told(&mut admissions, one, found("mqtt.example", &[6])),
            None
        );
        let longer = Found {
            ttl_seconds: 61,
            ..found("mqtt.example", &[7])
        };
        assert_eq!(told(&mut admissions, one, longer), None);
        assert_eq!(heard(&mut reader).len(), 5);
    }
}
