//! What runs, for whoever asks.

use super::running::unix_seconds;
use super::volumes::disk_use;
use super::{Supervisor, networks};
use crate::apps::{AppRun, Phase, layer};
use crate::health::Verdict;
use crate::journal::DeployedSet;
use crate::machine::State;
use crate::stage;
use crate::trust::built_at;
use crate::users;
use coracle_board_support::{clock, vitals};
use coracle_protocol::local::Status;
use coracle_protocol::report::{
    AppPressure, AppState, AppStatus, DiskUse, Pressure, SetState, SetStatus, Stall,
};
use coracle_runtime::cgroup::{self, Pressures};

impl Supervisor {
    pub(super) async fn status(&self) -> Status {
        let mut current = self.active_set();
        self.add_traffic(&mut current).await;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: Some(self.own.status()),
            board: self.settings.facts.clone(),
            current,
            heat: self.cooling.status(),
            storage: self.wearing.status(),
            metered: self
                .settings
                .profile
                .network
                .metered()
                .map(str::to_owned)
                .collect(),
            networks: self.network_statuses(),
            previous: self
                .previous
                .as_ref()
                .map(|set| (set.digest(), set.release().version.clone())),
            last_failure: self.last_words.clone(),
            over_budget: self.over_budget.clone(),
            waiting: self.waiting_status(),
            layers: stage::on_board(&self.settings.config.layers_dir())
                .into_iter()
                .collect(),
            trust: Some(self.trust.state()),
            own_memory_bytes: vitals::own_memory(),
            decommissioned: self.decommissioned,
            resetting: self.resetting.is_some(),
        }
    }

    /// The set whose apps are the active ones.
    fn active_set(&self) -> Option<SetStatus> {
        let tried = self.trying.as_ref().map(|trying| &trying.set);
        let active = |set: &&DeployedSet| Some(set.digest()) == self.active;
        let set = tried
            .filter(active)
            .or(self.current.as_ref().filter(active))?;
        let committed = self
            .current
            .as_ref()
            .is_some_and(|current| current.digest() == set.digest());
        let own = self.apps.iter().filter(|app| !app.outgoing);
        Some(SetStatus {
            deployment: set.digest(),
            release: set.deployment().release().digest(),
            product: set.release().product.to_string(),
            version: set.release().version.clone(),
            state: match committed && self.machine != State::Trial {
                true => SetState::Committed,
                false => SetState::Trial,
            },
            stale_since: self.stale_since(set),
            apps: own.map(|app| self.app_status(app)).collect(),
        })
    }

    /// Nothing is decided by it: a clock counts here too, where the kernel says that somebody keeps it.
    fn stale_since(&self, set: &DeployedSet) -> Option<u64> {
        let seen = self.trust.seen().map(|seen| seen.time);
        let mut now = seen.unwrap_or_default().max(built_at());
        if clock::is_synchronised() {
            now = now.raised_to(unix_seconds());
        }
        let documents = set.deployment();
        let release = documents.release().document().expires;
        let expires = release.min(documents.deploy().document().expires);
        now.is_past(expires).then_some(expires)
    }

    /// Of its writable layer, where something limits it.
    fn layer_use(&self, run: &AppRun) -> Option<DiskUse> {
        let used = layer::place(&self.settings.config, &run.slot).usage();
        let used = used.ok().filter(|used| used.limit.is_some())?;
        Some(disk_use(used))
    }

    fn app_status(&self, run: &AppRun) -> AppStatus {
        let app = &run.app;
        // Of a hook in its place nothing is told but that it runs.
        let process = run.process.as_ref().filter(|_| !run.is_preparing());
        let used = process
            .and_then(|process| process.cgroup.stats().ok())
            .unwrap_or_default();
        let tracker = run.tracker.as_ref();
        let health_text = tracker
            .and_then(|tracker| tracker.text())
            .or(run.fault.as_deref());
        AppStatus {
            name: app.name.clone(),
            image: app.image.name.clone(),
            image_manifest: app.image.manifest.digest,
            state: match run.phase {
                Phase::Created | Phase::Preparing => AppState::Created,
                Phase::Up | Phase::Stopping { .. } => AppState::Running,
                Phase::Waiting { .. } => AppState::Restarting,
                Phase::Ended => AppState::Exited,
            },
            paused: run.paused,
            exit_code: run.exit_code,
            oom_killed: run.oom_killed,
            restarts: run.restarts,
            healthy: app
                .health
                .as_ref()
                .map(|_| tracker.is_some_and(|tracker| tracker.verdict() == Verdict::Healthy)),
            health_text: health_text.map(str::to_owned),
            waiting_for: run.held.clone().or_else(|| {
                if let Some(kind) = run.hook_kind() {
                    return Some(format!("{kind} runs"));
                }
                Some(process?.late.as_ref()?.to_string())
            }),
            pid: process.and_then(|process| process.running.pid.try_into().ok()),
            started_at: run.started_at,
            ip: process.and_then(|process| Some(process.places.first()?.endpoint.ip)),
            networks: process.map_or_else(Vec::new, networks::place_statuses),
            network_mode: networks::mode(&app.network),
            network_of: app.network.container.clone(),
            ports: app.network.ports.clone(),
            args: run
                .plan
                .as_ref()
                .map_or_else(|_| app.args.clone(), |plan| plan.args.clone()),
            init: app.init,
            limits: app.limits.clone(),
            cgroup: process.map(|_| format!("{}/{}", self.settings.config.cgroup_parent, run.slot)),
            memory_bytes: used.memory_bytes,
            cpu_usage_us: used.cpu_micros,
            pids: used.pids,
            pressure: process.and_then(|process| pressure(process.cgroup.pressures())),
            disk: self.layer_use(run),
            users: process.map(|process| {
                let planned = run.plan.as_ref().ok().map(|plan| &plan.users);
                users::status(process.ids, planned)
            }),
            cpus: process.and_then(|_| run.plan.as_ref().ok()?.limits.cpuset_cpus.clone()),
            cpu_percent: process.and_then(|_| self.cooling.percent(run)),
            devices: self.device_statuses(run),
        }
    }
}

/// Where the kernel tells it.
fn pressure(seen: Pressures) -> Option<AppPressure> {
    let stall = |stall: cgroup::Stall| Stall {
        avg10_hundredths: stall.avg10_hundredths,
        total_us: stall.total_micros,
    };
    let of = |pressure: cgroup::Pressure| Pressure {
        some: stall(pressure.some),
        full: pressure.full.map(stall),
    };
    let told = AppPressure {
        cpu: seen.cpu.map(of),
        memory: seen.memory.map(of),
        io: seen.io.map(of),
    };
    (!told.is_none()).then_some(told)
}
