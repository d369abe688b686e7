//! Carries the policy of [`crate::thermal`] out: looks at the profile's zones now and then, while apps run, and changes their
//! CPU quotas where they are.
//!
//! What was taken is not written down: a supervisor that starts gives each app that it adopts all of its quota, and begins anew.

use super::Supervisor;
use crate::apps::AppRun;
use crate::apps::plan::hold_cpu;
use crate::thermal::{Change, ThermalApp, Throttle};
use coracle_board_support::profile::Thermal;
use coracle_board_support::thermal::{self, Heat, Look, Reading};
use coracle_protocol::release::App;
use coracle_protocol::report::{HeatState, HeatStatus};
use coracle_runtime::Limits;
use std::time::{Duration, Instant};

/// While every zone is so far below its threshold, in thousandths of a degree …
const CALM_MARGIN: i32 = 15_000;
/// … looks are so many times as seldom …
const CALM_FACTOR: u32 = 4;
/// … but not more seldom than this; so often, too, where no zone can be read.
const CALM_LONGEST: Duration = Duration::from_secs(60);

/// What was seen, and what was taken.
#[derive(Debug)]
pub(super) struct Cooling {
    throttle: Throttle,
    look_at: Option<Instant>,
    seen: Option<Look>,
    blind: bool,
}

impl Cooling {
    /// By the profile's policy; a profile without one never looks.
    pub(super) fn of(policy: Option<&Thermal>) -> Self {
        let (step, floor) = policy.map_or((100, 100), |policy| {
            (policy.step_percent.get(), policy.floor_percent.get())
        });
        Self {
            throttle: Throttle::new(step, floor),
            look_at: None,
            seen: None,
            blind: false,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.look_at
    }

    /// What an app that is started now gets of its quota.
    pub(super) fn quota(&self, app: &App) -> u32 {
        self.throttle
            .quota(app.name.as_str(), app.limits.cpu_millis)
    }

    /// Per cent that it has, when that is not all of it.
    pub(super) fn percent(&self, app: &AppRun) -> Option<u8> {
        Some(self.throttle.share(app.name().as_str())).filter(|share| *share < 100)
    }

    pub(super) fn status(&self) -> Option<HeatStatus> {
        let look = self.seen.as_ref()?;
        let hottest = look.hottest.as_ref()?;
        Some(HeatStatus {
            state: match look.heat {
                Heat::Cool => HeatState::Cool,
                Heat::Between => HeatState::Between,
                Heat::Hot => HeatState::Hot,
            },
            zone: hottest.zone.as_str().to_owned(),
            millidegrees: hottest.millidegrees,
            throttle_celsius: hottest.throttle_celsius,
        })
    }

    /// From one look to the next.
    fn pause(&self, interval: Duration) -> Duration {
        let hottest = self.seen.as_ref().and_then(|look| look.hottest.as_ref());
        let longest = CALM_LONGEST.max(interval);
        match hottest {
            None => longest,
            Some(zone) if self.throttle.is_idle() && zone.margin() >= CALM_MARGIN => {
                interval.saturating_mul(CALM_FACTOR).min(longest)
            }
            Some(_) => interval,
        }
    }

    /// One look. What is to be changed.
    fn look(&mut self, look: Look, apps: &[ThermalApp]) -> Vec<Change> {
        let blind = look.hottest.is_none();
        if blind && !self.blind {
            tracing::warn!(
                "no zone of [thermal] can be read: {}",
                what_follows(self.throttle.is_idle())
            );
        }
        self.blind = blind;
        let changes = self.throttle.look(look.heat, apps);
        self.seen = Some(look);
        changes
    }
}

impl Supervisor {
    /// Looks when a look is due: only while apps run, whose CPU could be taken.
    pub(super) fn follow_heat(&mut self, now: Instant) {
        let Some(policy) = &self.settings.profile.thermal else {
            return;
        };
        if self.apps.iter().all(AppRun::is_down) {
            self.cooling.look_at = None;
            // Nobody looks any more, so nobody is told how hot it was.
            self.cooling.seen = None;
            return;
        }
        if self.cooling.look_at.is_some_and(|at| at > now) {
            return;
        }
        let look = thermal::look(&self.settings.config.hardware_root, policy);
        let interval = Duration::from_secs(policy.interval_seconds.get().into());
        let own = self.apps.iter().filter(|app| !app.outgoing);
        let apps: Vec<ThermalApp> = own.map(thermal_app).collect();
        let changes = self.cooling.look(look, &apps);
        self.cooling.look_at = Some(now + self.cooling.pause(interval));
        for change in changes {
            self.change_quota(&change);
        }
    }

