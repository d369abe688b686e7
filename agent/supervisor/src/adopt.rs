//! What a supervisor leaves for the next one: which apps run, in the run folder that a reboot empties.
//! A process is known by its number and its start time together, since numbers come again.

use crate::apps::devices::Given;
use crate::disk::{self, DiskError};
use crate::ended;
use crate::kernel;
use coracle_digest::Sha256Digest;
use coracle_network::Attachment;
use coracle_protocol::names::AppName;
use coracle_protocol::release::HookKind;
use coracle_runtime::ProcessHandle;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of the file: 64 apps with 256 ports each stay far below; all the places to go of a release, on 8 networks, too.
const FILE_BYTES: u64 = 4 << 20;
/// Between two looks at an adopted process that the kernel tells nobody of (before Linux 5.3).
const LOOK: Duration = Duration::from_secs(1);

/// A process that outlives the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// Clock ticks after boot at its start: field 22 of /proc/<pid>/stat.
    pub start_time: u64,
}

impl ProcessId {
    /// Of a process that lives, or that nobody has waited for yet.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: stat(pid)?.start_time,
        })
    }

    /// A descriptor of the very process, when it is a child of this one: also when it has ended and was not waited for.
    pub fn open_child(self) -> Option<OwnedFd> {
        let pidfd = ProcessHandle::open(self.pid).ok()?.into();
        let stat = stat(self.pid)?;
        let own = std::process::id() as i32;
        (stat.parent == own && stat.start_time == self.start_time).then_some(pidfd)
    }

    /// A descriptor of the very process, when it lives. The start time is read after the descriptor is
    /// open, so that both mean the same process.
    pub fn open(self) -> Option<OwnedFd> {
        let pidfd = ProcessHandle::open(self.pid).ok()?.into();
        (start_time(self.pid) == Some(self.start_time)).then_some(pidfd)
    }
}

/// Of /proc/<pid>/stat, counted from behind the name, which may hold anything.
struct Stat {
    is_over: bool,
    parent: i32,
    start_time: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        is_over: ended::is_over(rest),
        parent: fields.get(1)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// A zombie does not live.
fn start_time(pid: i32) -> Option<u64> {
    stat(pid)
        .filter(|stat| !stat.is_over)
        .map(|stat| stat.start_time)
}

/// All children of this process, those that nobody has waited for too.
pub fn children() -> Vec<i32> {
    let own = std::process::id() as i32;
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == own))
        .collect()
}

/// One app that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningApp {
    /// Its name.
    pub name: AppName,
    /// What its container is called on the board, where that is not the app's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// It is of the set before, and serves on until the new one of its name is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outgoing: bool,
    /// The container's first process.
    pub process: ProcessId,
    /// It was told to end, to be started again or for another set.
    pub stopping: bool,
    /// The log writer.
    pub log_writer: Option<ProcessId>,
    /// Inode numbers of its output's pipes.
    pub output: [u64; 2],
    /// Its places on networks, in the order of its interfaces.
    pub places: Vec<Attachment>,
    /// Devices of the board that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Given>,
    /// Unix seconds.
    pub started_at: u64,
    /// Restarts since its set was activated.
    pub restarts: u32,
    /// The hook that is due or runs in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<RunningHook>,
    /// Apps that it depends on: they are stopped after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<AppName>,
}

/// A hook that is due or runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningHook {
    /// Which.
    pub kind: HookKind,
    /// The child that waits for it, once it was executed.
    pub companion: Option<ProcessId>,
}

/// One app that has run, or was to, and does not now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedApp {
    /// Its name.
    pub name: AppName,
    /// Of its last run, as it was told.
    pub exit_code: Option<i32>,
    /// Of its last run.
    #[serde(default)]
    pub oom_killed: bool,
    /// Restarts since its set was activated.
    #[serde(default)]
    pub restarts: u32,
    /// Restarts in a row, by which the next wait is counted.
    #[serde(default)]
    pub in_a_row: u32,
    /// With an app that stays so by its restart policy, and that a next supervisor does not run again: whether the policy calls
    /// that a good end.
    pub fine: Option<bool>,
}

