//! The board's clock, which may be wrong, and how Docker writes times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When this program was built, in Unix seconds: the time is at least that.
pub fn built_at() -> u64 {
    env!("CORACLE_BUILT_AT").parse().unwrap_or(0)
}

/// The lower bound of time that the supervisor last told: what signed documents say. One for the process, as
/// the clock is.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// Whether the supervisor last told that the clock is kept. It asks the kernel: this process may not, since
/// the call that reads the state of the clock can set it too.
static KEPT: AtomicBool = AtomicBool::new(false);

/// What the supervisor tells. The bound may go back, under a new root document after a theft.
pub fn told(bound: u64, kept: bool) {
    TOLD.store(bound, Ordering::Relaxed);
    KEPT.store(kept, Ordering::Relaxed);
}

/// Whether somebody keeps the clock (NTP and the like), as the supervisor last told.
pub fn is_kept() -> bool {
    KEPT.load(Ordering::Relaxed)
}

/// The time is at least this: the build of this program, or what signed documents say.
pub fn at_least() -> u64 {
    built_at().max(TOLD.load(Ordering::Relaxed))
}

/// The clock, in Unix seconds.
pub fn now() -> u64 {
    since_epoch().as_secs()
}

/// The clock, since 1970.
pub fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The last second that RFC 3339 has a year for: 9999-12-31T23:59:59Z.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// RFC 3339 in UTC, with nanoseconds. A clock that is past the year 9999 stays at its end.
pub fn rfc3339(at: Duration) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + at.min(LAST)).to_string()
}

/// Reads what [`rfc3339`] writes, with any number of decimals; only UTC.
pub fn parse_rfc3339(text: &str) -> Option<Duration> {
    let time = humantime::parse_rfc3339(text).ok()?;
    time.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000000Z");
        let leap = Duration::new(951_827_696, 789_000_000);
        assert_eq!(rfc3339(leap), "2000-02-29T12:34:56.789000000Z");
        assert_eq!(parse_rfc3339("2000-02-29T12:34:56.789Z"), Some(leap));
    }

    #[test]
    fn a_clock_past_the_calendar_is_written_too() {
        assert_eq!(rfc3339(Duration::MAX), "9999-12-31T23:59:59.000000000Z");
    }

    #[test]
    fn every_day_comes_back() {
        for day in (0..80_000u64).step_by(13) {
            let at = Duration::new(day * 86_400 + 86_399, 1);
            assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        }
    }

    #[test]
    fn nonsense_is_no_time() {
        for bad in [
            "",
            "x",
            "2000-01-01",
            "2000-13-01T00:00:00Z",
            "2000-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
