//! Another program of its own, which a release brings ([`crate::agent`]).
//!
//! Once nothing else stands against the switch to its set, the program is chosen and executed, while the apps of the set
//! before run on and the new set waits in the journal. The new program finds that set, and takes it from there: a trial of both
//! together. When the set is kept the program is; when it goes, for whatever reason, so does the program, and the one before it is
//! executed. The daemon goes along: it is kept with a program only as a daemon of it.

use super::Supervisor;
use crate::agent::{Choice, Chosen, Failed};
use crate::anew::Program;
use crate::apps::Phase;
use crate::journal::{DeployedSet, Failure};
use crate::kernel;
use crate::machine::{Event, State, Why};
use coracle_digest::Sha256Digest;
use coracle_protocol::local::Answer;
use std::time::{Duration, Instant};

/// Code of what a set waits for, and fails with, on account of the program.
pub(super) const AGENT: &str = "agent";

/// A program on trial ends when its loop stands still for so many seconds; its start is bounded by as many.
const PATIENCE: u32 = 180;

/// Between two signs of life, well below that.
const SIGN: Duration = Duration::from_secs(5);

/// So long whoever watches has to hear how a deployment ended, before the connection does.
const HEARD: Duration = Duration::from_secs(1);

/// A daemon must have found to a new program, and stayed, so long after the apps have proved themselves.
const DAEMON: Duration = Duration::from_secs(30);

/// So long a daemon stays that understands what it is answered. It tries once a second, and asks for the status as soon as it
/// watches.
const STAYS: Duration = Duration::from_secs(10);

impl Supervisor {
    /// The program that the set that is to run brings, when it is another than this one.
    fn other_program(&self) -> Option<Chosen> {
        let set = &self.trying.as_ref()?.set;
        let agent = set.release().agent.as_ref()?;
        if self.own.is(agent.program.digest) {
            return None;
        }
        Some(Chosen {
            digest: agent.program.digest,
            size: agent.program.size,
            layer: agent.image.layers.first()?.diff_id,
            version: agent.version.clone(),
            kept_with: None,
        })
    }

    /// What a set waits for that brings another program, when it waits for nothing else, and for how long: until `work` has ended.
    pub(super) fn program_first(&self, work: Option<&str>) -> Option<Why> {
        let version = self.other_program()?.version;
        let first = format!("the board's own program {version} takes over first");
        let reason = match work {
            Some(work) => format!("{first}, once {work} has ended"),
            None => first,
        };
        Some(Why::new(AGENT, reason))
    }

    /// What runs beside the apps and would be cut off when another program is executed.
    pub(super) fn work(&self) -> Option<String> {
        let mut apps = self.apps.iter();
        let preparing = apps.find(|app| app.phase == Phase::Preparing);
        if let Some(app) = preparing {
            return Some(format!("the pre_start hook of app `{}`", app.name()));
        }
        if let Some(job) = &self.transfer {
            return Some(format!("the transfer of volume `{}`", job.volume()));
        }
        self.action.as_ref().map(|job| job.what().to_string())
    }

    pub(super) fn own_program_due(&self) -> Option<Instant> {
        let sign = self.own.choice.trial.map(|_| Instant::now() + SIGN);
        self.own.leaves_at.or(sign).or(self.own.stays_at)
    }

    /// Whether the program is to be executed anew, which is another one then.
    pub(super) async fn tend_own_program(&mut self, program: &Program) -> bool {
        if self.waits_for_program() {
            let Err(why) = self.choose_program(program) else {
                return true;
            };
            self.note_failure(why.clone());
            self.happen(Event::Withdrawn(why)).await;
            return false;
        }
        let now = Instant::now();
        if self.own.leaves_at.is_some_and(|at| at <= now) {
            let Err(error) = program.is_there() else {
                return true;
            };
            tracing::error!(%error, "the program before this one cannot be executed yet");
            self.own.leaves_at = Some(now + SIGN);
        }
        let Some(trial) = self.own.choice.trial else {
            self.note_stay(now);
            return false;
        };
        let mut choice = self.own.choice.clone();
        let on_trial = self.own.is_chosen();
        if !on_trial {
            choice.fail("could not be executed");
        } else if !self.machine.is_idle() {
            kernel::alarm(PATIENCE);
            return false;
        } else if self.current.as_ref().map(DeployedSet::digest) == Some(trial.deployment) {
            choice.keep();
        } else {
            let words = self.last_words.as_deref();
            choice.fail(&format!(
                "goes with its set: {}",
                words.unwrap_or("that is not to run any more")
            ));
        }
        let kept = choice.failed.is_none();
        if let Err(error) = self.own.choose(choice) {
            kernel::alarm(PATIENCE);
            tracing::error!(error, "which program stays cannot be written down yet");
            return false;
        }
        // Nothing renews it any more, and a program that goes may have to wait for the one before it.
        kernel::alarm(0);
        if kept {
            tracing::info!("this program is kept");
            self.own.collect();
        } else if on_trial {
            self.own.leaves_at = Some(now + HEARD);
        }
        false
    }

