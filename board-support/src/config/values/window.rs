//! Parts of each day: maintenance windows, and hours of downloads.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A part of each day: `02:00-04:00`, or over midnight `22:00-02:00`. The end is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    from: u16,
    to: u16,
}

impl Window {
    /// Whether a time of Unix is in it, in UTC.
    pub fn has_time(&self, unix_seconds: u64) -> bool {
        self.has((unix_seconds / 60 % u64::from(DAY)) as u16)
    }

    /// Whether a minute of the day, 0 to 1439, is in it.
    pub fn has(&self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

/// In which time windows are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// Coordinated universal time.
    #[default]
    Utc,
    /// That of the board, by /etc/localtime.
    Local,
}

/// For how long, and whether at all, a release waits for a window on a board that does not know the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownTime {
    /// It goes on once the board was up for so many hours with it.
    #[default]
    Apply,
    /// Until the time is known, or the settings are others.
    Wait,
}

/// Hours that a board is up: 1 to 720, which is a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u16")]
pub struct HoursUp(u16);

impl HoursUp {
    /// As time.
    pub fn time(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 3600)
    }
}

impl Default for HoursUp {
    /// A day: each hour of one has come by then.
    fn default() -> Self {
        Self(24)
    }
}

impl TryFrom<i64> for HoursUp {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match u16::try_from(number) {
            Ok(hours @ 1..=720) => Ok(Self(hours)),
            _ => Err(format!(
                "{number} is not allowed; allowed are 1 to 720 hours"
            )),
        }
    }
}

impl From<HoursUp> for u16 {
    fn from(hours: HoursUp) -> u16 {
        hours.0
    }
}

impl FromStr for Window {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not allowed; allowed are two times of a day such as `02:00-04:00`, or over midnight `22:00-06:00`"
            )
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let from = minute(from).filter(|at| *at < DAY).ok_or_else(wrong)?;
        let to = minute(to).ok_or_else(wrong)?;
        if from == to {
            return Err(wrong() + "; the whole day is `00:00-24:00`");
        }
        Ok(Self { from, to })
    }
}

/// `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl TryFrom<String> for Window {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_minutes_and_no_other() {
        let minutes = |text: &str| {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), text);
            (0..DAY).filter(|minute| window.has(*minute)).count()
        };
        assert_eq!(minutes("02:00-04:00"), 120);
        assert_eq!(minutes("22:30-02:00"), 210);
        assert_eq!(minutes("00:00-24:00"), 1440);
        assert_eq!(minutes("23:59-00:00"), 1);
        let night: Window = "22:30-02:00".parse().unwrap();
        assert!(night.has(22 * 60 + 30) && night.has(0) && night.has(119));
        assert!(!night.has(120) && !night.has(22 * 60 + 29));
    }

    #[test]
    fn nonsense_is_no_window() {
        for bad in [
            "",
            "02:00",
            "2:00-4:00",
            "02:00-04:60",
            "24:00-01:00",
            "02:00-24:01",
            "+2:00-04:00",
            "02:00 - 04:00",
            "03:00-03:00",
        ] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }
}
