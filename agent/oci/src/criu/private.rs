//! A mount namespace for CRIU: it wants the root file system to be a mount, which nobody else is to see, and which is gone
//! with it however it ends.

use std::fs::File;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::failure::{Doing, Failure, OnPath};

/// Runs `body` in a copy of this process's mounts in which `rootfs` is mounted `on` an empty folder. Descriptors and children
/// of `body`'s stay there, this process comes back: hooks are run on the host.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line has one thread and is no part of a runtime"
)]
pub fn with_root<T>(
    rootfs: &Path,
    on: &Path,
    body: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let home = File::open("/proc/self/ns/mnt").doing("the host's mounts")?;
    let here = File::open(".").doing("the working directory")?;
    unshare(CloneFlags::CLONE_NEWNS).doing("a mount namespace for CRIU")?;
    let none = None::<&str>;
    let outcome = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .and_then(|()| {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(rootfs), on, none, flags, none)
        })
        .on(rootfs)
        .and_then(|()| body());
    let back = setns(&home, CloneFlags::CLONE_NEWNS).and_then(|()| nix::unistd::fchdir(&here));
    if back.is_err() {
        // What this process does next is meant for the host.
        std::process::abort();
    }
    outcome
}
