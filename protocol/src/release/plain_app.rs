//! An app with what every app must have and nothing else, for the tests of what it may have.

use super::SignedApp;
use serde_json::{Value, json};

/// With these members besides.
pub(super) fn app(more: Value) -> SignedApp {
    let blob = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
    let mut app = json!({
        "name": "web",
        "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
        "limits": { "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1 },
    });
    let more = more.as_object().unwrap().clone();
    app.as_object_mut().unwrap().extend(more);
    serde_json::from_value(app).unwrap()
}
