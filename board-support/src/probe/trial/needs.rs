//! Parts of the kernel that some releases need and others do not. A supervisor tries those that a release asks for, in a child
//! with a network and mounts of its own; `coracle board check` tries all.

use super::{Outcome, Trial, Trials, is_short, netlink, overlay};
use crate::kernel;
use crate::text::cut;
use rustix::thread::UnshareFlags;
use std::io;
use std::path::Path;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Layers over each other, where the state folder lies.
    Layers,
    /// Filters of system calls.
    Filters,
    /// A bound on what comes into an app.
    IngressRate,
    /// A look at what an app sends, where it sends it.
    EgressList,
    /// A bound on it.
    EgressRate,
    /// Apps with hardware addresses of their own on a wire.
    Macvlan,
    /// Apps with addresses of their own on a wire.
    Ipvlan,
    /// A VLAN of a wire.
    Vlan,
}

impl Need {
    /// Those of networks.
    pub const OF_NETWORKS: [Self; 6] = [
        Self::IngressRate,
        Self::EgressList,
        Self::EgressRate,
        Self::Macvlan,
        Self::Ipvlan,
        Self::Vlan,
    ];

    /// As the trial and the gap name it.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Layers => "overlayfs",
            Self::Filters => "seccomp filters",
            Self::IngressRate => "ingress rates",
            Self::EgressList => "egress lists",
            Self::EgressRate => "egress rates",
            Self::Macvlan => "macvlan links",
            Self::Ipvlan => "ipvlan links",
            Self::Vlan => "VLANs",
        }
    }

    /// What else than the networks' own options it takes.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Layers | Self::Filters => &[],
            Self::IngressRate => &["CONFIG_NET_SCHED", "CONFIG_NET_SCH_TBF"],
            Self::EgressList => &["CONFIG_NF_TABLES_NETDEV", "CONFIG_NETFILTER_INGRESS"],
            Self::EgressRate => &["CONFIG_NFT_LIMIT"],
            Self::Macvlan => &["CONFIG_MACVLAN"],
            Self::Ipvlan => &["CONFIG_IPVLAN"],
            Self::Vlan => &["CONFIG_VLAN_8021Q"],
        }
    }

    /// In this thread's namespaces.
    pub(super) fn attempt(self, state: &Path) -> io::Result<()> {
        match self {
            Self::Layers => overlay::attempt(state),
            Self::Filters => kernel::allow_all_filter(),
            Self::IngressRate => netlink::token_bucket(),
            Self::EgressList => netlink::entrance(false),
            Self::EgressRate => netlink::entrance(true),
            Self::Macvlan => netlink::on_a_wire("macvlan", None),
            Self::Ipvlan => netlink::on_a_wire("ipvlan", None),
            Self::Vlan => netlink::on_a_wire("vlan", Some(3)),
        }
    }
}

impl Trials {
    /// Tries these alone. Only for a process that ends soon after: it leaves the board's network and mounts.
    pub fn needs(state: &Path, wanted: &[Need]) -> Self {
        let mut trials = Self::default();
        let apart = kernel::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET);
        for need in wanted {
            match &apart {
                Ok(()) => trials.note_result(need.subject(), need.attempt(state)),
                Err(error) if is_short(error) => {
                    let again = io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0));
                    trials.note_result(need.subject(), Err(again));
                }
                Err(error) => {
                    let why = format!("it needs namespaces of its own: {error}");
                    trials.note(need.subject(), Outcome::NotTried(cut(&why)));
                }
            }
        }
        trials
    }

    /// A line for each, for [`Trials::learn`].
    pub fn to_lines(&self) -> String {
        let line = |trial: &Trial| {
            let (word, why) = match &trial.outcome {
                Outcome::Works => (WORKS, ""),
                Outcome::Fails(why) => (FAILS, why.as_str()),
                Outcome::NotTried(why) => ("untried", why.as_str()),
            };
            format!("{}\t{word}\t{}\n", trial.subject, why.replace('\n', " "))
        };
        self.iter().map(line).collect()
    }

    /// What came of one need since, where another one's lines say it.
    pub fn learn(&mut self, need: Need, lines: &str) {
        let mut lines = lines.lines().map(|line| line.splitn(3, '\t'));
        let said = lines.find_map(|mut words| {
            let is_it = words.next()? == need.subject();
            is_it.then_some((words.next()?, words.next().unwrap_or_default()))
        });
        let outcome = match said {
            Some((WORKS, _)) => Outcome::Works,
            Some((FAILS, why)) => Outcome::Fails(cut(why)),
            Some((_, why)) => Outcome::NotTried(cut(why)),
            None => Outcome::NotTried(cut("whoever tries it did not come to it")),
        };
        let mut known = self.0.iter_mut();
        match known.find(|trial| trial.subject.as_str() == need.subject()) {
            Some(trial) => trial.outcome = outcome,
            None => self.note(need.subject(), outcome),
        }
    }
}

const WORKS: &str = "works";
const FAILS: &str = "fails";
