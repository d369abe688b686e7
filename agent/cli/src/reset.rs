//! `factory-reset`, `decommission`: root on the board asks the supervisor itself. The daemon has no part in it, since the supervisor
//! believes nobody's word for who asks but the kernel's.

use crate::failure::Failure;
use crate::output;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Call, Message, Request};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For the supervisor's answer.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// One call, one answer.
fn ask(socket: &Path, request: Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let call = serde_json::to_vec(&Call { id: 1, request })?;
    stream.write_all(&(call.len() as u32).to_be_bytes())?;
    stream.write_all(&call)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LIMITS.local_frame_bytes {
        return Err(io::Error::other("the answer is too long"));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json)?;
    match serde_json::from_slice(&json)? {
        Message::Reply(reply) => Ok(reply.answer),
        Message::Event(_) => Err(io::Error::other("an event came instead of the answer")),
    }
}