    fn change_quota(&mut self, change: &Change) {
        let Some(index) = self.find(|app| app.name().as_str() == change.name) else {
            return;
        };
        let app = &self.apps[index];
        if let Some(process) = &app.process {
            let plan = app.plan.as_ref().ok();
            let mut limits = Limits {
                cpu_burst_micros: plan.and_then(|plan| plan.limits.cpu_burst_micros),
                ..Limits::default()
            };
            hold_cpu(&mut limits, change.quota_millis);
            if let Err(error) = process.cgroup.set_limits(&limits) {
                tracing::error!(app = change.name, %error, "its CPU quota stays as it is");
                return;
            }
        }
        let name = app.name().clone();
        let look = self.cooling.seen.as_ref();
        let hottest = look.and_then(|look| look.hottest.as_ref());
        let because = hottest.map(said).unwrap_or_default();
        let what = match change.percent {
            100 => format!("has all of its CPU again{because}"),
            percent => format!("has {percent} % of its CPU{because}"),
        };
        self.app_changed(&name, what);
    }
}

/// While nothing can be read. Who knows that the board was hot does not take for granted that it is not.
fn what_follows(nothing_taken: bool) -> &'static str {
    match nothing_taken {
        true => "apps are not slowed while the board is hot",
        false => {
            "apps stay slowed as they are until one can be, or until the supervisor starts anew"
        }
    }
}

fn said(zone: &Reading) -> String {
    let celsius = f64::from(zone.millidegrees) / 1000.0;
    format!(": {} is at {celsius:.1} °C", zone.zone)
}

fn thermal_app(app: &AppRun) -> ThermalApp {
    ThermalApp {
        name: app.name().to_string(),
        priority: app.app.priority,
        quota_millis: app.app.limits.cpu_millis,
        runs: !app.is_down(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(millidegrees: i32) -> Look {
        let heat = match millidegrees {
            75_000.. => Heat::Hot,
            68_000.. => Heat::Between,
            _ => Heat::Cool,
        };
        let zone = Reading {
            zone: "cpu-thermal".try_into().unwrap(),
            millidegrees,
            throttle_celsius: 75,
        };
        Look {
            heat,
            hottest: Some(zone),
        }
    }

    #[test]
    fn a_cool_board_is_looked_at_seldom_and_a_slowed_one_is_not() {
        let app = ThermalApp {
            name: "web".into(),
            priority: 1,
            quota_millis: 500,
            runs: true,
        };
        let mut cooling = Cooling {
            throttle: Throttle::new(20, 20),
            ..Cooling::of(None)
        };
        let five = Duration::from_secs(5);
        let mut pause = |look: Look| {
            cooling.look(look, std::slice::from_ref(&app));
            cooling.pause(five)
        };
        assert_eq!(pause(seen(40_000)), 4 * five);
        assert_eq!(pause(seen(60_001)), five);
        assert_eq!(pause(seen(80_000)), five);
        assert_eq!(pause(seen(76_000)), five);
        // Cool again, and not all was given back yet.
        assert_eq!(pause(seen(40_000)), five);
        assert_eq!(pause(seen(40_000)), 4 * five);
        let blind = Look {
            heat: Heat::Between,
            hottest: None,
        };
        assert_eq!(pause(blind), CALM_LONGEST);
        let hour = Duration::from_secs(3600);
        assert_eq!(Cooling::of(None).pause(hour), hour);
    }

    #[test]
    fn what_was_seen_is_said_in_degrees() {
        let said = |millidegrees| said(seen(millidegrees).hottest.as_ref().unwrap());
        assert_eq!(said(76_249), ": cpu-thermal is at 76.2 °C");
        assert_eq!(said(-5_300), ": cpu-thermal is at -5.3 °C");
    }
}
