//! What the daemon asks. Each answer goes out as soon as it is known; nothing waits for another.

use super::volumes::FaultOf;
use super::{QUIET, STAGE_QUEUE, StageCall, StageJob, Supervisor};
use crate::journal::{CONFIG_BYTES, DeployedSet, StoredSet};
use crate::offer::{self, Accepted, Offer, Refused};
use crate::reset::Intent;
use crate::socket::Incoming;
use crate::stage::{self, Ended};
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{
    Answer, DID_NOT_STAY, LayerSource, Needs, Request, StoreAction, Trusted,
};
use coracle_protocol::names::AppName;
use coracle_protocol::release::App;
use coracle_protocol::verify::VerifiedDeployment;
use coracle_runtime::Exit;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub(super) fn failed(code: &str, reason: impl Into<String>) -> Answer {
    Answer::Failed {
        code: code.to_owned(),
        reason: reason.into(),
    }
}

pub(super) fn no_app_text(app: &AppName) -> String {
    format!("no app `{app}` is in the running set")
}

pub(super) fn no_app(app: &AppName) -> Answer {
    failed("no-app", no_app_text(app))
}

fn refused(refused: Refused) -> Answer {
    tracing::warn!(code = refused.code, reason = refused.reason, "refused");
    Answer::Refused {
        code: refused.code.to_owned(),
        reason: refused.reason,
    }
}

impl Supervisor {
    pub(super) async fn answer(&mut self, incoming: Incoming) {
        let Incoming {
            request,
            uid: peer,
            pid,
            answer,
            events,
        } = incoming;
        // Who asks again and again does not keep it from resting.
        self.rest_at.get_or_insert(Instant::now() + QUIET);
        let looks = matches!(
            request,
            Request::Status | Request::Watch | Request::Program { .. }
        );
        if self.resetting.is_some() && !looks {
            answer.send(failed("busy", "this board is being reset"));
            return;
        }
        match request {
            Request::Status => answer.send(Answer::Status(self.status().await)),
            Request::Program { running } => answer.send(self.hand_program(running)),
            Request::Watch => match events {
                Some(events) => {
                    self.watchers.add(events);
                    answer.send(Answer::Done);
                    if let Some(event) = self.unheard.take() {
                        self.tell(event);
                    }
                }
                None => answer.send(failed("already", "this connection watches already")),
            },
            Request::Identity { .. } if self.decommissioned => {
                let text = "this board was decommissioned; enrol it anew: `coracle enrol FILE`";
                answer.send(refused(Refused::new("decommissioned", text.to_owned())));
            }
            Request::Identity { board } => match self.trust.name_board(board) {
                Ok(()) => answer.send(Answer::Done),
                Err(error) => answer.send(refused(Refused::new("named", error.to_string()))),
            },
            Request::Trust => answer.send(Answer::Trust(Trusted {
                root: self.trust.root_envelope().clone(),
                state: self.trust.state(),
            })),
            Request::Root { root } => answer.send(match self.take_root(&root) {
                Ok(()) => Answer::Done,
                Err(why) => refused(why),
            }),
            Request::Offer {
                activity,
                deploy,
                release,
            } => {
                let offer = Offer {
                    activity,
                    deploy,
                    release,
                };
                let activity = offer.activity.clone();
                answer.send(match self.consider(offer).await {
                    Ok(needs) => {
                        if !needs.already {
                            self.news.works(Instant::now());
                        }
                        Answer::Needs(needs)
                    }
                    Err(why) if why.code == DID_NOT_STAY => refused(why),
                    Err(why) if why.code == offer::needs::NOT_NOW => failed(why.code, why.reason),
                    // A disk may take it another time.
                    Err(why) if why.code == "disk" => failed(why.code, why.reason),
                    Err(why) => {
                        self.last_words = Some(format!("{activity} was refused ({why})"));
                        refused(why)
                    }
                });
            }
            Request::Stage {
                activity,
                diff_id,
                from,
            } => {
                self.news.works(Instant::now());
                let call = StageCall {
                    activity,
                    diff_id,
                    from,
                    answer,
                };
                if self.stage_queue.len() < STAGE_QUEUE {
                    self.stage_queue.push_back(call);
                } else {
                    call.answer
                        .send(failed("busy", "too many layers wait already"));
                }
            }
            Request::Activate { activity } => match self.prepare_activation(&activity) {
                Ok((set, stored)) => {
                    self.give_up_mending();
                    answer.send(Answer::Done);
                    match self.waits_already(&set) {
                        true => self.tell_waiting(set, stored),
                        false => self.activate(set, stored).await,
                    }
                }
                Err(why) => answer.send(failed(why.code, why.reason)),
            },
            Request::Accept { deployment, uid } => answer.send(self.accept(deployment, uid)),
            Request::Control { app, action, uid } => {
                tracing::info!(%app, ?action, uid, "a person asks");
                answer.send(match self.may_change(uid) {
                    Ok(()) => self.control(&app, action),
                    Err(FaultOf((code, why))) => refused(Refused::new(code, why)),
                });
            }
            Request::Signal { app, signal, uid } => {
                tracing::info!(%app, ?signal, uid, "a person asks");
                answer.send(match self.may_change(uid) {
                    Ok(()) => self.signal(&app, &signal),
                    Err(FaultOf((code, why))) => refused(Refused::new(code, why)),
                });
            }
            Request::Processes { app } => self.processes(&app, answer),
            Request::Command { command } => self.command(&command, answer),
            Request::Reset {
                decommission,
                volumes,
            } => answer.send(match (peer, decommission) {
                (0, true) => self.begin_reset(Intent::decommission()),
                (0, false) => self.begin_reset(Intent::factory_reset(volumes)),
                _ => refused(Refused::new(
                    "not-root",
                    "only root on the board may do that, or a command of role `reset`".to_owned(),
                )),
            }),
            Request::Enrolled => answer.send(self.enrolled()),
            Request::Stick { word } => {
                self.news.stick(word, Instant::now());
                answer.send(Answer::Done);
            }
            Request::Volume { action, uid } => answer.send(self.volume(&action, uid)),
            Request::Exec { exec, uid } => answer.send(self.exec(&exec, peer, pid, uid)),
            Request::Store { action } => match action {
                StoreAction::Check => answer.send(self.begin_check()),
                StoreAction::Look => answer.send(self.look_at_check()),
                StoreAction::Mend { diff_id, from } => self.begin_mend(diff_id, from, answer),
            },
        }
    }

