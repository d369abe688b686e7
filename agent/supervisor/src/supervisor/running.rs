//! Starts, ends, probes and restarts the active set's apps.

use super::Supervisor;
use crate::adopt::{AdoptedEnd, ProcessId, RunState, RunningApp};
use crate::apps::etc;
use crate::apps::launch::{self, Ground, Launched};
use crate::apps::{AppRun, Phase, Process};
use crate::health::{Verdict, probe};
use crate::logs;
use crate::machine::State;
use coracle_network::Network;
use coracle_protocol::release::{NetworkMode, Restart};
use coracle_runtime::{Exit, reap_all};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

impl Supervisor {
    /// Starts one app. An error is its reason, in words; nothing of the start remains then.
    pub(super) async fn start_app(&mut self, index: usize) -> Result<(), String> {
        let plan = self.apps[index].plan.clone()?;
        if plan.network == NetworkMode::Bridge && self.bridge.0.is_err() {
            self.open_bridge().await;
        }
        let ground = Ground {
            settings: &self.settings,
            tree: &self.tree,
        };
        let container = self.active.map(|set| set.hex()).unwrap_or_default();
        let launched = launch::launch(&ground, &mut self.bridge.0, &plan, &container)
            .await
            .map_err(|error| error.to_string());
        let app = &mut self.apps[index];
        match launched {
            Ok(launched) => {
                app.started(process(launched), unix_seconds());
                let name = app.name().clone();
                self.share_names();
                self.store_run_state();
                self.app_changed(&name, "started");
                Ok(())
            }
            Err(fault) => {
                app.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// Apps on the bridge find each other by name.
    fn share_names(&self) {
        let place = |app: &'_ AppRun| Some(app.process.as_ref()?.endpoint.as_ref()?.ip);
        let all = self
            .apps
            .iter()
            .filter_map(|app| Some((app.name().as_str(), place(app)?)));
        let all: Vec<(&str, Ipv4Addr)> = all.collect();
        for (name, own) in &all {
            let others = all.iter().filter(|(other, _)| other != name);
            let others: Vec<_> = others.copied().collect();
            if let Err(error) = etc::write_hosts(&self.settings, name, *own, &others) {
                tracing::warn!(app = name, %error, "it does not know the others by name");
            }
        }
    }

    /// Starts the apps whose time has come.
    pub(super) async fn start_due(&mut self, now: Instant) {
        for index in 0..self.apps.len() {
            let app = &mut self.apps[index];
            if !matches!(app.phase, Phase::Waiting { at } if at <= now) {
                continue;
            }
            if app.in_a_row > 0 {
                app.restarts += 1;
            }
            if let Err(fault) = self.start_app(index).await {
                let app = &mut self.apps[index];
                app.phase = Phase::Up;
                app.ended(None, false, Instant::now());
                let name = app.name().clone();
                self.app_changed(&name, format!("cannot be started: {fault}"));
            }
        }
    }

    pub(super) fn kill_overdue(&mut self, now: Instant) {
        for app in &mut self.apps {
            app.kill_when_due(now);
        }
    }

    /// Begins the probes that are due, and ends those that take too long.
    pub(super) async fn run_probes(&mut self, now: Instant) {
        for index in 0..self.apps.len() {
            let app = &mut self.apps[index];
            if let Some(running) = &app.probe {
                if running.deadline <= now {
                    // Its end comes as any child's; one that has ended already is about to.
                    let _ = running.child.kill();
                }
                continue;
            }
            let (Phase::Up, Some(process), Some(tracker), Ok(plan)) =
                (app.phase, &app.process, &mut app.tracker, &app.plan)
            else {
                continue;
            };
            if tracker.due().is_none_or(|due| due > now) {
                continue;
            }
            let target = probe::Target {
                plan,
                running: &process.running,
                cgroup: &process.cgroup,
            };
            let health = tracker.health();
            let timeout = Duration::from_millis(health.timeout_ms.into());
            match probe::start(&health.probe, timeout, &target, &self.empty_root) {
                Ok(running) => {
                    tracker.begun();
                    app.probe = Some(running);
                }
                Err(text) => self.probed(index, Err(text)),
            }
        }
    }

    fn probed(&mut self, index: usize, result: Result<(), String>) {
        let app = &mut self.apps[index];
        let Some(tracker) = &mut app.tracker else {
            return;
        };
        if let Err(text) = &result {
            tracing::debug!(app = %app.app.name, text, "a probe failed");
        }
        if !tracker.ended(result, Instant::now()) {
            return;
        }
        let name = app.name().clone();
        let (unhealthy, what) = match app.tracker.as_ref().map(|tracker| tracker.verdict()) {
            Some(Verdict::Unhealthy) => (true, app.unhealthy_text()),
            _ => (false, "healthy".to_owned()),
        };
        // In a trial it is the set's fault; later the app gets another chance, unless it wants none.
        if unhealthy && self.machine.is_idle() && app.app.restart != Restart::No {
            app.restarts += 1;
            app.stop(Instant::now());
        }
        self.app_changed(&name, what);
    }

    /// Children that have ended: apps, probes, log writers, unpacking, sweeping.
    pub(super) async fn reap(&mut self) {
        for (pid, exit) in reap_all() {
            self.child_ended(pid, exit).await;
        }
    }

    async fn child_ended(&mut self, pid: i32, exit: Exit) {
        if let Some(job) = self.staging.take_if(|job| job.staging.pid() == pid) {
            self.staged(job, exit);
        } else if self.sweeper == Some(pid) {
            self.sweeper = None;
            if !exit.success() {
                tracing::warn!(
                    ?exit,
                    "not everything that was thrown away could be deleted"
                );
            }
        } else if let Some(index) = self.find(|app| probe_pid(app) == Some(pid)) {
            if let Some(running) = self.apps[index].probe.take() {
                self.probed(index, running.result(exit.success(), exit.shell_code()));
            }
        } else {
            self.process_ended(pid, Some(exit.shell_code())).await;
        }
    }

    pub(super) async fn adopted_ended(&mut self, end: AdoptedEnd) {
        self.process_ended(end.pid, end.code).await;
    }

    async fn process_ended(&mut self, pid: i32, code: Option<i32>) {
        let main = |app: &AppRun| app.process.as_ref().is_some_and(|p| p.running.pid == pid);
        let writer = |app: &AppRun| {
            app.process
                .as_ref()
                .is_some_and(|p| p.log_writer == Some(pid))
        };
        if let Some(index) = self.find(main) {
            self.app_ended(index, code).await;
        } else if let Some(index) = self.find(writer)
            // 0: both pipes have ended, because the app has, or has closed them.
            && code != Some(0)
        {
            self.replace_log_writer(index);
        }
    }

    fn find(&self, which: impl Fn(&AppRun) -> bool) -> Option<usize> {
        self.apps.iter().position(which)
    }

    async fn app_ended(&mut self, index: usize, code: Option<i32>) {
        let app = &mut self.apps[index];
        let name = app.name().clone();
        if let Some(running) = app.probe.take() {
            let _ = running.child.kill();
        }
        let oom = app.process.as_ref().is_some_and(|process| {
            let kills = process
                .cgroup
                .stats()
                .ok()
                .and_then(|stats| stats.oom_kills);
            kills.unwrap_or(0) > process.oom_kills_before
        });
        let ground = Ground {
            settings: &self.settings,
            tree: &self.tree,
        };
        for fault in launch::clear(&ground, &mut self.bridge.0, name.as_str()).await {
            tracing::warn!(app = %name, fault, "after its end");
        }
        let stopped = matches!(app.phase, Phase::Stopping { .. });
        app.ended(code, oom, Instant::now());
        let what = match stopped {
            true => "stopped".to_owned(),
            false => app.end_text(),
        };
        self.store_run_state();
        self.app_changed(&name, what);
    }

    pub(super) fn replace_log_writer(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let name = app.name().clone();
        let Some(process) = &mut app.process else {
            return;
        };
        process.log_writer = None;
        let Some(output) = &process.output else {
            return;
        };
        match logs::start_writer(output, &self.settings, &name) {
            Ok(pid) => {
                tracing::warn!(app = %name, "its log writer had ended; a new one goes on");
                process.log_writer = Some(pid);
            }
            Err(error) => tracing::error!(app = %name, %error, "its log ends here"),
        }
        self.store_run_state();
    }

    /// Opens the bridge and holds it against the apps that run.
    pub(super) async fn open_bridge(&mut self) {
        let live: Vec<_> = self
            .apps
            .iter()
            .filter_map(|app| {
                let endpoint = app.process.as_ref()?.endpoint.clone()?;
                Some((app.name().to_string(), endpoint))
            })
            .collect();
        let settings = &self.settings;
        let opened = Network::open(settings.network.clone(), &settings.config.state_dir);
        self.bridge.0 = match opened {
            Ok(mut network) => match network.reconcile(&live).await {
                Ok(done) => {
                    for name in done.without_link {
                        tracing::warn!(app = name, "it has lost its network and is started again");
                        if let Some(index) = self.find(|app| app.name().as_str() == name) {
                            self.apps[index].stop(Instant::now());
                        }
                    }
                    Ok(network)
                }
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &self.bridge.0 {
            tracing::error!(
                error,
                "the apps' bridge is not there; it is tried again with each start"
            );
        }
    }

    /// Deletes what was thrown away, one child at a time.
    pub(super) fn sweep(&mut self) {
        if self.sweeper.is_some() {
            return;
        }
        match crate::gc::sweep(&self.settings.config) {
            Ok(child) => self.sweeper = child.map(|child| child.pid),
            Err(error) => tracing::warn!(%error, "what was thrown away stays for now"),
        }
    }

    /// Writes down what a next supervisor needs to adopt what runs.
    pub(super) fn store_run_state(&self) {
        let running = |app: &AppRun| {
            let process = app.process.as_ref()?;
            Some(RunningApp {
                name: app.name().clone(),
                process: ProcessId::of(process.running.pid)?,
                stopping: matches!(app.phase, Phase::Stopping { .. }),
                log_writer: process.log_writer.and_then(ProcessId::of),
                output: process
                    .output
                    .as_ref()
                    .map_or([0; 2], |output| output.inodes()),
                endpoint: process.endpoint.clone(),
                started_at: app.started_at.unwrap_or_default(),
                restarts: app.restarts,
            })
        };
        let stopped = |app: &&AppRun| !app.wanted && self.machine == State::Idle;
        let state = RunState {
            set: self.active,
            apps: self.apps.iter().filter_map(running).collect(),
            stopped: self
                .apps
                .iter()
                .filter(stopped)
                .map(|app| app.name().clone())
                .collect(),
        };
        if let Err(error) = state.store(&self.run_state_file()) {
            tracing::error!(%error, "the list of running apps");
        }
    }
}

fn probe_pid(app: &AppRun) -> Option<i32> {
    app.probe.as_ref().map(|running| running.child.pid)
}

fn process(launched: Launched) -> Process {
    let stats = launched.cgroup.stats().unwrap_or_default();
    Process {
        running: launched.running,
        oom_kills_before: stats.oom_kills.unwrap_or(0),
        cgroup: launched.cgroup,
        endpoint: launched.endpoint,
        output: Some(launched.output),
        log_writer: Some(launched.log_writer),
        since: Instant::now(),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
