//! What people do to one app of the running set, when no deployment is under way, and a look at its processes.

use super::Supervisor;
use super::requests::{failed, no_app_text};
use super::volumes::Fault;
use crate::apps::Phase;
use crate::apps::plan::signal;
use crate::apps::top::{self, Look};
use crate::socket::AnswerTo;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::AppName;
use std::time::Instant;

/// Lists of processes that are made at the same time; each takes a child.
const LOOKS: usize = 4;

impl Supervisor {
    pub(super) fn control(&mut self, name: &AppName, action: AppAction) -> Answer {
        let index = match self.of_people(name) {
            Ok(index) => index,
            Err((code, reason)) => return failed(code, reason),
        };
        let comes = matches!(action, AppAction::Start | AppAction::Restart);
        if comes && self.is_being_restored(name) {
            return failed("busy", "a volume of it is being restored");
        }
        let now = Instant::now();
        let app = &mut self.apps[index];
        match action {
            AppAction::Pause | AppAction::Resume => {
                let (done, what) = match action {
                    AppAction::Pause => (app.pause(now), "paused"),
                    _ => (app.resume(now), "resumed"),
                };
                return match done {
                    Ok(()) => {
                        self.app_changed(name, what);
                        Answer::Done
                    }
                    Err((code, reason)) => failed(code, reason),
                };
            }
            AppAction::Start if app.paused => {
                let text = format!("app `{name}` is paused: it is resumed, or restarted");
                return failed("paused", text);
            }
            AppAction::Stop | AppAction::Start | AppAction::Restart => {}
        }
        app.wanted = action != AppAction::Stop;
        match (action, app.phase) {
            (AppAction::Stop, _) => app.stop(now),
            (AppAction::Restart, Phase::Up | Phase::Preparing) => app.stop(now),
            (_, Phase::Up | Phase::Preparing | Phase::Stopping { .. }) => {}
            (_, Phase::Created | Phase::Waiting { .. } | Phase::Ended) => {
                app.in_a_row = 0;
                app.unhealthy_in_a_row = 0;
                app.phase = Phase::Waiting { at: now };
            }
        }
        self.store_run_state();
        Answer::Done
    }

    pub(super) fn signal(&mut self, name: &AppName, text: &str) -> Answer {
        let index = match self.of_people(name) {
            Ok(index) => index,
            Err((code, reason)) => return failed(code, reason),
        };
        let Some(number) = signal::number(text) else {
            let text: String = text.chars().take(32).collect();
            return failed("bad-signal", format!("invalid signal: {text}"));
        };
        let app = &mut self.apps[index];
        let runs = matches!(app.phase, Phase::Up | Phase::Stopping { .. });
        if !runs || app.is_down() {
            return failed("not-running", format!("app `{name}` does not run"));
        }
        app.signalled(number);
        self.store_run_state();
        Answer::Done
    }

    /// At any time: it is only looked at.
    pub(super) fn processes(&mut self, name: &AppName, answer: AnswerTo) {
        match self.look(name) {
            Ok(look) => self.looks.push((look, answer)),
            Err((code, reason)) => answer.send(failed(code, reason)),
        }
    }

    fn look(&self, name: &AppName) -> Result<Look, Fault> {
        let index = self.find(|app| app.name() == name);
        let index = index.ok_or_else(|| ("no-app", no_app_text(name)))?;
        let Some(process) = &self.apps[index].process else {
            let text = format!("app `{name}` does not run");
            return Err(("not-running", text));
        };
        if self.looks.len() >= LOOKS {
            let text = format!("{LOOKS} lists of processes are being made already");
            return Err(("busy", text));
        }
        let processes = process.cgroup.processes().map_err(|e| e.to_string());
        let look = processes.and_then(|processes| Look::begin(&processes));
        look.map_err(|text| ("no-list", text))
    }

    /// The child of that look has ended.
    pub(super) fn looked(&mut self, at: usize) {
        let (look, answer) = self.looks.swap_remove(at);
        answer.send(Answer::Processes {
            titles: top::TITLES.map(str::to_owned).to_vec(),
            rows: look.ended(),
        });
    }

    /// Where an app is that people may do something to now.
    fn of_people(&self, name: &AppName) -> Result<usize, (&'static str, String)> {
        if !self.machine.is_settled() {
            return Err(("busy", "a deployment is under way".to_owned()));
        }
        self.find(|app| app.name() == name)
            .ok_or_else(|| ("no-app", no_app_text(name)))
    }
}
