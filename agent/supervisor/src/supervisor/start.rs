//! Back to order after a restart, a crash or a power cut: what runs of the right set is adopted, what
//! runs of no set is ended, what should run is started.

use super::devices::DeviceWatch;
use super::follow::Following;
use super::heat::Cooling;
use super::resolvers::Resolvers;
use super::running::unix_seconds;
use super::waiting::Waits;
use super::wear::Wearing;
use super::writers::Writers;
use super::{BridgeHolder, Supervisor, SupervisorError, Trying};
use crate::adopt::{self, ProcessId, RunState, RunningApp};
use crate::agent::Own;
use crate::apps::hooks::LeftHook;
use crate::apps::launch::{self, Ground};
use crate::apps::{AppRun, Phase, Process, interfaces};
use crate::disk;
use crate::gc;
use crate::journal::{DeployedSet, Failure, Journal};
use crate::lights::{Lights, News};
use crate::logs;
use crate::machine::{self, Event, State};
use crate::room;
use crate::settings::Settings;
use crate::socket::Watchers;
use crate::trust::Trust;
use crate::users::{self, Ranges};
use crate::volumes::Volumes;
use coracle_board_support::probe::remove_left;
use coracle_runtime::launch::Running;
use coracle_runtime::{CgroupTree, Child};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::sync::mpsc;

