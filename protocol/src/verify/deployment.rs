//! From two documents to a deployment that this board may run now.

use super::documents::RootTimes;
use super::{Refusal, VerifiedDeploy, VerifiedRelease};
use crate::counters::{Counter, Seen};
use crate::deploy::{AssignmentRole, Target};
use crate::names::{BoardId, HardwareClass};
use crate::release::SignedRelease;
use crate::site;
use crate::time::TimeBound;
use coracle_digest::Sha256Digest;

/// A release and an assignment that agree, for this board, now. What it does *not* say: that the
/// board has room for it.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedDeployment {
    release: VerifiedRelease,
    deploy: VerifiedDeploy,
    /// None where the assignment sets nothing: boards are small.
    applied: Option<SignedRelease>,
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

/// From where counters, time and the newest assignment go on under this root. One key moves time for every role; so the first
/// document under a root that raised any epoch takes time back to when that root was made, and starts all raised counters
/// anew: the next role's first document is nobody's second chance to take it back.
fn start(seen: &Seen, root: RootTimes) -> Seen {
    let mut seen = seen.clone();
    let [release, deploy, offline] = root.epochs;
    let mut raised = false;
    let mut raise = |counter: &mut Counter, epoch| {
        if *counter != Counter::default() && counter.epoch < epoch {
            *counter = Counter { epoch, value: 0 };
            raised = true;
        }
    };
    raise(&mut seen.deploy, deploy);
    raise(&mut seen.offline_deploy, offline);
    for counter in seen.releases.values_mut() {
        raise(counter, release);
    }
    if raised {
        seen.time = TimeBound::at(root.issued_at);
        seen.newest_issued_at = seen.newest_issued_at.min(root.issued_at);
    }
    seen
}

impl VerifiedDeployment {
    /// From where counters and time go on under the root that it was verified against, if it is the first one there.
    pub fn first_under_its_root(&self, seen: &Seen) -> Seen {
        start(seen, self.deploy.root_times())
    }

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
        Self::held(release, deploy, board, already, None)
    }

    /// The same for an assignment by which what runs is to stay: the counters of release `runs` and of its agent may be below
    /// what a version that did not stay has raised them to. They stay as high as they are. Only for whoever then changes
    /// nothing that runs: another site setting or secret under an old release would be a way back for that release.
    pub fn accept_to_stay(
        release: VerifiedRelease,
        deploy: VerifiedDeploy,
        board: Board<'_>,
        runs: Sha256Digest,
    ) -> Result<Self, Refusal> {
        Self::held(release, deploy, board, &[], Some(runs))
    }

    fn held(
        release: VerifiedRelease,
        deploy: VerifiedDeploy,
        board: Board<'_>,
        already: &[Sha256Digest],
        runs: Option<Sha256Digest>,
    ) -> Result<Self, Refusal> {
        let (r, d) = (release.document(), deploy.document());
        if d.release.digest != release.digest() || d.release.size != release.size() {
            return Err(Refusal::ReleaseMismatch {
                want: d.release.digest,
                got: release.digest(),
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
        let applied = site::applied(r, d).map_err(|fault| Refusal::Site { fault })?;
        let applied = (!d.site.is_empty()).then_some(applied);
        if already.contains(&deploy.digest()) {
            return Ok(Self {
                applied,
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
        let stays = runs == Some(release.digest());
        if counter < highest && !stays {
            return Err(Refusal::OldRelease {
                product: r.product.to_string(),
                got: counter,
                seen: highest,
            });
        }
        let agent = r.agent_counter().unwrap_or(board.seen.agent);
        if agent < board.seen.agent && !stays {
            return Err(Refusal::OldAgent {
                got: agent,
                seen: board.seen.agent,
            });
        }
        let root = deploy.root_times();
        let mut next = start(board.seen, root);
        let now = next.time.max(board.built_at).raised_to(root.issued_at);
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
        if d.issued_at < next.newest_issued_at {
            return Err(Refusal::OlderThanOtherRole {
                got: d.issued_at,
                seen: next.newest_issued_at,
            });
        }
        match d.role {
            AssignmentRole::Deploy => next.deploy = assignment,
            AssignmentRole::OfflineDeploy => next.offline_deploy = assignment,
        }
        next.agent = agent.max(board.seen.agent);
        next.newest_issued_at = d.issued_at;
        next.releases
            .insert(r.product.clone(), counter.max(highest));
        next.time = now.raised_to(r.issued_at).raised_to(d.issued_at);
        Ok(Self {
            release,
            deploy,
            applied,
            seen: next,
        })
    }

    /// The release.
    pub fn release(&self) -> &VerifiedRelease {
        &self.release
    }
    /// The release with what the assignment sets; what it names no number for is still the board's to say.
    pub fn applied(&self) -> &SignedRelease {
        self.applied.as_ref().unwrap_or(self.release.document())
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
