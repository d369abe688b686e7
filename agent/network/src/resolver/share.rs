//! Each container's share of the resolver, so that one that asks much is no loss to the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Questions that a container can have asked elsewhere at once, after a quiet time.
const BURST: u32 = 256;
/// One more each.
const EACH: Duration = Duration::from_millis(5);

/// What each has left.
#[derive(Default)]
pub(super) struct Shares(BTreeMap<IpAddr, (u32, Instant)>);

impl Shares {
    /// Whether the container may ask once more.
    pub fn take(&mut self, client: IpAddr, now: Instant) -> bool {
        let (left, since) = self.0.entry(client).or_insert((BURST, now));
        let earned = now.saturating_duration_since(*since).as_micros() / EACH.as_micros();
        if earned > 0 {
            *left = left
                .saturating_add(u32::try_from(earned).unwrap_or(BURST))
                .min(BURST);
            *since = now;
        }
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                true
            }
            None => false,
        }
    }

    pub fn keep(&mut self, which: impl Fn(&IpAddr) -> bool) {
        self.0.retain(|client, _| which(client));
    }
}

/// Who of them has the most.
pub(super) fn greediest(of: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for client in of {
        *counts.entry(client).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(client, _)| client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn one_has_its_share_and_takes_none_of_anothers() {
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (mut shares, now) = (Shares::default(), Instant::now());
        let taken = |shares: &mut Shares, at| (0..1000).filter(|_| shares.take(one, at)).count();
        assert_eq!(taken(&mut shares, now), BURST as usize);
        assert!(shares.take(other, now));
        assert_eq!(taken(&mut shares, now + 10 * EACH), 10);
        assert_eq!(
            taken(&mut shares, now + Duration::from_secs(3600)),
            BURST as usize
        );
        shares.keep(|ip| *ip == other);
        assert_eq!(shares.0.len(), 1);
    }

    #[test]
    fn the_greediest_gives_way() {
        let ip = |n| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
        assert_eq!(greediest([1, 2, 2, 3].map(ip).into_iter()), Some(ip(2)));
        assert_eq!(greediest([].into_iter()), None);
    }
}
