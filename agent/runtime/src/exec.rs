//! One more process in a running container: `docker exec`, health probes, hooks.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use crate::capabilities::Capabilities;
use crate::cgroup::Cgroup;
use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked, confine};
use crate::launch::child::{detach_from_supervisor, enter_cgroup, join_namespace, set_oom_score};
use crate::launch::console;
use crate::launch::process::{Process, ends_with};
use crate::launch::{child_process, kill_and_reap, read_status, said};
use crate::namespaces::is_own;
use crate::reap;
use crate::seccomp::SeccompProgram;
use crate::spec::{LaunchSpec, ProcessSettings, Rlimit, Stdio};

/// A process to be, and the container to put it in.
#[derive(Debug)]
pub struct ExecSpec<'a> {
    /// The container's first process, not reaped yet.
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    pub cgroup: &'a Cgroup,
    pub args: Vec<String>,
    /// `KEY=value`
    pub env: Vec<String>,
    /// Must exist.
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub umask: u32,
    pub capabilities: Capabilities,
    pub seccomp: Option<&'a SeccompProgram>,
    pub no_new_privs: bool,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub stdio: Stdio,
}

impl<'a> ExecSpec<'a> {
    /// Everything as the container's own process has it, but for the program and its streams.
    pub fn like(
        spec: &LaunchSpec<'a>,
        pid: i32,
        pidfd: BorrowedFd<'a>,
        args: Vec<String>,
        stdio: Stdio,
    ) -> Self {
        ExecSpec {
            pid,
            pidfd,
            cgroup: spec.cgroup,
            args,
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
            uid: spec.uid,
            gid: spec.gid,
            additional_gids: spec.additional_gids.clone(),
            umask: spec.umask,
            capabilities: spec.capabilities,
            seccomp: spec.seccomp,
            no_new_privs: spec.no_new_privs,
            rlimits: spec.rlimits.clone(),
            oom_score_adj: spec.oom_score_adj,
            stdio,
        }
    }
}

/// A process that runs in the container. It is the caller's child: its exit comes from [`crate::reap`].
#[derive(Debug)]
pub struct Executed {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Enters the container and runs the program; answers once it runs.
///
/// Two clones: the first child joins the namespaces, and a pid namespace takes only children of those who joined, so it
/// clones once more, with CLONE_PARENT, and ends.
///
/// # Errors
/// The step that failed; nothing is left to reap.
pub fn exec_in(spec: &ExecSpec<'_>) -> Result<Executed, Failure> {
    exec_with(spec, &ProcessSettings::default())
}

/// The same with more to say about the process.
///
/// # Errors
/// The step that failed; nothing is left to reap.
pub fn exec_with(spec: &ExecSpec<'_>, settings: &ProcessSettings) -> Result<Executed, Failure> {
    exec_telling(spec, settings, &|_| Vec::new())
}

/// The same with a text beside the descriptor that [`ProcessSettings::seccomp_listener`] is sent, made from the new process's
/// number.
///
/// # Errors
/// The step that failed; nothing is left to reap.
pub fn exec_telling(
    spec: &ExecSpec<'_>,
    settings: &ProcessSettings,
    message: &dyn Fn(i32) -> Vec<u8>,
) -> Result<Executed, Failure> {
    let (status_read, status_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, "exec")?;
    let (pid_read, pid_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, "exec")?;
    let keeper = settings.kept.map(|_| status_write.try_clone());
    let keeper = keeper.transpose().at(Step::Pipe, "exec")?;
    let until = settings.kept.map(|most| Instant::now() + most);
    let comes = |pipe: BorrowedFd<'_>| {
        until.is_none_or(|until| {
            let left = until.saturating_duration_since(Instant::now());
            kernel::comes(pipe, libc::POLLIN, left)
        })
    };
    let go_between = match kernel::clone_process(0, None).at(Step::Clone, "exec")? {
        Forked::Child { .. } => {
            let status_number = status_write.as_raw_fd();
            child_process(
                status_write,
                || go_between(spec, settings, message, pid_write, (status_number, keeper)),
                |code| code,
            )
        }
        Forked::Parent { pid, .. } => pid,
    };
    drop((status_write, pid_write, keeper));

