//! `checkpoint` and `restore`, with the options that runc and crun have.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::{Command, Create, Global, one_of, take_id, wanted};
use crate::failure::Failure;

/// Where images are when nothing else is said.
const IMAGES: &str = "checkpoint";

/// What both take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pub images: PathBuf,
    /// CRIU's log, and what it needs beside the images.
    pub work: Option<PathBuf>,
    pub tcp_established: bool,
    pub tcp_close: bool,
    pub tcp_skip_in_flight: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub link_remap: bool,
    pub auto_dedup: bool,
    pub empty_network: bool,
    pub manage_cgroups: ManageCgroups,
    pub network_lock: Option<NetworkLock>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

impl Default for Images {
    fn default() -> Images {
        Images {
            images: IMAGES.into(),
            work: None,
            tcp_established: false,
            tcp_close: false,
            tcp_skip_in_flight: false,
            ext_unix_sk: false,
            shell_job: false,
            file_locks: false,
            link_remap: false,
            auto_dedup: false,
            empty_network: false,
            manage_cgroups: ManageCgroups::Soft,
            network_lock: None,
            lsm_profile: None,
            lsm_mount_context: None,
        }
    }
}

/// How CRIU treats cgroups; the numbers are those of its rpc.proto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManageCgroups {
    Ignore = 0,
    /// Those that it makes, and their properties.
    Soft = 3,
    Full = 4,
    Strict = 5,
}

/// How connections are kept from being reset meanwhile; the numbers are those of CRIU's rpc.proto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkLock {
    Iptables = 1,
    Nftables = 2,
    Skip = 3,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub images: Images,
    /// An earlier one, relative to this one's images: what has not changed since stays there.
    pub parent: Option<PathBuf>,
    pub leave_running: bool,
    /// Memory only; the container goes on.
    pub pre_dump: bool,
}

#[derive(Debug, Default)]
pub struct Restore {
    pub images: Images,
    pub create: Create,
}

pub fn checkpoint(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut id, mut checkpoint) = (None, Checkpoint::default());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("parent-path") => checkpoint.parent = Some(parser.value()?.into()),
            Long("leave-running") => checkpoint.leave_running = true,
            Long("pre-dump") => checkpoint.pre_dump = true,
            // podman asks so whether there is such a command.
            Long("help") | Short('h') => return Ok(Command::Help),
            Long(name) => {
                let name = name.to_owned();
                both(&name, parser, &mut checkpoint.images)?;
            }
            other => take_id(&mut id, other)?,
        }
    }
    Ok(Command::Checkpoint(wanted(id)?, checkpoint))
}

pub fn restore(parser: &mut lexopt::Parser, global: &Global) -> Result<Command, Failure> {
    let (mut id, mut restore) = (None, Restore::default());
    let create = &mut restore.create;
    create.systemd = global.systemd;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bundle") | Short('b') => create.bundle = Some(parser.value()?.into()),
            Long("console-socket") => create.console_socket = Some(parser.value()?.into()),
            Long("pid-file") => create.pid_file = Some(parser.value()?.into()),
            Long("detach") | Short('d') => create.detach = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            // CRIU changes the root, by pivot_root.
            Long("no-pivot" | "no-subreaper") => {}
            // containerd writes `-no-subreaper`.
            Short('n') => match parser.optional_value() {
                Some(rest) if rest == "o-subreaper" => {}
                _ => return Err(Failure::Usage("invalid option '-n'".into())),
            },
            Long(name) => {
                let name = name.to_owned();
                both(&name, parser, &mut restore.images)?;
            }
            other => take_id(&mut id, other)?,
        }
    }
    Ok(Command::Restore(wanted(id)?, restore))
}

fn both(name: &str, parser: &mut lexopt::Parser, images: &mut Images) -> Result<(), Failure> {
    match name {
        "image-path" => images.images = parser.value()?.into(),
        "work-path" => images.work = Some(parser.value()?.into()),
        "tcp-established" => images.tcp_established = true,
        "tcp-close" => images.tcp_close = true,
        "tcp-skip-in-flight" => images.tcp_skip_in_flight = true,
        "ext-unix-sk" => images.ext_unix_sk = true,
        "shell-job" => images.shell_job = true,
        "file-locks" => images.file_locks = true,
        "link-remap" => images.link_remap = true,
        "auto-dedup" => images.auto_dedup = true,
        "empty-ns" => {
            one_of(parser, &["network"])?;
            images.empty_network = true;
        }
        "manage-cgroups-mode" => {
            let mode = one_of(parser, &["soft", "full", "strict", "ignore"])?;
            images.manage_cgroups = match mode.as_str() {
                "full" => ManageCgroups::Full,
                "strict" => ManageCgroups::Strict,
                "ignore" => ManageCgroups::Ignore,
                _ => ManageCgroups::Soft,
            };
        }
        "network-lock" => {
            let method = one_of(parser, &["iptables", "nftables", "skip"])?;
            images.network_lock = Some(match method.as_str() {
                "iptables" => NetworkLock::Iptables,
                "nftables" => NetworkLock::Nftables,
                _ => NetworkLock::Skip,
            });
        }
        "lsm-profile" => images.lsm_profile = Some(parser.value()?.string()?),
        "lsm-mount-context" => images.lsm_mount_context = Some(parser.value()?.string()?),
        "lazy-pages" | "page-server" | "status-fd" => {
            return Err(Failure::Unsupported(format!(
                "--{name}: memory goes to the images and comes from there, not over a network"
            )));
        }
        other => return Err(Failure::Usage(format!("invalid option '--{other}'"))),
    }
    Ok(())
}
