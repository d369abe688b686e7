//! One app over its life: what it is to be, whether it runs, and what its end means.

pub mod cpus;
pub mod devices;
mod ending;
pub mod etc;
pub(crate) mod filter;
pub mod hooks;
pub mod interfaces;
pub mod late;
pub mod launch;
pub mod layer;
pub mod lock;
mod pause;
pub mod places;
pub mod plan;
mod proof;
pub mod restart;
pub mod secrets;
pub mod slot;
pub mod top;
pub mod user;

use crate::adopt::EndedApp;
use crate::health::{Tracker, Verdict, probe};
use crate::hooks::Hook;
use crate::journal::SetApp;
use crate::logs::Output;
use coracle_network::Attachment;
use coracle_protocol::names::{AppName, DeviceName};
use coracle_protocol::release::Condition;
use coracle_runtime::Cgroup;
use coracle_runtime::launch::Running;
use coracle_runtime::namespaces::IdRange;
use plan::Plan;
use std::time::Instant;

/// Where an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// Its `pre_start` runs in its place.
    Preparing,
    /// Runs.
    Up,
    /// Was told to end; killed at this time.
    Stopping {
        /// When patience ends; `None` once it was killed.
        kill_at: Option<Instant>,
    },
    /// Ended, started again at this time.
    Waiting {
        /// When.
        at: Instant,
    },
    /// Ended or stopped, and stays so.
    Ended,
}

/// The process of an app that is up or stopping.
#[derive(Debug)]
pub struct Process {
    /// The container's first process.
    pub running: Running,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its places on networks, in the order of its interfaces.
    pub places: Vec<Attachment>,
    /// Its output, so that a dead log writer can be replaced.
    pub output: Option<Output>,
    /// Process id of the log writer.
    pub log_writer: Option<i32>,
    /// When it was started.
    pub since: Instant,
    /// OOM kills in the cgroup when it was started.
    pub oom_kills_before: u64,
    /// The ids that it has of its own.
    pub ids: Option<IdRange>,
    /// Devices of the board that it was given.
    pub devices: Vec<devices::Given>,
    /// What of them it may open; `None` until the first look.
    pub held: Option<devices::Held>,
    /// It has more memory than its set gives it, since more was in use when it was to have less.
    pub late: Option<late::Late>,
}

/// An app of the active set.
#[derive(Debug)]
pub struct AppRun {
    /// What was signed.
    pub app: SetApp,
    /// What its container is called on the board.
    pub slot: String,
    /// What that comes to, or why it cannot run.
    pub plan: Result<Plan, String>,
    /// Where it is.
    pub phase: Phase,
    /// It is of the set before, and serves on until the new one of its name is ready.
    pub outgoing: bool,
    /// Its process goes on in the set that comes, with that one's limits: between the end of one set and the start of the other.
    pub kept: bool,
    /// With `Up`: none of its processes runs, because a person said so.
    pub paused: bool,
    /// With `Up` and `Stopping`.
    pub process: Option<Process>,
    /// Whether it is to run: a person's stop says no, until the next start or set.
    pub wanted: bool,
    /// Restarts since its set was activated.
    pub restarts: u32,
    /// Restarts in a row, without a long run between them.
    pub in_a_row: u32,
    /// Those for the sake of its devices.
    pub for_devices: restart::ForDevices,
    /// How often in a row it was stopped for being unhealthy, without being healthy in between.
    pub unhealthy_in_a_row: u32,
    /// Of the last run.
    pub exit_code: Option<i32>,
    /// Of the last run.
    pub oom_killed: bool,
    /// Unix seconds of the last start.
    pub started_at: Option<u64>,
    /// Its health since the last start; `None` without a check.
    pub tracker: Option<Tracker>,
    /// The probe that runs.
    pub probe: Option<probe::Running>,
    /// The hook that is due or runs.
    pub hook: Option<Hook>,
    /// Its `pre_start` has succeeded, and it was not started since.
    pub prepared: bool,
    /// A hook around its last start has failed.
    pub hook_failed: bool,
    /// The last end was a good one by its policy, or a bad one for good.
    pub ended_fine: Option<bool>,
    /// Why the last start failed.
    pub fault: Option<String>,
    /// Why it has no CPUs of its own, which it is to have.
    pub cpu_fault: Option<String>,
    /// Which other apps it waits for, in words, when it is time to start and they are not as it needs them.
    pub held: Option<String>,
    /// When it was started first since its set was activated.
    pub first_start: Option<Instant>,
    /// The device that it failed for, since none was there.
    pub lacks: Option<DeviceName>,
    /// Others wait until it has ended well.
    pub awaited: bool,
}

