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

/// By container, and by the number of a name in its list.
#[derive(Debug, Default)]
pub(crate) struct Learned(BTreeMap<String, BTreeMap<usize, BTreeMap<IpAddr, Instant>>>);

impl Learned {
    /// Notes that the name was found at these addresses; true when the kernel has to be told.
    pub fn note(
        &mut self,
        app: &str,
        name: usize,
        addresses: &[IpAddr],
        (ttl, within): (Duration, &Admission),
        now: Instant,
    ) -> bool {
        let lasts = ttl.clamp(within.shortest, within.longest);
        let of_app = self.0.entry(app.to_owned()).or_default();
        of_app
            .values_mut()
            .for_each(|known| known.retain(|_, until| *until > now));
        let known = of_app.entry(name).or_default();
        // Whoever asks again and again is no reason to go to the kernel each time: the grace is used up first.
        let fresh = |ip: &IpAddr| known.get(ip).is_some_and(|until| *until >= now + lasts);
        if addresses.iter().all(fresh) {
            return false;
        }
        for ip in addresses {
            let until = known.entry(*ip).or_insert(now);
            *until = (*until).max(now + lasts + within.grace);
        }
        while known.len() > MAX_PER_NAME {
            forget_first(known);
        }
        while of_app.values().map(BTreeMap::len).sum::<usize>() > MAX_PER_APP {
            let largest = of_app.values_mut().max_by_key(|known| known.len());
            largest.map(forget_first);
        }
        true
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

fn forget_first(known: &mut BTreeMap<IpAddr, Instant>) {
    let first = known
        .iter()
        .min_by_key(|(_, until)| **until)
        .map(|(ip, _)| *ip);
    if let Some(ip) = first {
        known.remove(&ip);
    }
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
        assert!(learned.note("web", 0, &[ip(1)], (300 * second, &usual), now));
        assert_eq!(learned.of("web", 0, now), [(ip(1), 330 * second)]);
        assert_eq!(learned.of("web", 1, now), []);
        // Asked again soon after: the kernel holds it long enough.
        assert!(!learned.note(
            "web",
            0,
            &[ip(1)],
            (300 * second, &usual),
            now + 29 * second
        ));
        assert!(learned.note(
            "web",
            0,
            &[ip(1)],
            (300 * second, &usual),
            now + 31 * second
        ));
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
}
