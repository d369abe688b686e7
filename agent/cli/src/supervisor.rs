//! What root on the board asks the supervisor itself, and not through the daemon.

use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Call, Message, Request};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// For the supervisor's answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One call, one answer.
pub fn ask(socket: &Path, request: Request) -> io::Result<Answer> {
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
