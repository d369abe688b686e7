//! What a board leaves on a stick whose signed assignment asks for it: one small file beside `stick.json`, for the person
//! who carries the stick back. It is signed by nobody: who wants to know for sure asks the board.

use crate::counters::Counter;
use crate::limits::LIMITS;
use crate::names::{BoardId, ProductName};
use crate::report::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `result-<board>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardResult {
    /// Always 1.
    pub result_version: u32,
    /// The board's name, once it is enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<BoardId>,
    /// Its serial number, where its firmware tells one, else the machine id of its system.
    pub serial: String,
    /// Its hardware class.
    #[serde(default)]
    pub hardware: String,
    /// What the stick brought.
    #[serde(default)]
    pub product: String,
    /// The release's version text.
    #[serde(default)]
    pub version: String,
    /// The stick's number.
    #[serde(default)]
    pub stick: u64,
    /// How it ended.
    pub outcome: Phase,
    /// Why, as a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Product and version that the board has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// Version of the board's agent.
    #[serde(default)]
    pub agent: String,
    /// What the board has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// When it was, as far as the board knows.
    pub time: Time,
}

/// Counters of a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Highest number of role `deploy`.
    pub deploy: Counter,
    /// Highest number of role `offline-deploy`.
    pub offline_deploy: Counter,
    /// Highest release counters.
    pub releases: BTreeMap<ProductName, Counter>,
}

/// A board's time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// The board's clock, RFC 3339.
    pub clock: String,
    /// Whether something keeps that clock right.
    pub kept: bool,
    /// Unix seconds before which it cannot have been, by what is signed.
    pub at_least: u64,
}

/// Why a file is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// Longer than a board writes.
    #[error("it has more than {} bytes", BoardResult::BYTES)]
    TooLarge,
    /// Not the JSON that it should be.
    #[error("{0}")]
    Malformed(String),
    /// Made by a newer program.
    #[error("it has version {0}; this program reads 1")]
    Version(u32),
}

impl BoardResult {
    /// Longest file, in bytes.
    pub const BYTES: usize = 8 * 1024;
    /// Characters of a reason.
    pub const REASON: usize = 1024;
    /// Files that one board leaves on one stick; what is there already is never written over.
    pub const OF_ONE_BOARD: u32 = 9;

    /// Whose it is: the board's name, else its serial number.
    pub fn of(&self) -> &str {
        self.board.as_ref().map_or(&self.serial, BoardId::as_str)
    }

    /// What the files of a board are called; the first that is free is taken.
    pub fn names(of: &str) -> impl Iterator<Item = String> + use<> {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let mut who: String = of.chars().filter(plain).take(96).collect();
        if who.is_empty() {
            who.push_str("unknown");
        }
        (1..=Self::OF_ONE_BOARD).map(move |number| match number {
            1 => format!("result-{who}.json"),
            _ => format!("result-{who}-{number}.json"),
        })
    }

    /// Whether a file of that name is a board's.
    pub fn is_name(name: &str) -> bool {
        name.starts_with("result-") && name.ends_with(".json")
    }

    /// The file: for people too.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads a file that a stranger may have written.
    pub fn parse(json: &[u8]) -> Result<Self, ResultError> {
        if json.len() > Self::BYTES {
            return Err(ResultError::TooLarge);
        }
        let result: Self =
            serde_json::from_slice(json).map_err(|e| ResultError::Malformed(e.to_string()))?;
        if result.result_version != 1 {
            return Err(ResultError::Version(result.result_version));
        }
        if result.time.at_least > LIMITS.integer {
            return Err(ResultError::Malformed("time.at_least".to_owned()));
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> BoardResult {
        BoardResult {
            result_version: 1,
            board: None,
            serial: "../10/0 abc".into(),
            hardware: "qemux86-64".into(),
            product: "shop".into(),
            version: "2.0".into(),
            stick: 7,
            outcome: Phase::RolledBack,
            code: Some("rolled-back".into()),
            reason: Some("web: exited with 1".into()),
            runs: Some("shop 1.0".into()),
            agent: "0.1.0".into(),
            counters: None,
            time: Time {
                clock: "1970-01-01T00:00:00Z".into(),
                kept: false,
                at_least: 1_800_000_000,
            },
        }
    }

    #[test]
    fn a_result_is_read_as_it_was_written() {
        let said = result();
        assert_eq!(BoardResult::parse(&said.to_json()), Ok(said));
        let newer = BoardResult {
            result_version: 2,
            ..result()
        };
        assert_eq!(
            BoardResult::parse(&newer.to_json()),
            Err(ResultError::Version(2))
        );
        let long = vec![b' '; BoardResult::BYTES + 1];
        assert_eq!(BoardResult::parse(&long), Err(ResultError::TooLarge));
    }

    #[test]
    fn the_name_of_a_result_leads_nowhere_else() {
        let names: Vec<String> = BoardResult::names(result().of()).collect();
        assert_eq!(names.len(), 9);
        assert_eq!(names[0], "result-..100abc.json");
        assert_eq!(names[8], "result-..100abc-9.json");
        let named = BoardResult {
            board: Some(BoardId::new("acme.b-1").unwrap()),
            ..result()
        };
        let first = BoardResult::names(named.of()).next().unwrap();
        assert_eq!(first, "result-acme.b-1.json");
        assert!(BoardResult::is_name(&first) && !BoardResult::is_name("stick.json"));
        let nobody = BoardResult::names("/ ").next().unwrap();
        assert_eq!(nobody, "result-unknown.json");
    }
}
