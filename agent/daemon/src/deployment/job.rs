//! One deployment, step by step.

use super::early::EarlyVerified;
use super::newer::{Assigned, Replaced, let_go};
use super::outcome::{self, Awaited, Course, Outcome};
use super::room::Room;
use super::voice::Voice;
use super::{Means, Offered, keep, prepare};
use crate::fetch::gate::{Gate, Held};
use crate::fetch::{Fetcher, Source};
use crate::roots;
use crate::supervisor::SupervisorError;
use coracle_protocol::Sha256Digest;
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Needs, Request, Status, StickWord};
use coracle_protocol::release::SignedApp;
use coracle_protocol::report::{Fetched, Phase, SetState};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Offers to a supervisor that goes away in the middle.
const OFFERS: u32 = 5;
/// The supervisor's word for what does not fit on the board.
const OVER_BUDGET: &str = "over-budget";

/// What is to be deployed.
#[derive(Debug)]
pub struct Job {
    /// Names it.
    pub activity: String,
    /// Where its documents are.
    pub documents: Documents,
}

/// Where documents are, and so where blobs come from.
#[derive(Debug)]
pub enum Documents {
    /// From the console; blobs are fetched from there.
    Console(Box<(Document, Document)>),
    /// From docker.sock; blobs were PUT there.
    Here(Box<(Envelope, Envelope)>),
}

impl From<Desired> for Job {
    fn from(desired: Desired) -> Self {
        Self {
            activity: desired.activity,
            documents: Documents::Console(Box::new((desired.deploy, desired.release))),
        }
    }
}

/// What a job and those beside it see of each other.
pub struct Seen<'a> {
    /// How far it is.
    pub course: &'a Cell<Course>,
    /// Which assignment it carries out, once that was verified.
    pub assigned: &'a Cell<Option<Assigned>>,
    /// What this one takes the place of, until the supervisor has taken it; newest last.
    pub replaced: &'a RefCell<Vec<Replaced>>,
    /// Whether it waits until it may fetch.
    pub held: &'a Rc<Held>,
    /// Blobs that others need.
    pub kept: BTreeSet<Sha256Digest>,
}

/// Runs a job to its end and says so.
pub async fn run(means: &Means, job: &Job, mut voice: Voice<'_>, seen: &Seen<'_>) {
    let mut fetched = None;
    let outcome = steps(means, job, &mut voice, seen, &mut fetched)
        .await
        .unwrap_or_else(|end| end);
    if let Documents::Here(_) = job.documents {
        let word = match outcome.phase {
            Phase::Committed => StickWord::Done,
            _ => StickWord::Refused,
        };
        super::stick::tell_stick(means, word).await;
    }
    // One that is merely old is below the counters, and needs no memory.
    let is_refused = outcome.phase == Phase::Refused;
    if let (true, Some(set)) = (is_refused && !outcome.is_old(), seen.assigned.get()) {
        voice.refuse(set.deployment);
    }
    voice.end(outcome, fetched);
}

/// The steps; an early end comes as an error.
async fn steps(
    means: &Means,
    job: &Job,
    voice: &mut Voice<'_>,
    seen: &Seen<'_>,
    fetched: &mut Option<Fetched>,
) -> Result<Outcome, Outcome> {
    voice.phase(Phase::Received);
    let mut fetcher = match &job.documents {
        Documents::Console(_) => Some(fetcher(means)?),
        Documents::Here(_) => None,
    };
    if fetcher.is_some() {
        renew_root(means).await;
    }
    let documents = documents(means, &job.documents, fetcher.as_mut(), seen).await?;
    let mut room = Room::of(&means.supervisor);
    let mut tries = 0;
    loop {
        let (documents, fetcher) = ((&documents.0, &documents.1), fetcher.as_mut());
        match from_offer(means, job, documents, fetcher, voice, seen, fetched).await {
            // It was executed anew, perhaps as another program, and has forgotten what was offered, or has begun it.
            Err(end) if tries < OFFERS && is_cut_off(&end) => {
                tries += 1;
                tracing::warn!(reason = end.reason, "offering again");
                seen.course.set(Course::Comes);
            }
            Err(end) if room.is_taken(&end) => {
                seen.course.set(Course::Waits);
                voice.waiting(end.code, end.reason);
                room.left().await?;
                seen.course.set(Course::Comes);
            }
            end => return end,
        }
    }
}

