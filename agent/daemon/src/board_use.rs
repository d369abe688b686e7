//! What the board itself uses, looked at when somebody is told of it anyway.

use coracle_board_support::config::Config;
use coracle_board_support::thermal;
use coracle_board_support::vitals::{self, Link};
use coracle_protocol::local::Status;
use coracle_protocol::report::{BoardUse, LinkKind};
use std::path::PathBuf;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Places {
    hardware_root: PathBuf,
    state: PathBuf,
    images: PathBuf,
}

impl Places {
    /// Those of a board with this coracle.toml.
    pub fn of(config: &Config) -> Self {
        Self {
            hardware_root: config.hardware_root.clone(),
            state: config.state_dir.clone(),
            images: config.layers_dir(),
        }
    }

    /// One look. `status` is what the supervisor said just now.
    pub fn look(&self, status: Option<&Status>) -> BoardUse {
        let root = &self.hardware_root;
        let memory = vitals::memory(root);
        let state = vitals::room(&self.state);
        let apart = !vitals::is_same_room(&self.state, &self.images);
        let images = apart.then(|| vitals::room(&self.images)).flatten();
        let link = vitals::default_link(root);
        let mut used = BoardUse {
            memory_total_bytes: memory.map(|memory| memory.total),
            memory_used_bytes: memory.map(|memory| memory.total.saturating_sub(memory.available)),
            // Half of it would look like all of it.
            agent_memory_bytes: status
                .and_then(|status| status.own_memory_bytes)
                .and_then(|supervisor| vitals::own_memory()?.checked_add(supervisor)),
            load_hundredths: vitals::load(root),
            uptime_seconds: vitals::uptime(root),
            state_total_bytes: state.map(|room| room.total),
            state_free_bytes: state.map(|room| room.free),
            images_total_bytes: images.map(|room| room.total),
            images_free_bytes: images.map(|room| room.free),
            link_kind: link.as_ref().map(|(_, kind)| match kind {
                Link::Ethernet => LinkKind::Ethernet,
                Link::Wifi => LinkKind::Wifi,
                Link::Cellular => LinkKind::Cellular,
                Link::Other => LinkKind::Other,
            }),
            link: link.map(|(name, _)| name.as_str().to_owned()),
            ..BoardUse::default()
        };
        match status.and_then(|status| status.heat.as_ref()) {
            Some(heat) => {
                used.zone = Some(heat.zone.clone());
                used.millidegrees = Some(heat.millidegrees);
                used.throttle_celsius = Some(heat.throttle_celsius);
            }
            None => {
                if let Some((zone, millidegrees)) = thermal::hottest(root) {
                    used.zone = Some(zone.as_str().to_owned());
                    used.millidegrees = Some(millidegrees);
                }
            }
        }
        used
    }
}
