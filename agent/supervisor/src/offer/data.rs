//! What apps of a release take their volumes to hold (`data_version`), held against what the volumes hold.

use super::storage::{FREE_INODES, Free, SPARE_BYTES};
use super::{Refused, hand_over};
use crate::settings::Settings;
use crate::volumes::{TooNew, VolumeError, Volumes};
use coracle_board_support::budget::{Budget, Problem};
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::{App, Release};
use coracle_runtime::Means;

/// Inodes of a copy beside what is in the volume: its folders, its record, a folder for hard links.
const OWN_INODES: u64 = 8;

/// Volumes that hold data of an earlier version than an app has that writes them, and that app's version.
pub fn conversions(
    release: &Release,
    settings: &Settings,
) -> Result<Vec<(VolumeName, u32)>, VolumeError> {
    let volumes = Volumes::of(settings);
    let mut converted: Vec<(VolumeName, u32)> = Vec::new();
    for app in &release.apps {
        for mount in app.volumes.iter().filter(|mount| !mount.read_only) {
            let name = &mount.name;
            // All apps of a volume have the same version.
            if converted.iter().all(|(known, _)| known != name)
                && volumes.exists(name)
                && volumes.known(name)?.data_version < app.data_version
            {
                converted.push((name.clone(), app.data_version));
            }
        }
    }
    Ok(converted)
}

/// Volumes that are not there, and that an app of the old set takes to hold earlier data than one of the new set.
pub fn not_there<'a>(
    new: &'a Release,
    old: &'a Release,
    volumes: &'a Volumes,
) -> impl Iterator<Item = &'a VolumeName> {
    let named = old.apps.iter().flat_map(move |app| {
        let names = app.volumes.iter().map(|mount| &mount.name);
        names.map(move |name| (name, app.data_version))
    });
    named.filter_map(move |(name, version)| {
        let has = |app: &&App| app.volumes.iter().any(|mount| mount.name == *name);
        let later = new.apps.iter().find(has)?.data_version > version;
        (later && !volumes.exists(name)).then_some(name)
    })
}

/// No app is for data of before what is there, and none serves on with a volume that is converted.
pub fn check(
    release: &Release,
    running: Option<&Release>,
    settings: &Settings,
) -> Result<(), Refused> {
    let volumes = Volumes::of(settings);
    let mut problems = Vec::new();
    for app in &release.apps {
        for mount in &app.volumes {
            let volume = &mount.name;
            if !volumes.exists(volume) {
                continue;
            }
            let holds = volumes.known(volume).map_err(unknown)?.data_version;
            if holds > app.data_version {
                let why = TooNew {
                    volume,
                    holds,
                    app: app.data_version,
                };
                problems.push(format!("app `{}`: {why}", app.name));
            }
        }
    }
    let newer = match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused::new("newer-data", problems.join("\n"))),
    };
    Refused::both(newer, serves_on(release, running, settings))
}

fn unknown(error: VolumeError) -> Refused {
    Refused::new("disk", error.to_string())
}

fn serves_on(
    release: &Release,
    running: Option<&Release>,
    settings: &Settings,
) -> Result<(), Refused> {
    let converted = conversions(release, settings).map_err(unknown)?;
    let handed_over = release.apps.iter().filter(|app| app.is_handed_over());
    let both = handed_over.chain(hand_over::serving_on(release, running));
    let fault = |app: &App| {
        let has = |name: &VolumeName| app.volumes.iter().any(|mount| mount.name == *name);
        let (name, to) = converted.iter().find(|(name, _)| has(name))?;
        Some(format!(
            "app `{}`: strategy = `start-then-kill`: volume `{name}` is converted to data_version {to}, and the version that runs would go on in it; deploy this one with strategy = `kill-then-start`",
            app.name
        ))
    };
    match both.filter_map(fault).next() {
        None => Ok(()),
        Some(reason) => Err(Refused::new("cannot-overlap", reason)),
    }
}

/// Copies of the volumes that a release converts, until it is kept or taken back.
pub struct Copies {
    names: Vec<(VolumeName, u32)>,
    bytes: u64,
    /// Of the state folder's file system.
    inodes: u64,
    /// Volumes of which that cannot be said, and why.
    unknown: Vec<String>,
}

