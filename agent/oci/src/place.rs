//! The folders of a container's cgroup: which ones, who makes them, and that those which were made for it go with it.

use std::path::{Path, PathBuf};

use coracle_runtime::{Cgroup, Limits};
use oci_spec::runtime::{LinuxResources, Spec};

use crate::failure::Failure;
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::state::Record;
use crate::store::Entry;
use crate::systemd::{Holder, ScopeName};
use crate::{alive, limits, systemd};

/// Below the top, for containers that name a relative place. One that names none is at the top by this name and its own:
/// no folder has to be made for it and taken away again in each hierarchy.
const OWN: &str = "coracle-runtime";

/// Where a container's cgroup is to be.
pub enum Place {
    /// Below the top: folder above, and name.
    Folder(PathBuf, String),
    /// Where systemd makes it.
    Scope(ScopeName),
}

impl Place {
    /// Folder above, and name. Of a scope where it is on most machines: systemd tells when it is there.
    pub fn folder(&self) -> (PathBuf, String) {
        match self {
            Place::Folder(above, name) => (above.clone(), name.clone()),
            Place::Scope(name) => (name.folder(), name.unit.clone()),
        }
    }

    pub fn scope(&self) -> Option<&ScopeName> {
        match self {
            Place::Folder(..) => None,
            Place::Scope(name) => Some(name),
        }
    }
}

/// As the configuration wants it; `by_systemd`: as `slice:prefix:name`.
pub fn of_container(spec: &Spec, id: &ContainerId, by_systemd: bool) -> Result<Place, Failure> {
    let wanted = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref());
    let Some(wanted) = wanted.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(match by_systemd {
            true => Place::Scope(ScopeName::of_id(id)?),
            false => Place::Folder(PathBuf::new(), format!("{OWN}-{id}")),
        });
    };
    let text = wanted.to_string_lossy();
    if by_systemd {
        return ScopeName::parse(&text).map(Place::Scope);
    }
    if text.contains(':') && !text.starts_with('/') {
        let reason = format!(
            "cgroupsPath {text:?} without --systemd-cgroup; give it, or set the engine's cgroup manager to cgroupfs"
        );
        return Err(Failure::Unsupported(reason));
    }
    let names: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let Some((name, above)) = names.split_last() else {
        return Err(Failure::Config(format!("cgroupsPath {text:?} is the top")));
    };
    if names.contains(&"..") {
        return Err(Failure::Config(format!("cgroupsPath {text:?} has ..")));
    }
    let above: PathBuf = if wanted.is_absolute() {
        above.iter().collect()
    } else {
        Path::new(OWN).join(above.iter().collect::<PathBuf>())
    };
    Ok(Place::Folder(above, (*name).to_owned()))
}

/// A new container's cgroup, with its limits.
pub struct Made {
    pub cgroup: Cgroup,
    holder: Option<Holder>,
}

impl Made {
    /// The container's own process is in it: it stays without us now.
    pub fn entered(&mut self) {
        self.holder = None;
    }
}

/// Makes it, and writes the record as soon as there is something to undo.
pub fn make(
    entry: &Entry,
    record: &mut Record,
    place: &Place,
    resources: Option<&LinuxResources>,
    journal: &Journal,
) -> Result<Made, Failure> {
    let mut holder = None;
    let planned = alive::cgroup(record)?;
    let writes = limits::planned(&planned, resources)?;
    if let Place::Scope(name) = place {
        let scope = systemd::start(name, &record.id, &planned, &writes, resources)?;
        holder = Some(scope.holder);
        let unit = scope.cgroup.file_name().unwrap_or_default();
        record.cgroup_name = unit.to_string_lossy().into_owned();
        record.cgroup_parent = scope.cgroup.parent().unwrap_or(Path::new("")).into();
    }
    let tree = alive::tree(record)?;
    if holder.is_some() {
        entry.write(record)?;
        let cgroup = tree.open(&record.cgroup_name)?;
        if !cgroup.folders().iter().any(|folder| folder.is_dir()) {
            let path = record.cgroup_parent.join(&record.cgroup_name);
            return Err(Failure::Systemd(format!(
                "its cgroup {} is not there; are these systemd's cgroups?",
                path.display()
            )));
        }
    }
    let cgroup = tree.create(&record.cgroup_name, &Limits::default())?;
    entry.write(record)?;
    limits::of_new(&cgroup, &writes, resources, journal)?;
    Ok(Made { cgroup, holder })
}

/// Ends what runs in the container's cgroup, and removes it. Of the folders above it those below [`OWN`] go too, when they
/// are empty; an engine's own stay.
pub fn remove(record: &Record) -> Result<(), Failure> {
    let cgroup = alive::cgroup(record)?;
    if !cgroup.processes()?.is_empty() {
        cgroup.kill_all()?;
    }
    if let Some(unit) = &record.scope {
        let stopped = systemd::stop(unit);
        // On v1 some of its folders are ours. Without systemd all of them are to go.
        cgroup.remove()?;
        return stopped;
    }
    cgroup.remove()?;
    for folder in record.cgroup_parent.ancestors() {
        // Not one that another container has come into.
        if !folder.starts_with(OWN)
            || !alive::cgroups(folder).is_ok_and(|tree| tree.remove_empty_parent())
        {
            break;
        }
    }
    Ok(())
}
