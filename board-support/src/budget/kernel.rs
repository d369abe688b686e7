//! Promises that this kernel cannot keep, whatever the board has: found by trying, at start.

use super::{AppPromise, Problem};
use crate::probe::{Need, Outcome, Trials};

/// Whether an app asks for a limit.
type Asks = fn(&AppPromise) -> bool;

/// Limits as the trials name them.
const LIMITS: [(&str, Asks); 10] = [
    ("memory limit", |app| app.memory_bytes > 0),
    ("memory guarantee", |app| {
        app.guarantees.memory_min_bytes > 0
    }),
    ("memory reservation", |app| {
        app.guarantees.memory_reservation_bytes > 0
    }),
    ("swap limit", |app| app.more.swap),
    ("OOM group", |app| app.more.oom_group),
    ("CPU burst", |app| app.more.cpu_burst),
    ("fixed cores", |app| app.guarantees.cpus > 0),
    ("CPU quota", |app| app.cpu_millis > 0),
    ("process limit", |app| app.pids > 0),
    ("IO limit", |app| app.io.is_any()),
];

/// Whether an app can ask for this limit.
pub fn can_be_asked_for(limit: &str) -> bool {
    LIMITS.iter().any(|(subject, _)| *subject == limit)
}

/// One problem for each app and limit that was tried and failed. What was not tried is believed.
pub fn unkept(trials: &Trials, promises: &[AppPromise]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for promise in promises {
        for (subject, asks) in LIMITS {
            if let Some(Outcome::Fails(why)) = trials.outcome(subject)
                && asks(promise)
            {
                problems.push(Problem::NotKept {
                    app: promise.name.clone(),
                    limit: subject.to_owned(),
                    why: why.as_str().to_owned(),
                });
            }
        }
    }
    problems
}

/// One problem for each of an app's needs that was tried and failed.
pub fn lacking(trials: &Trials, app: &str, needs: &[Need]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for need in needs {
        if let Some(Outcome::Fails(why)) = trials.outcome(need.subject()) {
            problems.push(Problem::Lacks {
                app: app.to_owned(),
                need: need.subject().to_owned(),
                why: why.as_str().to_owned(),
            });
        }
    }
    problems
}