    async fn consider(&mut self, offer: Offer) -> Result<Needs, Refused> {
        self.worked();
        // What runs, and not the set before it: whoever replays its message must not get it back.
        let runs = self.current.iter().map(DeployedSet::digest);
        let mut known: Vec<Sha256Digest> = runs.collect();
        // A daemon that is started anew asks for what the one before it had begun.
        known.extend(self.switched_to());
        let payload = offer.deploy.payload_unverified();
        let offered = payload.ok().map(|bytes| Sha256Digest::of(&bytes));
        let on_board = stage::on_board(&self.settings.config.layers_dir());
        let again = offer.clone();
        let accepted = match offer::verify(offer, &self.trust, &self.settings, &known) {
            Ok(accepted) => accepted,
            Err(why) => {
                let is_below = ["old-release", "old-agent"].contains(&why.code);
                if let (true, Some(accepted)) = (is_below, self.stands_below(again.clone())) {
                    self.is_newer_than_waiting(&accepted)?;
                    self.let_stand(&accepted).await?;
                    return Ok(accepted.needs(&on_board, true));
                }
                let is_old = why.code == "old-assignment";
                let stood = offered.filter(|_| is_old);
                let stood = stood.and_then(|digest| self.stands_already(again, digest));
                let needs = stood.map(|accepted| accepted.needs(&on_board, true));
                return needs.ok_or_else(|| self.failed_before(why, offered));
            }
        };
        let digest = accepted.deployment.deploy().digest();
        if known.contains(&digest) {
            return Ok(accepted.needs(&on_board, true));
        }
        self.is_newer_than_waiting(&accepted)?;
        if self.stands(&accepted) {
            self.let_stand(&accepted).await?;
            return Ok(accepted.needs(&on_board, true));
        }
        offer::needs::try_out(&mut self.tries, accepted.release(), &mut self.settings)?;
        let beside = self.check_beside(&accepted, &on_board);
        let networks = self.check_networks(accepted.release()).await;
        let devices = offer::devices::check(accepted.release(), &self.settings);
        Refused::both(Refused::both(beside, networks), devices)?;
        tracing::info!(
            activity = accepted.offer.activity,
            deployment = %digest,
            version = accepted.release().version,
            "an offer was verified"
        );
        let needs = accepted.needs(&on_board, false);
        // What an offer that this one replaces had staged is of no use any more.
        self.accepted = Some(accepted);
        self.supersede(digest).await;
        self.collect_layers();
        Ok(needs)
    }

