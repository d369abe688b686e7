//! Sizes and times as people write them: "64MiB", "90d". A bare number is bytes or seconds.

use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes: a number, or "64MiB" (1024), "64MB" (1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A time from now on: seconds, "90d", "10y", or a date "2027-01-31T00:00:00Z".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So long after it was issued.
    After(Duration),
    /// At this time, in Unix seconds.
    At(u64),
}

impl Expiry {
    /// Unix seconds, for what is issued at `issued_at`.
    pub fn from(self, issued_at: u64) -> u64 {
        match self {
            Self::After(duration) => issued_at.saturating_add(duration.as_secs()),
            Self::At(time) => time,
        }
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| {
                format!("`{text}` is no size; write a number of bytes, \"64MiB\" or \"1.5GB\"")
            })
    }
}

impl FromStr for Expiry {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self::After(Duration::from_secs(seconds)));
        }
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::After(duration));
        }
        humantime::parse_rfc3339_weak(text)
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map(|time| Self::At(time.as_secs()))
            .ok_or_else(|| {
                format!("`{text}` is no time; write \"90d\", \"10y\" or \"2027-01-31T00:00:00Z\"")
            })
    }
}

struct NumberOrText<T>(fn(u64) -> T, &'static str);

impl<T: FromStr<Err = String>> de::Visitor<'_> for NumberOrText<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        Ok(self.0(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        let value = u64::try_from(value)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))?;
        Ok(self.0(value))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(Size, "bytes, as a number or like \"64MiB\""))
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = |n| Expiry::After(Duration::from_secs(n));
        deserializer.deserialize_any(NumberOrText(seconds, "a time like \"90d\""))
    }
}

/// "64.0 MiB".
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

/// "2027-01-31T00:00:00Z"; the number itself where the calendar ends.
pub fn date(unix_seconds: u64) -> String {
    let last = 253_402_300_799; // 9999-12-31T23:59:59Z
    if unix_seconds > last {
        return unix_seconds.to_string();
    }
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Now in Unix seconds; `SOURCE_DATE_EPOCH` when it is set, so that a release can be made again bit
/// for bit (reproducible-builds.org, "SOURCE_DATE_EPOCH").
pub fn now() -> u64 {
    let set = std::env::var("SOURCE_DATE_EPOCH").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1MB", 1_000_000),
            ("4096", 4096),
            ("1.5GiB", 3 << 29),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "MiB", "-1", "64 potatoes"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        let days = |n: u64| Ok(Expiry::After(Duration::from_secs(n * 86_400)));
        assert_eq!("90d".parse(), days(90));
        assert_eq!("86400".parse(), days(1));
        assert_eq!(
            "2027-01-15T08:00:00Z".parse(),
            Ok(Expiry::At(1_800_000_000))
        );
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
        assert!("soon".parse::<Expiry>().is_err());
    }
}
