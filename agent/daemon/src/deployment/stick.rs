//! What is asked for on docker.sock: by whoever brings a stick, or stands before the board.

use super::job::{self, Documents, Job};
use super::{Command, Means, Outcome, mend};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{Needs, Request, StickWord};
use tokio::sync::watch;

/// An offer that came over docker.sock.
pub(super) struct LocalOffer {
    pub(super) activity: String,
    documents: Box<(Envelope, Envelope)>,
    pub(super) needs: Needs,
}

/// The name of the open offer.
pub(super) fn open(local: &Option<LocalOffer>) -> Option<String> {
    local.as_ref().map(|local| local.activity.clone())
}

/// A command while nothing runs; a job when it starts one.
pub(super) async fn idle(
    means: &Means,
    command: Command,
    local: &mut Option<LocalOffer>,
    offered: &watch::Sender<Option<Needs>>,
) -> Option<Job> {
    match command {
        Command::Offer { documents, answer } => {
            tell_stick(means, StickWord::Reading).await;
            let result = job::offer_local(means, &documents).await;
            if result.is_err() {
                tell_stick(means, StickWord::Refused).await;
            }
            if let Ok(good) = &result {
                offered.send_replace(Some(good.needs.clone()));
                *local = Some(LocalOffer {
                    activity: good.activity.clone(),
                    documents,
                    needs: good.needs.clone(),
                });
            }
            let _ = answer.send(result);
            None
        }
        Command::Mend {
            kind,
            digest,
            answer,
        } => {
            let _ = answer.send(mend::run(means, kind, digest).await);
            None
        }
        Command::Apply { activity, answer } => match local {
            Some(offer) if offer.activity == activity => {
                let _ = answer.send(Ok(()));
                Some(Job {
                    activity,
                    documents: Documents::Here(offer.documents.clone()),
                })
            }
            _ => {
                let reason = format!("no offer `{activity}` is open; POST /coracle/v1/offer first");
                let _ = answer.send(Err(Outcome::refused("no-offer", reason)));
                None
            }
        },
    }
}

/// For the board's lights: what came over docker.sock came from a stick, or from somebody who stands before the board.
pub(super) async fn tell_stick(means: &Means, word: StickWord) {
    if let Err(error) = means.supervisor.ask(Request::Stick { word }).await {
        tracing::debug!(%error, ?word, "the board's lights do not say it");
    }
}

pub(super) fn busy(command: Command, activity: &str) {
    let reason = format!("deployment `{activity}` is under way; try again when it has ended");
    let outcome = Outcome::refused("busy", reason);
    match command {
        Command::Offer { answer, .. } => drop(answer.send(Err(outcome))),
        Command::Apply { answer, .. } | Command::Mend { answer, .. } => {
            drop(answer.send(Err(outcome)));
        }
    }
}
