//! Whether blobs may be fetched now, and how fast: by the cost of the link that leads to the console, and by the hour.

use crate::clock;
use crate::identity::Endpoint;
use coracle_board_support::config::{Downloads, MeteredPolicy};
use coracle_board_support::route;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

/// From one look to the next: while a download waits, and while one goes on.
const PAUSE: Duration = Duration::from_secs(10);

/// What [`Gate::judge`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// Fetch.
    Go {
        /// At most so much.
        bytes_per_second: Option<u64>,
    },
    /// Not now, for this reason.
    Hold(Hold),
}

/// Why a download waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The way costs money.
    #[error(
        "the download waits for a way that is not metered: `{link}` is, by the board's profile ([downloads] metered in coracle.toml)"
    )]
    Metered {
        /// The link.
        link: String,
    },
    /// It is not the hour.
    #[error("the download waits for {hours} UTC ([downloads] hours in coracle.toml)")]
    Hours {
        /// The parts of the day.
        hours: String,
    },
}

/// Whether a fetch waits.
#[derive(Debug, Default)]
pub struct Held {
    /// At this moment.
    pub now: Cell<bool>,
    /// At some time since it began.
    pub ever: Cell<bool>,
}

/// The rules of a board.
#[derive(Debug, Clone)]
pub struct Gate {
    /// coracle.toml.
    pub rules: Downloads,
    /// Links whose bytes cost money.
    pub metered: Vec<String>,
    /// Where the routes are listed.
    pub hardware_root: PathBuf,
    /// From one look to the next.
    pub pause: Duration,
}

impl Gate {
    /// For a board with these metered links.
    pub fn new(rules: Downloads, metered: Vec<String>, hardware_root: PathBuf) -> Self {
        Self {
            rules,
            metered,
            hardware_root,
            pause: PAUSE,
        }
    }

    /// Looks at the clock and at the way to `server`. A name that is not found holds nothing up: connecting will say so.
    pub async fn look(&self, server: &Endpoint) -> Pass {
        let mut link = None;
        let rules = &self.rules;
        let matters = rules.metered == MeteredPolicy::Wait
            || rules.metered_bytes_per_second != rules.bytes_per_second;
        if matters && !self.metered.is_empty() {
            let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
            let address = found.ok().and_then(|mut addresses| addresses.next());
            link = address.and_then(|to| route::link_to(&self.hardware_root, to.ip()));
        }
        let now = clock::now();
        let time = (now >= clock::at_least()).then_some(now);
        self.judge(link.as_deref(), time)
    }

    /// `link`: that leads to the server; `time`: of a clock that is not known to be wrong.
    pub fn judge(&self, link: Option<&str>, time: Option<u64>) -> Pass {
        let rules = &self.rules;
        let within = |time| rules.hours.iter().any(|hours| hours.has_time(time));
        if !rules.hours.is_empty() && time.is_some_and(|time| !within(time)) {
            let hours: Vec<String> = rules.hours.iter().map(ToString::to_string).collect();
            let hours = hours.join(", ");
            return Pass::Hold(Hold::Hours { hours });
        }
        let metered = link.filter(|link| self.metered.iter().any(|metered| metered == link));
        match (metered, rules.metered) {
            (Some(link), MeteredPolicy::Wait) => Pass::Hold(Hold::Metered {
                link: link.to_owned(),
            }),
            (Some(_), MeteredPolicy::Allow) => Pass::Go {
                bytes_per_second: rules.metered_bytes_per_second,
            },
            (None, _) => Pass::Go {
                bytes_per_second: rules.bytes_per_second,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(metered: MeteredPolicy, hours: &[&str]) -> Gate {
        let hours = hours
            .iter()
            .map(|text| (*text).to_owned().try_into().unwrap());
        let rules = Downloads {
            metered,
            bytes_per_second: Some(100_000),
            metered_bytes_per_second: Some(2000),
            hours: hours.collect(),
            ..Downloads::default()
        };
        Gate::new(rules, vec!["wwan0".into()], "/".into())
    }

    fn go(bytes_per_second: u64) -> Pass {
        Pass::Go {
            bytes_per_second: Some(bytes_per_second),
        }
    }

    #[test]
    fn a_metered_way_is_waited_out_or_slow() {
        let allow = gate(MeteredPolicy::Allow, &[]);
        assert_eq!(allow.judge(Some("eth0"), None), go(100_000));
        assert_eq!(allow.judge(Some("wwan0"), None), go(2000));
        let wait = gate(MeteredPolicy::Wait, &[]);
        assert_eq!(wait.judge(Some("eth0"), None), go(100_000));
        assert_eq!(
            wait.judge(None, None),
            go(100_000),
            "the kernel knows no way"
        );
        let Pass::Hold(why) = wait.judge(Some("wwan0"), None) else {
            panic!("it goes");
        };
        let why = why.to_string();
        assert!(
            why.contains("`wwan0`") && why.contains("[downloads] metered"),
            "{why}"
        );
    }

    #[test]
    fn hours_hold_unless_the_clock_is_known_to_be_wrong() {
        let night = gate(MeteredPolicy::Allow, &["22:00-06:00"]);
        let midnight = 1_800_057_600;
        assert_eq!(midnight % 86_400, 0);
        assert_eq!(night.judge(None, Some(midnight)), go(100_000));
        let Pass::Hold(why) = night.judge(None, Some(midnight + 12 * 3600)) else {
            panic!("it goes");
        };
        assert!(why.to_string().contains("22:00-06:00 UTC"), "{why}");
        assert_eq!(night.judge(None, None), go(100_000));
    }
}
