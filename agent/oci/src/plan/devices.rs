//! Device rules, which the specification gives as an ordered list of permissions and prohibitions.

use coracle_runtime::cgroup::{DeviceRule, Devices};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use crate::failure::Failure;

/// A rule of either sort.
struct Ordered {
    allow: bool,
    /// None is both kinds.
    block: Option<bool>,
    rule: DeviceRule,
}

/// cgroup v1 takes the list as it is: file and line, one after another.
pub fn v1_lines(
    resources: Option<&LinuxResources>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut lines = vec![("devices.deny", "a".to_owned())];
    for one in ordered(resources)? {
        let file = if one.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        if one.is_everything() {
            lines.push((file, "a".into()));
            continue;
        }
        let kinds = one.block.map_or(vec![false, true], |block| vec![block]);
        for block in kinds {
            lines.push((file, line(&DeviceRule { block, ..one.rule })));
        }
    }
    let allowed_already = lines
        .last()
        .is_some_and(|(file, line)| *file == "devices.allow" && line == "a");
    if !allowed_already {
        lines.extend(
            DeviceRule::DEFAULTS
                .iter()
                .map(|rule| ("devices.allow", line(rule))),
        );
    }
    Ok(lines)
}

/// For v2 the list is boiled down to what is allowed in the end.
pub fn allowed(resources: Option<&LinuxResources>) -> Result<Devices, Failure> {
    let (mut all, mut rules): (bool, Vec<DeviceRule>) = (false, Vec::new());
    for one in ordered(resources)? {
        if one.is_everything() {
            all = one.allow;
            rules.clear();
            continue;
        }
        let kinds = one.block.map_or(vec![false, true], |block| vec![block]);
        for block in kinds {
            let rule = DeviceRule { block, ..one.rule };
            if one.allow {
                rules.push(rule);
            } else if all {
                return Err(Failure::Unsupported(
                    "a device denied where all are allowed".into(),
                ));
            } else {
                forbid(&mut rules, &rule)?;
            }
        }
    }
    if all {
        return Ok(Devices::All);
    }
    rules.extend(DeviceRule::DEFAULTS);
    Ok(Devices::Only(rules))
}

impl Ordered {
    fn is_everything(&self) -> bool {
        let DeviceRule {
            major,
            minor,
            read,
            write,
            mknod,
            ..
        } = self.rule;
        self.block.is_none() && major.is_none() && minor.is_none() && read && write && mknod
    }
}

fn ordered(resources: Option<&LinuxResources>) -> Result<Vec<Ordered>, Failure> {
    let rules = resources.and_then(|resources| resources.devices().as_ref());
    rules.into_iter().flatten().map(one).collect()
}

fn one(rule: &LinuxDeviceCgroup) -> Result<Ordered, Failure> {
    let wrong = || Failure::Config(format!("device rule {rule}"));
    let block = match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(true),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(false),
        LinuxDeviceType::P => return Err(wrong()),
    };
    // Engines write -1 for "any".
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| wrong()),
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    let access = if access.is_empty() { "rwm" } else { access };
    if access.chars().any(|c| !"rwm".contains(c)) {
        return Err(wrong());
    }
    Ok(Ordered {
        allow: rule.allow(),
        block,
        rule: DeviceRule {
            block: false,
            major: number(rule.major())?,
            minor: number(rule.minor())?,
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        },
    })
}

/// Takes back what `denied` covers. A narrower denial than what was allowed cannot be said in a list of permissions.
fn forbid(rules: &mut Vec<DeviceRule>, denied: &DeviceRule) -> Result<(), Failure> {
    let covers = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    for rule in rules.iter_mut().filter(|rule| rule.block == denied.block) {
        if covers(denied.major, rule.major) && covers(denied.minor, rule.minor) {
            rule.read &= !denied.read;
            rule.write &= !denied.write;
            rule.mknod &= !denied.mknod;
        } else if meets(denied.major, rule.major) && meets(denied.minor, rule.minor) {
            return Err(Failure::Unsupported(
                "a device denied within a range that is allowed".into(),
            ));
        }
    }
    rules.retain(|rule| rule.read || rule.write || rule.mknod);
    Ok(())
}

/// As the kernel's file has it: `c 1:3 rwm`.
fn line(rule: &DeviceRule) -> String {
    let number = |part: Option<u32>| part.map_or_else(|| "*".into(), |number| number.to_string());
    let access: String = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')]
        .into_iter()
        .filter_map(|(is, letter)| is.then_some(letter))
        .collect();
    let kind = if rule.block { 'b' } else { 'c' };
    format!(
        "{kind} {}:{} {access}",
        number(rule.major),
        number(rule.minor)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(&format!("{{\"devices\":{json}}}")).unwrap()
    }

    #[test]
    fn version_one_gets_the_list_in_its_order() {
        let rules = resources(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},{"allow":false,"type":"b","major":8,"access":"w"}]"#,
        );
        let lines = v1_lines(Some(&rules)).unwrap();
        assert_eq!(lines[1], ("devices.deny", "a".into()));
        assert_eq!(lines[2], ("devices.allow", "c 10:229 rw".into()));
        assert_eq!(lines[3], ("devices.deny", "b 8:* w".into()));
        assert_eq!(lines.len(), 4 + DeviceRule::DEFAULTS.len());
    }

    #[test]
    fn version_two_gets_what_is_left() {
        let rules = resources(
            r#"[{"allow":false},{"allow":true,"type":"b","major":8,"minor":0,"access":"rwm"},{"allow":false,"type":"b","major":8,"access":"w"}]"#,
        );
        let Devices::Only(list) = allowed(Some(&rules)).unwrap() else {
            panic!("everything is allowed")
        };
        assert_eq!(line(&list[0]), "b 8:0 rm");
        assert_eq!(list.len(), 1 + DeviceRule::DEFAULTS.len());
        let privileged = resources(r#"[{"allow":true,"access":"rwm"}]"#);
        assert_eq!(allowed(Some(&privileged)).unwrap(), Devices::All);
        assert!(matches!(allowed(None).unwrap(), Devices::Only(_)));
    }
}
