//! One container: namespaces, cgroups, seccomp, launch.
//!
//! A library for a **single-threaded** supervisor. [`prepare`] clones the container's first process, which sets up
//! its own world in ordinary Rust and then waits; the caller gives it a network from outside; [`Created::start`]
//! lets it execute the image's program. No helper program is executed on the way, which is what makes it quick, and
//! also why a second thread in the calling process is forbidden: a lock that it held at the moment of the clone
//! would stay locked in the child for ever.
//!
//! | Room | What is in it |
//! |---|---|
//! | [`spec`] | what a container is: plain data |
//! | [`namespaces`] | which of them a container has of its own, shares or joins; id maps |
//! | [`launch`] | the two steps, and the child's path from clone to execve |
//! | `rootfs` | the mounts a container sees, built so that a hostile image cannot reach out |
//! | `init` | a small process 1, for programs that are not made to be it |
//! | [`cgroup`] | limits, figures and killing, the same over cgroup v1 and v2 |
//! | [`disk`] | folders that cannot grow past a limit of bytes and inodes |
//! | [`capabilities`], [`seccomp`] | what a process may ask of the kernel |
//! | [`exec`] | one more process in a running container |
//! | [`jail`] | a locked-down child of the supervisor that runs a closure |
//! | [`reap`] | exits of all of these |
//! | [`sealed`] | the calling program, where no container can overwrite it |
//! | `kernel` | the system calls that neither std nor nix wrap: the only `unsafe` in the crate |

pub mod capabilities;
pub mod cgroup;
pub mod disk;
pub mod exec;
mod failure;
mod handle;
mod init;
pub mod jail;
mod kernel;
pub mod launch;
pub mod namespaces;
pub mod reap;
mod rootfs;
pub mod sealed;
pub mod seccomp;
pub mod spec;

pub use capabilities::{Capabilities, Capability};
pub use cgroup::{Cgroup, CgroupTree, Limits};
pub use disk::{DiskLimit, DiskUse, Means, Place};
pub use exec::{ExecSpec, Executed, exec_in, exec_telling, exec_with};
pub use failure::{Failure, Step};
pub use handle::ProcessHandle;
pub use jail::{Child, JailSpec, spawn_jailed, spawn_plain};
pub use launch::{Created, Inside, Starting, prepare, prepare_with};
pub use reap::{Exit, reap_all};
pub use rootfs::{make_mount_points, path_inside};
pub use seccomp::SeccompProgram;
pub use spec::{LaunchSpec, Mount, NetNs, Rootfs, Stdio};
