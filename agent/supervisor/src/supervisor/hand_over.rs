//! Apps that are handed over: the one of the old set serves on beside the new one until that is ready; then what comes for it
//! goes to the new one, and it ends. Until the end they are the last of `apps`, so that by name the new one is found first.

use super::order::patience;
use super::{Supervisor, beat};
use crate::apps::{AppRun, Phase, launch, slot, whole};
use crate::health::Tracker;
use crate::machine::{Event, State, Why};
use coracle_network::PublishedPort;
use coracle_protocol::names::AppName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An app without a health check is ready when it has run for so long: one that ends at once takes nothing over.
const STEADY: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Which apps of the old set serve on: those that run, and that the new set hands over.
    pub(super) fn choose_outgoing(&mut self) {
        let set = self.trying.iter().flat_map(|trying| trying.set.apps());
        let handed_over = set.map(|(app, _)| app).filter(|app| app.is_handed_over());
        let mut names = BTreeSet::new();
        names.extend(handed_over.map(|app| &app.name));
        for run in &mut self.apps {
            run.outgoing = run.phase == Phase::Up && !run.kept && names.contains(run.name());
        }
    }

    /// Out of the active apps; the others of an old set are down by then.
    pub(super) fn take_outgoing(&mut self) -> Vec<AppRun> {
        let outgoing = self.apps.extract_if(.., |run| run.outgoing);
        outgoing.collect()
    }

    /// Beside the new set's apps, which have the slots that these do not have.
    pub(super) fn keep_beside(&mut self, outgoing: Vec<AppRun>) {
        for run in outgoing {
            let mut new = self.apps.iter_mut();
            if let Some(new) = new.find(|new| new.name() == run.name()) {
                new.take_slot(slot::other_than(&run.slot));
            }
            self.order.push(self.apps.len());
            self.apps.push(run);
        }
    }

    /// At start, in the middle of a hand-over: those that an earlier supervisor left to serve on, none of them adopted yet.
    pub(super) fn find_outgoing(&mut self, names: &[AppName]) {
        let Some(current) = self.current.clone() else {
            return;
        };
        let outgoing = current.apps_to_run();
        let outgoing = outgoing.filter(|(app, _)| names.contains(&app.name));
        let outgoing = outgoing.map(|(app, image)| {
            let plan = self.plan(&current, &app, image);
            let mut run = AppRun::new(app, plan);
            run.outgoing = true;
            run
        });
        let outgoing = outgoing.collect();
        self.keep_beside(outgoing);
    }

    /// The old set is the active one again: those that served on go on as its apps, where they still can be reached.
    pub(super) fn take_back_outgoing(&mut self, outgoing: Vec<AppRun>, now: Instant) {
        for mut run in outgoing {
            run.outgoing = false;
            run.wanted = true;
            if let Ok(plan) = &run.plan
                && let Err(error) = launch::prepare_volumes(&self.settings, plan)
            {
                tracing::warn!(app = %run.name(), %error, "a volume keeps the limit that the other version gave it");
            }
            if let Some(at) = self.find(|app| app.name() == run.name()) {
                run.awaited = self.apps[at].awaited;
                self.apps[at] = run;
            }
        }
        self.stop_relieved(now);
    }

    /// Whoever serves again and has given its ports away gets them with its next start.
    pub(super) fn stop_relieved(&mut self, now: Instant) {
        for run in self.apps.iter_mut().filter(|run| !run.outgoing) {
            let mut places = run.process.iter().flat_map(|process| &process.places);
            if places.any(|place| place.endpoint.relieved) {
                run.stop(now);
            }
        }
    }

    /// Those that ended after they were relieved.
    pub(super) fn forget_outgoing(&mut self) {
        if self.apps.iter().any(|run| run.outgoing) {
            self.take_outgoing();
            self.order = self.work_out_order();
            self.store_run_state();
        }
    }

    /// Whether it is among those that end, while some do.
    pub(super) fn is_to_end(&self, run: &AppRun) -> bool {
        let relieving = self.machine == State::Relieving;
        self.resetting.is_some() || (run.outgoing == relieving && !run.kept)
    }

    /// Whether others find an app, and not the other one of its name.
    pub(super) fn is_announced(&self, run: &AppRun) -> bool {
        match run.outgoing {
            true => run.wanted,
            false => !self.serving().any(|other| other.name() == run.name()),
        }
    }

    /// Those that serve on.
    fn serving(&self) -> impl Iterator<Item = &AppRun> {
        self.apps.iter().filter(|run| run.outgoing && run.wanted)
    }

    /// Whether one that serves on has ports that this app is to have.
    pub(super) fn waits_for_ports(&self, index: usize) -> bool {
        let ports = |run: &AppRun| match &run.plan {
            Ok(plan) => plan.ports.clone(),
            Err(_) => Vec::new(),
        };
        let run = &self.apps[index];
        let wanted = if run.outgoing { Vec::new() } else { ports(run) };
        let mut taken = self.serving().flat_map(ports);
        taken.any(|taken| wanted.iter().any(|port| port.collides_with(&taken)))
    }

    /// Those that are to take over, and are not ready.
    fn not_ready(&self, now: Instant) -> impl Iterator<Item = &AppRun> {
        let new = |old: &AppRun| {
            let mut apps = self.apps.iter().filter(|run| !run.outgoing);
            apps.find(|run| run.name() == old.name())
        };
        let new = self.serving().filter_map(new);
        let is_young = move |run: &AppRun| steady_at(run).is_some_and(|at| at > now);
        new.filter(move |run| run.not_proven().is_some() || is_young(run))
    }

    /// Whether each that is to take over is ready. It has the time of its trial for that, from its first start.
    pub(super) fn await_ready(&self, now: Instant) -> Option<Event> {
        let fault = self.fault_of_apps();
        if fault.is_some() {
            return fault;
        }
        let mut ready = true;
        for run in self.not_ready(now) {
            ready = false;
            if patience(run).is_none_or(|at| at > now) {
                continue;
            }
            let why = match run.not_proven() {
                Some(Err(why)) => why,
                _ => {
                    let said = run.tracker.as_ref().and_then(Tracker::text);
                    format!(
                        "app `{}`: {}",
                        run.name(),
                        said.unwrap_or("no probe has succeeded yet")
                    )
                }
            };
            let reason = format!(
                "the new version was not ready within its trial_seconds of {}, and the one before it serves on: {why}",
                run.app.trial_seconds
            );
            return Some(Event::Fault(Why::new("not-ready", reason)));
        }
        ready.then_some(Event::Ready)
    }

    /// When the first of them may be ready by then, or is too late.
    pub(super) fn ready_due(&self) -> Option<Instant> {
        if self.machine != State::HandingOver {
            return None;
        }
        let waiting = self.not_ready(self.judged_at);
        let times = waiting.flat_map(|run| [steady_at(run), patience(run)]);
        beat::not_judged(times.flatten(), self.judged_at)
    }

    /// The new ones serve, by port and by name; those that served on are told to end.
    pub(super) async fn hand_over(&mut self, now: Instant) -> Option<Event> {
        if !self.apps.iter().any(|run| run.outgoing) {
            return None;
        }
        let moved = self.move_ports().await;
        self.read_places();
        if let Err(fault) = moved {
            self.store_run_state();
            let reason = format!("published ports cannot be handed over: {fault}");
            return Some(Event::Fault(Why::new("start-failed", reason)));
        }
        let outgoing = self.apps.iter_mut().filter(|run| run.outgoing);
        let mut names = Vec::new();
        for run in outgoing {
            run.wanted = false;
            names.push(run.name().clone());
        }
        self.share_names();
        self.stop_in_turn(now);
        self.store_run_state();
        for name in names {
            self.app_changed(&name, "the new version serves, and the one before it ends");
        }
        None
    }

    async fn move_ports(&mut self) -> Result<(), String> {
        let Ok(networks) = &mut self.bridge.0 else {
            return Ok(());
        };
        let (from, to): (Vec<&AppRun>, Vec<&AppRun>) =
            self.apps.iter().partition(|run| run.outgoing);
        let from: Vec<&str> = from.iter().map(|run| run.slot.as_str()).collect();
        let mut wanted: BTreeMap<&str, &[PublishedPort]> = BTreeMap::new();
        for run in to.into_iter().filter(|run| !run.is_down()) {
            if let Ok(plan) = &run.plan {
                wanted.insert(&run.slot, &plan.ports);
            }
        }
        let moved = networks.hand_over(&from, &wanted).await;
        moved.map_err(|error| whole(&error))
    }

    /// Which ports apps have by now.
    fn read_places(&mut self) {
        let Ok(networks) = &self.bridge.0 else { return };
        for run in &mut self.apps {
            for place in run
                .process
                .iter_mut()
                .flat_map(|process| &mut process.places)
            {
                let network = networks.inspect(&place.network);
                if let Some(now) = network.ok().and_then(|network| network.endpoint(&run.slot)) {
                    place.endpoint.clone_from(now);
                }
            }
        }
    }
}

fn steady_at(run: &AppRun) -> Option<Instant> {
    let process = run.process.as_ref().filter(|_| run.tracker.is_none())?;
    Some(process.since + STEADY)
}
