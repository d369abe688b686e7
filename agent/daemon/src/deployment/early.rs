//! A look at the documents before anything is fetched for them. It spares bytes and says why early;
//! it decides nothing: the supervisor verifies by itself, against counters that only it keeps.

use super::outcome::Outcome;
use crate::disk;
use coracle_protocol::counters::Seen;
use coracle_protocol::deploy::Target;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::Status;
use coracle_protocol::names::{BoardId, HardwareClass};
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{
    Board, Refusal, VerifiedDeploy, VerifiedDeployment, VerifiedRelease,
};
use std::path::PathBuf;

/// Checks documents against the root that the supervisor says it trusts, or the one of the board's image.
#[derive(Debug, Clone)]
pub struct EarlyVerifier {
    /// `root.json`.
    pub root_file: PathBuf,
}

/// Documents whose signatures are good.
#[derive(Debug)]
pub struct EarlyVerified {
    /// The release.
    pub release: VerifiedRelease,
    /// The assignment.
    pub deploy: VerifiedDeploy,
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.code(), refusal.to_string())
    }
}

impl EarlyVerifier {
    /// Signatures, limits, and whether both are for each other, for this board and not expired since
    /// before this program was built. `root`: the supervisor's. A board without a name leaves who it is to the supervisor.
    pub fn check(
        &self,
        (deploy, release): (&Envelope, &Envelope),
        root: Option<&Envelope>,
        board: Option<&BoardId>,
        status: &Status,
    ) -> Result<EarlyVerified, Outcome> {
        let root = self.in_force(root)?;
        let deploy = VerifiedDeploy::open(deploy, &root)?;
        let release = VerifiedRelease::open(release, &root)?;
        let hardware = HardwareClass::new(&status.board.hardware).ok();
        if let (Some(id), Some(hardware)) = (board, hardware) {
            let seen = Seen::default();
            let already: Vec<_> = status
                .current
                .iter()
                .map(|set| set.deployment)
                .chain(status.previous.iter().map(|(digest, _)| *digest))
                .collect();
            let board = Board {
                id,
                hardware: &hardware,
                seen: &seen,
                built_at: TimeBound::at(crate::clock::built_at()),
            };
            let accepted = VerifiedDeployment::accept(release, deploy, board, &already)?;
            return Ok(EarlyVerified {
                release: accepted.release().clone(),
                deploy: accepted.deploy().clone(),
            });
        }
        if deploy.document().release.digest != release.digest() {
            return Err(Refusal::ReleaseMismatch {
                want: deploy.document().release.digest,
                got: release.digest(),
            }
            .into());
        }
        Ok(EarlyVerified { release, deploy })
    }

    /// The assignment alone: whether it was signed, for this board.
    pub fn assignment(
        &self,
        deploy: &Envelope,
        root: Option<&Envelope>,
        board: Option<&BoardId>,
    ) -> Result<VerifiedDeploy, Outcome> {
        let deploy = VerifiedDeploy::open(deploy, &self.in_force(root)?)?;
        match (&deploy.document().target, board) {
            (Target::Boards(boards), Some(board)) if !boards.contains(board) => {
                Err(Outcome::refused("wrong-board", "it is for other boards"))
            }
            _ => Ok(deploy),
        }
    }

    fn in_force(&self, root: Option<&Envelope>) -> Result<TrustedRoot, Outcome> {
        match root {
            Some(root) => TrustedRoot::from_image(root)
                .map_err(|e| Outcome::refused("no-root", e.to_string())),
            None => self.root(),
        }
    }

    fn root(&self) -> Result<TrustedRoot, Outcome> {
        let bad = |text: String| Outcome::refused("no-root", text);
        let limit = LIMITS.envelope_bytes as u64;
        let bytes = disk::read(&self.root_file, limit)
            .map_err(|e| bad(e.to_string()))?
            .ok_or_else(|| {
                let file = self.root_file.display();
                bad(format!("this board has no trust root: {file} is missing"))
            })?;
        let envelope = Envelope::parse(&bytes).map_err(|e| bad(e.to_string()))?;
        TrustedRoot::from_image(&envelope).map_err(|e| bad(e.to_string()))
    }
}
