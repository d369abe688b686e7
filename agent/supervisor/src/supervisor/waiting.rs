//! A staged set whose time has not come: what stands against the switch, and that it is looked at again. The committed set
//! runs on as if there were none.

mod spent;

use super::requests::failed;
use super::{Supervisor, Trying};
use crate::adopt::Waited;
use crate::apps::lock;
use crate::gate::{self, Lock, Up};
use crate::journal::{DeployedSet, StoredSet};
use crate::kernel;
use crate::machine::{Event, State, Why};
use crate::offer::{self, Offer, Refused};
use crate::stage;
use coracle_board_support::clock;
use coracle_board_support::config::{Config, Zone};
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{Answer, Event as Told, SWITCHING, Waiting};
use coracle_protocol::report::Phase;
use coracle_protocol::verify::VerifiedDeployment;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Seconds of a lock that the end of a supervisor may add to its time.
const NOTE: u64 = 10;

/// How a set waits.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Since when, on the clock that counts from boot.
    since: Duration,
    /// How long in starts of the board before this one.
    before: Duration,
    /// So long it has waited, by what is written down.
    written: Option<Duration>,
    /// For how long update locks alone have put it off.
    deferred: Duration,
    /// The last look at locks that alone put it off.
    deferred_at: Option<Duration>,
    /// So many seconds of it are written down.
    noted: u64,
    /// Somebody on the board has accepted it.
    accepted: bool,
    /// What was said last.
    told: Option<Why>,
    next_look: Option<Instant>,
    /// Since when nothing else but this program stood against it.
    only_program: Option<Duration>,
    /// Nothing but this program stands against it, it does nothing that must end first, and whoever watches has heard so.
    for_program: bool,
}

impl Waits {
    fn waited(&self, boot: Duration) -> Duration {
        self.before + boot.saturating_sub(self.since)
    }
}

/// Since boot, also while the board slept.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    )
}

