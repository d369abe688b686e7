//! Device rules in systemd's words (systemd.resource-control(5), DeviceAllow).

use coracle_runtime::cgroup::{DeviceRule, Devices};
use oci_spec::runtime::LinuxResources;

use super::message::Value;
use crate::failure::Failure;
use crate::plan::devices;

/// The policy, then the list: an empty one first, which takes back what was there.
pub fn of(
    resources: Option<&LinuxResources>,
    unified: bool,
) -> Result<Vec<(&'static str, Value)>, Failure> {
    let listed = |policy: &str, rules: Vec<(String, String)>| {
        let mut properties = vec![
            ("DevicePolicy", Value::Text(policy.into())),
            ("DeviceAllow", Value::Access(Vec::new())),
        ];
        if !rules.is_empty() {
            properties.push(("DeviceAllow", Value::Access(rules)));
        }
        properties
    };
    let rules = match devices::allowed(resources)? {
        Devices::All => return Ok(listed("auto", Vec::new())),
        Devices::Only(rules) => rules,
    };
    let said: Option<Vec<_>> = rules.iter().map(said).collect();
    match said {
        Some(said) => Ok(listed("strict", said)),
        // Our own rules hold alone: systemd has none of its own then, and leaves others' programs where they are.
        None if unified => Ok(listed("auto", Vec::new())),
        // On v1 there is one list for both.
        None => Err(Failure::Unsupported(
            "a device rule with a minor number and without a major one, with --systemd-cgroup on cgroup v1".into(),
        )),
    }
}

/// None for what systemd has no word for: a minor number of any major.
fn said(rule: &DeviceRule) -> Option<(String, String)> {
    let kind = if rule.block { "block" } else { "char" };
    let devices = match (rule.major, rule.minor) {
        (None, None) => format!("{kind}-*"),
        (Some(major), None) => format!("{kind}-{major}"),
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (None, Some(_)) => return None,
    };
    let access = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
    let access = access
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, letter)| letter);
    Some((devices, access.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str, unified: bool) -> Result<Vec<(&'static str, Value)>, Failure> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        of(Some(&resources), unified)
    }

    #[test]
    fn rules_are_a_strict_list_that_replaces_the_one_before() {
        let properties = planned(
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":1,"access":"r"},
                {"allow":true,"type":"c","major":188,"access":"rw"}]}"#,
            true,
        )
        .unwrap();
        assert_eq!(
            properties[0],
            ("DevicePolicy", Value::Text("strict".into()))
        );
        assert_eq!(properties[1], ("DeviceAllow", Value::Access(Vec::new())));
        let ("DeviceAllow", Value::Access(list)) = &properties[2] else {
            panic!("{properties:?}");
        };
        for (devices, access) in [
            ("/dev/block/8:1", "r"),
            ("char-188", "rw"),
            ("char-*", "m"),
            ("block-*", "m"),
            ("/dev/char/1:3", "rwm"),
            ("char-136", "rwm"),
        ] {
            assert!(
                list.contains(&(devices.into(), access.into())),
                "{devices}: {list:?}"
            );
        }
        assert!(
            list.iter().all(|(_, access)| !access.is_empty()),
            "{list:?}"
        );
    }

    #[test]
    fn all_devices_are_no_list() {
        let properties = planned(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#, true).unwrap();
        let expected = [
            ("DevicePolicy", Value::Text("auto".into())),
            ("DeviceAllow", Value::Access(Vec::new())),
        ];
        assert_eq!(properties, expected);
    }

    #[test]
    fn what_systemd_cannot_say_is_ours_alone_or_refused() {
        let json = r#"{"devices":[{"allow":true,"type":"c","minor":5,"access":"rw"}]}"#;
        let properties = planned(json, true).unwrap();
        assert_eq!(properties[0], ("DevicePolicy", Value::Text("auto".into())));
        let refused = planned(json, false).unwrap_err().to_string();
        assert!(refused.contains("minor number"), "{refused}");
    }
}
