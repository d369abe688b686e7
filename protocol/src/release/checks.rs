//! The rules of a release: each limit, and the sense of each field.

use super::{Health, Image, NetworkMode, Probe, SignedApp, SignedRelease};
use crate::document::{ends_after_it_begins, line, text, understood, within};
use crate::limits::LIMITS;
use crate::names::VolumeName;
use std::collections::{BTreeMap, BTreeSet};

mod guarantees;
mod storage;

impl SignedRelease {
    /// Checks each limit and the sense of each field; the first fault, named by its path.
    pub fn check(&self) -> Result<(), String> {
        let l = &LIMITS;
        understood(self.spec_version, &self.critical)?;
        line("version", &self.version)?;
        for (field, value) in [
            ("epoch", self.epoch),
            ("release_counter", self.release_counter),
            ("issued_at", self.issued_at),
            ("expires", self.expires),
        ] {
            within(field, value, l.integer)?;
        }
        ends_after_it_begins(self.issued_at, self.expires)?;
        if self.hardware.is_empty() {
            return Err("hardware names no class; no board would take it".into());
        }
        within(
            "hardware",
            self.hardware.len() as u64,
            l.hardware_classes as u64,
        )?;
        within("apps", self.apps.len() as u64, l.apps as u64)?;
        self.check_networks()?;
        if let Some(agent) = &self.agent {
            agent.check().map_err(|fault| format!("agent: {fault}"))?;
        }
        let mut names = BTreeSet::new();
        let mut ports = BTreeSet::new();
        let mut sizes = BTreeMap::<&VolumeName, storage::Size<'_>>::new();
        for app in &self.apps {
            let at = |fault: String| format!("app `{}`: {fault}", app.name);
            if !names.insert(&app.name) {
                return Err(at("is named twice".into()));
            }
            app.check().map_err(at)?;
            storage::shared_sizes(app, &mut sizes).map_err(at)?;
            for port in &app.network.ports {
                if !ports.insert((port.protocol, port.host)) {
                    return Err(at(format!(
                        "host port {} is published twice in this release",
                        port.host
                    )));
                }
            }
        }
        self.check_guests()?;
        self.check_hand_overs()?;
        self.check_dependencies()
    }
}

impl SignedApp {
    fn check(&self) -> Result<(), String> {
        let l = &LIMITS;
        let entries = l.entries_per_app as u64;
        self.image.check()?;
        for (field, count) in [
            ("args", self.args.len()),
            ("env", self.env.len()),
            ("network.ports", self.network.ports.len()),
            ("volumes", self.volumes.len()),
            ("tmpfs", self.tmpfs.len()),
            ("binds", self.binds.len()),
            ("secrets", self.secrets.len()),
        ] {
            within(field, count as u64, entries)?;
        }
        self.check_devices()?;
        self.check_update_lock()?;
        self.check_strategy()?;
        self.check_actions()?;
        self.check_logs()?;
        self.check_hooks()?;
        self.site_settable.check()?;
        for arg in &self.args {
            text("args", arg)?;
        }
        for (key, value) in &self.env {
            text("env", value)?;
            if key.is_empty() || key.contains(['=', '\0']) || key.len() > 256 {
                return Err("env: a name is empty, too long, or holds `=` or NUL".into());
            }
        }
        storage::check(self)?;
        guarantees::check(&self.limits)?;
        let (memory_bytes, pids) = (self.limits.memory_bytes, self.limits.pids);
        if memory_bytes.is_some_and(|bytes| bytes < 1 << 20) {
            return Err("limits.memory_bytes is below 1 MiB; nothing starts in that".into());
        }
        if self.limits.cpu_millis.is_some_and(|millis| millis < 10) {
            return Err("limits.cpu_millis is below 10 (one hundredth of a core)".into());
        }
        if pids == Some(0) {
            return Err("limits.pids is 0; an app needs at least 1".into());
        }
        if self.init && pids == Some(1) {
            return Err("limits.pids is 1; with init = true an app needs at least 2".into());
        }
        for (field, limit) in [
            ("memory_bytes", memory_bytes),
            ("memory_swap_bytes", self.limits.memory_swap_bytes),
            (
                "io_read_bytes_per_second",
                self.limits.io_read_bytes_per_second,
            ),
            (
                "io_write_bytes_per_second",
                self.limits.io_write_bytes_per_second,
            ),
            (
                "io_read_operations_per_second",
                self.limits.io_read_operations_per_second,
            ),
            (
                "io_write_operations_per_second",
                self.limits.io_write_operations_per_second,
            ),
            ("open_files", self.limits.open_files),
        ] {
            let Some(limit) = limit else { continue };
            within(&format!("limits.{field}"), limit, l.integer)?;
            // cgroup v1 reads 0 as "no limit" (blkio-controller.rst, throttle rules).
            if limit == 0 {
                return Err(format!("limits.{field} is 0; leave it out for no limit"));
            }
        }
        if self.user_namespace == Some(true) && self.network.mode == NetworkMode::Host {
            return Err(
                "user_namespace = true and network.mode = `host` have no sense together: the board's network belongs to the board's own users"
                    .into(),
            );
        }
        self.network.check()?;
        if self
            .network
            .ports
            .iter()
            .any(|p| p.host == 0 || p.container == 0)
        {
            return Err("network.ports: port 0".into());
        }
        within("trial_seconds", self.trial_seconds.into(), 86_400)?;
        within("priority", self.priority.into(), 100)?;
        within("stop_grace_seconds", self.stop_grace_seconds.into(), 600)?;
        if let Some(health) = &self.health {
            health.check()?;
        }
        Ok(())
    }
}