    /// The board's budget, and what cannot be there twice while apps are handed over.
    fn check_beside(
        &self,
        accepted: &Accepted,
        on_board: &BTreeSet<Sha256Digest>,
    ) -> Result<(), Refused> {
        let running = self.current.as_ref().map(DeployedSet::release);
        let free = offer::Free::of(&self.settings.config.state_dir);
        let budget = offer::check_budget(accepted, &self.settings, on_board, free, running);
        let release = accepted.release();
        let hand_over = offer::hand_over::check(release, running);
        let data = offer::data::check(release, running, &self.settings);
        Refused::both(budget, Refused::both(hand_over, data))
    }

    /// An assignment that was tried and did not stay is too old by its own counter: the reason that
    /// helps is why it did not stay. A daemon that was cut off with the board asks so how its deployment ended.
    fn failed_before(&self, why: Refused, offered: Option<Sha256Digest>) -> Refused {
        match &self.failure {
            Some(failure)
                if why.code == "old-assignment" && offered == Some(failure.deployment) =>
            {
                Refused::new(DID_NOT_STAY, failure.words())
            }
            Some(failure) if why.code == "old-assignment" => {
                let reason = format!(
                    "{}. The last one that did not stay was {}: {}",
                    why.reason, failure.deployment, failure.reason
                );
                Refused::new(why.code, reason)
            }
            _ => why,
        }
    }

    fn accepted(&self, activity: &str) -> Result<&Accepted, Refused> {
        let accepted = self.accepted.as_ref();
        accepted
            .filter(|accepted| accepted.offer.activity == activity)
            .ok_or_else(|| {
                Refused::new(
                    "no-offer",
                    format!("`{activity}` is not the last accepted offer"),
                )
            })
    }

    /// Begins with the next layer when none is being unpacked.
    pub(super) fn next_stage(&mut self) {
        // What a layer is made from beside its blob may be the tree that is about to go.
        while self.staging.is_none() && self.mending.is_none() {
            let Some(call) = self.stage_queue.pop_front() else {
                return;
            };
            match self.begin_stage(&call) {
                Ok(Some(staging)) => {
                    self.staging = Some(StageJob {
                        staging,
                        answer: call.answer,
                        mends: false,
                    });
                }
                Ok(None) => call.answer.send(Answer::Done),
                Err(why) => {
                    tracing::warn!(diff_id = %call.diff_id, %why, "a layer cannot be staged");
                    call.answer.send(failed(&why.code, why.reason));
                }
            }
        }
    }

    fn begin_stage(&self, call: &StageCall) -> Result<Option<stage::Staging>, stage::StageError> {
        let accepted = self.accepted(&call.activity)?;
        let layer = accepted
            .release()
            .layers()
            .find(|layer| layer.diff_id == call.diff_id)
            .ok_or_else(|| {
                let text = format!("{} is no layer of the offer", call.diff_id);
                Refused::new("no-layer", text)
            })?;
        let config = &self.settings.config;
        if stage::layer_dir(config, call.diff_id).is_dir() {
            return Ok(None);
        }
        let delta = delta_of(&accepted.deployment, call.diff_id, call.from)?;
        let current = self.current.as_ref();
        let old = current.and_then(|set| accepted.in_place_of(call.diff_id, set.release()));
        stage::start(config, &self.empty_root, layer, delta, old).map(Some)
    }

