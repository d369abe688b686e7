//! A locked-down child of the supervisor that runs a closure: unpacking layers, probes, name resolving, log writing.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::pipe2;

use crate::capabilities::Capabilities;
use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked, confine};
use crate::launch::child::{detach_from_supervisor, join_namespace, set_oom_score};
use crate::launch::process::set_rlimit;
use crate::launch::{child_process, kill_and_reap, read_status};
use crate::reap::Exit;
use crate::rootfs;
use crate::seccomp::SeccompProgram;
use crate::spec::{NetNs, Rlimit};

mod fence;

/// What the closure may touch. [`JailSpec::new`] allows nothing.
#[derive(Debug)]
pub struct JailSpec<'a> {
    /// Becomes `/`; the host's files are out of reach. It may be empty.
    pub root: PathBuf,
    pub root_readonly: bool,
    /// Folders to read from: mounts of their own that end at the folder, are read-only, and in which devices do not open
    /// and programs do not run.
    pub read_dirs: Vec<OwnedFd>,
    /// The same, to write to: a device node that is made there leads to no device.
    pub write_dirs: Vec<OwnedFd>,
    /// Files, pipes, sockets: as they are.
    pub files: Vec<OwnedFd>,
    pub netns: NetNs,
    pub uid: u32,
    pub gid: u32,
    pub capabilities: Capabilities,
    /// `libc::RLIMIT_AS` bounds the memory.
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub seccomp: Option<&'a SeccompProgram>,
    /// Ends with the supervisor. A log writer must not.
    pub dies_with_parent: bool,
}

impl JailSpec<'_> {
    /// As root without a capability, no network, no descriptors.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        JailSpec {
            root: root.into(),
            root_readonly: false,
            read_dirs: Vec::new(),
            write_dirs: Vec::new(),
            files: Vec::new(),
            netns: NetNs::New,
            uid: 0,
            gid: 0,
            capabilities: Capabilities::none(),
            rlimits: Vec::new(),
            oom_score_adj: None,
            seccomp: None,
            dies_with_parent: true,
        }
    }
}

/// What the closure is given: the spec's descriptors, in the spec's order.
#[derive(Debug, Default)]
pub struct JailFds {
    pub read_dirs: Vec<OwnedFd>,
    pub write_dirs: Vec<OwnedFd>,
    pub files: Vec<OwnedFd>,
}

/// A child that runs a closure. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Child {
    /// # Errors
    /// ESRCH when it has ended.
    pub fn kill(&self) -> std::io::Result<()> {
        Ok(kernel::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL)?)
    }

    /// Waits for its end. None when it has been reaped elsewhere.
    pub fn wait(self) -> Option<Exit> {
        crate::reap::wait(self.pid)
    }
}

/// Runs `body` in a child with new pid, mount, ipc, uts and network namespaces, and only what the spec allows. Answers
/// when the jail is shut and `body` about to run; its u8 is the exit code, a panic is 125.
///
/// The child sees the caller's memory as it was: `body` may use whatever it captured, but nothing that it changes comes
/// back, and a runtime (tokio) must not be used in it.
///
/// # Errors
/// The step of shutting the jail that failed; nothing is left to reap.
pub fn spawn_jailed(
    spec: JailSpec<'_>,
    body: impl FnOnce(JailFds) -> u8,
) -> Result<Child, Failure> {
    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if matches!(spec.netns, NetNs::New) {
        flags |= libc::CLONE_NEWNET;
    }
    spawn(flags as u64, |status| shut(spec, status), body)
}

/// Runs `body` in an ordinary child that keeps only the given descriptors: for work that needs the supervisor's rights
/// but not its one thread. Its u8 is the exit code, a panic is 125.
///
/// # Errors
/// When there can be no more processes.
pub fn spawn_plain(
    files: Vec<OwnedFd>,
    body: impl FnOnce(Vec<OwnedFd>) -> u8,
) -> Result<Child, Failure> {
    let setup = |status| {
        let mut keep: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        keep.push(status);
        detach_from_supervisor(keep)?;
        // What it executes may bring others to life, as CRIU does: of the caller's keys they have none.
        kernel::new_session_keyring().at(Step::Keyring, "")?;
        umask(Mode::from_bits_truncate(0o022));
        Ok(files)
    };
    spawn(0, setup, body)
}

