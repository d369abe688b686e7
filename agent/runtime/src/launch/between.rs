//! A first process by way of another: some namespaces take only the children of those who joined them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::child::{detach_from_supervisor, enter_cgroup};
use super::{child_process, read_status};
use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked};
use crate::reap;
use crate::spec::LaunchSpec;

/// Clones a go-between, which enters what must be entered first, and clones the process itself with CLONE_PARENT.
/// Answers twice, as a clone does; `keep` stay open in the process.
pub(super) fn clone_process(spec: &LaunchSpec<'_>, mut keep: Vec<i32>) -> Result<Forked, Failure> {
    let (status_read, status_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, &spec.id)?;
    let (pid_read, pid_write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, &spec.id)?;
    let go_between = match kernel::clone_process(0, None).at(Step::Clone, &spec.id)? {
        Forked::Child { .. } => {
            keep.extend([status_write.as_raw_fd(), pid_write.as_raw_fd()]);
            // The parent's ends are closed with all the rest, and must not be closed a second time.
            std::mem::forget((status_read, pid_read));
            match enter(spec, keep) {
                Ok(Forked::Child { in_cgroup }) => {
                    drop((pid_write, status_write));
                    return Ok(Forked::Child { in_cgroup });
                }
                Ok(Forked::Parent { pid, .. }) => {
                    child_process(status_write, || tell(pid_write, pid), |code| code)
                }
                Err(failure) => child_process(status_write, || Err::<i32, _>(failure), |code| code),
            }
        }
        Forked::Parent { pid, .. } => pid,
    };
    drop((status_write, pid_write));
    let mut number = [0; 4];
    let told = File::from(pid_read).read_exact(&mut number);
    reap::wait(go_between);
    read_status(File::from(status_read))?;
    told.at(Step::Clone, "the go-between died")?;
    Ok(Forked::Parent {
        pid: i32::from_le_bytes(number),
        pidfd: None,
    })
}

fn enter(spec: &LaunchSpec<'_>, keep: Vec<i32>) -> Result<Forked, Failure> {
    detach_from_supervisor(keep)?;
    // A user of a joined user namespace could not move itself.
    enter_cgroup(spec.cgroup)?;
    spec.namespaces.enter_for_children()?;
    let flags = spec.namespaces.clone_flags(&spec.netns) | libc::CLONE_PARENT;
    match kernel::clone_process(flags as u64, None).at(Step::Clone, &spec.id)? {
        Forked::Child { .. } => Ok(Forked::Child { in_cgroup: true }),
        parent => Ok(parent),
    }
}

fn tell(pid_write: OwnedFd, pid: i32) -> Result<i32, Failure> {
    File::from(pid_write)
        .write_all(&pid.to_le_bytes())
        .at(Step::Pipe, "go-between")?;
    Ok(0)
}
