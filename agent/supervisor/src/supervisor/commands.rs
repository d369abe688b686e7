//! Signed commands. The daemon only carries them: here they are verified, counted on disk, and done. What a log says the
//! daemon reads by itself, which it may without any command.

use super::Supervisor;
use super::actions::ActionJob;
use super::requests::{failed, no_app};
use crate::offer::Refused;
use crate::reset::Intent;
use crate::room;
use crate::socket::AnswerTo;
use crate::trust::{TrustError, built_at};
use coracle_board_support::clock;
use coracle_protocol::command::Action;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::root::Role;
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{AcceptedCommand, Refusal, VerifiedCommand};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// From one command to the next: whoever has a stolen key wears out no flash with counters, and the daemon, which keeps to
/// a longer time, is never held up.
const GAP: Duration = Duration::from_millis(500);

/// What was commanded before.
#[derive(Debug, Default)]
pub(super) struct Commands {
    last: Option<Instant>,
    /// Codes of refusals that the log has: each is said once.
    said: BTreeSet<&'static str>,
}

impl Supervisor {
    pub(super) fn command(&mut self, envelope: &Envelope, answer: AnswerTo) {
        let now = Instant::now();
        if self.commands.last.is_some_and(|last| now < last + GAP) {
            answer.send(failed("busy", "commands come too fast; send it again"));
            return;
        }
        let accepted = match self.accept_command(envelope) {
            Ok(accepted) => accepted,
            Err(Refused { code, reason }) => {
                if self.commands.said.insert(code) {
                    tracing::warn!(
                        code,
                        reason,
                        "a command was refused; the next of this kind are not told"
                    );
                }
                answer.send(Answer::Refused {
                    code: code.to_owned(),
                    reason,
                });
                return;
            }
        };
        self.commands.last = Some(now);
        let command = accepted.document();
        tracing::info!(what = %command.action, seq = command.seq, command = %accepted.digest(), "commanded");
        let done = match &command.action {
            Action::Restart { app } => self.control(app, AppAction::Restart),
            Action::Logs { app, .. } => match self.apps.iter().any(|run| run.name() == app) {
                true => Answer::Done,
                false => no_app(app),
            },
            Action::Run { app, name } => match self.begin_action(app, name) {
                Ok(running) => {
                    self.action = Some(ActionJob::new(running, command.clone(), answer));
                    return;
                }
                Err((code, words)) => failed(code, words),
            },
            Action::FactoryReset { volumes } => self.begin_reset(Intent::factory_reset(*volumes)),
            Action::Decommission {} => self.begin_reset(Intent::decommission()),
        };
        answer.send(match done {
            Answer::Done => Answer::Command {
                command: command.clone(),
            },
            other => other,
        });
    }

    /// Verified, and its counter on disk: from here on it is never new again.
    fn accept_command(&mut self, envelope: &Envelope) -> Result<AcceptedCommand, Refused> {
        let damaged = |error: TrustError| Refused::new(error.code(), error.to_string());
        let refusal = |refusal: Refusal| Refused::new(refusal.code(), refusal.to_string());
        let board = self.trust.board().cloned().ok_or_else(|| {
            Refused::new(
                "not-enrolled",
                "this board has no name yet: `coracle enrol`",
            )
        })?;
        let seen = self.trust.seen().map_err(damaged)?;
        let verified = VerifiedCommand::open(envelope, self.trust.root()).map_err(refusal)?;
        let accepted = AcceptedCommand::accept(verified, &board, seen, now()).map_err(refusal)?;
        let (trust, config) = (&mut self.trust, &self.settings.config);
        let mut count = || trust.persist(accepted.seen());
        // A reset is what helps a full disk, and has to be counted first.
        let counted = match accepted.document().action.role() {
            Role::Reset => room::with(config, TrustError::is_no_space, count),
            _ => count(),
        };
        counted.map_err(|error| Refused::new("not-counted", error.to_string()))?;
        Ok(accepted)
    }
}

/// The time is at least this.
fn now() -> TimeBound {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let kept = clock.ok().filter(|_| clock::is_synchronised());
    bound(kept.map(|clock| clock.as_secs()))
}

/// The clock counts where somebody keeps it: a command is over within minutes, and signed documents, by which a board
/// without a clock tells the time, may be months apart.
fn bound(kept_clock: Option<u64>) -> TimeBound {
    kept_clock.map_or(built_at(), |clock| built_at().raised_to(clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_somebody_keeps_ends_a_command_and_another_does_not() {
        let built = built_at().unix_seconds();
        let (issued_at, expires) = (built + 1000, built + 1120);
        assert!(!bound(Some(issued_at)).is_past(expires));
        assert!(bound(Some(expires + 1)).is_past(expires));
        assert!(!bound(None).is_past(expires));
        // Before the program was built it has surely not been for long.
        assert!(bound(Some(0)).is_past(built - 1));
    }
}