    /// A child that unpacks or links has ended.
    pub(super) fn staged(&mut self, job: StageJob, exit: Exit) {
        self.worked();
        let StageJob {
            staging,
            answer,
            mends,
        } = job;
        let diff_id = staging.diff_id();
        let staged = match staging.finish(exit, &self.empty_root) {
            Ok(Ended::Links(staging)) => {
                self.staging = Some(StageJob {
                    staging,
                    mends,
                    answer,
                });
                return;
            }
            Ok(Ended::Whole(staged)) if mends => return self.mend(staged, answer),
            Ok(Ended::Whole(staged)) => staged.keep(&self.settings.config),
            Err(why) => Err(why),
        };
        match staged {
            Ok(()) => {
                tracing::info!(%diff_id, "a layer is on the board");
                answer.send(Answer::Done);
            }
            Err(why) => {
                tracing::warn!(%diff_id, code = why.code, %why, "a layer was not kept");
                answer.send(failed(&why.code, why.reason));
            }
        }
        self.sweep();
    }

    /// Everything that an activation needs is there, or why not.
    fn prepare_activation(&self, activity: &str) -> Result<(DeployedSet, StoredSet), Refused> {
        if !self.machine.is_settled() || self.own.leaves_at.is_some() {
            return Err(Refused::new("busy", "another deployment is under way"));
        }
        if self
            .transfer
            .as_ref()
            .is_some_and(|job| job.restored().is_some())
        {
            return Err(Refused::new("busy", "a volume is being restored"));
        }
        let accepted = self.accepted(activity)?;
        let on_board = stage::on_board(&self.settings.config.layers_dir());
        let running = self.current.as_ref().map(DeployedSet::release);
        // Another set may have become the running one since the offer.
        if accepted.release().apps.iter().any(App::is_handed_over) {
            self.check_beside(accepted, &on_board)?;
        } else {
            offer::data::check(accepted.release(), running, &self.settings)?;
        }
        let missing = accepted.needs(&on_board, false).layers;
        if let Some(layer) = missing.first() {
            let reason = format!(
                "{} layers are not staged, {} first",
                missing.len(),
                layer.diff_id
            );
            return Err(Refused::new("not-staged", reason));
        }
        let mut configs = BTreeMap::new();
        let mut bytes = 0;
        for app in &accepted.release().apps {
            let blob = app.image.config;
            let text = stage::read_config(&self.settings.config.store_dir(), blob)
                .map_err(|why| Refused::new("bad-config", why.reason))?;
            if !configs.contains_key(&blob.digest) {
                bytes += text.len();
            }
            if bytes > CONFIG_BYTES {
                let reason =
                    format!("the image configurations have more than {CONFIG_BYTES} bytes");
                return Err(Refused::new("bad-config", reason));
            }
            configs.insert(blob.digest, text);
        }
        let deployment = accepted.deployment.clone();
        let set = DeployedSet::new(
            activity.to_owned(),
            deployment,
            &configs,
            &self.settings.default_limits(),
        )
        .map_err(|fault| Refused::new("bad-config", fault))?;
        self.check_plans(&set)?;
        let stored = StoredSet {
            set_version: 1,
            activity: activity.to_owned(),
            root: self.trust.root_envelope().clone(),
            deploy: accepted.offer.deploy.clone(),
            release: accepted.offer.release.clone(),
            configs,
        };
        Ok((set, stored))
    }
}

/// Blob and base of a delta, when that is what a layer is made from and the assignment names it.
pub(super) fn delta_of(
    deployment: &VerifiedDeployment,
    diff_id: Sha256Digest,
    from: LayerSource,
) -> Result<Option<(Sha256Digest, Sha256Digest)>, stage::StageError> {
    let LayerSource::Delta(blob) = from else {
        return Ok(None);
    };
    let mut deltas = deployment.deploy().document().deltas.iter();
    let delta = deltas.find(|delta| delta.digest == blob && delta.to == diff_id);
    let delta = delta.ok_or_else(|| stage::StageError {
        code: "bad-delta".to_owned(),
        reason: format!("the assignment names no delta {blob}"),
    })?;
    Ok(Some((delta.digest, delta.from)))
}
