//! What apps are promised beside their limits: CPUs of their own, memory that is left to them.

use super::Supervisor;
use super::live::while_it_runs;
use crate::apps::cpus::share_out;
use crate::apps::{AppRun, Process};
use coracle_runtime::Limits;
use std::time::Instant;

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

impl Supervisor {
    /// Tries again what the kernel refused apps that go on.
    pub(super) fn lower_memory(&mut self, now: Instant) {
        let mut told = Vec::new();
        // One between two sets has the lower limits of both for now.
        for run in self.apps.iter_mut().filter(|run| !run.kept) {
            let (Some(process), Ok(plan)) = (&mut run.process, &run.plan) else {
                continue;
            };
            if process.late_due().is_some_and(|at| at <= now) {
                process.have_memory(plan, now);
                let what = match &process.late {
                    None => "has its memory limit now".to_owned(),
                    Some(late) if late.is_left() => late.to_string(),
                    Some(_) => continue,
                };
                told.push((run.app.name.clone(), what));
            }
        }
        for (name, what) in told {
            self.app_changed(&name, what);
        }
    }

    pub(super) fn memory_due(&self) -> Option<Instant> {
        // As above: what is passed over there must not be due for ever.
        let running = self.apps.iter().filter(|run| !run.kept && run.plan.is_ok());
        let processes = running.filter_map(|run| run.process.as_ref());
        processes.filter_map(Process::late_due).min()
    }
}

impl AppRun {
    /// Of an app that was taken over: an earlier supervisor may have taken some of its CPU while the board was hot, may have known
    /// no promises, may have had another profile, whose limits it got where its release names none, and may have been cut while it
    /// gave the limits of another set.
    pub(super) fn keep_promises(&self, process: &mut Process) {
        let Ok(plan) = &self.plan else { return };
        let all = while_it_runs(&plan.limits);
        let others = Limits {
            memory_bytes: None,
            memory_swap_bytes: None,
            cpuset_cpus: plan.limits.cpuset_cpus.clone(),
            ..all
        };
        let cgroup = &process.cgroup;
        let given = [
            cgroup.end_others(&plan.limits),
            cgroup.set_limits(&others),
            cgroup.set_limits(&plan.weights),
        ];
        for error in given.into_iter().filter_map(Result::err) {
            tracing::warn!(app = %self.name(), %error, "some of its limits stay as they are");
        }
        // Memory by itself: it may be more by now than the limit is to be.
        process.have_memory(plan, Instant::now());
    }
}
