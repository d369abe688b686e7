//! From bytes to a deployment that may run: no step can be skipped, because each takes the type
//! that only the step before it makes.
//!
//! `Envelope` → [`VerifiedRelease`], [`VerifiedDeploy`] (signatures, limits, epoch)
//! → [`VerifiedDeployment`] (both agree, for this board, not older than what it has seen, not expired).

use crate::counters::{Counter, Seen};
use crate::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy, Target};
use crate::dsse::{DsseError, Envelope};
use crate::names::{BoardId, HardwareClass};
use crate::release::{RELEASE_TYPE, Release};
use crate::root::{Role, TrustedRoot};
use crate::time::TimeBound;
use coracle_digest::Sha256Digest;

/// Why a document or a deployment was refused. [`Refusal::code`] is stable; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The envelope is not good, or too few keys of the role signed.
    #[error("{document}: {source}")]
    Envelope {
        document: &'static str,
        source: DsseError,
    },
    /// The root does not name the role.
    #[error("{document}: the root document names no key for role `{role}`")]
    NoRole { document: &'static str, role: Role },
    /// Signed, but not a document that this program understands, or past a limit.
    #[error("{document}: {fault}")]
    Malformed {
        document: &'static str,
        fault: String,
    },
    /// Signed under another epoch of the role.
    #[error("{document}: signed under epoch {got} of role `{role}`; the root says {want}")]
    Epoch {
        document: &'static str,
        role: Role,
        got: u64,
        want: u64,
    },
    /// The assignment names another release.
    #[error("the assignment is for release {want}; the release offered is {got}")]
    ReleaseMismatch {
        want: Sha256Digest,
        got: Sha256Digest,
    },
    /// For another board.
    #[error("the assignment is for {target}; this board is {board}")]
    WrongBoard { target: String, board: BoardId },
    /// Built for other hardware.
    #[error("the release is for hardware {supported}; this board is `{hardware}`")]
    WrongHardware {
        supported: String,
        hardware: HardwareClass,
    },
    /// An assignment that is not newer than what this board has seen.
    #[error(
        "the assignment has counter {got}; this board has already seen {seen} (replayed or rolled back)"
    )]
    OldAssignment { got: Counter, seen: Counter },
    /// Issued before the newest accepted assignment of the other role.
    #[error("the assignment was issued at {got}; this board follows one issued at {seen}")]
    OlderThanOtherRole { got: u64, seen: u64 },
    /// A release below what this board has seen.
    #[error(
        "release counter {got} of `{product}` is below {seen}, which this board has already seen (rollback)"
    )]
    OldRelease {
        product: String,
        got: Counter,
        seen: Counter,
    },
    /// Expired for sure.
    #[error("{document}: expired at {expires}; it is at least {now} (Unix seconds)")]
    Expired {
        document: &'static str,
        expires: u64,
        now: u64,
    },
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope {
                source: DsseError::Threshold { .. },
                ..
            } => "bad-signature",
            Self::Envelope { .. } => "bad-envelope",
            Self::NoRole { .. } => "no-role",
            Self::Malformed { .. } => "malformed",
            Self::Epoch { .. } => "wrong-epoch",
            Self::ReleaseMismatch { .. } => "release-mismatch",
            Self::WrongBoard { .. } => "wrong-board",
            Self::WrongHardware { .. } => "wrong-hardware",
            Self::OldAssignment { .. } => "old-assignment",
            Self::OlderThanOtherRole { .. } => "older-than-other-role",
            Self::OldRelease { .. } => "old-release",
            Self::Expired { .. } => "expired",
        }
    }
}

/// Of the root that a document was opened under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RootTimes {
    issued_at: u64,
    expires: u64,
}

impl RootTimes {
    fn of(root: &TrustedRoot) -> Self {
        Self {
            issued_at: root.document().issued_at,
            expires: root.document().expires,
        }
    }
}

/// A release that enough release keys signed.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedRelease {
    release: Release,
    root: RootTimes,
    digest: Sha256Digest,
    size: u64,
}

/// An assignment that enough keys of its role signed.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedDeploy {
    deploy: Deploy,
    root: RootTimes,
    digest: Sha256Digest,
}

/// A release and an assignment that agree, for this board, now. What it does *not* say: that the
/// board has room for it.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedDeployment {
    release: VerifiedRelease,
    deploy: VerifiedDeploy,
    seen: Seen,
}

