//! Apps that go on while the set changes: where a release changes numbers of an app's limits and nothing else of it, its
//! process stays, and so do those of apps that it does not change at all. A release that changes no limit starts all apps anew.
//!
//! The trial is on disk by then ([`crate::machine`]): from the moment on at which the old set's apps are told to end, those that
//! go on have the lower ones of both sets' limits, since what others hold is not free yet, and those of the set that comes once
//! it is their set. A supervisor that finds the old set's apps gives them the old ones back when it adopts them. Whom the kernel
//! refuses lower ones ends with the others and is started anew. A roll-back is the same the other way round.

use super::Supervisor;
use crate::apps::plan::hold_cpu;
use crate::apps::{AppRun, Phase, layer};
use crate::health::{Tracker, Verdict};
use crate::journal::DeployedSet;
use crate::offer::data;
use crate::volumes::Volumes;
use coracle_board_support::config::Config;
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::{App, Release};
use coracle_runtime::Limits;
use coracle_runtime::cgroup::{Devices, IoLimit};
use std::collections::BTreeMap;
use std::time::Instant;

/// What of an app's limits the kernel changes while it runs. Not its CPUs, which are the other apps' too, nor devices.
pub(super) fn while_it_runs(limits: &Limits) -> Limits {
    Limits {
        cpuset_cpus: None,
        devices: Devices::All,
        ..limits.clone()
    }
}

/// Whether nothing else of an app is another than numbers that can be changed while it runs.
fn differ_in_limits_alone(old: &App, new: &App) -> bool {
    let mut as_old = new.clone();
    let (limits, had) = (&mut as_old.limits, &old.limits);
    limits.memory_bytes = had.memory_bytes;
    limits.memory_min_bytes = had.memory_min_bytes;
    limits.memory_reservation_bytes = had.memory_reservation_bytes;
    limits.memory_swap_bytes = had.memory_swap_bytes;
    limits.cpu_millis = had.cpu_millis;
    limits.cpu_burst_micros = had.cpu_burst_micros;
    limits.pids = had.pids;
    limits.io_read_bytes_per_second = had.io_read_bytes_per_second;
    limits.io_write_bytes_per_second = had.io_write_bytes_per_second;
    limits.io_read_operations_per_second = had.io_read_operations_per_second;
    limits.io_write_operations_per_second = had.io_write_operations_per_second;
    as_old == *old
}

/// Whether both limit the same: one that is no more would stay.
fn limit_the_same(old: &Limits, new: &Limits) -> bool {
    let named = |limits: &Limits| {
        [
            limits.memory_swap_bytes.is_some(),
            limits.memory_min_bytes.is_some(),
            limits.memory_reservation_bytes.is_some(),
            limits.cpu_burst_micros.is_some(),
        ]
    };
    let rates = |io: &IoLimit| {
        let rates = [
            io.read_bytes_per_second.is_some(),
            io.write_bytes_per_second.is_some(),
            io.read_operations_per_second.is_some(),
            io.write_operations_per_second.is_some(),
        ];
        (io.major, io.minor, rates)
    };
    named(old) == named(new) && old.io.iter().map(rates).eq(new.io.iter().map(rates))
}

/// The lower ones of two that limit the same.
fn lower_of(one: &Limits, other: &Limits) -> Limits {
    let least = |of: fn(&Limits) -> Option<u64>| of(one).into_iter().chain(of(other)).min();
    let rates = one.io.iter().zip(&other.io).map(|(one, other)| {
        let least = |of: fn(&IoLimit) -> Option<u64>| of(one).into_iter().chain(of(other)).min();
        IoLimit {
            read_bytes_per_second: least(|io| io.read_bytes_per_second),
            write_bytes_per_second: least(|io| io.write_bytes_per_second),
            read_operations_per_second: least(|io| io.read_operations_per_second),
            write_operations_per_second: least(|io| io.write_operations_per_second),
            ..*one
        }
    });
    Limits {
        memory_bytes: least(|limits| limits.memory_bytes),
        memory_swap_bytes: least(|limits| limits.memory_swap_bytes),
        memory_min_bytes: least(|limits| limits.memory_min_bytes),
        memory_reservation_bytes: least(|limits| limits.memory_reservation_bytes),
        cpu_millis: least(|limits| limits.cpu_millis),
        cpu_burst_micros: least(|limits| limits.cpu_burst_micros),
        pids: least(|limits| limits.pids),
        io: rates.collect(),
        ..one.clone()
    }
}

fn takes_cpus(release: &Release) -> bool {
    let mut apps = release.apps.iter();
    apps.any(|app| app.limits.cpus_exclusive.is_some())
}

