//! What of the board's own network its profile lets be touched, as `agent/network` takes it.

use coracle_board_support::profile::{BridgeNf, Forwarding, Offload as Written, Profile};
use coracle_network::{BoardPolicy, Offload, Offloads};
use std::sync::Arc;

/// Of a profile.
pub fn of(profile: &Profile) -> BoardPolicy {
    let network = &profile.network;
    let entries = network.offloads.clone();
    let of_link = move |link: &str| {
        let entry = entries.iter().find(|entry| entry.means(link));
        entry
            .map(|entry| offloads(entry.wanted()))
            .unwrap_or_default()
    };
    BoardPolicy {
        keep_forwarding: network.forwarding == Forwarding::Keep,
        bridge_nf_off: network.bridge_nf == BridgeNf::Off,
        offloads_of: (!network.offloads.is_empty()).then(|| Arc::new(of_link) as _),
        app_offloads: offloads(network.app_offloads.wanted()),
    }
}

fn offloads(wanted: impl Iterator<Item = (Written, bool)>) -> Offloads {
    let kind = |written| match written {
        Written::Tso => Offload::Tso,
        Written::Gso => Offload::Gso,
        Written::Gro => Offload::Gro,
        Written::TxChecksum => Offload::TxChecksum,
        Written::RxChecksum => Offload::RxChecksum,
    };
    wanted.map(|(written, on)| (kind(written), on)).collect()
}
