//! The owner of everything, and its one loop: a call from the daemon, the end of a child, or something
//! that is due.
//!
//! | file | what it does |
//! |---|---|
//! | `start` | finds back to order after a restart; adoption |
//! | `requests` | answers the daemon |
//! | `control` | what people do to one app: start, stop, pause, signals |
//! | `root` | takes a new root document |
//! | `commands` | verifies signed commands, counts and obeys them |
//! | `actions` | actions of apps that were commanded, from start to end |
//! | `reset` | a reset that was ordered, up to the next program, which does it |
//! | `own` | another program of its own: chosen before its set starts, kept or given up with it |
//! | `deploy` | carries out what [`crate::machine`] decides |
//! | `waiting` | a staged set whose time has not come |
//! | `running` | starts, ends, probes and restarts apps |
//! | `hooks` | programs of apps around their start and end |
//! | `bridge`, `networks` | the board's own network and the declared ones; apps that use another's |
//! | `follow`, `devices` | what follows when the board's links and routes, and devices of apps, change |
//! | `heat`, `shine` | less CPU for apps while the board is hot; what its lights tell |
//! | `order` | starts apps after those that they depend on, and stops them before |
//! | `names`, `resolvers` | who finds whom by name, by file and by asking |
//! | `status` | says what runs |
//! | `volumes`, `transfers` | makes, lists, deletes volumes; backs them up and restores them |
//! | `checks`, `mends` | reads layers and blobs again; a layer that was made anew takes the broken one's place |
//! | `wear` | counts what is written to the disks |
//! | `watch` | feeds the watchdog, or not, for critical apps |
//! | `stop` | `stop-all` |

mod actions;
mod beat;
mod bridge;
mod checks;
mod commands;
mod control;
mod could_make;
mod deploy;
mod devices;
mod ends;
mod execs;
mod follow;
mod hand_over;
mod heat;
mod hooks;
mod live;
mod mends;
mod names;
mod networks;
mod order;
mod own;
mod plans;
mod promises;
mod requests;
mod reset;
mod resolvers;
mod root;
mod running;
mod shine;
mod stands;
mod start;
mod status;
mod stop;
mod transfers;
mod volumes;
mod waiting;
mod watch;
mod wear;
mod writers;

use crate::adopt::AdoptedEnd;
use crate::agent::Own;
use crate::anew::{self, Next, Program};
use crate::apps::AppRun;
use crate::apps::launch::Bridge;
use crate::disk::DiskError;
use crate::journal::{DeployedSet, Failure, Journal, JournalError, StoredSet};
use crate::lights::{Lights, News};
use crate::machine::State;
use crate::notify::Notify;
use crate::offer::{self, Accepted};
use crate::resolver::{Word, Words};
use crate::settings::Settings;
use crate::socket::{self, AnswerTo, Watchers};
use crate::stage::Staging;
use crate::trust::{Trust, TrustError};
use crate::users::Ranges;
use crate::volumes::VolumeError;
use commands::Commands;
use coracle_board_support::config::Config;
use coracle_board_support::memory;
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{Event, LayerSource};
use coracle_protocol::names::AppName;
use coracle_runtime::CgroupTree;
use coracle_runtime::cgroup::CgroupError;
use devices::DeviceWatch;
use follow::Following;
use heat::Cooling;
use resolvers::Resolvers;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use waiting::Waits;
use wear::Wearing;
use writers::Writers;

pub(crate) use start::{is_locked, lock};
pub use stop::{end_everything, stop_all};

/// Layers that wait for their turn: one is unpacked at a time, so that memory stays bounded.
const STAGE_QUEUE: usize = 64;

/// After so long without work a process gives back what it took.
const QUIET: Duration = Duration::from_secs(1);

/// Why the supervisor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file or folder.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Volumes.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signal(#[from] std::io::Error),
    /// Apps or networks that stayed, one a line.
    #[error("not everything is gone:\n{0}")]
    Left(String),
}

/// A layer that waits to be unpacked.
#[derive(Debug)]
struct StageCall {
    activity: String,
    diff_id: Sha256Digest,
    from: LayerSource,
    answer: AnswerTo,
}

/// A layer that is being unpacked, and who wants to know.
#[derive(Debug)]
struct StageJob {
    staging: Staging,
    answer: AnswerTo,
    /// It is to take the place of a layer that is broken.
    mends: bool,
}

/// The set that is being tried.
#[derive(Debug)]
struct Trying {
    set: DeployedSet,
    stored: Option<StoredSet>,
    /// Since when its trial is open, and until when.
    window: Option<Instant>,
    waits: Waits,
}

