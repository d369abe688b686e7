//! A user namespace that a container enters last.
//!
//! Everything is built by the caller's root, as for a container without one: overlay's own attributes, device nodes and
//! the /sys of somebody else's network are not for the root of another user namespace. What is the container's gets its
//! owners by three means: files that are made meanwhile are made as the container's root; layers and volumes are id-mapped
//! mounts, so that the ids of inside are those on disk, whatever the range; and the last step before the program is to
//! enter the namespace.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::pipe2;

use super::{IdMap, UserNs, become_root};
use crate::failure::{At, Failure, Step};
use crate::kernel::{self, Forked, confine, mounts};
use crate::launch::child::join_namespace;
use crate::launch::kill_and_reap;
use crate::spec::{LaunchSpec, NetNs, View};

/// `count` users and as many groups: 0 and following inside are `first` and following outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub first: u32,
    pub count: u32,
}

impl IdRange {
    fn namespace(self) -> UserNs {
        let map = IdMap {
            inside: 0,
            outside: self.first,
            size: self.count,
        };
        UserNs::New {
            uids: vec![map],
            gids: vec![map],
        }
    }

    /// What an id of inside is outside.
    pub fn outside(self, inside: u32) -> Option<u32> {
        (inside < self.count).then(|| self.first + inside)
    }
}

/// The namespace of a launch with [`UserNs::Range`].
#[derive(Debug)]
pub(crate) struct Users {
    range: IdRange,
    namespace: OwnedFd,
    /// One that belongs to the namespace: its root has the rights to it that its capabilities name.
    network: Option<OwnedFd>,
    _maker: Maker,
}

impl Users {
    /// In the process that launches; None when the container has another kind of users.
    pub(crate) fn prepare(spec: &LaunchSpec<'_>) -> Result<Option<Users>, Failure> {
        let UserNs::Range(range) = spec.namespaces.user else {
            return Ok(None);
        };
        // What belongs to whom in a list is its author's to say; and mounts that are made on the way could be seen outside.
        if matches!(spec.view, View::Listed(_)) {
            let text = "a range of ids is for containers whose mounts are not listed";
            return Err(Failure::refused(Step::IdMap, text));
        }
        Users::make(range, matches!(spec.netns, NetNs::New)).map(Some)
    }

    pub(crate) fn make(range: IdRange, with_network: bool) -> Result<Users, Failure> {
        // The highest number means nobody (chown(2)).
        if range.count == 0 || range.first.checked_add(range.count).is_none() {
            let text = format!("{} ids from {} on are no range", range.count, range.first);
            return Err(Failure::refused(Step::IdMap, text));
        }
        let (namespace, network, maker) = uninhabited(&range.namespace(), with_network)?;
        Ok(Users {
            range,
            namespace,
            network,
            _maker: maker,
        })
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let network = self.network.as_ref().map(AsRawFd::as_raw_fd);
        [self.namespace.as_raw_fd()].into_iter().chain(network)
    }

    /// For the caller of the launch, which is not to wait until the child has joined it.
    pub(crate) fn into_network(self) -> Option<OwnedFd> {
        self.network
    }

    /// The first process's part, before it builds anything.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        if let Some(network) = &self.network {
            join_namespace(network, CloneFlags::CLONE_NEWNET).at(Step::Namespace, "network")?;
        }
        let root = self.range.first;
        confine::make_files_as(root, root).at(Step::User, "owner of what is made")
    }

    /// A tree in nobody's namespace whose files belong on disk to the ids of inside. `path` is for messages.
    pub(crate) fn map(&self, folder: &impl AsFd, path: &Path) -> Result<OwnedFd, Failure> {
        let tree = mounts::clone_tree(folder.as_fd()).at(Step::IdMap, path)?;
        map_owners(&tree, &self.namespace, false, path)?;
        Ok(tree)
    }

    /// What an id of inside is outside.
    pub(crate) fn outside(&self, inside: u32) -> Result<u32, Failure> {
        let text = || format!("id {inside} is not among {}", self.range.count);
        let outside = self.range.outside(inside);
        outside.ok_or_else(|| Failure::refused(Step::IdMap, text()))
    }

    /// The last part: from here on the process has no rights outside.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        join_namespace(&self.namespace, CloneFlags::CLONE_NEWUSER).at(Step::Namespace, "user")?;
        become_root()?;
        // The one from before is the caller's root's.
        kernel::new_session_keyring().at(Step::Keyring, "")
    }
}

/// The owners in such a tree become those of a user namespace.
pub(crate) fn map_owners(
    tree: &OwnedFd,
    users: &OwnedFd,
    below: bool,
    path: &Path,
) -> Result<(), Failure> {
    match mounts::map_owners(tree.as_fd(), users.as_fd(), below) {
        // What the kernel says of a file system that has not learnt it.
        Err(Errno::EINVAL) => Err(Failure::refused(
            Step::IdMap,
            format!(
                "the file system of {} cannot show other owners (id-mapped mounts)",
                path.display()
            ),
        )),
        other => other.at(Step::IdMap, path),
    }
}

/// The process that made a namespace, and ends. Dropping this waits for its end, which takes as long as the launch's next steps:
/// a copy of the caller is taken down.
#[derive(Debug)]
pub(crate) struct Maker {
    pid: i32,
    pidfd: OwnedFd,
}

impl Drop for Maker {
    fn drop(&mut self) {
        kill_and_reap(self.pid, &self.pidfd);
    }
}

/// A namespace with these maps that nobody lives in, and perhaps a network that belongs to it.
pub(crate) fn uninhabited(
    users: &UserNs,
    with_network: bool,
) -> Result<(OwnedFd, Option<OwnedFd>, Maker), Failure> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at(Step::Pipe, "user namespace")?;
    let network = if with_network { libc::CLONE_NEWNET } else { 0 };
    let flags = (libc::CLONE_NEWUSER | network) as u64;
    match kernel::clone_process(flags, None).at(Step::Clone, "user namespace")? {
        Forked::Child { .. } => {
            drop(write);
            // Until it is killed, or its parent is gone.
            let _ = File::from(read).read(&mut [0]);
            kernel::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let pidfd = kernel::or_open_pidfd(pidfd, pid).at(Step::Clone, "pidfd")?;
            let maker = Maker { pid, pidfd };
            let open = |name: &str| {
                let path = format!("/proc/{pid}/ns/{name}");
                File::open(&path)
                    .map(OwnedFd::from)
                    .at(Step::Namespace, &path)
            };
            users.write_maps(pid)?;
            let network = with_network.then(|| open("net")).transpose()?;
            let users = open("user")?;
            // Not waited for yet. One that cannot be told ends by the end of the pipe.
            let _ = kernel::pidfd_signal(maker.pidfd.as_fd(), libc::SIGKILL);
            Ok((users, network, maker))
        }
    }
}
