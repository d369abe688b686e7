//! The folders of a container's cgroup: which ones, and that those which were made for it go with it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::alive;
use crate::failure::Failure;
use crate::id::ContainerId;
use crate::state::Record;

/// Below the top, for containers that name a relative place. One that names none is at the top by this name and its own:
/// no folder has to be made for it and taken away again in each hierarchy.
const OWN: &str = "coracle-runtime";

/// Folder above, and name, of the container's cgroup, below the top.
pub fn of_container(spec: &Spec, id: &ContainerId) -> Result<(PathBuf, String), Failure> {
    let wanted = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref());
    let Some(wanted) = wanted.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok((PathBuf::new(), format!("{OWN}-{id}")));
    };
    let text = wanted.to_string_lossy();
    if text.contains(':') && !text.starts_with('/') {
        let reason = format!(
            "cgroupsPath {text:?} is systemd's; set the engine's cgroup manager to cgroupfs"
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
    Ok((above, (*name).to_owned()))
}

/// Ends what runs in the container's cgroup, and removes it. Of the folders above it those below [`OWN`] go too, when they
/// are empty; an engine's own stay.
pub fn remove(record: &Record) -> Result<(), Failure> {
    let cgroup = alive::cgroup(record)?;
    if !cgroup.processes()?.is_empty() {
        cgroup.kill_all()?;
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
