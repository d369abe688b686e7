//! A board's own file, `board.toml`: what a site changes about a profile, and which file each value
//! in force comes from.
//!
//! Tables are merged key by key; a list or a single value takes the place of the profile's. A file
//! that has a `name` is a whole profile of its own and is merged with nothing.

use super::{Profile, ProfileError};
use crate::toml_file;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What says what kind of board this is; a site cannot change that.
const FIXED: [&str; 2] = ["architecture", "match"];

/// A board's own file, read but not yet merged.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteFile {
    path: PathBuf,
    text: String,
    table: Table,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// board.toml.
    Site,
    /// The profile.
    Profile,
    /// Neither names it.
    Default,
}

/// One value in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// `network.mtu`.
    pub key: String,
    /// A list is one value.
    pub value: Value,
    /// Which file it is from.
    pub origin: Origin,
}

impl SiteFile {
    /// Reads the file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, ProfileError> {
        let text = match toml_file::read_text(path) {
            Err(ProfileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let table = toml_file::parse(&text, path)?;
        Ok(Some(Self {
            path: path.to_owned(),
            text,
            table,
        }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a profile of its own.
    pub fn is_whole(&self) -> bool {
        self.table.contains_key("name")
    }

    /// The profile that it is, when it is whole.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        Profile::parse(&self.text, &self.path)
    }

    /// `profile` with this file's values over it.
    pub fn over(&self, profile: &Profile) -> Result<Profile, ProfileError> {
        let fault =
            |key: &str, message: String| toml_file::fault(&self.text, &self.path, key, message);
        for key in FIXED {
            if self.table.contains_key(key) {
                let message =
                    "cannot be changed by a board's own file; a profile of its own needs a name";
                return Err(fault(key, message.to_owned()));
            }
        }
        let mut merged =
            Table::try_from(profile).map_err(|error| fault("profile", error.to_string()))?;
        overlay(&mut merged, &self.table);
        // Through text, not `Value`: one deserializer of each type in the program is enough.
        let text = merged.to_string();
        let merged: Profile = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            fault(
                &toml_file::key_at(&text, start),
                error.message().replace('\n', ", "),
            )
        })?;
        merged
            .consistent()
            .map_err(|(key, message)| fault(key, message))?;
        Ok(merged)
    }
}

fn overlay(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Every value of `profile` with the file that it is from. `written` is the text of the profile's
/// file, `site` what was merged over it.
pub(crate) fn settings(profile: &Profile, written: &str, site: Option<&SiteFile>) -> Vec<Setting> {
    // Both were parsed before, so that neither can fail here; without them all would be a default.
    let written: Table = toml::from_str(written).unwrap_or_default();
    let force = Table::try_from(profile).unwrap_or_default();
    let mut found = Vec::new();
    collect("", &force, &mut |key, value| {
        let origin = match site {
            Some(site) if holds(&site.table, key) => Origin::Site,
            _ if holds(&written, key) => Origin::Profile,
            _ => Origin::Default,
        };
        found.push(Setting {
            key: key.to_owned(),
            value: value.clone(),
            origin,
        });
    });
    found
}

fn collect(above: &str, table: &Table, each: &mut impl FnMut(&str, &Value)) {
    for (name, value) in table {
        let key = match above {
            "" => name.clone(),
            above => format!("{above}.{name}"),
        };
        match value {
            Value::Table(below) => collect(&key, below, each),
            value => each(&key, value),
        }
    }
}

fn holds(table: &Table, key: &str) -> bool {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    match table.get(first) {
        Some(Value::Table(below)) if !rest.is_empty() => holds(below, rest),
        Some(_) => rest.is_empty(),
        None => false,
    }
}