impl AppRun {
    /// An app that has not been started.
    pub fn new(app: SetApp, plan: Result<Plan, String>) -> Self {
        Self {
            fault: plan.as_ref().err().cloned(),
            cpu_fault: None,
            slot: app.name.to_string(),
            app,
            plan,
            phase: Phase::Created,
            outgoing: false,
            kept: false,
            paused: false,
            process: None,
            wanted: true,
            restarts: 0,
            in_a_row: 0,
            for_devices: restart::ForDevices::default(),
            unhealthy_in_a_row: 0,
            exit_code: None,
            oom_killed: false,
            started_at: None,
            tracker: None,
            probe: None,
            hook: None,
            prepared: false,
            hook_failed: false,
            ended_fine: None,
            held: None,
            first_start: None,
            lacks: None,
            awaited: false,
        }
    }

    /// Where its container is to be.
    pub fn take_slot(&mut self, slot: String) {
        if let Ok(plan) = &mut self.plan {
            plan.slot.clone_from(&slot);
        }
        self.slot = slot;
    }

    /// Its name.
    pub fn name(&self) -> &AppName {
        &self.app.name
    }

    /// No process of it is left.
    pub fn is_down(&self) -> bool {
        self.process.is_none()
    }

    /// It was started: `since` by the clock of the kernel, `unix` by that of the board.
    pub fn started(&mut self, process: Process, unix: u64) {
        let since = process.since;
        self.process = Some(process);
        self.phase = Phase::Up;
        self.paused = false;
        self.started_at = Some(unix);
        self.ended_fine = None;
        self.fault = None;
        self.held = None;
        self.prepared = false;
        self.hook_failed = false;
        self.first_start.get_or_insert(since);
        self.track(since);
    }

    /// Its process is that of the same app in the set before. It has to show anew that it is healthy.
    pub fn go_on_from(&mut self, old: Self, now: Instant) {
        if let Some(probe) = old.probe {
            let _ = probe.child.kill();
        }
        self.take_slot(old.slot);
        self.process = old.process;
        self.phase = old.phase;
        self.started_at = old.started_at;
        self.exit_code = old.exit_code;
        self.oom_killed = old.oom_killed;
        self.first_start = Some(now);
        self.track(now);
    }

    fn track(&mut self, since: Instant) {
        let health = self.app.health.clone();
        self.tracker = health.map(|health| Tracker::new(health, since));
    }

    /// It ended under an earlier supervisor, and stays so when its policy said that.
    pub fn had_ended(&mut self, ended: &EndedApp) {
        self.exit_code = ended.exit_code;
        self.oom_killed = ended.oom_killed;
        self.restarts = ended.restarts;
        self.in_a_row = ended.in_a_row;
        if ended.fine.is_some() {
            self.ended_fine = ended.fine;
            self.phase = Phase::Ended;
        }
    }

    /// What a next supervisor is to know of it, when it is down and there is something to know.
    pub fn has_ended(&self) -> Option<EndedApp> {
        // One that lacks a device never ran: a next supervisor tries once more, and learns what it waits for.
        let stays = self.phase == Phase::Ended && self.lacks.is_none();
        let ended = EndedApp {
            name: self.name().clone(),
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            restarts: self.restarts,
            in_a_row: self.in_a_row,
            fine: self.ended_fine.filter(|_| stays),
        };
        let is_news = ended.exit_code.is_some()
            || ended.oom_killed
            || ended.restarts > 0
            || ended.in_a_row > 0
            || ended.fine.is_some();
        (self.is_down() && is_news).then_some(ended)
    }

    /// Whether it is as an app that depends on it needs it.
    pub fn meets(&self, condition: Condition) -> bool {
        let is_up = self.phase == Phase::Up && !self.is_settling() && !self.paused;
        let completed = self.phase == Phase::Ended && self.ended_fine == Some(true);
        let verdict = self.tracker.as_ref().map(Tracker::verdict);
        match condition {
            Condition::Started => is_up || completed,
            Condition::Healthy => is_up && verdict == Some(Verdict::Healthy),
            Condition::Completed => completed,
        }
    }

    /// When something is due for it.
    pub fn next_due(&self) -> Option<Instant> {
        match self.phase {
            // What it waits for comes with an event of another app.
            // Nor is one that was to go on started before its set is there.
            Phase::Waiting { at } => (self.held.is_none() && !self.kept).then_some(at),
            Phase::Stopping { kill_at } => kill_at.into_iter().chain(self.hook_due()).min(),
            Phase::Up if self.is_settling() => self.hook_due(),
            // Its probes stand still as well.
            Phase::Up if self.paused => None,
            Phase::Up => match &self.probe {
                Some(probe) => Some(probe.deadline),
                None => self.tracker.as_ref().and_then(Tracker::due),
            },
            Phase::Preparing => self.hook_due(),
            Phase::Created | Phase::Ended => None,
        }
    }

    fn hook_due(&self) -> Option<Instant> {
        match self.hook.as_ref()? {
            // Long since.
            Hook::Due(_) => self.process.as_ref().map(|process| process.since),
            Hook::Runs(running) => Some(running.deadline),
        }
    }
}

/// An error and what lies under it, on one line.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        let more = source.to_string();
        // Some errors say their source themselves.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        below = source.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
