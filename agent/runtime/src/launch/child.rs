//! The child's path from clone to execve: a table of contents, each step in a room of its own.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, umask};

use super::child_process;
use super::process::Process;
use crate::cgroup::Cgroup;
use crate::failure::{At, Failure, Step};
use crate::kernel;
use crate::rootfs;
use crate::spec::{LaunchSpec, NetNs};

/// The child's ends.
pub(super) struct Pipes {
    /// One byte from the parent: go on. Its end: the parent is gone or has changed its mind.
    pub(super) go: OwnedFd,
    pub(super) status: OwnedFd,
}

pub(super) fn main(
    spec: &LaunchSpec<'_>,
    in_child_netns: &dyn Fn() -> Result<(), String>,
    pipes: Pipes,
    in_cgroup: bool,
) -> ! {
    let Pipes { go, status } = pipes;
    let status_number = status.as_raw_fd();
    let setup = || {
        let process = Process::of_container(spec);
        let mut keep = process.descriptors();
        keep.extend([go.as_raw_fd(), status_number]);
        if let NetNs::Join(netns) = &spec.netns {
            keep.push(netns.as_raw_fd());
        }
        detach_from_supervisor(keep)?;
        if !in_cgroup {
            enter_cgroup(spec.cgroup)?;
        }
        run(spec, in_child_netns, go, process)
    };
    child_process(status, setup, |code| code)
}

fn run(
    spec: &LaunchSpec<'_>,
    in_child_netns: &dyn Fn() -> Result<(), String>,
    go: OwnedFd,
    process: Process<'_>,
) -> Result<i32, Failure> {
    // Only now: the kernel takes the cgroup that the caller is in as the namespace's top.
    unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::Namespace, "cgroup")?;
    if let NetNs::Join(netns) = &spec.netns {
        join_namespace(netns, CloneFlags::CLONE_NEWNET).at(Step::Namespace, "network")?;
    }
    set_oom_score(spec.oom_score_adj)?;
    let root = rootfs::build(spec)?;

    if File::from(go).read(&mut [0]).at(Step::Pipe, "start")? == 0 {
        return Ok(0);
    }

    in_child_netns().map_err(|reason| Failure::refused(Step::Network, reason))?;
    set_sysctls(spec)?;
    rootfs::enter(&root)?;
    drop(root);
    if let Some(hostname) = &spec.hostname {
        nix::unistd::sethostname(hostname).at(Step::Hostname, hostname)?;
    }
    process.make_cwd()?;
    if spec.rootfs_readonly {
        rootfs::remount_root_readonly()?;
    }
    rootfs::set_readonly(&spec.readonly_paths)?;
    rootfs::hide(&spec.masked_paths)?;
    process.execute()
}

/// What a fresh child of the supervisor does first: its signals, descriptors and memory are none of the container's
/// business. `keep` stay open.
pub(crate) fn detach_from_supervisor(mut keep: Vec<i32>) -> Result<(), Failure> {
    kernel::reset_signals();
    // No process of a container may trace this one, or open its /proc/<pid>/exe, which is the supervisor's binary
    // (CVE-2019-5736), before execve sets the flag anew.
    nix::sys::prctl::set_dumpable(false).at(Step::Namespace, "dumpable")?;
    // 0 to 2 are replaced later, and until then are where a panic would be told.
    kernel::close_all_except(3, &mut keep).at(Step::Pipe, "descriptors")?;
    // Modes are given in full by all that follows.
    umask(Mode::empty());
    Ok(())
}

/// One namespace, or several of a process by its pidfd.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the single-threaded child"
)]
pub(crate) fn join_namespace(of: impl AsFd, which: CloneFlags) -> nix::Result<()> {
    setns(of, which)
}

pub(crate) fn enter_cgroup(cgroup: &Cgroup) -> Result<(), Failure> {
    cgroup.attach_self().map_err(|(path, error)| {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Failure::new(Step::Cgroup, path.display().to_string(), errno)
    })
}

pub(crate) fn set_oom_score(score: Option<i32>) -> Result<(), Failure> {
    let Some(score) = score else { return Ok(()) };
    rootfs::write_proc(Path::new("/proc/self/oom_score_adj"), &score.to_string())
        .at(Step::OomScore, score.to_string())
}

/// The kernel's names that belong to a namespace of the container; all others would change the host.
fn set_sysctls(spec: &LaunchSpec<'_>) -> Result<(), Failure> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
    ];
    let own_network = matches!(spec.netns, NetNs::New);
    for (name, value) in &spec.sysctls {
        let own = IPC.contains(&name.as_str())
            || name.starts_with("fs.mqueue.")
            || (own_network && name.starts_with("net."));
        if !own || name.contains(['/']) || name.contains("..") {
            return Err(Failure::refused(
                Step::Sysctl,
                format!("{name} is not the container's own"),
            ));
        }
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        rootfs::write_proc(&path, value).at(Step::Sysctl, name)?;
    }
    Ok(())
}
