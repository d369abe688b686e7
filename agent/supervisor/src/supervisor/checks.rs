//! A check of all layers and blobs, from its order to its end; a deployment goes first.

use super::Supervisor;
use super::requests::failed;
use crate::check::{self, Checking, Outcome, Thing};
use crate::journal::DeployedSet;
use crate::offer::{Refused, need};
use crate::stage;
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{
    Answer, FileFault, LayerNeed, StoreCheck, StoreFault, StoreKind, StoreState,
};
use coracle_protocol::release::{App, Release};
use coracle_runtime::Exit;
use std::collections::VecDeque;

/// Layers and blobs of which is said what is wrong; more are counted. Together they fit a frame.
const FOUND: usize = 64;

/// Of those, as JSON: names of a hostile image are up to six times as long there, and all have to fit one message.
const FOUND_BYTES: usize = 512 << 10;

/// Of one, apps that need it.
const NEEDED_BY: usize = 16;

/// What is read, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    left: VecDeque<Thing>,
    now: Option<Checking>,
    said: StoreCheck,
}

impl Checks {
    pub(super) fn pid(&self) -> Option<i32> {
        self.now.as_ref().map(Checking::pid)
    }

    /// One that was not as it should be, when it was looked at last.
    pub(super) fn found(&mut self, diff_id: Sha256Digest) -> Option<&mut StoreFault> {
        let mut found = self.said.found.iter_mut();
        found.find(|fault| fault.kind == StoreKind::Layer && fault.digest == diff_id)
    }
}

impl Supervisor {
    pub(super) fn begin_check(&mut self) -> Answer {
        if self.checks.said.running {
            return failed("busy", "a check is under way");
        }
        if let Err(why) = self.is_quiet() {
            return failed(why.code, why.reason);
        }
        let config = &self.settings.config;
        let layers = stage::on_board(&config.layers_dir());
        let layers = layers.into_iter().map(|layer| (StoreKind::Layer, layer));
        let missing = self.missing();
        let blobs = stage::blobs(config).into_iter();
        let left: VecDeque<Thing> = layers
            .chain(blobs.map(|blob| (StoreKind::Blob, blob)))
            .collect();
        tracing::info!(count = left.len(), "what is on the disk is read again");
        self.checks = Checks {
            said: StoreCheck {
                running: true,
                of: (left.len() + missing.len()) as u64,
                ..StoreCheck::default()
            },
            left,
            now: None,
        };
        for layer in missing {
            let thing = (StoreKind::Layer, layer);
            self.note_checked(thing, Outcome::Broken(vec![whole("is missing")], 0));
        }
        Answer::Done
    }

    pub(super) fn look_at_check(&self) -> Answer {
        Answer::Store(self.checks.said.clone())
    }

    /// Nothing else is at work on the layers.
    pub(super) fn is_quiet(&self) -> Result<(), Refused> {
        let deploys = !self.machine.is_settled()
            || self.staging.is_some()
            || !self.stage_queue.is_empty()
            || self.own.leaves_at.is_some();
        match (deploys, &self.mending) {
            (true, _) => Err(Refused::new(
                "busy",
                "a deployment is under way; try again when it has ended",
            )),
            (_, Some(_)) => Err(Refused::new(
                "busy",
                "a layer is being mended; try again when it is",
            )),
            _ => Ok(()),
        }
    }

