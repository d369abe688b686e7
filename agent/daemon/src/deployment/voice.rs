//! What a deployment says of itself: to the console, to whoever listens on docker.sock, to the log.

use super::Means;
use super::outcome::Outcome;
use super::record::Record;
use crate::link::odd::{self, Kind};
use coracle_protocol::report::{Feedback, Fetched, Phase, REASON_CHARS};

/// What there is to say of a phase.
#[derive(Default)]
struct Words {
    percent: Option<u8>,
    code: Option<String>,
    reason: Option<String>,
    fetched: Option<Fetched>,
    blob: Option<String>,
}

/// The voice of one activity.
#[derive(Debug)]
pub struct Voice<'a> {
    means: &'a Means,
    record: &'a mut Record,
    activity: &'a str,
    last: Option<Phase>,
}

impl<'a> Voice<'a> {
    /// For `activity`.
    pub fn new(means: &'a Means, record: &'a mut Record, activity: &'a str) -> Self {
        Self {
            means,
            record,
            activity,
            last: None,
        }
    }

    /// Of another activity.
    pub fn other<'b>(&'b mut self, activity: &'b str) -> Voice<'b> {
        Voice::new(self.means, self.record, activity)
    }

    /// A phase begins. Said once for each.
    pub fn phase(&mut self, phase: Phase) {
        if self.last != Some(phase) {
            self.say(phase, Words::default());
        }
    }

    /// It waits for its time; said again when the reason is another.
    pub fn waiting(&mut self, code: Option<String>, reason: Option<String>) {
        let words = Words {
            code,
            reason,
            ..Words::default()
        };
        self.say(Phase::Waiting, words);
    }

    /// How far the fetch is, and which blob comes.
    pub fn progress(&mut self, percent: u8, fetched: Fetched, blob: Option<String>) {
        let words = Words {
            percent: Some(percent),
            fetched: Some(fetched),
            blob,
            ..Words::default()
        };
        self.say(Phase::Fetching, words);
    }

    /// The fetch waits, and why.
    pub fn waits(&mut self, why: &str) {
        let words = Words {
            code: Some("download-waits".to_owned()),
            reason: Some(why.to_owned()),
            ..Words::default()
        };
        self.say(Phase::Fetching, words);
    }

    /// The end.
    pub fn end(&mut self, outcome: Outcome, fetched: Option<Fetched>) {
        if outcome.is_old() {
            odd::count(Kind::Old);
        }
        let Outcome {
            phase,
            code,
            reason,
        } = outcome;
        self.means.counters.ended(phase);
        let words = Words {
            code,
            reason,
            fetched,
            ..Words::default()
        };
        self.say(phase, words);
    }

    /// An assignment was refused.
    pub fn refuse(&mut self, deployment: coracle_protocol::Sha256Digest) {
        self.record.refuse(deployment);
    }

    /// The set may run from now on and needs these configurations.
    pub fn keep(&mut self, configs: Vec<coracle_protocol::Sha256Digest>) {
        self.record.keep(configs);
    }

    fn say(&mut self, phase: Phase, words: Words) {
        let Words {
            percent,
            code,
            reason,
            fetched,
            blob,
        } = words;
        let sequence = self.record.next_sequence(self.activity);
        if self.last != Some(phase) {
            self.last = Some(phase);
            tracing::info!(activity = %self.activity, ?phase, code = code.as_deref(), reason = reason.as_deref(), "deployment");
        }
        let feedback = Feedback {
            activity: self.activity.to_owned(),
            sequence,
            phase,
            percent,
            code,
            reason: reason.map(|r| r.chars().take(REASON_CHARS).collect()),
            fetched,
            blob,
        };
        self.means.outbox.feedback(feedback.clone());
        if percent.is_none_or(|p| p == 0) {
            self.record.note(self.activity, phase);
        }
        self.means.last.send_replace(Some(feedback.clone()));
        // Nobody may listen.
        let _ = self.means.heard.send(feedback);
    }
}
