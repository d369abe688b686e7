//! What a container sees of files, where the caller decides each mount.

use std::path::PathBuf;

use nix::mount::MsFlags;

use crate::namespaces::IdMap;

/// Who decides what is mounted.
#[derive(Debug, Default)]
pub enum View {
    /// /proc, /sys, the cgroup and a /dev of ours, as every app expects them; then the user's mounts.
    #[default]
    Standard,
    /// Nothing but what is listed, in this order; then the devices that every container has, unless /dev is a bind mount.
    Listed(Listed),
}

/// A container whose mounts are listed one by one, as the OCI runtime specification has it.
#[derive(Debug)]
pub struct Listed {
    pub file_systems: Vec<FileSystem>,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, perhaps with `MS_REC`; empty is a recursive slave, which
    /// lets later mounts of the host appear in bind mounts that ask for it.
    pub propagation: MsFlags,
}

/// Where the content of one of the [`Listed`] comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A host file or folder.
    Bind { source: PathBuf, recursive: bool },
    /// The container's own cgroup, laid out as on the host.
    Cgroup,
    /// A new instance of a file system type; `source` is its device, or a name that only shows.
    New { kind: String, source: String },
}

/// Who the files of a bind mount belong to, in place of their owners on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// What is root's on disk is the root's of the container's user namespace, and so on.
    OfContainer {
        /// Mounts below it too.
        below: bool,
    },
    /// Owners `inside` are those on disk, `outside` what they become.
    Listed {
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
        below: bool,
    },
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    pub origin: Origin,
    /// In the container. Symlinks of the image are followed inside its root.
    pub target: PathBuf,
    pub flags: MsFlags,
    /// Flags named in the negative (`exec`, `suid`), which take back what a bind mount has from its source.
    pub cleared: MsFlags,
    /// Applied one after another.
    pub propagation: Vec<MsFlags>,
    /// MOUNT_ATTR_* for everything below too (`rro`): set and cleared.
    pub recursive: (u64, u64),
    /// For the file system itself.
    pub data: String,
    /// A tmpfs begins with a copy of what the image has at the target.
    pub copy_up: bool,
    /// Bind mounts only; needs Linux 5.12.
    pub owners: Option<Owners>,
}
