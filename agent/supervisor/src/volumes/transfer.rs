//! A volume's contents as a tar, through a socket: by a jailed child that sees the volume and nothing else.

use crate::disk::{About, DiskError};
use coracle_images::Limits;
use coracle_images::tree::write_volume;
use coracle_images::unpack;
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{
    Capabilities, Capability, Child, Failure, JailSpec, SeccompProgram, spawn_jailed,
};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Without a byte for so long the other side counts as gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Address space of the child, in bytes.
const MEMORY: u64 = 512 << 20;
/// Bytes of what the child says at its end.
const WORDS: u64 = 16 << 10;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Out of the volume.
    Backup,
    /// Into it.
    Restore,
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The volume's folder, or the socket.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The jail.
    #[error("the jail: {0}")]
    Jail(#[from] Failure),
    /// Its filter.
    #[error(transparent)]
    Seccomp(#[from] coracle_runtime::seccomp::SeccompError),
}

/// A child at work.
#[derive(Debug)]
pub struct Transfer {
    /// The child.
    pub child: Child,
    words: File,
}

impl Transfer {
    /// Code and words of what went wrong, when the child has ended.
    pub fn fault(mut self, ended_well: bool) -> Option<(String, String)> {
        let mut text = String::new();
        let read = self
            .words
            .rewind()
            .and_then(|()| (&mut self.words).take(WORDS).read_to_string(&mut text));
        match (ended_well, read, text.split_once('\n')) {
            (true, Ok(_), None) => None,
            (_, Ok(_), Some((code, reason))) => Some((code.to_owned(), reason.to_owned())),
            _ => Some(("jail".to_owned(), "the child died".to_owned())),
        }
    }
}

/// Starts the child. `data`: the volume's contents, or the empty folder that gets them; `most_bytes`: of a tar that comes.
pub fn start(
    direction: Direction,
    data: &Path,
    socket: UnixStream,
    empty_root: &Path,
    most_bytes: u64,
) -> Result<Transfer, TransferError> {
    let seccomp = SeccompProgram::files_only()?;
    let timeouts = socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_read_timeout(Some(SILENCE)))
        .and_then(|()| socket.set_write_timeout(Some(SILENCE)));
    timeouts.about("prepare the socket for", data)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, data, flags, Mode::empty())
        .map_err(io::Error::from)
        .about("open", data)?;
    let words = rustix::fs::memfd_create("transfer", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(io::Error::from)
        .about("make room for the words of", data)?;
    let words_of_child = words.try_clone().about("share the words of", data)?;
    let mut jail = JailSpec {
        root_readonly: true,
        files: vec![socket.into(), words_of_child],
        capabilities: capabilities(direction),
        rlimits: vec![Rlimit {
            resource: libc::RLIMIT_AS as _,
            soft: MEMORY,
            hard: MEMORY,
        }],
        oom_score_adj: Some(500),
        seccomp: Some(&seccomp),
        ..JailSpec::new(empty_root)
    };
    match direction {
        Direction::Backup => jail.read_dirs.push(folder),
        Direction::Restore => jail.write_dirs.push(folder),
    }
    let child = spawn_jailed(jail, |mut fds| {
        let (Some(words), Some(socket)) = (fds.files.pop(), fds.files.pop()) else {
            return 1;
        };
        let socket = File::from(socket);
        let done = match (fds.read_dirs.pop(), fds.write_dirs.pop()) {
            (Some(from), None) => backup(from, socket),
            (None, Some(to)) => restore(to, socket, most_bytes),
            _ => return 1,
        };
        let Err((code, reason)) = done else { return 0 };
        let mut text = format!("{code}\n{reason}");
        text.truncate(WORDS as usize);
        let _ = File::from(words).write_all(text.as_bytes());
        1
    })?;
    Ok(Transfer {
        child,
        words: words.into(),
    })
}

/// Reading needs every file of whatever owner; writing what unpacking of layers needs, but no devices.
fn capabilities(direction: Direction) -> Capabilities {
    let wanted: &[Capability] = match direction {
        Direction::Backup => &[Capability::DAC_READ_SEARCH],
        Direction::Restore => &[
            Capability::CHOWN,
            Capability::DAC_OVERRIDE,
            Capability::FOWNER,
            Capability::FSETID,
            Capability::SETFCAP,
        ],
    };
    let none = Capabilities::none();
    wanted.iter().fold(none, |all, one| all.with(*one))
}

type Fault = (&'static str, String);

/// In the child: its root is empty, and `..` ends at the volume, so that a link of the volume leads nowhere.
fn backup(from: OwnedFd, socket: File) -> Result<(), Fault> {
    rustix::process::fchdir(&from).map_err(|errno| ("backup", errno.to_string()))?;
    let out = BufWriter::with_capacity(64 << 10, socket);
    write_volume(Path::new("."), out)
        .map(drop)
        .map_err(|error| ("backup", whole(&error)))
}

fn restore(to: OwnedFd, socket: File, most_bytes: u64) -> Result<(), Fault> {
    let limits = Limits {
        unpacked_bytes: most_bytes,
        devices: false,
        whiteouts: false,
        ..Limits::default()
    };
    let mut tar = Ending {
        stream: socket,
        zeros: 0,
    };
    match unpack::unpack_tar(&mut tar, to, &limits) {
        // A layer may do without; here it is how a stream that was cut between two files is known.
        Ok(_) if tar.zeros < 1024 => {
            let text = "the tar has no end (two blocks of zeros): it was cut";
            Err(("bad-tar", text.to_owned()))
        }
        Ok(applied) if applied.entries == 0 => Err(("bad-tar", "the tar is empty".to_owned())),
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = whole(&error);
            let code = match is_no_space(&error) {
                true => "no-space",
                false => "bad-tar",
            };
            Err((code, reason))
        }
    }
}

/// Counts the zeros that a stream ends with.
struct Ending {
    stream: File,
    zeros: usize,
}

impl Read for Ending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let zeros = buffer[..count]
            .iter()
            .rev()
            .take_while(|b| **b == 0)
            .count();
        self.zeros = match zeros == count {
            true => self.zeros.saturating_add(zeros),
            false => zeros,
        };
        Ok(count)
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn is_no_space(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| matches!(io.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)))
}

fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.join(": ").replace('\n', " ")
}
