//! What is known of a container between two commands, and what the world is told of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hooks;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::failure::Failure;
use crate::id::ContainerId;
use crate::journal::now;
use crate::place::Place;
use crate::plan;

/// The specification's words (runtime.md, State), and `paused`, which engines know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }

    /// Has a process.
    pub fn is_alive(self) -> bool {
        !matches!(self, Status::Stopped | Status::Creating)
    }
}

/// The state file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub id: String,
    /// 0 until there is a process.
    pub pid: i32,
    /// Field 22 of /proc/pid/stat: with it a number that another process has by now is told apart.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// Seconds since 1970.
    pub created: u64,
    pub oci_version: String,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Below the top of the cgroup tree: folder above, and name.
    pub cgroup_parent: PathBuf,
    pub cgroup_name: String,
    /// The unit that the cgroup is, where systemd has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Shares the host's processes, so that the end of the first one is not the end of all.
    pub shares_pids: bool,
    /// Kept here, so that a start and a delete need not read the whole configuration for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// The three standard streams, where they are pipes: `pipe:[number]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
}

/// As on standard output and on a hook's standard input.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    pub status: &'static str,
    pub pid: i32,
    pub bundle: &'a Path,
    pub rootfs: &'a Path,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

impl Record {
    /// Before it has a process.
    pub fn of_new(id: &ContainerId, config: &Config, place: &Place) -> Result<Record, Failure> {
        let (cgroup_parent, cgroup_name) = place.folder();
        Ok(Record {
            id: id.to_string(),
            pid: 0,
            start_time: 0,
            bundle: config.bundle.clone(),
            rootfs: config.rootfs()?,
            created: now(),
            oci_version: config.spec.version().clone(),
            annotations: config
                .spec
                .annotations()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
            cgroup_parent,
            cgroup_name,
            scope: place.scope().map(|name| name.unit.clone()),
            shares_pids: plan::namespaces::shares_pids(config.linux()?),
            hooks: config.spec.hooks().clone(),
            streams: Vec::new(),
        })
    }

    pub fn shown(&self, status: Status) -> Shown<'_> {
        Shown {
            oci_version: &self.oci_version,
            id: &self.id,
            status: status.name(),
            pid: if status.is_alive() || status == Status::Creating {
                self.pid
            } else {
                0
            },
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: rfc3339(self.created),
            annotations: &self.annotations,
        }
    }
}

/// UTC, to the second (RFC 3339). Days to dates by Howard Hinnant's civil_from_days.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
