//! Which namespaces a container has of its own, shares, or joins; and the id maps of a user namespace.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::fstat;

use crate::failure::{At, Failure, Step};
use crate::kernel::confine;
use crate::launch::child::join_namespace;
use crate::rootfs::write_proc;
use crate::spec::NetNs;

mod trial;
mod users;

pub use trial::try_range;
pub use users::IdRange;
pub(crate) use users::{Users, map_owners, uninhabited};

/// One kind of namespace.
#[derive(Debug, Default)]
pub enum Namespace {
    #[default]
    New,
    /// The caller's own.
    Host,
    /// Somebody else's, as a `/proc/<pid>/ns/<kind>` descriptor.
    Join(OwnedFd),
}

/// `size` ids from `inside` on are `outside` and following (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    pub inside: u32,
    pub outside: u32,
    pub size: u32,
}

/// The user namespace.
#[derive(Debug, Default)]
pub enum UserNs {
    /// The caller's own: root in the container is root.
    #[default]
    Host,
    New {
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
    },
    Join(OwnedFd),
    /// One with a single range of ids, which the container's first process enters last. Image, writable layer and volumes
    /// keep the ids of inside on disk, by id-mapped mounts (for an overlay Linux 5.19): see [`try_range`].
    /// A new network namespace belongs to it.
    Range(IdRange),
}

/// The time namespace. `New` holds lines of /proc/self/timens_offsets, `<clock> <seconds> <nanoseconds>`.
#[derive(Debug, Default)]
pub enum TimeNs {
    #[default]
    Host,
    New(Vec<String>),
    Join(OwnedFd),
}

/// The mount namespace.
#[derive(Debug, Default)]
pub enum MountNs {
    #[default]
    New,
    Join(OwnedFd),
    /// This one, the caller's own. What the container mounts is made in another all the same, and then kept as a tree in
    /// nobody's namespace: the host never sees it. Needs open_tree (5.2).
    Host(OwnedFd),
}

/// All but the network's, which is [`LaunchSpec::netns`](crate::LaunchSpec).
/// The default is what an app has: everything its own, but for users and clocks.
#[derive(Debug, Default)]
pub struct Namespaces {
    pub pid: Namespace,
    pub uts: Namespace,
    pub ipc: Namespace,
    pub cgroup: Namespace,
    pub mount: MountNs,
    pub user: UserNs,
    pub time: TimeNs,
}

impl Namespaces {
    /// For the clone that makes the container's first process. The cgroup's is made later, by that process.
    pub(crate) fn clone_flags(&self, network: &NetNs) -> i32 {
        let mut flags = match self.mount {
            MountNs::New | MountNs::Host(_) => libc::CLONE_NEWNS,
            MountNs::Join(_) => 0,
        };
        for (namespace, flag) in [
            (&self.pid, libc::CLONE_NEWPID),
            (&self.uts, libc::CLONE_NEWUTS),
            (&self.ipc, libc::CLONE_NEWIPC),
        ] {
            if matches!(namespace, Namespace::New) {
                flags |= flag;
            }
        }
        if matches!(network, NetNs::New) && !matches!(self.user, UserNs::Range(_)) {
            flags |= libc::CLONE_NEWNET;
        }
        if matches!(self.user, UserNs::New { .. }) {
            flags |= libc::CLONE_NEWUSER;
        }
        flags
    }

    /// A process can be in these only from its birth, or must be in them before it makes others.
    pub(crate) fn need_a_go_between(&self) -> bool {
        matches!(self.pid, Namespace::Join(_))
            || matches!(self.user, UserNs::Join(_))
            || !matches!(self.time, TimeNs::Host)
    }

