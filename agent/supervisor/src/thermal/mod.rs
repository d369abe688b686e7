//! Less CPU for apps while the board is hot, the least important first. Pure: what is hot is told
//! by [`coracle_board_support::thermal`], who is important by the release; [`crate::supervisor`] sets the quotas.

use coracle_board_support::thermal::Heat;
use std::collections::BTreeMap;

/// An app, as far as heat is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThermalApp {
    /// Its name.
    pub name: String,
    /// Who is slowed last has the highest.
    pub priority: u8,
    /// Its CPU quota by the release, in thousandths of a core.
    pub quota_millis: u32,
    /// Whether taking CPU from it now would cool anything.
    pub runs: bool,
}

/// A quota that is to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub name: String,
    /// In thousandths of a core, 1 at least.
    pub quota_millis: u32,
    /// Per cent of its own that this is.
    pub percent: u8,
}

/// What was taken from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    step_percent: u8,
    floor_percent: u8,
    /// Per cent of its quota that an app has now; those that are not here have all of it.
    shares: BTreeMap<String, u8>,
}

impl Throttle {
    /// `step_percent` is taken or given back at once; nobody goes below `floor_percent`.
    pub fn new(step_percent: u8, floor_percent: u8) -> Self {
        Self {
            step_percent: step_percent.clamp(1, 100),
            floor_percent: floor_percent.clamp(1, 100),
            shares: BTreeMap::new(),
        }
    }

    /// Per cent of its quota that an app has now.
    pub fn share(&self, name: &str) -> u8 {
        self.shares.get(name).copied().unwrap_or(100)
    }

    /// Whether nothing is taken from anybody.
    pub fn is_idle(&self) -> bool {
        self.shares.is_empty()
    }

    /// What an app that is started now gets of a quota.
    pub fn quota(&self, name: &str, full_millis: u32) -> u32 {
        part(full_millis, self.share(name))
    }

    /// One look at the temperature. All apps of one priority change together: of the lowest that
    /// has something left to give, or of the highest that something was taken from.
    pub fn look(&mut self, heat: Heat, apps: &[ThermalApp]) -> Vec<Change> {
        // An app that is in no set any more comes back with all of its quota; one that is down for a while does not.
        self.shares
            .retain(|name, _| apps.iter().any(|app| app.name == *name));
        let turn = match heat {
            Heat::Between => None,
            Heat::Hot => {
                let can_give =
                    |app: &&ThermalApp| app.runs && self.share(&app.name) > self.floor_percent;
                apps.iter().filter(can_give).map(|app| app.priority).min()
            }
            Heat::Cool => {
                let lacks = |app: &&ThermalApp| self.share(&app.name) < 100;
                apps.iter().filter(lacks).map(|app| app.priority).max()
            }
        };
        let of_turn = apps.iter().filter(|app| Some(app.priority) == turn);
        let mut changes = Vec::new();
        for app in of_turn {
            let before = self.share(&app.name);
            let after = match heat {
                Heat::Hot => before
                    .saturating_sub(self.step_percent)
                    .max(self.floor_percent),
                _ => before.saturating_add(self.step_percent).min(100),
            };
            match after {
                100 => self.shares.remove(&app.name),
                after => self.shares.insert(app.name.clone(), after),
            };
            if after != before {
                changes.push(Change {
                    name: app.name.clone(),
                    quota_millis: part(app.quota_millis, after),
                    percent: after,
                });
            }
        }
        changes
    }
}

fn part(full_millis: u32, percent: u8) -> u32 {
    let part = u64::from(full_millis) * u64::from(percent) / 100;
    u32::try_from(part).unwrap_or(full_millis).max(1)
}

#[cfg(test)]
mod tests;
