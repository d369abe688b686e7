//! What becomes of an app's output when it says more than can be written.

use super::App;
use crate::document::within;
use serde::{Deserialize, Serialize};

/// Of an app that says nothing, as Docker has it.
const DEFAULT_BUFFER_BYTES: u64 = 1 << 20;

/// Less holds no burst at all.
const LEAST_BUFFER_BYTES: u64 = 64 << 10;

/// It is memory of the board, beside the app's own.
const MOST_BUFFER_BYTES: u64 = 16 << 20;

/// How its output is taken. Docker's `mode` and `max-buffer-size`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// Who waits.
    #[serde(default)]
    pub mode: LogMode,
    /// Bytes that wait for the disk; only with `non-blocking`, 1 MiB when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_buffer_bytes: Option<u64>,
}

/// Who waits while the disk is slow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    /// The app, with its next word. Nothing that it said is lost.
    #[default]
    Blocking,
    /// Nobody: what does not fit into the buffer is dropped, and the log says how much.
    NonBlocking,
}

impl Logs {
    /// Whether the release says nothing of them.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes that wait at most before some are dropped; `None`: none are.
    pub fn drop_beyond(&self) -> Option<u64> {
        match self.mode {
            LogMode::Blocking => None,
            LogMode::NonBlocking => Some(self.max_buffer_bytes.unwrap_or(DEFAULT_BUFFER_BYTES)),
        }
    }
}

impl<L> App<L> {
    pub(super) fn check_logs(&self) -> Result<(), String> {
        let field = "logs.max_buffer_bytes";
        let Some(bytes) = self.logs.max_buffer_bytes else {
            return Ok(());
        };
        if self.logs.mode == LogMode::Blocking {
            return Err(format!(
                "{field} has no sense with logs.mode = `blocking`: nothing is dropped; leave it out, or say `non-blocking`"
            ));
        }
        if bytes < LEAST_BUFFER_BYTES {
            return Err(format!("{field} is {bytes}; at least {LEAST_BUFFER_BYTES}"));
        }
        within(field, bytes, MOST_BUFFER_BYTES)
    }
}

#[cfg(test)]
mod tests {

    fn app(logs: serde_json::Value) -> crate::release::SignedApp {
        let blob = serde_json::json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
        let app = serde_json::json!({
            "name": "web",
            "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
            "limits": { "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1 },
            "logs": logs,
        });
        serde_json::from_value(app).unwrap()
    }

    #[test]
    fn a_buffer_is_bounded_and_of_those_that_drop() {
        let of = |bytes: u64| {
            let logs = serde_json::json!({ "mode": "non-blocking", "max_buffer_bytes": bytes });
            app(logs).check_logs()
        };
        assert_eq!(of(1 << 16), Ok(()));
        assert_eq!(of(16 << 20), Ok(()));
        assert!(of((1 << 16) - 1).unwrap_err().contains("at least 65536"));
        let fault = of((16 << 20) + 1).unwrap_err();
        assert!(fault.contains("the limit is 16777216"), "{fault}");
        let blocking = app(serde_json::json!({ "max_buffer_bytes": 1 << 20 }));
        let fault = blocking.check_logs().unwrap_err();
        assert!(fault.contains("say `non-blocking`"), "{fault}");
    }

    #[test]
    fn nothing_is_dropped_unless_it_is_said() {
        let plain = app(serde_json::json!({}));
        assert_eq!(plain.logs.drop_beyond(), None);
        let json = serde_json::to_string(&plain).unwrap();
        assert!(!json.contains("logs"), "{json}");
        let dropping = app(serde_json::json!({ "mode": "non-blocking" }));
        assert_eq!(dropping.logs.drop_beyond(), Some(1 << 20));
    }
}
