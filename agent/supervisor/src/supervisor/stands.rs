//! An assignment of what runs. With it the console takes back what came after: nothing is stopped or started for it, what waits
//! goes, and it is counted, so that whoever kept the message that was taken back has nothing to bring it in by.

use super::Supervisor;
use crate::journal::DeployedSet;
use crate::machine::Why;
use crate::offer::{self, Accepted, Offer, Refused};
use coracle_digest::Sha256Digest;
use coracle_protocol::deploy::AssignmentRole;

impl Supervisor {
    /// Whether `accepted` asks for nothing but what the committed set has, for no longer, and that one runs.
    pub(super) fn stands(&self, accepted: &Accepted) -> bool {
        let (wanted, is_settled) = (&accepted.deployment, self.machine.is_settled());
        let current = self.current.as_ref().map(DeployedSet::deployment);
        current.filter(|_| is_settled).is_some_and(|current| {
            let (has, asks) = (current.deploy().document(), wanted.deploy().document());
            current.release().digest() == wanted.release().digest()
                && current.applied() == wanted.applied()
                && has.secrets == asks.secrets
                && has.expires >= asks.expires
        })
    }

    /// Counts it, and lets go of what it takes back. What is being unpacked ends by itself and is swept away.
    pub(super) async fn let_stand(&mut self, accepted: &Accepted) -> Result<(), Refused> {
        let digest = accepted.deployment.deploy().digest();
        let counted = self.trust.persist(accepted.deployment.seen());
        tracing::info!(activity = accepted.offer.activity, deployment = %digest, "an assignment of what runs: nothing is to do");
        self.accepted = None;
        let version = &accepted.release().version;
        let reason = format!("taken back by assignment {digest}: version {version} stays");
        self.withdraw(digest, Why::new("cancelled", reason)).await;
        self.collect_layers();
        counted.map_err(|error| Refused::new("disk", error.to_string()))
    }

    /// One of what runs whose release is below the counter: a version that did not stay has raised that. The same bytes run on,
    /// under the same settings, so that there is nothing to hold a counter against.
    pub(super) fn stands_below(&self, offer: Offer) -> Option<Accepted> {
        let runs = self.current.as_ref()?.deployment().release().digest();
        let accepted = offer::verify_to_stay(offer, &self.trust, &self.settings, runs).ok()?;
        self.stands(&accepted).then_some(accepted)
    }

    /// The same, of one that was let stand before: by a daemon that did not hear of it.
    pub(super) fn stands_already(&self, offer: Offer, digest: Sha256Digest) -> Option<Accepted> {
        let accepted = offer::verify(offer, &self.trust, &self.settings, &[digest]).ok()?;
        let (seen, deploy) = (self.trust.seen().ok()?, accepted.deployment.deploy());
        let (seen, deploy) = match deploy.document() {
            deploy if deploy.role == AssignmentRole::Deploy => (seen.deploy, deploy),
            deploy => (seen.offline_deploy, deploy),
        };
        let is_newest = (seen.epoch, seen.value) == (deploy.epoch, deploy.seq);
        (is_newest && self.stands(&accepted)).then_some(accepted)
    }

    /// A set that waits is not counted yet. Whoever kept an older message, or that of what runs, does not take it back with that.
    pub(super) fn is_newer_than_waiting(&self, accepted: &Accepted) -> Result<(), Refused> {
        let Some(trying) = self.waiting_set() else {
            return Ok(());
        };
        let (waits, comes) = (
            trying.set.deployment().deploy(),
            accepted.deployment.deploy(),
        );
        let (turn, after) = (waits.document().turn(), comes.document().turn());
        match waits.digest() == comes.digest() || after.is_after(turn) {
            true => Ok(()),
            false => Err(Refused::new(
                "old-assignment",
                format!("the assignment has counter {after}; one with {turn} waits on this board"),
            )),
        }
    }
}
