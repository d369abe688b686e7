//! Finding, making and listing cgroups.

use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};

use super::files::remove_dir;
use super::layout::{Hierarchy, Layout, Mounted};
use super::{Cgroup, CgroupError, Controller, Limits, Place, v1, v2};

/// The machine's cgroups, and our folder in them.
#[derive(Debug, Clone)]
pub struct CgroupTree {
    layout: Layout,
    /// Beside the layout's; see [`CgroupTree::followed`].
    followed: Vec<Hierarchy>,
    parent: PathBuf,
}

impl CgroupTree {
    /// Looks at what is mounted; `parent` is our folder, relative to the top (`coracle`, or what the service manager
    /// delegated). It is made when the first cgroup is.
    ///
    /// # Errors
    /// No cgroups at all, or a parent with `..`.
    pub fn detect(parent: &str) -> Result<CgroupTree, CgroupError> {
        Ok(CgroupTree::of(Layout::detect()?, checked_parent(parent)?))
    }

    /// The same with cgroups straight at the top, or in a folder that somebody else names and keeps.
    ///
    /// # Errors
    /// No cgroups at all, or a parent with `..`.
    pub fn detect_below(parent: &Path) -> Result<CgroupTree, CgroupError> {
        Ok(CgroupTree::of(Layout::detect()?, parent_or_top(parent)?))
    }

    fn of(mounted: Mounted, parent: PathBuf) -> CgroupTree {
        let Mounted { layout, followed } = mounted;
        CgroupTree {
            layout,
            followed,
            parent,
        }
    }

    /// The same with the hierarchies in which systemd looks for the processes of its units, for cgroups that are units of
    /// its own. On v2 that is the one tree there is.
    #[must_use]
    pub fn followed(mut self) -> CgroupTree {
        if let Layout::V1(hierarchies) = &mut self.layout {
            hierarchies.append(&mut self.followed);
        }
        self
    }

    /// The same machine's cgroups with another folder: the mounts are not looked at again.
    ///
    /// # Errors
    /// A parent with `..`.
    pub fn below(&self, parent: &Path) -> Result<CgroupTree, CgroupError> {
        Ok(CgroupTree {
            layout: self.layout.clone(),
            followed: self.followed.clone(),
            parent: parent_or_top(parent)?,
        })
    }

    /// The v2 tree at `mount`, also on a machine whose controllers are all in v1 (then no limit but devices can be set).
    ///
    /// # Errors
    /// A parent with `..`.
    pub fn unified(mount: &Path, parent: &str) -> Result<CgroupTree, CgroupError> {
        Ok(CgroupTree {
            layout: Layout::V2(mount.into()),
            followed: Vec::new(),
            parent: checked_parent(parent)?,
        })
    }

    /// Makes a cgroup with these limits; an existing one gets them too.
    ///
    /// # Errors
    /// A limit that the kernel lacks or refuses. What was made is removed again.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let cgroup = self.open(name)?;
        if let Err(error) = self
            .make(&cgroup.place)
            .and_then(|()| cgroup.set_limits(limits))
        {
            // The first failure is the one to tell.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Another program may take the parent away, which is empty, between its making and its use.
    fn make(&self, place: &Place) -> Result<(), CgroupError> {
        let mut tries_left = 16;
        loop {
            let made = match place {
                Place::V1(folders) => v1::create(folders, &self.parent),
                Place::V2(folder) => self
                    .v2_mount()
                    .map_or(Ok(()), |mount| v2::create(mount, &self.parent, folder)),
            };
            match made {
                Err(CgroupError::Io { source, .. } | CgroupError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries_left > 0 =>
                {
                    tries_left -= 1;
                }
                other => return other,
            }
        }
    }

    /// A handle on a cgroup that exists, or is about to.
    ///
    /// # Errors
    /// A name with a slash.
    pub fn open(&self, name: &str) -> Result<Cgroup, CgroupError> {
        if !is_name(name) {
            return Err(CgroupError::BadName { name: name.into() });
        }
        let relative = self.parent.join(name);
        let place = match &self.layout {
            Layout::V1(hierarchies) => Place::V1(
                hierarchies
                    .iter()
                    .map(|hierarchy| v1::Folder {
                        path: hierarchy.mount.join(&relative),
                        mount: hierarchy.mount.clone(),
                        controllers: hierarchy.controllers.clone(),
                    })
                    .collect(),
            ),
            Layout::V2(mount) => Place::V2(mount.join(&relative)),
        };
        Ok(Cgroup { place })
    }

    /// The CPUs that containers can be kept to, as `0-3,6`; `None` without the controller.
    pub fn cpus(&self) -> Option<String> {
        let file = match &self.layout {
            Layout::V1(hierarchies) => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.controllers.contains(&Controller::Cpuset))?
                .mount
                .join("cpuset.cpus"),
            Layout::V2(mount) => mount.join("cpuset.cpus.effective"),
        };
        let list = std::fs::read_to_string(file).ok()?;
        Some(list.trim().to_owned())
    }

    /// Names of the cgroups below our folder, for cleaning up after a crash.
    pub fn list(&self) -> Vec<String> {
        let mounts: Vec<&Path> = match &self.layout {
            Layout::V1(hierarchies) => hierarchies
                .iter()
                .map(|hierarchy| hierarchy.mount.as_path())
                .collect(),
            Layout::V2(mount) => vec![mount],
        };
        let names: BinaryHeap<String> = mounts
            .iter()
            .filter_map(|mount| std::fs::read_dir(mount.join(&self.parent)).ok())
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                entry
                    .file_type()
                    .ok()?
                    .is_dir()
                    .then(|| entry.file_name().into_string().ok())?
            })
            .collect();
        let mut names = names.into_sorted_vec();
        names.dedup();
        names
    }

    /// Removes our folder itself, which must have no cgroups left in it.
    ///
    /// # Errors
    /// When one is left.
    pub fn remove_parent(&self) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => hierarchies
                .iter()
                .try_for_each(|h| remove_dir(&h.mount.join(&self.parent))),
            Layout::V2(mount) => remove_dir(&mount.join(&self.parent)),
        }
    }

    /// Removes our folder itself when nothing is in it; whether it is gone. What others have just made in it stays.
    pub fn remove_empty_parent(&self) -> bool {
        let gone = |mount: &Path| match std::fs::remove_dir(mount.join(&self.parent)) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        match &self.layout {
            Layout::V1(hierarchies) => hierarchies.iter().all(|h| gone(&h.mount)),
            Layout::V2(mount) => gone(mount),
        }
    }

    fn v2_mount(&self) -> Option<&Path> {
        match &self.layout {
            Layout::V1(_) => None,
            Layout::V2(mount) => Some(mount),
        }
    }
}

fn parent_or_top(parent: &Path) -> Result<PathBuf, CgroupError> {
    match parent.to_string_lossy().trim_matches('/') {
        "" => Ok(PathBuf::new()),
        some => checked_parent(some),
    }
}

fn checked_parent(parent: &str) -> Result<PathBuf, CgroupError> {
    let parent = parent.trim_matches('/');
    if parent.is_empty() || parent.split('/').any(|part| !is_name(part)) {
        return Err(CgroupError::BadName {
            name: parent.into(),
        });
    }
    Ok(parent.into())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0', '\n'])
        // `cgroup.x` and `memory.x` are the kernel's.
        && !name.starts_with("cgroup.")
}
