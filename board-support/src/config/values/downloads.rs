//! When and how fast blobs are fetched.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is done where the board's profile calls the way to the console metered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeteredPolicy {
    /// Fetch all the same.
    #[default]
    Allow,
    /// Wait for a way that is free.
    Wait,
}

/// Bytes a second: 1024 to 2^40. Less than a modem's is a fetch that never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u64")]
pub struct Rate(u64);

impl Rate {
    /// The number.
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl TryFrom<i64> for Rate {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match u64::try_from(number) {
            Ok(rate @ 1024..=0x100_0000_0000) => Ok(Self(rate)),
            _ => Err(format!(
                "{number} is not allowed; allowed are 1024 to {}",
                1u64 << 40
            )),
        }
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> u64 {
        rate.0
    }
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A part of each day, in UTC: `22:00-06:00` goes on past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    /// Whether a time of Unix is within; the last minute is not.
    pub fn hold(self, unix_seconds: u64) -> bool {
        let minute = (unix_seconds / 60 % u64::from(DAY)) as u16;
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let times = text.split_once('-');
        let times = times.and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match times {
            Some((from, to)) if from % DAY != to % DAY && from < DAY => Ok(Self { from, to }),
            _ => Err(format!(
                "`{text}` is not allowed; allowed are two times of a day such as `22:00-06:00`"
            )),
        }
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for Hours {
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

/// `06:30`; `24:00` is the end of a day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| match part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) {
        true => part.parse::<u16>().ok(),
        false => None,
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY).then_some(total)
}
