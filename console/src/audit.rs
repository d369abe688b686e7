//! The audit log: every change, by whom. It goes to the database and to the program's log, so that
//! a copy can lie where whoever breaks into the console cannot reach.

use crate::clock::now;
use crate::secrets::random_hex;
use crate::store::{AuditEntry, Store};

/// Writes a line. A failure is logged and stops nothing: what was done is done.
pub async fn note(store: &Store, actor: &str, action: &str, subject: &str, detail: &str) {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let entry = AuditEntry {
        at: now(),
        actor: cut(actor, 100),
        action: action.to_owned(),
        subject: cut(subject, 200),
        detail: cut(detail, 1000),
    };
    tracing::info!(target: "audit", actor = entry.actor, action, subject = entry.subject, detail = entry.detail);
    // Time first, so that lines of one second sort as they were written.
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    let id = format!("{nanos:020}-{}", random_hex(4).unwrap_or_default());
    if let Err(error) = store.add_audit(&id, &entry).await {
        tracing::error!(%error, action, "audit line lost");
    }
}
