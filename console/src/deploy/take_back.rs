//! Deployments that somebody holds or takes back.
//!
//! A board that was not heard of is not sent to: what the broker keeps for it is replaced. One that has begun is taken back by
//! an assignment of what runs there, signed like every other: whoever merely has the broker can neither make one, nor keep
//! what was taken back for later, since the board counts it.

use super::{DeployError, Deployer, EXPIRES_IN};
use crate::blobs::blocking;
use crate::clock::now;
use crate::live::Change;
use crate::secrets::random_hex;
use crate::store::{Assignment, Board, Deployment, Fate, NewAssignment, Withdrawal};
use coracle_digest::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, Deploy};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::{Phase, SetState, SetStatus};
use coracle_protocol::verify::VerifiedRelease;
use serde::Serialize;

/// Assignments that are signed and stored in one go: what went before is sent while the next are signed.
const AT_A_TIME: usize = 20;

/// How a board stands in a deployment that somebody has held or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "standing", content = "reason")]
pub enum Standing {
    /// It is not sent to for now.
    Held,
    /// It is not sent to any more.
    NotSent,
    /// The assignment that takes it back is signed; the board has not answered.
    Cancelling,
    /// The board took that, and has what it had.
    Cancelled,
    /// The board refused that.
    NotTaken(String),
    /// It is cancelled, and what takes it back on this board is not signed yet.
    NotSigned,
    /// Nothing was taken back.
    #[serde(untagged)]
    Left(Fate),
}

impl Standing {
    /// Of an assignment of a deployment, and of that which takes it back.
    pub fn of(
        deployment: &Deployment,
        assignment: &Assignment,
        by: Option<&Assignment>,
    ) -> Option<Self> {
        let Some(by) = by else {
            return match (&assignment.fate, assignment.withdrawn_at) {
                (Some(fate), _) => Some(Self::Left(fate.clone())),
                (None, Some(_)) => Some(Self::NotSent),
                (None, None) if deployment.cancelled_at.is_some() => {
                    Some(match past_cancelling(assignment) {
                        Some(fate) => Self::Left(fate),
                        None => Self::NotSigned,
                    })
                }
                (None, None) => assignment.held.then_some(Self::Held),
            };
        };
        if by.withdrawn_at.is_some() {
            return Some(Self::Left(Fate::TooLate));
        }
        let said = by.progress.as_ref().map(|said| &said.feedback);
        Some(match said.map(|said| (said.phase, said)) {
            Some((Phase::Committed, _)) => Self::Cancelled,
            Some((Phase::Refused | Phase::RolledBack, said)) => {
                Self::NotTaken(said.reason.clone().unwrap_or_default())
            }
            // One that failed is tried again.
            _ => Self::Cancelling,
        })
    }
}

/// What its board has said that leaves nothing to take back.
fn past_cancelling(assignment: &Assignment) -> Option<Fate> {
    match assignment.progress.as_ref()?.feedback.phase {
        Phase::Switching | Phase::Trial | Phase::Committed => Some(Fate::TooLate),
        Phase::Refused | Phase::RolledBack => Some(Fate::Ended),
        _ => None,
    }
}

impl Deployer {
    /// Holds the boards that have said nothing of it yet. What has begun goes on.
    pub async fn pause(&self, deployment: &Deployment) -> Result<(), DeployError> {
        let held = self.store.pause(&deployment.id, now()).await?;
        self.tell(held);
        Ok(())
    }

    /// Sends to those that were held, but for those that want something newer by now.
    pub async fn resume(&self, deployment: &Deployment) -> Result<(), DeployError> {
        let sent = self.store.resume(&deployment.id, now()).await?;
        self.tell(sent);
        Ok(())
    }

    /// Takes it back wherever that is possible. Once more does what was not possible the first time. First nothing more goes
    /// out, whether or not the key can sign; then what has begun is taken back, some boards at a time.
    pub async fn cancel(&self, deployment: &Deployment) -> Result<(), DeployError> {
        self.tell(self.store.begin_cancel(&deployment.id, now()).await?);
        let mut assignments = self.store.assignments(&deployment.id).await?;
        let boards = assignments.len();
        assignments.retain(|assignment| assignment.withdrawn_at.is_none());
        assignments.sort_by_key(|assignment| assignment.progress.is_none());
        let (mut left, mut fault) = (0, None);
        for some in assignments.chunks(AT_A_TIME) {
            // A deployment that somebody makes meanwhile has its turn between two.
            let turn = self.turn.lock().await;
            let mut withdrawals = Vec::new();
            let mut changed = Vec::new();
            for assignment in some {
                let Some(withdrawal) = self.withdrawal(assignment, &mut fault).await? else {
                    left += 1;
                    continue;
                };
                if !matches!(withdrawal, Withdrawal::None(_)) {
                    changed.push(assignment.board.clone());
                }
                withdrawals.push((assignment.activity.clone(), withdrawal));
            }
            self.store.cancel(deployment, &withdrawals, now()).await?;
            drop(turn);
            self.tell(changed);
        }
        match fault {
            None => Ok(()),
            Some(source) => Err(DeployError::NotAllSigned {
                left,
                boards,
                source: Box::new(source),
            }),
        }
    }

    fn tell(&self, boards: Vec<BoardId>) {
        for board in boards {
            self.republish.ask(board.clone());
            self.live.tell(Change::Board(board));
        }
        self.live.tell(Change::Fleet);
    }

