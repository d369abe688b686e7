//! Numbers, ages and texts for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes with three digits or so: `0 B`, `512 KiB`, `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 99.95 && value.fract() >= 0.05 && value.fract() < 0.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A span in its two largest units at most: `5 s`, `3 min`, `2 h 5 min`, `4 d`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes} min"),
        () if days == 0 && minutes % 60 > 0 => format!("{hours} h {} min", minutes % 60),
        () if days == 0 => format!("{hours} h"),
        () => format!("{days} d"),
    }
}

/// How long ago a Unix time was; `-` for none, or for one that this clock has not reached.
pub fn age(at: Option<u64>) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    at.and_then(|at| now.checked_sub(at))
        .map_or_else(|| "-".to_owned(), span)
}

/// The text without control characters: it comes from apps and documents, and is shown in a
/// terminal. Line breaks become blanks.
pub fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(plain).collect()
}

/// The first 12 digits, as docker shows digests.
pub fn short(digest: &coracle_protocol::Sha256Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            ((1 << 20) - 1, "1 MiB"),
            (10_000_000_000, "9.3 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans() {
        for (seconds, text) in [
            (5, "5 s"),
            (125, "2 min"),
            (7200, "2 h"),
            (7500, "2 h 5 min"),
            (400_000, "4 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(age(Some(u64::MAX)), "-");
    }
}
