//! Devices come and go while apps run: an adapter is pulled out, and plugged in again under another number.
//!
//! An app whose device goes is told of and left alone: what it makes of a dead device is its own and its restart policy's
//! matter. Its right to the device's number goes at once, since the next device that is plugged in may get that. Once a device
//! is back as other nodes than the app has, or is there for the first time, the app is started again, since its /dev is
//! made at its start.

use super::Supervisor;
use crate::apps::devices::{self, Given, PlannedDevice};
use crate::apps::{AppRun, Phase};
use coracle_board_support::devices::Node;
use coracle_protocol::names::DeviceName;
use coracle_protocol::report::DeviceStatus;
use coracle_runtime::cgroup::Devices;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;
pub(super) use watch::DeviceWatch;

mod watch;

/// What became of one device of an app that runs.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It is as it was given.
    Same,
    /// Nodes of it have gone.
    Gone,
    /// It is there, and the app has none of its nodes.
    Came,
}

/// `given`: the nodes that the app has; `now`: those of the board.
fn turn(given: &[Node], now: &[Node]) -> Turn {
    let mut alive = given.iter().filter(|node| now.contains(node));
    match (alive.next().is_some(), now.is_empty()) {
        (false, false) => Turn::Came,
        (false, true) if given.is_empty() => Turn::Same,
        _ if given.iter().all(|node| now.contains(node)) => Turn::Same,
        _ => Turn::Gone,
    }
}

impl Supervisor {
    /// Looks when a look is due.
    pub(super) fn follow_devices(&mut self, now: Instant) {
        if !self.device_watch.begin_look(now) {
            return;
        }
        let root = self.settings.config.hardware_root.clone();
        // Before the look: what comes after it is heard.
        let folders = self.apps.iter().flat_map(planned);
        let mut watched = BTreeSet::new();
        watched.extend(folders.flat_map(|device| device.folders(&root)));
        self.device_watch.watch(&watched);
        for index in 0..self.apps.len() {
            self.look_at_devices(index, &root, now);
        }
        let mut names = BTreeSet::new();
        names.extend(self.apps.iter().map(|app| app.name().clone()));
        let missing = &mut self.device_watch.missing;
        missing.retain(|(app, _)| names.contains(app));
        let later = &mut self.device_watch.restarts_later;
        later.retain(|app| names.contains(app));
    }

    fn look_at_devices(&mut self, index: usize, root: &Path, now: Instant) {
        let app = &self.apps[index];
        let name = app.name().clone();
        let seen: Vec<_> = planned(app)
            .iter()
            .map(|device| (device.wanted.name.clone(), device.nodes(root)))
            .collect();
        self.hold_devices(index, &seen);
        let mut again = None;
        for (device, nodes) in seen {
            let key = (name.clone(), device);
            let device = &key.1;
            let app = &self.apps[index];
            let told = self.device_watch.missing.contains(&key);
            let what = match (app.phase, given(app, device)) {
                (Phase::Up, Some(given)) => match turn(&given.nodes, &nodes) {
                    Turn::Came => {
                        again = Some(format!("device `{device}` is there as {}", list(&nodes)));
                        self.device_watch.missing.insert(key);
                        continue;
                    }
                    Turn::Gone if !told => {
                        let gone = gone(given, &nodes);
                        self.device_watch.missing.insert(key.clone());
                        format!("device `{device}` is gone: {}", gone.join(", "))
                    }
                    Turn::Same if told && !given.nodes.is_empty() => {
                        self.device_watch.missing.remove(&key);
                        format!("device `{device}` is back")
                    }
                    Turn::Gone | Turn::Same => continue,
                },
                // Also one whose policy starts it only once: it never ran.
                (Phase::Waiting { .. } | Phase::Ended, _)
                    if app.wanted && app.lacks.as_ref() == Some(device) && !nodes.is_empty() =>
                {
                    let app = &mut self.apps[index];
                    app.lacks = None;
                    app.ended_fine = None;
                    app.phase = Phase::Waiting { at: now };
                    format!("device `{device}` is there as {}", list(&nodes))
                }
                _ => continue,
            };
            self.app_changed(&name, what);
        }
        if let Some(why) = again {
            self.start_again(index, &why, now);
        }
    }