impl Supervisor {
    /// Reads everything and puts it in order.
    pub async fn start(settings: Settings) -> Result<Self, SupervisorError> {
        let lock = lock(&settings)?;
        let config = &settings.config;
        let journal = Journal::open(&config.deployments_dir(), settings.default_limits())?;
        let mut trust = Trust::load(
            &config.trust_dir(),
            &config.root_file(),
            journal.has_current(),
        )?;
        if let Err(damage) = trust.seen() {
            tracing::error!(%damage, "no new deployment is accepted; what runs goes on");
        }
        let found = journal.load()?;
        let sets = [&found.current, &found.previous, &found.trial];
        trust.not_below(sets.into_iter().flatten().map(DeployedSet::deployment))?;
        let running = config.running_text();
        if let Err(error) = disk::write_volatile(&config.running_file(), running.as_bytes()) {
            tracing::warn!(%error, "`coracle config check` cannot hold a file against this supervisor");
        }
        let empty_root = settings.run_state_dir().join("empty");
        disk::make_folder(&empty_root, 0o555)?;
        gc::clear_staging(config)?;
        remove_left(&config.state_dir);
        room::keep(config);
        Volumes::of(&settings).recover()?;
        clear_transfers(&settings.transfers_dir());
        let (adopted, adopted_ends) = mpsc::channel(8);
        let (transfer_came, transfers_that_came) = mpsc::channel(2);
        let (resolver_says, resolver_words) = mpsc::channel(8);
        let failed = found.failure.as_ref().is_some_and(|failure| !failure.over);
        let mut supervisor = Self {
            tree: CgroupTree::detect(&config.cgroup_parent)?,
            bridge: BridgeHolder(Err("it has not been opened yet".to_owned())),
            machine: State::Idle,
            judged_at: Instant::now(),
            // A damaged current set has been set aside; the one before it is whole.
            current: found.current.or_else(|| found.previous.clone()),
            previous: found.previous,
            trying: None,
            last_words: found.failure.as_ref().map(Failure::words),
            failure: found.failure,
            accepted: None,
            tries: Default::default(),
            commands: super::Commands::default(),
            action: None,
            execs: Vec::new(),
            looks: Vec::new(),
            resetting: None,
            decommissioned: config.decommissioned_file().exists(),
            over_budget: None,
            active: None,
            ended_activity: String::new(),
            is_recalling: false,
            apps: Vec::new(),
            order: Vec::new(),
            staging: None,
            stage_queue: VecDeque::new(),
            checks: super::checks::Checks::default(),
            mending: None,
            sweeper: None,
            sweep_again: false,
            transfer: None,
            copier: Default::default(),
            // Sockets of before may still be there.
            transfers: unix_seconds() << 8,
            transfer_came,
            transfers_that_came,
            watchers: Watchers::default(),
            unheard: None,
            adopted,
            adopted_ends,
            resolvers: Resolvers::default(),
            resolver_says: crate::resolver::Words::new(resolver_says),
            resolver_words,
            ranges: Ranges::load(&settings.config.ids_file(), settings.users.first)?,
            following: Following::begin(),
            device_watch: DeviceWatch::default(),
            writers: Writers::default(),
            rest_at: Some(Instant::now() + super::QUIET),
            rested_at: Instant::now(),
            lights: Lights::of(&settings),
            news: News::of(failed),
            cooling: Cooling::of(settings.profile.thermal.as_ref()),
            wearing: Wearing::of(&settings, Instant::now()),
            own: Own::load(config.agent_dir()),
            empty_root,
            _lock: lock,
            settings,
            trust,
            journal,
        };
        let state = RunState::load(&supervisor.run_state_file());
        let current = supervisor.current.as_ref().map(|set| set.digest());
        let old_runs = current.is_some() && state.set == current && !state.apps.is_empty();
        let set = match found.has_trial && !old_runs {
            true => found.trial.clone(),
            false => supervisor.current.clone(),
        };
        supervisor.make_apps(set.as_ref());
        if state.set.is_some() && state.set == supervisor.active {
            if found.has_trial && !old_runs {
                let outgoing = state.apps.iter().filter(|app| app.outgoing);
                let outgoing: Vec<_> = outgoing.map(|app| app.name.clone()).collect();
                supervisor.find_outgoing(&outgoing);
            }
            for running in state.apps {
                supervisor.adopt(running);
            }
            for ended in state.ended {
                let mut apps = supervisor.apps.iter_mut();
                let app = apps.find(|app| *app.name() == ended.name);
                if let Some(app) = app.filter(|app| app.is_down()) {
                    app.had_ended(&ended);
                }
            }
            // Children that ended while this program took the place of the one before: before anybody misses their network.
            supervisor.is_recalling = true;
            supervisor.reap().await;
            supervisor.is_recalling = false;
        } else if !found.has_trial {
            // Cut between the end of a trial and the word that those that served on are the set's own again.
            for running in state.apps.into_iter().filter(|app| app.outgoing) {
                supervisor.adopt(running);
            }
            supervisor.stop_relieved(Instant::now());
        }
        supervisor.end_strangers().await;
        supervisor.open_bridge().await;
        supervisor.arrange_networks().await;
        let mut event = machine::found(found.has_trial, old_runs, found.waiting.is_some());
        match event {
            // Cut while they were copied, or just then: of apps that run on, none has one.
            Some(Event::FoundUntried) => {
                if !supervisor.put_back_volumes(Instant::now()) {
                    event = Some(Event::FoundTrial);
                }
            }
            Some(Event::FoundTrial) => {}
            _ => supervisor.settle_copies(),
        }
        let waiting = found.waiting.filter(|_| event == Some(Event::FoundWaiting));
        if let Some(event) = event.filter(|event| *event != Event::FoundWaiting) {
            supervisor.take_back(found.trial, event).await;
        }
        supervisor.find_waiting(waiting, state.waiting).await;
        supervisor.tell_failed_program();
        if supervisor.machine.is_settled() {
            if supervisor.current.is_some() {
                // The one before may have been cut between keeping this set and this.
                supervisor.collect_containers();
            }
            let now = Instant::now();
            for app in &mut supervisor.apps {
                if state.stopped.contains(app.name()) {
                    app.wanted = false;
                    // One that was being stopped is told so again; one that took its stop signal and runs on was not.
                    if app.is_down() {
                        app.phase = Phase::Ended;
                    }
                } else if app.phase == Phase::Created {
                    app.phase = Phase::Waiting { at: now };
                }
            }
        }
        supervisor.collect_layers();
        supervisor.hold_against_budget();
        supervisor.mend_logs(Instant::now());
        // Not before all that was read is in its place: a next supervisor would find half of it.
        supervisor.store_run_state();
        Ok(supervisor)
    }

    pub(super) fn run_state_file(&self) -> PathBuf {
        self.settings.run_state_dir().join("apps.json")
    }

    /// A trial that was never kept: its apps are ended, and the committed set comes back.
    async fn take_back(&mut self, set: Option<DeployedSet>, event: Event) {
        match set {
            Some(set) => {
                self.ended_activity = set.activity.clone();
                self.trying = Some(Trying {
                    set,
                    stored: None,
                    window: None,
                    waits: Waits::default(),
                });
            }
            // Unreadable, and set aside by now: its name is lost with it.
            None => self.ended_activity = String::new(),
        }
        self.happen(event).await;
    }

