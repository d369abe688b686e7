//! What of the board's own network may be touched.

use std::sync::Arc;

use crate::offload::Offload;

/// What is wanted of links; what is not named stays.
pub type Offloads = Vec<(Offload, bool)>;

/// By the name of a link of the board.
pub type OffloadsOf = Arc<dyn Fn(&str) -> Offloads + Send + Sync>;

/// The default touches what networks cannot do without, and nothing else.
#[derive(Clone, Default)]
pub struct BoardPolicy {
    /// Forwarding is the board's own affair: it is not written, and networks with a way out need it to be on.
    pub keep_forwarding: bool,
    /// What br_netfilter asks of packets within a bridge is switched off.
    pub bridge_nf_off: bool,
    /// For the board's links, but loopback and those that are made here.
    pub offloads_of: Option<OffloadsOf>,
    /// For both ends of the links that lead into containers.
    pub app_offloads: Offloads,
}

impl BoardPolicy {
    pub(crate) fn offloads_of(&self, link: &str) -> Offloads {
        self.offloads_of
            .as_ref()
            .map(|of| of(link))
            .unwrap_or_default()
    }
}
