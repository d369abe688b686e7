//! `factory-reset`, `decommission`: root on the board asks the supervisor itself. The daemon has no part in it, since the supervisor
//! believes nobody's word for who asks but the kernel's.

use crate::failure::Failure;
use crate::output;
use crate::supervisor::ask;
use coracle_protocol::local::{Answer, Request};
use std::io;
use std::path::{Path, PathBuf};

/// Why nothing was reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// Not there, or another user asks.
    #[error("cannot reach the supervisor at {}: {source}; is it running, and is this root?", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It does not do it.
    #[error("nothing was reset: {0}")]
    Refused(String),
}

/// `coracle factory-reset`, or with `decommission` that.
pub fn reset(socket: &Path, decommission: bool, volumes: bool) -> Result<(), Failure> {
    let request = Request::Reset {
        decommission,
        volumes,
    };
    let asked = ask(socket, request).map_err(|source| ResetError::Unreachable {
        socket: socket.to_owned(),
        source,
    })?;
    let text = match (asked, decommission) {
        (Answer::Done, false) => {
            "the factory reset has begun; a power cut does not stop it. `coracle status` shows its end\n"
        }
        (Answer::Done, true) => {
            "the board leaves its fleet; a power cut does not stop that. It comes back by `coracle enrol FILE` alone\n"
        }
        (Answer::Refused { reason, .. } | Answer::Failed { reason, .. }, _) => {
            return Err(ResetError::Refused(reason).into());
        }
        (other, _) => return Err(ResetError::Refused(format!("{other:?}")).into()),
    };
    output::text(text)
}