/// The supervisor.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    trust: Trust,
    own: Own,
    journal: Journal,
    tree: CgroupTree,
    bridge: BridgeHolder,
    machine: State,
    current: Option<DeployedSet>,
    previous: Option<DeployedSet>,
    trying: Option<Trying>,
    failure: Option<Failure>,
    /// The last deployment that was refused or did not stay.
    last_words: Option<String>,
    accepted: Option<Accepted>,
    tries: offer::needs::Tries,
    commands: Commands,
    action: Option<actions::ActionJob>,
    execs: Vec<execs::ExecJob>,
    resetting: Option<reset::Resetting>,
    /// The board is no fleet's any more.
    decommissioned: bool,
    /// What the committed set has beyond the board's budget, which was another when it was taken.
    over_budget: Option<String>,
    /// The set that `apps` belong to.
    active: Option<Sha256Digest>,
    apps: Vec<AppRun>,
    /// Their positions, in the order in which they start.
    order: Vec<usize>,
    /// What an earlier supervisor left is not all in its place: nothing is written over it.
    is_recalling: bool,
    /// Names the deployment that is being taken back, after its set was forgotten.
    ended_activity: String,
    staging: Option<StageJob>,
    stage_queue: VecDeque<StageCall>,
    checks: checks::Checks,
    mending: Option<mends::Mending>,
    sweeper: Option<i32>,
    /// Something was thrown away while it deletes.
    sweep_again: bool,
    transfer: Option<transfers::TransferJob>,
    /// Transfers since the start, for their sockets' names.
    transfers: u64,
    transfer_came: mpsc::Sender<Option<UnixStream>>,
    transfers_that_came: mpsc::Receiver<Option<UnixStream>>,
    resolvers: Resolvers,
    resolver_says: Words,
    resolver_words: mpsc::Receiver<Word>,
    /// Which app has which ids.
    ranges: Ranges,
    following: Following,
    device_watch: DeviceWatch,
    writers: Writers,
    cooling: Cooling,
    wearing: Wearing,
    /// When it gives back what its last work took.
    rest_at: Option<Instant>,
    lights: Lights,
    /// For the lights.
    news: News,
    empty_root: PathBuf,
    watchers: Watchers,
    /// The end of a deployment that nobody was there to hear.
    unheard: Option<Event>,
    adopted: mpsc::Sender<AdoptedEnd>,
    adopted_ends: mpsc::Receiver<AdoptedEnd>,
    _lock: File,
}

/// [`Bridge`] has sockets in it, which say nothing in a log.
struct BridgeHolder(Bridge);

impl std::fmt::Debug for BridgeHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_ok() {
            "Bridge"
        } else {
            "no Bridge"
        })
    }
}

impl Supervisor {
    /// Runs until SIGTERM or SIGINT, or until SIGHUP asks for the program to be executed anew. Apps are left as they are: the
    /// next supervisor adopts them.
    pub async fn run(mut self, program: &Program) -> Result<Next, SupervisorError> {
        let mut children = signal(SignalKind::child())?;
        let mut again = signal(SignalKind::hangup())?;
        let mut ends = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ];
        let path = self.settings.config.supervisor_socket();
        let listener = socket::listen(
            &path,
            &self.settings.run_state_dir(),
            self.settings.daemon_group(),
        )?;
        let (to_me, mut calls) = mpsc::channel(8);
        let daemon = self.settings.daemon.map(|owner| owner.uid);
        let door = tokio::spawn(socket::serve(listener, daemon, to_me));
        let notify = Notify::from_environment();
        notify.ready();
        tracing::info!(socket = %path.display(), "ready");
        // Children of the program before this one, whose end nobody was told.
        self.reap().await;

