//! Signed commands: carried to the supervisor, which alone decides about them, and told how they ended. One at a time, in the
//! order in which they came, and no faster than a board can bear. An action alone is not waited for, since it may take minutes:
//! a command that came behind it would be too old by then.

use crate::api::logs;
use crate::link::Outbox;
use crate::link::odd::{self, Kind, Sort};
use crate::supervisor::{Supervisor, unexpected};
use coracle_protocol::Sha256Digest;
use coracle_protocol::command::{Action, Command, CommandResult};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{Answer, Request};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Commands that may wait for their turn.
pub const QUEUE: usize = 4;
/// From one command to the next.
const PACE: Duration = Duration::from_secs(1);
/// Commands that are remembered: QoS 1 between console and broker may bring one twice.
const REMEMBERED: usize = 16;

/// What the task works with.
#[derive(Debug)]
pub struct Ends {
    /// Who decides, and restarts apps.
    pub supervisor: Supervisor,
    /// Where results go.
    pub outbox: Arc<Outbox>,
    /// Where the apps' logs are.
    pub logs_dir: PathBuf,
    /// What comes over the link.
    pub commands: mpsc::Receiver<Envelope>,
    /// Becomes true when the daemon ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Not done, and why.
struct Undone {
    code: String,
    reason: String,
    /// What an action wrote before it failed: for the console, not for the board's log.
    output: String,
}

impl Undone {
    fn new(code: String, reason: String) -> Self {
        let output = String::new();
        Self {
            code,
            reason,
            output,
        }
    }

    /// The reason in the last line.
    fn text(mut self) -> String {
        if !self.output.is_empty() && !self.output.ends_with('\n') {
            self.output.push('\n');
        }
        self.output + &self.reason
    }
}

/// What came over the link gets into the queue, or the console hears that there are too many.
pub fn take(queue: &mpsc::Sender<Envelope>, outbox: &Outbox, command: Envelope) {
    if let Err(mpsc::error::TrySendError::Full(command)) = queue.try_send(command)
        && let Some(id) = id(&command)
    {
        odd::count(Kind::Dropped);
        let text = format!("{QUEUE} commands wait already; send it again");
        outbox.result(&CommandResult::messages(id, Some("busy"), &text));
    }
}

/// Obeys until shutdown.
pub async fn run(mut ends: Ends) {
    let mut last = VecDeque::with_capacity(REMEMBERED);
    let mut said = BTreeSet::new();
    let mut action = JoinSet::new();
    loop {
        let command = tokio::select! {
            Some(command) = ends.commands.recv() => command,
            Some(ended) = action.join_next() => {
                if let Ok((id, outcome)) = ended {
                    tell(&ends.outbox, id, outcome, &mut said);
                }
                continue;
            }
            _ = ends.shutdown.changed() => return,
        };
        let Some(id) = id(&command) else {
            if odd::is_first(Kind::Malformed, Sort::Command) {
                tracing::warn!("a command that is no envelope was dropped; the next are counted");
            }
            continue;
        };
        if last.contains(&id) {
            if odd::is_first(Kind::Repeated, Sort::Command) {
                tracing::info!(command = %id, "a command came twice; the next are counted");
            }
            continue;
        }
        if is_action(&command) && !action.is_empty() {
            let text = "an action runs already; send it again when that has ended";
            let messages = CommandResult::messages(id, Some("busy"), text);
            ends.outbox.result(&messages);
            continue;
        }
        if last.len() >= REMEMBERED {
            last.pop_front();
        }
        last.push_back(id);
        let takes_long = is_action(&command);
        let obeyed = obey(ends.supervisor.clone(), ends.logs_dir.clone(), command);
        match takes_long {
            true => drop(action.spawn(async move { (id, obeyed.await) })),
            false => tell(&ends.outbox, id, obeyed.await, &mut said),
        }
        tokio::select! {
            () = tokio::time::sleep(PACE) => {}
            _ = ends.shutdown.changed() => return,
        }
    }
}

/// The console hears how it ended, and the log of each kind of failure once.
fn tell(
    outbox: &Outbox,
    id: Sha256Digest,
    outcome: Result<String, Undone>,
    said: &mut BTreeSet<String>,
) {
    let messages = match outcome {
        Ok(text) => CommandResult::messages(id, None, &text),
        Err(undone) => {
            let Undone { code, reason, .. } = &undone;
            if code == "old-command" {
                odd::count(Kind::Old);
            }
            if said.len() < REMEMBERED && said.insert(code.clone()) {
                tracing::warn!(command = %id, code, reason, "a command was not done; the next of this kind are not told");
            }
            let code = code.clone();
            CommandResult::messages(id, Some(&code), &undone.text())
        }
    };
    outbox.result(&messages);
}

/// Whether it says that it is one: enough to know how long it may take.
fn is_action(command: &Envelope) -> bool {
    let payload = command.payload_unverified().unwrap_or_default();
    let command = serde_json::from_slice::<Command>(&payload);
    command.is_ok_and(|command| matches!(command.action, Action::Run { .. }))
}

fn id(command: &Envelope) -> Option<Sha256Digest> {
    let payload = command.payload_unverified().ok()?;
    Some(Sha256Digest::of(&payload))
}

async fn obey(
    supervisor: Supervisor,
    logs_dir: PathBuf,
    command: Envelope,
) -> Result<String, Undone> {
    let failed = |error: crate::supervisor::SupervisorError| {
        Undone::new("supervisor".to_owned(), error.to_string())
    };
    let (command, ran) = match supervisor.ask(Request::Command { command }).await {
        Ok(Answer::Command { command }) => (command, None),
        Ok(Answer::Ran {
            command,
            fault,
            output,
        }) => (command, Some((fault, output))),
        Ok(Answer::Refused { code, reason } | Answer::Failed { code, reason }) => {
            return Err(Undone::new(code, reason));
        }
        Ok(other) => return Err(failed(unexpected("command", &other))),
        Err(error) => return Err(failed(error)),
    };
    let Command { action, seq, .. } = command;
    tracing::info!(what = %action, seq, "commanded");
    match (action, ran) {
        (_, Some((None, output))) => Ok(output),
        (_, Some((Some(reason), output))) => Err(Undone {
            code: "action-failed".to_owned(),
            reason,
            output,
        }),
        (Action::Restart { app }, None) => Ok(format!("app `{app}` is being restarted")),
        (Action::Logs { app, tail }, None) => Ok(logs::tail(&logs_dir, &app, tail as usize).await),
        (action @ (Action::FactoryReset { .. } | Action::Decommission {}), None) => Ok(format!(
            "{action} has begun; it is gone on with after a power cut"
        )),
        (Action::Run { .. }, None) => {
            let reason = "the supervisor does not say how it ended".to_owned();
            Err(Undone::new("supervisor".to_owned(), reason))
        }
    }
}
