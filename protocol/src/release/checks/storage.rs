//! What an app keeps and where: its writable layer, volumes, folders in memory, folders of the board.

use crate::document::{text, within};
use crate::limits::LIMITS;
use crate::names::{AppName, VolumeName};
use crate::release::{DiskOn, FIRST_DATA_VERSION, SignedApp};
use std::collections::{BTreeMap, BTreeSet};

/// Each limit, and that no two things are in one place.
pub(super) fn check(app: &SignedApp) -> Result<(), String> {
    let mut targets = BTreeSet::new();
    let volumes = app.volumes.iter().map(|v| ("volumes.target", &v.target));
    let tmpfs = app.tmpfs.iter().map(|t| ("tmpfs.target", &t.target));
    let binds = app.binds.iter().map(|b| ("binds.target", &b.target));
    for (field, path) in volumes.chain(tmpfs).chain(binds) {
        target(field, path)?;
        if !targets.insert(path) {
            return Err(format!("{field} `{path}` stands twice"));
        }
    }
    let limits = &app.limits;
    size("limits.disk", limits.disk_bytes, limits.disk_inodes)?;
    if app.read_only_root && (limits.disk_bytes.is_some() || limits.disk_on == DiskOn::Memory) {
        return Err(
            "limits.disk and limits.disk_on have no sense with read_only_root: nothing is written"
                .into(),
        );
    }
    for volume in &app.volumes {
        let field = format!("volumes `{}`: size", volume.name);
        size(&field, volume.size_bytes, volume.inodes)?;
    }
    at_least("data_version", app.data_version.into(), 1)?;
    if app.data_version > FIRST_DATA_VERSION && app.volumes.is_empty() {
        return Err("data_version has a sense only with volumes: it says what they hold".into());
    }
    for tmpfs in &app.tmpfs {
        let field = format!("tmpfs `{}`: size", tmpfs.target);
        at_least(&field, tmpfs.size_bytes, 4096)?;
        within(
            &field,
            tmpfs.size_bytes,
            limits.memory_bytes.unwrap_or(LIMITS.integer),
        )
        .map_err(|fault| format!("{fault}: what is in it counts against the app's memory"))?;
    }
    for bind in &app.binds {
        plain_path("binds.source", &bind.source)?;
    }
    Ok(())
}

/// A limit of bytes and inodes.
fn size(field: &str, bytes: Option<u64>, inodes: Option<u64>) -> Result<(), String> {
    if let Some(bytes) = bytes {
        at_least(field, bytes, LIMITS.least_size_bytes)?;
        within(field, bytes, LIMITS.size_bytes)?;
    }
    match (bytes, inodes) {
        (_, None) => Ok(()),
        (None, Some(_)) => Err(format!("{field}: inodes need a limit of bytes beside them")),
        (Some(bytes), Some(inodes)) => {
            let field = format!("{field}: inodes");
            at_least(&field, inodes, LIMITS.least_inodes)?;
            // No file system that boards have gives a block to more than one file.
            within(&field, inodes, bytes / 4096)
        }
    }
}

fn at_least(field: &str, value: u64, least: u64) -> Result<(), String> {
    match value < least {
        true => Err(format!("{field} is {value}; at least {least} is needed")),
        false => Ok(()),
    }
}

/// What an app said of a volume.
pub(super) struct Size<'a> {
    app: &'a AppName,
    bytes: Option<u64>,
    inodes: Option<u64>,
    data_version: u32,
}

/// A volume has one size and one content, whichever of its apps is looked at.
pub(super) fn shared_sizes<'a>(
    app: &'a SignedApp,
    sizes: &mut BTreeMap<&'a VolumeName, Size<'a>>,
) -> Result<(), String> {
    for volume in &app.volumes {
        let own = Size {
            app: &app.name,
            bytes: volume.size_bytes,
            inodes: volume.inodes,
            data_version: app.data_version,
        };
        let first = sizes.entry(&volume.name).or_insert(own);
        if (first.bytes, first.inodes) != (volume.size_bytes, volume.inodes) {
            return Err(format!(
                "volumes `{}`: size and inodes are not the same as in app `{}`, which shares it",
                volume.name, first.app
            ));
        }
        if first.data_version != app.data_version {
            return Err(format!(
                "volumes `{}`: data_version is {}, and {} of app `{}`, which shares it: what it holds is one or the other",
                volume.name, app.data_version, first.data_version, first.app
            ));
        }
    }
    Ok(())
}

/// Not where the board mounts the kernel's own file systems.
fn target(field: &str, target: &str) -> Result<(), String> {
    plain_path(field, target)?;
    match target.split('/').nth(1) {
        Some(top @ ("proc" | "sys" | "dev")) => Err(format!(
            "{field} `{target}` lies in /{top}, which belongs to the container's runtime"
        )),
        _ => Ok(()),
    }
}

/// Written in one way only.
fn plain_path(field: &str, path: &str) -> Result<(), String> {
    text(field, path)?;
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(()),
        _ => Err(format!(
            "{field} `{path}` is not an absolute path without `.`, `..`, `//` or `/` at its end"
        )),
    }
}
