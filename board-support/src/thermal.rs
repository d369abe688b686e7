//! How hot the board is, against what its profile says.

use crate::profile::Thermal;
use crate::text::read_text;
use std::path::Path;

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

/// Zones of the kernel that are looked at.
const ZONE_LIMIT: usize = 64;

/// Reads the zones of `thermal` below `root`, which is `/` on a board (sysfs-api.rst of thermal:
/// `type` is the name, `temp` is in thousandths of a degree Celsius).
pub fn heat(root: &Path, thermal: &Thermal) -> Heat {
    let folder = root.join("sys/class/thermal");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let (mut hot, mut cool, mut read) = (false, true, 0);
    for entry in entries.take(ZONE_LIMIT) {
        let kind = read_text(&entry.path().join("type"), 128);
        let Some(zone) = thermal.zones.iter().find(|z| z.zone == kind.trim()) else {
            continue;
        };
        let temp = read_text(&entry.path().join("temp"), 32);
        let Ok(millidegrees) = temp.trim().parse::<i32>() else {
            continue;
        };
        read += 1;
        hot |= millidegrees >= i32::from(zone.throttle_celsius) * 1000;
        cool &= millidegrees < i32::from(zone.restore_celsius) * 1000;
    }
    match (hot, read > 0 && cool) {
        (true, _) => Heat::Hot,
        (false, true) => Heat::Cool,
        (false, false) => Heat::Between,
    }
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
        assert_eq!(heat(root.path(), &thermal), Heat::Hot);
        set(0, "cpu-thermal", "-5000\n");
        set(2, "gpu-thermal", "-273150\n");
        assert_eq!(heat(root.path(), &thermal), Heat::Cool);
    }
}
