//! How a version of an app takes the place of the one that runs, and which apps two versions can be of at once.

use super::{App, AppLimits, NetworkMode, Release, VolumeMount};
use crate::limits::LIMITS;
use crate::names::VolumeName;
use serde::{Deserialize, Serialize};

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The one that runs is ended, then the new one is started.
    #[default]
    KillThenStart,
    /// The new one is started beside the one that runs, which serves on until the new one is ready.
    StartThenKill,
}

impl Strategy {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::KillThenStart
    }
}

impl<L> App<L> {
    /// Whether it is started before the version that runs is ended.
    pub fn is_handed_over(&self) -> bool {
        self.strategy == Strategy::StartThenKill
    }
}

impl<Bytes, Count> App<AppLimits<Bytes, Count>> {
    /// A field by which it has something that no second version of it can have at the same time, and why.
    pub fn holds_alone(&self) -> Option<(&'static str, &'static str)> {
        let network = &self.network;
        let places = &network.networks;
        let ports = "its ports are the board's own, and nobody else can have them";
        let guest = "it is gone with the app whose network it uses";
        [
            (
                network.mode == NetworkMode::Host,
                "network.mode = `host`",
                ports,
            ),
            (
                network.mode == NetworkMode::Container,
                "network.mode = `container`",
                guest,
            ),
            (
                !network.interfaces.is_empty(),
                "network.interfaces",
                "a link is in one network",
            ),
            (
                places.iter().any(|on| on.ip.is_some()),
                "network.networks.ip",
                "an address is one container's",
            ),
            (
                places.iter().any(|on| on.mac.is_some()),
                "network.networks.mac",
                "a hardware address is one container's",
            ),
            (
                !self.devices.is_empty(),
                "devices",
                "a device is one program's at a time",
            ),
            (
                self.limits.cpus_exclusive.is_some(),
                "limits.cpus_exclusive",
                "they are one container's alone",
            ),
        ]
        .into_iter()
        .find(|(has, ..)| *has)
        .map(|(_, field, why)| (field, why))
    }

    pub(super) fn check_strategy(&self) -> Result<(), String> {
        let written = |mount: &&VolumeMount| !mount.read_only;
        if !self.is_handed_over() {
            return match self.both_write.is_empty() {
                true => Ok(()),
                false => {
                    Err("both_write has a sense only with strategy = `start-then-kill`".into())
                }
            };
        }
        let refused = |field: &str, why: String| {
            Err(format!(
                "strategy = `start-then-kill` and {field}: both versions run for a while, and {why}; say strategy = `kill-then-start`"
            ))
        };
        if let Some((field, why)) = self.holds_alone() {
            return refused(field, why.to_owned());
        }
        if self.trial_seconds == 0 {
            return Err(
                "strategy = `start-then-kill` and trial_seconds = 0: that is the time in which the new version has to be ready; say how long it may take"
                    .into(),
            );
        }
        if self.both_write.len() > LIMITS.entries_per_app {
            return Err(format!(
                "both_write names more than {} volumes",
                LIMITS.entries_per_app
            ));
        }
        let of = |name: &VolumeName| {
            self.volumes
                .iter()
                .filter(written)
                .find(|mount| mount.name == *name)
        };
        if let Some(name) = self.both_write.iter().find(|name| of(name).is_none()) {
            return Err(format!(
                "both_write: `{name}` is no volume that the app writes"
            ));
        }
        let mut alone = self.volumes.iter().filter(written);
        if let Some(mount) = alone.find(|mount| !self.both_write.contains(&mount.name)) {
            let why = format!(
                "both would write volume `{0}`: mount it read_only, or say both_write = [\"{0}\"] where the app bears that",
                mount.name
            );
            return refused("volumes", why);
        }
        if let Some(bind) = self.binds.iter().find(|bind| !bind.read_only) {
            let why = format!(
                "both would write the board's `{}`: mount it read_only",
                bind.source
            );
            return refused("binds", why);
        }
        Ok(())
    }
}