    let mut number = [0; 4];
    if !comes(pid_read.as_fd()) {
        return Err(given_up(go_between, settings));
    }
    let told = File::from(pid_read).read_exact(&mut number);
    let mut status = File::from(status_read);
    let mut report = Vec::new();
    // To its end: one that could say why it fails can be held up behind the last word as well.
    while told.is_ok() {
        if !comes(status.as_fd()) {
            return Err(given_up(i32::from_le_bytes(number), settings));
        }
        let mut piece = [0; 256];
        match status.read(&mut piece) {
            Ok(count @ 1..) => report.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    reap::wait(go_between);
    let status = match told.is_ok() {
        true => said(&report),
        false => read_status(status),
    };
    if told.is_err() {
        // It failed before there was a second child.
        return Err(status
            .err()
            .unwrap_or_else(|| Failure::refused(Step::Clone, "the go-between died")));
    }
    let pid = i32::from_le_bytes(number);
    // Not reaped by anybody yet, so the number is still its own.
    let pidfd = kernel::pidfd_open(pid).at(Step::Clone, "pidfd")?;
    if let Err(failure) = status {
        kill_and_reap(pid, &pidfd);
        return Err(failure);
    }
    Ok(Executed { pid, pidfd })
}

/// Without a wait for its end, which may be long in coming where its cgroup is frozen.
fn given_up(pid: i32, settings: &ProcessSettings) -> Failure {
    // Not reaped by anybody yet, so the number is still its own.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    let most = settings.kept.unwrap_or_default();
    Failure::refused(
        Step::Clone,
        format!("its app held it up for {most:?} before the program was executed"),
    )
}

fn go_between(
    spec: &ExecSpec<'_>,
    settings: &ProcessSettings,
    message: &dyn Fn(i32) -> Vec<u8>,
    pid_write: OwnedFd,
    (status, keeper): (i32, Option<OwnedFd>),
) -> Result<i32, Failure> {
    let mut process = Process {
        args: &spec.args,
        init: false,
        env: &spec.env,
        cwd: &spec.cwd,
        uid: spec.uid,
        gid: spec.gid,
        additional_gids: &spec.additional_gids,
        umask: spec.umask,
        capabilities: spec.capabilities,
        seccomp: spec.seccomp,
        no_new_privs: spec.no_new_privs,
        rlimits: &spec.rlimits,
        stdio: &spec.stdio,
        settings,
        terminal: None,
        listener_message: Vec::new(),
        labels: Vec::new(),
        listing: None,
        users: None,
        keeper,
    };
    let mut keep = process.descriptors();
    keep.extend([spec.pidfd.as_raw_fd(), pid_write.as_raw_fd(), status]);
    keep.extend(process.keeper.as_ref().map(AsRawFd::as_raw_fd));
    detach_from_supervisor(keep)?;
    ends_with(process.keeper.as_ref())?;
    enter_cgroup(spec.cgroup)?;
    set_oom_score(spec.oom_score_adj)?;
    let proc = process.proc_of_host()?;
    join_namespaces(spec)?;

    // A process in a pid namespace does not know the number that it has outside.
    let number = match &settings.seccomp_listener {
        Some(_) => Some(pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, "exec")?),
        None => None,
    };
    match kernel::clone_process(libc::CLONE_PARENT as u64, None).at(Step::Clone, "exec")? {
        Forked::Child { .. } => {
            drop(pid_write);
            // For as long as it is root; what its program is in the end says so again.
            ends_with(process.keeper.as_ref())?;
            process.open_own_files(proc)?;
            if let Some((told, write)) = number {
                drop(write);
                let mut pid = [0; 4];
                File::from(told)
                    .read_exact(&mut pid)
                    .at(Step::Pipe, "exec")?;
                process.listener_message = message(i32::from_le_bytes(pid));
            }
            // Of the caller's keys none come along.
            kernel::new_session_keyring().at(Step::Keyring, "")?;
            if let Some(wanted) = &settings.console {
                process.terminal = Some(console::make_in_own_root(wanted)?);
            }
            process.connect()?;
            process.execute()
        }
        Forked::Parent { pid, .. } => {
            for to in [Some(pid_write), number.map(|(_, write)| write)] {
                let Some(to) = to else { continue };
                File::from(to)
                    .write_all(&pid.to_le_bytes())
                    .at(Step::Pipe, "exec")?;
            }
            Ok(0)
        }
    }
}

/// The user namespace first, which gives the rights to join the others of its own; the mount namespace last, since it
/// takes the host's /proc away.
const NAMESPACES: [(&str, CloneFlags); 8] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

fn join_namespaces(spec: &ExecSpec<'_>) -> Result<(), Failure> {
    let mut wanted = Vec::with_capacity(NAMESPACES.len());
    for (name, flag) in NAMESPACES {
        // Its own user namespace nobody may join anew, and some kernels have none, or none of time. Every other doubt ends it: a
        // container that is short of memory must not get a process that is root outside.
        let may_lack = matches!(name, "user" | "time");
        let own = format!("/proc/self/ns/{name}");
        if may_lack && !Path::new(&own).try_exists().at(Step::Namespace, &own)? {
            continue;
        }
        let path = format!("/proc/{}/ns/{name}", spec.pid);
        let namespace = File::open(&path).at(Step::Namespace, &path)?;
        if !may_lack || !is_own(&namespace, name) {
            wanted.push((path, flag, namespace));
        }
    }
    // Whoever reaps the process may have done so meanwhile, and its number may be another's. If it is still there, they are its.
    match kernel::pidfd_signal(spec.pidfd, 0) {
        // It is there, and may not be signalled.
        Ok(()) | Err(Errno::EPERM) => {}
        // It is no folder, where the kernel is kept from taking the other kind: that says its end.
        Err(Errno::ENOTDIR) if !kernel::comes(spec.pidfd, libc::POLLIN, Duration::ZERO) => {}
        gone => gone.at(Step::Namespace, format!("of process {}", spec.pid))?,
    }
    let all = wanted
        .iter()
        .fold(CloneFlags::empty(), |all, (_, flag, _)| all | *flag);
    match join_namespace(spec.pidfd.as_fd(), all) {
        // Before 5.8 setns takes no pidfd.
        Err(Errno::EINVAL | Errno::EBADF) => {
            for (path, flag, namespace) in wanted {
                join_namespace(namespace, flag).at(Step::Namespace, path)?;
            }
        }
        other => other.at(Step::Namespace, format!("of process {}", spec.pid))?,
    }
    if all.contains(CloneFlags::CLONE_NEWUSER) {
        confine::become_user(0, 0, &[]).at(Step::User, "root of the user namespace")?;
    }
    Ok(())
}
