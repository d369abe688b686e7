//! What a release asks of the board's disk: bytes and inodes, for layers, writable layers, volumes.

use super::data::Copies;
use crate::apps::plan::{PlannedVolume, WritableLayer, planned_volumes, writable_layer};
use crate::apps::{layer, slot};
use crate::settings::Settings;
use crate::volumes::Volumes;
use coracle_digest::Sha256Digest;
use coracle_protocol::local::Needs;
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::{App, Blob, Release};
use coracle_runtime::Means;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Inodes that stay free when layers are unpacked: what the board itself and what runs makes meanwhile.
pub(super) const FREE_INODES: u64 = 1024;

/// What is free on the state folder's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Free {
    /// In bytes.
    pub bytes: u64,
    /// None where the file system does not count them (btrfs).
    pub inodes: Option<u64>,
    /// All that the file system can have.
    pub all_inodes: u64,
}

impl Free {
    /// Asks the file system; one that does not answer has nothing free.
    pub fn of(folder: &Path) -> Free {
        rustix::fs::statvfs(folder).map_or_else(
            |_| Free::default(),
            |fs| Free {
                bytes: fs.f_bavail * fs.f_frsize,
                inodes: (fs.f_files > 0).then_some(fs.f_favail),
                all_inodes: fs.f_files,
            },
        )
    }
}

/// The writable layer as this board holds it; None: nothing of it is on the disk.
fn layer_on_disk(app: &App, settings: &Settings) -> Option<WritableLayer> {
    writable_layer(app, settings).filter(|layer| !layer.in_memory)
}

/// Bytes of the disk that an app's writable layer may take.
pub(super) fn layer_cost(app: &App, settings: &Settings) -> u64 {
    let volumes = Volumes::of(settings);
    layer_on_disk(app, settings).map_or(0, |layer| volumes.cost(layer.limit))
}

/// Bytes of the disk that an app's volumes may take, without those in `counted`.
pub(super) fn volumes_cost(
    app: &App,
    settings: &Settings,
    counted: &mut BTreeSet<VolumeName>,
) -> u64 {
    planned_volumes(app, settings)
        .iter()
        .filter(|volume| counted.insert(volume.name.clone()))
        .fold(0, |sum, volume| {
            sum.saturating_add(volume_cost(volume, settings))
        })
}

/// One that is there and larger than is asked for stays so; without a declared size it stays as it is.
fn volume_cost(volume: &PlannedVolume, settings: &Settings) -> u64 {
    let volumes = Volumes::of(settings);
    let held = volumes.held_bytes(&volume.name);
    let wanted = volumes.cost(volume.limit);
    match volumes.exists(&volume.name) {
        true if !volume.is_declared && held > 0 => held,
        true => wanted.max(held),
        false => wanted,
    }
}

/// All volumes of a release, each once.
pub(super) fn all_volumes(release: &Release, settings: &Settings) -> Vec<PlannedVolume> {
    let apps = release.apps.iter();
    let planned = apps.flat_map(|app| planned_volumes(app, settings));
    let mut by_name = BTreeMap::new();
    by_name.extend(planned.map(|volume| (volume.name.clone(), volume)));
    by_name.into_values().collect()
}

/// Limits that nothing on this board can hold.
pub(super) fn not_limited(release: &Release, settings: &Settings) -> Vec<String> {
    if settings.limiter.means.is_some() {
        return Vec::new();
    }
    let why = &settings.limiter.why_none;
    let problem = |app: &App, what: &str| {
        format!(
            "app `{}` asks for a limit of its {what}, and this board cannot hold one ({why}; `coracle board check` says how to change that)",
            app.name
        )
    };
    let mut problems = Vec::new();
    for app in &release.apps {
        let layer = layer_on_disk(app, settings);
        if layer.is_some() && app.limits.disk_bytes.is_some() {
            problems.push(problem(app, "writable layer"));
        }
        for volume in app.volumes.iter().filter(|v| v.size_bytes.is_some()) {
            problems.push(problem(app, &format!("volume `{}`", volume.name)));
        }
    }
    problems
}

