//! A new root document.

use super::Supervisor;
use crate::offer::Refused;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::Event;

impl Supervisor {
    /// Takes the next root. What runs goes on: its set holds the root that it was accepted under. An
    /// offer that was only accepted so far is forgotten: a key that signed it may be gone.
    pub(super) fn take_root(&mut self, root: &Envelope) -> Result<(), Refused> {
        let taken = self
            .trust
            .take_root(root)
            .map_err(|error| Refused::new("bad-root", error.to_string()))?;
        if taken {
            let version = self.trust.root().document().version;
            tracing::info!(version, "a new root document is in force");
            self.accepted = None;
            self.tell(Event::Root { version });
        }
        Ok(())
    }
}
