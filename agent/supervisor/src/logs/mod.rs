//! An app's stdout and stderr: two pipes, and a child that writes what comes out of those of all apps. The child is the apps'
//! companion, not the supervisor's: it lives until all pipes have ended. One for all, since a copy of the supervisor is most
//! of what an app takes beside its own memory.

mod file;
mod hand_over;
mod lines;
mod queue;
mod write;

use crate::apps::slot;
use crate::disk::{self, About, DiskError};
use crate::settings::Settings;
use coracle_board_support::memory;
use coracle_protocol::names::AppName;
use coracle_protocol::release::Logs;
use coracle_runtime::{Failure, spawn_plain};
use hand_over::{Gift, Job, Wait};
use rustix::fs::{self, Mode, OFlags};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

pub use file::Rotation;

/// Files over which an app's log is spread: what is thrown away at once is a quarter of it.
const FILES: u32 = 4;

impl Rotation {
    /// Files that take `bytes` bytes together.
    pub fn of_total(bytes: u64) -> Self {
        Self {
            file_bytes: bytes / u64::from(FILES),
            files: FILES,
        }
    }
}

/// Why an app has no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The pipes.
    #[error("cannot make a pipe for an app's output: {0}")]
    Pipe(std::io::Error),
    /// The socket by which they get to the child.
    #[error("cannot give an app's output to the log writer: {0}")]
    HandOver(std::io::Error),
    /// The child.
    #[error("the log writer: {0}")]
    Child(#[from] Failure),
    /// It was started, and does not take the pipes.
    #[error("the log writer does not take the app's output into {0}")]
    NotTaken(String),
}

/// The read ends of an app's output. The supervisor holds them beside the writer: should the writer be
/// killed, the app's next line finds a pipe, and a new writer goes on.
#[derive(Debug)]
pub struct Output {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Output {
    /// Inode numbers of the two pipes, by which [`recover`] knows them again.
    pub fn inodes(&self) -> [u64; 2] {
        [&self.stdout, &self.stderr]
            .map(|pipe| rustix::fs::fstat(pipe).map_or(0, |stat| stat.st_ino))
    }

    /// One more end to write at: what else is to be in the app's log.
    pub fn write_end(&self) -> Option<OwnedFd> {
        let own = format!("/proc/self/fd/{}", self.stdout.as_raw_fd());
        fs::open(own, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }
}

/// The pipes of an app that an earlier supervisor started, by way of the app's own descriptors. The app
/// may have put anything there since: only the very pipes will do, and they are looked at before they are
/// opened.
pub fn recover(pid: i32, inodes: [u64; 2]) -> Option<Output> {
    let [stdout, stderr] = [1, 2].map(|number| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let node = fs::open(format!("/proc/{pid}/fd/{number}"), flags, Mode::empty()).ok()?;
        let stat = fs::fstat(&node).ok()?;
        let fifo = fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Fifo;
        if !fifo || stat.st_ino != inodes[number - 1] || fs::fstatfs(&node).ok()?.f_type != PIPEFS {
            return None;
        }
        let own = format!("/proc/self/fd/{}", node.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        fs::open(own, flags, Mode::empty()).ok()
    });
    Some(Output {
        stdout: stdout?,
        stderr: stderr?,
    })
}

/// `PIPEFS_MAGIC` (linux/magic.h): a FIFO with the same inode number on another file system is none of ours.
const PIPEFS: rustix::fs::FsWord = 0x5049_5045;

/// The write ends, for the app.
#[derive(Debug)]
pub struct AppEnds {
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// Makes both pipes. They are the app's user's, so that it can open `/dev/stdout` by name.
pub fn pipes((uid, gid): (u32, u32)) -> Result<(Output, AppEnds), LogError> {
    let pipe = || -> std::io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        std::os::unix::fs::fchown(&write, Some(uid), Some(gid))?;
        Ok((read, write))
    };
    let (out_read, stdout) = pipe().map_err(LogError::Pipe)?;
    let (err_read, stderr) = pipe().map_err(LogError::Pipe)?;
    let output = Output {
        stdout: out_read,
        stderr: err_read,
    };
    Ok((output, AppEnds { stdout, stderr }))
}

/// Has `output` written, by the child that writes others' already, or by a new one; its pid. Two containers of one app write
/// into its one log.
pub fn start_writer(
    output: &Output,
    settings: &Settings,
    app: (&AppName, &str, Logs),
) -> Result<i32, LogError> {
    Ok(give(output, settings, app, Wait::Moment)?.pid)
}

/// The same for the output of several apps. Once the writer was slow to take one, it is not waited for any more.
#[derive(Debug)]
pub struct Together {
    wait: Wait,
}

impl Together {
    /// None yet.
    pub fn begin() -> Self {
        Self { wait: Wait::Moment }
    }

    /// One app's; the writer's pid.
    pub fn start_writer(
        &mut self,
        output: &Output,
        settings: &Settings,
        app: (&AppName, &str, Logs),
    ) -> Result<i32, LogError> {
        let given = give(output, settings, app, self.wait);
        if !given.as_ref().is_ok_and(|gift| gift.told) {
            self.wait = Wait::No;
        }
        Ok(given?.pid)
    }
}

fn give(
    output: &Output,
    settings: &Settings,
    (app, slot, logs): (&AppName, &str, Logs),
    wait: Wait,
) -> Result<Gift, LogError> {
    let group = settings.daemon_group();
    let folder = settings.config.logs_dir().join(app.as_str());
    disk::make_folder(&folder, 0o750)?;
    std::os::unix::fs::chown(&folder, Some(0), group).about("give away", &folder)?;
    let job = Job {
        folder,
        group,
        rotation: Rotation::of_total(settings.profile.quotas.log_mib.mib_in_bytes()),
        drop_beyond: logs.drop_beyond(),
        second: slot::is_second(slot),
    };
    let run = settings.run_state_dir();
    let give = |wait| {
        let ends = hand_over::both(&output.stdout, &output.stderr);
        hand_over::give(&run, &job, ends, wait).map_err(LogError::HandOver)
    };
    if let Some(gift) = give(wait)? {
        return Ok(gift);
    }
    // Not the number that the gift is told: until the child listens itself, that is the supervisor's.
    let pid = start_child(&run)?;
    match give(Wait::First)? {
        Some(gift) => Ok(Gift { pid, ..gift }),
        None => Err(LogError::NotTaken(job.folder.display().to_string())),
    }
}

fn start_child(run: &Path) -> Result<i32, LogError> {
    let listener = hand_over::listen(run).map_err(LogError::HandOver)?;
    let child = spawn_plain(vec![listener], |mut ends| {
        let Some(listener) = ends.pop() else {
            return 1;
        };
        // In a group of its own: a terminal's Ctrl-C for the supervisor is not for it.
        let _ = rustix::process::setsid();
        // It begins in the middle of a deployment, with a copy of what that takes.
        memory::rest();
        match write::run(&listener) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    })?;
    Ok(child.pid)
}