/// Of the board's day, where its clock is known to be right.
fn minute_of_day(config: &Config) -> Option<u16> {
    if !config.clock_is_right && !clock::is_synchronised() {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    match config.window_zone {
        Zone::Utc => u16::try_from(now / 60 % (24 * 60)).ok(),
        Zone::Local => kernel::local_minute(now.try_into().ok()?),
    }
}

impl Supervisor {
    /// A set that is to run: now, or what it has to wait for.
    pub(super) fn wait_or_go(&mut self, now: Instant) -> Event {
        if let Some(trying) = &mut self.trying {
            trying.waits.since = since_boot();
        }
        self.closed(now).map_or(Event::Activate, Event::Hold)
    }

    /// What stands against the switch now.
    fn closed(&mut self, now: Instant) -> Option<Why> {
        let held =
            |run: &&crate::apps::AppRun| !run.is_down() && lock::is_held(&self.settings, &run.slot);
        let locks: Vec<Lock> = self
            .apps
            .iter()
            .filter(held)
            .filter_map(|run| {
                let longest = run.app.update_lock?.max_defer_seconds;
                Some(Lock {
                    app: run.name().clone(),
                    longest: Duration::from_secs(longest.into()),
                })
            })
            .collect();
        let transfer = self.transfer.as_ref();
        let restored = transfer.is_some_and(|job| job.restored().is_some());
        let backed_up = transfer.filter(|_| !restored).map(|job| job.volume());
        let backed_up = backed_up.filter(|name| self.is_converted(name)).cloned();
        let boot = since_boot();
        let work = self.work();
        let since = self.trying.as_ref()?.waits.only_program.unwrap_or(boot);
        let work = gate::working(work, boot.saturating_sub(since));
        let program = self.program_first(work.as_deref());
        let config = &self.settings.config;
        let waits = &mut self.trying.as_mut()?.waits;
        let up = Up {
            waited: waits.waited(boot),
            enough: config.without_clock,
        };
        let minute = minute_of_day(config);
        let others = [
            gate::unaccepted(config.consent, waits.accepted),
            gate::outside(&config.windows, config.window_zone, minute, up),
            gate::restoring(restored),
            gate::backing_up(backed_up),
        ];
        let others = gate::all(others);
        if let Some(last) = waits.deferred_at.take() {
            waits.deferred += boot.saturating_sub(last);
        }
        let locked = gate::locked(&locks, waits.deferred);
        // The time of a lock runs while nothing else would stop the switch.
        if others.is_none() && locked.is_some() {
            waits.deferred_at = Some(boot);
        }
        let held = gate::all([others, locked]);
        waits.only_program = held.is_none().then_some(since);
        let is_turn = held.is_none() && program.is_some() && work.is_none();
        let why = held.or(program);
        waits.next_look = why.as_ref().map(|_| now + LOOK);
        waits.for_program = is_turn && why == waits.told;
        waits.told.clone_from(&why);
        why
    }

    pub(super) fn waiting_due(&self) -> Option<Instant> {
        match self.machine {
            State::Waiting => self.trying.as_ref()?.waits.next_look,
            _ => None,
        }
    }

    /// Looks again when it is time.
    pub(super) fn look_again(&mut self, now: Instant) -> Option<Event> {
        let waits = &self.trying.as_ref()?.waits;
        if waits.next_look.is_some_and(|at| at > now) {
            return None;
        }
        let told = waits.told.clone();
        match self.closed(now) {
            None => Some(match self.still_good() {
                Ok(deployment) => {
                    if let Some(trying) = &mut self.trying {
                        trying.set.verified_anew(deployment);
                    }
                    Event::Activate
                }
                Err(why) => Event::Withdrawn(why),
            }),
            Some(why) if told.as_ref() == Some(&why) => {
                self.note_deferred();
                self.note_spent(spent::BETWEEN);
                None
            }
            Some(why) => Some(Event::Hold(why)),
        }
    }

    /// Now and then, so that a next supervisor does not begin anew.
    fn note_deferred(&mut self) {
        let Some(trying) = &mut self.trying else {
            return;
        };
        let seconds = trying.waits.deferred.as_secs();
        if seconds >= trying.waits.noted + NOTE {
            trying.waits.noted = seconds;
            self.store_run_state();
        }
    }

    /// Root, counters and time may have gone on while it waited: what counts is what is so at the switch.
    pub(super) fn still_good(&self) -> Result<VerifiedDeployment, Why> {
        let stored = self.trying.as_ref().and_then(|t| t.stored.as_ref());
        let stored = stored.ok_or_else(|| Why::new("disk", "its documents are gone"))?;
        self.verify_again(stored)
    }

    fn verify_again(&self, stored: &StoredSet) -> Result<VerifiedDeployment, Why> {
        let offer = Offer {
            activity: stored.activity.clone(),
            deploy: stored.deploy.clone(),
            release: stored.release.clone(),
        };
        offer::verify(offer, &self.trust, &self.settings, &[])
            .map(|accepted| accepted.deployment)
            .map_err(|refused| Why::new(refused.code, refused.reason))
    }

    /// Whether it is this program's turn to go.
    pub(super) fn waits_for_program(&self) -> bool {
        self.waiting_set().is_some_and(|set| set.waits.for_program)
    }

    /// Onto the disk, so that a restart finds it.
    pub(super) fn park(&mut self) -> Option<Event> {
        let stored = self.trying.as_ref().and_then(|t| t.stored.as_ref())?;
        let fault = self.journal.park(stored).err()?;
        Some(Event::Withdrawn(Why::new("disk", fault.to_string())))
    }

    /// It will not run: nothing of it stays.
    pub(super) fn unpark(&mut self) {
        self.forget_parked();
        if let Some(trying) = self.trying.take() {
            self.ended_activity = trying.set.activity;
        }
        self.collect_layers();
    }

    pub(super) fn forget_parked(&self) {
        if let Err(error) = self.journal.unpark() {
            // The next start finds its counters used up, or waits for it once more.
            tracing::error!(%error, "the set that waited stays in the journal");
        }
    }

    pub(super) fn waiting_set(&self) -> Option<&Trying> {
        self.trying
            .as_ref()
            .filter(|_| self.machine == State::Waiting)
    }

    /// The set that the board is switched to, or tries.
    pub(super) fn switched_to(&self) -> Option<Sha256Digest> {
        let trying = self.trying.as_ref();
        let waits = self.machine == State::Waiting;
        trying.filter(|_| !waits).map(|trying| trying.set.digest())
    }

    /// Somebody on the board says yes to the set that waits.
    pub(super) fn accept(&mut self, deployment: Sha256Digest, uid: u32) -> Answer {
        let waits = self.machine == State::Waiting;
        let trying = self
            .trying
            .as_mut()
            .filter(|trying| waits && trying.set.digest() == deployment);
        let Some(trying) = trying else {
            let reason = format!("assignment {deployment} does not wait");
            return failed("not-waiting", reason);
        };
        if let Err(error) = self.journal.accept(deployment) {
            return failed("disk", error.to_string());
        }
        tracing::info!(%deployment, uid, "a person accepts");
        trying.waits.accepted = true;
        trying.waits.next_look = None;
        Answer::Done
    }

    /// Whether this very set waits already: its daemon was started anew.
    pub(super) fn waits_already(&self, set: &DeployedSet) -> bool {
        self.waiting_set()
            .is_some_and(|trying| trying.set.digest() == set.digest())
    }

    /// Says once more for what, to the daemon that asked; it may call the deployment otherwise.
    pub(super) fn tell_waiting(&mut self, set: DeployedSet, stored: StoredSet) {
        self.accepted = None;
        let Some(trying) = &mut self.trying else {
            return;
        };
        let told = trying.waits.told.clone();
        let activity = set.activity.clone();
        if trying.set.activity != activity
            && let Err(error) = self.journal.park(&stored)
        {
            tracing::warn!(%error, "after a restart it has its former name");
        }
        (trying.set, trying.stored) = (set, Some(stored));
        self.tell(Told::Deployment {
            activity,
            phase: Phase::Waiting,
            code: told.as_ref().map(|why| why.code.to_owned()),
            reason: told.map(|why| why.reason),
        });
    }

    /// Another assignment is wanted by now: the one that waits goes.
    pub(super) async fn supersede(&mut self, by: Sha256Digest) {
        let reason = format!("assignment {by} came while it waited");
        self.withdraw(by, Why::new("superseded", reason)).await;
    }

    pub(super) async fn withdraw(&mut self, by: Sha256Digest, why: Why) {
        let other = self.waiting_set();
        if other.is_some_and(|trying| trying.set.digest() != by) {
            self.happen(Event::Withdrawn(why)).await;
        }
    }

    /// At start: a set that waited waits on, when it is whole and would still be taken.
    pub(super) async fn find_waiting(
        &mut self,
        found: Option<(DeployedSet, StoredSet)>,
        waited: Option<Waited>,
    ) {
        let Some((set, stored)) = found else { return };
        let on_board = stage::on_board(&self.settings.config.layers_dir());
        let why = match self.trying.is_some() || !self.machine.is_idle() {
            // Its own trial, or one that came after it.
            true => Some("a trial was found beside it".to_owned()),
            false if !set.layers().is_subset(&on_board) => Some("layers of it are gone".to_owned()),
            false => self.verify_again(&stored).err().map(|why| why.reason),
        };
        if let Some(why) = why {
            tracing::warn!(activity = set.activity, why, "a set that waited is dropped");
            self.forget_parked();
            return;
        }
        // Another board than the one that took it, where its profile was changed since.
        let running = self.current.as_ref().map(DeployedSet::release);
        let fits = offer::fits(&set, running, &self.settings);
        let fits = Refused::both(fits, self.check_plans(&set));
        let digest = set.digest();
        let waited = waited.filter(|waited| waited.deployment == digest);
        let seconds = |of: fn(Waited) -> u64| waited.map(of).map(Duration::from_secs);
        let since = seconds(|w| w.since).unwrap_or_else(since_boot);
        let before = self.spent_before(digest, since_boot().saturating_sub(since));
        tracing::info!(
            activity = set.activity,
            waited_before = before.as_secs(),
            "a set waits on"
        );
        self.trying = Some(Trying {
            set,
            stored: Some(stored),
            window: None,
            waits: Waits {
                since,
                before,
                deferred: seconds(|w| w.deferred).unwrap_or_default(),
                accepted: self.journal.accepted() == Some(digest),
                ..Waits::default()
            },
        });
        self.happen(Event::FoundWaiting).await;
        if let (Err(why), Some(trying)) = (fits, &self.trying) {
            let words = format!("{} does not fit any more ({why})", trying.set.activity);
            self.last_words = Some(words);
            self.happen(Event::Withdrawn(Why::new(why.code, why.reason)))
                .await;
        }
    }

    /// For the next supervisor.
    pub(super) fn waited(&self) -> Option<Waited> {
        let trying = self.waiting_set()?;
        Some(Waited {
            deployment: trying.set.digest(),
            since: trying.waits.since.as_secs(),
            deferred: trying.waits.deferred.as_secs(),
        })
    }

    pub(super) fn waiting_status(&self) -> Option<Waiting> {
        let trying = self.trying.as_ref()?;
        let stopping = Why::new(SWITCHING, "the apps of the old set are ending");
        let copying = Why::new(SWITCHING, "volumes that the new set converts are copied");
        let stuck = self.copier.stuck().map(|words| Why::new(SWITCHING, words));
        let why = match self.machine {
            State::Waiting => trying.waits.told.as_ref()?,
            State::StoppingOld => &stopping,
            State::Copying => &copying,
            State::StoppingNew(..) => stuck.as_ref()?,
            _ => return None,
        };
        Some(Waiting {
            activity: trying.set.activity.clone(),
            deployment: trying.set.digest(),
            version: trying.set.release().version.clone(),
            code: why.code.to_owned(),
            reason: why.reason.clone(),
        })
    }
}
