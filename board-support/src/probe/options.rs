//! The kernel's configuration, where it lies in plain text: /boot/config-RELEASE or
//! /lib/modules/RELEASE/config. /proc/config.gz is compressed: whoever can decompress hands the
//! text to [`KernelOptions::from_text`].

use crate::profile::REQUIRED_OPTIONS;
use crate::text::{Text, cut, read_text};
use heapless::LinearMap;
use serde::Serialize;
use std::path::Path;

/// What is read of a configuration, in bytes; Debian's has 280 KiB.
const CONFIG_BYTES: u64 = 1 << 20;

/// Ours, asked for by [`CORACLE_OPTIONS`], [`NETWORK_OPTIONS`], [`OLDER_OPTIONS`] and [`MEMCG_V1`], and those of a profile; a
/// distribution's has ten thousand.
const KEPT: usize = 72;
const _: () = assert!(
    CORACLE_OPTIONS.len() + NETWORK_OPTIONS.len() + OLDER_OPTIONS.len() + 1 + REQUIRED_OPTIONS
        <= KEPT
);

/// v1's half of the memory controller, since 6.11.
pub(super) const MEMCG_V1: &str = "CONFIG_MEMCG_V1";

/// The options that Coracle needs on each board, with what each is for. The Yocto layer's kernel
/// fragment has the same ones; a test holds them together.
pub const CORACLE_OPTIONS: [(&str, &str); 28] = [
    ("CONFIG_NAMESPACES", "isolation"),
    ("CONFIG_UTS_NS", "a host name for each app"),
    ("CONFIG_IPC_NS", "shared memory for each app"),
    ("CONFIG_PID_NS", "processes for each app"),
    ("CONFIG_NET_NS", "a network for each app"),
    ("CONFIG_USER_NS", "users for each app"),
    ("CONFIG_CGROUPS", "limits"),
    ("CONFIG_MEMCG", "memory limits"),
    ("CONFIG_CGROUP_SCHED", "CPU weights"),
    ("CONFIG_CFS_BANDWIDTH", "CPU quotas"),
    ("CONFIG_CPUSETS", "fixed cores"),
    ("CONFIG_BLK_CGROUP", "IO limits"),
    ("CONFIG_BLK_DEV_THROTTLING", "IO rates"),
    ("CONFIG_CGROUP_PIDS", "process limits"),
    (
        "CONFIG_CGROUP_FREEZER",
        "pause, and a kill that nothing outruns",
    ),
    ("CONFIG_CGROUP_DEVICE", "device rules on cgroup v1"),
    ("CONFIG_CGROUP_BPF", "device rules on cgroup v2"),
    ("CONFIG_SECCOMP_FILTER", "system call filters"),
    ("CONFIG_OVERLAY_FS", "image layers"),
    ("CONFIG_BLK_DEV_LOOP", "sizes of layers and volumes"),
    ("CONFIG_EXT4_FS", "sizes of layers and volumes, in images"),
    ("CONFIG_BRIDGE", "the apps' network"),
    ("CONFIG_VETH", "the apps' links"),
    ("CONFIG_NF_TABLES", "published ports"),
    ("CONFIG_NF_TABLES_IPV4", "published ports over IPv4"),
    ("CONFIG_NFT_NAT", "NAT"),
    ("CONFIG_NFT_MASQ", "NAT to the uplink"),
    ("CONFIG_NFT_CT", "firewall rules by connection"),
];

/// Options that only some networks need, with what a board without them does not do. The kernel fragment has these too.
pub const NETWORK_OPTIONS: [(&str, &str); 17] = [
    ("CONFIG_NF_TABLES_INET", NO_NETWORK),
    ("CONFIG_NF_CONNTRACK", NO_NETWORK),
    ("CONFIG_NF_NAT", NO_NETWORK),
    ("CONFIG_NFT_FIB_IPV4", NO_NETWORK),
    ("CONFIG_NF_TABLES_IPV6", NO_IPV6),
    ("CONFIG_NFT_FIB_IPV6", NO_IPV6),
    ("CONFIG_NET_SCHED", NO_INGRESS_RATE),
    ("CONFIG_NET_SCH_TBF", NO_INGRESS_RATE),
    ("CONFIG_NF_TABLES_NETDEV", NO_EGRESS),
    ("CONFIG_NETFILTER_INGRESS", NO_EGRESS),
    ("CONFIG_NFT_LIMIT", NO_EGRESS_RATE),
    (
        "CONFIG_MACVLAN",
        "no network with driver `macvlan` can be made",
    ),
    (
        "CONFIG_IPVLAN",
        "no network with driver `ipvlan` can be made",
    ),
    ("CONFIG_VLAN_8021Q", "no network with a `vlan` can be made"),
    ("CONFIG_CAN", "there is no CAN link to give to an app"),
    (
        "CONFIG_NF_CT_PROTO_SCTP",
        "published SCTP ports lead nowhere",
    ),
    (
        "CONFIG_NF_CT_NETLINK",
        "connections of an app that has gone keep their way until they end",
    ),
];

