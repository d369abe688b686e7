//! Executes apps' hooks that are due, ends those that take too long, and goes on with the app when one has ended.

use super::Supervisor;
use crate::apps::{AppRun, Phase};
use crate::health::probe::Target;
use crate::hooks::{ContainerEnd, Hook, Running};
use crate::machine::State;
use coracle_protocol::release::HookKind;
use std::time::Instant;

impl Supervisor {
    pub(super) fn run_hooks(&mut self, now: Instant) {
        for index in 0..self.apps.len() {
            let app = &mut self.apps[index];
            let running = match &mut app.hook {
                None => continue,
                Some(Hook::Due(kind)) => {
                    let kind = *kind;
                    self.execute_hook(index, kind, now);
                    continue;
                }
                Some(Hook::Runs(running)) => running,
            };
            if !running.is_overdue(now) {
                continue;
            }
            match running.kind == HookKind::PreStart && app.process.is_some() {
                true => app.kill(),
                false => running.leave(),
            }
        }
    }

    fn execute_hook(&mut self, index: usize, kind: HookKind, now: Instant) {
        let app = &mut self.apps[index];
        app.hook = None;
        let name = app.name().clone();
        let (Some(process), Ok(plan), Some(hook)) = (&app.process, &app.plan, app.app.hook(kind))
        else {
            if kind == HookKind::PreStop {
                // It cannot be executed, and the stop waits for nothing else.
                app.tell_to_end();
            }
            return;
        };
        let target = Target {
            plan,
            running: &process.running,
            cgroup: &process.cgroup,
        };
        match Running::execute(kind, hook, &target, process.output.as_ref()) {
            Ok(running) => {
                app.hook = Some(Hook::Runs(running));
                self.store_run_state();
                self.app_changed(&name, format!("{kind} runs"));
            }
            Err(fault) => {
                let text = format!("{kind} could not be executed: {fault}");
                self.hook_done(index, kind, Err(text), now);
            }
        }
    }

    /// The companion of a hook has ended; `None`: nobody saw how.
    pub(super) fn companion_ended(&mut self, index: usize, code: Option<i32>) {
        let now = Instant::now();
        let app = &mut self.apps[index];
        let Some(Hook::Runs(mut running)) = app.hook.take() else {
            return;
        };
        let kind = running.kind;
        running.companion_ended();
        match (kind, code) {
            (HookKind::PreStart, _) => {
                app.hook = Some(Hook::Runs(running));
                self.prepared(index, now);
            }
            (HookKind::PostStart, None) if app.phase == Phase::Up => {
                app.hook = Some(Hook::Due(kind));
            }
            (HookKind::PostStart, None) => {}
            (HookKind::PreStop, None) => {
                let unseen = Err(format!("{kind} has ended, and nobody saw how"));
                self.hook_done(index, kind, unseen, now);
            }
            (_, Some(code)) => {
                let result = running.result(code);
                self.hook_done(index, kind, result, now);
            }
        }
    }

    /// A hook of a container that runs is over.
    fn hook_done(
        &mut self,
        index: usize,
        kind: HookKind,
        result: Result<(), String>,
        now: Instant,
    ) {
        let app = &mut self.apps[index];
        let name = app.name().clone();
        match (kind, app.phase) {
            (HookKind::PreStop, Phase::Stopping { kill_at: Some(_) }) => app.tell_to_end(),
            (HookKind::PostStart, Phase::Up) => match &result {
                Ok(()) => app.settled(now),
                Err(text) => {
                    let end = ContainerEnd {
                        code: None,
                        oom_killed: false,
                    };
                    app.hook_fails(text.clone(), end, now);
                }
            },
            // Its app is told to end, or killed, already.
            _ => {}
        }
        self.store_run_state();
        self.app_changed(&name, words(kind, result));
    }

    /// Goes on once the container of a `pre_start` and its companion have both ended.
    pub(super) fn prepared(&mut self, index: usize, now: Instant) {
        let app = &mut self.apps[index];
        let is_over =
            |running: &Running| Some(running.container?).filter(|_| running.pid().is_none());
        let Some(end) = app.running_hook().and_then(is_over) else {
            return;
        };
        let Some(Hook::Runs(running)) = app.hook.take() else {
            return;
        };
        let name = app.name().clone();
        let kind = running.kind;
        let result = running.result(end.code.unwrap_or(1));
        match &result {
            Ok(()) => {
                app.prepared = true;
                // The set's apps are started in their turn; later, and of the set before, each by itself.
                app.phase = match self.machine {
                    State::Starting if !app.outgoing => Phase::Created,
                    _ => Phase::Waiting { at: now },
                };
            }
            Err(text) => app.hook_fails(text.clone(), end, now),
        }
        self.store_run_state();
        self.app_changed(&name, words(kind, result));
    }
}

fn words(kind: HookKind, result: Result<(), String>) -> String {
    result.err().unwrap_or_else(|| format!("{kind} has ended"))
}

/// Process number of a hook's companion.
pub(super) fn companion(app: &AppRun) -> Option<i32> {
    app.running_hook().and_then(Running::pid)
}