impl Image {
    pub(super) fn check(&self) -> Result<(), String> {
        let l = &LIMITS;
        within("image.layers", self.layers.len() as u64, l.layers as u64)?;
        image_name(&self.name)?;
        for blob in [self.manifest.size, self.config.size] {
            within("image: manifest and config size", blob, 4 << 20)?;
        }
        for layer in &self.layers {
            line("image.layers.media_type", &layer.media_type)?;
            within("image.layers.size", layer.size, l.blob_bytes)?;
            within(
                "image.layers.unpacked_size",
                layer.unpacked_size,
                l.blob_bytes,
            )?;
            // Each has a block of 512 bytes at least.
            let most = layer.unpacked_size / 512;
            within("image.layers.entries", layer.entries.unwrap_or(0), most)?;
        }
        Ok(())
    }
}

impl Health {
    fn check(&self) -> Result<(), String> {
        if self.interval_ms < 100 || self.timeout_ms < 10 || self.retries == 0 {
            return Err(
                "health: interval_ms is at least 100, timeout_ms at least 10, retries at least 1"
                    .into(),
            );
        }
        within("health.retries", self.retries.into(), 1000)?;
        for (field, value) in [
            ("health.interval_ms", self.interval_ms),
            ("health.timeout_ms", self.timeout_ms),
            ("health.start_period_ms", self.start_period_ms),
        ] {
            within(field, value.into(), 86_400_000)?;
        }
        if let Probe::Http { port: 0, .. } | Probe::Tcp { port: 0 } = self.probe {
            return Err("health.probe: port 0".into());
        }
        match &self.probe {
            Probe::Http { path, .. } => {
                text("health.probe.http.path", path)?;
                if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
                    return Err("health.probe.http.path starts with `/` and holds no spaces or control characters".into());
                }
            }
            Probe::Exec { argv } => {
                within(
                    "health.probe.exec.argv",
                    argv.len() as u64,
                    LIMITS.entries_per_app as u64,
                )?;
                if argv.is_empty() {
                    return Err("health.probe.exec.argv is empty".into());
                }
                argv.iter()
                    .try_for_each(|arg| text("health.probe.exec.argv", arg))?;
            }
            Probe::Tcp { .. } => {}
        }
        Ok(())
    }
}

/// Repository and tag become parts of URLs.
fn image_name(name: &str) -> Result<(), String> {
    within("image.name: length", name.len() as u64, 255)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/:@-".contains(&b);
    let parts_are_names = name
        .split('/')
        .all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && !part.contains(".."));
    if name.bytes().all(allowed) && parts_are_names {
        Ok(())
    } else {
        Err("image.name is not `repository:tag`".into())
    }
}