/// Whether the networks that an app is on are the same ones.
fn on_same_networks(app: &App, old: &Release, new: &Release) -> bool {
    app.network.networks.iter().all(|on| {
        let spec = |release: &Release| {
            let mut specs = release.networks.iter();
            specs.find(|spec| spec.name == on.name).cloned()
        };
        spec(old) == spec(new)
    })
}

impl Supervisor {
    /// Chooses them among the active apps, whose set is about to end for the other one of the deployment, and gives them their
    /// limits.
    pub(super) fn choose_kept(&mut self, back: bool) {
        let tried = self.trying.as_ref().map(|trying| &trying.set);
        let (old, new) = match (back, self.current.as_ref(), tried) {
            (false, Some(current), Some(tried)) => (current, tried),
            (true, Some(current), Some(tried)) => (tried, current),
            _ => return,
        };
        if self.active != Some(old.digest()) || self.resetting.is_some() {
            return;
        }
        let mut wanted = self.could_stay(old, new);
        let has_all = |run: &AppRun, kept: &BTreeMap<AppName, Limits>| {
            let app = &run.app;
            let needed = app.depends_on.keys().chain(&app.network.container);
            needed.into_iter().all(|name| kept.contains_key(name))
        };
        let mut given: Vec<AppName> = Vec::new();
        loop {
            // Whoever is stopped is stopped after those that need it.
            let lost = self
                .apps
                .iter()
                .find(|run| wanted.contains_key(run.name()) && !has_all(run, &wanted));
            if let Some(name) = lost.map(|run| run.name().clone()) {
                wanted.remove(&name);
                continue;
            }
            let next = self.apps.iter().find_map(|run| {
                let limits = wanted.get(run.name())?;
                let process = run.process.as_ref()?;
                (!given.contains(run.name())).then_some((run.name(), limits, process))
            });
            let Some((name, limits, process)) = next else {
                break;
            };
            let name = name.clone();
            if let Err(error) = process.cgroup.set_limits(limits) {
                tracing::info!(app = %name, %error, "its new limits cannot be set while it runs; it is started anew");
                wanted.remove(&name);
            } else {
                given.push(name);
            }
        }
        for run in &mut self.apps {
            run.kept = wanted.contains_key(run.name());
        }
    }

    /// With the limits that each is to have meanwhile; none at all where no limit is another.
    fn could_stay(&self, old: &DeployedSet, new: &DeployedSet) -> BTreeMap<AppName, Limits> {
        let mut could = BTreeMap::new();
        let (was, is) = (old.release(), new.release());
        if takes_cpus(was) || takes_cpus(is) {
            return could;
        }
        let mut changed = false;
        let Ok(converted) = data::conversions(is, &self.settings) else {
            return could;
        };
        let volumes = Volumes::of(&self.settings);
        for run in self.apps.iter().filter(|run| is_well(run)) {
            let mut mounts = run.app.volumes.iter();
            let is_converted = |name: &VolumeName| converted.iter().any(|(one, _)| one == name);
            if mounts.any(|on| is_converted(&on.name) || volumes.has_copy(&on.name)) {
                continue;
            }
            // The old set's own process serves on, and is the one that goes on when that set is back.
            let beside = |other: &AppRun| other.outgoing && !other.is_down();
            let mut others = self.apps.iter();
            if others.any(|other| beside(other) && other.name() == run.name()) {
                continue;
            }
            let mut apps = new.apps();
            let Some((app, image)) = apps.find(|(app, _)| app.name == run.app.name) else {
                continue;
            };
            if !differ_in_limits_alone(&run.app, app) || !on_same_networks(app, was, is) {
                continue;
            }
            if let (Ok(own), Ok(plan)) = (&run.plan, self.plan(new, app, image))
                && own.secrets == plan.secrets
                && limit_the_same(&own.limits, &plan.limits)
            {
                changed |= run.app.limits != app.limits;
                let [had, has] = [(own, &*run.app), (&plan, app)].map(|(plan, app)| {
                    let mut limits = while_it_runs(&plan.limits);
                    hold_cpu(&mut limits, self.cooling.quota(app));
                    limits
                });
                could.insert(app.name.clone(), lower_of(&had, &has));
            }
        }
        match changed {
            true => could,
            false => BTreeMap::new(),
        }
    }

    /// Out of the active apps, with those that have ended meanwhile: they are started with their set.
    pub(super) fn take_kept(&mut self) -> Vec<AppRun> {
        let kept = self.apps.extract_if(.., |run| run.kept);
        kept.collect()
    }

