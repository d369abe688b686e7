//! A launch in two steps: [`prepare`], then [`Created::start`].
//!
//! Between them the caller gives the container its network from outside; the child builds its mounts meanwhile, and
//! waits. Nothing of the image runs before `start`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked};
use crate::namespaces::{UserNs, Users};
use crate::reap::{self, Exit};
use crate::rootfs::IdMapped;
use crate::spec::LaunchSpec;

mod between;
pub(crate) mod child;
pub(crate) mod console;
mod inside;
pub(crate) mod process;

pub use inside::Inside;

/// Clones the container's first process. `in_child_netns` runs in it after [`Created::start`], inside its network
/// namespace and still with the host's files in view: the place for addresses and routes. Its error text ends the
/// launch with [`Step::Network`].
///
/// # Errors
/// When the process cannot be made. What goes wrong inside it comes from [`Created::start`].
pub fn prepare(
    spec: &LaunchSpec<'_>,
    in_child_netns: &dyn Fn() -> Result<(), String>,
) -> Result<Created, Failure> {
    prepare_with(spec, &inside::Network(in_child_netns))
}

/// The same with more to do inside: see [`Inside`].
///
/// # Errors
/// When the process cannot be made. What goes wrong inside it comes from [`Created::start`].
pub fn prepare_with(spec: &LaunchSpec<'_>, inside: &dyn Inside) -> Result<Created, Failure> {
    let (go_read, go_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, &spec.id)?;
    let (status_read, status_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, &spec.id)?;

    // A new user namespace has no users until they are mapped from outside.
    let (mapped_read, mapped_write) = match spec.namespaces.user {
        UserNs::New { .. } => pipe2(OFlag::O_CLOEXEC)
            .map(|(read, write)| (Some(read), Some(write)))
            .at(Step::Pipe, &spec.id)?,
        UserNs::Host | UserNs::Join(_) | UserNs::Range(_) => (None, None),
    };

    let id_mapped = IdMapped::prepare(spec)?;
    let users = Users::prepare(spec)?;
    let made = child::Made {
        id_mapped: &id_mapped,
        users: users.as_ref(),
    };
    let forked = if spec.namespaces.need_a_go_between() {
        let mut keep = child::descriptors(spec, inside, &made);
        keep.extend([go_read.as_raw_fd(), status_write.as_raw_fd()]);
        keep.extend(mapped_read.as_ref().map(AsRawFd::as_raw_fd));
        between::clone_process(spec, keep)?
    } else {
        let flags = spec.namespaces.clone_flags(&spec.netns);
        let cgroup = spec.cgroup.clone_target();
        kernel::clone_process(flags as u64, cgroup.as_ref().map(AsFd::as_fd))
            .at(Step::Clone, &spec.id)?
    };
    match forked {
        Forked::Child { in_cgroup } => {
            let pipes = child::Pipes {
                go: go_read,
                status: status_write,
                mapped: mapped_read,
            };
            child::main(spec, inside, &made, pipes, in_cgroup)
        }
        Forked::Parent { pid, pidfd } => {
            let pidfd = kernel::or_open_pidfd(pidfd, pid).at(Step::Clone, "pidfd")?;
            if let Some(mapped) = mapped_write {
                let told = spec
                    .namespaces
                    .user
                    .write_maps(pid)
                    .and_then(|()| File::from(mapped).write_all(&[1]).at(Step::Pipe, "maps"));
                if let Err(failure) = told {
                    kill_and_reap(pid, &pidfd);
                    return Err(failure);
                }
            }
            Ok(Created {
                pid,
                pidfd,
                go: go_write,
                status: File::from(status_read),
                network: users.and_then(Users::into_network),
            })
        }
    }
}

/// A container whose first process waits. Dropping it lets that process end by itself; it must still be reaped.
#[derive(Debug)]
pub struct Created {
    pid: i32,
    pidfd: OwnedFd,
    go: OwnedFd,
    status: File,
    /// One that the child may not have joined yet.
    network: Option<OwnedFd>,
}

impl Created {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The container's network namespace, to move links into, or for others to join. With [`NetNs::Join`] it may still be
    /// the caller's own: use the descriptor that was joined.
    ///
    /// # Errors
    /// When the process has died.
    pub fn netns(&self) -> std::io::Result<OwnedFd> {
        if let Some(network) = &self.network {
            return network.try_clone();
        }
        File::open(format!("/proc/{}/ns/net", self.pid)).map(OwnedFd::from)
    }

    /// Lets the program run and waits until it does: a few milliseconds.
    ///
    /// # Errors
    /// The step that failed in the child, which is reaped by then.
    pub fn start(self) -> Result<Running, Failure> {
        self.release()?.finish()
    }

