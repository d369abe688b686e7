//! How an app's output gets to the process that writes logs: one message with two descriptors, over a socket in root's run
//! folder. Whoever listens there is found again by the next supervisor.

use super::write::Rotation;
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SOCKET: &str = "logs.sock";
/// Apps whose output waits for being taken.
const BACKLOG: i32 = 64;
/// A folder's name, and some numbers.
const MESSAGE_BYTES: usize = 8192;
/// How long the supervisor waits to be told that it was taken. A writer that a slow disk holds up takes it later.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same for one that has just been started, which must have begun to listen when this is over.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// Of the writer, for a message that does not come.
const SILENCE: Duration = Duration::from_secs(1);

/// Where an app's log goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its folder, which is there.
    pub folder: PathBuf,
    /// Who may read it.
    pub group: Option<u32>,
    /// How much is kept.
    pub rotation: Rotation,
}

/// The socket by a short name: a run folder may be deeper than the name of a socket is long.
fn address(run: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(run, flags, Mode::empty())?;
    let name = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    let address = SocketAddrUnix::new(name.as_str())?;
    Ok((folder, address))
}

fn socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// A new socket at the name; who listened there before goes on with what it has.
pub fn listen(run: &Path) -> io::Result<OwnedFd> {
    let (folder, address) = address(run)?;
    match rustix::fs::unlinkat(&folder, SOCKET, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let listener = socket(SocketFlags::NONBLOCK)?;
    net::bind(&listener, &address)?;
    net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// In the process that is to take what comes: from now on the kernel tells its number to who connects.
pub fn listen_myself(listener: &OwnedFd) -> rustix::io::Result<()> {
    net::listen(listener, BACKLOG)
}

/// Gives an app's output to whoever listens; its process number. `None`: nobody does, or it was not taken. `first`: who
/// listens has just been started.
pub fn give(
    run: &Path,
    job: &Job,
    ends: [BorrowedFd<'_>; 2],
    first: bool,
) -> io::Result<Option<i32>> {
    let (_folder, address) = address(run)?;
    let peer = socket(SocketFlags::NONBLOCK)?;
    match net::connect(&peer, &address) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let pid = sockopt::socket_peercred(&peer)?.pid;
    let json = serde_json::to_vec(job)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&ends));
    let sent = net::sendmsg(
        &peer,
        &[IoSlice::new(&json)],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    if sent.is_err() {
        return Ok(None);
    }
    Ok(taken(&peer, first)?.then_some(pid.as_raw_nonzero().get()))
}

fn taken(peer: &OwnedFd, first: bool) -> io::Result<bool> {
    let patience = if first { FIRST_PATIENCE } else { PATIENCE };
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(peer, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Ok(0) => return Ok(!first),
            Err(Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        }
    }
    let mut said = [0; 1];
    let length = net::recv(peer, &mut said, RecvFlags::empty());
    Ok(matches!(length, Ok((_, 1))))
}

/// An app's output that was given, and the way to say that it was taken.
#[derive(Debug)]
pub struct Given {
    /// Where it goes.
    pub job: Job,
    /// Standard output and error.
    pub ends: [OwnedFd; 2],
    peer: OwnedFd,
}

impl Given {
    /// Tells the supervisor. Dropped instead, it says the opposite.
    pub fn taken(self) -> (Job, [OwnedFd; 2]) {
        let _ = net::send(&self.peer, b"+", SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        (self.job, self.ends)
    }
}

/// The next that was given; `None` when there is none, or what came is no such message.
pub fn take(listener: &OwnedFd) -> Option<Given> {
    let peer = net::accept_with(listener, SocketFlags::CLOEXEC).ok()?;
    if sockopt::socket_peercred(&peer).ok()?.uid != rustix::process::geteuid() {
        return None;
    }
    sockopt::set_socket_timeout(&peer, sockopt::Timeout::Recv, Some(SILENCE)).ok()?;
    let mut json = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = net::recvmsg(
        &peer,
        &mut [IoSliceMut::new(&mut json)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .ok()?;
    let ends: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(ends) => Some(ends),
            _ => None,
        })
        .flatten()
        .collect();
    Some(Given {
        job: serde_json::from_slice(json.get(..received.bytes)?).ok()?,
        ends: ends.try_into().ok()?,
        peer,
    })
}

/// Both ends of an app's output.
pub fn both<'a>(stdout: &'a impl AsFd, stderr: &'a impl AsFd) -> [BorrowedFd<'a>; 2] {
    [stdout.as_fd(), stderr.as_fd()]
}