    /// They are the active set's now.
    pub(super) fn go_on_with(&mut self, kept: Vec<AppRun>, now: Instant) {
        let container = self.container();
        for old in kept.into_iter().filter(|run| !run.is_down()) {
            let name = old.name().clone();
            let Some(at) = self.find(|run| !run.outgoing && run.is_down() && *run.name() == name)
            else {
                continue;
            };
            let quota = self.cooling.quota(&self.apps[at].app);
            let run = &mut self.apps[at];
            run.go_on_from(old, now);
            run.have_limits(quota, now);
            run.keep_layer(&self.settings.config, &container);
            self.app_changed(&name, "goes on with the limits of the other set");
        }
        self.store_run_state();
    }
}

impl AppRun {
    /// Its process is one of its set now, and has all that the set gives it.
    fn have_limits(&mut self, quota_millis: u32, now: Instant) {
        let (Some(process), Ok(plan)) = (&mut self.process, &self.plan) else {
            return;
        };
        let mut limits = Limits {
            memory_bytes: None,
            memory_swap_bytes: None,
            ..while_it_runs(&plan.limits)
        };
        hold_cpu(&mut limits, quota_millis);
        if let Err(error) = process.cgroup.set_limits(&limits) {
            tracing::warn!(app = %self.app.name, %error, "it keeps the lower limits of both sets");
        }
        process.late = None;
        process.have_memory(plan, now);
    }

    /// Its writable layer is the set's to which it belongs now.
    pub(super) fn keep_layer(&self, config: &Config, container: &str) {
        if let Err(error) = layer::keep(config, &self.slot, container) {
            tracing::warn!(app = %self.name(), %error, "its writable layer is not kept over its next start");
        }
    }
}

/// It runs, and nothing speaks for starting it anew.
fn is_well(run: &AppRun) -> bool {
    let unhealthy = run.tracker.as_ref().map(Tracker::verdict) == Some(Verdict::Unhealthy);
    run.phase == Phase::Up
        && run.wanted
        && !run.outgoing
        && !run.paused
        && run.hook.is_none()
        && run.in_a_row == 0
        && run.unhealthy_in_a_row == 0
        && !unhealthy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::tests::plain_app;

    #[test]
    fn a_limit_that_the_kernel_changes_and_no_other_field() {
        let old = plain_app();
        let with = |change: fn(&mut App)| {
            let mut new = old.clone();
            change(&mut new);
            differ_in_limits_alone(&old, &new)
        };
        assert!(with(|_| ()));
        assert!(with(|app| app.limits.memory_bytes += 1));
        assert!(with(|app| app.limits.cpu_millis += 1));
        assert!(with(|app| app.limits.pids += 1));
        assert!(with(|app| app.limits.cpu_burst_micros = Some(1)));
        assert!(with(|app| app.limits.memory_swap_bytes = Some(1)));
        assert!(with(|app| app.limits.io_read_bytes_per_second = Some(1)));
        for other in [
            (|app| app.limits.open_files = Some(7)) as fn(&mut App),
            |app| app.limits.disk_bytes = Some(7),
            |app| app.limits.cpus_exclusive = Some(1),
            |app| app.args.push("x".into()),
            |app| app.limits.oom_group = true,
            |app| app.priority += 1,
            |app| app.stop_grace_seconds += 1,
        ] {
            assert!(!with(other));
        }
    }

    #[test]
    fn until_it_is_its_set_nobody_has_more_than_both_sets_give() {
        let of = |memory, burst, rate| Limits {
            memory_bytes: Some(memory),
            cpu_burst_micros: burst,
            io: vec![IoLimit {
                major: 8,
                read_bytes_per_second: Some(rate),
                ..IoLimit::default()
            }],
            ..Limits::default()
        };
        let lower = lower_of(&of(3, Some(9), 40), &of(4, Some(8), 30));
        assert_eq!(lower, of(3, Some(8), 30));
        assert_eq!(lower_of(&of(4, None, 1), &of(4, None, 1)), of(4, None, 1));
    }

    #[test]
    fn a_limit_that_comes_or_goes_is_no_number() {
        let rate = |bytes| IoLimit {
            read_bytes_per_second: bytes,
            ..IoLimit::default()
        };
        let of = |min, bytes| Limits {
            memory_min_bytes: min,
            io: vec![rate(bytes)],
            ..Limits::default()
        };
        assert!(limit_the_same(&of(Some(1), Some(2)), &of(Some(3), Some(4))));
        assert!(!limit_the_same(&of(Some(1), Some(2)), &of(None, Some(2))));
        assert!(!limit_the_same(&of(None, None), &of(None, Some(2))));
        let none = Limits::default();
        assert!(!limit_the_same(&none, &of(None, None)));
    }
}
