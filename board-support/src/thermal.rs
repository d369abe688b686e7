//! How hot the board is, against what its profile says.

use crate::profile::Thermal;
use crate::text::{Text, cut, read_text};
use std::path::{Path, PathBuf};

/// How hot the board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heat {
    /// Every zone is below its `restore_celsius`.
    Cool,
    /// None is hot, and not all are cool; or no zone can be read.
    Between,
    /// A zone has reached its `throttle_celsius`.
    Hot,
}

/// What the zones said at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// All of them together.
    pub heat: Heat,
    /// The one that is nearest to its `throttle_celsius`, or farthest beyond; `None` where none can be read.
    pub hottest: Option<Reading>,
}

/// What one zone said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// As the profile and the kernel call it.
    pub zone: Text,
    /// Thousandths of a degree Celsius.
    pub millidegrees: i32,
    /// From here on apps are slowed, in °C.
    pub throttle_celsius: u8,
}

impl Reading {
    /// Thousandths of a degree up to where apps are slowed; less than nothing beyond.
    pub fn margin(&self) -> i32 {
        (i32::from(self.throttle_celsius) * 1000).saturating_sub(self.millidegrees)
    }
}

/// Zones of the kernel that are looked at.
const ZONE_LIMIT: usize = 64;
/// What a sensor can mean, in thousandths of a degree Celsius; beyond, it is none that works.
const SENSED: std::ops::RangeInclusive<i32> = -100_000..=250_000;

/// Reads the zones of `thermal` below `root`, which is `/` on a board (sysfs-api.rst of thermal:
/// `type` is the name, `temp` is in thousandths of a degree Celsius).
pub fn look(root: &Path, thermal: &Thermal) -> Look {
    let (mut hot, mut cool) = (false, true);
    let mut hottest: Option<Reading> = None;
    for folder in zones(root) {
        let kind = kind(&folder);
        let Some(zone) = thermal.zones.iter().find(|z| z.zone == kind) else {
            continue;
        };
        let Some(millidegrees) = millidegrees(&folder) else {
            continue;
        };
        hot |= millidegrees >= i32::from(zone.throttle_celsius) * 1000;
        cool &= millidegrees < i32::from(zone.restore_celsius) * 1000;
        let reading = Reading {
            zone: zone.zone.clone(),
            millidegrees,
            throttle_celsius: zone.throttle_celsius,
        };
        if hottest
            .as_ref()
            .is_none_or(|so_far| reading.margin() < so_far.margin())
        {
            hottest = Some(reading);
        }
    }
    let heat = match (hot, hottest.is_some() && cool) {
        (true, _) => Heat::Hot,
        (false, true) => Heat::Cool,
        (false, false) => Heat::Between,
    };
    Look { heat, hottest }
}

/// The hottest zone of all, and its temperature in thousandths of a degree Celsius, whatever a profile says. Sensors that a
/// profile does not name may be slow: not for whoever must not wait.
pub fn hottest(root: &Path) -> Option<(Text, i32)> {
    let of = |folder: PathBuf| Some((millidegrees(&folder)?, kind(&folder)));
    let seen = zones(root).filter_map(of);
    let (millidegrees, zone) = seen.filter(|(at, _)| SENSED.contains(at)).max()?;
    Some((zone, millidegrees))
}

/// Folders of the kernel's zones.
fn zones(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(root.join("sys/class/thermal")).into_iter();
    // Cooling devices stand in the same folder.
    let zones = entries.flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().starts_with(b"thermal_zone")
    });
    zones.take(ZONE_LIMIT).map(|entry| entry.path())
}

fn kind(zone: &Path) -> Text {
    cut(read_text(&zone.join("type"), 128).trim())
}

fn millidegrees(zone: &Path) -> Option<i32> {
    read_text(&zone.join("temp"), 32).trim().parse().ok()
}

/// [`look`], and no more than how hot it is.
pub fn heat(root: &Path, thermal: &Thermal) -> Heat {
    look(root, thermal).heat
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_hottest_zone_counts_and_zones_that_the_profile_does_not_name_do_not() {
        let zone = |name: &str| {
            format!("{{ zone = \"{name}\", throttle_celsius = 80, restore_celsius = 70 }}")
        };
        let table = format!(
            "interval_seconds = 5\nstep_percent = 20\nfloor_percent = 20\nzones = [{}, {}]\n",
            zone("cpu-thermal"),
            zone("gpu-thermal")
        );
        let thermal: Thermal = toml::from_str(&table).unwrap();
        let root = tempfile::tempdir().unwrap();
        assert_eq!(
            heat(root.path(), &thermal),
            Heat::Between,
            "no zones at all"
        );
        let set = |number: u32, kind: &str, temp: &str| {
            let zone = root
                .path()
                .join(format!("sys/class/thermal/thermal_zone{number}"));
            fs::create_dir_all(&zone).unwrap();
            fs::write(zone.join("type"), format!("{kind}\n")).unwrap();
            fs::write(zone.join("temp"), temp).unwrap();
        };
        set(0, "cpu-thermal", "50000\n");
        set(1, "battery", "99000\n");
        assert_eq!(heat(root.path(), &thermal), Heat::Cool);
        set(2, "gpu-thermal", "75000\n");
        assert_eq!(heat(root.path(), &thermal), Heat::Between);
        set(2, "gpu-thermal", "80000\n");
        let hot = look(root.path(), &thermal);
        let zone = hot.hottest.unwrap();
        assert_eq!((hot.heat, zone.zone.as_str()), (Heat::Hot, "gpu-thermal"));
        assert_eq!((zone.millidegrees, zone.margin()), (80_000, 0));
        assert_eq!(hottest(root.path()), Some((cut("battery"), 99_000)));
        set(1, "battery", "2147483647\n");
        set(3, "modem", "unknown\n");
        assert_eq!(hottest(root.path()), Some((cut("gpu-thermal"), 80_000)));
        for number in 0..2 * ZONE_LIMIT {
            let cooling = format!("sys/class/thermal/cooling_device{number}");
            fs::create_dir_all(root.path().join(cooling)).unwrap();
        }
        assert_eq!(heat(root.path(), &thermal), Heat::Hot, "zones alone count");
        set(0, "cpu-thermal", "-5000\n");
        set(2, "gpu-thermal", "-273150\n");
        assert_eq!(heat(root.path(), &thermal), Heat::Cool);
    }
}
