//! A wish that comes while another one is carried out. Whoever has the broker can send what they like, and again what was sent
//! before: only a newer assignment, signed and for this board, takes the place of one that is under way.

use super::job::{self, Job};
use super::outcome::Outcome;
use super::record::Record;
use super::voice::Voice;
use super::{Means, said_again};
use crate::link::odd::{self, Kind, Sort};
use crate::roots;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, Turn};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::report::{Phase, SetState};
use coracle_protocol::verify::VerifiedDeploy;
use std::cell::RefCell;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at a wish that cannot be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What is looked at of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    turn: Turn,
    release: Sha256Digest,
    /// Its own digest.
    pub deployment: Sha256Digest,
}

impl Assigned {
    /// Of a verified one.
    pub fn by(deploy: &VerifiedDeploy) -> Self {
        Self {
            turn: deploy.document().turn(),
            release: deploy.document().release.digest,
            deployment: deploy.digest(),
        }
    }
}

/// A wish whose assignment was signed for this board.
#[derive(Debug, Clone, Copy)]
pub struct Newer {
    assigned: Assigned,
    /// The release that runs.
    runs: Option<Sha256Digest>,
    /// The board has counted it, or a newer one.
    is_counted: bool,
}

/// Where it belongs.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// Before all of the others.
    First(Newer),
    /// Its own role has signed a newer one since: whoever wished it knows.
    Old,
    /// After them: whether it is taken then is for the supervisor to say, and for its console to hear.
    Later,
}

impl Newer {
    /// What its assignment says.
    pub fn assigned(self) -> Assigned {
        self.assigned
    }

    /// Whether it was signed after `others`.
    pub fn place(self, others: &[Option<Assigned>]) -> Place {
        let turn = self.assigned.turn;
        let before = others.iter().flatten().map(|other| other.turn);
        let mut before = before.filter(|other| !turn.is_after(*other)).peekable();
        match (before.peek().is_some(), self.is_counted) {
            (true, _) if before.any(|other| other.role == turn.role) => Place::Old,
            (false, false) => Place::First(self),
            _ => Place::Later,
        }
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

/// A deployment that gave way to a stick, and when it goes on.
pub struct Aside {
    pub job: Job,
    pub assigned: Option<Assigned>,
    pub until: Instant,
}

impl Aside {
    /// By what was found under this name.
    pub fn replaced(self, by: Newer, activity: &str) -> Replaced {
        Replaced {
            end: by.ends(self.assigned, activity),
            job: self.job,
            parked: self.assigned,
        }
    }
}

/// A deployment whose place a newer one takes, and which the supervisor may still have: it could switch to it until it has taken
/// the newer one, and nobody is told before that it ended.
#[derive(Debug)]
pub struct Replaced {
    pub job: Job,
    /// What the supervisor may have of it.
    pub parked: Option<Assigned>,
    pub end: Outcome,
}

/// Ends what a newer one takes the place of: now, or when the supervisor has let go of it.
pub fn replace(
    before: Replaced,
    replaced: &RefCell<Option<Replaced>>,
    means: &Means,
    record: &mut Record,
) {
    let mut replaced = replaced.borrow_mut();
    match before.parked.is_some() && replaced.is_none() {
        true => *replaced = Some(before),
        false => Voice::new(means, record, &before.job.activity).end(before.end, None),
    }
}

/// The supervisor has taken this one. What it takes the place of has ended with that, unless the board was switched to it just
/// before: that one says later how it ends.
pub async fn let_go(means: &Means, replaced: &RefCell<Option<Replaced>>, voice: &mut Voice<'_>) {
    if replaced.borrow().is_none() {
        return;
    }
    let Ok(status) = means.supervisor.status().await else {
        return;
    };
    if let Some(before) = replaced.take() {
        let parked = before.parked.map(|set| set.deployment);
        let is_kept = status
            .current
            .as_ref()
            .is_some_and(|set| Some(set.deployment) == parked && set.state == SetState::Committed);
        let mut other = voice.other(&before.job.activity);
        if is_kept {
            other.end(Outcome::committed(), None);
        } else if parked.is_some_and(|parked| job::has(&status, parked)) {
            other.phase(Phase::Switching);
            replaced.replace(Some(before));
        } else {
            other.end(before.end, None);
        }
    }
}

/// A wish that is being looked at.
pub struct Coming<'a> {
    pub wish: Desired,
    look: Looks<'a>,
}

type Looks<'a> = Pin<Box<dyn Future<Output = Result<Newer, Outcome>> + 'a>>;

impl<'a> Coming<'a> {
    fn look(means: &'a Means, wish: Desired, after: Duration) -> Option<Self> {
        let deploy = wish.deploy.clone();
        let look = Box::pin(async move {
            tokio::time::sleep(after).await;
            look(means, &deploy).await
        });
        Some(Self { wish, look })
    }
}

/// Takes a wish that comes beside `activity`.
pub fn take<'a>(means: &'a Means, coming: &mut Option<Coming<'a>>, wish: Desired, activity: &str) {
    if wish.activity == activity {
        return said_again(activity);
    }
    if coming.is_some() {
        dropped();
    }
    *coming = Coming::look(means, wish, Duration::ZERO);
}

