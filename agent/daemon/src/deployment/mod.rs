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
mod stick;
mod voice;
mod whose;

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
use coracle_protocol::local::{Needs, StoreKind};
use coracle_protocol::report::{Feedback, Phase};
use job::{Documents, Job};
use newer::{Aside, Coming, Newer, Place, Replaced, superseded_by};
use record::Record;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use stick::LocalOffer;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use voice::Voice;

/// For so long a stick that was offered has the board to itself.
const STICK: Duration = Duration::from_secs(600);
/// Between two looks whether a deployment that a newer one waits for can still be taken back.
const LOOK: Duration = Duration::from_secs(1);

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
    // What has its turn next: it was found to be newer, or is a stick's.
    let mut next: Option<Job> = None;
    // What came last, as long as nobody has looked at it.
    let mut coming: Option<Coming> = None;
    // What takes nobody's place, and has its turn when nothing else has it.
    let mut later: Option<Job> = None;
    let mut aside: Option<Aside> = None;
    let replaced: RefCell<Vec<Replaced>> = RefCell::default();
    loop {
        let back = aside.as_ref().map(|aside| aside.until);
        let beside = aside.as_ref().and_then(|aside| aside.assigned);
        if next.is_none() && aside.is_none() {
            // Nothing took its place in the end: it goes on.
            next = replaced.borrow_mut().pop().map(|before| before.job);
            let came = |coming: Coming<'_>| Job::from(coming.wish);
            next = next
                .or_else(|| coming.take().map(came))
                .or_else(|| later.take());
        }
        let job = match next.take() {
            Some(job) => job,
            None => tokio::select! {
                Some(wish) = desired.recv() => match &aside {
                    None => Job::from(wish),
                    Some(aside) => {
                        newer::take(&means, &mut coming, wish, &aside.job.activity, &record.known());
                        continue;
                    }
                },
                // Only beside what was put aside.
                looked = newer::looked(&mut coming) => {
                    match newer::judge(&means, &mut coming, looked, &[beside], &record.known()) {
                        Some((wish, Place::First(found))) => {
                            let job = Job::from(wish);
                            if let Some(aside) = aside.take() {
                                let before = found.replaces(aside.job, aside.assigned, &job.activity);
                                newer::replace(before, &replaced, &means, &mut record);
                            }
                            job
                        }
                        Some((wish, Place::Later { is_known })) => {
                            newer::put_off(&mut later, Job::from(wish), is_known);
                            continue;
                        }
                        Some((_, Place::Old)) | None => continue,
                    }
                }
                Some(command) = commands.recv() => {
                    let before = stick::open(&local);
                    match stick::idle(&means, command, &mut local, &offered).await {
                        Some(job) => job,
                        None => {
                            // A second stick has as much time as the first.
                            if let Some(aside) = aside.as_mut().filter(|_| stick::open(&local) != before) {
                                aside.until = Instant::now() + STICK;
                            }
                            continue;
                        }
                    }
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
        let beside = aside.as_ref().and_then(|aside| aside.assigned);
        let course = Cell::new(Course::Comes);
        let assigned = Cell::new(None);
        // Of `next`: what its assignment says.
        let mut newer: Option<Newer> = None;
        let held = Rc::new(Held::default());
        let end = {
            // What it takes the place of makes room for it.
            let is_replaced = |l: &&LocalOffer| {
                let replaced = replaced.borrow();
                replaced.iter().any(|r| r.job.activity == l.activity)
            };
            let kept = keep::of_others(&record, local.as_ref().filter(|l| !is_replaced(l)));
            let known = record.known();
            let voice = Voice::new(&means, &mut record, &job.activity);
            let seen = job::Seen {
                course: &course,
                assigned: &assigned,
                replaced: &replaced,
                held: &held,
                kept,
            };
            let run = job::run(&means, &job, voice, &seen);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    () = &mut run => break End::Done,
                    Some(wish) = desired.recv() => {
                        newer::take(&means, &mut coming, wish, &job.activity, &known);
                    }
                    looked = newer::looked(&mut coming) => {
                        let others = [assigned.get(), newer.map(Newer::assigned), beside];
                        match newer::judge(&means, &mut coming, looked, &others, &known) {
                            Some((wish, Place::First(found))) => {
                                (next, newer) = (Some(Job::from(wish)), Some(found));
                            }
                            Some((wish, Place::Later { is_known })) => {
                                newer::put_off(&mut later, Job::from(wish), is_known);
                            }
                            Some((_, Place::Old)) | None => {}
                        }
                    }
                    // One that came during a switch, which turned out to wait, or before this one was verified.
                    () = tokio::time::sleep(LOOK), if newer.is_some() => {}
                    // A stick needs no way that costs money, and who holds it stands before the board.
                    Some(command) = commands.recv() => {
                        let rests = held.now.get() || course.get() == Course::Waits;
                        match rests && !matches!(command, Command::Mend { .. }) {
                            true => break End::GaveWay(command),
                            false => stick::busy(command, &job.activity),
                        }
                    }
                    _ = shutdown.changed() => break End::Shutdown,
                }
                // Nothing takes the place of one of which nobody knows yet when it was signed.
                if let (Some(found), Some(this)) = (newer, assigned.get()) {
                    match found.place(&[Some(this)]) {
                        Place::First(_) if course.get() != Course::Switched => {
                            break End::Superseded(found);
                        }
                        Place::First(_) => {}
                        Place::Old => {
                            odd::count(Kind::Old);
                            (next, newer) = (None, None);
                        }
                        Place::Later { is_known } => {
                            newer = None;
                            if let Some(job) = next.take() {
                                newer::put_off(&mut later, job, is_known);
                            }
                        }
                    }
                }
            }
        };
        match end {
            End::Shutdown => {
                record.flush();
                return Ok(());
            }
            // What was put aside goes on with what it has; so does what a refused one was to take the place of.
            End::Done if aside.is_some() || !replaced.borrow().is_empty() => {}
            End::Done => tidy(&means, &record, local.as_ref()),
            End::Superseded(found) => {
                let by = next.as_ref().map_or("", |job| &job.activity);
                // If it goes on, the stick's does before what was put aside for it.
                if let Some(aside) = aside.take() {
                    let before = found.replaces(aside.job, aside.assigned, by);
                    newer::replace(before, &replaced, &means, &mut record);
                }
                let before = found.replaces(job, assigned.get(), by);
                newer::replace(before, &replaced, &means, &mut record);
            }
            End::GaveWay(command) => {
                tracing::info!(activity = %job.activity, "waits, and gives way to a stick");
                let before = stick::open(&local);
                // One that was signed after it has its place already, and so it is that one that is put aside.
                let (job, assigned) = match (next.take(), newer) {
                    (Some(newest), Some(found)) => {
                        let before = found.replaces(job, assigned.get(), &newest.activity);
                        newer::replace(before, &replaced, &means, &mut record);
                        (newest, Some(found.assigned()))
                    }
                    _ => (job, assigned.get()),
                };
                next = stick::idle(&means, command, &mut local, &offered).await;
                let taken = stick::open(&local).filter(|now| before.as_ref() != Some(now));
                if let (Some(newer), Documents::Here(_)) = (&taken, &job.documents) {
                    let end = superseded_by(newer);
                    Voice::new(&means, &mut record, &job.activity).end(end, None);
                    continue;
                }
                // What waits for this one waits on, and it goes on where it was.
                if aside.is_some() {
                    match &next {
                        None => next = Some(job),
                        Some(other) if other.activity == job.activity => {}
                        Some(_) => newer::put_off(&mut later, job, false),
                    }
                    continue;
                }
                // One that was refused holds nothing up.
                let until = match taken {
                    None => Instant::now(),
                    Some(_) => Instant::now() + STICK,
                };
                aside = Some(Aside {
                    job,
                    assigned,
                    until,
                });
                continue;
            }
        }
        match (aside.take(), &next, newer) {
            // What is newer than it, too.
            (Some(aside), Some(by), Some(found)) => {
                let before = found.replaces(aside.job, aside.assigned, &by.activity);
                newer::replace(before, &replaced, &means, &mut record);
            }
            (Some(mut waits), ..) => {
                waits.until = Instant::now();
                aside = Some(waits);
            }
            (None, ..) => {}
        }
        // One whose place was taken may go on: until it has ended its blobs stay.
        if local.as_ref().is_some_and(|l| record.is_over(&l.activity)) {
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
    Superseded(Newer),
    GaveWay(Command),
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
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
