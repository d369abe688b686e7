//! A wish that comes while another one is carried out. Whoever has the broker can send what they like, and again what was sent
//! before: only a newer assignment, signed and for this board, takes the place of one that is under way.

use super::Means;
use super::job;
use super::outcome::Outcome;
use crate::roots;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{Deploy, Turn};
use coracle_protocol::desired::Document;
use coracle_protocol::report::SetState;

/// What is looked at of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    turn: Turn,
    release: Sha256Digest,
}

impl Assigned {
    /// Of a verified one.
    pub fn by(deploy: &Deploy) -> Self {
        Self {
            turn: deploy.turn(),
            release: deploy.release.digest,
        }
    }
}

/// A newer wish.
#[derive(Debug, Clone, Copy)]
pub struct Newer {
    assigned: Assigned,
    /// The release that runs.
    runs: Option<Sha256Digest>,
}

impl Newer {
    /// Whether it was signed after the one that is under way, and after the one that waits for that one's end. Nothing is known
    /// of one that is not verified: it gives way.
    pub fn is_after(&self, job: Option<Assigned>, next: Option<Self>) -> bool {
        let turn = self.assigned.turn;
        let after = |other: Option<Assigned>| other.is_none_or(|other| turn.is_after(other.turn));
        after(job) && after(next.map(|next| next.assigned))
    }

    /// How the one that it takes the place of ends. An assignment of what runs is how a console takes another one back.
    pub fn ends(&self, job: Option<Assigned>, activity: &str) -> Outcome {
        let stays = self.runs == Some(self.assigned.release);
        match job {
            Some(job) if stays && job.release != self.assigned.release => {
                let reason = format!("taken back by {activity}: what runs here stays");
                Outcome::failed("cancelled", reason)
            }
            _ => superseded_by(activity),
        }
    }
}

/// How one ends that a newer one takes the place of.
pub fn superseded_by(activity: &str) -> Outcome {
    Outcome::failed(
        "superseded",
        format!("a newer desired state came: {activity}"),
    )
}

/// Verifies the assignment of a wish; fetched, when it is not in the message.
pub async fn look(means: &Means, deploy: &Document) -> Result<Newer, Outcome> {
    let deploy = job::document(means, deploy, &mut job::fetcher(means)?).await?;
    let board = means.identity.borrow().as_ref().map(|i| i.board.clone());
    let check = async || {
        let root = roots::trusted(&means.supervisor).await.ok().map(|t| t.root);
        means
            .early
            .assignment(&deploy, root.as_ref(), board.as_ref())
    };
    let deploy = match check().await {
        Ok(deploy) => deploy,
        // Signed by a key that this board may not know yet.
        Err(_) => {
            job::renew_root(means).await;
            check().await?
        }
    };
    let status = means.supervisor.status().await?;
    let kept = |set: &coracle_protocol::report::SetStatus| set.state == SetState::Committed;
    Ok(Newer {
        assigned: Assigned::by(deploy.document()),
        runs: status.current.filter(kept).map(|set| set.release),
    })
}
