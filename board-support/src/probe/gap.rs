//! What is missing, what that costs, and how to get it.

mod board;
mod isolation;
mod limits;
mod network;

use super::{KernelFacts, Outcome, Presence, Trials};
use crate::profile::Profile;
use serde::Serialize;

/// How much a gap matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No app can be started as promised.
    Needed,
    /// A feature is lost; the rest works.
    Wanted,
    /// A limit of the kernel that nothing on the board can change but a newer kernel or layout.
    Note,
}

/// One thing that the kernel lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// `cgroup memory`.
    pub subject: String,
    /// How much it matters.
    pub severity: Severity,
    /// Whether it is known to be missing, or only not known to be there.
    pub certain: bool,
    /// What the kernel said when it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// What does not work.
    pub cost: String,
    /// What to do.
    pub remedy: String,
}

/// Collects gaps; each call is one question. What was tried wins over what was read.
struct Gaps<'a> {
    found: Vec<Gap>,
    trials: &'a Trials,
}

impl Gaps<'_> {
    fn ask(
        &mut self,
        presence: Presence,
        severity: Severity,
        subject: &str,
        cost: &str,
        remedy: &str,
    ) {
        let (presence, seen) = match self.trials.outcome(subject) {
            Some(Outcome::Works) => (Presence::Present, None),
            Some(Outcome::Fails(why)) => (Presence::Absent, Some(why.as_str().to_owned())),
            Some(Outcome::NotTried(_)) | None => (presence, None),
        };
        if presence != Presence::Present {
            self.insert(Gap {
                subject: subject.to_owned(),
                severity,
                certain: presence == Presence::Absent,
                seen,
                cost: cost.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }

    /// Behind those that are as bad.
    fn insert(&mut self, gap: Gap) {
        let worse = |other: &Gap| other.severity <= gap.severity;
        let at = self.found.partition_point(worse);
        self.found.insert(at, gap);
    }

    /// A question that only trying can answer: no gap while it was not tried.
    fn ask_trial(&mut self, severity: Severity, subject: &str, cost: &str, remedy: &str) {
        self.ask(Presence::Present, severity, subject, cost, remedy);
    }
}

/// Everything that is missing on this kernel for this board, the worst first. `trials` may be empty.
pub fn gaps(facts: &KernelFacts, trials: &Trials, profile: &Profile) -> Vec<Gap> {
    let mut gaps = Gaps {
        found: Vec::new(),
        trials,
    };
    isolation::namespaces(facts, &mut gaps);
    limits::cgroups(facts, profile, &mut gaps);
    limits::knobs(facts, &mut gaps);
    isolation::files_and_network(facts, &mut gaps);
    isolation::system_calls(facts, &mut gaps);
    network::switches(facts, profile, &mut gaps);
    network::uplinks(facts, profile, &mut gaps);
    network::needs(&mut gaps);
    board::hardware(facts, profile, &mut gaps);
    board::start(facts, profile, &mut gaps);
    board::options(facts, profile, &mut gaps);
    gaps.found
}
