//! Counters that are older than what the board has. Those of a trial may be, when the power went between the two. Those of a
//! set that was kept never are by themselves: somebody put an older copy of `trust/` in its place, or a backup did.

use super::{Trust, TrustError};
use coracle_protocol::counters::{Counter, Seen};
use coracle_protocol::deploy::AssignmentRole;
use coracle_protocol::verify::VerifiedDeployment;

/// `seen`, not below what `deployment` needed when it was accepted.
fn at_least(seen: &Seen, deployment: &VerifiedDeployment) -> Seen {
    let (release, deploy) = (
        deployment.release().document(),
        deployment.deploy().document(),
    );
    let assigned = Counter {
        epoch: deploy.epoch,
        value: deploy.seq,
    };
    let released = Counter {
        epoch: release.epoch,
        value: release.release_counter,
    };
    let counted = match deploy.role {
        AssignmentRole::Deploy => seen.deploy,
        AssignmentRole::OfflineDeploy => seen.offline_deploy,
    };
    let known = seen.releases.get(&release.product);
    let rises = |old: Counter, new: Counter| old != Counter::default() && new.epoch > old.epoch;
    let is_first = rises(counted, assigned) || known.is_some_and(|known| rises(*known, released));
    // What a stolen key had moved ahead was taken back with it, and was not written down before the power went.
    let mut next = match is_first {
        true => deployment.first_under_its_root(seen),
        false => seen.clone(),
    };
    let counter = match deploy.role {
        AssignmentRole::Deploy => &mut next.deploy,
        AssignmentRole::OfflineDeploy => &mut next.offline_deploy,
    };
    *counter = assigned.max(*counter);
    let counter = next.releases.entry(release.product.clone()).or_default();
    *counter = released.max(*counter);
    // One without a counter of its own is older than them all.
    let agent = release.agent_counter().filter(|agent| agent.value > 0);
    next.agent = agent.unwrap_or_default().max(next.agent);
    if next != *seen {
        next.newest_issued_at = next.newest_issued_at.max(deploy.issued_at);
        next.time = next
            .time
            .raised_to(release.issued_at)
            .raised_to(deploy.issued_at);
    }
    next
}

impl Trust {
    /// Brings the counters up to the sets that this board has. Damaged ones stay damaged.
    pub fn not_below<'a>(
        &mut self,
        deployments: impl Iterator<Item = &'a VerifiedDeployment>,
    ) -> Result<(), TrustError> {
        let Ok(seen) = self.seen() else {
            return Ok(());
        };
        let next = deployments.fold(seen.clone(), |seen, deployment| at_least(&seen, deployment));
        if next == *seen {
            return Ok(());
        }
        tracing::error!(
            "the counters were older than what this board has: a copy was put in their place, or the power went before a trial; they are raised again"
        );
        self.persist(&next)
    }
}