/// Volumes that cannot become what the release says, and folders that the board does not give away.
pub(super) fn volumes(release: &Release, settings: &Settings) -> Vec<String> {
    let volumes = Volumes::of(settings);
    let mut problems = Vec::new();
    for app in &release.apps {
        for bind in &app.binds {
            let allowed = &settings.config.binds;
            if !allowed.iter().any(|path| path == Path::new(&bind.source)) {
                problems.push(format!(
                    "app `{}`: the board's folder `{}` is not among [volumes] binds of its coracle.toml",
                    app.name, bind.source
                ));
            }
        }
    }
    for volume in all_volumes(release, settings) {
        let name = &volume.name;
        if !volumes.exists(name) {
            continue;
        }
        if let Some(owner) = volumes.record(name).owner.filter(|owner| *owner != 0) {
            problems.push(format!(
                "volume `{name}` belongs to user {owner} of this board: remove it (`coracle volume rm {name}`) or take another name"
            ));
        }
        if volume.is_declared {
            problems.extend(unfit(&volume, &volumes));
        }
    }
    problems
}

/// Why a volume that is there cannot get the size that the release declares.
fn unfit(volume: &PlannedVolume, volumes: &Volumes) -> Option<String> {
    let name = &volume.name;
    let wanted = volume.limit;
    let again = format!(
        "`coracle volume backup {name}`, remove it, and `coracle volume restore` into the new one"
    );
    let usage = match volumes.usage(name) {
        Ok(usage) => usage,
        Err(error) => return Some(format!("volume `{name}`: {error}")),
    };
    let Some(limit) = usage.limit else {
        return Some(format!(
            "volume `{name}` was made without a limit, and the release says {} bytes: {again}",
            wanted.bytes
        ));
    };
    let image = volumes.place(name).means().ok().flatten() == Some(Means::Image);
    if image && wanted.bytes < limit.bytes {
        return Some(format!(
            "volume `{name}` has {} bytes and the release says {}: an image cannot shrink: {again}",
            limit.bytes, wanted.bytes
        ));
    }
    if usage.bytes > wanted.bytes || usage.inodes > wanted.inodes {
        return Some(format!(
            "volume `{name}` holds {} bytes in {} files, and the release says {} bytes and {} files at most",
            usage.bytes, usage.inodes, wanted.bytes, wanted.inodes
        ));
    }
    None
}

/// Inodes are taken from the state folder's file system where quotas hold the limits; an image has its own.
pub(super) fn inodes(release: &Release, settings: &Settings, free: Free) -> Option<String> {
    if settings.limiter.means != Some(Means::Quota) || free.inodes.is_none() {
        return None;
    }
    let layers = release.apps.iter();
    let layers = layers.filter_map(|app| Some(layer_on_disk(app, settings)?.limit.inodes));
    let volumes = all_volumes(release, settings);
    let volumes = volumes.iter().map(|volume| volume.limit.inodes);
    let asked = layers.chain(volumes).fold(0, u64::saturating_add);
    let all = free.all_inodes;
    (asked > all).then(|| {
        format!(
            "inodes: the apps may make {asked} files, and the state folder's file system has {all}, {} too many",
            asked - all
        )
    })
}

/// Bytes that layers leave free: the journal, counters and logs are written also when a release has filled the rest.
pub(super) const SPARE_BYTES: u64 = 1 << 20;

/// A layer that is missing, in bytes.
struct Layer {
    unpacked: u64,
    /// Inodes, as far as its release says.
    entries: u64,
    /// What it is made from, which goes when it is made.
    blob: u64,
    /// Of that, what is not here yet.
    left: u64,
}

/// What layers that are missing take of the disk, in bytes and inodes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missing {
    /// At the end; what runs now stays beside it until the new set is kept.
    unpacked: u64,
    /// At most, on the way: all blobs come first, and each goes when its layer is unpacked.
    peak: u64,
    inodes: u64,
}