/// How long a staged set has waited: the clock is one that no restart of the supervisor, and nobody who sets the time,
/// changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waited {
    /// The set: digest of its assignment.
    pub deployment: Sha256Digest,
    /// Seconds after boot at which it began to wait.
    pub since: u64,
    /// Seconds for which update locks alone have put it off.
    pub deferred: u64,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The set that they belong to: digest of its assignment.
    pub set: Option<Sha256Digest>,
    /// Those that run.
    pub apps: Vec<RunningApp>,
    /// Those that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedApp>,
    /// How long a staged set has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waited>,
    /// Those that a person stopped, and that stay so.
    pub stopped: Vec<AppName>,
}

impl RunState {
    /// Reads the file; what cannot be read is nothing, and its apps are ended as strangers.
    pub fn load(path: &Path) -> Self {
        let bytes = disk::read_bounded(path, FILE_BYTES);
        let Ok(Some(bytes)) = bytes else {
            return Self::default();
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::error!(%error, path = %path.display(), "the list of running apps is damaged");
            Self::default()
        })
    }

    /// Replaces the file.
    pub fn store(&self, path: &Path) -> Result<(), DiskError> {
        disk::write_volatile(path, &serde_json::to_vec(self).unwrap_or_default())
    }
}

/// An adopted process ended. It is not this process's child: only some kernels tell how (6.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdoptedEnd {
    /// Its number.
    pub pid: i32,
    /// Exit code, 128 + signal when killed by one.
    pub code: Option<i32>,
}

/// Tells `to` when the process ends. Whoever drops the receiver is told nothing.
pub fn watch(pid: i32, pidfd: OwnedFd, to: mpsc::Sender<AdoptedEnd>) -> std::io::Result<()> {
    if ended::is_folder(pidfd.as_fd()) {
        tokio::spawn(async move {
            while !ended::has_ended(pidfd.as_fd()) {
                tokio::time::sleep(LOOK).await;
            }
            let _ = to.send(AdoptedEnd { pid, code: None }).await;
        });
        return Ok(());
    }
    // A pidfd is readable once its process has ended.
    let pidfd = kernel::when_readable(pidfd)?;
    tokio::spawn(async move {
        if pidfd.readable().await.is_err() {
            return;
        }
        // The parent may not have reaped it yet; the status is there from then on.
        let mut status = None;
        for _ in 0..20 {
            status = kernel::exit_status(pidfd.get_ref().as_fd());
            if status.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let code = status.map(|status| match libc::WIFSIGNALED(status) {
            true => 128 + libc::WTERMSIG(status),
            false => libc::WEXITSTATUS(status),
        });
        // The supervisor is going: its successor looks for itself.
        let _ = to.send(AdoptedEnd { pid, code }).await;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_number_and_its_start() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(own.open().is_some());
        let other = ProcessId {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(other.open().is_none());
        assert!(ProcessId::of(i32::MAX).is_none());
        assert!(own.open_child().is_none(), "nobody is a child of its own");
    }

    #[test]
    fn a_child_is_known_until_it_was_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.open_child().is_some() && children().contains(&id.pid));
        child.kill().unwrap();
        while id.open().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(id.open_child().is_some() && children().contains(&id.pid));
        child.wait().unwrap();
        assert!(id.open_child().is_none() && !children().contains(&id.pid));
    }

    #[test]
    fn a_damaged_list_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apps.json");
        assert_eq!(RunState::load(&path), RunState::default());
        let state = RunState {
            set: Some(Sha256Digest::of(b"set")),
            apps: vec![],
            waiting: None,
            ended: vec![EndedApp {
                name: AppName::new("b").unwrap(),
                exit_code: Some(0),
                oom_killed: true,
                restarts: 3,
                in_a_row: 2,
                fine: Some(true),
            }],
            stopped: vec![AppName::new("a").unwrap()],
        };
        state.store(&path).unwrap();
        assert_eq!(RunState::load(&path), state);
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(RunState::load(&path), RunState::default());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        let (to, mut ends) = mpsc::channel(1);
        watch(id.pid, id.open().unwrap(), to).unwrap();
        child.kill().unwrap();
        let end = ends.recv().await.unwrap();
        assert_eq!(end.pid, id.pid);
        assert!(id.open().is_none());
        child.wait().unwrap();
    }
}