/// What a deployment is held against.
#[derive(Debug, Clone, Copy)]
pub struct Board<'a> {
    /// Who this board is.
    pub id: &'a BoardId,
    /// What it is.
    pub hardware: &'a HardwareClass,
    /// What it has accepted so far.
    pub seen: &'a Seen,
    /// Build time of the program, the least that the time can be.
    pub built_at: TimeBound,
}

fn open(
    envelope: &Envelope,
    document: &'static str,
    payload_type: &'static str,
    role: Role,
    root: &TrustedRoot,
) -> Result<(Vec<u8>, u64), Refusal> {
    let (keys, threshold, epoch) = root.role(role).ok_or(Refusal::NoRole { document, role })?;
    let payload = envelope
        .verify(payload_type, &keys, threshold)
        .map_err(|source| Refusal::Envelope { document, source })?;
    Ok((payload.bytes().to_vec(), epoch))
}

impl VerifiedRelease {
    /// Counts signatures of role `release`, then reads the same bytes.
    pub fn open(envelope: &Envelope, root: &TrustedRoot) -> Result<Self, Refusal> {
        const WHAT: &str = "release";
        let (bytes, epoch) = open(envelope, WHAT, RELEASE_TYPE, Role::Release, root)?;
        let malformed = |fault| Refusal::Malformed {
            document: WHAT,
            fault,
        };
        let release: Release =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        release.check().map_err(malformed)?;
        if release.epoch != epoch {
            return Err(Refusal::Epoch {
                document: WHAT,
                role: Role::Release,
                got: release.epoch,
                want: epoch,
            });
        }
        Ok(Self {
            release,
            root: RootTimes::of(root),
            digest: Sha256Digest::of(&bytes),
            size: bytes.len() as u64,
        })
    }
    /// The document.
    pub fn document(&self) -> &Release {
        &self.release
    }
    /// SHA-256 of the payload: what an assignment names.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }
    /// Size of the payload in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl VerifiedDeploy {
    /// Counts signatures of either role that may assign, then reads the same bytes: they must claim
    /// a role whose keys signed. Nothing is parsed before a signature was good.
    pub fn open(envelope: &Envelope, root: &TrustedRoot) -> Result<Self, Refusal> {
        const WHAT: &str = "assignment";
        let malformed = |fault| Refusal::Malformed {
            document: WHAT,
            fault,
        };
        let mut opened = None;
        let mut refused = Vec::new();
        for role in [AssignmentRole::Deploy, AssignmentRole::OfflineDeploy] {
            match open(envelope, WHAT, DEPLOY_TYPE, role.role(), root) {
                Ok((bytes, _)) => opened = Some(bytes),
                Err(refusal) => refused.push((role, refusal)),
            }
        }
        let Some(bytes) = opened else {
            // A role that the root does not name says less than the signatures of one that it does.
            refused.sort_by_key(|(_, refusal)| matches!(refusal, Refusal::NoRole { .. }));
            return Err(refused.swap_remove(0).1);
        };
        let deploy: Deploy =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        let role = deploy.role.role();
        if let Some(at) = refused.iter().position(|(of, _)| *of == deploy.role) {
            return Err(refused.swap_remove(at).1);
        }
        let (_, _, epoch) = root.role(role).ok_or(Refusal::NoRole {
            document: WHAT,
            role,
        })?;
        deploy.check().map_err(malformed)?;
        if deploy.epoch != epoch {
            return Err(Refusal::Epoch {
                document: WHAT,
                role,
                got: deploy.epoch,
                want: epoch,
            });
        }
        Ok(Self {
            deploy,
            root: RootTimes::of(root),
            digest: Sha256Digest::of(&bytes),
        })
    }
    /// The document.
    pub fn document(&self) -> &Deploy {
        &self.deploy
    }
    /// SHA-256 of the payload: what the journal calls this deployment.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }
}

/// From where time and the newest assignment go on. The first document under a raised epoch starts
/// at the root that raised it: what a stolen key had moved ahead counts no longer.
fn start(
    seen: &Seen,
    (assigned, deploy_epoch): (Counter, u64),
    (released, release_epoch): (Counter, u64),
    root: RootTimes,
) -> (TimeBound, u64) {
    let raised = |old: Counter, epoch| old != Counter::default() && epoch > old.epoch;
    if raised(assigned, deploy_epoch) || raised(released, release_epoch) {
        (
            TimeBound::at(root.issued_at),
            seen.newest_issued_at.min(root.issued_at),
        )
    } else {
        (seen.time, seen.newest_issued_at)
    }
}

