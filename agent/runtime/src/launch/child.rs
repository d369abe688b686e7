//! The child's path from clone to execve: a table of contents, each step in a room of its own.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use super::process::Process;
use super::{Inside, child_process, console};
use crate::cgroup::Cgroup;
use crate::failure::{At, Failure, Step};
use crate::kernel;
use crate::namespaces::{MountNs, Namespace, Users, is_own};
use crate::rootfs::{self, IdMapped};
use crate::spec::{LaunchSpec, NetNs, View};

/// The child's ends.
pub(super) struct Pipes {
    /// One byte from the parent: go on. Its end: the parent is gone or has changed its mind.
    pub(super) go: OwnedFd,
    pub(super) status: OwnedFd,
    /// One byte when the users of a new user namespace are mapped.
    pub(super) mapped: Option<OwnedFd>,
}

/// What the parent has made for the launch.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) id_mapped: &'a IdMapped,
    pub(super) users: Option<&'a Users>,
}

pub(super) fn main(
    spec: &LaunchSpec<'_>,
    inside: &dyn Inside,
    made: &Made<'_>,
    pipes: Pipes,
    in_cgroup: bool,
) -> ! {
    let Pipes { go, status, mapped } = pipes;
    let status_number = status.as_raw_fd();
    let setup = || {
        let mut keep = descriptors(spec, inside, made);
        keep.extend([go.as_raw_fd(), status_number]);
        keep.extend(mapped.as_ref().map(AsRawFd::as_raw_fd));
        detach_from_supervisor(keep)?;
        if in_cgroup {
            take_all_cpus().at(Step::Cgroup, "CPUs")?;
        } else {
            enter_cgroup(spec.cgroup)?;
        }
        set_oom_score(spec.oom_score_adj)?;
        if let Some(mapped) = mapped {
            wait_for_byte(mapped, "maps")?;
        }
        run(spec, inside, made, go, status_number)
    };
    child_process(status, setup, |code| code)
}

/// All that the launch needs of the caller's descriptors.
pub(super) fn descriptors(spec: &LaunchSpec<'_>, inside: &dyn Inside, made: &Made<'_>) -> Vec<i32> {
    let mut keep = Process::of_container(spec).descriptors();
    keep.extend(made.id_mapped.descriptors());
    keep.extend(made.users.iter().flat_map(|users| users.descriptors()));
    keep.extend(spec.namespaces.descriptors());
    keep.extend(inside.descriptors());
    if let NetNs::Join(netns) = &spec.netns {
        keep.push(netns.as_raw_fd());
    }
    keep
}

fn wait_for_byte(pipe: OwnedFd, what: &str) -> Result<bool, Failure> {
    Ok(File::from(pipe).read(&mut [0]).at(Step::Pipe, what)? != 0)
}

fn run(
    spec: &LaunchSpec<'_>,
    inside: &dyn Inside,
    made: &Made<'_>,
    go: OwnedFd,
    status: i32,
) -> Result<i32, Failure> {
    let mut process = Process::of_container(spec);
    let own_network = own_network(spec);
    spec.namespaces.settle(&spec.netns)?;
    if let Some(users) = made.users {
        users.begin()?;
        process.users = made.users;
    }
    kernel::new_session_keyring().at(Step::Keyring, "")?;
    let root = rootfs::build(spec, made.id_mapped, made.users)?;
    if let Some(wanted) = &spec.settings.console {
        process.terminal = Some(console::make(&root, wanted)?);
    }

    if !wait_for_byte(go, "start")? {
        return Ok(0);
    }

    inside.before_root()?;
    set_sysctls(spec, own_network)?;
    let proc = process.proc_of_host()?;
    process.open_own_files(proc)?;
    rootfs::set_readonly(&root, &spec.readonly_paths)?;
    rootfs::hide(&root, &spec.masked_paths)?;
    match &spec.namespaces.mount {
        MountNs::New | MountNs::Join(_) => rootfs::enter(&root)?,
        MountNs::Host(host) => {
            if spec.rootfs_readonly {
                rootfs::set_mount_readonly(&root)?;
            }
            rootfs::enter_beside(&root, host)?;
        }
    }
    drop(root);
    if let Some(hostname) = &spec.hostname {
        nix::unistd::sethostname(hostname).at(Step::Hostname, hostname)?;
    }
    if let Some(domainname) = &spec.domainname {
        kernel::set_domainname(domainname).at(Step::Hostname, domainname)?;
    }
    process.make_cwd()?;
    if !matches!(spec.namespaces.mount, MountNs::Host(_)) {
        if spec.rootfs_readonly {
            rootfs::remount_root_readonly()?;
        }
        rootfs::set_propagation(spec)?;
    }
    process.connect()?;
    if let Some(reports) = inside.before_program()? {
        kernel::replace_descriptor(status, reports).at(Step::Pipe, "reports")?;
    }
    process.listener_message = inside.listener_message();
    process.execute_after(&|| inside.as_program())
}

/// What a fresh child of the supervisor does first: its signals, descriptors and memory are none of the container's
/// business. `keep` stay open.
pub(crate) fn detach_from_supervisor(keep: Vec<i32>) -> Result<(), Failure> {
    kernel::reset_signals();
    // No process of a container may trace this one, or open its /proc/<pid>/exe, which is the supervisor's binary
    // (CVE-2019-5736), before execve sets the flag anew.
    nix::sys::prctl::set_dumpable(false).at(Step::Namespace, "dumpable")?;
    // 0 to 2 are replaced later, and until then are where a panic would be told.
    kernel::close_all_except(3, &keep).at(Step::Pipe, "descriptors")?;
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

/// Of those that the cgroup has, which the kernel sees to. Entering a cgroup does the same; being born in one leaves the
/// parent's CPUs, even where the cgroup has others, on kernels before 6.4 that did not get its fix (cpuset_fork).
fn take_all_cpus() -> nix::Result<()> {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &all)
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

/// Whether network settings are the container's own. Asked before it joins.
fn own_network(spec: &LaunchSpec<'_>) -> bool {
    match &spec.netns {
        NetNs::New => true,
        NetNs::Host => false,
        // Who lists each mount also made that network for this container, or answers for it.
        NetNs::Join(netns) => matches!(spec.view, View::Listed(_)) && !is_own(netns, "net"),
    }
}

/// The kernel's names that belong to a namespace of the container; all others would change the host.
fn set_sysctls(spec: &LaunchSpec<'_>, own_network: bool) -> Result<(), Failure> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    const UTS: [&str; 2] = ["kernel.domainname", "kernel.hostname"];
    let (ipc, uts) = (&spec.namespaces.ipc, &spec.namespaces.uts);
    let is_host = |namespace: &Namespace| matches!(namespace, Namespace::Host);
    for (name, value) in &spec.sysctls {
        let own = (!is_host(ipc)
            && (IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.")))
            || (!is_host(uts) && UTS.contains(&name.as_str()))
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
