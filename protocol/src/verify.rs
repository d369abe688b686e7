//! From bytes to a deployment that may run: no step can be skipped, because each takes the type
//! that only the step before it makes.
//!
//! `Envelope` → [`VerifiedRelease`], [`VerifiedDeploy`] (signatures, limits, epoch)
//! → [`VerifiedDeployment`] (both agree, for this board, not older than what it has seen, not expired).
//! `Envelope` → [`VerifiedCommand`] → [`AcceptedCommand`] in the same way.

mod command;
mod deployment;
mod documents;
mod refusal;

pub use command::{AcceptedCommand, VerifiedCommand};
pub use deployment::{Board, VerifiedDeployment};
pub use documents::{VerifiedDeploy, VerifiedRelease};
pub use refusal::Refusal;
