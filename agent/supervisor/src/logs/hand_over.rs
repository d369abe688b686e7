//! How an app's output gets to the process that writes logs: one message with two descriptors, over a socket in root's run
//! folder. Whoever listens there is found again by the next supervisor, if that is the same program: after an upgrade what
//! starts anew goes to a new writer, and the old one ends with its last app.

use super::file::Rotation;
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
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the names of all such sockets begin with.
const SOCKET: &str = "logs-";
/// Apps whose output waits for being taken.
const BACKLOG: i32 = 64;
/// A folder's name, and some numbers.
const MESSAGE_BYTES: usize = 8192;
/// How long the supervisor waits to be told that it was taken, which it is before anything else is done with it. A writer that a
/// slow disk holds up takes it later.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same for one that has just been started, which must have begun to listen when this is over.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// How long somebody who takes it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Who listens has just been started, and must take it.
    First,
    /// A moment.
    Moment,
    /// Not at all: it was slow already.
    No,
}

/// What was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gift {
    /// Process number of who listens.
    pub pid: i32,
    /// It said that it has it.
    pub told: bool,
}

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
    /// Bytes that wait to be written before some are dropped; `None`: the app waits.
    #[serde(default)]
    pub drop_beyond: Option<u64>,
    /// Of two containers of the app, which one: a start takes the place of an earlier one of the same.
    #[serde(default)]
    pub second: bool,
}

/// By the file that runs: while a writer runs it, no other has its number.
pub fn socket_name() -> io::Result<String> {
    let program = std::fs::metadata("/proc/self/exe")?;
    Ok(format!("{SOCKET}{:x}-{:x}", program.dev(), program.ino()))
}

/// The socket by a short name: a run folder may be deeper than the name of a socket is long.
fn address(run: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(run, flags, Mode::empty())?;
    let name = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), socket_name()?);
    let address = SocketAddrUnix::new(name.as_str())?;
    Ok((folder, address))
}

fn socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// A new socket at the name; who listened there, or at an older program's, goes on with what it has.
pub fn listen(run: &Path) -> io::Result<OwnedFd> {
    let (_folder, address) = address(run)?;
    for entry in std::fs::read_dir(run)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(SOCKET.as_bytes()) {
            std::fs::remove_file(entry.path())?;
        }
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

/// Gives an app's output to whoever listens. `None`: nobody does, or it was not taken.
pub fn give(
    run: &Path,
    job: &Job,
    ends: [BorrowedFd<'_>; 2],
    wait: Wait,
) -> io::Result<Option<Gift>> {
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
    let pid = pid.as_raw_nonzero().get();
    Ok(match taken(&peer, wait)? {
        Some(told) => told.then_some(Gift { pid, told }),
        None if wait == Wait::First => None,
        None => Some(Gift { pid, told: false }),
    })
}

/// `None`: no word of it yet.
fn taken(peer: &OwnedFd, wait: Wait) -> io::Result<Option<bool>> {
    let patience = match wait {
        Wait::First => FIRST_PATIENCE,
        Wait::Moment => PATIENCE,
        Wait::No => Duration::ZERO,
    };
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(peer, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Ok(0) => return Ok(None),
            Err(Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        }
    }
    let mut said = [0; 1];
    let length = net::recv(peer, &mut said, RecvFlags::empty());
    Ok(Some(matches!(length, Ok((_, 1)))))
}

/// An app's output: where it goes, its stdout and its stderr.
pub type Given = (Job, [OwnedFd; 2]);

/// What was given. Who gave it is told at once: what cannot be written is read all the same.
pub fn take_all(listener: &OwnedFd) -> Vec<Given> {
    std::iter::from_fn(|| take(listener))
        .take(BACKLOG as usize)
        .collect()
}

/// `None` when there is none, or what came is no such message: its sender learns that as `peer` is closed.
fn take(listener: &OwnedFd) -> Option<Given> {
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
    let job = serde_json::from_slice(json.get(..received.bytes)?).ok()?;
    let ends = ends.try_into().ok()?;
    let _ = net::send(&peer, b"+", SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    Some((job, ends))
}

/// Both ends of an app's output.
pub fn both<'a>(stdout: &'a impl AsFd, stderr: &'a impl AsFd) -> [BorrowedFd<'a>; 2] {
    [stdout.as_fd(), stderr.as_fd()]
}