impl Copies {
    /// By what is in them now; of a folder without a limit nobody knows that without looking through it.
    pub fn of(release: &Release, settings: &Settings) -> Copies {
        let volumes = Volumes::of(settings);
        let mut unknown = Vec::new();
        let names = conversions(release, settings).unwrap_or_else(|error| {
            unknown.push(error.to_string());
            Vec::new()
        });
        let (mut bytes, mut inodes) = (0_u64, 0_u64);
        for (name, _) in &names {
            // An image is copied whole, with its bytes reserved, and is one file.
            let image = volumes.place(name).means().ok().flatten() == Some(Means::Image);
            let (more, files) = match volumes.usage(name) {
                _ if image => (volumes.held_bytes(name), 1),
                Ok(usage) => (usage.bytes, usage.inodes),
                Err(error) => {
                    unknown.push(format!("volume `{name}`: {error}"));
                    (0, 0)
                }
            };
            bytes = bytes.saturating_add(more);
            inodes = inodes.saturating_add(files).saturating_add(OWN_INODES);
        }
        Copies {
            names,
            bytes,
            inodes,
            unknown,
        }
    }

    pub(super) fn less_of(&self, budget: &Budget) -> Budget {
        Budget {
            disk_bytes: budget.disk_bytes.saturating_sub(self.bytes),
            ..budget.clone()
        }
    }

    /// Where the rest of the disk is, when that is what is missing.
    pub(super) fn hint(&self, problems: &[Problem]) -> Option<String> {
        let told = self.bytes > 0 && problems.iter().any(super::beside::is_disk);
        told.then(|| self.words())
    }

    fn words(&self) -> String {
        let names = self.names.iter().take(8).map(|(name, _)| name.as_str());
        let names: Vec<&str> = names.collect();
        format!(
            "copies of the volumes that it converts (data_version) take {} bytes and {} files until it is kept: {}",
            self.bytes,
            self.inodes,
            names.join(", ")
        )
    }

    /// What the disk lacks for them, beside `also` bytes and `files`.
    pub fn short(&self, also: u64, files: u64, free: Free) -> Vec<String> {
        let mut problems = self.unknown.clone();
        if self.names.is_empty() {
            return problems;
        }
        let needed = self.bytes.saturating_add(also).saturating_add(SPARE_BYTES);
        if needed > free.bytes {
            problems.push(format!(
                "{}; with what else comes {needed} bytes are needed, and {} are free",
                self.words(),
                free.bytes
            ));
        }
        let needed = [files, FREE_INODES].into_iter();
        let needed = needed.fold(self.inodes, u64::saturating_add);
        if let Some(inodes) = free.inodes.filter(|inodes| *inodes < needed) {
            problems.push(format!(
                "{}; with what else comes {needed} inodes are needed, and {inodes} are free on the state folder's file system",
                self.words()
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_lacks_is_told_with_its_numbers() {
        let copies = Copies {
            names: vec![(VolumeName::new("data").unwrap(), 2)],
            bytes: 5000,
            inodes: 70,
            unknown: vec![],
        };
        let free = |bytes, inodes| Free {
            bytes,
            inodes,
            all_inodes: 0,
        };
        let needed = 5000 + 300 + SPARE_BYTES;
        let files = 70 + 9 + FREE_INODES;
        assert_eq!(copies.short(300, 9, free(needed, Some(files))), [""; 0]);
        assert_eq!(copies.short(300, 9, free(needed, None)), [""; 0]);
        let told = copies.short(300, 9, free(needed - 1, Some(files - 1)));
        assert_eq!(told.len(), 2);
        let needed = format!("{needed} bytes are needed, and {} are free", needed - 1);
        for words in ["take 5000 bytes and 70 files", "data", &needed] {
            assert!(told[0].contains(words), "no `{words}` in {}", told[0]);
        }
        let words = format!("{files} inodes are needed, and {} are free", files - 1);
        assert!(told[1].contains(&words), "{}", told[1]);
        let none = Copies {
            names: vec![],
            bytes: 0,
            inodes: 0,
            unknown: vec![],
        };
        assert_eq!(none.short(u64::MAX, 0, free(0, Some(0))), [""; 0]);
        // Whose size nobody knows is not taken to be empty.
        let unknown = Copies {
            unknown: vec!["volume `data`: why".to_owned()],
            ..none
        };
        assert_eq!(
            unknown.short(0, 0, free(u64::MAX, None)),
            ["volume `data`: why"]
        );
    }
}
