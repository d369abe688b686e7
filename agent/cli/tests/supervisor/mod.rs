//! A supervisor that is asked once.

use coracle_protocol::local::{Answer, Call, Message, Reply, Request};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

/// A run folder, and the coracle.toml that names it.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[agent]\nrun_dir = \"{}\"\n", folder.path().display());
    std::fs::write(folder.path().join("coracle.toml"), text).unwrap();
    folder
}

/// Gives this answer, and does `then`; what it was asked.
pub fn asked_once(
    folder: &Path,
    answer: Answer,
    then: impl FnOnce() + Send + 'static,
) -> JoinHandle<Request> {
    let listener = UnixListener::bind(folder.join("supervisor.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut json).unwrap();
        let call: Call = serde_json::from_slice(&json).unwrap();
        let reply = Reply {
            id: call.id,
            answer,
        };
        let json = serde_json::to_vec(&Message::Reply(reply)).unwrap();
        let length = (json.len() as u32).to_be_bytes();
        stream.write_all(&[&length, &json[..]].concat()).unwrap();
        then();
        call.request
    })
}