    /// The go-between's part.
    pub(crate) fn enter_for_children(&self) -> Result<(), Failure> {
        match &self.time {
            TimeNs::Host => {}
            TimeNs::New(offsets) => {
                unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME))
                    .at(Step::Namespace, "time")?;
                for line in offsets {
                    write_proc("/proc/self/timens_offsets".as_ref(), line)
                        .at(Step::Namespace, format!("time offset {line}"))?;
                }
            }
            TimeNs::Join(fd) => {
                join_namespace(fd, CloneFlags::from_bits_retain(libc::CLONE_NEWTIME))
                    .at(Step::Namespace, "time")?;
            }
        }
        if let UserNs::Join(fd) = &self.user {
            join_namespace(fd, CloneFlags::CLONE_NEWUSER).at(Step::Namespace, "user")?;
            become_root()?;
        }
        if let Namespace::Join(fd) = &self.pid {
            join_namespace(fd, CloneFlags::CLONE_NEWPID).at(Step::Namespace, "pid")?;
        }
        Ok(())
    }

    /// The first process's part: it is in its cgroup by now, which the kernel takes as the new namespace's top.
    pub(crate) fn settle(&self, network: &NetNs) -> Result<(), Failure> {
        if matches!(self.user, UserNs::New { .. }) {
            become_root()?;
        }
        match &self.cgroup {
            Namespace::New => {
                unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::Namespace, "cgroup")?;
            }
            Namespace::Host => {}
            Namespace::Join(fd) => {
                join_namespace(fd, CloneFlags::CLONE_NEWCGROUP).at(Step::Namespace, "cgroup")?;
            }
        }
        for (namespace, flag, name) in [
            (&self.uts, CloneFlags::CLONE_NEWUTS, "uts"),
            (&self.ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
        ] {
            if let Namespace::Join(fd) = namespace {
                join_namespace(fd, flag).at(Step::Namespace, name)?;
            }
        }
        if let NetNs::Join(fd) = network {
            join_namespace(fd, CloneFlags::CLONE_NEWNET).at(Step::Namespace, "network")?;
        }
        if let MountNs::Join(fd) = &self.mount {
            join_namespace(fd, CloneFlags::CLONE_NEWNS).at(Step::Namespace, "mount")?;
        }
        Ok(())
    }

    /// What must stay open for the two functions above.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let joined = |namespace: &Namespace| match namespace {
            Namespace::Join(fd) => Some(fd.as_raw_fd()),
            _ => None,
        };
        let mut all: Vec<RawFd> = [&self.pid, &self.uts, &self.ipc, &self.cgroup]
            .into_iter()
            .filter_map(joined)
            .collect();
        if let MountNs::Join(fd) | MountNs::Host(fd) = &self.mount {
            all.push(fd.as_raw_fd());
        }
        if let UserNs::Join(fd) = &self.user {
            all.push(fd.as_raw_fd());
        }
        if let TimeNs::Join(fd) = &self.time {
            all.push(fd.as_raw_fd());
        }
        all
    }
}

impl UserNs {
    pub(crate) fn is_host(&self) -> bool {
        matches!(self, UserNs::Host)
    }

    /// From outside, once the process exists.
    pub(crate) fn write_maps(&self, pid: i32) -> Result<(), Failure> {
        let UserNs::New { uids, gids } = self else {
            return Ok(());
        };
        for (file, maps) in [("gid_map", gids), ("uid_map", uids)] {
            let path = format!("/proc/{pid}/{file}");
            let text: String = maps
                .iter()
                .map(|map| format!("{} {} {}\n", map.inside, map.outside, map.size))
                .collect();
            // The kernel takes a map in one write.
            write_proc(path.as_ref(), &text).at(Step::IdMap, &path)?;
        }
        Ok(())
    }
}

/// Root of the user namespace that the process is in.
fn become_root() -> Result<(), Failure> {
    confine::become_user(0, 0, &[]).at(Step::User, "root of the user namespace")
}

/// Whether `namespace` is the one that the calling process is in.
pub(crate) fn is_own(namespace: &impl AsFd, kind: &str) -> bool {
    let own = File::open(format!("/proc/self/ns/{kind}"))
        .ok()
        .and_then(|own| fstat(own).ok());
    let other = fstat(namespace).ok();
    matches!((own, other), (Some(a), Some(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
