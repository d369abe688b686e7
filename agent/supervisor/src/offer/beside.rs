//! What takes the disk beside the apps of a release: volumes that it does not name, and the board's own programs.

use super::storage::all_volumes;
use crate::agent;
use crate::settings::Settings;
use crate::volumes::Volumes;
use coracle_board_support::budget::{Budget, Problem, Resource};
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::Release;
use std::collections::BTreeSet;

/// Volumes that are on the board and that the release does not name: they stay.
pub(super) struct KeptVolumes {
    names: Vec<VolumeName>,
    bytes: u64,
}

impl KeptVolumes {
    pub(super) fn beside(release: &Release, settings: &Settings) -> KeptVolumes {
        let volumes = Volumes::of(settings);
        let named: BTreeSet<VolumeName> = all_volumes(release, settings)
            .into_iter()
            .map(|volume| volume.name)
            .collect();
        let mut names = volumes.names();
        names.retain(|name| !named.contains(name));
        let held = names.iter().map(|name| volumes.held_bytes(name));
        KeptVolumes {
            bytes: held.fold(0, u64::saturating_add),
            names,
        }
    }

    pub(super) fn less_of(&self, budget: &Budget) -> Budget {
        Budget {
            disk_bytes: budget.disk_bytes.saturating_sub(self.bytes),
            ..budget.clone()
        }
    }

    /// Where the rest of the disk is, when that is what is missing.
    pub(super) fn hint(&self, problems: &[Problem]) -> Option<String> {
        if self.bytes == 0 || !problems.iter().any(is_disk) {
            return None;
        }
        let names: Vec<&str> = self.names.iter().map(VolumeName::as_str).take(8).collect();
        Some(format!(
            "volumes that the release does not name hold {:.1} MiB: {} (`coracle volume ls`, `coracle volume prune`)",
            self.bytes as f64 / f64::from(1 << 20),
            names.join(", ")
        ))
    }
}

/// The board's own programs: the one that the release brings, in its layer, and those from releases before, which stay until it is
/// kept.
pub(super) struct Programs {
    brought: u64,
    held: u64,
}

impl Programs {
    pub(super) fn beside(release: &Release, settings: &Settings) -> Programs {
        let brought = release.agent.as_ref();
        let layers = brought.into_iter().flat_map(|agent| &agent.image.layers);
        let not = brought.map(|agent| agent.program.digest);
        Programs {
            brought: layers.fold(0, |sum, layer| sum.saturating_add(layer.unpacked_size)),
            held: agent::held_bytes(&settings.config.agent_dir(), not),
        }
    }

    pub(super) fn less_of(&self, budget: &Budget) -> Budget {
        let bytes = self.brought.saturating_add(self.held);
        Budget {
            disk_bytes: budget.disk_bytes.saturating_sub(bytes),
            ..budget.clone()
        }
    }

    /// As that of the volumes.
    pub(super) fn hint(&self, problems: &[Problem]) -> Option<String> {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let is_any = self.brought > 0 || self.held > 0;
        (is_any && problems.iter().any(is_disk)).then(|| {
            format!(
                "the board's own programs take {:.1} MiB of the disk: {:.1} are agent.image of the release, the others from releases before",
                mib(self.brought.saturating_add(self.held)),
                mib(self.brought)
            )
        })
    }
}

pub(super) fn is_disk(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::TooMuch {
            resource: Resource::Disk,
            ..
        }
    )
}