impl Missing {
    /// Of a release on this board. Of a layer's deltas and the layer itself that one counts of which least is to come.
    pub(super) fn of(release: &Release, needs: &Needs, settings: &Settings) -> Self {
        let layers = needs.layers.iter().map(|need| {
            let blobs = need.deltas.iter().chain([&need.full]);
            let left = |blob: &Blob| blob.size.saturating_sub(in_store(settings, blob.digest));
            let (left, blob) = blobs
                .map(|blob| (left(blob), blob.size))
                .min()
                .unwrap_or_default();
            let mut all = release.layers();
            let unpacked = all.find(|layer| layer.diff_id == need.diff_id);
            Layer {
                unpacked: unpacked.map_or(0, |layer| layer.unpacked_size),
                entries: unpacked.and_then(|layer| layer.entries).unwrap_or(0),
                blob,
                left,
            }
        });
        Self::on_the_way(&layers.collect::<Vec<_>>())
    }

    fn on_the_way(layers: &[Layer]) -> Self {
        let sum = |sum: u64, more: u64| sum.saturating_add(more);
        let mut there = layers.iter().map(|layer| layer.left).fold(0, sum);
        let mut missing = Self {
            unpacked: 0,
            peak: there,
            inodes: 0,
        };
        for layer in layers {
            there = there.saturating_add(layer.unpacked);
            missing.peak = missing.peak.max(there);
            there = there.saturating_sub(layer.blob);
            missing.unpacked = missing.unpacked.saturating_add(layer.unpacked);
            missing.inodes = missing.inodes.saturating_add(layer.entries);
        }
        missing
    }
}

/// Bytes of a blob that are here, whole or in part.
fn in_store(settings: &Settings, digest: Sha256Digest) -> u64 {
    let whole = settings.config.store_dir().join("blobs/sha256");
    let whole = whole.join(digest.hex());
    let part = whole.with_extension("part");
    let length = |path: &Path| path.symlink_metadata().map_or(0, |facts| facts.len());
    length(&whole).max(length(&part))
}

/// What has to be there before anything changes: layers that are missing, and images, which are made whole.
pub(super) fn room(
    release: &Release,
    settings: &Settings,
    free: Free,
    missing: Missing,
) -> Vec<String> {
    let (mut made, mut gone) = (0_u64, 0_u64);
    if settings.limiter.means == Some(Means::Image) {
        for app in &release.apps {
            made = made.saturating_add(layer_cost(app, settings));
            if app.is_handed_over() {
                // The version that runs keeps its own until this one is ready.
                continue;
            }
            let name = app.name.as_str();
            for slot in [name, &slot::other_than(name)] {
                let old = layer::place(&settings.config, slot);
                gone = gone.saturating_add(old.held_bytes().unwrap_or_default());
            }
        }
        let volumes = Volumes::of(settings);
        for volume in all_volumes(release, settings) {
            let held = volumes.held_bytes(&volume.name);
            made = made.saturating_add(volume_cost(&volume, settings).saturating_sub(held));
        }
    }
    let mut problems = shortages(missing, made, gone, free);
    let also = missing.unpacked.saturating_add(made.saturating_sub(gone));
    problems.extend(Copies::of(release, settings).short(also, missing.inodes, free));
    problems
}

