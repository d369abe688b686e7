//! Gaps in what keeps apps apart: namespaces, file systems, network, system calls.

use super::{Gaps, Severity};
use crate::probe::{KernelFacts, Presence};

pub(super) fn namespaces(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Needed, Wanted};
    for (name, severity, cost, option) in [
        (
            "mnt",
            Needed,
            "apps cannot have a root file system of their own",
            "CONFIG_NAMESPACES",
        ),
        (
            "pid",
            Needed,
            "apps see and can signal each other's processes",
            "CONFIG_PID_NS",
        ),
        (
            "net",
            Needed,
            "apps can only use the board's network",
            "CONFIG_NET_NS",
        ),
        (
            "ipc",
            Needed,
            "apps share memory segments with the board",
            "CONFIG_IPC_NS",
        ),
        (
            "uts",
            Needed,
            "apps cannot have a host name",
            "CONFIG_UTS_NS",
        ),
        (
            "cgroup",
            Wanted,
            "apps see the board's cgroup paths",
            "CONFIG_CGROUPS and Linux 4.6",
        ),
        (
            "user",
            Wanted,
            "apps' root is the board's root, with fewer capabilities",
            "CONFIG_USER_NS",
        ),
    ] {
        gaps.ask(
            Presence::of(facts.namespaces.iter().any(|n| n == name)),
            severity,
            &format!("{name} namespace"),
            cost,
            &format!("build the kernel with {option}"),
        );
    }
    gaps.ask_trial(
        Wanted,
        "users of apps' own",
        "apps' root is the board's root, with fewer capabilities, and releases that say `user_namespace = true` are refused",
        "Linux 5.19 or newer with CONFIG_USER_NS, and the state folder on a file system that shows other owners: ext4, xfs, btrfs, f2fs (tmpfs since 6.3)",
    );
}

pub(super) fn files_and_network(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Needed, Wanted};
    for (presence, severity, subject, cost, option) in [
        (
            facts.overlayfs,
            Needed,
            "overlayfs",
            "images of several layers cannot be run",
            "CONFIG_OVERLAY_FS",
        ),
        (
            facts.seccomp,
            Needed,
            "seccomp filters",
            "apps can make any system call",
            "CONFIG_SECCOMP and CONFIG_SECCOMP_FILTER",
        ),
        (
            facts.nf_tables,
            Wanted,
            "nf_tables",
            "no NAT and no published ports: apps need `host` or `none`",
            "CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT",
        ),
        (
            facts.bridge,
            Wanted,
            "bridge",
            "no bridge network: apps need `host` or `none`",
            "CONFIG_BRIDGE",
        ),
        (
            facts.veth,
            Wanted,
            "veth",
            "no bridge network: apps need `host` or `none`",
            "CONFIG_VETH",
        ),
    ] {
        gaps.ask(
            presence,
            severity,
            subject,
            cost,
            &format!("build the kernel with {option}, built in or as modules"),
        );
    }
}

pub(super) fn system_calls(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Note, Wanted};
    for (presence, severity, subject, cost, since) in [
        (
            facts.clone3,
            Note,
            "clone3",
            "launches take the older `clone`",
            "5.3",
        ),
        (
            facts.clone_into_cgroup,
            Note,
            "clone3 into a cgroup",
            "launches move the process into its cgroup in a second step",
            "5.7",
        ),
        (
            facts.openat2,
            Wanted,
            "openat2",
            "paths inside an app's file system are walked step by step",
            "5.6",
        ),
        (
            facts.pidfd,
            Wanted,
            "pidfd_open",
            "the supervisor watches children by SIGCHLD",
            "5.3",
        ),
    ] {
        gaps.ask(
            presence,
            severity,
            subject,
            cost,
            &format!("Linux {since} or newer"),
        );
    }
}