/// What older kernels have apart that is in those of today once the others are set, with its last version. Asked for where a
/// kernel's configuration itself says that it is not set: others do not know the name. No kernel has more than six of them.
pub const OLDER_OPTIONS: [(&str, &str); 7] = [
    ("CONFIG_NFT_SET_HASH", "4.17"),
    ("CONFIG_NF_TABLES_SET", "5.9 at most"),
    ("CONFIG_NF_CONNTRACK_IPV4", "4.18"),
    ("CONFIG_NF_NAT_IPV4", "5.1 at most"),
    ("CONFIG_NFT_CHAIN_NAT_IPV4", "5.1 at most"),
    ("CONFIG_NFT_MASQ_IPV4", "5.1 at most"),
    ("CONFIG_NFT_COUNTER", "5.19"),
];
const NO_NETWORK: &str = "no network with a bridge can be made: apps need `host` or `none`";
const NO_IPV6: &str =
    "networks are made without IPv6, and a release that names an IPv6 subnet does not start";
const NO_INGRESS_RATE: &str = "a release with an `ingress_rate` is refused";
const NO_EGRESS: &str = "a release with `egress` or `egress_rate` is refused";
const NO_EGRESS_RATE: &str = "a release with an `egress_rate` is refused";

/// How an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionState {
    /// `=y`
    BuiltIn,
    /// `=m`
    Module,
    /// Not set.
    Off,
    /// No configuration in plain text was found.
    Unknown,
}

/// What a kernel's configuration says of the options that are asked for, or nothing when it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KernelOptions {
    set: Option<LinearMap<Text, OptionState, KEPT>>,
}

impl KernelOptions {
    /// Looks for a plain configuration of this release below `root`.
    pub(super) fn read(root: &Path, release: &str, required: &[Text]) -> Self {
        let places = [
            root.join(format!("boot/config-{release}")),
            root.join("lib/modules").join(release).join("config"),
        ];
        places
            .iter()
            .map(|path| read_text(path, CONFIG_BYTES))
            .find(|text| !text.is_empty())
            .map_or_else(Self::default, |text| Self::from_text(&text, required))
    }

    /// From a configuration's text, those that a profile requires among them. Only `=y` and `=m` are kept, and what is not set of
    /// [`OLDER_OPTIONS`]; a text without one line of the first kind is not a configuration and stays unknown.
    pub fn from_text(text: &str, required: &[Text]) -> Self {
        let (mut set, mut is_configuration) = (LinearMap::new(), false);
        for line in text.lines() {
            let is_older = |name: &str| OLDER_OPTIONS.iter().any(|(option, _)| *option == name);
            let off = line.strip_prefix("# ");
            let off = off.and_then(|line| line.strip_suffix(" is not set"));
            let (name, state) = match line.split_once('=') {
                Some((name, "y")) => (name, OptionState::BuiltIn),
                Some((name, "m")) => (name, OptionState::Module),
                _ => match off.filter(|name| is_older(name)) {
                    Some(name) => (name, OptionState::Off),
                    None => continue,
                },
            };
            if !name.starts_with("CONFIG_") {
                continue;
            }
            is_configuration |= state != OptionState::Off;
            let mut ours = CORACLE_OPTIONS.iter().chain(&NETWORK_OPTIONS);
            let asked = name == MEMCG_V1
                || is_older(name)
                || ours.any(|(option, _)| *option == name)
                || required.iter().any(|option| option.as_str() == name);
            if asked {
                // There is room for all that are asked for, as `KEPT` says.
                let _ = set.insert(cut(name), state);
            }
        }
        Self {
            set: is_configuration.then_some(set),
        }
    }

    /// Whether the configuration has the option and says that it is not set.
    pub fn is_left_out(&self, option: &str) -> bool {
        let mut set = self.set.iter().flat_map(LinearMap::iter);
        set.any(|(name, state)| name.as_str() == option && *state == OptionState::Off)
    }

    /// How an option is set.
    pub fn state(&self, option: &str) -> OptionState {
        match &self.set {
            None => OptionState::Unknown,
            Some(set) => {
                let mut set = set.iter();
                set.find(|(name, _)| name.as_str() == option)
                    .map_or(OptionState::Off, |(_, state)| *state)
            }
        }
    }
}
