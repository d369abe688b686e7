//! One interface over cgroup v1 (also hybrid) and v2.
//!
//! A [`CgroupTree`] knows the machine's layout and the folder that is ours; a [`Cgroup`] is one container's. On v1 it is
//! a folder in each mounted hierarchy, on v2 one folder. Why this is written here and not taken from cgroups-rs stands
//! in `docs/decisions/0002-cgroups.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod devices;
pub(crate) mod layout;
mod limits;
mod v1;
mod v2;

pub use layout::Controller;
pub use limits::{DeviceRule, Devices, IoLimit, Limits};

use layout::Layout;

/// What can go wrong with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup file system is mounted")]
    NotMounted,
    #[error("{name:?} cannot be the name of a cgroup")]
    BadName { name: String },
    #[error("this kernel cannot hold the limit {limit}: {path} is missing")]
    Unsupported { limit: &'static str, path: PathBuf },
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

/// The machine's cgroups, and our folder in them.
#[derive(Debug, Clone)]
pub struct CgroupTree {
    layout: Layout,
    parent: PathBuf,
}

impl CgroupTree {
    /// Looks at what is mounted; `parent` is our folder, relative to the top (`coracle`, or what the service manager
    /// delegated). It is made when the first cgroup is.
    ///
    /// # Errors
    /// No cgroups at all, or a parent with `..`.
    pub fn detect(parent: &str) -> Result<CgroupTree, CgroupError> {
        Ok(CgroupTree {
            layout: Layout::detect()?,
            parent: checked_parent(parent)?,
        })
    }

    /// The v2 tree at `mount`, also on a machine whose controllers are all in v1 (then no limit but devices can be set).
    ///
    /// # Errors
    /// A parent with `..`.
    pub fn unified(mount: &Path, parent: &str) -> Result<CgroupTree, CgroupError> {
        Ok(CgroupTree {
            layout: Layout::V2(mount.into()),
            parent: checked_parent(parent)?,
        })
    }

    /// Makes a cgroup with these limits; an existing one gets them too.
    ///
    /// # Errors
    /// A limit that the kernel lacks or refuses. What was made is removed again.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let cgroup = self.open(name)?;
        let made = match &cgroup.place {
            Place::V1(folders) => v1::create(folders, &self.parent),
            Place::V2(folder) => self
                .v2_mount()
                .map_or(Ok(()), |mount| v2::create(mount, &self.parent, folder)),
        };
        if let Err(error) = made.and_then(|()| cgroup.set_limits(limits)) {
            // The first failure is the one to tell.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    /// A handle on a cgroup that exists, or is about to.
    ///
    /// # Errors
    /// A name with a slash.
    pub fn open(&self, name: &str) -> Result<Cgroup, CgroupError> {
        if !is_name(name) {
            return Err(CgroupError::BadName { name: name.into() });
        }
        let relative = self.parent.join(name);
        let place = match &self.layout {
            Layout::V1(hierarchies) => Place::V1(
                hierarchies
                    .iter()
                    .map(|hierarchy| v1::Folder {
                        path: hierarchy.mount.join(&relative),
                        mount: hierarchy.mount.clone(),
                        controllers: hierarchy.controllers.clone(),
                    })
                    .collect(),
            ),
            Layout::V2(mount) => Place::V2(mount.join(&relative)),
        };
        Ok(Cgroup { place })
    }

    /// Names of the cgroups below our folder, for cleaning up after a crash.
    pub fn list(&self) -> Vec<String> {
        let mounts: Vec<&Path> = match &self.layout {
            Layout::V1(hierarchies) => hierarchies
                .iter()
                .map(|hierarchy| hierarchy.mount.as_path())
                .collect(),
            Layout::V2(mount) => vec![mount],
        };
        let mut names: Vec<String> = mounts
            .iter()
            .filter_map(|mount| std::fs::read_dir(mount.join(&self.parent)).ok())
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                entry
                    .file_type()
                    .ok()?
                    .is_dir()
                    .then(|| entry.file_name().into_string().ok())?
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes our folder itself, which must have no cgroups left in it.
    ///
    /// # Errors
    /// When one is left.
    pub fn remove_parent(&self) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => hierarchies
                .iter()
                .try_for_each(|h| remove_dir(&h.mount.join(&self.parent))),
            Layout::V2(mount) => remove_dir(&mount.join(&self.parent)),
        }
    }

    fn v2_mount(&self) -> Option<&Path> {
        match &self.layout {
            Layout::V1(_) => None,
            Layout::V2(mount) => Some(mount),
        }
    }
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
            Place::V2(folder) => remove_dir(folder),
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

fn checked_parent(parent: &str) -> Result<PathBuf, CgroupError> {
    let parent = parent.trim_matches('/');
    if parent.is_empty() || parent.split('/').any(|part| !is_name(part)) {
        return Err(CgroupError::BadName {
            name: parent.into(),
        });
    }
    Ok(parent.into())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0', '\n'])
        // `cgroup.x` and `memory.x` are the kernel's.
        && !name.starts_with("cgroup.")
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    // Not fs::write, which would make a missing file (on a tmpfs by mistake) and truncate.
    let result = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    result.map_err(|source| CgroupError::Write {
        path: path.into(),
        value: value.into(),
        source,
    })
}

/// None when the file is missing or says `max`.
fn read_number(path: &Path) -> Result<Option<u64>, CgroupError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(source) => {
            return Err(CgroupError::Io {
                path: path.into(),
                source,
            });
        }
    };
    match text.trim() {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| CgroupError::NotANumber {
                path: path.into(),
                text: text.clone(),
            }),
    }
}

/// One `key value` line of a flat keyed file.
fn read_keyed(path: &Path, key: &str) -> Result<Option<u64>, CgroupError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(CgroupError::Io {
            path: path.into(),
            source,
        }),
    }
}

fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::Io {
            path: path.into(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn remove_dir(path: &Path) -> Result<(), CgroupError> {
    let started = Instant::now();
    loop {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if started.elapsed() >= REMOVE_PATIENCE {
                    return Err(CgroupError::StillAlive {
                        path: path.into(),
                        waited: REMOVE_PATIENCE,
                    });
                }
                // Containers given a writable tree may have made cgroups of their own.
                remove_children(path);
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(source) => {
                return Err(CgroupError::Io {
                    path: path.into(),
                    source,
                });
            }
        }
    }
}

fn remove_children(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        remove_children(&entry.path());
        let _ = std::fs::remove_dir(entry.path());
    }
}

impl Cgroup {
    /// Moves the calling process in. On v1 the `0` into `tasks` is the cheap way: the kernel takes no lock over all
    /// processes when the caller moves its own one thread (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
    pub(crate) fn attach_self(&self) -> Result<(), (PathBuf, io::Error)> {
        let files: Vec<PathBuf> = match &self.place {
            Place::V1(folders) => folders
                .iter()
                .map(|folder| folder.path.join("tasks"))
                .collect(),
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
