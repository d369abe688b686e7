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
/// With the name that it had: a text at the link itself (IFLA_IFALIAS) from before it is moved until it is back under that name.
/// It outlives whoever wrote it, and other names that the link gets.
const LENT_AS: &str = "coracle lent it as ";

#[derive(Debug, thiserror::Error)]
pub enum LentError {
    #[error("link {0} is not on this board")]
    Missing(String),
    #[error("link {name} cannot go into a container{}", hint(.source))]
    Lend { name: String, source: InsideError },
    #[error("link {name} stays in the container's namespace")]
    TakeBack { name: String, source: InsideError },
    #[error("link {other} does not get its name {own} again")]
    Rename {
        other: String,
        own: String,
        source: InsideError,
    },
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

/// Moves a link of this namespace to the container's, where it has the same name, is down and has no address. One that came
/// back under another name, because somebody had its own, is the one that is meant.
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
    let came_back = came_back(&mut socket).map_err(lend)?;
    match came_back.iter().find(|(_, _, own)| own == name) {
        Some((index, other, _)) => socket.move_link((*index, other), to, Some(name)),
        None => {
            let link = (socket.index_of(name).map_err(lend)?, name);
            let mark = format!("{LENT_AS}{name}");
            socket.set_alias(link, &mark).map_err(lend)?;
            let moved = socket.move_link(link, to, None);
            if moved.is_err() {
                // The error that counts is the first one.
                let _ = socket.set_alias(link, "");
            }
            moved
        }
    }
    .map_err(lend)
}

/// Links that came back under another name get their own again where nobody has it any more, and that they are down allows
/// it. Goes on after an error and tells all of them.
pub fn rename_back() -> Vec<LentError> {
    let found = RouteSocket::open().and_then(|mut socket| Ok((came_back(&mut socket)?, socket)));
    let (links, mut socket) = match found {
        Ok(found) => found,
        Err(error) => return vec![LentError::Socket(error)],
    };
    let mut back = |(index, other, own): &(u32, String, String)| {
        if other != own && socket.index_of(own).is_ok() {
            return Ok(());
        }
        if other != own {
            socket.rename((*index, other), own)?;
            tracing::info!(link = own, other, "it has its name again");
        }
        socket.set_alias((*index, own), "")
    };
    let told = |link: &(u32, String, String)| {
        let (other, own) = (link.1.clone(), link.2.clone());
        let back = back(link).err();
        back.map(|source| LentError::Rename { other, own, source })
    };
    links.iter().filter_map(told).collect()
}

/// Number, name, and the name under which they were lent.
fn came_back(socket: &mut RouteSocket) -> Result<Vec<(u32, String, String)>, InsideError> {
    socket.with_alias(LENT_AS)
}

/// Moves the links back that are there, whatever they are called there; one that is not is no error. One whose name somebody
/// has by now gets another. Goes on after an error and tells all of them.
pub fn take_back(from: BorrowedFd<'_>, names: &[String]) -> Vec<LentError> {
    let home = match std::fs::File::open("/proc/thread-self/ns/net") {
        Ok(home) => home,
        Err(error) => return vec![LentError::Socket(crate::inside::not_found(error))],
    };
    let sockets = RouteSocket::open_in(Namespace::Fd(from)).and_then(|mut there| {
        let lent = there.with_alias(LENT_AS)?;
        Ok((lent, there, RouteSocket::open()?))
    });
    let (lent, mut there, mut here) = match sockets {
        Ok(opened) => opened,
        Err(error) => return vec![LentError::Socket(error)],
    };
    let home = Namespace::Fd(home.as_fd());
    let mut back = |name: &String| {
        let link = match lent.iter().find(|(_, _, own)| own == name) {
            Some((index, now, _)) => (*index, now.as_str()),
            None => match there.index_of(name) {
                Ok(index) => (index, name.as_str()),
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        match there.move_link(link, home, Some(name)) {
            Err(error) if error.is_doubled() => {
                tracing::warn!(
                    link = name,
                    "its name is taken: it comes back under another, until that one is free"
                );
                there.set_alias(link, &format!("{LENT_AS}{name}"))?;
                there.move_link(link, home, Some(OTHER_NAME))
            }
            Ok(()) => {
                let link = (here.index_of(name)?, name.as_str());
                here.set_alias(link, "")
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
