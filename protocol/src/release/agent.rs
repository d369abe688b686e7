//! The board's own program, where a release brings one.

use super::{Blob, Image, Layer, Release};
use crate::counters::Counter;
use crate::document::{line, within};
use crate::limits::LIMITS;
use serde::{Deserialize, Serialize};

/// Name of the program in its layer.
pub const AGENT_FILE: &str = "coracle-agent";

/// Bytes of a program: some ten times what one takes.
const PROGRAM_BYTES: u64 = 64 << 20;

/// The program that a board is to run from then on, instead of the one on its root file system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// For people; no program compares it.
    pub version: String,
    /// Goes up with each program, whichever product's release brings it: a board takes none below what it has seen. Left out it is
    /// 0, below all others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counter: u64,
    /// The program, byte for byte: what is executed is held against this.
    pub program: Blob,
    /// Carries it: one layer, with the program as `coracle-agent`.
    pub image: Image,
}

fn is_zero(counter: &u64) -> bool {
    *counter == 0
}

impl Agent {
    pub(super) fn check(&self) -> Result<(), String> {
        line("version", &self.version)?;
        within("counter", self.counter, LIMITS.integer)?;
        within("program.size", self.program.size, PROGRAM_BYTES)?;
        self.image.check()?;
        match self.image.layers.len() {
            1 => Ok(()),
            count => Err(format!("image has {count} layers; it is exactly one")),
        }
    }
}

impl<L> Release<L> {
    /// The counter of the agent that it brings, under the epoch of role `release`.
    pub fn agent_counter(&self) -> Option<Counter> {
        self.agent.as_ref().map(|agent| Counter {
            epoch: self.epoch,
            value: agent.counter,
        })
    }

    /// Every image that it needs: its apps', and the one that carries the agent.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        let apps = self.apps.iter().map(|app| &app.image);
        apps.chain(self.agent.as_ref().map(|agent| &agent.image))
    }

    /// The layers of all of them; one that several have comes several times.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.images().flat_map(|image| &image.layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agent() -> Agent {
        let digest = format!("sha256:{}", "a".repeat(64));
        let blob = json!({ "digest": digest, "size": 1 });
        let layer = json!({ "media_type": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1,
            "diff_id": digest, "unpacked_size": 1 });
        let image =
            json!({ "name": "agent:2", "manifest": blob, "config": blob, "layers": [layer] });
        serde_json::from_value(json!({ "version": "2", "program": blob, "image": image })).unwrap()
    }

    /// Programs from before the count read a layer that says none.
    #[test]
    fn a_layer_says_no_more_members_than_its_tar_can_hold() {
        let mut image = agent().image;
        let without = serde_json::to_value(&image).unwrap();
        assert!(without["layers"][0].get("entries").is_none(), "{without}");
        image.layers[0].unpacked_size = 3 * 512 + 511;
        image.layers[0].entries = Some(3);
        image.check().unwrap();
        let counted = serde_json::to_value(&image).unwrap();
        assert_eq!(counted["layers"][0]["entries"], 3);
        assert_eq!(serde_json::from_value::<Image>(counted).unwrap(), image);
        image.layers[0].entries = Some(4);
        assert!(image.check().unwrap_err().contains("image.layers.entries"));
    }

    #[test]
    fn an_agent_is_one_layer_of_bounded_size() {
        agent().check().unwrap();
        let mut two = agent();
        two.image.layers.push(two.image.layers[0].clone());
        assert!(two.check().unwrap_err().contains("exactly one"));
        let mut large = agent();
        large.program.size = PROGRAM_BYTES + 1;
        assert!(large.check().unwrap_err().contains("program.size"));
        let mut beyond = agent();
        beyond.counter = LIMITS.integer + 1;
        assert!(beyond.check().unwrap_err().contains("counter"));
        let mut lines = agent();
        lines.version = "2\n".into();
        assert!(lines.check().is_err());
    }
}