        let mut alive_at = Instant::now();
        let mut watchdog = self.arm_watchdog();
        let mut is_asked_anew = false;
        let next = loop {
            self.turn().await;
            if is_asked_anew && self.machine.is_settled() {
                is_asked_anew = false;
                match self.could_start_anew(program) {
                    Ok(()) => break Next::Anew,
                    Err(error) => {
                        tracing::error!(error, "cannot be executed anew; this one goes on");
                    }
                }
            }
            if self.reset_is_due() || self.tend_own_program(program).await {
                break Next::Anew;
            }
            if let Some((watchdog, resets)) = &mut watchdog {
                let now = Instant::now();
                let verdict = resets.look(&self.critical(), !self.machine.is_idle(), now);
                watchdog.turn(now, &verdict);
            }
            if let Some(interval) = notify.interval()
                && alive_at <= Instant::now()
            {
                notify.alive();
                alive_at = Instant::now() + interval;
            }
            let alive = notify.interval().map(|_| alive_at);
            let meal = watchdog.as_ref().map(|(watchdog, _)| watchdog.due());
            let due = self.next_due(alive.into_iter().chain(meal).min());
            tokio::select! {
                Some(incoming) = calls.recv() => self.answer(incoming).await,
                _ = children.recv() => self.reap().await,
                Some(end) = self.adopted_ends.recv() => self.adopted_ended(end).await,
                Some(word) = self.resolver_words.recv() => self.hear_resolver(word).await,
                Some(came) = self.transfers_that_came.recv() => self.transfer_begins(came),
                () = self.following.changed() => self.following.look_soon(),
                () = self.device_watch.changed() => self.device_watch.look_soon(),
                _ = again.recv() => {
                    is_asked_anew = true;
                    // The next program would take the trial back.
                    if !self.machine.is_settled() {
                        tracing::info!("is executed anew once the deployment has ended");
                    }
                }
                () = any(&mut ends) => break Next::End,
                () = until(due) => {}
            }
        };
        self.lights.give_back();
        self.wearing.end(Instant::now());
        door.abort();
        self.own.ends_in_order();
        self.store_run_state();
        self.note_spent(Duration::from_secs(1));
        if next == Next::Anew {
            // The watchdog stays armed, and the next program feeds it.
            self.end_companions();
            tracing::info!("is executed anew; the apps stay as they are");
            return Ok(next);
        }
        notify.stopping();
        if let Some((watchdog, _)) = watchdog {
            watchdog.disarm();
        }
        tracing::info!("ends; the apps stay as they are");
        Ok(next)
    }

    /// Whether the next one would come up: apps would go on without it, and nobody could reach the board to mend a file.
    fn could_start_anew(&self, program: &Program) -> Result<(), String> {
        program.is_there().map_err(|error| error.to_string())?;
        let old = &self.settings.config;
        let new = Config::load(&old.file).map_err(|error| error.to_string())?;
        Settings::can_be_read(&new).map_err(|error| error.to_string())?;
        match old.fixed_key_that_differs(&new) {
            Some(key) => Err(format!(
                "{}: {key} is another; that takes `coracle-supervisor stop-all` and a start",
                old.file.display()
            )),
            None => anew::takes(program, &old.file),
        }
    }

    /// Everything that is due now. Afterwards nothing is due before `next_due`.
    async fn turn(&mut self) {
        let now = Instant::now();
        self.kill_overdue(now);
        self.end_overdue_transfer(now);
        self.end_overdue_action(now);
        self.go_on_mending(now);
        self.start_due(now).await;
        self.run_probes(now).await;
        self.run_hooks(now);
        self.next_stage();
        self.next_check();
        self.follow_links(now).await;
        self.follow_devices(now);
        self.mend_logs(now);
        self.follow_heat(now);
        self.lower_memory(now);
        self.follow_wear(now);
        self.mend_networks(now).await;
        self.tend_resolvers(now);
        self.go_on().await;
        self.show_lights(now);
        self.rest(now);
    }

    fn next_due(&self, also: Option<Instant>) -> Option<Instant> {
        let apps = self.apps.iter().filter_map(AppRun::next_due);
        let transfer = self.transfer.as_ref().map(transfers::TransferJob::due);
        let action = self.action.as_ref().map(actions::ActionJob::due);
        apps.chain(transfer)
            .chain(action)
            .chain(self.reset_due())
            .chain(self.trial_due())
            .chain(self.held_due())
            .chain(self.ready_due())
            .chain(self.waiting_due())
            .chain(self.own_program_due())
            .chain(self.resolvers.due())
            .chain(self.following.due())
            .chain(self.device_watch.due())
            .chain(self.writers.due())
            .chain(self.cooling.due())
            .chain(self.memory_due())
            .chain(self.wearing.due())
            .chain(self.news.due())
            .chain(self.rest_at)
            .chain(also)
            .min()
    }

    /// Some work was done; unless more follows at once, what it took is given back.
    fn worked(&mut self) {
        self.rest_at = Some(Instant::now() + QUIET);
    }

    fn rest(&mut self, now: Instant) {
        if self.rest_at.is_some_and(|at| at <= now) {
            self.rest_at = None;
            memory::rest();
        }
    }

    fn tell(&mut self, event: Event) {
        self.worked();
        let heard = self.watchers.tell(&event);
        if let Event::Deployment { phase, .. } = &event
            && phase.is_end()
        {
            self.unheard = (!heard).then_some(event);
        }
    }

    fn app_changed(&mut self, app: &AppName, what: impl Into<String>) {
        let what = what.into();
        tracing::info!(%app, what, "app");
        self.tell(Event::AppChanged {
            app: app.clone(),
            what,
        });
    }
}

async fn any(signals: &mut [Signal; 2]) {
    let [first, second] = signals;
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

async fn until(due: Option<Instant>) {
    match due {
        // Never quite at once: what is overdue and does not change must not turn the loop hot.
        Some(due) => {
            tokio::time::sleep_until(due.max(Instant::now() + Duration::from_millis(1)).into())
                .await
        }
        None => std::future::pending().await,
    }
}
