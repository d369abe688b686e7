//! A wish that comes while another one is carried out. Whoever has the broker can send what they like, and again what was sent
//! before: only a newer assignment, signed and for this board, takes the place of one that is under way.

use super::job::{self, Job};
use super::outcome::{Outcome, failure_of};
use super::record::{Known, Record};
use super::voice::Voice;
use super::{Means, said_again};
use crate::link::odd::{self, Kind, Sort};
use crate::roots;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, Turn};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::local::SWITCHING;
use coracle_protocol::report::{Phase, SetState};
use coracle_protocol::verify::VerifiedDeploy;
use std::cell::RefCell;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at a wish that cannot be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// That may go on when what took their place is refused: what was put aside, and the stick's that it was put aside for.
const REPLACED: usize = 2;

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
    /// The board has counted it, or a newer one, or has refused it before.
    is_known: bool,
}

/// Where it belongs.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// Before all of the others.
    First(Newer),
    /// Its own role has signed a newer one since: whoever wished it knows.
    Old,
    /// After them: whether it is taken then is for the supervisor to say, and for its console to hear.
    Later {
        /// It was dealt with before, and takes no turn that another one waits for.
        is_known: bool,
    },
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
        match (before.peek().is_some(), self.is_known) {
            (true, _) if before.any(|other| other.role == turn.role) => Place::Old,
            (false, false) => Place::First(self),
            (_, is_known) => Place::Later { is_known },
        }
    }

    /// What it takes the place of, as `activity`.
    pub fn replaces(self, job: Job, assigned: Option<Assigned>, activity: &str) -> Replaced {
        Replaced {
            end: self.ends(assigned, activity),
            job,
            assigned,
            is_switched: false,
        }
    }

    /// How the one that it takes the place of ends. An assignment of what runs is how a console takes another one back.
    fn ends(&self, job: Option<Assigned>, activity: &str) -> Outcome {
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

/// A deployment whose place a newer one takes. It goes on if the supervisor refuses that one, and may be switched to until the
/// supervisor has taken it: nobody is told before that it ended.
#[derive(Debug)]
pub struct Replaced {
    pub job: Job,
    assigned: Option<Assigned>,
    end: Outcome,
    /// The board was being switched to it, which was told.
    is_switched: bool,
}

/// What a newer one takes the place of ends when the supervisor has taken that one. Where too many wait for it, the last has
/// not come as far as the supervisor, and ends now.
pub fn replace(
    before: Replaced,
    replaced: &RefCell<Vec<Replaced>>,
    means: &Means,
    record: &mut Record,
) {
    let mut replaced = replaced.borrow_mut();
    match replaced.len() < REPLACED {
        true => replaced.push(before),
        false => Voice::new(means, record, &before.job.activity).end(before.end, None),
    }
}

/// The supervisor has taken this one. What it takes the place of has ended with that, unless the board was switched to it just
/// before, or the supervisor has both: that one says later how it ends.
pub async fn let_go(means: &Means, replaced: &RefCell<Vec<Replaced>>, voice: &mut Voice<'_>) {
    if replaced.borrow().is_empty() {
        return;
    }
    let Ok(status) = means.supervisor.status().await else {
        return;
    };
    for mut before in replaced.take() {
        let set = before.assigned.map(|set| set.deployment);
        let current = status.current.as_ref();
        let current = current.filter(|of| Some(of.deployment) == set);
        let waiting = status.waiting.as_ref();
        let waiting = waiting.filter(|of| Some(of.deployment) == set);
        let state = current.map(|of| of.state);
        let mut other = voice.other(&before.job.activity);
        if state == Some(SetState::Committed) {
            other.end(Outcome::committed(), None);
        } else if state.is_some() || waiting.is_some() {
            let switches = state.is_some() || waiting.is_some_and(|of| of.code == SWITCHING);
            if switches && !std::mem::replace(&mut before.is_switched, true) {
                other.phase(Phase::Switching);
            }
            replaced.borrow_mut().push(before);
        } else if before.is_switched {
            let why = failure_of(&before.job.activity, &status);
            other.end(Outcome::rolled_back(why), None);
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
pub fn take<'a>(
    means: &'a Means,
    coming: &mut Option<Coming<'a>>,
    wish: Desired,
    activity: &str,
    known: &Known,
) {
    if wish.activity == activity || known.ended.contains(&wish.activity) {
        return said_again(&wish.activity);
    }
    if coming.is_some() {
        dropped();
    }
    *coming = Coming::look(means, wish, Duration::ZERO);
}

/// For the end of everything else; the last one that comes has that place, if it is no known one.
pub fn put_off(later: &mut Option<Job>, job: Job, is_known: bool) {
    if later.is_some() {
        dropped();
    }
    if later.is_none() || !is_known {
        *later = Some(job);
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
    known: &Known,
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
            // Told when it has had its turn; whoever can send one can send a million.
            tracing::debug!(reason = why.reason, "what came is not for this board");
            return Some((wish, Place::Later { is_known: false }));
        }
        Ok(mut found) => {
            found.is_known |= known.refused.contains(&found.assigned.deployment);
            found.place(others)
        }
    };
    match place {
        Place::Old => odd::count(Kind::Old),
        Place::Later { is_known: true } => said_again(&wish.activity),
        Place::Later { is_known: false } => tracing::debug!(
            activity = wish.activity,
            "what came is older than another role's, and has its turn afterwards"
        ),
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
    let is_known = status.trust.is_some_and(|trust| {
        let counted = match assigned.turn.role {
            AssignmentRole::Deploy => trust.deploy,
            AssignmentRole::OfflineDeploy => trust.offline_deploy,
        };
        assigned.turn.counter <= counted
    });
    Ok(Newer {
        assigned,
        is_known,
        runs: status.current.filter(kept).map(|set| set.release),
    })
}
