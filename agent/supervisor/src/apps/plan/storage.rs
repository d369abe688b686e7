//! What an app keeps and where: its writable layer, volumes, folders in memory and of the board.

use super::PlanError;
use crate::settings::Settings;
use crate::volumes::Volumes;
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::{App, DiskOn};
use coracle_runtime::{DiskLimit, Mount};
use std::path::Path;

/// Where a writable layer is, and how much it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritableLayer {
    /// In memory instead of on the disk.
    pub in_memory: bool,
    /// At most this.
    pub limit: DiskLimit,
}

/// A volume that an app has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedVolume {
    /// Its name.
    pub name: VolumeName,
    /// At most this.
    pub limit: DiskLimit,
    /// The release says so; else the board does, and a volume that is there keeps the limit that it has.
    pub is_declared: bool,
    /// What the app takes it to hold.
    pub data_version: u32,
}

/// What a release or a person asked for, with the inodes that belong to it.
pub fn limit_of(bytes: u64, inodes: Option<u64>) -> DiskLimit {
    let usual = DiskLimit::of_bytes(bytes);
    DiskLimit {
        bytes,
        inodes: inodes.unwrap_or(usual.inodes),
    }
}

/// The board's own limit of a writable layer or a volume.
pub fn default_limit(settings: &Settings) -> DiskLimit {
    DiskLimit::of_bytes(settings.profile.quotas.disk_mib.mib_in_bytes())
}

/// What an app writes outside volumes; None: nothing.
pub fn writable_layer(app: &App, settings: &Settings) -> Option<WritableLayer> {
    if app.read_only_root {
        return None;
    }
    let limits = &app.limits;
    let limit = limits.disk_bytes.map_or_else(
        || default_limit(settings),
        |bytes| limit_of(bytes, limits.disk_inodes),
    );
    Some(WritableLayer {
        in_memory: limits.disk_on == DiskOn::Memory,
        limit,
    })
}

/// Its volumes.
pub fn planned_volumes(app: &App, settings: &Settings) -> Vec<PlannedVolume> {
    let planned = |volume: &coracle_protocol::release::VolumeMount| PlannedVolume {
        name: volume.name.clone(),
        limit: volume.size_bytes.map_or_else(
            || default_limit(settings),
            |bytes| limit_of(bytes, volume.inodes),
        ),
        is_declared: volume.size_bytes.is_some(),
        data_version: app.data_version,
    };
    app.volumes.iter().map(planned).collect()
}

pub(super) fn mounts(app: &App, settings: &Settings) -> Result<Vec<Mount>, PlanError> {
    let volumes = Volumes::of(settings);
    let mut mounts: Vec<Mount> = app
        .volumes
        .iter()
        .map(|volume| Mount {
            owners_of_container: true,
            ..Mount::bind(volumes.data(&volume.name), &volume.target, volume.read_only)
        })
        .collect();
    let tmpfs = app.tmpfs.iter();
    mounts.extend(tmpfs.map(|tmpfs| Mount::tmpfs(&tmpfs.target, Some(tmpfs.size_bytes))));
    for bind in &app.binds {
        let source = Path::new(&bind.source);
        // By the very path: below a folder that an app writes to, a name could lead anywhere.
        if !settings
            .config
            .binds
            .iter()
            .any(|allowed| allowed == source)
        {
            return Err(PlanError::Bind(bind.source.clone()));
        }
        mounts.push(Mount::bind(source, &bind.target, bind.read_only));
    }
    let depth = |mount: &Mount| mount.target.components().count();
    let mut outer_first: Vec<Mount> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let at = outer_first.partition_point(|other| depth(other) <= depth(&mount));
        outer_first.insert(at, mount);
    }
    Ok(outer_first)
}
