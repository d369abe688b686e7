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
//! | `copies` | copies volumes that a new set converts, and puts them back |
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
mod copies;
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
mod run;
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
use crate::apps::AppRun;
use crate::apps::launch::Bridge;
use crate::apps::top::Look;
use crate::disk::DiskError;
use crate::journal::{DeployedSet, Failure, Journal, JournalError, StoredSet};
use crate::lights::{Lights, News};
use crate::machine::State;
use crate::offer::{self, Accepted};
use crate::resolver::{Word, Words};
use crate::settings::Settings;
use crate::socket::{AnswerTo, Watchers};
use crate::stage::Staging;
use crate::trust::{Trust, TrustError};
use crate::users::Ranges;
use crate::volumes::VolumeError;
use commands::Commands;
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

/// So often it does so at a wake-up that comes anyway: looks (every five seconds) and probes bring a little of the program each.
const REST_AGAIN: Duration = Duration::from_secs(4);

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
    /// When it was last looked at what the machine waits for: nothing that ends later was missed.
    judged_at: Instant,
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
    /// At processes of apps, and whom to answer.
    looks: Vec<(Look, AnswerTo)>,
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
    copier: copies::Copier,
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
    rested_at: Instant,
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
    /// Some work was done; unless more follows at once, what it took is given back.
    fn worked(&mut self) {
        self.rest_at = Some(Instant::now() + QUIET);
    }

    fn rest(&mut self, now: Instant) {
        let again = now.saturating_duration_since(self.rested_at) >= REST_AGAIN;
        if again || self.rest_at.is_some_and(|at| at <= now) {
            self.rest_at = None;
            self.rested_at = now;
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
