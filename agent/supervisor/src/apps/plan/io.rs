//! Rates of the board's disks.

use crate::settings::{RatedDisk, Settings};
use coracle_board_support::budget::IoRates;
use coracle_board_support::probe::Outcome;
use coracle_protocol::release::{AppLimits, Release};
use coracle_runtime::cgroup::IoLimit;

/// The rates that a release names.
pub fn io_of(limits: &AppLimits) -> IoRates {
    IoRates {
        read_bytes: limits.io_read_bytes_per_second,
        write_bytes: limits.io_write_bytes_per_second,
        read_operations: limits.io_read_operations_per_second,
        write_operations: limits.io_write_operations_per_second,
    }
}

/// On each of the board's disks, for one app of a release.
pub(super) fn limits(own: &AppLimits, release: &Release, settings: &Settings) -> Vec<IoLimit> {
    let named: Vec<IoRates> = release.apps.iter().map(|app| io_of(&app.limits)).collect();
    let kept = !matches!(settings.trials.outcome("IO limit"), Some(Outcome::Fails(_)));
    let on = |disk: &RatedDisk| {
        let default = || IoRates::default_of(&settings.profile, disk.carries, &named);
        let rates = rates(io_of(own), kept.then(default));
        rates.is_any().then_some(IoLimit {
            major: disk.major,
            minor: disk.minor,
            read_bytes_per_second: rates.read_bytes,
            write_bytes_per_second: rates.write_bytes,
            read_operations_per_second: rates.read_operations,
            write_operations_per_second: rates.write_operations,
            weight: None,
        })
    };
    settings.disks.iter().filter_map(on).collect()
}

/// What the release names, and the board's own for the rest. A kernel that keeps no rates has none of its own to give: it refuses
/// an app that names some, and one that names none runs there, without.
fn rates(named: IoRates, default: Option<IoRates>) -> IoRates {
    named.or(default.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_gets_what_it_names_and_else_the_boards_where_the_kernel_keeps_any() {
        let named = io_of(&AppLimits {
            io_write_bytes_per_second: Some(7),
            ..AppLimits::default()
        });
        let board = IoRates {
            read_bytes: Some(20_000_000),
            write_bytes: Some(5_000_000),
            ..IoRates::default()
        };
        let both = rates(named, Some(board));
        assert_eq!(
            (both.read_bytes, both.write_bytes, both.write_operations),
            (Some(20_000_000), Some(7), None)
        );
        // A kernel that keeps none is not asked for any that nobody named.
        assert!(!rates(IoRates::default(), None).is_any());
        assert_eq!(rates(named, None), named);
    }
}