/// `setup` is given the number of the status pipe, which must survive it.
fn spawn<T>(
    flags: u64,
    setup: impl FnOnce(i32) -> Result<T, Failure>,
    body: impl FnOnce(T) -> u8,
) -> Result<Child, Failure> {
    let (status_read, status_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, "child")?;
    match kernel::clone_process(flags, None).at(Step::Clone, "child")? {
        Forked::Child { .. } => {
            let status = status_write.as_raw_fd();
            child_process(
                status_write,
                || setup(status),
                |ready| i32::from(body(ready)),
            )
        }
        Forked::Parent { pid, pidfd, .. } => {
            drop(status_write);
            let pidfd = kernel::or_open_pidfd(pidfd, pid).at(Step::Clone, "pidfd")?;
            if let Err(failure) = read_status(File::from(status_read)) {
                kill_and_reap(pid, &pidfd);
                return Err(failure);
            }
            Ok(Child { pid, pidfd })
        }
    }
}

fn shut(spec: JailSpec<'_>, status: i32) -> Result<JailFds, Failure> {
    let JailSpec {
        read_dirs,
        write_dirs,
        files,
        netns,
        ..
    } = spec;
    let mut keep: Vec<i32> = read_dirs
        .iter()
        .chain(&write_dirs)
        .chain(&files)
        .map(AsRawFd::as_raw_fd)
        .collect();
    keep.push(status);
    if let NetNs::Join(netns) = &netns {
        keep.push(netns.as_raw_fd());
    }
    detach_from_supervisor(keep)?;
    set_oom_score(spec.oom_score_adj)?;
    if let NetNs::Join(netns) = netns {
        join_namespace(netns, CloneFlags::CLONE_NEWNET).at(Step::Namespace, "network")?;
    }

    // Before the mount namespace is left to which these mounts belong: afterwards they could not be copied.
    let fenced = fence::by_descriptor(&read_dirs, &write_dirs)?;
    unshare(CloneFlags::CLONE_NEWNS).at(Step::Namespace, "mount")?;
    rootfs::make_private()?;
    let fenced = match fenced {
        Some(fenced) => fenced,
        None => fence::by_path(&spec.root, &read_dirs, &write_dirs)?,
    };
    drop((read_dirs, write_dirs));
    let root = rootfs::bind_self(&spec.root)?;
    rootfs::enter(&root)?;
    drop(root);
    if spec.root_readonly {
        rootfs::remount_root_readonly()?;
    }

    for limit in &spec.rlimits {
        set_rlimit(limit)?;
    }
    set_no_new_privs().at(Step::NoNewPrivs, "")?;
    spec.capabilities.bound()?;
    confine::become_user(spec.uid, spec.gid, &[])
        .at(Step::User, format!("{}:{}", spec.uid, spec.gid))?;
    spec.capabilities.apply(spec.uid)?;
    if spec.dies_with_parent {
        // A change of user takes this back, so it comes after.
        set_pdeathsig(Signal::SIGKILL).at(Step::Namespace, "parent's death")?;
    }
    umask(Mode::from_bits_truncate(0o022));
    fence::restrict_to(&fenced, spec.root_readonly).at(Step::Seccomp, "landlock")?;
    if let Some(program) = spec.seccomp {
        confine::load_seccomp(program.instructions(), program.flags()).at(Step::Seccomp, "")?;
    }
    Ok(JailFds {
        read_dirs: fenced.read,
        write_dirs: fenced.write,
        files,
    })
}

/// Loads a filter into the calling process, for good: for a [`spawn_plain`] body that has opened what it needs.
///
/// # Errors
/// When the kernel has no seccomp.
pub fn confine_self(program: &SeccompProgram) -> Result<(), Failure> {
    set_no_new_privs().at(Step::NoNewPrivs, "")?;
    confine::load_seccomp(program.instructions(), program.flags()).at(Step::Seccomp, "")
}
