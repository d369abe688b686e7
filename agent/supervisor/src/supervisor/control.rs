//! What people do to one app of the running set, when no deployment is under way, and a look at its processes.

use super::Supervisor;
use super::requests::{failed, no_app, no_app_text};
use crate::apps::Phase;
use crate::apps::plan::signal;
use crate::apps::top;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::AppName;
use std::time::Instant;

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
    pub(super) fn processes(&self, name: &AppName) -> Answer {
        let Some(index) = self.find(|app| app.name() == name) else {
            return no_app(name);
        };
        let Some(process) = &self.apps[index].process else {
            return failed("not-running", format!("app `{name}` does not run"));
        };
        match process.cgroup.processes() {
            Ok(processes) => Answer::Processes {
                titles: top::TITLES.map(str::to_owned).to_vec(),
                rows: top::rows(&processes),
            },
            Err(error) => failed("no-list", error.to_string()),
        }
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
