//! The board's budget: what the apps may promise themselves together. Pure arithmetic on facts,
//! done before anything changes, and with every problem at once, so that an engineer need not
//! find them one push at a time.

mod io;
mod kernel;
mod problem;

pub use io::IoRates;
pub use kernel::{can_be_asked_for, lacking, unkept};
pub use problem::{Problem, Resource};

use crate::detect::Detected;
use crate::profile::{NetworkMode, Profile};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Processes that are kept for the system, of those that the kernel can have; of fewer than twice as many a half. A kernel
/// has a thread for each 128 KiB of memory (64 on 32 bits): a board with 104 MiB has less than 512 (fork_init, kernel/fork.c).
const RESERVED_PIDS: u64 = 512;

/// What the apps may use together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Whole CPUs that apps may have to themselves: all but one.
    pub cpus: u32,
    /// Processes and threads.
    pub pids: u64,
    /// Storage in bytes.
    pub disk_bytes: u64,
    /// What the disk of the state folder carries; a rate that is not known is not held against anything.
    pub io: IoRates,
    /// Network modes that the profile allows.
    pub modes: heapless::Vec<NetworkMode, 4>,
}

/// What one app promises not to pass: its hard limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPromise {
    /// Its name.
    pub name: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// What of it is promised to the app, and not only allowed.
    pub guarantees: Guarantees,
    /// What it asks of the kernel beside sums.
    pub more: More,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Its layers, writable layer, volumes and logs, in bytes.
    pub disk_bytes: u64,
    /// Rates of disk reads and writes that it asks for. One that asks for none counts with the least that it is left
    /// ([`IoRates::default_of`]).
    pub io: IoRates,
    /// Its network.
    pub mode: NetworkMode,
    /// Ports of the board that it takes.
    pub host_ports: Vec<HostPort>,
}

/// What one app is promised. It is a part of what the app may use, and counted with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guarantees {
    /// Bytes of memory that are never taken back for others.
    pub memory_min_bytes: u64,
    /// Bytes of memory that are taken back last.
    pub memory_reservation_bytes: u64,
    /// CPUs that no other app runs on.
    pub cpus: u32,
}

/// What not each kernel can do, and what takes nothing from the board's budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct More {
    /// A limit of swap of its own.
    pub swap: bool,
    /// All of its processes end when one runs out of memory.
    pub oom_group: bool,
    /// CPU that it saves up.
    pub cpu_burst: bool,
}

impl Guarantees {
    fn memory_bytes(self) -> u64 {
        self.memory_min_bytes.max(self.memory_reservation_bytes)
    }

    /// What nobody else can use of a CPU is as good as used.
    fn cpu_millis(self) -> u64 {
        1000 * u64::from(self.cpus)
    }
}

/// A port of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HostPort {
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// The address on the board; each of them when `None`.
    pub address: Option<IpAddr>,
    /// The number.
    pub port: u16,
}

impl HostPort {
    /// Whether both cannot be bound at once: the same number, and an address in common.
    fn clashes(self, other: Self) -> bool {
        self.protocol == other.protocol
            && self.port == other.port
            && match (self.address, other.address) {
                (Some(a), Some(b)) => {
                    let any = a.is_unspecified() || b.is_unspecified();
                    a == b || (any && a.is_ipv4() == b.is_ipv4())
                }
                _ => true,
            }
    }
}

/// Transport protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A set of apps fits; what stays free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fits {
    /// Memory in bytes.
    pub memory_bytes_free: u64,
    /// Thousandths of a core.
    pub cpu_millis_free: u64,
    /// Processes and threads.
    pub pids_free: u64,
    /// Storage in bytes.
    pub disk_bytes_free: u64,
}

