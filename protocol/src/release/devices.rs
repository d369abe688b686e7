//! Devices of the board that an app asks for, by the names that the board's profile gives them: a release knows no
//! device node, which is another one on each kind of board.

use super::App;
use crate::document::within;
use crate::limits::LIMITS;
use crate::names::DeviceName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A device of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppDevice {
    /// As the board's profile calls it: `gpio`, `i2c`, `serial`.
    pub name: DeviceName,
    /// What the app may do with it.
    #[serde(default, skip_serializing_if = "DeviceAccess::is_read_write")]
    pub access: DeviceAccess,
    /// Whether the app starts without it, where none is plugged in, and starts again once one is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// What an app may do with a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceAccess {
    /// Open it for reading and writing.
    #[default]
    ReadWrite,
    /// Open it for reading. Control calls (ioctl) of its driver may still change it.
    Read,
}

impl DeviceAccess {
    fn is_read_write(&self) -> bool {
        *self == Self::ReadWrite
    }
}

impl<L> App<L> {
    pub(super) fn check_devices(&self) -> Result<(), String> {
        within("devices", self.devices.len() as u64, LIMITS.devices as u64)?;
        let mut names = BTreeSet::new();
        match self.devices.iter().find(|one| !names.insert(&one.name)) {
            Some(twice) => Err(format!("devices: `{}` is named twice", twice.name)),
            None => self.check_device_variables(),
        }
    }

    /// An app finds each by a variable of its own.
    fn check_device_variables(&self) -> Result<(), String> {
        let mut variables = BTreeMap::new();
        for name in self.devices.iter().map(|device| &device.name) {
            let variable = name.variable();
            if let Some(other) = variables.insert(variable.clone(), name) {
                return Err(format!(
                    "devices: `{other}` and `{name}` would both be {variable} of the app"
                ));
            }
        }
        Ok(())
    }
}

impl DeviceName {
    /// The environment variable with its nodes: `CORACLE_DEVICE_I2C_1`.
    pub fn variable(&self) -> String {
        let name = self.as_str().to_uppercase().replace('-', "_");
        format!("CORACLE_DEVICE_{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_devices_of_one_name_or_one_variable_are_refused() {
        let check = |names: [&str; 2]| {
            let blob =
                serde_json::json!({"digest": format!("sha256:{}", "0".repeat(64)), "size": 1});
            let app = serde_json::json!({
                "name": "web",
                "image": {"name": "shop/web:1", "manifest": blob, "config": blob, "layers": []},
                "limits": {"memory_bytes": 1 << 20, "cpu_millis": 10, "pids": 1},
                "devices": names.map(|name| serde_json::json!({"name": name})),
            });
            serde_json::from_value::<crate::release::SignedApp>(app)
                .unwrap()
                .check_devices()
        };
        assert_eq!(check(["i2c-1", "i2c-2"]), Ok(()));
        let refused = check(["gpio", "gpio"]).unwrap_err();
        assert_eq!(refused, "devices: `gpio` is named twice");
        assert_eq!(
            check(["i2c-1", "i2c_1"]).unwrap_err(),
            "devices: `i2c-1` and `i2c_1` would both be CORACLE_DEVICE_I2C_1 of the app"
        );
    }

    #[test]
    fn a_device_is_a_name_and_says_no_more_than_it_must() {
        let read = |json: &str| serde_json::from_str::<AppDevice>(json);
        let plain = read(r#"{"name":"i2c-1"}"#).unwrap();
        assert_eq!(
            (plain.access, plain.optional),
            (DeviceAccess::ReadWrite, false)
        );
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            r#"{"name":"i2c-1"}"#
        );
        let sensor = r#"{"name":"serial","access":"read","optional":true}"#;
        assert_eq!(
            serde_json::to_string(&read(sensor).unwrap()).unwrap(),
            sensor
        );
        for bad in [
            r#"{"name":"/dev/mem"}"#,
            r#"{"name":"../mem"}"#,
            r#"{"name":"GPIO"}"#,
            r#"{"name":"1st"}"#,
            r#"{"name":""}"#,
            r#"{"name":"gpio","access":"mknod"}"#,
            r#"{"name":"gpio","node":"/dev/mem"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
