//! What the board's lights are to tell, from what the supervisor does.

use super::Supervisor;
use crate::apps::{AppRun, Phase};
use crate::lights::Seen;
use crate::machine::State;
use std::time::Instant;

impl Supervisor {
    pub(super) fn show_lights(&mut self, now: Instant) {
        let seen = Seen {
            trial: matches!(self.machine, State::Trial | State::Keeping),
            working: !self.machine.is_idle() || self.staging.is_some(),
            app_down: self.apps.iter().any(is_missed),
        };
        let state = self.news.state(seen, now);
        self.lights.tell(state);
    }
}

/// It should run and does not: it failed, waits after a failure, or ended badly for good.
fn is_missed(app: &AppRun) -> bool {
    let down = match app.phase {
        Phase::Waiting { .. } | Phase::Preparing => app.in_a_row > 0,
        Phase::Ended => app.ended_fine != Some(true),
        Phase::Created | Phase::Up | Phase::Stopping { .. } => false,
    };
    app.wanted && down
}
