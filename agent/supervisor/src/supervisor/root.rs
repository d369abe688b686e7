//! A new root document.

use super::Supervisor;
use crate::journal::DeployedSet;
use crate::offer::{self, Refused};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::Event;

impl Supervisor {
    /// Takes the next root. What runs goes on: its set holds the root that it was accepted under. An
    /// offer that was only accepted so far is verified anew, and forgotten if a key that signed it is gone.
    pub(super) fn take_root(&mut self, root: &Envelope) -> Result<(), Refused> {
        let taken = self
            .trust
            .take_root(root)
            .map_err(|error| Refused::new("bad-root", error.to_string()))?;
        if taken {
            let version = self.trust.root().document().version;
            tracing::info!(version, "a new root document is in force");
            self.verify_accepted_anew();
            self.tell(Event::Root { version });
        }
        Ok(())
    }

    fn verify_accepted_anew(&mut self) {
        let Some(accepted) = self.accepted.take() else {
            return;
        };
        let known: Vec<_> = self.current.iter().map(DeployedSet::digest).collect();
        match offer::verify(accepted.offer, &self.trust, &self.settings, &known) {
            Ok(accepted) => self.accepted = Some(accepted),
            Err(why) => {
                tracing::warn!(
                    code = why.code,
                    reason = why.reason,
                    "an accepted offer does not hold under the new root"
                );
            }
        }
    }
}