fn is_cut_off(end: &Outcome) -> bool {
    [SupervisorError::Broke, SupervisorError::Down]
        .into_iter()
        .any(|error| *end == error.into())
}

/// From the offer to the end.
async fn from_offer(
    means: &Means,
    job: &Job,
    (deploy, release): (&Envelope, &Envelope),
    mut fetcher: Option<&mut Fetcher>,
    voice: &mut Voice<'_>,
    seen: &Seen<'_>,
    fetched: &mut Option<Fetched>,
) -> Result<Outcome, Outcome> {
    let (course, held) = (seen.course, seen.held);
    let kept = fetcher.as_ref().map(|_| &seen.kept);
    let (verified, status, needs) = offer(means, &job.activity, (deploy, release), kept).await?;
    let awaited = Awaited {
        activity: &job.activity,
        deployment: verified.deploy.digest(),
        trial: trial(&verified.release.document().apps),
        failure_before: status.last_failure.clone(),
    };
    seen.assigned.set(Some(Assigned::by(&verified.deploy)));
    let_go(means, seen.replaced, voice).await;
    voice.phase(Phase::Verified);
    let mut notices = means.supervisor.watch();
    if needs.already {
        // This very set runs, or is about to: perhaps a daemon before this one began it and did not see the end.
        course.set(Course::Switched);
        let status = means.supervisor.status().await.unwrap_or(status);
        let release = verified.release.digest();
        match outcome::how_it_runs(&status, &awaited, release) {
            Some(SetState::Committed) => return Ok(Outcome::committed()),
            Some(SetState::Trial) => voice.phase(Phase::Trial),
            None => {}
        }
        return Ok(outcome::follow(&means.supervisor, &awaited, &mut notices, voice, course).await);
    }
    if let Some(fetcher) = &mut fetcher {
        let (rules, root) = (means.downloads.clone(), means.hardware_root.clone());
        let gate = Gate::new(rules, status.metered.clone(), root);
        fetcher.obey(gate, held.clone());
    }
    let totals = fetched.get_or_insert_default();
    let mut stage = prepare::Preparation {
        means,
        activity: &job.activity,
        release: verified.release.document(),
        fetcher,
        totals,
    };
    let staged = stage.fetch(&needs, voice).await?;
    if held.ever.get() {
        // It may have been hours: the documents may be over, and the supervisor another one.
        offer(means, &job.activity, (deploy, release), None).await?;
    }
    voice.phase(Phase::Staging);
    stage.stage(staged).await?;
    voice.keep(
        verified
            .release
            .document()
            .apps
            .iter()
            .map(|app| app.image.config.digest)
            .collect(),
    );
    let activate = Request::Activate {
        activity: job.activity.clone(),
    };
    course.set(Course::Switched);
    match means.supervisor.ask(activate).await {
        Ok(Answer::Done) => {}
        Ok(other) if !is_under_way(means, awaited.deployment).await => {
            return Err(outcome::of_answer("done", other));
        }
        Ok(_) => {}
        // Whether it was heard is for the status to say. Where the connection broke, the answer to another offer says it.
        Err(SupervisorError::TimedOut(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(outcome::follow(&means.supervisor, &awaited, &mut notices, voice, course).await)
}

/// Whether the board switches to this very set, or tries it: a daemon before this one had that done.
async fn is_under_way(means: &Means, deployment: Sha256Digest) -> bool {
    let status = means.supervisor.status().await;
    status.is_ok_and(|status| {
        let waiting = status.waiting.map(|set| set.deployment);
        let tried = status.current.map(|set| set.deployment);
        waiting == Some(deployment) || tried == Some(deployment)
    })
}

/// Verifies and offers what came over docker.sock, and changes nothing.
pub async fn offer_local(
    means: &Means,
    documents: &(Envelope, Envelope),
) -> Result<Offered, Outcome> {
    if !means.supervisor.is_up() {
        return Err(SupervisorError::Down.into());
    }
    let (deploy, release) = documents;
    let digest = deploy
        .payload_unverified()
        .map(|bytes| coracle_protocol::Sha256Digest::of(&bytes))
        .map_err(|e| Outcome::refused("bad-envelope", e.to_string()))?;
    // The time sets a second try of the same stick apart from the first.
    let activity = format!("local-{}-{}", &digest.hex()[..12], crate::clock::now());
    let (_, _, needs) = offer(means, &activity, (deploy, release), None).await?;
    Ok(Offered { activity, needs })
}

pub(super) fn fetcher(means: &Means) -> Result<Fetcher, Outcome> {
    let identity = means.identity.borrow().clone();
    let identity = identity.ok_or_else(|| {
        Outcome::failed("not-enrolled", "this board is not enrolled at a console")
    })?;
    let (console, tls) = (identity.console, identity.tls);
    let sources = Source::all(&means.downloads, console.clone(), tls.clone());
    let fetcher = Fetcher::new(console, tls, means.blobs.clone(), means.patience);
    Ok(fetcher.from_sources(sources))
}

/// The newest root first, as TUF has it (5.3). A console that cannot say stops no deployment: one that
/// needs another root is refused by name.
pub(super) async fn renew_root(means: &Means) {
    let identity = means.identity.borrow().clone();
    let Some(identity) = identity else {
        return;
    };
    if let Err(error) = roots::fetch(&means.supervisor, &identity).await {
        tracing::warn!(%error, "no newer root document");
    }
}

/// Both envelopes, fetched when they are not in the message. What was signed is known before the release comes: from then on
/// only what was signed after it takes its place.
async fn documents(
    means: &Means,
    documents: &Documents,
    mut fetcher: Option<&mut Fetcher>,
    seen: &Seen<'_>,
) -> Result<(Envelope, Envelope), Outcome> {
    let none = || Outcome::failed("not-enrolled", "no console");
    let deploy = match documents {
        Documents::Here(pair) => pair.0.clone(),
        Documents::Console(pair) => {
            document(means, &pair.0, fetcher.as_deref_mut().ok_or_else(none)?).await?
        }
    };
    let root = roots::trusted(&means.supervisor).await.ok().map(|t| t.root);
    let board = means.identity.borrow().as_ref().map(|i| i.board.clone());
    // What is wrong with it is told by the offer, against the root that is in force then.
    if let Ok(deploy) = means
        .early
        .assignment(&deploy, root.as_ref(), board.as_ref())
    {
        seen.assigned.set(Some(Assigned::by(&deploy)));
    }
    let release = match documents {
        Documents::Here(pair) => pair.1.clone(),
        Documents::Console(pair) => document(means, &pair.1, fetcher.ok_or_else(none)?).await?,
    };
    Ok((deploy, release))
}

pub(super) async fn document(
    means: &Means,
    document: &Document,
    fetcher: &mut Fetcher,
) -> Result<Envelope, Outcome> {
    let blob = match document {
        Document::Inline(envelope) => return Ok(envelope.clone()),
        Document::Blob(blob) => blob,
    };
    let limit = LIMITS.envelope_bytes as u64;
    if blob.size > limit {
        let reason = format!("a document of {} bytes; the limit is {limit}", blob.size);
        return Err(Outcome::refused("bad-envelope", reason));
    }
    let failed =
        |what: String, code| Outcome::failed(code, format!("document {}: {what}", blob.digest));
    fetcher
        .fetch(*blob, &mut |_| {})
        .await
        .map_err(|e| failed(e.to_string(), e.code()))?;
    let bytes = means
        .blobs
        .read(blob, limit)
        .map_err(|e| failed(e.to_string(), e.code()))?;
    Envelope::parse(&bytes).map_err(|e| Outcome::refused("bad-envelope", e.to_string()))
}

/// Early verification, then the supervisor's. A supervisor that is away is waited for. What does not fit is offered once more
/// without the blobs that are neither its own nor `kept`: one that it took the place of may have left some.
async fn offer(
    means: &Means,
    activity: &str,
    documents: (&Envelope, &Envelope),
    kept: Option<&BTreeSet<Sha256Digest>>,
) -> Result<(EarlyVerified, Status, Needs), Outcome> {
    let mut tries = 0;
    loop {
        means.supervisor.wait_up().await;
        tries += 1;
        let result = offer_once(means, activity, documents, kept).await;
        match result {
            Err(OfferError::Supervisor(e)) if tries < OFFERS => {
                tracing::warn!(error = %e, "offering again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(OfferError::Supervisor(e)) => return Err(e.into()),
            Err(OfferError::End(outcome)) => return Err(outcome),
            Ok(good) => return Ok(good),
        }
    }
}

enum OfferError {
    Supervisor(SupervisorError),
    End(Outcome),
}

impl From<SupervisorError> for OfferError {
    fn from(error: SupervisorError) -> Self {
        Self::Supervisor(error)
    }
}

async fn offer_once(
    means: &Means,
    activity: &str,
    (deploy, release): (&Envelope, &Envelope),
    mut kept: Option<&BTreeSet<Sha256Digest>>,
) -> Result<(EarlyVerified, Status, Needs), OfferError> {
    let status = means.supervisor.status().await?;
    // One that cannot say leaves the look to the root of the image.
    let root = roots::trusted(&means.supervisor).await.ok().map(|t| t.root);
    let board = means.identity.borrow().as_ref().map(|i| i.board.clone());
    let verified = means
        .early
        .check((deploy, release), root.as_ref(), board.as_ref(), &status)
        .map_err(OfferError::End)?;
    loop {
        let request = Request::Offer {
            activity: activity.to_owned(),
            deploy: deploy.clone(),
            release: release.clone(),
        };
        let other = match means.supervisor.ask(request).await? {
            Answer::Needs(needs) => return Ok((verified, status, needs)),
            other => other,
        };
        match (&other, kept.take()) {
            (Answer::Refused { code, .. }, Some(kept)) if code == OVER_BUDGET => {
                let own = keep::of_documents(&verified);
                means.blobs.keep_only(&kept.union(&own).copied().collect());
            }
            _ => return Err(OfferError::End(outcome::of_answer("needs", other))),
        }
    }
}

/// How long the supervisor may say nothing of a set that it tries.
fn trial(apps: &[SignedApp]) -> Duration {
    let longest = |of: &dyn Fn(&&SignedApp) -> bool| {
        let seconds = apps.iter().filter(of).map(|app| app.trial_seconds).max();
        u64::from(seconds.unwrap_or(0))
    };
    // And before it: each app that others wait for may take its own; so may all that are handed over, together.
    let waited_for = |app: &&SignedApp| {
        apps.iter()
            .any(|other| other.depends_on.contains_key(&app.name))
    };
    let before = apps.iter().filter(waited_for);
    let before: u64 = before.map(|app| u64::from(app.trial_seconds)).sum();
    Duration::from_secs(before + longest(&|app| app.is_handed_over()) + longest(&|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_comes_before_a_trial_counts_with_it() {
        let app = |name: &str, seconds: u32, strategy: &str, after: &[&str]| -> SignedApp {
            let blob = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
            let mut app = json!({
                "name": name,
                "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
                "limits": { "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1 },
                "trial_seconds": seconds,
                "strategy": strategy,
            });
            for name in after {
                app["depends_on"][name] = "started".into();
            }
            serde_json::from_value(app).unwrap()
        };
        let db = app("db", 20, "kill-then-start", &[]);
        assert_eq!(trial(std::slice::from_ref(&db)), Duration::from_secs(20));
        let one = app("one", 300, "start-then-kill", &["db"]);
        let two = app("two", 100, "start-then-kill", &[]);
        assert_eq!(trial(&[db, one, two]), Duration::from_secs(20 + 300 + 300));
    }
}