    /// What takes it back, or why nothing does. `None`: the key did not sign; with `fault` it is not asked again.
    async fn withdrawal(
        &self,
        assignment: &Assignment,
        fault: &mut Option<DeployError>,
    ) -> Result<Option<Withdrawal>, DeployError> {
        if let Some(fate) = past_cancelling(assignment) {
            return Ok(Some(Withdrawal::None(fate)));
        }
        let phase = assignment.progress.as_ref().map(|said| said.feedback.phase);
        let board = &assignment.board;
        if self.store.has_newer(board, assignment.seq).await? {
            return Ok(Some(Withdrawal::None(Fate::Superseded)));
        }
        let begun = !matches!(phase, None | Some(Phase::Failed));
        let board = self.store.board(board).await?;
        let Some(board) = board.filter(|board| board.revoked_at.is_none()) else {
            return Ok(Some(Withdrawal::Unsent));
        };
        let found = match self.of_what_runs(&board).await? {
            // Its word of the switch is on the way.
            Ok((_, runs)) if runs.activity == assignment.activity => {
                Withdrawal::None(Fate::TooLate)
            }
            Ok(_) if fault.is_some() => return Ok(None),
            Ok((set, runs)) => match self.signed_anew(&board, &set, runs).await {
                Err(error) if error.is_of_the_key() => {
                    *fault = Some(error);
                    return Ok(None);
                }
                signed => signed?,
            },
            Err(why) => Withdrawal::None(Fate::GoesOn(why)),
        };
        Ok(Some(match found {
            Withdrawal::None(Fate::GoesOn(_)) if !begun => Withdrawal::Unsent,
            found => found,
        }))
    }

    /// The committed set of a board, and the message by which it was assigned, or why there is none.
    async fn of_what_runs(
        &self,
        board: &Board,
    ) -> Result<Result<(SetStatus, Desired), String>, DeployError> {
        let set = board.current.as_ref().and_then(|now| now.set.clone());
        let Some(set) = set.filter(|set| set.state == SetState::Committed) else {
            let text = "nothing runs there that it could go back to";
            return Ok(Err(text.into()));
        };
        for text in self.store.desired_of(&board.id, &set.release).await? {
            let Ok(desired) = serde_json::from_str::<Desired>(&text) else {
                continue;
            };
            let deploy = self.document(&desired.deploy).await?;
            let payload = deploy.and_then(|deploy| deploy.payload_unverified().ok());
            if payload.is_some_and(|bytes| Sha256Digest::of(&bytes) == set.deployment) {
                return Ok(Ok((set, desired)));
            }
        }
        Ok(Err(
            "what runs there was not assigned by this console: a stick brought it".into(),
        ))
    }

    /// The same once more, under the board's next `seq`.
    async fn signed_anew(
        &self,
        board: &Board,
        set: &SetStatus,
        runs: Desired,
    ) -> Result<Withdrawal, DeployError> {
        let goes_on = |why: &str| Ok(Withdrawal::None(Fate::GoesOn(why.into())));
        let (deploy, release) = (
            self.document(&runs.deploy).await?,
            self.document(&runs.release).await?,
        );
        let (Some(deploy), Some(envelope)) = (deploy, release) else {
            return goes_on("the documents of what runs there are gone from the console");
        };
        let old = deploy.payload_unverified().ok();
        let old = old.and_then(|bytes| serde_json::from_slice::<Deploy>(&bytes).ok());
        let Some(old) = old else {
            return goes_on("the assignment of what runs there cannot be read");
        };
        let Ok(release) = VerifiedRelease::open(&envelope, &self.signer.root()) else {
            return goes_on("the release that runs there is no longer signed by a key in force");
        };
        let next = self.store.next_seq(&board.id, now()).await?;
        let (seq, issued_at) =
            next.ok_or_else(|| DeployError::UnknownBoards(vec![board.id.to_string()]))?;
        if release.document().expires <= issued_at {
            return goes_on(
                "the release that runs there has expired: boards take no assignment of it",
            );
        }
        let deploy = Deploy {
            role: AssignmentRole::Deploy,
            epoch: self.signer.epoch()?,
            seq,
            issued_at,
            // For no longer than what runs: then the board has nothing to do. One that is over is begun anew.
            expires: match old.expires > issued_at {
                true => old.expires,
                false => issued_at.saturating_add(EXPIRES_IN),
            },
            // Its layers are there.
            deltas: Vec::new(),
            ..old
        };
        let activity = random_hex(16)?;
        let signed = self.signer.sign(&deploy).await?;
        let desired = self.message(activity.clone(), signed, envelope).await?;
        let new = NewAssignment {
            activity,
            board: board.id.clone(),
            seq,
            desired,
            deltas: serde_json::json!([]),
        };
        Ok(Withdrawal::Signed(new, set.release))
    }

    async fn document(&self, document: &Document) -> Result<Option<Envelope>, DeployError> {
        let blob = match document {
            Document::Inline(envelope) => return Ok(Some(envelope.clone())),
            Document::Blob(blob) => *blob,
        };
        let blobs = self.blobs.clone();
        let read = move || Ok(blobs.read(&blob.digest, LIMITS.envelope_bytes as u64));
        let bytes: Option<Vec<u8>> = blocking(read).await?;
        Ok(bytes.and_then(|bytes| Envelope::parse(&bytes).ok()))
    }
}