    /// Now, or later: a restart during a trial would count against the set, and a device that changes all the time leaves
    /// its app a while of peace.
    fn start_again(&mut self, index: usize, why: &str, now: Instant) {
        let app = &mut self.apps[index];
        let name = app.name().clone();
        let Some(since) = app.process.as_ref().map(|process| process.since) else {
            return;
        };
        let later = match self.machine.is_idle() {
            false => {
                self.device_watch.look_later();
                "once the deployment has ended".to_owned()
            }
            true => match app.for_devices.begin(since, now) {
                Ok(()) => {
                    app.stop(now);
                    self.device_watch.restarts_later.remove(&name);
                    self.device_watch.missing.retain(|(app, _)| *app != name);
                    self.app_changed(&name, format!("{why}: it is started again"));
                    return;
                }
                Err(next) => {
                    self.device_watch.look_by(next);
                    let seconds = (next - now).as_secs() + 1;
                    format!("in {seconds} s, since its devices keep changing")
                }
            },
        };
        if self.device_watch.restarts_later.insert(name.clone()) {
            self.app_changed(&name, format!("{why}: it is started again {later}"));
        }
    }

    /// The rules of its cgroup are those of the nodes that are there. What cannot be changed is tried again.
    fn hold_devices(&mut self, index: usize, seen: &[(DeviceName, Vec<Node>)]) {
        let app = &mut self.apps[index];
        let (Some(process), Ok(plan)) = (&mut app.process, &app.plan) else {
            return;
        };
        let Devices::Only(base) = &plan.limits.devices else {
            return;
        };
        let held = devices::held(&plan.devices, &process.devices, seen);
        if process.devices.is_empty() || process.held.as_ref() == Some(&held) {
            return;
        }
        let rules = [&base[..], &held.rules].concat();
        match process.cgroup.change_devices(&rules, &held.withdrawn) {
            Ok(()) => process.held = Some(held),
            Err(error) => {
                tracing::error!(app = %app.app.name, %error, "rules of its devices stay as they were");
                self.device_watch.look_later();
            }
        }
    }

    /// Devices that an app asks for, with what it has of them.
    pub(super) fn device_statuses(&self, app: &AppRun) -> Vec<DeviceStatus> {
        let root = &self.settings.config.hardware_root;
        let status = |device: &PlannedDevice| {
            let name = &device.wanted.name;
            let given = given(app, name);
            let lacks = self
                .device_watch
                .missing
                .contains(&(app.name().clone(), name.clone()));
            DeviceStatus {
                name: name.clone(),
                access: device.wanted.access,
                nodes: given.map_or_else(Vec::new, |given| {
                    given.nodes.iter().map(|node| node.path.clone()).collect()
                }),
                gone: match (given, lacks) {
                    (Some(given), true) => gone(given, &device.nodes(root)),
                    _ => Vec::new(),
                },
            }
        };
        planned(app).iter().map(status).collect()
    }
}

fn planned(app: &AppRun) -> &[PlannedDevice] {
    app.plan.as_ref().map_or(&[], |plan| &plan.devices)
}

fn given<'a>(app: &'a AppRun, device: &DeviceName) -> Option<&'a Given> {
    let all = &app.process.as_ref()?.devices;
    all.iter().find(|given| given.name == *device)
}

fn gone(given: &Given, now: &[Node]) -> Vec<String> {
    let gone = given.nodes.iter().filter(|node| !now.contains(node));
    gone.map(|node| node.path.clone()).collect()
}

fn list(nodes: &[Node]) -> String {
    let paths: Vec<&str> = nodes.iter().map(|node| node.path.as_str()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u32]) -> Vec<Node> {
        let node = |&minor: &u32| Node {
            path: format!("/dev/ttyUSB{minor}"),
            major: 188,
            minor,
        };
        numbers.iter().map(node).collect()
    }

    #[test]
    fn an_app_is_started_again_only_for_a_device_of_which_it_has_nothing() {
        let of = |given: &[u32], now: &[u32]| turn(&nodes(given), &nodes(now));
        assert_eq!(of(&[0], &[0]), Turn::Same);
        assert_eq!(of(&[], &[]), Turn::Same);
        assert_eq!(of(&[0], &[]), Turn::Gone);
        assert_eq!(of(&[0, 1], &[1]), Turn::Gone);
        // A second one beside the first is given at the next start.
        assert_eq!(of(&[0], &[0, 1]), Turn::Same);
        assert_eq!(of(&[0], &[1]), Turn::Came);
        assert_eq!(of(&[], &[3]), Turn::Came);
    }
}
