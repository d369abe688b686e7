//! What the board itself uses, looked at when somebody is told of it anyway.

use crate::beside::beside;
use coracle_board_support::config::Config;
use coracle_board_support::thermal;
use coracle_board_support::vitals::{self, Link};
use coracle_protocol::local::Status;
use coracle_protocol::report::{BoardUse, LinkKind};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;

/// For so long a sensor or a disk is waited for. A driver may sleep for seconds, and one that hangs must hold nobody up.
const PATIENCE: Duration = Duration::from_secs(3);
/// One look at a time: a driver that hangs has one thread, and those that flush and resolve names have the other.
static TURN: Mutex<()> = Mutex::const_new(());

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

    /// One look. `status` is what the supervisor said just now. What does not answer in time is left out.
    pub async fn look(&self, status: Option<&Status>) -> BoardUse {
        let heat = status.and_then(|status| status.heat.as_ref());
        let (places, is_told) = (self.clone(), heat.is_some());
        let supervisor = status.and_then(|status| status.own_memory_bytes);
        let look = async {
            let turn = TURN.lock().await;
            let read = move || {
                let used = places.read(supervisor, is_told);
                drop(turn);
                used
            };
            beside(read).await
        };
        let used = tokio::time::timeout(PATIENCE, look).await;
        let mut used = used.ok().flatten().unwrap_or_default();
        if let Some(heat) = heat {
            used.zone = Some(heat.zone.clone());
            used.millidegrees = Some(heat.millidegrees);
            used.throttle_celsius = Some(heat.throttle_celsius);
        }
        used
    }

    /// `supervisor`: its own memory. Where the heat is told already no sensor is asked.
    fn read(&self, supervisor: Option<u64>, is_told: bool) -> BoardUse {
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
            agent_memory_bytes: supervisor
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
        let hottest = (!is_told).then(|| thermal::hottest(root)).flatten();
        if let Some((zone, millidegrees)) = hottest {
            used.zone = Some(zone.as_str().to_owned());
            used.millidegrees = Some(millidegrees);
        }
        used
    }
}
