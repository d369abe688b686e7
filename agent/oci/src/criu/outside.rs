//! What of a container lies outside it: bind mounts, cgroups and devices of the host, namespaces that others made, and its
//! standard streams. CRIU dumps none of it, is told names when dumping, and what stands behind the names when restoring.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_runtime::Cgroup;
use coracle_runtime::spec::Origin;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind};

use super::messages::{Inherited, Joined, Mount, Options};
use super::mountinfo::{self, Mounted};
use crate::config::Config;
use crate::failure::{Failure, OnPath};
use crate::plan;
use crate::state::Record;

/// Namespaces that CRIU leaves alone, and their names in its images.
const LEFT_ALONE: [(Kind, &str, &str); 2] = [
    (Kind::Network, "net", "extRootNetNS"),
    (Kind::Pid, "pid", "extRootPidNS"),
];

/// Those that it makes, and then joins others in their place.
const JOINED: [(Kind, &str); 3] = [(Kind::Ipc, "ipc"), (Kind::Uts, "uts"), (Kind::Time, "time")];

/// Nodes that a container in a user namespace has from the host's /dev.
const DEVICES: [&str; 6] = ["/null", "/zero", "/full", "/random", "/urandom", "/tty"];

/// The part of a path that a mount is known by.
fn cgroup_name(hierarchy: &Path) -> String {
    let name = hierarchy.file_name().unwrap_or_default();
    format!("cgroup:{}", name.to_string_lossy())
}

fn device_name(root: &str) -> String {
    format!("dev:{root}")
}

/// Names for what a running container has from outside.
pub fn name(options: &mut Options, config: &Config, record: &Record) -> Result<(), Failure> {
    let pid = record.pid;
    options.ext_mnt = named_mounts(config, pid)?;
    for (kind, word, name) in LEFT_ALONE {
        if let Some(path) = joined(config.linux()?, kind) {
            let inode = std::fs::metadata(path).on(path)?.ino();
            options.external.push(format!("{word}[{inode}]:{name}"));
        }
    }
    for stream in 0..3 {
        options.external.extend(outer_file(pid, stream)?);
    }
    Ok(())
}

/// What stands behind the names now. The descriptors are for CRIU to inherit.
pub fn provide(
    options: &mut Options,
    config: &Config,
    record: &Record,
    cgroup: &Cgroup,
    streams: &[String],
) -> Result<Vec<OwnedFd>, Failure> {
    options.ext_mnt = mounts_behind(config, record, cgroup)?;
    let mut inherited = Vec::new();
    let linux = config.linux()?;
    for (kind, _, name) in LEFT_ALONE {
        if let Some(path) = joined(linux, kind) {
            let namespace = OwnedFd::from(File::open(path).on(path)?);
            options.inherit_fd.push(Inherited {
                key: name.into(),
                fd: namespace.as_raw_fd(),
            });
            inherited.push(namespace);
        }
    }
    for (kind, word) in JOINED {
        if let Some(path) = joined(linux, kind) {
            options.join_ns.push(Joined {
                kind: word.into(),
                file: path.to_string_lossy().into_owned(),
            });
        }
    }
    for (fd, name) in streams.iter().enumerate().take(3) {
        let key = name.strip_prefix("external:").unwrap_or(name);
        if key.starts_with("pipe:[") || key.starts_with("file[") {
            let (key, fd) = (key.to_owned(), fd as i32);
            options.inherit_fd.push(Inherited { key, fd });
        }
    }
    Ok(inherited)
}

/// As they are called in images: pipes by what the kernel calls them, files of the host by their external name.
pub fn streams(record: &Record) -> Result<Vec<String>, Failure> {
    (0..3)
        .map(|stream| match outer_file(record.pid, stream)? {
            Some(file) => Ok(format!("external:{file}")),
            None => Ok(record.streams.get(stream).cloned().unwrap_or_default()),
        })
        .collect()
}