/// For the end of everything else; the last one that comes has that place.
pub fn put_off(later: &mut Option<Job>, job: Job) {
    if later.replace(job).is_some() {
        dropped();
    }
}

fn dropped() {
    if odd::is_first(Kind::Dropped, Sort::Desired) {
        tracing::warn!(
            "a desired state was dropped for the one that came after it; the next are counted"
        );
    }
}

/// What was found of the one that is looked at.
pub async fn looked(coming: &mut Option<Coming<'_>>) -> Result<Newer, Outcome> {
    match coming {
        Some(coming) => coming.look.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The wish that was looked at, and its place among `others`. `None`: it is looked at once more.
pub fn judge<'a>(
    means: &'a Means,
    coming: &mut Option<Coming<'a>>,
    looked: Result<Newer, Outcome>,
    others: &[Option<Assigned>],
) -> Option<(Desired, Place)> {
    let wish = coming.take()?.wish;
    let place = match looked {
        // The supervisor is being executed anew, or a document could not be fetched.
        Err(why) if why.phase == Phase::Failed => {
            tracing::info!(
                reason = why.reason,
                "what came cannot be looked at now; soon again"
            );
            *coming = Coming::look(means, wish, LOOK_AGAIN);
            return None;
        }
        Err(why) => {
            tracing::info!(reason = why.reason, "what came is not for this board");
            return Some((wish, Place::Later));
        }
        Ok(found) => found.place(others),
    };
    match place {
        Place::Old => odd::count(Kind::Old),
        Place::Later => {
            tracing::info!(
                activity = wish.activity,
                "what came is older than another role's, and has its turn afterwards"
            );
        }
        Place::First(_) => {}
    }
    Some((wish, place))
}

/// How one ends that a newer one takes the place of.
pub fn superseded_by(activity: &str) -> Outcome {
    Outcome::failed(
        "superseded",
        format!("a newer desired state came: {activity}"),
    )
}

/// Verifies the assignment of a wish; fetched, when it is not in the message.
async fn look(means: &Means, deploy: &Document) -> Result<Newer, Outcome> {
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
    let assigned = Assigned::by(&deploy);
    let is_counted = status.trust.is_some_and(|trust| {
        let counted = match assigned.turn.role {
            AssignmentRole::Deploy => trust.deploy,
            AssignmentRole::OfflineDeploy => trust.offline_deploy,
        };
        assigned.turn.counter <= counted
    });
    Ok(Newer {
        assigned,
        is_counted,
        runs: status.current.filter(kept).map(|set| set.release),
    })
}
