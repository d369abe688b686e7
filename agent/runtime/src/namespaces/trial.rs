//! Whether this kernel and file system can give a container a range of ids: found by doing it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::fstatat;
use nix::unistd::pipe2;

use super::users::{IdRange, Users};
use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked};
use crate::launch::child::detach_from_supervisor;
use crate::launch::{child_process, read_status};
use crate::reap;
use crate::rootfs::{make_private, overlay};

/// Tries an overlay with the owners of `range` below `folder`, or in a tmpfs with `in_memory`: a file of a lower folder must
/// be root's inside, and one that another user makes inside must be that user's on disk. Everything is taken away again,
/// leftovers of a try that was cut too.
///
/// # Errors
/// The step that this kernel or file system cannot do.
pub fn try_range(folder: &Path, in_memory: bool, range: IdRange) -> Result<(), Failure> {
    let scratch = folder.join(".users-trial");
    clear(&scratch)?;
    fs::create_dir_all(&scratch).at(Step::IdMap, &scratch)?;
    let users = Users::make(range, false)?;
    let tried = in_child(libc::CLONE_NEWNS, &users, || {
        make_private()?;
        if in_memory {
            let kind = Some("tmpfs");
            mount(kind, &scratch, kind, MsFlags::empty(), None::<&str>)
                .at(Step::IdMap, "a tmpfs")?;
        }
        attempt(&scratch, &users)
    });
    tried.and(clear(&scratch))
}

fn clear(scratch: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at(Step::IdMap, scratch),
    }
}

/// The user who makes a file.
const USER: u32 = 1;

fn attempt(scratch: &Path, users: &Users) -> Result<(), Failure> {
    let path = |name: &str| scratch.join(name);
    for name in ["lower", "layer/upper", "layer/work", "merged"] {
        fs::create_dir_all(path(name)).at(Step::IdMap, path(name))?;
    }
    fs::write(path("lower/old"), "").at(Step::IdMap, path("lower/old"))?;
    // Looked at past the mapped mount, which comes to lie on the folder above.
    let disk = File::open(path("layer/upper")).at(Step::IdMap, path("layer/upper"))?;
    users.begin()?;
    let merged = overlay(
        &[path("lower")],
        &path("layer/upper"),
        &path("layer/work"),
        &path("merged"),
        Some(users),
    )?;
    in_child(0, users, || {
        users.enter()?;
        nix::unistd::fchdir(&merged).at(Step::IdMap, "merged")?;
        let old = fs::metadata("old").at(Step::IdMap, "a file of a layer")?;
        if old.uid() != 0 {
            return Err(lost("a file of a layer"));
        }
        fs::write("new", "").at(Step::IdMap, "a new file")?;
        chown("new", Some(USER), Some(USER)).at(Step::IdMap, "a new file")
    })?;
    let new = fstatat(&disk, "new", AtFlags::AT_SYMLINK_NOFOLLOW);
    match new.at(Step::IdMap, "a new file")?.st_uid {
        USER => Ok(()),
        _ => Err(lost("a new file")),
    }
}

fn lost(what: &str) -> Failure {
    Failure::refused(Step::IdMap, format!("{what} has the wrong owner"))
}

fn in_child(
    flags: i32,
    users: &Users,
    body: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, "trial")?;
    match kernel::clone_process(flags as u64, None).at(Step::Clone, "trial")? {
        Forked::Child { .. } => {
            let mut keep: Vec<i32> = users.descriptors().collect();
            keep.push(write.as_raw_fd());
            let setup = || {
                if flags != 0 {
                    detach_from_supervisor(keep)?;
                }
                body()
            };
            child_process(write, setup, |()| 0)
        }
        Forked::Parent { pid, .. } => {
            drop(write);
            let told = read_status(read.into());
            match reap::wait(pid) {
                Some(exit) if exit.success() || told.is_err() => told,
                _ => Err(Failure::new(
                    Step::IdMap,
                    "the trial died",
                    Errno::ECHILD as i32,
                )),
            }
        }
    }
}
