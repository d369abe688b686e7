//! Starts, probes and restarts the active set's apps, and writes down which run.

use super::Supervisor;
use super::hooks::companion;
use crate::adopt::RunningHook;
use crate::adopt::{ProcessId, RunState, RunningApp};
use crate::apps::launch::{self, Ground, Launched};
use crate::apps::plan::{Plan, hold_cpu};
use crate::apps::{AppRun, Phase, Process};
use crate::health::{Verdict, probe};
use crate::hooks;
use crate::users::{self, Users};
use coracle_protocol::release::{HookKind, Restart};
use coracle_runtime::namespaces::IdRange;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

impl Supervisor {
    /// Starts one app. An error is its reason, in words; nothing of the start remains then.
    pub(super) async fn start_app(&mut self, index: usize) -> Result<(), String> {
        self.apps[index].lacks = None;
        if self.settings.try_again() {
            self.plan_anew();
        }
        if self.apps[index].cpu_fault.is_some() {
            self.give_cpus();
        }
        if let Some(fault) = &self.apps[index].cpu_fault {
            return Err(fault.clone());
        }
        let mut plan = self.apps[index].plan.clone()?;
        hold_cpu(&mut plan.limits, self.cooling.quota(&self.apps[index].app));
        if self.waits_for_ports(index) {
            plan.ports.clear();
        }
        let app = &self.apps[index];
        let before = app.app.hook(HookKind::PreStart);
        let before = before.filter(|_| !app.prepared);
        let before = before.map(|(argv, timeout)| (argv.to_vec(), timeout));
        if let Some((argv, _)) = &before {
            plan.args.clone_from(argv);
            plan.is_hook = true;
        }
        self.prepare_networks(&plan).await;
        let host = plan.network_of.as_ref().map(|host| self.network_of(host));
        let netns = match host.transpose() {
            Ok(netns) => netns,
            Err(fault) => {
                self.apps[index].fault = Some(fault.clone());
                return Err(fault);
            }
        };
        let ids = match self.ids_for(index, &plan) {
            Ok(ids) => ids,
            Err(fault) => {
                self.apps[index].fault = Some(fault.clone());
                return Err(fault);
            }
        };
        let ground = Ground {
            settings: &self.settings,
            tree: &self.tree,
            netns,
            answering: &self.resolvers.answering(),
            ids,
        };
        let container = match self.apps[index].outgoing {
            true => self.current.as_ref().map(|set| set.digest().hex()),
            false => None,
        };
        let container = container.unwrap_or_else(|| self.container());
        let launched = launch::launch(&ground, &mut self.bridge.0, &plan, &container).await;
        let app = &mut self.apps[index];
        match launched {
            Ok(mut launched) => {
                let hook = before.zip(launched.companion.take());
                let process = process(launched);
                let what = match hook {
                    Some(((argv, timeout), companion)) => {
                        let hook = (&argv[..], timeout);
                        app.prepares(process, hooks::Running::in_container(hook, companion));
                        "pre_start runs"
                    }
                    None => {
                        app.started(process, unix_seconds());
                        app.settles();
                        "started"
                    }
                };
                let name = app.name().clone();
                self.share_names();
                self.store_run_state();
                self.app_changed(&name, what);
                Ok(())
            }
            Err(error) => {
                app.lacks = error.lacks().cloned();
                let fault = crate::apps::whole(&error);
                app.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// The ids that an app gets, when its users are its own.
    fn ids_for(&mut self, index: usize, plan: &Plan) -> Result<Option<IdRange>, String> {
        if plan.users != Users::Own {
            return Ok(None);
        }
        // The other one of the same app has the same ids.
        let name = self.apps[index].name();
        let others = self.apps.iter().filter(|app| app.name() != name);
        let running: Vec<IdRange> = others.filter_map(|app| app.process.as_ref()?.ids).collect();
        let ids = self.ranges.of(&plan.name, &running);
        ids.map(Some)
            .map_err(|error| format!("ids of its own: {error}"))
    }

    /// What tells the layers of one set from those of another.
    pub(super) fn container(&self) -> String {
        self.active.map(|set| set.hex()).unwrap_or_default()
    }

    /// Starts the apps whose time has come.
    pub(super) async fn start_due(&mut self, now: Instant) {
        for at in 0..self.order.len() {
            let index = self.order[at];
            let app = &self.apps[index];
            // One that was to go on and has ended is started with its set.
            if !app.wanted || app.kept || !matches!(app.phase, Phase::Waiting { at } if at <= now) {
                continue;
            }
            if let Some(later) = self.waits_for_host(index, now) {
                self.apps[index].phase = Phase::Waiting { at: later };
                continue;
            }
            if self.is_held(index) {
                continue;
            }
            let app = &mut self.apps[index];
            if app.in_a_row > 0 && !app.prepared {
                app.restarts += 1;
            }
            if let Err(fault) = self.start_app(index).await {
                let app = &mut self.apps[index];
                app.phase = Phase::Up;
                app.ended(None, false, Instant::now());
                let name = app.name().clone();
                self.device_watch.look_soon();
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
            if app.is_settling() || app.paused {
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

    pub(super) fn probed(&mut self, index: usize, result: Result<(), String>) {
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
        match unhealthy {
            true => app.unhealthy_in_a_row += 1,
            false => app.unhealthy_in_a_row = 0,
        }
        // In a trial it is the set's fault; later the app gets another chance, unless it wants none.
        if unhealthy && self.machine.is_settled() && app.app.restart != Restart::No {
            app.restarts += 1;
            app.stop(Instant::now());
        }
        self.app_changed(&name, what);
    }

    /// Writes down what a next supervisor needs to adopt what runs.
    pub(super) fn store_run_state(&self) {
        if self.is_recalling {
            return;
        }
        let running = |app: &AppRun| {
            // A hook in its place is ended by the next supervisor, which begins anew.
            let process = app.process.as_ref().filter(|_| !app.is_preparing())?;
            let hook = app.hook_kind().map(|kind| RunningHook {
                kind,
                companion: companion(app).and_then(ProcessId::of),
            });
            Some(RunningApp {
                hook,
                name: app.name().clone(),
                slot: (app.slot != app.name().as_str()).then(|| app.slot.clone()),
                outgoing: app.outgoing,
                process: ProcessId::of(process.running.pid)?,
                stopping: matches!(app.phase, Phase::Stopping { .. }),
                log_writer: process.log_writer.and_then(ProcessId::of),
                output: process
                    .output
                    .as_ref()
                    .map_or([0; 2], |output| output.inodes()),
                places: process.places.clone(),
                devices: process.devices.clone(),
                started_at: app.started_at.unwrap_or_default(),
                restarts: app.restarts,
                after: app.app.depends_on.keys().cloned().collect(),
            })
        };
        let stopped = |app: &&AppRun| !app.wanted && self.machine.is_settled();
        let own = self.apps.iter().filter(|app| !app.outgoing);
        let state = RunState {
            set: self.active,
            apps: self.apps.iter().filter_map(running).collect(),
            waiting: self.waited(),
            ended: own.filter_map(AppRun::has_ended).collect(),
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

fn process(launched: Launched) -> Process {
    let stats = launched.cgroup.stats().unwrap_or_default();
    Process {
        oom_kills_before: stats.oom_kills.unwrap_or(0),
        cgroup: launched.cgroup,
        places: launched.places,
        output: Some(launched.output),
        log_writer: Some(launched.log_writer),
        devices: launched.devices,
        held: None,
        late: None,
        ids: users::of_process(launched.running.pid),
        running: launched.running,
        since: Instant::now(),
    }
}

pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
