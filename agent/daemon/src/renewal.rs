//! Looks after the board's certificate: soon after the start, then as often as the console says, with jitter; after a
//! failure ever less often. What was found is shown by `coracle status`.

use crate::identity::{self, Checked, ConsoleError, Identity, Overrides, RenewError};
use crate::link::backoff::{Backoff, delay};
use coracle_protocol::renewal::{Standing, State};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// After failures: from half a minute to an hour.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(30),
    longest: Duration::from_secs(3600),
};
/// However seldom the console says, and where it says nothing.
const SELDOM: Duration = Duration::from_secs(24 * 3600);
/// However often it says.
const OFTEN: Duration = Duration::from_secs(1);

/// After the start; boards that power came back to at the same moment do not ask at the same moment.
pub const FIRST_LOOK: Duration = Duration::from_secs(60);
/// Between two renewals, whatever the console says; half of the time between *due* and the end when that is less.
const REST: Duration = Duration::from_secs(60);

/// What is known of the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CertificateState {
    /// What the console said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// When, by the board's clock; Unix seconds.
    pub asked_at: u64,
    /// Why it could not be asked, or does not renew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the task works with.
pub struct Ends {
    /// Where the identity lies.
    pub folder: PathBuf,
    /// Of coracle.toml.
    pub overrides: Overrides,
    /// Who the board is.
    pub identity: watch::Sender<Option<Identity>>,
    /// The first look comes within so long after the start.
    pub first_look: Duration,
    /// What is found.
    pub state: watch::Sender<CertificateState>,
    /// Becomes true when the daemon ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs until shutdown.
pub async fn run(mut ends: Ends) {
    let mut who = ends.identity.subscribe();
    let mut failures = 0;
    let mut wait = Some(spread(ends.first_look, crate::random::u64()));
    loop {
        let pause = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = who.changed() => {
                failures = 0;
                if changed.is_err() { return }
            }
            () = pause => {}
            _ = ends.shutdown.changed() => return,
        }
        let identity = who.borrow_and_update().clone();
        wait = match identity {
            None => None,
            Some(identity) => Some(look(&ends, &mut who, &identity, &mut failures).await),
        };
    }
}

/// One look; how long until the next.
async fn look(
    ends: &Ends,
    who: &mut watch::Receiver<Option<Identity>>,
    identity: &Identity,
    failures: &mut u32,
) -> Duration {
    let checked = identity::check(&ends.folder, &ends.overrides, identity).await;
    let now = crate::clock::now();
    match checked {
        Ok(Checked { standing, renewed }) => {
            *failures = 0;
            tell(&standing);
            let asked = standing.ask_in_seconds;
            let wait = pause(asked, crate::random::u64());
            ends.state.send_replace(CertificateState {
                standing: Some(standing),
                asked_at: now,
                error: None,
            });
            let Some(renewed) = renewed else {
                return wait;
            };
            ends.identity.send_replace(Some(renewed));
            // One's own word is no reason to look again.
            who.mark_unchanged();
            wait.max(rest(asked))
        }
        Err(error) => {
            let seldom = matches!(
                error,
                RenewError::Console(ConsoleError::Refused { status: 404, .. })
            );
            tracing::warn!(%error, "the certificate cannot be looked after now");
            ends.state.send_modify(|state| {
                state.error = Some(error.to_string());
            });
            if seldom {
                // A console of an older version.
                return SELDOM;
            }
            let asked = ends
                .state
                .borrow()
                .standing
                .as_ref()
                .map(|s| s.ask_in_seconds);
            let wait = delay(bounds(asked), *failures, crate::random::u64());
            *failures = failures.saturating_add(1);
            wait.max(OFTEN)
        }
    }
}

/// For a certificate that lives a few hours an hour would be too long.
fn bounds(asked: Option<u64>) -> Backoff {
    let longest = asked.map_or(BACKOFF.longest, |s| {
        Duration::from_secs(s).clamp(OFTEN, BACKOFF.longest)
    });
    Backoff {
        first: BACKOFF.first.min(longest),
        longest,
    }
}

/// Between half of what the console says and all of it.
fn pause(seconds: u64, random: u64) -> Duration {
    let most = Duration::from_secs(seconds).clamp(OFTEN, SELDOM);
    most / 2 + spread(most / 2, random)
}

/// Between nothing and all of it.
fn spread(most: Duration, random: u64) -> Duration {
    let bounds = Backoff {
        first: most,
        longest: most,
    };
    delay(bounds, 0, random)
}

/// After a renewal. The console asks to be asked twelve times in a certificate's life, a third of which is left
/// when it is due.
fn rest(asked: u64) -> Duration {
    Duration::from_secs(asked.saturating_mul(2)).clamp(OFTEN, REST)
}

fn tell(standing: &Standing) {
    let words = standing.reason.as_deref().unwrap_or_default();
    match standing.state {
        State::Good | State::Due | State::Expired => {}
        state => tracing::error!(
            ?state,
            words,
            "the console does not take this board's certificate as it should: `coracle enrol FILE` with a new enrolment file makes a new one"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds_and_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100u64 {
            let wait = pause(7200, n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!((Duration::from_secs(3600)..=Duration::from_secs(7200)).contains(&wait));
            seen.insert(wait);
        }
        assert!(seen.len() > 90);
        assert!(pause(0, 0) >= OFTEN / 2 && pause(u64::MAX, u64::MAX) <= SELDOM);
        let first = |random| spread(FIRST_LOOK, random);
        assert!(first(0) < Duration::from_secs(1) && first(u64::MAX) > Duration::from_secs(59));
        assert_eq!(rest(7200), REST);
        assert_eq!((rest(0), rest(2)), (OFTEN, Duration::from_secs(4)));
    }

    #[test]
    fn failures_are_bounded_by_how_short_the_certificate_lives() {
        assert_eq!(bounds(None), BACKOFF);
        assert_eq!(bounds(Some(86_400)).longest, BACKOFF.longest);
        let short = bounds(Some(10));
        assert_eq!(
            (short.first, short.longest),
            (Duration::from_secs(10), Duration::from_secs(10))
        );
    }
}
