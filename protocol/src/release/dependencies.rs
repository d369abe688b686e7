//! Which app of a release starts after which other, and once what is true of that one.

use super::{App, Release, Restart};
use crate::document::within;
use crate::limits::LIMITS;
use crate::names::AppName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What has to be true of an app before one that depends on it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It runs, or has ended well (Compose: `service_started`).
    Started,
    /// It runs, and its health check says so (`service_healthy`).
    Healthy,
    /// It has ended with 0 and stays so (`service_completed_successfully`).
    Completed,
}

/// The word in the release.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        })
    }
}

impl<L> App<L> {
    /// Apps that have to be there first: those that it depends on, and the one whose network it uses.
    fn after(&self) -> impl Iterator<Item = &AppName> {
        self.depends_on.keys().chain(&self.network.container)
    }
}

/// Positions of `apps` in an order in which each comes after those that it depends on, else as they are listed; or the
/// names of those that depend on each other in a circle.
pub fn start_order<L>(apps: &[&App<L>]) -> Result<Vec<usize>, Vec<AppName>> {
    let mut order = Vec::with_capacity(apps.len());
    let mut left: Vec<usize> = (0..apps.len()).collect();
    while !left.is_empty() {
        let mut waiting = BTreeSet::new();
        waiting.extend(left.iter().map(|at| &apps[*at].name));
        let free = |at: &usize| !apps[*at].after().any(|name| waiting.contains(name));
        let Some(place) = left.iter().position(free) else {
            return Err(circle(apps, &left));
        };
        order.push(left.remove(place));
    }
    Ok(order)
}

/// One circle among `left`, each of which waits for another of them: from any of them on, until a name comes again.
fn circle<L>(apps: &[&App<L>], left: &[usize]) -> Vec<AppName> {
    let of_left = |name: &&AppName| left.iter().any(|at| apps[*at].name == **name);
    let mut by_name = BTreeMap::new();
    by_name.extend(left.iter().map(|at| (&apps[*at].name, apps[*at])));
    let mut way: Vec<AppName> = Vec::new();
    let mut next = left.first().map(|at| &apps[*at].name);
    while let Some(name) = next {
        if let Some(begin) = way.iter().position(|been| been == name) {
            return way.split_off(begin);
        }
        way.push(name.clone());
        next = by_name.get(name).and_then(|app| app.after().find(of_left));
    }
    way
}

impl<L> Release<L> {
    pub(super) fn check_dependencies(&self) -> Result<(), String> {
        for app in &self.apps {
            let at = |fault: String| format!("app `{}`: depends_on: {fault}", app.name);
            within("names", app.depends_on.len() as u64, LIMITS.apps as u64).map_err(at)?;
            for (name, condition) in &app.depends_on {
                if *name == app.name {
                    return Err(at("it cannot depend on itself".into()));
                }
                let Some(other) = self.apps.iter().find(|other| other.name == *name) else {
                    return Err(at(format!("no app `{name}` is in this release")));
                };
                app.check_dependency(other, *condition).map_err(at)?;
            }
        }
        let apps: Vec<&App<L>> = self.apps.iter().collect();
        let circle = match start_order(&apps) {
            Ok(_) => return Ok(()),
            Err(circle) => circle,
        };
        let names: Vec<_> = circle.iter().chain(circle.first()).collect();
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        Err(format!(
            "apps wait for each other in a circle, by depends_on or network.container: {}; none of them could start",
            names.join(" → ")
        ))
    }
}

impl<L> App<L> {
    fn check_dependency(&self, on: &Self, condition: Condition) -> Result<(), String> {
        let name = &on.name;
        match condition {
            Condition::Healthy if on.health.is_none() => Err(format!(
                "`{name}` has no health check and is never `healthy`; add [apps.health] to it or say `started`"
            )),
            Condition::Completed if on.restart == Restart::Always => Err(format!(
                "`{name}` is started again whenever it ends and is never `completed`; give it restart = \"on-failure\" or \"no\""
            )),
            Condition::Completed if self.network.container.as_ref() == Some(name) => Err(format!(
                "it uses the network of `{name}`, which is gone when that has `completed`"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