    /// Takes an app over that an earlier supervisor started.
    fn adopt(&mut self, running: RunningApp) {
        // Of a set that nothing has taken the place of yet, nobody is outgoing.
        let is_it =
            |app: &AppRun, outgoing| *app.name() == running.name && app.outgoing == outgoing;
        let found = self.find(|app| is_it(app, running.outgoing));
        let Some(index) = found.or_else(|| self.find(|app| is_it(app, false))) else {
            return;
        };
        let name = &running.name;
        let slot = running.slot.unwrap_or_else(|| name.to_string());
        self.apps[index].take_slot(slot);
        let pid = running.process.pid;
        let Some(pidfd) = self.take_over(running.process) else {
            tracing::warn!(app = %name, pid, "it ended while nobody looked, or cannot be watched");
            return;
        };
        let Ok(cgroup) = self.tree.open(&self.apps[index].slot) else {
            return;
        };
        let output = logs::recover(pid, running.output);
        let log_writer = running.log_writer.and_then(|writer| {
            self.take_over(writer)?;
            Some(writer.pid)
        });
        let hook = running.hook.map(|hook| LeftHook {
            kind: hook.kind,
            begun: hook.companion.is_some(),
            companion: hook.companion.and_then(|process| {
                let pidfd = self.take_over(process)?;
                let pid = process.pid;
                Some(Child { pid, pidfd })
            }),
        });
        let stats = cgroup.stats().unwrap_or_default();
        let paused = cgroup.is_frozen().unwrap_or(false);
        let mut process = Process {
            running: Running { pid, pidfd },
            oom_kills_before: stats.oom_kills.unwrap_or(0),
            cgroup,
            places: running.places,
            devices: running.devices,
            held: None,
            late: None,
            output,
            log_writer,
            ids: users::of_process(pid),
            since: Instant::now(),
        };
        let container = self.container();
        let app = &mut self.apps[index];
        app.keep_promises(&mut process);
        if !running.outgoing {
            // The one before may have been cut while it went from one set to the other.
            app.keep_layer(&self.settings.config, &container);
        }
        app.restarts = running.restarts;
        app.started(process, running.started_at);
        app.paused = paused;
        app.go_on_with(hook, running.stopping, Instant::now());
        tracing::info!(app = %name, pid, "adopted");
        if log_writer.is_none() {
            self.writers.missing(Instant::now());
        }
    }

    /// A descriptor of a process whose end will be told: where it is reaped, when it is a child of this process, which was
    /// executed anew since; by its descriptor otherwise.
    fn take_over(&self, process: ProcessId) -> Option<OwnedFd> {
        if let Some(pidfd) = process.open_child() {
            return Some(pidfd);
        }
        let (pidfd, watched) = (process.open()?, process.open()?);
        match adopt::watch(process.pid, watched, self.adopted.clone()) {
            Ok(()) => Some(pidfd),
            Err(error) => {
                tracing::warn!(pid = process.pid, %error, "it cannot be watched");
                None
            }
        }
    }

    /// Ends what runs below our cgroup and belongs to no adopted app.
    async fn end_strangers(&mut self) {
        if let Err(error) = interfaces::clear_half_written(&self.settings) {
            tracing::warn!(%error, "it stays");
        }
        for name in interfaces::borrowers(&self.settings) {
            let runs = |app: &crate::apps::AppRun| app.slot == name && !app.is_down();
            if !self.apps.iter().any(runs) {
                self.take_links_back(&name);
            }
        }
        for name in self.tree.list() {
            let known = |app: &crate::apps::AppRun| app.slot == name && !app.is_down();
            if self.apps.iter().any(known) {
                continue;
            }
            tracing::warn!(cgroup = name, "it belongs to no app that runs, and goes");
            let ground = Ground {
                settings: &self.settings,
                tree: &self.tree,
                netns: None,
                answering: &[],
                ids: None,
            };
            for fault in launch::clear(&ground, &mut self.bridge.0, &name).await {
                tracing::warn!(cgroup = name, fault, "it stays");
            }
        }
    }
}

impl Supervisor {
    /// Those of an app that ended while no supervisor was there.
    fn take_links_back(&self, name: &str) {
        for fault in interfaces::take_back(&self.settings, name) {
            tracing::warn!(app = name, fault, "a link of the board");
        }
    }
}

/// Sockets of transfers that ended with an earlier supervisor.
fn clear_transfers(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "it stays");
        }
    }
}

/// Whether there is a supervisor.
pub(crate) fn is_locked(config: &coracle_board_support::config::Config) -> bool {
    let file = File::open(config.supervisor_dir().join("lock"));
    file.is_ok_and(|file| file.try_lock().is_err())
}

/// One supervisor to a run folder: two would end each other's apps.
pub(crate) fn lock(settings: &Settings) -> Result<File, SupervisorError> {
    let path = settings.run_state_dir().join("lock");
    let file = File::create(&path)?;
    file.try_lock().map_err(|_| {
        let text = format!(
            "another supervisor runs already: {} is locked",
            path.display()
        );
        SupervisorError::Left(text)
    })?;
    Ok(file)
}
