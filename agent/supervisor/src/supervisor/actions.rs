//! Actions that were commanded, one at a time: begun, ended when they take too long, and told how they ended.

use super::Supervisor;
use super::requests::{failed, no_app};
use crate::action;
use crate::apps::Phase;
use crate::health::probe::Target;
use crate::socket::AnswerTo;
use coracle_protocol::command::Command;
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
    /// Starts what the signed release names, or says why not.
    pub(super) fn begin_action(
        &mut self,
        app: &AppName,
        name: &ActionName,
    ) -> Result<action::Running, Answer> {
        if self.action.is_some() {
            return Err(failed("busy", "an action runs already; send it again"));
        }
        if !self.machine.is_settled() {
            return Err(failed("busy", "a deployment is under way"));
        }
        let run = self.apps.iter().find(|run| run.name() == app);
        let run = run.ok_or_else(|| no_app(app))?;
        let action = run.app.action(name);
        let action = action.map_err(|words| failed("no-action", words))?;
        let (Phase::Up, Some(process), Ok(plan)) = (run.phase, &run.process, &run.plan) else {
            return Err(failed("not-running", format!("app `{app}` does not run")));
        };
        let target = Target {
            plan,
            running: &process.running,
            cgroup: &process.cgroup,
        };
        action::start(action, &target).map_err(|words| failed("not-started", words))
    }

    /// The child that waits for an action has taken too long.
    pub(super) fn end_overdue_action(&mut self, now: Instant) {
        if let Some(job) = &mut self.action {
            job.running.end_when_due(now);
        }
    }
}
