//! What is missing, what that costs, and how to get it.

mod board;
mod isolation;
mod limits;

use super::{KernelFacts, Presence};
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
    /// What does not work.
    pub cost: String,
    /// What to do.
    pub remedy: String,
}

/// Collects gaps; each call is one question.
struct Gaps(Vec<Gap>);

impl Gaps {
    fn ask(
        &mut self,
        presence: Presence,
        severity: Severity,
        subject: &str,
        cost: &str,
        remedy: &str,
    ) {
        if presence != Presence::Present {
            self.0.push(Gap {
                subject: subject.to_owned(),
                severity,
                certain: presence == Presence::Absent,
                cost: cost.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }
}

/// Everything that is missing on this kernel for this board, the worst first.
pub fn gaps(facts: &KernelFacts, profile: &Profile) -> Vec<Gap> {
    let mut gaps = Gaps(Vec::new());
    isolation::namespaces(facts, &mut gaps);
    limits::cgroups(facts, &mut gaps);
    isolation::files_and_network(facts, &mut gaps);
    isolation::system_calls(facts, &mut gaps);
    board::hardware(facts, profile, &mut gaps);
    board::options(facts, profile, &mut gaps);
    gaps.0.sort_by_key(|gap| gap.severity);
    gaps.0
}
