//! One interface over cgroup v1 (also hybrid) and v2.
//!
//! A [`CgroupTree`] knows the machine's layout and the folder that is ours; a [`Cgroup`] is one container's. On v1 it is
//! a folder in each mounted hierarchy, on v2 one folder. Why this is written here and not taken from cgroups-rs stands
//! in `docs/decisions/0002-cgroups.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod devices;
mod files;
pub(crate) mod layout;
mod limits;
mod oom;
mod pressure;
mod raw;
mod taken_over;
mod tree;
mod v1;
mod v2;

pub use layout::Controller;
pub use limits::{DeviceRule, Devices, IoLimit, Limits};
pub use oom::OomWatch;
pub use pressure::{Pressure, Pressures, Stall};
pub use tree::CgroupTree;

use files::{is_gone, remove_dir, write};

/// What can go wrong with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup file system is mounted")]
    NotMounted,
    #[error("{name:?} cannot be the name of a cgroup")]
    BadName { name: String },
    #[error("this kernel cannot hold the limit {limit}: {path} is missing")]
    Unsupported { limit: &'static str, path: PathBuf },
    #[error("memory and swap together, {sum} bytes, cannot be less than memory, {memory} bytes")]
    SumBelowMemory { sum: u64, memory: u64 },
    #[error("{path}: writing {value:?}: {source}")]
    Write {
        path: PathBuf,
        value: String,
        source: io::Error,
    },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: not a number: {text:?}")]
    NotANumber { path: PathBuf, text: String },
    #[error("device rules of {path}: {source}")]
    Devices { path: PathBuf, source: nix::Error },
    #[error("{path}: processes still live after {waited:?}")]
    StillAlive { path: PathBuf, waited: Duration },
}

/// What a cgroup has used. A figure whose controller is absent is None.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub memory_bytes: Option<u64>,
    /// The highest that `memory_bytes` was. v2 has it since 5.19.
    pub memory_peak_bytes: Option<u64>,
    /// None is unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    pub cpu_micros: Option<u64>,
    pub pids: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    V1(Vec<v1::Folder>),
    V2(PathBuf),
}

/// One container's cgroup. A handle: dropping it removes nothing.
#[derive(Debug, Clone)]
pub struct Cgroup {
    place: Place,
}

impl Cgroup {
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Changes limits of a cgroup, also while processes run in it.
    ///
    /// # Errors
    /// A limit that the kernel lacks or refuses; those before it in [`Limits`]' order are set by then.
    pub fn set_limits(&self, limits: &Limits) -> Result<(), CgroupError> {
        match &self.place {
            Place::V1(folders) => v1::set_limits(folders, limits),
            Place::V2(folder) => v2::set_limits(folder, limits),
        }
    }

    /// Allows these devices and nothing else, while processes run: what is allowed before and after is so all the time.
    /// `withdrawn`: whatever more was allowed before. On v1 only these rules are taken back.
    ///
    /// # Errors
    /// A kernel without device rules, or one that refuses them. On v1 a part of them may be changed then.
    pub fn change_devices(
        &self,
        rules: &[DeviceRule],
        withdrawn: &[DeviceRule],
    ) -> Result<(), CgroupError> {
        match &self.place {
            Place::V1(folders) => v1::change_devices(folders, rules, withdrawn),
            Place::V2(folder) => v2::set_devices(folder, rules),
        }
    }