impl<L> Release<L> {
    pub(super) fn check_hand_overs(&self) -> Result<(), String> {
        for guest in &self.apps {
            let Some(name) = &guest.network.container else {
                continue;
            };
            let mut hosts = self.apps.iter().filter(|app| app.is_handed_over());
            if hosts.any(|host| host.name == *name) {
                return Err(format!(
                    "app `{name}`: strategy = `start-then-kill`: app `{}` uses its network (network.container), which is gone with the version that runs; say strategy = `kill-then-start`",
                    guest.name
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn app(more: Value) -> crate::release::SignedApp {
        let blob = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
        let mut app = json!({
            "name": "web",
            "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
            "limits": { "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1 },
        });
        app.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(app).unwrap()
    }

    fn fault(more: Value) -> String {
        let mut app = app(more);
        app.strategy = Strategy::default();
        let both_write = std::mem::take(&mut app.both_write);
        assert_eq!(app.check_strategy(), Ok(()), "as it is today");
        (app.strategy, app.both_write) = (Strategy::StartThenKill, both_write);
        app.check_strategy().expect_err("two at once")
    }

    #[test]
    fn what_two_cannot_have_is_refused_by_its_field() {
        let device = json!({ "name": "modem" });
        let bind = json!({ "source": "/data", "target": "/data" });
        let limits =
            json!({ "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1, "cpus_exclusive": 1 });
        for (field, more) in [
            (
                "network.mode = `host`",
                json!({ "network": { "mode": "host" } }),
            ),
            (
                "network.mode = `container`",
                json!({ "network": { "mode": "container", "container": "db" } }),
            ),
            (
                "network.interfaces",
                json!({ "network": { "interfaces": [{ "name": "can0" }] } }),
            ),
            (
                "network.networks.ip",
                json!({ "network": { "networks": [{ "name": "n", "ip": "10.0.0.2" }] } }),
            ),
            (
                "network.networks.mac",
                json!({ "network": { "networks": [{ "name": "n", "mac": "02:00:00:00:00:01" }] } }),
            ),
            ("devices", json!({ "devices": [device] })),
            ("limits.cpus_exclusive", json!({ "limits": limits })),
            (
                "volumes",
                json!({ "volumes": [{ "name": "data", "target": "/data" }] }),
            ),
            ("binds", json!({ "binds": [bind] })),
        ] {
            let fault = fault(more);
            let begin = format!("strategy = `start-then-kill` and {field}: ");
            assert!(fault.starts_with(&begin), "{fault}");
            assert!(
                fault.ends_with("say strategy = `kill-then-start`"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_volume_is_written_by_both_where_the_release_says_so() {
        let of = |both_write: Value, read_only: bool| {
            app(json!({
                "strategy": "start-then-kill",
                "both_write": both_write,
                "volumes": [{ "name": "data", "target": "/data", "read_only": read_only }],
            }))
            .check_strategy()
        };
        assert_eq!(of(json!(["data"]), false), Ok(()));
        assert_eq!(of(json!([]), true), Ok(()));
        assert!(
            of(json!(["data"]), true)
                .unwrap_err()
                .contains("no volume that the app writes")
        );
        assert!(
            of(json!(["data", "logs"]), false)
                .unwrap_err()
                .contains("`logs`")
        );
        let alone = app(json!({ "both_write": ["data"] }))
            .check_strategy()
            .unwrap_err();
        assert!(alone.contains("only with strategy"), "{alone}");
    }

    #[test]
    fn a_new_version_has_some_time_to_be_ready() {
        let told = |seconds: u32, strategy: &str| {
            app(json!({ "strategy": strategy, "trial_seconds": seconds })).check_strategy()
        };
        let refused = told(0, "start-then-kill").unwrap_err();
        assert!(refused.contains("trial_seconds = 0"), "{refused}");
        assert_eq!(told(1, "start-then-kill"), Ok(()));
        assert_eq!(told(0, "kill-then-start"), Ok(()));
    }

    #[test]
    fn an_app_that_says_nothing_is_written_as_it_was() {
        let json = serde_json::to_string(&app(json!({}))).unwrap();
        assert!(
            !json.contains("strategy") && !json.contains("both_write"),
            "{json}"
        );
    }
}