/// A standard stream of the first process that is a file of the host's, as CRIU names it.
fn outer_file(pid: i32, stream: usize) -> Result<Option<String>, Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/fd/{stream}"));
    let Ok(file) = std::fs::metadata(&path) else {
        return Ok(None);
    };
    if !file.is_file() {
        return Ok(None);
    }
    let info = PathBuf::from(format!("/proc/{pid}/fdinfo/{stream}"));
    let text = std::fs::read_to_string(&info).on(&info)?;
    let mount = text
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .and_then(|id| id.trim().parse::<u32>().ok());
    let Some(mount) = mount else { return Ok(None) };
    if mountinfo::of(pid)?.iter().any(|one| one.id == mount) {
        return Ok(None);
    }
    Ok(Some(format!("file[{mount:x}:{:x}]", file.ino())))
}

/// Path of a namespace that the container shares with somebody.
fn joined(linux: &Linux, kind: Kind) -> Option<&Path> {
    linux
        .namespaces()
        .iter()
        .flatten()
        .filter(|one| one.typ() == kind)
        .find_map(|one| one.path().as_deref())
        .filter(|path| !path.as_os_str().is_empty())
}

fn named_mounts(config: &Config, pid: i32) -> Result<Vec<Mount>, Failure> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let folder = open(&root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).on(&root)?;
    let mut binds = Vec::new();
    for one in plan::mounts::plan(&config.spec, &config.bundle)? {
        if let Origin::Bind { source, .. } = one.origin {
            // One that the container has taken away need not be named.
            if let Ok(at) = coracle_runtime::path_inside(folder.as_fd(), &one.target) {
                binds.push((at, one.target, source));
            }
        }
    }
    let outside = mountinfo::of_self()?;
    let mounts = mountinfo::of(pid)?;
    let name = |mount: &Mounted| {
        if let Some((_, target, _)) = binds.iter().find(|(at, ..)| *at == mount.point) {
            return Some(target.to_string_lossy().into_owned());
        }
        for (at, target, source) in &binds {
            let Ok(rest) = mount.point.strip_prefix(at) else {
                continue;
            };
            let from = std::fs::canonicalize(source).ok()?.join(rest);
            if outside.iter().any(|one| one.point == from) {
                return Some(target.join(rest).to_string_lossy().into_owned());
            }
        }
        match mount.kind.as_str() {
            "cgroup" => Some(cgroup_name(&mount.point)),
            "cgroup2" => Some(cgroup_name(Path::new(""))),
            "devtmpfs" => Some(device_name(&mount.root)),
            _ => None,
        }
    };
    let named = mounts.iter().filter_map(|mount| {
        Some(Mount {
            key: mount.point.to_string_lossy().into_owned(),
            value: name(mount)?,
        })
    });
    Ok(named.collect())
}

fn mounts_behind(config: &Config, record: &Record, cgroup: &Cgroup) -> Result<Vec<Mount>, Failure> {
    let mut all = Vec::new();
    let mut add = |key: String, value: &Path| {
        all.push(Mount {
            key,
            value: value.to_string_lossy().into_owned(),
        });
    };
    let outside = mountinfo::of_self()?;
    for one in plan::mounts::plan(&config.spec, &config.bundle)? {
        let Origin::Bind { source, recursive } = &one.origin else {
            continue;
        };
        let source = std::fs::canonicalize(source).on(source)?;
        add(one.target.to_string_lossy().into_owned(), &source);
        let below = outside.iter().filter(|mount| mount.point != source);
        for mount in below.filter(|_| *recursive) {
            if let Ok(rest) = mount.point.strip_prefix(&source) {
                add(
                    one.target.join(rest).to_string_lossy().into_owned(),
                    &mount.point,
                );
            }
        }
    }
    let depth = record.cgroup_parent.components().count() + 1;
    for folder in cgroup.folders() {
        let hierarchy = folder.ancestors().nth(depth).unwrap_or(folder);
        let name = if cgroup.is_unified() {
            cgroup_name(Path::new(""))
        } else {
            cgroup_name(hierarchy)
        };
        add(name, folder);
    }
    let listed = config.linux()?.devices().iter().flatten();
    let listed = listed.filter_map(|device| device.path().to_str()?.strip_prefix("/dev"));
    for root in DEVICES.into_iter().chain(listed) {
        add(device_name(root), Path::new(&format!("/dev{root}")));
    }
    Ok(all)
}
