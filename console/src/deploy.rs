//! From "this release on these boards" to signed assignments: one document for each board, with
//! the board's next `seq`, durable before it is published.

mod error;
mod signer;
mod take_back;

use crate::blobs::{Blobs, blocking};
use crate::clock::now;
use crate::deltas::Deltas;
use crate::live::{Change, Live};
use crate::republish::Republish;
use crate::secrets::random_hex;
use crate::store::{Board, DeltaRow, Deployment, NewAssignment, Store};
use coracle_digest::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, Deploy, Target};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::{AppName, BoardId, HardwareClass};
use coracle_protocol::release::{Blob, SignedRelease};
use coracle_protocol::secret::Sealed;
use coracle_protocol::site;
use coracle_protocol::verify::VerifiedRelease;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

pub use error::DeployError;
pub use signer::Signer;
pub use take_back::Standing;

/// Boards of one deployment.
pub const BOARDS: usize = 1000;
/// An assignment is good for so long when the operator does not say, in seconds: 90 days.
pub const EXPIRES_IN: u64 = 90 * 24 * 3600;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// SHA-256 of the release's payload.
    pub release: Sha256Digest,
    /// The boards.
    pub boards: BTreeSet<BoardId>,
    /// Seconds for which the assignments are good.
    pub expires_in: u64,
    /// What is set for these boards, within what the release allows.
    pub site: BTreeMap<AppName, site::Settings>,
    /// Who asks.
    pub actor: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Ordered {
    /// The deployment's name.
    pub id: String,
    /// Each board.
    pub boards: Vec<OrderedBoard>,
}

/// What came of it for one board.
#[derive(Debug, Clone, Serialize)]
pub struct OrderedBoard {
    /// The board.
    pub board: BoardId,
    /// Names it in feedback.
    pub activity: String,
    /// Of the signed document.
    pub seq: u64,
    /// Deltas that the document names.
    pub deltas: Vec<OfferedDelta>,
    /// What an operator should know; the board decides by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A delta in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferedDelta {
    /// diff_id that the board has.
    pub from: Sha256Digest,
    /// diff_id that it makes.
    pub to: Sha256Digest,
    /// Bytes of the delta.
    pub size: u64,
    /// Bytes of the full blob.
    pub full_size: u64,
}

/// Makes deployments.
#[derive(Clone)]
pub struct Deployer {
    /// The truth.
    pub store: Store,
    /// For documents that are too large for a message.
    pub blobs: Blobs,
    /// Signs.
    pub signer: Signer,
    /// Finds deltas.
    pub deltas: Deltas,
    /// Publishes.
    pub republish: Republish,
    /// Told of it.
    pub live: Live,
    /// How long deltas are waited for.
    pub delta_wait: Duration,
    /// One at a time counts and signs: a number that is taken and not stored yet must not be overtaken.
    pub turn: Arc<Mutex<()>>,
}

impl Deployer {
    /// Signs and publishes one assignment for each board, or none at all.
    pub async fn deploy(&self, order: &Order) -> Result<Ordered, DeployError> {
        let boards = self.boards(&order.boards).await?;
        let row = self
            .store
            .release(&order.release)
            .await?
            .ok_or(DeployError::UnknownRelease(order.release))?;
        let release = VerifiedRelease::open(&row.envelope, &self.signer.root())?;
        let until = tokio::time::Instant::now() + self.delta_wait;
        let deployment = Deployment {
            id: random_hex(8)?,
            release: order.release,
            created_at: now(),
            created_by: order.actor.clone(),
            paused_at: None,
            cancelled_at: None,
        };
        let mut planned = Vec::new();
        for board in &boards {
            planned.push(self.deltas.plan(board, release.document(), until).await?);
        }
        let mut assignments = Vec::new();
        let mut answers = Vec::new();
        let turn = self.turn.lock().await;
        for (board, deltas) in boards.iter().zip(planned) {
            let (new, mut answer) = self
                .assign(order, &row.envelope, &release, board, deltas)
                .await?;
            answer.warnings = warnings(board, &release);
            assignments.push(new);
            answers.push(answer);
        }
        self.store.add_deployment(&deployment, &assignments).await?;
        drop(turn);
        for new in assignments {
            self.republish.ask(new.board.clone());
            self.live.tell(Change::Board(new.board));
        }
        self.live.tell(Change::Fleet);
        Ok(Ordered {
            id: deployment.id,
            boards: answers,
        })
    }