/// `made`: new writable layers and volumes; `gone`: what the running set gives back for them.
fn shortages(missing: Missing, made: u64, gone: u64, free: Free) -> Vec<String> {
    let mut problems = Vec::new();
    let spare = |bytes: u64| match bytes {
        0 => 0,
        bytes => bytes.saturating_add(SPARE_BYTES),
    };
    // New writable layers and volumes are made when nothing of what was fetched is there any more.
    let there = free.bytes.saturating_add(gone.min(made));
    if spare(missing.peak) > free.bytes || spare(missing.unpacked).saturating_add(made) > there {
        problems.push(format!(
            "the layers that are not on the board need {} bytes, {} while they are fetched and unpacked, new writable layers and volumes {made}, and {SPARE_BYTES} stay free; {} are free{}",
            missing.unpacked,
            missing.peak,
            free.bytes,
            match gone {
                0 => String::new(),
                gone => format!(", and {gone} that the running set gives back"),
            }
        ));
    }
    let needed = missing.inodes.saturating_add(FREE_INODES);
    if missing.unpacked > 0
        && let Some(inodes) = free.inodes.filter(|inodes| *inodes < needed)
    {
        problems.push(format!(
            "inodes: the layers that are not on the board need {}, and {FREE_INODES} stay free; {inodes} are free on the state folder's file system",
            missing.inodes
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn free(mib: u64) -> Free {
        Free {
            bytes: mib * MIB,
            inodes: Some(FREE_INODES),
            all_inodes: 1 << 20,
        }
    }

    /// One layer, of which so much is to be fetched.
    fn layers(unpacked: u64, left: u64) -> Missing {
        layer_by_layer(&[(unpacked, left, left)])
    }

    fn layer_by_layer(layers: &[(u64, u64, u64)]) -> Missing {
        let layers = layers.iter().map(|&(unpacked, blob, left)| Layer {
            unpacked: unpacked * MIB,
            entries: 0,
            blob: blob * MIB,
            left: left * MIB,
        });
        Missing::on_the_way(&layers.collect::<Vec<_>>())
    }

    #[test]
    fn what_is_fetched_and_what_it_unpacks_to_must_fit_together() {
        assert_eq!(shortages(layers(60, 39), 0, 0, free(100)), [""; 0]);
        let told = shortages(layers(60, 40), 0, 0, free(100));
        assert_eq!(told.len(), 1);
        for number in [60 * MIB, 100 * MIB, MIB] {
            assert!(told[0].contains(&number.to_string()), "{told:?}");
        }
        // A release whose layers are all here needs nothing, however full the disk is.
        assert_eq!(shortages(layers(0, 0), 0, 0, free(0)), [""; 0]);
        assert_eq!(
            shortages(layers(u64::MAX / MIB, 9), u64::MAX, 0, free(1)).len(),
            1
        );
    }

    /// All come first; then each is unpacked, and goes.
    #[test]
    fn a_blob_makes_room_for_the_next_layer() {
        let four = layer_by_layer(&[(20, 10, 10); 4]);
        assert_eq!(four.peak, (40 + 4 * 20 - 3 * 10) * MIB);
        assert_eq!(four.unpacked, 80 * MIB);
        assert_eq!(shortages(four, 0, 0, free(91)), [""; 0]);
        assert_eq!(shortages(four, 0, 0, free(90)).len(), 1);
        // What is here already takes nothing, and gives all that it has.
        let here = layer_by_layer(&[(20, 10, 0), (20, 10, 5)]);
        assert_eq!(here.peak, 35 * MIB);
    }

    #[test]
    fn the_running_set_gives_back_its_images_and_no_room_for_layers() {
        let told = |layers, made: u64, gone: u64| {
            shortages(layers, made * MIB, gone * MIB, free(100)).len()
        };
        // Images are made when the blobs are gone.
        assert_eq!(told(layers(50, 9), 60, 11), 0);
        assert_eq!(told(layers(50, 9), 60, 10), 1);
        // No more than the new ones take, and only once the new layers are here.
        assert_eq!(told(layers(50, 9), 60, 500), 0);
        assert_eq!(told(layers(95, 9), 10, 50), 1);
    }

    #[test]
    fn a_shortage_of_inodes_is_one() {
        let few = Free {
            inodes: Some(FREE_INODES - 1),
            ..free(100)
        };
        let told = shortages(layers(1, 1), 0, 0, few);
        assert!(
            told[0].contains("need 0, and 1024 stay free; 1023 are free"),
            "{told:?}"
        );
        assert_eq!(shortages(layers(0, 0), 0, 0, few), [""; 0]);
        let uncounted = Free {
            inodes: None,
            ..few
        };
        assert_eq!(shortages(layers(1, 1), 0, 0, uncounted), [""; 0]);
        let counted = Missing {
            inodes: 500,
            ..layers(1, 1)
        };
        let enough = |inodes| Free {
            inodes: Some(inodes),
            ..few
        };
        assert_eq!(shortages(counted, 0, 0, enough(FREE_INODES + 500)), [""; 0]);
        let told = shortages(counted, 0, 0, enough(FREE_INODES + 499));
        assert!(
            told[0].contains("need 500, and 1024 stay free; 1523 are free"),
            "{told:?}"
        );
        assert_eq!(shortages(counted, 0, 0, uncounted), [""; 0]);
    }
}
