//! Carries out what [`crate::machine`] decides, and brings it the events.

use super::copies::{Left, VOLUME_COPY};
use super::waiting::Waits;
use super::{Supervisor, Trying, beat};
use crate::apps::{AppRun, layer, restart, slot};
use crate::health::{Tracker, Verdict};
use crate::journal::{DeployedSet, Failure, StoredSet};
use crate::machine::{Action, End, Event, Report, State, Why};
use crate::volumes::Volumes;
use coracle_protocol::local::Event as Told;
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::report::{Phase, REASON_CHARS};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

impl Supervisor {
    /// An accepted and staged set is to run.
    pub(super) async fn activate(&mut self, set: DeployedSet, stored: StoredSet) {
        self.accepted = None;
        self.trying = Some(Trying {
            set,
            stored: Some(stored),
            window: None,
            waits: Waits::default(),
        });
        let event = self.wait_or_go(Instant::now());
        self.happen(event).await;
    }

    /// One event, and those that its actions bring.
    pub(super) async fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let state = std::mem::replace(&mut self.machine, State::Idle);
            match state.on(event) {
                Ok((next, actions)) => {
                    tracing::debug!(state = ?next, ?actions, "deployment");
                    self.machine = next;
                    for action in actions {
                        events.extend(self.act(action).await);
                    }
                }
                Err(unexpected) => {
                    tracing::error!(%unexpected, "deployment");
                    self.machine = unexpected.state;
                }
            }
        }
    }

    async fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Park => self.park(),
            Action::Unpark => {
                self.unpark();
                None
            }
            Action::Record => Some(match self.record() {
                Ok(()) => Event::Recorded,
                Err(reason) => Event::RecordFailed(Why::new("disk", reason)),
            }),
            Action::StopOld | Action::StopNew => {
                self.choose_kept(action == Action::StopNew);
                if action == Action::StopOld {
                    self.choose_outgoing();
                }
                let now = Instant::now();
                let end = |app: &&mut AppRun| !app.outgoing && !app.kept;
                for app in self.apps.iter_mut().filter(end) {
                    app.wanted = false;
                }
                self.stop_in_turn(now);
                self.store_run_state();
                None
            }
            Action::StartNew => self.start_new().await,
            Action::CopyVolumes => self.copy_volumes(),
            Action::HandOver => self.hand_over(Instant::now()).await,
            Action::OpenTrial => {
                self.forget_outgoing();
                if let Some(trying) = &mut self.trying {
                    trying.window = Some(Instant::now());
                }
                None
            }
            Action::Keep => Some(match self.journal.keep() {
                Ok(()) => {
                    self.kept();
                    Event::Kept
                }
                Err(error) => Event::Fault(Why::new("disk", error.to_string())),
            }),
            Action::Forget(why) => {
                self.forget(&why);
                // The release that repairs it may need their room.
                self.collect_layers();
                None
            }
            Action::StartOld => {
                let (set, now) = (self.current.clone(), Instant::now());
                let kept = self.take_kept();
                let outgoing = self.take_outgoing();
                self.make_apps(set.as_ref());
                self.take_back_outgoing(outgoing, now);
                self.go_on_with(kept, now);
                self.collect_containers();
                self.arrange_networks().await;
                for app in self.apps.iter_mut().filter(|app| app.is_down()) {
                    app.phase = crate::apps::Phase::Waiting { at: now };
                }
                self.start_due(now).await;
                Some(Event::RestoredOld)
            }
            Action::Report(report) => {
                self.report(report);
                None
            }
        }
    }

    /// The set, then the counters: from here on this assignment is never new again. A cut between the two leaves a trial, which
    /// the next start takes back, and whose counters it raises; the other way round, an assignment would be used up
    /// and nobody could say by what.
    fn record(&mut self) -> Result<(), String> {
        let trying = self.trying.as_ref().ok_or("nothing is being tried")?;
        let stored = trying.stored.as_ref().ok_or("its documents are gone")?;
        // What an earlier one has left would be put back by this one.
        let way = Volumes::of(&self.settings).make_way();
        way.map_err(|error| error.to_string())?;
        self.has_room_for_copies(&trying.set)?;
        self.journal.record(stored).map_err(|e| e.to_string())?;
        let seen = trying.set.deployment().seen();
        let Err(fault) = self.trust.persist(seen) else {
            self.forget_parked();
            return Ok(());
        };
        if let Err(error) = self.journal.forget(None) {
            tracing::error!(%error, "the trial stays in the journal and is taken back at the next start");
        }
        Err(fault.to_string())
    }

    /// Everything that the new set's apps share; they are started in their turn.
    async fn start_new(&mut self) -> Option<Event> {
        let set = self.trying.as_ref().map(|trying| trying.set.clone());
        let kept = self.take_kept();
        let outgoing = self.take_outgoing();
        self.make_apps(set.as_ref());
        self.keep_beside(outgoing);
        self.go_on_with(kept, Instant::now());
        // The old apps' layers first: the new ones' images need the room.
        let container = self.container();
        for app in self
            .apps
            .iter()
            .filter(|app| !app.outgoing && app.is_down())
        {
            let other = slot::other_than(&app.slot);
            let is_free = !self.apps.iter().any(|run| run.slot == other);
            let mut cleared = layer::clear_stale(&self.settings, &app.slot, &container);
            if is_free && cleared.is_ok() {
                cleared = layer::give_up(&self.settings.config, &other);
            }
            if let Err(error) = cleared {
                let reason = format!("app `{}`: {error}", app.name());
                return Some(Event::Fault(Why::new("start-failed", reason)));
            }
        }
        if let Some((network, fault)) = self.arrange_networks().await.into_iter().next() {
            let reason = format!("network `{network}` cannot be made: {fault}");
            return Some(Event::Fault(Why::new("start-failed", reason)));
        }
        None
    }

    fn kept(&mut self) {
        // What came during the trial.
        self.device_watch.look_soon();
        self.following.look_soon();
        if let Some(trying) = self.trying.take() {
            self.previous = self.current.replace(trying.set);
            self.over_budget = None;
        }
        if let Some(failure) = self.failure.as_mut().filter(|failure| !failure.over) {
            failure.over = true;
            if let Err(error) = self.journal.note(failure) {
                tracing::warn!(%error, "the lights of a next supervisor may tell a failure that is over");
            }
        }
        self.drop_copies();
        self.collect_containers();
        self.collect_layers();
    }

    /// What apps left that the active set does not have goes: of the set before, or of a trial that was taken back.
    pub(super) fn collect_containers(&mut self) {
        let mut kept = BTreeSet::new();
        kept.extend(self.apps.iter().map(|app| app.slot.as_str()));
        if let Err(error) = layer::collect(&self.settings.config, &kept) {
            tracing::warn!(%error, "what apps left that are no more stays");
        }
        let config = &self.settings.config;
        let has = |slot: &str| layer::folder(config, slot).exists();
        let is_there = |app: &AppName| {
            let mut runs = self.apps.iter();
            runs.any(|run| run.name() == app)
                || has(app.as_str())
                || has(&slot::other_than(app.as_str()))
        };
        if let Err(error) = self.ranges.retain(is_there) {
            tracing::warn!(%error, "ids of apps that are no more stay taken");
        }
    }

    /// Layers that neither the current, the previous, the tried nor the accepted set has, go.
    pub(super) fn collect_layers(&mut self) {
        let sets = [
            self.current.as_ref(),
            self.previous.as_ref(),
            self.trying.as_ref().map(|trying| &trying.set),
        ];
        let mut needed = BTreeSet::new();
        needed.extend(sets.into_iter().flatten().flat_map(|set| set.layers()));
        if let Some(accepted) = &self.accepted {
            needed.extend(accepted.release().layers().map(|layer| layer.diff_id));
        }
        needed.extend(self.own.layers());
        self.own.collect();
        match crate::gc::collect(&self.settings.config, &needed) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "layers that no set needs are going"),
            Err(error) => tracing::warn!(%error, "layers that no set needs stay"),
        }
        self.sweep();
    }

    fn forget(&mut self, why: &Why) {
        self.forget_parked();
        let started = matches!(self.machine, State::Restoring(..)) && why.code != VOLUME_COPY;
        let failure = self.trying.take().map(|trying| Failure {
            deployment: trying.set.digest(),
            activity: trying.set.activity.clone(),
            code: why.code.to_owned(),
            reason: match started {
                true => with_left(&why.reason, &self.left_volumes(&trying.set)),
                false => why.reason.clone(),
            },
            over: false,
        });
        if let Err(error) = self.journal.forget(failure.as_ref()) {
            tracing::error!(%error, "a next start knows no reason, or finds the trial and takes it back");
        }
        if let Some(failure) = failure {
            self.ended_activity = failure.activity.clone();
            self.last_words = Some(failure.words());
            self.failure = Some(failure);
        }
    }

    fn report(&mut self, report: Report) {
        let trying = self.trying.as_ref().map(|trying| &trying.set);
        let (activity, phase, why) = match report {
            Report::Waiting(why) => (trying, Phase::Waiting, Some(why)),
            Report::Switching => (trying, Phase::Switching, None),
            Report::Trial => (trying, Phase::Trial, None),
            Report::Committed => (self.current.as_ref(), Phase::Committed, None),
            Report::Ended(End::Failed, why) => (None, Phase::Failed, Some(why)),
            Report::Ended(End::RolledBack, why) => (None, Phase::RolledBack, Some(why)),
        };
        let activity =
            activity.map_or_else(|| self.ended_activity.clone(), |set| set.activity.clone());
        // With what was kept, as it is told later too.
        let why = why.map(|why| match &self.failure {
            Some(failure)
                if failure.activity == activity && failure.reason.starts_with(&why.reason) =>
            {
                Why::new(why.code, failure.reason.clone())
            }
            _ => why,
        });
        match &why {
            Some(why) => {
                tracing::warn!(activity, ?phase, code = why.code, why.reason, "deployment")
            }
            None => tracing::info!(activity, ?phase, "deployment"),
        }
        if phase.is_end() {
            self.news.ended(phase == Phase::Committed);
        }
        self.store_run_state();
        self.tell(Told::Deployment {
            activity,
            phase,
            code: why.as_ref().map(|why| why.code.to_owned()),
            reason: why.map(|why| why.reason),
        });
    }

    /// Goes on with a deployment that is under way, as far as it can. An end of the last app needs not be
    /// waited for when there was none: one step may be followed by the next at once.
    pub(super) async fn go_on(&mut self) {
        loop {
            let now = Instant::now();
            self.judged_at = now;
            self.stop_in_turn(now);
            match self.observe(now).await {
                Some(event) => self.happen(event).await,
                None => return,
            }
        }
    }

    async fn observe(&mut self, now: Instant) -> Option<Event> {
        let ending = |app: &&AppRun| self.is_to_end(app);
        let all_down = self.apps.iter().filter(ending).all(AppRun::is_down);
        match &self.machine {
            State::StoppingOld => all_down.then_some(Event::OldStopped),
            State::Copying => self.copied(now),
            State::StoppingNew(..) => {
                (all_down && self.put_back_volumes(now)).then_some(Event::NewStopped)
            }
            State::Waiting => self.look_again(now),
            State::Starting => self.start_more(now).await,
            State::HandingOver => self.await_ready(now),
            State::Relieving => self.fault_of_apps().or(all_down.then_some(Event::Relieved)),
            State::Trial => self.judge(now),
            _ => None,
        }
    }

    /// When the trial's time is over.
    pub(super) fn trial_due(&self) -> Option<Instant> {
        if self.machine != State::Trial {
            return None;
        }
        // Once they are over only a probe's answer can change anything, and that wakes the loop by itself.
        let ends = [self.window_end()?, self.trial_end()?];
        beat::not_judged(ends.into_iter(), self.judged_at)
    }

    fn trial_end(&self) -> Option<Instant> {
        let end = self.apps_proven_at()?;
        // A program on trial with them has a least time of its own.
        let own = self.own.choice.trial.map(|_| self.own.proves_at);
        Some(own.map_or(end, |own| own.max(end)))
    }

    /// When the apps have run for as long as their release says; one that has failed has to do so anew, in one run.
    pub(super) fn apps_proven_at(&self) -> Option<Instant> {
        let end = self.window_end()?;
        let anew = self.apps.iter().filter_map(AppRun::proven_anew_at).max();
        Some(anew.map_or(end, |anew| anew.max(end)))
    }

    /// When all apps have to run.
    fn window_end(&self) -> Option<Instant> {
        let opened = self.trying.as_ref()?.window?;
        let seconds = self.apps.iter().map(|app| app.app.trial_seconds).max();
        Some(opened + Duration::from_secs(seconds.unwrap_or(0).into()))
    }

    /// An app of the new set that has shown already that it does not work.
    pub(super) fn fault_of_apps(&self) -> Option<Event> {
        let fault = |code, reason| Some(Event::Fault(Why::new(code, reason)));
        for app in self.apps.iter().filter(|app| !app.outgoing) {
            if app.hook_failed {
                let reason = format!("app `{}`: {}", app.name(), app.end_text());
                return fault("hook-failed", reason);
            }
            if app.tracker.as_ref().map(Tracker::verdict) == Some(Verdict::Unhealthy) {
                return fault("unhealthy", app.unhealthy_text());
            }
            let end = || format!("app `{}` does not stay up: {}", app.name(), app.end_text());
            // Also with long runs between them, after each of which it would have to prove itself anew.
            let again = app.proven_anew_at().map_or(0, |_| app.restarts);
            let times = app.in_a_row.max(again);
            if times > restart::TRIAL_RESTARTS {
                return fault("crash-loop", format!("{}, {times} times", end()));
            }
            if app.ended_fine == Some(false) {
                return fault("exited", end());
            }
        }
        None
    }

    fn judge(&self, now: Instant) -> Option<Event> {
        let fault = self.fault_of_apps();
        if fault.is_some() || now < self.window_end()? {
            return fault;
        }
        let open: Vec<Result<(), String>> =
            self.apps.iter().filter_map(AppRun::not_proven).collect();
        match open.iter().find_map(|reason| reason.as_ref().err()) {
            Some(reason) => Some(Event::Fault(Why::new("not-running", reason.clone()))),
            None if !open.is_empty() || now < self.trial_end()? => None,
            None => self.lacks_daemon(now),
        }
    }
}

