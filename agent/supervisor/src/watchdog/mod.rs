//! The board's hardware watchdog: fed from the supervisor's one loop, so that a loop that hangs gets
//! the board reset. The daemon has no part in it.
//!
//! | file | what it does |
//! |---|---|
//! | `policy` | whether to feed it, as a pure function that knows no board |
//! | `resets` | remembers the resets, across them |
//! | `device` | the node of the kernel, which knows no policy |

mod device;
mod policy;
mod resets;

pub use device::{Device, WatchdogError};
pub use policy::{Critical, CriticalApp, Policy, Verdict};
pub use resets::Resets;

use coracle_board_support::profile::Watchdog;
use std::path::Path;
use std::time::{Duration, Instant};

/// Feeds a device when it is due.
#[derive(Debug)]
pub struct Feeder {
    device: Device,
    interval: Duration,
    due: Instant,
}

impl Feeder {
    /// Arms the profile's watchdog. Somebody else may have it (systemd's RuntimeWatchdogSec) or the
    /// board may lack it: both are told, and the apps run all the same.
    pub fn arm(wanted: Option<&Watchdog>) -> Option<Self> {
        let Some(wanted) = wanted else {
            tracing::warn!("watchdog.feed is on, and the board's profile has no [watchdog]");
            return None;
        };
        let timeout = Duration::from_secs(wanted.timeout_seconds.get().into());
        match Device::open(Path::new(wanted.device.as_str()), timeout) {
            Ok(device) => {
                let timeout = device.timeout();
                tracing::info!(device = %wanted.device, ?timeout, "the watchdog is armed");
                Some(Self::new(device, Instant::now()))
            }
            Err(error) => {
                tracing::error!(%error, "the board runs without its watchdog");
                None
            }
        }
    }

    /// Feeds it first at `now`.
    pub fn new(device: Device, now: Instant) -> Self {
        Self {
            // Two meals may be late or lost before the board is reset.
            interval: (device.timeout() / 3).max(Duration::from_secs(1)),
            device,
            due: now,
        }
    }

    /// When [`Feeder::turn`] is wanted next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The loop goes round: feeds it when it is due and the policy says so.
    pub fn turn(&mut self, now: Instant, verdict: &Verdict) {
        if now < self.due {
            return;
        }
        self.due = now + self.interval;
        match verdict {
            Verdict::Feed => {
                if let Err(error) = self.device.feed() {
                    tracing::error!(%error, "the watchdog was not fed");
                }
            }
            Verdict::Reset { app } => {
                tracing::error!(
                    app,
                    "the watchdog is no longer fed: the board will be reset"
                );
            }
        }
    }

    /// The supervisor ends on purpose: no reset for that.
    pub fn disarm(self) {
        if let Err(error) = self.device.disarm() {
            tracing::error!(%error, "the watchdog stays armed, and will reset the board");
        }
    }
}

#[cfg(test)]
mod tests;
