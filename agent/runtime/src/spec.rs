//! What a container is: plain data, checked where it is used.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::capabilities::Capabilities;
use crate::cgroup::Cgroup;
use crate::namespaces::Namespaces;
use crate::seccomp::SeccompProgram;

mod process;
mod view;

pub use process::{Console, MemoryPolicy, ProcessSettings, Scheduler};
pub use view::{FileSystem, Listed, Origin, Owners, View};

/// Where the container's files come from.
#[derive(Debug, Clone)]
pub enum Rootfs {
    /// Mounted by the child in its own mount namespace; the host never sees it, so nothing has to be unmounted.
    Overlay {
        /// Unpacked layers, topmost first. Up to 500 (the kernel's own limit); they must not change while in use.
        lower: Vec<PathBuf>,
        /// Holds what the container writes. Same file system as `work`.
        upper: PathBuf,
        work: PathBuf,
        /// An existing empty folder to mount on.
        merged: PathBuf,
    },
    /// A folder used as it is.
    Directory(PathBuf),
}

/// Which network the container has.
#[derive(Debug)]
pub enum NetNs {
    /// An empty namespace of its own; the caller puts links into it between prepare and start.
    New,
    Host,
    /// Somebody else's, as a `/proc/<pid>/ns/net` descriptor.
    Join(OwnedFd),
}

/// What is mounted and where.
#[derive(Debug, Clone)]
pub enum MountKind {
    /// A host file or folder, with everything mounted below it.
    Bind { source: PathBuf },
    /// Empty memory-backed folder. It counts against the container's memory.
    Tmpfs { size_bytes: Option<u64>, mode: u32 },
}

/// One user mount. The target is looked up inside the container's root: symlinks of the image are followed there
/// and never lead out. Missing targets are made.
#[derive(Debug, Clone)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute path in the container; not `/` and nothing in /proc.
    pub target: PathBuf,
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    /// Bind mounts of a container with [`UserNs::Range`](crate::namespaces::UserNs::Range): owners on disk are the ids of inside.
    /// Otherwise they are the host's, and the container may do there what it may anywhere on the host. With it mounts
    /// below the source are left out.
    pub owners_of_container: bool,
}

impl Mount {
    /// A volume: set-user-ID bits and device nodes in it have no effect.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> Mount {
        let kind = MountKind::Bind {
            source: source.into(),
        };
        Mount {
            kind,
            target: target.into(),
            read_only,
            nosuid: true,
            nodev: true,
            noexec: false,
            owners_of_container: false,
        }
    }

    /// As `docker run --tmpfs`.
    pub fn tmpfs(target: impl Into<PathBuf>, size_bytes: Option<u64>) -> Mount {
        let kind = MountKind::Tmpfs {
            size_bytes,
            mode: 0o1777,
        };
        Mount {
            kind,
            target: target.into(),
            read_only: false,
            nosuid: true,
            nodev: true,
            noexec: true,
            owners_of_container: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Char,
    Block,
    Fifo,
}

/// A device node for the container's /dev. The node alone opens nothing: `Limits::devices` must allow it as well.
#[derive(Debug, Clone)]
pub struct DeviceNode {
    /// Below /dev, for example `/dev/i2c-1`; anywhere with [`View::Listed`].
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// One resource limit, by the kernel's number (`libc::RLIMIT_NOFILE` and so on).
#[derive(Debug, Clone, Copy)]
pub struct Rlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// The container's standard streams. The launch duplicates them; the caller's copies may be closed afterwards.
#[derive(Debug)]
pub struct Stdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// `stdin` is a terminal, and becomes the controlling one.
    pub terminal: bool,
}

impl Stdio {
    /// All three on /dev/null.
    ///
    /// # Errors
    /// When /dev/null cannot be opened.
    pub fn null() -> std::io::Result<Stdio> {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let stdin = OwnedFd::from(null);
        Ok(Stdio {
            stdout: stdin.try_clone()?,
            stderr: stdin.try_clone()?,
            stdin,
            terminal: false,
        })
    }
}

/// Everything about one container. [`LaunchSpec::new`] gives Docker's defaults.
#[derive(Debug)]
pub struct LaunchSpec<'a> {
    /// Names the container in messages.
    pub id: String,
    pub rootfs: Rootfs,
    /// `args[0]` is looked up in the container's PATH unless it has a slash.
    pub args: Vec<String>,
    /// The program is not process 1: that one passes signals on to it, reaps what is left to it, and ends with its exit code,
    /// 128 + signal when one killed it. It is one process of the container's more.
    pub init: bool,
    /// `KEY=value`
    pub env: Vec<String>,
    /// Made when it is missing.
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub umask: u32,
    /// None keeps the host's name and is right only with `NetNs::Host`.
    pub hostname: Option<String>,
    /// NIS.
    pub domainname: Option<String>,
    /// In this order: a later one may lie below an earlier one.
    pub mounts: Vec<Mount>,
    pub view: View,
    pub devices: Vec<DeviceNode>,
    /// Size of /dev/shm.
    pub shm_size_bytes: u64,
    pub rootfs_readonly: bool,
    pub capabilities: Capabilities,
    /// None runs unconfined.
    pub seccomp: Option<&'a SeccompProgram>,
    /// Hidden behind /dev/null or an empty folder.
    pub masked_paths: Vec<PathBuf>,
    pub readonly_paths: Vec<PathBuf>,
    /// `net.*` names, and the few kernel ones that belong to the IPC namespace.
    pub sysctls: Vec<(String, String)>,
    pub rlimits: Vec<Rlimit>,
    /// None inherits the supervisor's, which is rarely what is wanted.
    pub oom_score_adj: Option<i32>,
    pub cgroup: &'a Cgroup,
    pub netns: NetNs,
    pub namespaces: Namespaces,
    pub stdio: Stdio,
    pub no_new_privs: bool,
    pub settings: ProcessSettings,
}

/// Docker's default masked paths (moby `oci/defaults.go`).
pub const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Docker's default read-only paths (moby `oci/defaults.go`).
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

impl<'a> LaunchSpec<'a> {
    /// Docker's defaults: root with the default capabilities, masked paths, a network namespace of its own, no
    /// standard streams, `no_new_privs` on (Docker's is off), and no seccomp filter until one is given.
    ///
    /// # Errors
    /// When /dev/null cannot be opened.
    pub fn new(
        id: impl Into<String>,
        rootfs: Rootfs,
        cgroup: &'a Cgroup,
    ) -> std::io::Result<LaunchSpec<'a>> {
        let id = id.into();
        Ok(LaunchSpec {
            hostname: Some(id.clone()),
            id,
            rootfs,
            args: vec!["/bin/sh".into()],
            init: false,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cwd: "/".into(),
            uid: 0,
            gid: 0,
            additional_gids: Vec::new(),
            umask: 0o022,
            domainname: None,
            mounts: Vec::new(),
            view: View::default(),
            devices: Vec::new(),
            shm_size_bytes: 64 << 20,
            rootfs_readonly: false,
            capabilities: Capabilities::docker(),
            seccomp: None,
            masked_paths: MASKED_PATHS.iter().map(PathBuf::from).collect(),
            readonly_paths: READONLY_PATHS.iter().map(PathBuf::from).collect(),
            sysctls: Vec::new(),
            rlimits: Vec::new(),
            oom_score_adj: None,
            cgroup,
            netns: NetNs::New,
            namespaces: Namespaces::default(),
            stdio: Stdio::null()?,
            no_new_privs: true,
            settings: ProcessSettings::default(),
        })
    }
}