    async fn boards(&self, ids: &BTreeSet<BoardId>) -> Result<Vec<Board>, DeployError> {
        if ids.is_empty() {
            return Err(DeployError::NoBoards);
        }
        if ids.len() > BOARDS {
            return Err(DeployError::TooMany(ids.len()));
        }
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in ids {
            match self.store.board(id).await? {
                Some(board) => known.push(board),
                None => unknown.push(id.to_string()),
            }
        }
        if !unknown.is_empty() {
            unknown.truncate(20);
            return Err(DeployError::UnknownBoards(unknown));
        }
        let revoked: Vec<String> = known
            .iter()
            .filter(|board| board.revoked_at.is_some())
            .take(20)
            .map(|board| board.id.to_string())
            .collect();
        match revoked.is_empty() {
            true => Ok(known),
            false => Err(DeployError::RevokedBoards(revoked)),
        }
    }

    async fn assign(
        &self,
        order: &Order,
        envelope: &Envelope,
        release: &VerifiedRelease,
        board: &Board,
        deltas: Vec<DeltaRow>,
    ) -> Result<(NewAssignment, OrderedBoard), DeployError> {
        let (seq, issued_at) = self
            .store
            .next_seq(&board.id, now())
            .await?
            .ok_or_else(|| DeployError::UnknownBoards(vec![board.id.to_string()]))?;
        let offered: Vec<OfferedDelta> = deltas
            .iter()
            .filter_map(|row| {
                row.outcome.as_ref().ok().map(|delta| OfferedDelta {
                    from: row.from,
                    to: row.to,
                    size: delta.size,
                    full_size: row.full_size,
                })
            })
            .collect();
        let deploy = Deploy {
            spec_version: 1,
            critical: Vec::new(),
            role: AssignmentRole::Deploy,
            target: Target::Boards(BTreeSet::from([board.id.clone()])),
            release: Blob {
                digest: release.digest(),
                size: release.size(),
            },
            epoch: self.signer.epoch()?,
            seq,
            issued_at,
            expires: issued_at.saturating_add(order.expires_in),
            deltas: deltas
                .into_iter()
                .filter_map(|row| row.outcome.ok())
                .collect(),
            site: order.site.clone(),
            secrets: self.secrets(board, release.document()).await?,
            result: false,
        };
        site::applied(release.document(), &deploy).map_err(|fault| DeployError::Site {
            board: board.id.clone(),
            fault,
        })?;
        let activity = random_hex(16)?;
        let desired = self
            .message(
                activity.clone(),
                self.signer.sign(&deploy).await?,
                envelope.clone(),
            )
            .await?;
        Ok((
            NewAssignment {
                activity: activity.clone(),
                board: board.id.clone(),
                seq,
                desired,
                deltas: serde_json::to_value(&offered)?,
            },
            OrderedBoard {
                board: board.id.clone(),
                activity,
                seq,
                deltas: offered,
                warnings: Vec::new(),
            },
        ))
    }

    /// The secrets that the release asks for, as far as they are here.
    async fn secrets(
        &self,
        board: &Board,
        release: &SignedRelease,
    ) -> Result<Vec<Sealed>, DeployError> {
        let wanted = |sealed: &Sealed| {
            let app = release.apps.iter().find(|app| app.name == sealed.app);
            app.is_some_and(|app| app.secrets.contains(&sealed.name))
        };
        let mut secrets = self.store.secrets(&board.id).await?;
        secrets.retain(wanted);
        Ok(secrets)
    }

    /// The message, with both documents in it when they fit; otherwise the release, and then the
    /// assignment too, become blobs.
    async fn message(
        &self,
        activity: String,
        deploy: Envelope,
        release: Envelope,
    ) -> Result<String, DeployError> {
        let mut desired = Desired {
            activity,
            deploy: Document::Inline(deploy),
            release: Document::Inline(release),
        };
        for step in 0..3 {
            let text = serde_json::to_string(&desired)?;
            if text.len() <= LIMITS.mqtt_message_bytes || step == 2 {
                return Ok(text);
            }
            let document = if step == 0 {
                &mut desired.release
            } else {
                &mut desired.deploy
            };
            if let Document::Inline(envelope) = document {
                let bytes = envelope.to_json();
                let size = bytes.len() as u64;
                let blobs = self.blobs.clone();
                let digest = blocking(move || blobs.put(&bytes)).await?;
                *document = Document::Blob(Blob { digest, size });
            }
        }
        Ok(serde_json::to_string(&desired)?)
    }
}

fn warnings(board: &Board, release: &VerifiedRelease) -> Vec<String> {
    let mut found = Vec::new();
    if board.enrolled_at.is_none() {
        found.push("this board has not enrolled yet; it gets the assignment when it does".into());
    }
    if let Some(current) = &board.current {
        let hardware = &current.board.hardware;
        let fits = HardwareClass::new(hardware)
            .is_ok_and(|class| release.document().hardware.contains(&class));
        if !fits {
            found.push(format!(
                "the board says it is `{hardware}`, which the release does not name; it will refuse"
            ));
        }
    }
    found
}
