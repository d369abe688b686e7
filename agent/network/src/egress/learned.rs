//! What names were resolved to, as long as it counts. The kernel's sets are made from this, so that a table that somebody
//! removed comes back whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Admission;

/// Addresses of one entry of a list. A new one takes the place of the one that would be forgotten first.
pub(crate) const MAX_PER_NAME: usize = 64;
/// Addresses of one container's list.
const MAX_PER_APP: usize = 512;

/// By the number of a name in a container's list: addresses, and until when.
pub(crate) type KnownOfApp = BTreeMap<usize, BTreeMap<IpAddr, Instant>>;

/// By container.
#[derive(Debug, Default)]
pub(crate) struct Learned(BTreeMap<String, KnownOfApp>);

impl Learned {
    /// Notes that the name was found at these addresses; the numbers of the names of which the kernel has to be told.
    pub fn note(
        &mut self,
        app: &str,
        name: usize,
        addresses: &[IpAddr],
        (ttl, within): (Duration, &Admission),
        now: Instant,
    ) -> Vec<usize> {
        let lasts = ttl.clamp(within.shortest, within.longest);
        let of_app = self.0.entry(app.to_owned()).or_default();
        of_app
            .values_mut()
            .for_each(|known| known.retain(|_, until| *until > now));
        let known = of_app.entry(name).or_default();
        // Whoever asks again and again is no reason to go to the kernel each time: the grace is used up first.
        let fresh = |ip: &IpAddr| known.get(ip).is_some_and(|until| *until >= now + lasts);
        if addresses.iter().all(fresh) {
            return Vec::new();
        }
        for ip in addresses {
            let until = known.entry(*ip).or_insert(now);
            *until = (*until).max(now + lasts + within.grace);
        }
        while known.len() > MAX_PER_NAME && forget_first(known, addresses) {}
        let mut changed = vec![name];
        while of_app.values().map(BTreeMap::len).sum::<usize>() > MAX_PER_APP {
            let largest = of_app.iter_mut().max_by_key(|(_, known)| known.len());
            let Some((number, known)) = largest else {
                break;
            };
            // The answer of now is what its asker is about to use.
            let kept = if *number == name { addresses } else { &[] };
            if !forget_first(known, kept) {
                break;
            }
            if !changed.contains(number) {
                changed.push(*number);
            }
        }
        changed
    }

    /// What is known for a container, to go back to when the kernel refuses what was noted.
    pub fn all_of(&self, app: &str) -> KnownOfApp {
        self.0.get(app).cloned().unwrap_or_default()
    }

    pub fn go_back(&mut self, app: &str, to: KnownOfApp) {
        self.0.insert(app.to_owned(), to);
    }

    /// Addresses of a name and how long each still counts.
    pub fn of(&self, app: &str, name: usize, now: Instant) -> Vec<(IpAddr, Duration)> {
        let known = self.0.get(app).and_then(|of_app| of_app.get(&name));
        let left = |(ip, until): (&IpAddr, &Instant)| {
            let left = until.saturating_duration_since(now);
            (left >= Duration::from_millis(1)).then_some((*ip, left))
        };
        known.into_iter().flatten().filter_map(left).collect()
    }

    pub fn forget(&mut self, app: &str) {
        self.0.remove(app);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether there was any but those that are kept.
fn forget_first(known: &mut BTreeMap<IpAddr, Instant>, kept: &[IpAddr]) -> bool {
    let first = known
        .iter()
        .filter(|(ip, _)| !kept.contains(ip))
        .min_by_key(|(_, until)| **until)
        .map(|(ip, _)| *ip);
    first.is_some_and(|ip| known.remove(&ip).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(0xc000_0200 + n).into()
    }

    #[test]
    fn what_was_learned_counts_for_its_time_and_no_longer() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        let usual = Admission::default();
        let second = Duration::from_secs(1);
        let noted = learned.note("web", 0, &[ip(1)], (300 * second, &usual), now);
        assert_eq!(noted, [0]);
        assert_eq!(learned.of("web", 0, now), [(ip(1), 330 * second)]);
        assert_eq!(learned.of("web", 1, now), []);
        // Asked again soon after: the kernel holds it long enough.
        let mut again = |at| learned.note("web", 0, &[ip(1)], (300 * second, &usual), at);
        assert!(again(now + 29 * second).is_empty());
        assert_eq!(again(now + 31 * second), [0]);
        assert_eq!(learned.of("web", 0, now + 361 * second), []);
        // No time to live is a minute, and a year is an hour.
        learned.note("web", 1, &[ip(1)], (Duration::ZERO, &usual), now);
        assert_eq!(learned.of("web", 1, now)[0].1, 90 * second);
        learned.note("web", 2, &[ip(1)], (31_536_000 * second, &usual), now);
        assert_eq!(learned.of("web", 2, now)[0].1, 3630 * second);
        // A shorter answer takes nothing away that was promised.
        learned.note("web", 2, &[ip(1), ip(2)], (Duration::ZERO, &usual), now);
        assert_eq!(learned.of("web", 2, now)[0].1, 3630 * second);
        learned.forget("web");
        assert_eq!(learned.of("web", 0, now), []);
    }

    #[test]
    fn it_is_bounded_and_the_newest_stay() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        let usual = Admission::default();
        let minute = Duration::from_secs(60);
        for n in 0..100 {
            learned.note(
                "web",
                0,
                &[ip(n)],
                (minute, &usual),
                now + Duration::from_millis(n.into()),
            );
        }
        let known = learned.of("web", 0, now);
        assert_eq!(known.len(), MAX_PER_NAME);
        assert!(known.iter().any(|(known, _)| *known == ip(99)));
        assert!(!known.iter().any(|(known, _)| *known == ip(0)));
        for name in 1..20 {
            for n in 0..64 {
                learned.note("web", name, &[ip(n)], (minute, &usual), now);
            }
        }
        let all: usize = (0..20).map(|name| learned.of("web", name, now).len()).sum();
        assert_eq!(all, MAX_PER_APP);
        assert!(!learned.of("web", 19, now).is_empty());
    }

    #[test]
    fn what_was_just_learned_stays_and_who_gave_way_is_told() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        let usual = Admission::default();
        let (long, short) = (Duration::from_secs(3600), Duration::from_secs(60));
        let learn = |learned: &mut Learned, name, ips: &[IpAddr], ttl| {
            learned.note("web", name, ips, (ttl, &usual), now)
        };
        let all: Vec<IpAddr> = (0..64).map(ip).collect();
        for name in 0..8 {
            learn(&mut learned, name, &all, long);
        }
        // Of a full name, with less time than all the others.
        assert_eq!(learn(&mut learned, 7, &[ip(100)], short), [7]);
        assert!(
            learned
                .of("web", 7, now)
                .iter()
                .any(|(known, _)| *known == ip(100))
        );
        // Of a name that had none, while the list is full: another name gives way, and the kernel is told of both.
        let before = learned.all_of("web");
        let told = learn(&mut learned, 9, &[ip(101), ip(102)], short);
        assert_eq!(told.len(), 3);
        assert_eq!(learned.of("web", 9, now).len(), 2);
        for name in &told[1..] {
            assert_eq!(learned.of("web", *name, now).len(), 63);
        }
        learned.go_back("web", before);
        assert_eq!(learned.of("web", 9, now), []);
        assert_eq!(learned.of("web", told[1], now).len(), 64);
    }
}
