//! The folder of states: one folder for each container, locked while a command changes it.
//!
//! ```text
//! <root>/<id>/state.json    a Record, replaced as a whole
//! <root>/<id>/config.json   the bundle's, as it was when the container was made
//! <root>/<id>/start.sock    there until the program has been started
//! <root>/<id>/seccomp       what its profile comes to, once an exec has compiled it
//! <root>/<id>/root          of a restored container: an empty folder, on which CRIU alone saw its root file system
//! ```
//! Everything below is opened by descriptor and without following links.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::failure::{Failure, OnPath};
use crate::id::ContainerId;
use crate::state::Record;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const START: &str = "start.sock";
const FILTER: &str = "seccomp";
const ROOT: &str = "root";

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

pub struct Store {
    path: PathBuf,
    folder: OwnedFd,
}

impl Store {
    /// Made when it is missing, for root alone.
    pub fn open(path: &Path) -> Result<Store, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .on(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(path, flags, Mode::empty()).on(path)?;
        Ok(Store {
            path: path.into(),
            folder,
        })
    }

    /// A new container's folder, locked.
    pub fn create(&self, id: &ContainerId) -> Result<Entry, Failure> {
        let path = self.path.join(id.as_str());
        match mkdirat(&self.folder, id.as_str(), Mode::S_IRWXU) {
            Err(Errno::EEXIST) => return Err(Failure::Exists(id.to_string())),
            other => other.on(&path)?,
        }
        self.lock(id)
    }

    /// Waits until no other command changes that container.
    pub fn lock(&self, id: &ContainerId) -> Result<Entry, Failure> {
        let mut entry = self.look(id)?;
        let path = entry.path.clone();
        let again = entry.folder.try_clone().on(&path)?;
        let locked = Flock::lock(File::from(again), FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .on(&path)?;
        entry.lock = Some(locked);
        // It may have gone while we waited.
        self.look(id)?;
        Ok(entry)
    }

    /// Without a lock, to read only.
    pub fn look(&self, id: &ContainerId) -> Result<Entry, Failure> {
        let path = self.path.join(id.as_str());
        match openat(&self.folder, id.as_str(), FOLDER, Mode::empty()) {
            Err(Errno::ENOENT) => Err(Failure::Missing(id.to_string())),
            other => Ok(Entry {
                id: id.clone(),
                folder: other.on(&path)?,
                above: self.folder.try_clone().on(&path)?,
                path,
                lock: None,
            }),
        }
    }

    pub fn list(&self) -> Result<Vec<ContainerId>, Failure> {
        let mut ids: Vec<ContainerId> = std::fs::read_dir(&self.path)
            .on(&self.path)?
            .filter_map(|entry| ContainerId::parse(entry.ok()?.file_name().to_str()?).ok())
            .collect();
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}

/// One container's folder.
pub struct Entry {
    id: ContainerId,
    path: PathBuf,
    folder: OwnedFd,
    above: OwnedFd,
    lock: Option<Flock<File>>,
}

impl Entry {
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    pub fn write(&self, record: &Record) -> Result<(), Failure> {
        let path = self.path.join(STATE);
        let text = serde_json::to_vec(record).map_err(|source| Failure::Json {
            path: path.clone(),
            source,
        })?;
        self.replace(STATE, &text)
    }

    pub fn write_config(&self, text: &[u8]) -> Result<(), Failure> {
        self.replace(CONFIG, text)
    }

    /// None while it is being made, or when making it was cut short.
    pub fn read(&self) -> Result<Option<Record>, Failure> {
        match self.read_file(STATE)? {
            None => Ok(None),
            Some(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| Failure::Json {
                    path: self.path.join(STATE),
                    source,
                }),
        }
    }

    pub fn read_config(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.read_file(CONFIG)
    }

    pub fn read_filter(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.read_file(FILTER)
    }

    /// By whoever has no lock. Left out while another command changes the container, which may take the folder away.
    pub fn write_filter(&self, bytes: &[u8]) -> Result<(), Failure> {
        let again = self.folder.try_clone().on(&self.path)?;
        let Ok(_lock) = Flock::lock(File::from(again), FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        if self.read_file(STATE)?.is_none() {
            return Ok(());
        }
        self.replace(FILTER, bytes)
    }

    /// Where the first process waits for its start. Bound by way of the descriptor: paths of sockets are short.
    pub fn listen(&self) -> Result<UnixListener, Failure> {
        UnixListener::bind(self.by_descriptor(START)).on(self.path.join(START))
    }

    pub fn connect(&self) -> Result<UnixStream, Failure> {
        UnixStream::connect(self.by_descriptor(START)).on(self.path.join(START))
    }

    pub fn waits_for_start(&self) -> bool {
        std::fs::symlink_metadata(self.by_descriptor(START)).is_ok()
    }

    pub fn started(&self) -> Result<(), Failure> {
        self.unlink(START)
    }

    /// An empty folder.
    pub fn mount_point(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join(ROOT);
        mkdirat(&self.folder, ROOT, Mode::S_IRWXU).on(&path)?;
        Ok(path)
    }

    /// The folder goes; nothing in it is worth keeping.
    pub fn remove(self) -> Result<(), Failure> {
        for name in [START, CONFIG, STATE, FILTER] {
            self.unlink(name)?;
        }
        for name in [CONFIG, STATE, FILTER] {
            self.unlink(&temporary(name))?;
        }
        match unlinkat(&self.folder, ROOT, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => {}
            other => other.on(self.path.join(ROOT))?,
        }
        match unlinkat(&self.above, self.id.as_str(), UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            other => other.on(&self.path),
        }
    }

    fn by_descriptor(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()).into()
    }

    fn unlink(&self, name: &str) -> Result<(), Failure> {
        match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            other => other.on(self.path.join(name)),
        }
    }

    /// Whoever reads finds the old text or the new one.
    fn replace(&self, name: &str, text: &[u8]) -> Result<(), Failure> {
        let path = self.path.join(name);
        let new = temporary(name);
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(&self.folder, new.as_str(), flags, mode).on(&path)?;
        File::from(file).write_all(text).on(&path)?;
        renameat(&self.folder, new.as_str(), &self.folder, name).on(&path)
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.folder, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            other => {
                let mut text = Vec::new();
                File::from(other.on(&path)?)
                    .read_to_end(&mut text)
                    .on(&path)?;
                Ok(Some(text))
            }
        }
    }
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}
