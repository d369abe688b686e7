//! What an app may open of its devices while it runs: only what is still there. The number of a device that went is the
//! next one's that is plugged in, whatever that is.

use super::{Given, PlannedDevice};
use coracle_board_support::devices::Node;
use coracle_protocol::names::DeviceName;
use coracle_protocol::release::DeviceAccess;
use coracle_runtime::cgroup::DeviceRule;
use std::collections::BTreeMap;

/// Rules of what a start gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Of nodes that are there.
    pub rules: Vec<DeviceRule>,
    /// Of those that are not.
    pub withdrawn: Vec<DeviceRule>,
}

/// What one number is given for by nodes that are there, and by those that are not.
#[derive(Debug, Default)]
struct Rights {
    there: Option<bool>,
    gone: Option<bool>,
}

/// `given` at the start; `now`: the nodes of each device at this moment.
pub fn held(planned: &[PlannedDevice], given: &[Given], now: &[(DeviceName, Vec<Node>)]) -> Held {
    let mut numbers: BTreeMap<(u32, u32), Rights> = BTreeMap::new();
    for given in given {
        let wanted = planned.iter().map(|device| &device.wanted);
        let access = wanted.filter(|wanted| wanted.name == given.name);
        let write = access
            .map(|wanted| wanted.access == DeviceAccess::ReadWrite)
            .next();
        let there = now.iter().find(|(name, _)| *name == given.name);
        for node in &given.nodes {
            let rights = numbers.entry((node.major, node.minor)).or_default();
            // What nobody knows any more is nobody's.
            let (write, is_there) = match (write, there) {
                (Some(write), Some((_, nodes))) => (write, nodes.contains(node)),
                _ => (true, false),
            };
            let side = match is_there {
                true => &mut rights.there,
                false => &mut rights.gone,
            };
            *side = Some(side.unwrap_or(false) | write);
        }
    }
    let mut held = Held::default();
    for ((major, minor), rights) in numbers {
        let rule = |write| DeviceRule {
            write,
            mknod: false,
            ..DeviceRule::char(major, Some(minor))
        };
        held.rules.extend(rights.there.map(rule));
        held.withdrawn.extend(rights.gone.map(rule));
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_board_support::profile::{Architecture, Profile};

    fn planned(json: &str) -> PlannedDevice {
        let profile = Profile::generic(Architecture::X86_64);
        PlannedDevice::of(&serde_json::from_str(json).unwrap(), &profile).unwrap()
    }

    fn nodes(of: &[(&str, u32)]) -> Vec<Node> {
        let node = |(path, minor): &(&str, u32)| Node {
            path: (*path).to_owned(),
            major: 188,
            minor: *minor,
        };
        of.iter().map(node).collect()
    }

    fn given(name: &str, of: &[(&str, u32)]) -> Given {
        Given {
            name: DeviceName::new(name).unwrap(),
            nodes: nodes(of),
        }
    }

    #[test]
    fn only_what_is_there_is_held_and_by_the_access_of_the_device_that_is() {
        let all = [
            planned(r#"{"name":"serial"}"#),
            planned(r#"{"name":"camera","access":"read"}"#),
        ];
        let now = |serial: &[(&str, u32)], camera: &[(&str, u32)]| {
            vec![
                (DeviceName::new("serial").unwrap(), nodes(serial)),
                (DeviceName::new("camera").unwrap(), nodes(camera)),
            ]
        };
        // As (minor, write).
        let short = |rules: &[DeviceRule]| -> Vec<(u32, bool)> {
            let short = rules.iter().map(|rule| (rule.minor.unwrap(), rule.write));
            short.collect()
        };
        let had = [
            given("serial", &[("/dev/a", 0), ("/dev/b", 1)]),
            given("camera", &[("/dev/c", 0)]),
        ];
        let look = |now: &[(DeviceName, Vec<Node>)]| {
            let held = held(&all, &had, now);
            assert!(held.rules.iter().all(|rule| rule.read && !rule.mknod));
            (short(&held.rules), short(&held.withdrawn))
        };
        let whole = now(&[("/dev/a", 0), ("/dev/b", 1)], &[("/dev/c", 0)]);
        assert_eq!(look(&whole), (vec![(0, true), (1, true)], vec![]));
        // The number is another device's too, which may be read.
        let part = now(&[("/dev/b", 1)], &[("/dev/c", 0)]);
        assert_eq!(look(&part), (vec![(0, false), (1, true)], vec![(0, true)]));
        // Another number under the old name is another node.
        let other = now(&[("/dev/a", 7)], &[]);
        assert_eq!(look(&other), (vec![], vec![(0, true), (1, true)]));
        // Devices that nobody asks for any more.
        assert_eq!(look(&[]), (vec![], vec![(0, true), (1, true)]));
    }
}
