//! From one root document to the next (TUF 1.0.34, 5.3): version N+1 signed by the keys of N and of N+1,
//! each step on disk before the next is looked at. A cut leaves the old one or the new one.
//!
//! An expired root may be a step on the way (5.3.10 looks at the last one only): documents under a root
//! that has expired are refused when they are offered.

use super::{Trust, TrustError};
use crate::disk;
use coracle_digest::Sha256Digest;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::trust_state::TrustState;

impl Trust {
    /// Takes the next root document; `false` when the board has it, or a newer one, already.
    pub fn take_root(&mut self, envelope: &Envelope) -> Result<bool, TrustError> {
        let have = self.root.document().version;
        let version = TrustedRoot::version_unverified(envelope)?;
        if version < have {
            return Ok(false);
        }
        if version == have {
            let payload = envelope.payload_unverified();
            let got = Sha256Digest::of(&payload.unwrap_or_default());
            return match got == self.root.digest() {
                true => Ok(false),
                false => Err(TrustError::OtherRoot {
                    version,
                    have: self.root.digest(),
                    got,
                }),
            };
        }
        let next = self.root.next(envelope)?;
        disk::write_whole(&self.folder.join("root.json"), &envelope.to_json(), 0o600)?;
        self.root = next;
        self.root_envelope = envelope.clone();
        Ok(true)
    }

    /// What the board trusts, to be told.
    pub fn state(&self) -> TrustState {
        TrustState {
            clock_kept: coracle_board_support::clock::is_synchronised(),
            secret_key: self.opening.as_ref().ok().map(|key| key.public().clone()),
            ..TrustState::of(&self.root, self.seen().map_err(|damage| damage.to_string()))
        }
    }
}