impl VerifiedDeployment {
    /// Both documents against the board. The same assignment again passes whatever the counters say
    /// when its digest is in `already`. For an offer from outside, that is what runs now and nothing
    /// else: with the previous set in it, whoever replays the previous message takes the board back.
    /// The previous set belongs in it only when the board itself goes back.
    pub fn accept(
        release: VerifiedRelease,
        deploy: VerifiedDeploy,
        board: Board<'_>,
        already: &[Sha256Digest],
    ) -> Result<Self, Refusal> {
        let (r, d) = (&release.release, &deploy.deploy);
        if d.release.digest != release.digest || d.release.size != release.size {
            return Err(Refusal::ReleaseMismatch {
                want: d.release.digest,
                got: release.digest,
            });
        }
        let list = |names: Vec<&str>| {
            names
                .iter()
                .take(4)
                .map(|n| format!("`{n}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let for_us = match &d.target {
            Target::Boards(boards) => boards.contains(board.id),
            Target::Hardware(classes) => classes.contains(board.hardware),
        };
        if !for_us {
            let target = match &d.target {
                Target::Boards(boards) => list(boards.iter().map(BoardId::as_str).collect()),
                Target::Hardware(classes) => {
                    list(classes.iter().map(HardwareClass::as_str).collect())
                }
            };
            return Err(Refusal::WrongBoard {
                target,
                board: board.id.clone(),
            });
        }
        if !r.hardware.contains(board.hardware) {
            let supported = list(r.hardware.iter().map(HardwareClass::as_str).collect());
            return Err(Refusal::WrongHardware {
                supported,
                hardware: board.hardware.clone(),
            });
        }
        if already.contains(&deploy.digest) {
            return Ok(Self {
                seen: board.seen.clone(),
                release,
                deploy,
            });
        }
        let assignment = Counter {
            epoch: d.epoch,
            value: d.seq,
        };
        let seen = match d.role {
            AssignmentRole::Deploy => board.seen.deploy,
            AssignmentRole::OfflineDeploy => board.seen.offline_deploy,
        };
        if assignment <= seen {
            return Err(Refusal::OldAssignment {
                got: assignment,
                seen,
            });
        }
        let counter = Counter {
            epoch: r.epoch,
            value: r.release_counter,
        };
        let highest = board
            .seen
            .releases
            .get(&r.product)
            .copied()
            .unwrap_or_default();
        if counter < highest {
            return Err(Refusal::OldRelease {
                product: r.product.to_string(),
                got: counter,
                seen: highest,
            });
        }
        let root = deploy.root;
        let (time, newest_issued_at) = start(board.seen, (seen, d.epoch), (highest, r.epoch), root);
        let now = time.max(board.built_at).raised_to(root.issued_at);
        for (document, expires, now) in [
            ("root document", root.expires, now),
            ("release", r.expires, now),
            ("assignment", d.expires, now),
            // The console itself says that the release was out of date when it assigned it. Also
            // keeps the online key from moving time, or the newest assignment, past what the
            // developers' key allowed.
            ("release", r.expires, TimeBound::at(d.issued_at)),
        ] {
            if now.is_past(expires) {
                return Err(Refusal::Expired {
                    document,
                    expires,
                    now: now.unix_seconds(),
                });
            }
        }
        if d.issued_at < newest_issued_at {
            return Err(Refusal::OlderThanOtherRole {
                got: d.issued_at,
                seen: newest_issued_at,
            });
        }
        let mut next = board.seen.clone();
        match d.role {
            AssignmentRole::Deploy => next.deploy = assignment,
            AssignmentRole::OfflineDeploy => next.offline_deploy = assignment,
        }
        next.newest_issued_at = d.issued_at;
        next.releases
            .insert(r.product.clone(), counter.max(highest));
        next.time = now.raised_to(r.issued_at).raised_to(d.issued_at);
        Ok(Self {
            release,
            deploy,
            seen: next,
        })
    }

    /// The release.
    pub fn release(&self) -> &VerifiedRelease {
        &self.release
    }
    /// The assignment.
    pub fn deploy(&self) -> &VerifiedDeploy {
        &self.deploy
    }
    /// What the board has seen once it takes this: to be persisted *before* anything is activated.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}