impl Budget {
    /// What the kernel shows, or else what the profile says, less the reserve. A board that is
    /// smaller than its reserve has a budget of nothing.
    pub fn of(profile: &Profile, detected: &Detected) -> Self {
        let reserve = &profile.reserve;
        let mib = |mib: u32| u64::from(mib) << 20;
        let memory = detected
            .memory_bytes
            .unwrap_or_else(|| profile.memory_mib.mib_in_bytes());
        let cpus = detected.cpus.unwrap_or_else(|| profile.cpus.get());
        let disk = detected
            .disk_bytes
            .unwrap_or_else(|| profile.disk_mib.mib_in_bytes());
        // 32768 is the kernel's own default (pid_max of include/linux/threads.h).
        let pids = u64::from(detected.pids.unwrap_or(32_768));
        Self {
            memory_bytes: memory.saturating_sub(mib(reserve.memory_mib)),
            cpu_millis: (u64::from(cpus) * 1000).saturating_sub(reserve.cpu_millis.into()),
            cpus: cpus.saturating_sub(1),
            pids: pids - RESERVED_PIDS.min(pids / 2),
            disk_bytes: disk.saturating_sub(mib(reserve.disk_mib)),
            io: IoRates::carried_by(profile, detected.state_disk.as_deref()),
            modes: profile.network.modes.clone(),
        }
    }

    /// Holds the sum of the promises against the budget. On `Err`, all problems: per app first,
    /// then between apps, then the sums.
    pub fn check(&self, promises: &[AppPromise]) -> Result<Fits, Vec<Problem>> {
        let mut problems = Vec::new();
        for promise in promises {
            self.check_alone(promise, &mut problems);
        }
        check_between(promises, &mut problems);
        let cpus = promises.iter().map(|promise| promise.guarantees.cpus);
        let cpus = cpus.fold(0, u32::saturating_add);
        if cpus > self.cpus {
            problems.push(Problem::TooManyCpus {
                asked: cpus,
                available: self.cpus,
            });
        }
        let mut left = |resource: Resource, available: u64| {
            // A sum beyond 2^64 is beyond any board; saturating keeps it a problem with numbers.
            let asked = promises.iter().fold(0u64, |sum, promise| {
                sum.saturating_add(resource.of(promise))
            });
            if asked > available {
                problems.push(Problem::TooMuch {
                    resource,
                    asked,
                    available,
                    largest: largest(promises, resource),
                });
            }
            available.saturating_sub(asked)
        };
        let fits = Fits {
            memory_bytes_free: left(Resource::Memory, self.memory_bytes),
            cpu_millis_free: left(Resource::Cpu, self.cpu_millis),
            pids_free: left(Resource::Pids, self.pids),
            disk_bytes_free: left(Resource::Disk, self.disk_bytes),
        };
        for (resource, ceiling) in self.io.known() {
            left(resource, ceiling);
        }
        if problems.is_empty() {
            Ok(fits)
        } else {
            Err(problems)
        }
    }

    fn check_alone(&self, promise: &AppPromise, problems: &mut Vec<Problem>) {
        if !self.modes.contains(&promise.mode) {
            problems.push(Problem::Mode {
                app: promise.name.clone(),
                mode: promise.mode,
                allowed: self.modes.clone(),
            });
        }
        // Without a hard limit the sum would mean nothing. Disk may be 0: a read-only app.
        for resource in [Resource::Memory, Resource::Cpu, Resource::Pids] {
            if resource.of(promise) == 0 {
                problems.push(Problem::NoLimit {
                    app: promise.name.clone(),
                    resource,
                });
            }
        }
    }
}

fn check_between(promises: &[AppPromise], problems: &mut Vec<Problem>) {
    for (at, later) in promises.iter().enumerate() {
        for earlier in &promises[..at] {
            if earlier.name == later.name {
                problems.push(Problem::NameTwice {
                    name: later.name.clone(),
                });
            }
            for &port in &later.host_ports {
                if earlier.host_ports.iter().any(|&taken| taken.clashes(port)) {
                    problems.push(Problem::PortTwice {
                        port,
                        first: earlier.name.clone(),
                        second: later.name.clone(),
                    });
                }
            }
        }
        for (index, &port) in later.host_ports.iter().enumerate() {
            if later.host_ports[..index].iter().any(|&p| p.clashes(port)) {
                problems.push(Problem::PortTwice {
                    port,
                    first: later.name.clone(),
                    second: later.name.clone(),
                });
            }
        }
    }
}

/// The app that asks for most, which is where one looks first.
fn largest(promises: &[AppPromise], resource: Resource) -> String {
    promises
        .iter()
        .max_by_key(|promise| resource.of(promise))
        .map_or_else(String::new, |promise| promise.name.clone())
}

#[cfg(test)]
mod tests;
