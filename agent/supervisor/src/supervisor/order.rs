//! Which app starts after which, what it waits for, and that each is stopped before those that it depends on.

use super::Supervisor;
use crate::apps::{AppRun, Phase};
use crate::machine::{Event, State, Why};
use coracle_protocol::release::{App, Condition, start_order};
use std::time::{Duration, Instant};

impl Supervisor {
    /// Positions of the apps in the order in which they start: those that others depend on, and those whose network others
    /// use, before these. Worked out when a set's apps are made.
    pub(super) fn work_out_order(&self) -> Vec<usize> {
        let apps: Vec<&App> = self.apps.iter().map(|run| &*run.app).collect();
        // A release whose apps wait for each other in a circle does not verify.
        start_order(&apps).unwrap_or_else(|_| (0..apps.len()).collect())
    }

    /// What an app depends on and what is not as it has to be, with the condition.
    fn lacking(&self, index: usize) -> impl Iterator<Item = (&AppRun, Condition)> {
        let app = &self.apps[index].app;
        let host = app.network.container.iter();
        // One that is made and not started yet, or itself waits for others; else a guest's start fails with the reason.
        let host = host.map(|name| (name, Condition::Started, true));
        let all = app.depends_on.iter().map(|(name, on)| (name, *on, false));
        all.chain(host).filter_map(|(name, condition, is_host)| {
            let other = self.apps.iter().find(|run| run.name() == name)?;
            let lacks = match is_host {
                true => {
                    matches!(other.phase, Phase::Created | Phase::Preparing) || other.held.is_some()
                }
                false => !other.meets(condition),
            };
            lacks.then_some((other, condition))
        })
    }

    /// Whether an app has to wait for others; what it waits for is said once.
    pub(super) fn is_held(&mut self, index: usize) -> bool {
        let lacking = self.lacking(index);
        let words = lacking.map(|(other, condition)| format!("{}: {condition}", other.name()));
        let mended = "its layer, which is mended".to_owned();
        let words: Vec<String> = words
            .chain(self.is_mended(index).then_some(mended))
            .collect();
        let held = (!words.is_empty()).then(|| format!("waiting for {}", words.join(", ")));
        let app = &mut self.apps[index];
        if app.held == held {
            return held.is_some();
        }
        app.held.clone_from(&held);
        let name = app.name().clone();
        if let Some(words) = held {
            self.app_changed(&name, words);
            return true;
        }
        false
    }

    /// Starts those of the new set that need wait for nobody any more.
    pub(super) async fn start_more(&mut self, now: Instant) -> Option<Event> {
        if let Some(fault) = self.fault_of_apps() {
            return Some(fault);
        }
        for at in 0..self.order.len() {
            let index = self.order[at];
            if self.apps[index].phase != Phase::Created {
                continue;
            }
            if self.is_held(index) {
                if let Some(reason) = self.too_late(index, now) {
                    return Some(Event::Fault(Why::new("not-ready", reason)));
                }
                continue;
            }
            if let Err(fault) = self.start_app(index).await {
                let name = self.apps[index].name();
                let reason = format!("app `{name}` cannot be started: {fault}");
                return Some(Event::Fault(Why::new("start-failed", reason)));
            }
        }
        let comes =
            |app: &AppRun| !app.outgoing && matches!(app.phase, Phase::Created | Phase::Preparing);
        let held = self.apps.iter().any(comes);
        (!held).then_some(Event::NewStarted)
    }

    /// A condition has the trial's time of the app that it is about, from that one's first start.
    fn too_late(&self, index: usize, now: Instant) -> Option<String> {
        let over = |(other, _): &(&AppRun, Condition)| patience(other).is_some_and(|at| at <= now);
        let (other, condition) = self.lacking(index).find(over)?;
        let end = match (other.phase, other.tracker.as_ref()) {
            (Phase::Up, Some(tracker)) => tracker.text().unwrap_or("no probe has succeeded yet"),
            (Phase::Up, None) => "it still runs",
            _ => &other.end_text(),
        };
        Some(format!(
            "app `{}` waits for `{}` to be {condition}, which it was not within its trial_seconds of {}: {end}",
            self.apps[index].name(),
            other.name(),
            other.app.trial_seconds,
        ))
    }

    /// When the first of the conditions that are waited for is too late.
    pub(super) fn held_due(&self) -> Option<Instant> {
        if self.machine != State::Starting {
            return None;
        }
        let created = |index: &usize| self.apps[*index].phase == Phase::Created;
        let held = (0..self.apps.len()).filter(created);
        held.flat_map(|index| self.lacking(index))
            .filter_map(|(other, _)| patience(other))
            .min()
    }

    /// While a set ends, or all of them for a reset: stops the apps on which none depends that still runs, and those that are down anyway.
    pub(super) fn stop_in_turn(&mut self, now: Instant) {
        let set_ends = matches!(
            self.machine,
            State::StoppingOld | State::Relieving | State::StoppingNew(..)
        );
        if !set_ends && self.resetting.is_none() {
            return;
        }
        let mut stopped = false;
        for index in 0..self.apps.len() {
            let app = &self.apps[index];
            let ends =
                matches!(app.phase, Phase::Stopping { .. } | Phase::Ended) || !self.is_to_end(app);
            let depends = |other: &AppRun| {
                self.is_to_end(other)
                    && !other.is_down()
                    && other.app.depends_on.contains_key(app.name())
            };
            // One that is down has no turn to wait for: it would only be started again meanwhile.
            let has_turn = || app.is_down() || !self.apps.iter().any(depends);
            if ends || !has_turn() {
                continue;
            }
            self.apps[index].stop(now);
            stopped = true;
        }
        if stopped {
            self.store_run_state();
        }
    }
}

/// Until when an app may take to be as others need it.
pub(super) fn patience(app: &AppRun) -> Option<Instant> {
    Some(app.first_start? + Duration::from_secs(app.app.trial_seconds.into()))
}