    /// # Errors
    /// When a figure cannot be read although its controller is there.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match &self.place {
            Place::V1(folders) => v1::stats(folders),
            Place::V2(folder) => v2::stats(folder),
        }
    }

    /// All its processes, as the caller's pid namespace numbers them.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let path = self.any_folder().join("cgroup.procs");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            Err(source) => Err(CgroupError::Io { path, source }),
        }
    }

    /// Stops every process where it is.
    ///
    /// # Errors
    /// When there is no freezer.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// # Errors
    /// When there is no freezer.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        match &self.place {
            Place::V1(folders) => v1::set_frozen(folders, frozen),
            Place::V2(folder) => write(
                &folder.join("cgroup.freeze"),
                if frozen { "1" } else { "0" },
            ),
        }
    }

    /// Sends SIGKILL to every process, those being forked meanwhile too. Does not wait for them to end.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Place::V2(folder) = &self.place
            && write(&folder.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        // v1, and v2 before 5.14: a frozen cgroup cannot fork away from the list. Without a freezer the rounds do it.
        let frozen = self.freeze().is_ok();
        let mut outcome = Ok(());
        for _ in 0..KILL_ROUNDS {
            match self.processes() {
                Ok(processes) if processes.is_empty() => break,
                // A process that is gone by now is what we want.
                Ok(processes) => processes.into_iter().for_each(kill),
                Err(error) => outcome = Err(error),
            }
            if frozen {
                break;
            }
        }
        // A frozen process dies when it is thawed.
        if frozen {
            self.thaw()?;
        }
        outcome
    }

    /// Removes it. Processes that are dying are waited for, up to [`REMOVE_PATIENCE`]; a missing one is fine.
    ///
    /// # Errors
    /// When processes still live.
    pub fn remove(&self) -> Result<(), CgroupError> {
        match &self.place {
            // Each is tried, so that one that fails leaves no more than itself.
            Place::V1(folders) => {
                let mut outcome = Ok(());
                for folder in folders {
                    outcome = remove_dir(&folder.path).and(outcome);
                }
                outcome
            }
            Place::V2(folder) => {
                let was_protected = v2::protection::is_protected(folder);
                remove_dir(folder)?;
                if was_protected {
                    // It is gone, whether or not the folder above, which may be somebody else's, can be told.
                    let _ = v2::protection::withdraw(folder);
                }
                Ok(())
            }
        }
    }

    fn any_folder(&self) -> &Path {
        match &self.place {
            Place::V1(folders) => {
                let freezer = folders
                    .iter()
                    .find(|folder| folder.controllers.contains(&Controller::Freezer));
                freezer
                    .or(folders.first())
                    .map_or(Path::new("/nonexistent"), |folder| &folder.path)
            }
            Place::V2(folder) => folder,
        }
    }
}

/// Enough for a fork bomb of a few hundred processes where nothing can be frozen.
const KILL_ROUNDS: usize = 50;

/// How long [`Cgroup::remove`] waits: a killed process with much memory takes a while to give it back.
pub const REMOVE_PATIENCE: Duration = Duration::from_millis(500);

fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    );
}

impl Cgroup {
    /// Moves the calling process in. On v1 the `0` into `tasks` is the cheap way: the kernel takes no lock over all
    /// processes when the caller moves its own one thread (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
    pub(crate) fn attach_self(&self) -> Result<(), (PathBuf, io::Error)> {
        let files: Vec<PathBuf> = match &self.place {
            Place::V1(folders) => folders.iter().map(v1::Folder::tasks).collect(),
            Place::V2(folder) => vec![folder.join("cgroup.procs")],
        };
        for path in files {
            if let Err(CgroupError::Write { path, source, .. }) = write(&path, "0") {
                return Err((path, source));
            }
        }
        Ok(())
    }

    /// For CLONE_INTO_CGROUP; None on v1, or when it cannot be opened (attaching says why later).
    pub(crate) fn clone_target(&self) -> Option<std::fs::File> {
        match &self.place {
            Place::V1(_) => None,
            Place::V2(folder) => std::fs::File::open(folder).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// As a v2 folder is before 5.14: `cgroup.kill` is not there.
    #[test]
    fn without_a_file_that_kills_all_each_is_killed_and_then_thawed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let (procs, freeze) = (
            folder.path().join("cgroup.procs"),
            folder.path().join("cgroup.freeze"),
        );
        std::fs::write(procs, format!("{}\n", child.id())).unwrap();
        std::fs::write(&freeze, "").unwrap();
        let cgroup = Cgroup {
            place: Place::V2(folder.path().to_owned()),
        };
        cgroup.kill_all().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(std::fs::read_to_string(freeze).unwrap(), "0");
        assert!(!folder.path().join("cgroup.kill").exists());
    }
}
