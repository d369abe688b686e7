//! Actions that were commanded, one at a time: begun, ended when they take too long, and told how they ended.

use super::Supervisor;
use super::requests::no_app_text;
use crate::action;
use crate::apps::Phase;
use crate::health::probe::Target;
use crate::socket::AnswerTo;
use coracle_protocol::command::{Action, Command};
use coracle_protocol::local::Answer;
use coracle_protocol::names::{ActionName, AppName};
use coracle_runtime::Exit;
use std::time::Instant;

/// One that runs, and who wants to know.
#[derive(Debug)]
pub(super) struct ActionJob {
    running: action::Running,
    command: Command,
    answer: AnswerTo,
}

impl ActionJob {
    pub(super) fn new(running: action::Running, command: Command, answer: AnswerTo) -> Self {
        Self {
            running,
            command,
            answer,
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.running.child.pid
    }

    pub(super) fn what(&self) -> &Action {
        &self.command.action
    }

    pub(super) fn due(&self) -> Instant {
        self.running.due
    }

    /// The child that waited for it has ended.
    pub(super) fn ended(self, exit: Exit) {
        let action::Ended { fault, output } = self.running.ended(exit);
        tracing::info!(what = %self.command.action, fault, bytes = output.len(), "ended");
        self.answer.send(Answer::Ran {
            command: self.command,
            fault,
            output,
        });
    }
}

impl Supervisor {
    /// Starts what the signed release names, or says why not: a stable word, and a sentence.
    pub(super) fn begin_action(
        &self,
        app: &AppName,
        name: &ActionName,
    ) -> Result<action::Running, (&'static str, String)> {
        if self.action.is_some() {
            return Err(("busy", "an action runs already; send it again".to_owned()));
        }
        if !self.machine.is_settled() {
            return Err(("busy", "a deployment is under way".to_owned()));
        }
        let run = self.apps.iter().find(|run| run.name() == app);
        let run = run.ok_or_else(|| ("no-app", no_app_text(app)))?;
        let action = run.app.action(name).map_err(|words| ("no-action", words))?;
        let (Phase::Up, Some(process), Ok(plan)) = (run.phase, &run.process, &run.plan) else {
            return Err(("not-running", format!("app `{app}` does not run")));
        };
        if run.paused {
            return Err(("not-running", format!("app `{app}` is paused")));
        }
        let target = Target {
            plan,
            running: &process.running,
            cgroup: &process.cgroup,
        };
        action::start(action, &target).map_err(|words| ("not-started", words))
    }

    /// The child that waits for an action has taken too long.
    pub(super) fn end_overdue_action(&mut self, now: Instant) {
        if let Some(job) = &mut self.action {
            job.running.end_when_due(now);
        }
    }
}
