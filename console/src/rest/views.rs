//! What REST and the pages say of boards and assignments, as JSON.

use crate::live::Live;
use crate::marks;
use crate::store::{Assignment, Board, FeedbackKept, Store, StoreError};
use serde_json::{Value, json};

fn feedback_view(kept: &FeedbackKept) -> Value {
    let mut value = serde_json::to_value(&kept.feedback).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("at".into(), kept.at.into());
    }
    value
}

/// One board's part of a deployment: `{board, activity, seq, release, deltas, phase, …}`; `phase`
/// is `null` before the board said anything, `end` tells whether more will come.
pub fn assignment_view(assignment: &Assignment) -> Value {
    let said = assignment.progress.as_ref();
    let feedback = said.map(|kept| &kept.feedback);
    json!({
        "board": assignment.board,
        "activity": assignment.activity,
        "deployment": assignment.deployment,
        "release": assignment.release,
        "seq": assignment.seq,
        "created_at": assignment.created_at,
        "deltas": assignment.deltas,
        "phase": feedback.map(|f| f.phase),
        "percent": feedback.and_then(|f| f.percent),
        "code": feedback.and_then(|f| f.code.clone()),
        "reason": feedback.and_then(|f| f.reason.clone()),
        "fetched": feedback.and_then(|f| f.fetched),
        "blob": feedback.and_then(|f| f.blob.clone()),
        "end": feedback.is_some_and(|f| f.phase.is_end()),
        "at": said.map(|kept| kept.at),
    })
}

/// A board: `{board, enrolled_at, revoked_at, revoked_why, presence, current, current_at, feedback, assignment, telemetry, used, dropped}`;
/// `used` is what the board itself uses, with `received_at` and `marks`, also of one that said nothing since the console started.
pub async fn board_view(store: &Store, live: &Live, board: &Board) -> Result<Value, StoreError> {
    let feedback = store.last_feedback(&board.id).await?;
    let assignment = store.latest_assignment(&board.id).await?;
    let telemetry = live.telemetry(&board.id).map(|(telemetry, at)| {
        let mut value = serde_json::to_value(&telemetry).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.insert("received_at".into(), at.into());
        }
        value
    });
    let used = live.used(board).map(|(used, at)| {
        let mut value = serde_json::to_value(&used).unwrap_or_default();
        value["received_at"] = at.into();
        value["marks"] = json!(marks::of(&used));
        value
    });
    Ok(json!({
        "board": board.id,
        "enrolled_at": board.enrolled_at,
        "revoked_at": board.revoked_at,
        "revoked_why": board.revoked_why,
        "presence": board.presence,
        "current": board.current,
        "current_at": board.current_at,
        "feedback": feedback.as_ref().map(feedback_view),
        "assignment": assignment.as_ref().map(assignment_view),
        "telemetry": telemetry,
        "used": used,
        "dropped": live.dropped(&board.id),
    }))
}
