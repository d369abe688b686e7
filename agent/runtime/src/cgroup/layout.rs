//! Where this machine keeps its cgroups.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// The controllers that a container uses, by their v1 names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Blkio,
    Devices,
    Freezer,
    Pids,
    Hugetlb,
    NetCls,
    NetPrio,
}

impl Controller {
    const ALL: [Controller; 11] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Blkio,
        Controller::Devices,
        Controller::Freezer,
        Controller::Pids,
        Controller::Hugetlb,
        Controller::NetCls,
        Controller::NetPrio,
    ];

    /// By its v1 name.
    pub fn from_name(name: &str) -> Option<Controller> {
        Self::ALL.into_iter().find(|known| known.v1_name() == name)
    }

    pub(crate) fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Blkio => "blkio",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Pids => "pids",
            Controller::Hugetlb => "hugetlb",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
        }
    }
}

/// One mounted v1 hierarchy; several controllers may share it (`cpu,cpuacct`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    pub(crate) controllers: Vec<Controller>,
}

/// For some hundred mounts at once: the kernel looks for the place where it was anew at each read, and std, which knows
/// no size of the file, would begin with 32 bytes (and [`Read::take`] keeps it from asking for one).
const MOUNTINFO_ROOM: usize = 32 << 10;

/// Which cgroups this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Also the hybrid one, whose bare v2 tree holds nothing that limits a container.
    V1(Vec<Hierarchy>),
    V2(PathBuf),
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) layout: Layout,
    /// Beside v1's hierarchies: those without a controller, in which systemd looks for its units' processes. The named one,
    /// and on a hybrid machine the bare v2 tree.
    pub(super) followed: Vec<Hierarchy>,
}

impl Layout {
    pub(super) fn detect() -> Result<Mounted, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let mut text = String::with_capacity(MOUNTINFO_ROOM);
        File::open(path)
            .and_then(|file| file.take(u64::MAX).read_to_string(&mut text))
            .map_err(|source| CgroupError::Io {
                path: path.into(),
                source,
            })?;
        Mounted::parse(&text).ok_or(CgroupError::NotMounted)
    }
}

impl Mounted {
    /// From the text of mountinfo (proc_pid_mountinfo(5)): v1 where any controller of ours is mounted, else v2.
    fn parse(mountinfo: &str) -> Option<Mounted> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        let mut named = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(mount)) = (left.next(), left.next()) else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            // A mount of a part of the tree is somebody's container, seen from outside.
            if root != "/" {
                continue;
            }
            match kind {
                Some("cgroup2") if unified.is_none() => unified = Some(PathBuf::from(mount)),
                Some("cgroup") if options.split(',').any(|option| option == "name=systemd") => {
                    named.get_or_insert(PathBuf::from(mount));
                }
                Some("cgroup") => {
                    let controllers: Vec<Controller> = Controller::ALL
                        .into_iter()
                        .filter(|controller| {
                            options
                                .split(',')
                                .any(|option| option == controller.v1_name())
                        })
                        .collect();
                    let known = hierarchies
                        .iter()
                        .any(|hierarchy| hierarchy.controllers == controllers);
                    if !controllers.is_empty() && !known {
                        hierarchies.push(Hierarchy {
                            mount: mount.into(),
                            controllers,
                        });
                    }
                }
                _ => {}
            }
        }
        if hierarchies.is_empty() {
            return Some(Mounted {
                layout: Layout::V2(unified?),
                followed: Vec::new(),
            });
        }
        let bare = |mount| Hierarchy {
            mount,
            controllers: Vec::new(),
        };
        Some(Mounted {
            layout: Layout::V1(hierarchies),
            followed: named.into_iter().chain(unified).map(bare).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 30 0:28 /x /mnt/container/memory rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_counts_as_v1_with_what_is_there() {
        let mounted = Mounted::parse(HYBRID).unwrap();
        let expected = Layout::V1(vec![
            Hierarchy {
                mount: "/sys/fs/cgroup/cpu,cpuacct".into(),
                controllers: vec![Controller::Cpu, Controller::Cpuacct],
            },
            Hierarchy {
                mount: "/sys/fs/cgroup/memory".into(),
                controllers: vec![Controller::Memory],
            },
        ]);
        assert_eq!(mounted.layout, expected);
        let followed =
            ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"].map(|mount| Hierarchy {
                mount: mount.into(),
                controllers: Vec::new(),
            });
        assert_eq!(mounted.followed, followed);
    }

    #[test]
    fn a_lone_cgroup2_is_v2() {
        let text = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let mounted = Mounted::parse(text).unwrap();
        assert_eq!(mounted.layout, Layout::V2("/sys/fs/cgroup".into()));
        assert_eq!(mounted.followed, []);
    }

    #[test]
    fn no_cgroups_at_all_is_none() {
        assert_eq!(
            Mounted::parse("20 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n"),
            None
        );
    }
}
