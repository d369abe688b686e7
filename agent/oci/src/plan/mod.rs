//! From config.json to the library's words. Nothing in this folder changes anything outside the process.
//!
//! | file | what it holds |
//! |---|---|
//! | [`namespaces`] | which are new, shared or joined |
//! | [`mounts`] | options of mounts |
//! | [`process`] | users, capabilities, limits and scheduling of one process |
//! | [`seccomp`] | the profile |
//! | [`resources`] | limits, as writes to the files of cgroup v1 or v2; [`devices`] rules |

use std::path::PathBuf;

use coracle_runtime::spec::{DeviceKind, DeviceNode, Listed, View};
use coracle_runtime::{Cgroup, LaunchSpec, Rootfs, SeccompProgram, Stdio};
use nix::mount::MsFlags;
use oci_spec::runtime::LinuxDeviceType;

use crate::config::Config;
use crate::failure::{Doing, Failure};
use crate::id::ContainerId;

pub mod devices;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod resources;
pub mod seccomp;

/// Everything that the library is told of a container.
pub fn launch<'a>(
    config: &Config,
    id: &ContainerId,
    cgroup: &'a Cgroup,
    seccomp: Option<&'a SeccompProgram>,
    stdio: Stdio,
) -> Result<LaunchSpec<'a>, Failure> {
    let (spec, linux, process) = (&config.spec, config.linux()?, config.process());
    let rootfs = Rootfs::Directory(config.rootfs()?);
    let mut launch = LaunchSpec::new(id.as_str(), rootfs, cgroup).doing("opening /dev/null")?;
    let (netns, namespaces) = namespaces::plan(linux)?;

    let own_uts = !matches!(namespaces.uts, coracle_runtime::namespaces::Namespace::Host);
    for (name, value) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) && !own_uts {
            return Err(Failure::Config(format!("{name} without a uts namespace")));
        }
    }
    launch.hostname = spec.hostname().clone().filter(|name| !name.is_empty());
    launch.domainname = spec.domainname().clone().filter(|name| !name.is_empty());
    launch.view = View::Listed(Listed {
        file_systems: mounts::plan(spec, &config.bundle)?,
        propagation: mounts::root_propagation(linux)?,
    });
    launch.devices = device_nodes(linux)?;
    launch.rootfs_readonly = spec
        .root()
        .as_ref()
        .and_then(|root| root.readonly())
        .unwrap_or(false);
    let paths = |paths: &Option<Vec<String>>| paths.iter().flatten().map(PathBuf::from).collect();
    launch.masked_paths = paths(linux.masked_paths());
    launch.readonly_paths = paths(linux.readonly_paths());
    launch.sysctls = linux
        .sysctl()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    launch.netns = netns;
    launch.namespaces = namespaces;
    launch.seccomp = seccomp;
    launch.stdio = stdio;

    let planned = process::plan(process.unwrap_or(&process::none()))?;
    launch.args = planned.args;
    launch.env = planned.env;
    launch.cwd = planned.cwd;
    (launch.uid, launch.gid) = (planned.uid, planned.gid);
    launch.additional_gids = planned.additional_gids;
    launch.umask = planned.umask;
    launch.capabilities = planned.capabilities;
    launch.no_new_privs = planned.no_new_privs;
    launch.rlimits = planned.rlimits;
    launch.oom_score_adj = planned.oom_score_adj;
    launch.settings = planned.settings;
    launch.settings.personality = process::personality(linux)?;
    launch.settings.memory_policy = process::memory_policy(linux)?;
    Ok(launch)
}

fn device_nodes(linux: &oci_spec::runtime::Linux) -> Result<Vec<DeviceNode>, Failure> {
    let node = |device: &oci_spec::runtime::LinuxDevice| {
        let kind = match device.typ() {
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                let path = device.path().display();
                return Err(Failure::Config(format!("device {path} has no type")));
            }
        };
        let number = |number: i64| {
            u32::try_from(number)
                .map_err(|_| Failure::Config(format!("device number {number} is none")))
        };
        let is_fifo = matches!(kind, DeviceKind::Fifo);
        Ok(DeviceNode {
            path: device.path().clone(),
            kind,
            major: if is_fifo { 0 } else { number(device.major())? },
            minor: if is_fifo { 0 } else { number(device.minor())? },
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    };
    linux.devices().iter().flatten().map(node).collect()
}

/// What `propagation` words mean, alone or with an `r` in front.
pub(crate) fn propagation(word: &str) -> Option<MsFlags> {
    let (recursive, plain) = match word.strip_prefix('r') {
        Some(rest) => (MsFlags::MS_REC, rest),
        None => (MsFlags::empty(), word),
    };
    let flag = match plain {
        "private" => MsFlags::MS_PRIVATE,
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => return None,
    };
    Some(flag | recursive)
}
