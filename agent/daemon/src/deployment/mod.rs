//! From what is wanted to a set that runs, or a reason why not. One deployment at a time; one that was signed
//! after it takes its place as long as nothing was switched, and waits for the end after that.
//!
//! documents → early verify → `Offer` → fetch → `Stage` → `Activate` → what the supervisor says.
//! A stick goes the same way, with blobs that come over docker.sock instead of the network.

mod early;
mod job;
mod keep;
mod mend;
mod newer;
mod outcome;
mod prepare;
mod record;
mod room;
mod voice;

pub use early::EarlyVerifier;
use outcome::Course;
pub use outcome::Outcome;

use crate::blobs::Blobs;
use crate::disk::DiskError;
use crate::fetch::Patience;
use crate::fetch::gate::Held;
use crate::identity::Identity;
use crate::link::Outbox;
use crate::link::odd::{self, Kind, Sort};
use crate::metrics::Counters;
use crate::supervisor::Supervisor;
use coracle_board_support::config::Downloads;
use coracle_protocol::Sha256Digest;
use coracle_protocol::desired::Desired;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{Needs, Request, StickWord, StoreKind};
use coracle_protocol::report::{Feedback, Phase};
use job::{Documents, Job};
use newer::{Newer, superseded_by};
use record::Record;
use std::cell::Cell;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use voice::Voice;

/// For so long a stick that was offered has the board to itself.
const STICK: Duration = Duration::from_secs(600);
/// Between two looks whether a deployment that a newer one waits for can still be taken back.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at a wish that cannot be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a deployment works with.
#[derive(Debug)]
pub struct Means {
    /// Who may make containers.
    pub supervisor: Supervisor,
    /// The store.
    pub blobs: Blobs,
    /// Where feedback goes.
    pub outbox: Arc<Outbox>,
    /// Who the board is, once it is enrolled.
    pub identity: watch::Receiver<Option<Identity>>,
    /// Checks documents before the supervisor does.
    pub early: EarlyVerifier,
    /// How patient a fetch is.
    pub patience: Patience,
    /// When and how fast it is.
    pub downloads: Downloads,
    /// Where the board's routes are listed.
    pub hardware_root: PathBuf,
    /// File that remembers which activities have ended.
    pub record: PathBuf,
    /// Each feedback, for those who listen on docker.sock.
    pub heard: broadcast::Sender<Feedback>,
    /// The last feedback, for whoever asks later.
    pub last: watch::Sender<Option<Feedback>>,
    /// What metrics count.
    pub counters: Arc<Counters>,
}

/// What docker.sock asks for.
#[derive(Debug)]
pub enum Command {
    /// Check two documents and say what is needed.
    Offer {
        /// The assignment and the release.
        documents: Box<(Envelope, Envelope)>,
        /// The answer.
        answer: oneshot::Sender<Result<Offered, Outcome>>,
    },
    /// Bring anew what the last check found broken.
    Mend {
        /// Layer or blob.
        kind: StoreKind,
        /// Which.
        digest: Sha256Digest,
        /// Whether it was, once it is done.
        answer: oneshot::Sender<Result<(), Outcome>>,
    },
    /// Run what was offered. Feedback is heard on [`Means::heard`].
    Apply {
        /// From [`Offered`].
        activity: String,
        /// Whether it was started.
        answer: oneshot::Sender<Result<(), Outcome>>,
    },
}

/// A good offer.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Offered {
    /// Names it.
    pub activity: String,
    /// What is missing on the board.
    pub needs: Needs,
}

/// An offer that came over docker.sock.
struct LocalOffer {
    activity: String,
    documents: Box<(Envelope, Envelope)>,
    needs: Needs,
}

