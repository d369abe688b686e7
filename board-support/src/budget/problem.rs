//! What can be wrong with a set of apps, in numbers.

use super::io::{LEAST_BYTES, LEAST_OPERATIONS};
use super::{AppPromise, HostPort, PortProtocol};
use crate::profile::NetworkMode;
use serde::Serialize;
use std::fmt;

/// What there is a budget of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// In bytes.
    Memory,
    /// In thousandths of a core.
    Cpu,
    /// Processes and threads.
    Pids,
    /// In bytes.
    Disk,
    /// Bytes read from the disk a second.
    #[serde(rename = "read-bytes")]
    ReadBytes,
    /// Bytes written to the disk a second.
    #[serde(rename = "write-bytes")]
    WriteBytes,
    /// Reads from the disk a second.
    #[serde(rename = "read-operations")]
    ReadOperations,
    /// Writes to the disk a second.
    #[serde(rename = "write-operations")]
    WriteOperations,
}

impl Resource {
    /// What a promise says about it.
    pub(super) fn of(self, promise: &AppPromise) -> u64 {
        match self {
            Self::Memory => promise.memory_bytes.max(promise.guarantees.memory_bytes()),
            Self::Cpu => promise.cpu_millis.max(promise.guarantees.cpu_millis()),
            Self::Pids => promise.pids,
            Self::Disk => promise.disk_bytes,
            Self::ReadBytes => promise.io.read_bytes.unwrap_or(LEAST_BYTES),
            Self::WriteBytes => promise.io.write_bytes.unwrap_or(LEAST_BYTES),
            Self::ReadOperations => promise.io.read_operations.unwrap_or(LEAST_OPERATIONS),
            Self::WriteOperations => promise.io.write_operations.unwrap_or(LEAST_OPERATIONS),
        }
    }

    fn amount(self, number: u64) -> String {
        match self {
            Self::Memory | Self::Disk => format!("{:.1} MiB", number as f64 / f64::from(1 << 20)),
            Self::Cpu => format!("{number} CPU millis"),
            Self::Pids => format!("{number} processes"),
            Self::ReadBytes | Self::WriteBytes => format!("{:.2} MB/s", number as f64 / 1e6),
            Self::ReadOperations | Self::WriteOperations => format!("{number} a second"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Pids => "processes",
            Self::Disk => "disk",
            Self::ReadBytes => "bytes read",
            Self::WriteBytes => "bytes written",
            Self::ReadOperations => "reads",
            Self::WriteOperations => "writes",
        }
    }

    /// The key of `[storage.ceilings]` that says how much there is, and the least of it that an app is left.
    fn ceiling(self) -> Option<(&'static str, u64)> {
        match self {
            Self::ReadBytes => Some(("read_bytes_per_second", LEAST_BYTES)),
            Self::WriteBytes => Some(("write_bytes_per_second", LEAST_BYTES)),
            Self::ReadOperations => Some(("read_operations_per_second", LEAST_OPERATIONS)),
            Self::WriteOperations => Some(("write_operations_per_second", LEAST_OPERATIONS)),
            Self::Memory | Self::Cpu | Self::Pids | Self::Disk => None,
        }
    }
}

/// One problem of a set of apps. `Display` is a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum Problem {
    /// The sum of the promises is more than the budget.
    TooMuch {
        /// Of what.
        resource: Resource,
        /// The sum.
        asked: u64,
        /// The budget.
        available: u64,
        /// The app that asks for most.
        largest: String,
    },
    /// The apps ask for more CPUs of their own than there are beside the one that is the board's.
    TooManyCpus {
        /// All apps together.
        asked: u32,
        /// All of the board but one.
        available: u32,
    },
    /// An app has no hard limit.
    NoLimit {
        /// The app.
        app: String,
        /// On what.
        resource: Resource,
    },
    /// Two apps, or one app twice, publish a port.
    PortTwice {
        /// The port.
        port: HostPort,
        /// The first app.
        first: String,
        /// The second app.
        second: String,
    },
    /// Two apps have one name.
    NameTwice {
        /// The name.
        name: String,
    },
    /// This kernel cannot keep a limit that an app asks for.
    NotKept {
        /// The app.
        app: String,
        /// `CPU quota`.
        limit: String,
        /// What the kernel said.
        why: String,
    },
    /// This kernel, or the state folder's file system, lacks what an app needs.
    Lacks {
        /// The app.
        app: String,
        /// `ipvlan links`.
        need: String,
        /// What the kernel said.
        why: String,
    },
    /// The profile does not allow an app's network mode.
    Mode {
        /// The app.
        app: String,
        /// What it asks for.
        mode: NetworkMode,
        /// What the profile allows.
        allowed: heapless::Vec<NetworkMode, 4>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuch {
                resource,
                asked,
                available,
                largest,
            } => {
                write!(
                    f,
                    "{}: the apps ask for {}, this board has {} for apps, {} too much (`{largest}` asks for most)",
                    resource.name(),
                    resource.amount(*asked),
                    resource.amount(*available),
                    resource.amount(asked - available),
                )?;
                match resource.ceiling() {
                    Some((key, least)) => write!(
                        f,
                        "; an app that names none counts with {}; where its disk carries more, `{key}` of [storage.ceilings], or of the disk's own ceilings in [storage] state, in its board.toml says so",
                        resource.amount(least)
                    ),
                    None => Ok(()),
                }
            }
            Self::TooManyCpus { asked, available } => write!(
                f,
                "exclusive CPUs: the apps ask for {asked}, this board has {available} to give: one is for itself and for apps without; `cpus_exclusive` of the release's limits says how many"
            ),
            Self::NoLimit { app, resource } => {
                write!(f, "`{app}`: {} has no limit", resource.name())
            }
            Self::PortTwice {
                port,
                first,
                second,
            } => {
                let protocol = match port.protocol {
                    PortProtocol::Tcp => "tcp",
                    PortProtocol::Udp => "udp",
                    PortProtocol::Sctp => "sctp",
                };
                write!(
                    f,
                    "port {}/{protocol} is taken by `{first}` and by `{second}`",
                    port.port
                )
            }
            Self::NotKept { app, limit, why } => write!(
                f,
                "`{app}`: this kernel cannot keep its {limit}: {why} (`coracle board check` says how to change that)"
            ),
            Self::Lacks { app, need, why } => write!(
                f,
                "`{app}` needs {need}, which this board's kernel does not have: {why} (`coracle board check` says how to change that)"
            ),
            Self::NameTwice { name } => write!(f, "two apps are named `{name}`"),
            Self::Mode { app, mode, allowed } => {
                let allowed: Vec<&str> = allowed.iter().map(|m| m.as_str()).collect();
                write!(
                    f,
                    "`{app}`: network mode `{}` is not allowed on this board; allowed: {}",
                    mode.as_str(),
                    allowed.join(", ")
                )
            }
        }
    }
}
