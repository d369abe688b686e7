//! How long an app may put off that its set is replaced.

use super::App;
use crate::document::within;
use serde::{Deserialize, Serialize};

/// Where an app finds the folder for its lock: its user's, in memory, empty at each start.
pub const UPDATE_LOCK_FOLDER: &str = "/run/coracle";

/// The file in it that is the lock: while it is there, the next set waits.
pub const UPDATE_LOCK: &str = "update-lock";

/// A week: a fix that waits longer reaches nobody.
const LONGEST_SECONDS: u64 = 7 * 86_400;

/// The right to put it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateLock {
    /// So long at most, in seconds, for one deployment.
    pub max_defer_seconds: u32,
}

impl<L> App<L> {
    pub(super) fn check_update_lock(&self) -> Result<(), String> {
        let Some(lock) = self.update_lock else {
            return Ok(());
        };
        let field = "update_lock.max_defer_seconds";
        if lock.max_defer_seconds == 0 {
            return Err(format!("{field} is 0; leave update_lock out for no lock"));
        }
        within(field, lock.max_defer_seconds.into(), LONGEST_SECONDS)?;
        let volumes = self.volumes.iter().map(|v| &v.target);
        let tmpfs = self.tmpfs.iter().map(|t| &t.target);
        let binds = self.binds.iter().map(|b| &b.target);
        let mut targets = volumes.chain(tmpfs).chain(binds);
        match targets.find(|path| path.trim_end_matches('/') == UPDATE_LOCK_FOLDER) {
            Some(path) => Err(format!(
                "update_lock has its folder at `{path}`; mount nothing else there"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plain_app::app;

    #[test]
    fn a_lock_ends() {
        let lock = |seconds: u64| {
            app(serde_json::json!({ "update_lock": { "max_defer_seconds": seconds } }))
                .check_update_lock()
        };
        assert_eq!(lock(1), Ok(()));
        assert_eq!(lock(604_800), Ok(()));
        assert_eq!(
            lock(604_801).unwrap_err(),
            "update_lock.max_defer_seconds is 604801; the limit is 604800"
        );
        assert!(lock(0).unwrap_err().contains("is 0"));
        let json = serde_json::to_string(&app(serde_json::json!({}))).unwrap();
        assert!(!json.contains("update_lock"), "{json}");
    }

    #[test]
    fn its_folder_is_its_own() {
        let text = app(serde_json::json!({
            "update_lock": { "max_defer_seconds": 60 },
            "tmpfs": [{ "target": "/run/coracle", "size_bytes": 4096 }],
        }))
        .check_update_lock()
        .unwrap_err();
        assert!(text.contains("mount nothing else there"), "{text}");
    }
}
