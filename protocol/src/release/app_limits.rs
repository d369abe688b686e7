//! Hard limits: what a release names, and what a board keeps once its own numbers stand where the release names none.

use super::{App, Release, SignedApp, SignedRelease};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Hard limits of an app, as a board keeps them: all three numbers are there. The others are bounded by the board profile's
/// default where they are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(
        serialize = "Bytes: Serialize + MayBeLeftOut, Count: Serialize + MayBeLeftOut",
        deserialize = "Bytes: Deserialize<'de>, Count: Deserialize<'de>"
    )
)]
pub struct AppLimits<Bytes = u64, Count = u32> {
    /// Memory in bytes; past it the app is OOM-killed.
    #[serde(skip_serializing_if = "MayBeLeftOut::is_left_out")]
    pub memory_bytes: Bytes,
    /// Bytes of it that are never taken back for others; a board with cgroup v1 cannot promise them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_min_bytes: Option<u64>,
    /// Bytes of it that are taken back last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reservation_bytes: Option<u64>,
    /// Memory and swap together, as Docker's `--memory-swap`; no more than the memory, and so no swap, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_swap_bytes: Option<u64>,
    /// Out of memory is the end of all its processes and not of one; a board with cgroup v1 cannot do that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_group: bool,
    /// CPU time in thousandths of one core.
    #[serde(skip_serializing_if = "MayBeLeftOut::is_left_out")]
    pub cpu_millis: Count,
    /// What it may use beyond that in 100 ms, in microseconds, of what was left over before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_burst_micros: Option<u64>,
    /// CPUs that no other app runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_exclusive: Option<u32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "MayBeLeftOut::is_left_out")]
    pub pids: Count,
    /// Bytes read per second from the board's storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_read_bytes_per_second: Option<u64>,
    /// Bytes written per second to the board's storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_write_bytes_per_second: Option<u64>,
    /// Reads per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_read_operations_per_second: Option<u64>,
    /// Writes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_write_operations_per_second: Option<u64>,
    /// Open files per process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Bytes that the writable layer may hold; past it a write fails with ENOSPC or EDQUOT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Files and folders that the writable layer may hold; one for 16 KiB when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_inodes: Option<u64>,
    /// Where the writable layer is.
    #[serde(default, skip_serializing_if = "DiskOn::is_storage")]
    pub disk_on: DiskOn,
}

/// Where a writable layer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskOn {
    /// On the board's storage: it is still there after a power cut.
    #[default]
    Storage,
    /// In memory: gone after a power cut, and counted against the app's memory. It wears no flash.
    Memory,
}

impl DiskOn {
    fn is_storage(&self) -> bool {
        *self == Self::Storage
    }
}

/// Limits as a release names them. A program from before it could leave three of them out refuses one that does: `missing field`.
pub type NamedLimits = AppLimits<Option<u64>, Option<u32>>;

/// What a document that is read may hold: only what a release names. The board's numbers are nobody's to send.
pub trait InARelease: DeserializeOwned {}
impl InARelease for NamedLimits {}

/// A number, or one that may not be there.
pub trait MayBeLeftOut {
    /// Whether it is not.
    fn is_left_out(&self) -> bool;
}
impl MayBeLeftOut for u64 {
    fn is_left_out(&self) -> bool {
        false
    }
}
impl MayBeLeftOut for u32 {
    fn is_left_out(&self) -> bool {
        false
    }
}
impl<T> MayBeLeftOut for Option<T> {
    fn is_left_out(&self) -> bool {
        self.is_none()
    }
}

/// Limits of an app whose release names none: `[quotas]` of the board's profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultLimits {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl DefaultLimits {
    /// The release with these where it names none.
    pub fn fill(&self, release: &SignedRelease) -> Release {
        let r = release.clone();
        Release {
            spec_version: r.spec_version,
            critical: r.critical,
            product: r.product,
            version: r.version,
            epoch: r.epoch,
            release_counter: r.release_counter,
            issued_at: r.issued_at,
            expires: r.expires,
            hardware: r.hardware,
            networks: r.networks,
            agent: r.agent,
            apps: r.apps.into_iter().map(|app| self.app(app)).collect(),
        }
    }

    /// Whether what a release names has a sense with these beside it; what it names alone was checked before. The first fault,
    /// named by its path.
    pub fn check(&self, release: &SignedRelease) -> Result<(), String> {
        let mut filled = release.clone();
        for NamedLimits {
            memory_bytes,
            cpu_millis,
            pids,
            ..
        } in filled.apps.iter_mut().map(|app| &mut app.limits)
        {
            memory_bytes.get_or_insert(self.memory_bytes);
            cpu_millis.get_or_insert(self.cpu_millis);
            pids.get_or_insert(self.pids);
        }
        filled.check()
    }

    fn app(&self, app: SignedApp) -> App {
        App {
            limits: self.limits(app.limits),
            name: app.name,
            image: app.image,
            depends_on: app.depends_on,
            strategy: app.strategy,
            both_write: app.both_write,
            update_lock: app.update_lock,
            args: app.args,
            init: app.init,
            env: app.env,
            secrets: app.secrets,
            site_settable: app.site_settable,
            network: app.network,
            volumes: app.volumes,
            data_version: app.data_version,
            tmpfs: app.tmpfs,
            binds: app.binds,
            devices: app.devices,
            read_only_root: app.read_only_root,
            user_namespace: app.user_namespace,
            logs: app.logs,
            health: app.health,
            actions: app.actions,
            hooks: app.hooks,
            restart: app.restart,
            trial_seconds: app.trial_seconds,
            critical: app.critical,
            priority: app.priority,
            stop_grace_seconds: app.stop_grace_seconds,
        }
    }

    fn limits(&self, named: NamedLimits) -> AppLimits {
        let memory = named.memory_bytes.unwrap_or(self.memory_bytes);
        let cpu_millis = named.cpu_millis.unwrap_or(self.cpu_millis);
        // A set that was taken with other numbers of the board's has to start with these as well.
        let within = |bytes: Option<u64>| bytes.map(|bytes| bytes.min(memory));
        let burst = named.cpu_burst_micros;
        AppLimits {
            memory_bytes: memory,
            memory_min_bytes: within(named.memory_min_bytes),
            memory_reservation_bytes: within(named.memory_reservation_bytes),
            memory_swap_bytes: named.memory_swap_bytes.map(|sum| sum.max(memory)),
            oom_group: named.oom_group,
            cpu_millis,
            cpu_burst_micros: burst.map(|burst| burst.min(100 * u64::from(cpu_millis))),
            cpus_exclusive: named.cpus_exclusive,
            pids: named.pids.unwrap_or(self.pids),
            io_read_bytes_per_second: named.io_read_bytes_per_second,
            io_write_bytes_per_second: named.io_write_bytes_per_second,
            io_read_operations_per_second: named.io_read_operations_per_second,
            io_write_operations_per_second: named.io_write_operations_per_second,
            open_files: named.open_files,
            disk_bytes: named.disk_bytes,
            disk_inodes: named.disk_inodes,
            disk_on: named.disk_on,
        }
    }
}

#[cfg(test)]
mod tests;