/// Characters that may stand before a reason where it is told later: the name of its assignment, and that a next one is too old.
const BEFORE: usize = 320;

/// Most volumes are not taken back with the set that wrote them: whoever runs next finds what it left there.
fn with_left(reason: &str, left: &Left) -> String {
    let room = |text: &str| (REASON_CHARS - BEFORE).saturating_sub(text.chars().count());
    let mut text = reason.to_owned();
    if let Some(since) = left.since() {
        text = format!("{text}; put back as of {since}, what it wrote there is gone: ");
        text += &listed(&left.back, room(&text));
    }
    if !left.kept.is_empty() {
        text += "; kept with what it wrote: ";
        text += &listed(&left.kept, room(&text));
    }
    text
}

/// As many of these volumes as that room holds, each with its whole name, and how many there are beside them.
fn listed(names: &BTreeSet<VolumeName>, room: usize) -> String {
    let all = names.len();
    let mut text = String::new();
    for (at, name) in names.iter().map(VolumeName::as_str).enumerate() {
        if text.len() + name.len() + 2 > room {
            return match at {
                0 => format!("{all} volume{}", if all == 1 { "" } else { "s" }),
                _ => format!("volumes {text} and {} more", all - at),
            };
        }
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    format!("volumes {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_by_whole_names_and_the_others_by_their_number() {
        let name = |n| VolumeName::new(&format!("volume-{n:02}")).unwrap();
        let of = |count: usize, room| listed(&(0..count).map(name).collect(), room);
        assert_eq!(of(2, 600), "volumes volume-00, volume-01");
        assert_eq!(of(40, 600).len(), "volumes ".len() + 40 * 11 - 2);
        assert_eq!(of(40, 30), "volumes volume-00, volume-01 and 38 more");
        assert_eq!(
            (of(40, 0), of(1, 0)),
            ("40 volumes".into(), "1 volume".into())
        );
    }
}