    /// A kept program has run for long enough.
    fn note_stay(&mut self, now: Instant) {
        if self.own.stays_at.is_none_or(|at| at > now) {
            return;
        }
        match self.own.stayed() {
            Ok(()) => tracing::info!("this program has stayed"),
            Err(error) => {
                self.own.stays_at = Some(now + SIGN);
                tracing::error!(error, "that this program stays cannot be written down yet");
            }
        }
    }

    /// The program of the set that waits becomes the one to be executed; nothing has changed when it cannot.
    fn choose_program(&mut self, program: &Program) -> Result<(), Why> {
        self.still_good().map(drop)?;
        let why = |reason: String| Why::new(AGENT, reason);
        let (Some(chosen), Some(trying)) = (self.other_program(), &self.trying) else {
            return Err(why("its program is gone".into()));
        };
        let deployment = trying.set.digest();
        if let Some(failed) = &self.own.choice.failed
            && failed.deployment == deployment
        {
            return Err(why(failed.reason.clone()));
        }
        program.is_there().map_err(|error| why(error.to_string()))?;
        self.own
            .place(&chosen, &self.settings.config.layers_dir())
            .map_err(why)?;
        tracing::info!(
            version = chosen.version,
            "the board's own program is replaced"
        );
        let choice = Choice::on_trial(chosen, self.own.running(), deployment, PATIENCE);
        self.own.choose(choice).map_err(why)
    }

    /// Passed, unless this program is on trial too and no daemon has found to it and stayed.
    pub(super) fn lacks_daemon(&self, now: Instant) -> Option<Event> {
        let program = self.own.status().brought;
        if self.own.choice.trial.is_none() || self.watchers.stays(STAYS, program) {
            return Some(Event::Passed);
        }
        if let Some(fault) = &self.own.daemon_fault {
            return Some(Event::Fault(Why::new(AGENT, fault.as_str())));
        }
        let reason = "no daemon has connected to the board's new program and stayed";
        (now >= self.apps_proven_at()? + DAEMON).then(|| Event::Fault(Why::new(AGENT, reason)))
    }

    /// The program that a daemon is to be.
    pub(super) fn hand_program(&mut self, daemon: Option<Sha256Digest>) -> Answer {
        let program = self.own.hand(daemon, Instant::now());
        if let Some(fault) = self.own.daemon_fault.clone() {
            tracing::error!(fault, "the root file system's coracled runs instead");
            self.last_words = Some(fault);
        }
        Answer::Program { program }
    }

    fn note_failure(&mut self, why: Why) {
        let Some(set) = self.trying.as_ref().map(|trying| &trying.set) else {
            return;
        };
        let failure = Failure {
            deployment: set.digest(),
            activity: set.activity.clone(),
            code: why.code.to_owned(),
            reason: why.reason,
            over: false,
        };
        if let Err(error) = self.journal.note(&failure) {
            tracing::warn!(%error, "after a restart nobody knows why it failed");
        }
        self.last_words = Some(failure.words());
        self.failure = Some(failure);
    }

    /// At start: why the program of the last deployment is not this one, when that is not being told already.
    pub(super) fn tell_failed_program(&mut self) {
        let Some(Failed {
            deployment,
            reason,
            had_stayed,
        }) = &self.own.choice.failed
        else {
            return;
        };
        let stayed = self.current.as_ref().map(DeployedSet::digest) == Some(*deployment);
        let of_trial = self
            .failure
            .as_ref()
            .filter(|failure| failure.deployment == *deployment && failure.code == "interrupted");
        let is_news = self.failure.as_ref().is_none_or(|failure| failure.over);
        if self.machine != State::Idle {
            return;
        }
        if let Some(failure) = of_trial {
            // Its name comes first, as a daemon that asks how it ended knows it by that.
            let words = format!("{} did not stay ({AGENT}): {reason}", failure.activity);
            self.last_words = Some(words);
        } else if stayed || (*had_stayed && is_news) {
            self.last_words = Some(reason.clone());
        }
    }
}