    /// Layers of the sets that may run, which are not there at all.
    fn missing(&self) -> Vec<Sha256Digest> {
        let here = stage::on_board(&self.settings.config.layers_dir());
        let sets = self.sets().into_iter();
        let mut missing: Vec<_> = sets.flat_map(|(set, _)| set.layers()).collect();
        missing.retain(|layer| !here.contains(layer));
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    pub(super) fn sets(&self) -> Vec<(&DeployedSet, &'static str)> {
        let current = self.current.as_ref().map(|set| (set, "the running set"));
        let own = self.current.as_ref().map(DeployedSet::digest);
        let previous = self.previous.as_ref();
        let previous = previous.filter(|set| Some(set.digest()) != own);
        let previous = previous.map(|set| (set, "the set before"));
        let trying = self.trying.as_ref();
        let trying = trying.map(|trying| (&trying.set, "the set that is tried"));
        [current, previous, trying].into_iter().flatten().collect()
    }

    /// Begins with the next one, when nothing else is at work.
    pub(super) fn next_check(&mut self) {
        while self.checks.said.running && self.checks.now.is_none() {
            let Some(thing) = self.checks.left.front().copied() else {
                self.checks.said.running = false;
                let found = self.checks.said.found.len();
                tracing::info!(found, "what is on the disk was read again");
                self.worked();
                return;
            };
            if self.is_quiet().is_err() {
                return;
            }
            self.checks.left.pop_front();
            match check::start(&self.settings.config, &self.empty_root, thing) {
                Ok(checking) => self.checks.now = Some(checking),
                Err(outcome) => self.note_checked(thing, outcome),
            }
        }
    }

    /// Its child has ended.
    pub(super) fn checked(&mut self, exit: Exit) {
        if let Some(checking) = self.checks.now.take() {
            let thing = checking.thing();
            let outcome = checking.finish(exit);
            self.note_checked(thing, outcome);
        }
    }

    fn note_checked(&mut self, (kind, digest): Thing, outcome: Outcome) {
        self.checks.said.done += 1;
        // A layer that could not be looked at this time is not fetched for that.
        let mut needed = false;
        let (state, faults, more) = match outcome {
            Outcome::Clean | Outcome::Gone => return,
            Outcome::Broken(faults, more) => (StoreState::Broken, faults, more),
            Outcome::Unknown(why) => (StoreState::Unknown, vec![whole(&why)], 0),
            Outcome::Unrecorded => {
                let why = "nothing was written down of it while it was unpacked";
                needed = true;
                (StoreState::Unknown, vec![whole(why)], 0)
            }
        };
        needed |= state == StoreState::Broken;
        tracing::warn!(?kind, %digest, ?state, ?faults, "found on the disk");
        let fault = StoreFault {
            digest,
            kind,
            state,
            needed_by: self.needed_by(kind, digest),
            faults,
            more,
            need: match kind {
                StoreKind::Layer => self.need_of(digest).filter(|_| needed),
                StoreKind::Blob => self.config_of(digest),
            },
        };
        let found = &mut self.checks.said.found;
        found.push(fault);
        let bytes = serde_json::to_vec(&found).map_or(0, |json| json.len());
        if found.len() > FOUND || bytes > FOUND_BYTES {
            found.pop();
            self.checks.said.more += 1;
        }
    }

    fn needed_by(&self, kind: StoreKind, digest: Sha256Digest) -> Vec<String> {
        let mut all = Vec::new();
        let mut of = |release: &Release, which: &str| {
            let apps = release.apps.iter().filter(|app| has(app, kind, digest));
            let words = |app: &App| format!("app `{}` of {which} {}", app.name, release.version);
            all.extend(apps.map(words));
        };
        for (set, which) in self.sets() {
            of(set.release(), which);
        }
        if let Some(accepted) = &self.accepted {
            of(accepted.release(), "the offer of");
        }
        if kind == StoreKind::Layer && self.own.layers().any(|layer| layer == digest) {
            all.push("the board's own program".to_owned());
        }
        all.truncate(NEEDED_BY);
        all
    }

    /// Of blobs the image configurations are kept; others only until their layer is unpacked.
    fn config_of(&self, digest: Sha256Digest) -> Option<LayerNeed> {
        let sets = self.sets().into_iter();
        let mut apps = sets.flat_map(|(set, _)| &set.release().apps);
        let app = apps.find(|app| app.image.config.digest == digest)?;
        Some(LayerNeed {
            diff_id: digest,
            full: app.image.config,
            deltas: Vec::new(),
        })
    }

    /// What a layer of a set that may run is made from.
    fn need_of(&self, diff_id: Sha256Digest) -> Option<LayerNeed> {
        let mut here = stage::on_board(&self.settings.config.layers_dir());
        here.remove(&diff_id);
        for fault in &self.checks.said.found {
            here.remove(&fault.digest);
        }
        let mut sets = self.sets().into_iter();
        sets.find_map(|(set, _)| {
            let layer = set.release().layers().find(|l| l.diff_id == diff_id)?;
            Some(need(set.deployment(), layer, &here))
        })
    }
}

fn whole(what: &str) -> FileFault {
    FileFault {
        path: String::new(),
        what: what.to_owned(),
    }
}

fn has(app: &App, kind: StoreKind, digest: Sha256Digest) -> bool {
    let image = &app.image;
    match kind {
        StoreKind::Layer => image.layers.iter().any(|layer| layer.diff_id == digest),
        StoreKind::Blob => {
            image.config.digest == digest || image.layers.iter().any(|l| l.digest == digest)
        }
    }
}
