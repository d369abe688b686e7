//! Switches of the board's network that Coracle may not be allowed to touch.

use crate::text::read_text;
use serde::Serialize;
use std::path::Path;

/// On or off; none where the kernel has no such switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NetworkSwitches {
    /// `net.ipv4.ip_forward`: whether the board passes packets on.
    pub forwarding: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub forwarding6: Option<bool>,
    /// `net.bridge.bridge-nf-call-iptables`: whether packets within a bridge pass the rules for routed ones.
    pub bridge_nf: Option<bool>,
}

impl NetworkSwitches {
    pub(super) fn read(root: &Path) -> Self {
        let switch = |name: &str| {
            let text = read_text(&root.join("proc/sys/net").join(name), 16);
            text.trim().parse::<u8>().ok().map(|number| number != 0)
        };
        Self {
            forwarding: switch("ipv4/ip_forward"),
            forwarding6: switch("ipv6/conf/all/forwarding"),
            bridge_nf: switch("bridge/bridge-nf-call-iptables"),
        }
    }
}