/// Runs deployments until shutdown. `offered` always holds what the open local offer needs, which
/// is what may be PUT.
pub async fn run(
    means: Means,
    mut desired: mpsc::Receiver<Desired>,
    mut commands: mpsc::Receiver<Command>,
    offered: watch::Sender<Option<Needs>>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), DiskError> {
    let mut record = Record::open(&means.record)?;
    let mut local: Option<LocalOffer> = None;
    let mut next: Option<Job> = None;
    // What came last, as long as nobody has looked at it.
    let mut coming: Option<Desired> = None;
    let mut aside: Option<Aside> = None;
    loop {
        let back = aside.as_ref().map(|aside| aside.until);
        let came = match next {
            Some(_) => None,
            None => coming.take(),
        };
        let job = match (next.take(), came) {
            (Some(job), _) => job,
            (None, Some(desired)) => {
                supersede(&means, &mut record, &mut aside, &desired);
                Job::from(desired)
            }
            (None, None) => tokio::select! {
                Some(desired) = desired.recv() => {
                    supersede(&means, &mut record, &mut aside, &desired);
                    Job::from(desired)
                }
                Some(command) = commands.recv() => match idle(&means, command, &mut local, &offered).await {
                    Some(job) => job,
                    None => continue,
                },
                () = until(back) => match aside.take() {
                    Some(aside) => aside.job,
                    None => continue,
                },
                _ = shutdown.changed() => {
                    record.flush();
                    return Ok(());
                }
            },
        };
        if record.has_ended(&job.activity) {
            said_again(&job.activity);
            continue;
        }
        tracing::info!(activity = %job.activity, "deployment begins");
        let course = Cell::new(Course::Comes);
        let assigned = Cell::new(None);
        // Of `next`: what its assignment says, once that is verified.
        let mut newer: Option<Newer> = None;
        let held = Rc::new(Held::default());
        let end = {
            let kept = keep::of_others(&record, local.as_ref());
            let voice = Voice::new(&means, &mut record, &job.activity);
            let seen = job::Seen {
                course: &course,
                assigned: &assigned,
                held: &held,
                kept,
            };
            let run = job::run(&means, &job, voice, &seen);
            tokio::pin!(run);
            let mut looks = coming.as_ref().map(|wish| look_at(&means, wish));
            loop {
                tokio::select! {
                    () = &mut run => break End::Done,
                    Some(wish) = desired.recv() => {
                        if wish.activity == job.activity {
                            said_again(&job.activity);
                            continue;
                        }
                        if coming.is_some() && odd::is_first(Kind::Dropped, Sort::Desired) {
                            tracing::warn!("a desired state was dropped for the one that came after it; the next are counted");
                        }
                        looks = Some(look_at(&means, &wish));
                        coming = Some(wish);
                    }
                    looked = end_of(&mut looks) => {
                        looks = None;
                        let wish = coming.take();
                        match (looked, wish) {
                            (Err(why), Some(wish)) if why.phase == Phase::Failed => {
                                tracing::info!(reason = why.reason, "what came cannot be looked at now; soon again");
                                looks = Some(look_again(&means, &wish));
                                coming = Some(wish);
                            }
                            (Ok(found), wish) if found.is_after(assigned.get(), newer) => {
                                (next, newer) = (wish.map(Job::from), Some(found));
                                if course.get() != Course::Switched {
                                    break End::Superseded;
                                }
                            }
                            (Ok(_), _) => odd::count(Kind::Old),
                            // It has its turn when this one has ended, and is refused then.
                            (Err(why), wish) => {
                                tracing::info!(reason = why.reason, "what came takes no deployment back");
                                if newer.is_none() {
                                    next = wish.map(Job::from);
                                }
                            }
                        }
                    }
                    // One that came during a switch, which turned out to wait.
                    () = tokio::time::sleep(LOOK), if newer.is_some() => {
                        if course.get() != Course::Switched {
                            break End::Superseded;
                        }
                    }
                    // A stick needs no way that costs money, and who holds it stands before the board.
                    Some(command) = commands.recv() => {
                        let rests = held.now.get() || course.get() == Course::Waits;
                        match rests && !matches!(command, Command::Mend { .. }) {
                            true => break End::GaveWay(command),
                            false => busy(command, &job.activity),
                        }
                    }
                    _ = shutdown.changed() => break End::Shutdown,
                }
            }
        };
        match end {
            End::Shutdown => {
                record.flush();
                return Ok(());
            }
            // What was put aside goes on with what it has.
            End::Done if aside.is_some() => {}
            End::Done => tidy(&means, &record, local.as_ref()),
            End::Superseded => {
                let by = next.as_ref().map_or("", |job| &job.activity);
                let end = newer.map_or_else(|| superseded_by(by), |n| n.ends(assigned.get(), by));
                Voice::new(&means, &mut record, &job.activity).end(end, None);
            }
            End::GaveWay(command) => {
                tracing::info!(activity = %job.activity, "waits, and gives way to a stick");
                let open = |local: &Option<LocalOffer>| local.as_ref().map(|l| l.activity.clone());
                let before = open(&local);
                next = idle(&means, command, &mut local, &offered).await;
                let taken = open(&local).filter(|now| before.as_ref() != Some(now));
                if let (Some(newer), Documents::Here(_)) = (&taken, &job.documents) {
                    superseded(&means, &mut record, &job.activity, newer);
                    continue;
                }
                // One that was refused holds nothing up.
                let until = match taken {
                    None => Instant::now(),
                    Some(_) => Instant::now() + STICK,
                };
                aside = Some(Aside { job, until });
                continue;
            }
        }
        if let Some(aside) = &mut aside {
            match &next {
                // What was newer when that one was put aside is newest.
                Some(newer) => {
                    superseded(&means, &mut record, &aside.job.activity, &newer.activity)
                }
                None => aside.until = Instant::now(),
            }
        }
        if next.is_some() {
            aside = None;
        }
        if local.as_ref().is_some_and(|l| l.activity == job.activity) {
            local = None;
            offered.send_replace(None);
        }
    }
}

