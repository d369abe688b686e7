//! An app's health check in a release file, and what becomes of an image's `HEALTHCHECK`.

use coracle_images::layout::Healthcheck;
use coracle_protocol::release::{Health, Probe};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// Docker's, where an image says nothing.
const INTERVAL_MS: u32 = 30_000;
const TIMEOUT_MS: u32 = 30_000;
const RETRIES: u32 = 3;

/// `health` of an app, where the file has one.
#[derive(Debug)]
pub enum HealthEntry {
    /// `"none"`: not the image's either.
    Nothing,
    /// A table.
    Check(Health),
}

impl<'de> Deserialize<'de> for HealthEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = HealthEntry;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a table with `probe`, or \"none\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<HealthEntry, E> {
                match text {
                    "none" => Ok(HealthEntry::Nothing),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HealthEntry, A::Error> {
                Health::deserialize(MapAccessDeserializer::new(map)).map(HealthEntry::Check)
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

/// The check that an image brings, as boards run it; `None` when it brings none.
///
/// Docker's first look comes after an interval, a board's at once: what fails in that first interval does not count here either.
///
/// # Errors
/// In words: a kind that nobody defined.
pub fn of_image(check: &Healthcheck) -> Result<Option<Health>, String> {
    let (kind, rest) = match check.test.split_first() {
        None => return Ok(None),
        Some((kind, rest)) => (kind.as_str(), rest),
    };
    let argv = match kind {
        "NONE" => return Ok(None),
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => ["/bin/sh", "-c"]
            .map(String::from)
            .into_iter()
            .chain(rest.iter().cloned())
            .collect(),
        _ => {
            return Err(format!(
                "its image's HEALTHCHECK is `{kind}`, which is neither CMD, CMD-SHELL nor NONE; say what is asked in `health`, or `health = \"none\"`"
            ));
        }
    };
    let interval_ms = milliseconds(check.interval, 100).unwrap_or(INTERVAL_MS);
    let start_period_ms = milliseconds(check.start_period, 0).unwrap_or(0);
    Ok(Some(Health {
        probe: Probe::Exec { argv },
        interval_ms,
        timeout_ms: milliseconds(check.timeout, 10).unwrap_or(TIMEOUT_MS),
        retries: match check.retries {
            0 => RETRIES,
            retries => u32::try_from(retries).unwrap_or(u32::MAX),
        },
        // Docker looks for the first time after an interval. No trial is held open for hours by a long one.
        start_period_ms: start_period_ms.max(interval_ms.min(INTERVAL_MS)),
    }))
}

/// Of nanoseconds, `least` at least; what is too long for a board the release's own check refuses.
fn milliseconds(nanoseconds: u64, least: u32) -> Option<u32> {
    let milliseconds = u32::try_from(nanoseconds / 1_000_000).unwrap_or(u32::MAX);
    (nanoseconds > 0).then(|| milliseconds.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: test.iter().map(|word| (*word).to_owned()).collect(),
            ..Healthcheck::default()
        }
    }

    fn argv(health: &Health) -> &[String] {
        match &health.probe {
            Probe::Exec { argv } => argv,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_an_image_leaves_out_is_dockers() {
        let health = of_image(&of(&["CMD", "/bin/check", "-q"]))
            .unwrap()
            .unwrap();
        assert_eq!(argv(&health), ["/bin/check", "-q"]);
        let times = (
            health.interval_ms,
            health.timeout_ms,
            health.retries,
            health.start_period_ms,
        );
        assert_eq!(times, (30_000, 30_000, 3, 30_000));
    }

    #[test]
    fn times_are_nanoseconds_and_none_is_below_what_boards_take() {
        let check = Healthcheck {
            interval: 5_000_000_000,
            timeout: 1,
            start_period: 40_000_000_000,
            retries: 7,
            ..of(&["CMD-SHELL", "curl -f http://localhost || exit 1"])
        };
        let health = of_image(&check).unwrap().unwrap();
        assert_eq!(
            argv(&health),
            ["/bin/sh", "-c", "curl -f http://localhost || exit 1"]
        );
        let times = (
            health.interval_ms,
            health.timeout_ms,
            health.retries,
            health.start_period_ms,
        );
        assert_eq!(times, (5_000, 10, 7, 40_000));
        let hostile = Healthcheck {
            interval: u64::MAX,
            retries: u64::MAX,
            ..of(&["CMD", "x"])
        };
        let health = of_image(&hostile).unwrap().unwrap();
        assert_eq!((health.interval_ms, health.retries), (u32::MAX, u32::MAX));
    }

    #[test]
    fn none_is_none_and_what_nobody_defined_is_refused() {
        assert_eq!(of_image(&of(&[])), Ok(None));
        assert_eq!(of_image(&of(&["NONE"])), Ok(None));
        let fault = of_image(&of(&["HTTP", "/"])).unwrap_err();
        assert!(
            fault.contains("`HTTP`") && fault.contains("health = \"none\""),
            "{fault}"
        );
    }
}