    /// The first half of [`start`](Created::start), for a caller that has other things to do meanwhile: the descriptor of
    /// [`Starting`] becomes readable when [`Starting::finish`] will not block.
    ///
    /// # Errors
    /// When the child cannot be told; it is killed and reaped.
    pub fn release(self) -> Result<Starting, Failure> {
        let Created {
            pid,
            pidfd,
            go,
            status,
            ..
        } = self;
        match File::from(go).write_all(&[1]) {
            // It failed before, and its report lies in the pipe.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                kill_and_reap(pid, &pidfd);
                Err(error).at(Step::Pipe, "start")
            }
            _ => Ok(Starting { pid, pidfd, status }),
        }
    }

    /// Ends a container that is not to start after all, for example because its network could not be made.
    pub fn kill_and_reap(self) -> Option<Exit> {
        kill_and_reap(self.pid, &self.pidfd)
    }
}

/// A container on its way to execve.
#[derive(Debug)]
pub struct Starting {
    pid: i32,
    pidfd: OwnedFd,
    status: File,
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }
}

impl Starting {
    /// Ends a container that is not to run after all; some of its program may have run.
    pub fn kill_and_reap(self) -> Option<Exit> {
        kill_and_reap(self.pid, &self.pidfd)
    }

    /// Waits for the program to run. A child that was killed on the way (out of memory, say) reports nothing and counts
    /// as started: its exit tells.
    ///
    /// # Errors
    /// The step that failed in the child, which is reaped by then.
    pub fn finish(self) -> Result<Running, Failure> {
        let Starting { pid, pidfd, status } = self;
        match read_status(status) {
            Ok(()) => Ok(Running { pid, pidfd }),
            Err(failure) => {
                kill_and_reap(pid, &pidfd);
                Err(failure)
            }
        }
    }
}

/// A container whose program runs. Its exit comes from [`crate::reap`].
#[derive(Debug)]
pub struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Running {
    /// # Errors
    /// ESRCH when it has ended.
    pub fn signal(&self, signal: i32) -> std::io::Result<()> {
        Ok(kernel::pidfd_signal(self.pidfd.as_fd(), signal)?)
    }
}

/// Tells whoever reads with [`read_report`] what went wrong.
///
/// # Errors
/// When nobody reads any more.
pub fn report(mut to: impl Write, failure: &Failure) -> std::io::Result<()> {
    to.write_all(&failure.encode())
}

/// Reads a report that [`Inside::before_program`] has directed elsewhere, up to the end of the stream.
///
/// # Errors
/// What the report says, or that it could not be read.
pub fn read_report(from: OwnedFd) -> Result<(), Failure> {
    read_status(File::from(from))
}

/// A report from the child, or nothing once execve (or death) has closed its end.
pub(crate) fn read_status(mut status: File) -> Result<(), Failure> {
    let mut report = Vec::new();
    status.read_to_end(&mut report).at(Step::Pipe, "status")?;
    said(&report)
}

/// What it said in all.
pub(crate) fn said(report: &[u8]) -> Result<(), Failure> {
    if report.is_empty() {
        Ok(())
    } else {
        Err(Failure::decode(report))
    }
}

pub(crate) fn kill_and_reap(pid: i32, pidfd: &OwnedFd) -> Option<Exit> {
    // ESRCH: it is dead already, and waits to be reaped.
    if kernel::pidfd_signal(pidfd.as_fd(), libc::SIGKILL).is_err_and(|errno| errno != Errno::ESRCH)
    {
        // Nobody else reaps it, so that the number is its own: a wait without a signal would be for ever.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    reap::wait(pid)
}

/// The life of a child that shares the parent's memory image: `setup` is what may fail and is reported, after it the
/// parent is told by the closing pipe, and `body` gives the exit code. Ends without touching what is the parent's.
pub(crate) fn child_process<T>(
    status: OwnedFd,
    setup: impl FnOnce() -> Result<T, Failure>,
    body: impl FnOnce(T) -> i32,
) -> ! {
    let ready = catch_unwind(AssertUnwindSafe(setup))
        .unwrap_or_else(|_| Err(Failure::refused(Step::Panic, "see standard error")));
    match ready {
        Ok(ready) => {
            drop(status);
            kernel::exit_now(catch_unwind(AssertUnwindSafe(|| body(ready))).unwrap_or(CHILD_FAILED))
        }
        Err(failure) => {
            // Nobody is left to tell when this fails.
            let _ = File::from(status).write_all(&failure.encode());
            kernel::exit_now(CHILD_FAILED)
        }
    }
}

/// Exit code of a child that could not do its work, or panicked.
pub(crate) const CHILD_FAILED: i32 = 125;
