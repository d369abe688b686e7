//! Namespaces and id maps.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use coracle_runtime::NetNs;
use coracle_runtime::namespaces::{IdMap, MountNs, Namespace, Namespaces, TimeNs, UserNs};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType as Kind};

use crate::failure::{Failure, OnPath};

/// What the list says of one kind.
enum Wanted {
    Nothing,
    New,
    Join(OwnedFd),
}

pub fn plan(linux: &Linux) -> Result<(NetNs, Namespaces), Failure> {
    let mount = match find(linux, Kind::Mount)? {
        Wanted::New => MountNs::New,
        Wanted::Nothing => MountNs::Host(own_mounts()?),
        Wanted::Join(fd) if is_own(&fd) => MountNs::Host(fd),
        Wanted::Join(fd) => MountNs::Join(fd),
    };
    let network = match find(linux, Kind::Network)? {
        Wanted::Nothing => NetNs::Host,
        Wanted::New => NetNs::New,
        Wanted::Join(fd) => NetNs::Join(fd),
    };
    let namespaces = Namespaces {
        pid: plain(linux, Kind::Pid)?,
        uts: plain(linux, Kind::Uts)?,
        ipc: plain(linux, Kind::Ipc)?,
        cgroup: plain(linux, Kind::Cgroup)?,
        mount,
        user: users(linux)?,
        time: time(linux)?,
    };
    Ok((network, namespaces))
}

fn find(linux: &Linux, kind: Kind) -> Result<Wanted, Failure> {
    let mut of_kind = linux
        .namespaces()
        .iter()
        .flatten()
        .filter(|one| one.typ() == kind);
    let Some(one) = of_kind.next() else {
        return Ok(Wanted::Nothing);
    };
    if of_kind.next().is_some() {
        return Err(Failure::Config(format!("two {kind:?} namespaces")));
    }
    let Some(path) = one
        .path()
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty())
    else {
        return Ok(Wanted::New);
    };
    if !path.is_absolute() {
        return Err(Failure::Config(format!(
            "namespace {} is not absolute",
            path.display()
        )));
    }
    let file = File::open(path).on(path)?;
    if !is_namespace(&file) {
        return Err(Failure::Config(format!(
            "{} is no namespace",
            path.display()
        )));
    }
    Ok(Wanted::Join(file.into()))
}

fn own_mounts() -> Result<OwnedFd, Failure> {
    let path = "/proc/self/ns/mnt";
    File::open(path).on(path).map(OwnedFd::from)
}

fn is_own(mount: &OwnedFd) -> bool {
    let inode = |fd: &OwnedFd| {
        nix::sys::stat::fstat(fd)
            .map(|is| (is.st_dev, is.st_ino))
            .ok()
    };
    own_mounts().is_ok_and(|own| inode(&own) == inode(mount))
}

/// On nsfs (linux/magic.h, NSFS_MAGIC).
fn is_namespace(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|is| is.filesystem_type().0 as u64 == 0x6e73_6673)
}

fn plain(linux: &Linux, kind: Kind) -> Result<Namespace, Failure> {
    Ok(match find(linux, kind)? {
        Wanted::Nothing => Namespace::Host,
        Wanted::New => Namespace::New,
        Wanted::Join(fd) => Namespace::Join(fd),
    })
}

pub fn maps(maps: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let map = |map: &LinuxIdMapping| IdMap {
        inside: map.container_id(),
        outside: map.host_id(),
        size: map.size(),
    };
    maps.iter().flatten().map(map).collect()
}

fn users(linux: &Linux) -> Result<UserNs, Failure> {
    let (uids, gids) = (maps(linux.uid_mappings()), maps(linux.gid_mappings()));
    match find(linux, Kind::User)? {
        Wanted::Nothing if uids.is_empty() && gids.is_empty() => Ok(UserNs::Host),
        Wanted::Nothing => Err(Failure::Config(
            "id mappings without a user namespace".into(),
        )),
        Wanted::New if uids.is_empty() || gids.is_empty() => Err(Failure::Config(
            "a user namespace without id mappings".into(),
        )),
        Wanted::New => Ok(UserNs::New { uids, gids }),
        Wanted::Join(fd) => Ok(UserNs::Join(fd)),
    }
}

fn time(linux: &Linux) -> Result<TimeNs, Failure> {
    let offsets: Vec<String> = linux
        .time_offsets()
        .iter()
        .flatten()
        .map(|(clock, offset)| {
            format!(
                "{clock} {} {}",
                offset.secs().unwrap_or(0),
                offset.nanosecs().unwrap_or(0)
            )
        })
        .collect();
    match find(linux, Kind::Time)? {
        Wanted::Nothing if offsets.is_empty() => Ok(TimeNs::Host),
        Wanted::Nothing => Err(Failure::Config(
            "timeOffsets without a time namespace".into(),
        )),
        Wanted::New => Ok(TimeNs::New(offsets)),
        Wanted::Join(fd) => Ok(TimeNs::Join(fd)),
    }
}

/// The host's number of group 0 in a user namespace that is the container's own.
pub fn root_group(linux: &Linux) -> Result<Option<u32>, Failure> {
    Ok(match users(linux)? {
        UserNs::New { gids, .. } => gids
            .iter()
            .find(|map| map.inside == 0)
            .map(|map| map.outside),
        UserNs::Host | UserNs::Join(_) | UserNs::Range(_) => None,
    })
}

/// Whether the container's root is known to its first process only, and not to its mount namespace.
pub fn shares_mounts(linux: &Linux) -> Result<bool, Failure> {
    Ok(match find(linux, Kind::Mount)? {
        Wanted::Nothing => true,
        Wanted::New => false,
        Wanted::Join(fd) => is_own(&fd),
    })
}

/// The host's processes are the container's too: its end is not the end of its first process.
pub fn shares_pids(linux: &Linux) -> bool {
    let own = |one: &oci_spec::runtime::LinuxNamespace| {
        one.typ() == Kind::Pid
            && one
                .path()
                .as_ref()
                .is_none_or(|path| *path == PathBuf::new())
    };
    !linux.namespaces().iter().flatten().any(own)
}
