//! Links of the board that a container has whole: a CAN bus, a second Ethernet.
//!
//! The kernel returns hardware to the first namespace when a container's ends, in its own time, and destroys what is not
//! hardware; before Linux 5.13 it destroys CAN links too. So whoever lends a link holds the container's namespace until the
//! link has been taken back.

use std::os::fd::{AsFd, BorrowedFd};

use crate::inside::InsideError;
use crate::link::Namespace;
use crate::route_socket::RouteSocket;

/// What the kernel calls a link whose name somebody else has by now.
const OTHER_NAME: &str = "dev%d";

#[derive(Debug, thiserror::Error)]
pub enum LentError {
    #[error("link {0} is not on this board")]
    Missing(String),
    #[error("link {name} cannot go into a container{}", hint(.source))]
    Lend { name: String, source: InsideError },
    #[error("link {name} stays in the container's namespace")]
    TakeBack { name: String, source: InsideError },
    #[error("links that were lent")]
    Socket(#[source] InsideError),
}

/// Kernels differ in the code, not in the reason: the link belongs to its namespace (net/core/dev.c, netns_local).
fn hint(error: &InsideError) -> &'static str {
    match error {
        InsideError::Refused { source, .. }
            if [Some(libc::EINVAL), Some(libc::EOPNOTSUPP)].contains(&source.raw_os_error()) =>
        {
            " (the kernel moves no bridges, tunnels and Wi-Fi links)"
        }
        _ => "",
    }
}

/// Moves a link of this namespace to the container's, where it has the same name, is down and has no address.
///
/// # Errors
/// `Missing` when there is none of that name here.
pub fn lend(name: &str, to: Namespace<'_>) -> Result<(), LentError> {
    let mut socket = RouteSocket::open().map_err(LentError::Socket)?;
    let lend = |source: InsideError| match source.is_missing() {
        true => LentError::Missing(name.to_owned()),
        false => LentError::Lend {
            name: name.to_owned(),
            source,
        },
    };
    let index = socket.index_of(name).map_err(lend)?;
    socket.move_link((index, name), to, None).map_err(lend)
}

/// Moves the links back that are there; one that is not is no error. One whose name somebody has by now gets another. Goes
/// on after an error and tells all of them.
pub fn take_back(from: BorrowedFd<'_>, names: &[String]) -> Vec<LentError> {
    let home = match std::fs::File::open("/proc/thread-self/ns/net") {
        Ok(home) => home,
        Err(error) => return vec![LentError::Socket(crate::inside::not_found(error))],
    };
    let mut socket = match RouteSocket::open_in(Namespace::Fd(from)) {
        Ok(socket) => socket,
        Err(error) => return vec![LentError::Socket(error)],
    };
    let home = Namespace::Fd(home.as_fd());
    let mut back = |name: &String| {
        let index = match socket.index_of(name) {
            Err(error) if error.is_missing() => return Ok(()),
            other => other?,
        };
        match socket.move_link((index, name), home, None) {
            Err(error) if error.is_doubled() => {
                tracing::warn!(
                    link = name,
                    "its name is taken: it comes back under another"
                );
                socket.move_link((index, name), home, Some(OTHER_NAME))
            }
            other => other,
        }
    };
    let told = |name: &String| {
        back(name).err().map(|source| LentError::TakeBack {
            name: name.clone(),
            source,
        })
    };
    names.iter().filter_map(told).collect()
}
