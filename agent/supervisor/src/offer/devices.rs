//! Devices that a release asks for, held against what the board's profile names and what is there now.

use super::Refused;
use crate::apps::devices::{DeviceFault, PlannedDevice};
use crate::settings::Settings;
use coracle_protocol::release::Release;

/// Devices that the profile does not name, or that are not there and without which their app does not start.
pub fn check(release: &Release, settings: &Settings) -> Result<(), Refused> {
    let root = &settings.config.hardware_root;
    let mut code = "no-such-device";
    let mut problems = Vec::new();
    for app in &release.apps {
        for wanted in &app.devices {
            let planned = PlannedDevice::of(wanted, &settings.profile);
            if let Err(fault) = planned.and_then(|planned| planned.find(root)) {
                match fault {
                    DeviceFault::Missing { .. } | DeviceFault::Console { .. } => {}
                    DeviceFault::Unknown { .. } | DeviceFault::Link { .. } => code = "over-budget",
                }
                problems.push(format!("app `{}`: {fault}", app.name));
            }
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused::new(code, problems.join("\n"))),
    }
}
