//! Rates of the board's disks.

use crate::settings::Settings;
use coracle_board_support::budget::IoRates;
use coracle_board_support::probe::Outcome;
use coracle_board_support::profile::Profile;
use coracle_protocol::release::AppLimits;
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

/// On each of the board's disks.
pub(super) fn limits(own: &AppLimits, settings: &Settings) -> Vec<IoLimit> {
    let kept = !matches!(settings.trials.outcome("IO limit"), Some(Outcome::Fails(_)));
    let rates = rates(io_of(own), &settings.profile, kept);
    if !rates.is_any() {
        return Vec::new();
    }
    let on = |&(major, minor): &(u32, u32)| IoLimit {
        major,
        minor,
        read_bytes_per_second: rates.read_bytes,
        write_bytes_per_second: rates.write_bytes,
        read_operations_per_second: rates.read_operations,
        write_operations_per_second: rates.write_operations,
        weight: None,
    };
    settings.disks.iter().map(on).collect()
}

/// What the release names, and the board's own for the rest. A kernel that keeps no rates refuses an app that names some; one that
/// names none runs there, without.
fn rates(named: IoRates, profile: &Profile, kept: bool) -> IoRates {
    match kept {
        true => named.or(IoRates::default_of(profile)),
        false => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_board_support::profile::Architecture;

    #[test]
    fn an_app_that_names_no_rates_gets_the_boards() {
        let mut profile = Profile::generic(Architecture::Aarch64);
        profile.quotas.io_read_bytes_per_second = None;
        profile.quotas.io_write_bytes_per_second = Some(8_000_000);
        profile.storage.ceilings.read_bytes_per_second = Some(20_000_000);
        profile.storage.ceilings.write_bytes_per_second = Some(5_000_000);
        let named = io_of(&AppLimits {
            io_write_bytes_per_second: Some(7),
            ..AppLimits::default()
        });
        let of = |named| rates(named, &profile, true);
        let default = of(IoRates::default());
        assert_eq!(default.read_bytes, Some(20_000_000));
        assert_eq!(
            default.write_bytes,
            Some(5_000_000),
            "the ceiling is below the quota"
        );
        assert_eq!(default.write_operations, None);
        let own = of(named);
        assert_eq!(
            (own.read_bytes, own.write_bytes),
            (Some(20_000_000), Some(7))
        );
        // A kernel that keeps none is not asked for any that nobody named.
        assert!(!rates(IoRates::default(), &profile, false).is_any());
        assert_eq!(rates(named, &profile, false), named);
    }
}
