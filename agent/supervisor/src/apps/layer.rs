//! An app's writable layer: `containers/<slot>`, whose `layer/` cannot grow past its limit. It is the app's for as long as its
//! set runs, through restarts of the app, the supervisor and (unless it is in memory) the board.

use crate::apps::plan::Plan;
use crate::apps::slot;
use crate::disk::{self, DiskError};
use crate::gc::throw_away;
use crate::settings::Settings;
use coracle_board_support::config::Config;
use coracle_runtime::disk::PlaceError;
use coracle_runtime::{Means, Place};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Why an app has no writable layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A folder or file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its limit.
    #[error("writable layer: {0}")]
    Place(#[from] PlaceError),
    /// The disk is full, so that nobody knows what could hold its limit.
    #[error("writable layer: what holds its limit cannot be told while the disk is full ({0})")]
    NotNow(String),
}

/// The container's own folder.
pub fn folder(config: &Config, slot: &str) -> PathBuf {
    config.containers_dir().join(slot)
}

/// What limits its writable layer.
pub fn place(config: &Config, slot: &str) -> Place {
    place_in(&folder(config, slot))
}

/// Whether it belongs to that set.
pub fn is_of(config: &Config, slot: &str, container: &str) -> bool {
    stamp(&folder(config, slot)).is_ok_and(|set| set.as_deref() == Some(container.as_bytes()))
}

fn stamp(own: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    disk::read_bounded(&own.join("set"), 256)
}

fn place_in(own: &Path) -> Place {
    Place::new(own.join("layer"), own.join("layer.ext4"))
}

/// Makes a layer ready, an empty one when the app belongs to another set (`container`) than before. Overlay's upper and work
/// folder are in [`place`], `merged` and `etc` beside it.
pub fn prepare(settings: &Settings, plan: &Plan, container: &str) -> Result<PathBuf, LayerError> {
    let own = folder(&settings.config, &plan.slot);
    let place = place_in(&own);
    clear_stale(settings, &plan.slot, container)?;
    limit(settings, plan, &place)?;
    if let Err(damage) = place.open() {
        // Nothing in it outlives its set; better an empty one than an app that never starts.
        tracing::error!(app = %plan.name, %damage, "its writable layer is lost, and made anew");
        discard(&own)?;
        limit(settings, plan, &place)?;
        place.open()?;
    }
    for (folder, mode) in [
        (place.folder().join("upper"), 0o755),
        (place.folder().join("work"), 0o700),
        (own.join("merged"), 0o700),
        (own.join("etc"), 0o755),
    ] {
        // The mode of `upper` is the mode of the container's `/`, which the app may have changed.
        if !folder.exists() {
            disk::make_folder(&folder, mode)?;
        }
    }
    Ok(own)
}

fn limit(settings: &Settings, plan: &Plan, place: &Place) -> Result<(), LayerError> {
    let means = match plan.layer {
        Some(layer) if layer.in_memory => Some((Means::Memory, layer.limit)),
        Some(layer) => settings.limiter.means.map(|means| (means, layer.limit)),
        None => None,
    };
    if let Some((means, limit)) = means {
        return Ok(place.make(means, limit)?);
    }
    // One that this set has had goes on as it was made.
    let is_new = place.means()?.is_none() && !place.folder().join("upper").exists();
    match settings.limiter.not_now() {
        Some(why) if plan.layer.is_some() && is_new => Err(LayerError::NotNow(why.to_owned())),
        _ => Ok(disk::make_folder(place.folder(), 0o700)?),
    }
}

/// Throws the layer of another set away.
pub fn clear_stale(settings: &Settings, slot: &str, container: &str) -> Result<(), LayerError> {
    let own = folder(&settings.config, slot);
    disk::make_folder(&own, 0o700)?;
    if stamp(&own)?.as_deref() != Some(container.as_bytes()) {
        discard(&own)?;
        disk::write_whole(&own.join("set"), container.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// It is the layer of an app that runs, and goes on as one of this set.
pub fn keep(config: &Config, slot: &str, container: &str) -> Result<(), LayerError> {
    let own = folder(config, slot);
    if stamp(&own)?.as_deref() != Some(container.as_bytes()) {
        disk::write_whole(&own.join("set"), container.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// The container has ended, and the next version's needs the room. Its stamp stays: its set, when that comes back, finds its slot.
pub fn give_up(config: &Config, slot: &str) -> Result<(), LayerError> {
    let own = folder(config, slot);
    match own.exists() {
        true => discard(&own),
        false => Ok(()),
    }
}

/// The image goes at once: the next one needs the room. A tree is deleted when there is time.
fn discard(own: &Path) -> Result<(), LayerError> {
    place_in(own).remove()?;
    for name in ["layer", "upper", "work"] {
        let old = own.join(name);
        if old.symlink_metadata().is_ok() {
            throw_away(&old)?;
        }
    }
    Ok(())
}

/// Takes away what apps left that are no more.
pub fn collect(config: &Config, kept: &BTreeSet<&str>) -> Result<(), LayerError> {
    for name in names(config) {
        if !kept.contains(name.as_str()) {
            let own = folder(config, &name);
            discard(&own)?;
            throw_away(&own)?;
        }
    }
    Ok(())
}

/// Unmounts every layer; what could not be, in words.
pub fn close_all(config: &Config) -> Vec<String> {
    let closed = names(config)
        .into_iter()
        .map(|name| place(config, &name).close());
    closed
        .filter_map(|fault| Some(fault.err()?.to_string()))
        .collect()
}

/// The place of each layer that is there.
pub fn places(config: &Config) -> Vec<Place> {
    let names = names(config).into_iter();
    names.map(|name| place(config, &name)).collect()
}

fn names(config: &Config) -> Vec<String> {
    let entries = std::fs::read_dir(config.containers_dir())
        .into_iter()
        .flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| slot::is_one(name))
        .collect()
}