/// The retained message comes with each connection; whoever replays one sends as many as they like.
fn said_again(activity: &str) {
    if odd::is_first(Kind::Repeated, Sort::Desired) {
        tracing::info!(
            activity,
            "nothing new is wanted; the next that say so are counted"
        );
    }
}

/// How a job was left.
enum End {
    Done,
    Shutdown,
    Superseded,
    GaveWay(Command),
}

/// A deployment that gave way, and when it goes on.
struct Aside {
    job: Job,
    until: Instant,
}

/// A look at what came meanwhile.
fn look_at<'a>(means: &'a Means, wish: &Desired) -> Looks<'a> {
    let deploy = wish.deploy.clone();
    Box::pin(async move { newer::look(means, &deploy).await })
}

/// The same after a while: the supervisor is being executed anew, or a document could not be fetched.
fn look_again<'a>(means: &'a Means, wish: &Desired) -> Looks<'a> {
    let look = look_at(means, wish);
    Box::pin(async move {
        tokio::time::sleep(LOOK_AGAIN).await;
        look.await
    })
}

type Looks<'a> = Pin<Box<dyn Future<Output = Result<Newer, Outcome>> + 'a>>;

async fn end_of(looks: &mut Option<Looks<'_>>) -> Result<Newer, Outcome> {
    match looks {
        Some(looks) => looks.await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn superseded(means: &Means, record: &mut Record, activity: &str, newer: &str) {
    Voice::new(means, record, activity).end(superseded_by(newer), None);
}

/// Ends what was put aside when something newer is wanted; the same again goes on from the start.
fn supersede(means: &Means, record: &mut Record, aside: &mut Option<Aside>, newer: &Desired) {
    if let Some(aside) = aside.take()
        && aside.job.activity != newer.activity
    {
        superseded(means, record, &aside.job.activity, &newer.activity);
    }
}

/// A command while nothing runs; a job when it starts one.
async fn idle(
    means: &Means,
    command: Command,
    local: &mut Option<LocalOffer>,
    offered: &watch::Sender<Option<Needs>>,
) -> Option<Job> {
    match command {
        Command::Offer { documents, answer } => {
            tell_stick(means, StickWord::Reading).await;
            let result = job::offer_local(means, &documents).await;
            if result.is_err() {
                tell_stick(means, StickWord::Refused).await;
            }
            if let Ok(good) = &result {
                offered.send_replace(Some(good.needs.clone()));
                *local = Some(LocalOffer {
                    activity: good.activity.clone(),
                    documents,
                    needs: good.needs.clone(),
                });
            }
            let _ = answer.send(result);
            None
        }
        Command::Mend {
            kind,
            digest,
            answer,
        } => {
            let _ = answer.send(mend::run(means, kind, digest).await);
            None
        }
        Command::Apply { activity, answer } => match local {
            Some(offer) if offer.activity == activity => {
                let _ = answer.send(Ok(()));
                Some(Job {
                    activity,
                    documents: Documents::Here(offer.documents.clone()),
                })
            }
            _ => {
                let reason = format!("no offer `{activity}` is open; POST /coracle/v1/offer first");
                let _ = answer.send(Err(Outcome::refused("no-offer", reason)));
                None
            }
        },
    }
}

/// For the board's lights: what came over docker.sock came from a stick, or from somebody who stands before the board.
async fn tell_stick(means: &Means, word: StickWord) {
    if let Err(error) = means.supervisor.ask(Request::Stick { word }).await {
        tracing::debug!(%error, ?word, "the board's lights do not say it");
    }
}

fn busy(command: Command, activity: &str) {
    let reason = format!("deployment `{activity}` is under way; try again when it has ended");
    let outcome = Outcome::refused("busy", reason);
    match command {
        Command::Offer { answer, .. } => drop(answer.send(Err(outcome))),
        Command::Apply { answer, .. } | Command::Mend { answer, .. } => {
            drop(answer.send(Err(outcome)));
        }
    }
}

/// Removes what neither the sets that may run nor an open offer needs.
fn tidy(means: &Means, record: &Record, local: Option<&LocalOffer>) {
    means.blobs.keep_only(&keep::of_others(record, local));
}

/// Whether feedback of `phase` is the last of its activity.
pub fn is_end(feedback: &Feedback, activity: &str) -> bool {
    feedback.activity == activity && Phase::is_end(feedback.phase)
}
