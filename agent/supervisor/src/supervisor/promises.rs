//! What apps are promised beside their limits: CPUs of their own, memory that is left to them.

use super::Supervisor;
use super::live::while_it_runs;
use crate::apps::AppRun;
use crate::apps::cpus::share_out;
use coracle_runtime::{Cgroup, Limits};

impl Supervisor {
    /// Where an app asks for CPUs of its own, each app is kept to its own or away from them. One that cannot have any cannot
    /// run; the others do. Asked again whenever such an app is to start: a CPU that was off may be back.
    pub(super) fn give_cpus(&mut self) {
        for run in &mut self.apps {
            if run.cpu_fault.take().is_some() {
                run.fault = None;
            }
        }
        let apps = self.apps.iter();
        let wanted: Vec<_> = apps
            .map(|run| (run.name(), run.app.limits.cpus_exclusive.unwrap_or(0)))
            .collect();
        if wanted.iter().all(|(_, count)| *count == 0) {
            return;
        }
        let cpus = self.tree.cpus();
        let cpus = cpus.ok_or_else(|| "this kernel has no cpuset controller".to_owned());
        match cpus.and_then(|cpus| share_out(&cpus, &wanted)) {
            Ok(shared) => {
                for (run, cpus) in self.apps.iter_mut().zip(shared) {
                    if let Ok(plan) = &mut run.plan {
                        plan.limits.cpuset_cpus = cpus;
                    }
                }
            }
            Err(fault) => {
                let fault = format!("CPUs of its own: {fault}");
                for run in &mut self.apps {
                    if run.app.limits.cpus_exclusive.is_some() {
                        run.cpu_fault = Some(fault.clone());
                        run.fault = Some(fault.clone());
                    }
                }
            }
        }
    }
}

impl AppRun {
    /// Of an app that was taken over: an earlier supervisor may have taken some of its CPU while the board was hot, may have known
    /// no promises, may have had another profile, whose limits it got where its release names none, and may have been cut while it
    /// gave the limits of another set.
    pub(super) fn keep_promises(&self, cgroup: &Cgroup) {
        let Ok(plan) = &self.plan else { return };
        let all = while_it_runs(&plan.limits);
        let memory = Limits {
            memory_bytes: all.memory_bytes,
            memory_swap_bytes: all.memory_swap_bytes,
            ..Limits::default()
        };
        let others = Limits {
            memory_bytes: None,
            memory_swap_bytes: None,
            cpuset_cpus: plan.limits.cpuset_cpus.clone(),
            ..all
        };
        // Memory by itself: it may be more by now than the limit is to be.
        for limits in [&others, &memory, &plan.weights] {
            if let Err(error) = cgroup.set_limits(limits) {
                tracing::warn!(app = %self.name(), %error, "some of its limits stay as they are");
            }
        }
    }
}
