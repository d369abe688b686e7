//! A layer that was found broken, from the blob that it is made anew from to the moment when it has its place: the files below
//! a running app must not change, so that its apps end first, each before those that it depends on, and start again after that.
//! A cut leaves the old layer or the new one under the name, and the next supervisor starts the apps.

use super::requests::{delta_of, failed};
use super::{StageJob, Supervisor};
use crate::apps::{AppRun, Phase};
use crate::offer::Refused;
use crate::socket::AnswerTo;
use crate::stage::{self, StageError, Staged, Staging};
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{Answer, LayerSource, StoreState};
use std::time::Instant;

/// A layer that waits until nobody has the old one any more, and who wants to know.
#[derive(Debug)]
pub(super) struct Mending {
    staged: Staged,
    answer: AnswerTo,
}

impl Supervisor {
    pub(super) fn begin_mend(
        &mut self,
        diff_id: Sha256Digest,
        from: LayerSource,
        answer: AnswerTo,
    ) {
        match self.stage_anew(diff_id, from) {
            Ok(staging) => {
                self.staging = Some(StageJob {
                    staging,
                    answer,
                    mends: true,
                });
            }
            Err(why) => answer.send(failed(&why.code, why.reason)),
        }
    }

    fn stage_anew(
        &mut self,
        diff_id: Sha256Digest,
        from: LayerSource,
    ) -> Result<Staging, StageError> {
        self.is_quiet()?;
        if self.checks.found(diff_id).is_none() {
            let text = format!("the last check did not find layer {diff_id} broken; check first");
            return Err(Refused::new("not-broken", text).into());
        }
        let layer_of = |(set, _): (&crate::journal::DeployedSet, _)| {
            let layer = set.release().layers().find(|l| l.diff_id == diff_id)?;
            let delta = delta_of(set.deployment(), diff_id, from);
            Some((layer.clone(), delta))
        };
        let found = self.sets().into_iter().find_map(layer_of);
        let (layer, delta) = found.ok_or_else(|| {
            let text = format!("{diff_id} is no layer of a set that may run");
            Refused::new("no-layer", text)
        })?;
        stage::start(
            &self.settings.config,
            &self.empty_root,
            &layer,
            delta?,
            None,
        )
    }

    /// It is unpacked, and right.
    pub(super) fn mend(&mut self, staged: Staged, answer: AnswerTo) {
        if !self.machine.is_settled() {
            staged.drop_it();
            answer.send(failed(
                "busy",
                "a deployment began; check again when it has ended",
            ));
            return self.sweep();
        }
        tracing::info!(diff_id = %staged.diff_id(), "made anew; its apps end for it");
        self.mending = Some(Mending { staged, answer });
    }

    /// A deployment goes first: the layer stays broken, and its apps start again.
    pub(super) fn give_up_mending(&mut self) {
        let Some(Mending { staged, answer }) = self.mending.take() else {
            return;
        };
        let diff_id = staged.diff_id();
        staged.drop_it();
        for app in self.apps.iter_mut().filter(|app| has(app, diff_id)) {
            app.held = None;
        }
        answer.send(failed(
            "busy",
            "a deployment began; check again when it has ended",
        ));
        self.sweep();
    }

    /// Whether an app has to stay down for now.
    pub(super) fn is_mended(&self, index: usize) -> bool {
        let mending = self.mending.as_ref();
        mending.is_some_and(|mending| has(&self.apps[index], mending.staged.diff_id()))
    }

    /// Ends the apps of the layer that have their turn, and lets the new one take its place when all are down.
    pub(super) fn go_on_mending(&mut self, now: Instant) {
        let Some(mending) = &self.mending else {
            return;
        };
        let diff_id = mending.staged.diff_id();
        let up = |app: &AppRun| has(app, diff_id) && !app.is_down();
        if self.apps.iter().any(up) {
            for index in 0..self.apps.len() {
                let app = &self.apps[index];
                let depends = |other: &AppRun| {
                    let on = &other.app.depends_on;
                    up(other) && on.contains_key(app.name())
                };
                let is_up = matches!(app.phase, Phase::Up | Phase::Preparing);
                if up(app) && is_up && !self.apps.iter().any(depends) {
                    self.apps[index].stop(now);
                }
            }
            return;
        }
        if let Some(Mending { staged, answer }) = self.mending.take() {
            let replaced = staged.replace(&self.settings.config);
            for app in self.apps.iter_mut().filter(|app| has(app, diff_id)) {
                app.held = None;
            }
            answer.send(match replaced {
                Ok(()) => {
                    tracing::info!(%diff_id, "a layer was mended");
                    let layers = self.settings.config.layers_dir();
                    self.own.place_again(diff_id, &layers);
                    if let Some(found) = self.checks.found(diff_id) {
                        found.state = StoreState::Mended;
                    }
                    Answer::Done
                }
                Err(why) => {
                    tracing::warn!(%diff_id, %why, "a layer was not mended");
                    failed(&why.code, why.reason)
                }
            });
            self.sweep();
        }
    }
}

fn has(app: &AppRun, diff_id: Sha256Digest) -> bool {
    let mut layers = app.app.image.layers.iter();
    layers.any(|layer| layer.diff_id == diff_id)
}
