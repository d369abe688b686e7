//! What ends: children of every kind, and apps that were adopted.

use super::Supervisor;
use super::actions::ActionJob;
use super::execs::ExecJob;
use super::hooks::companion;
use super::transfers::TransferJob;
use crate::adopt::AdoptedEnd;
use crate::apps::launch::{self, Ground};
use crate::apps::{AppRun, Phase};
use crate::hooks::{ContainerEnd, Hook};
use coracle_runtime::{Exit, reap_all};
use std::time::Instant;

impl Supervisor {
    /// Children that have ended: apps, probes, log writers, unpacking, sweeping.
    pub(super) async fn reap(&mut self) {
        for (pid, exit) in reap_all() {
            self.child_ended(pid, exit).await;
        }
    }

    async fn child_ended(&mut self, pid: i32, exit: Exit) {
        if let Some(job) = self.staging.take_if(|job| job.staging.pid() == pid) {
            self.staged(job, exit);
        } else if self.transfer.as_ref().and_then(TransferJob::pid) == Some(pid) {
            self.transfer_ended(exit);
        } else if self.copier.pid() == Some(pid) {
            self.copier.ended(exit);
        } else if self.checks.pid() == Some(pid) {
            self.checked(exit);
        } else if let Some(job) = self.action.take_if(|job| job.pid() == pid) {
            job.ended(exit);
        } else if let Some(at) = self.execs.iter().position(|job| job.pid() == pid) {
            self.execs.swap_remove(at).ended(exit);
        } else if let Some(at) = self.looks.iter().position(|(look, _)| look.pid() == pid) {
            self.looked(at);
        } else if self.sweeper == Some(pid) {
            self.sweeper = None;
            // What was thrown away since it looked.
            if std::mem::take(&mut self.sweep_again) {
                self.sweep();
            }
            if !exit.success() {
                tracing::warn!(
                    ?exit,
                    "not everything that was thrown away could be deleted"
                );
            }
        } else if self.resolvers.ended(pid) {
            tracing::warn!(pid, ?exit, "a resolver has ended");
        } else if let Some(index) = self.find(|app| probe_pid(app) == Some(pid)) {
            if let Some(running) = self.apps[index].probe.take() {
                self.probed(index, running.result(exit.success(), exit.shell_code()));
            }
        } else {
            self.process_ended(pid, Some(exit.shell_code())).await;
        }
    }

    /// Before this process is executed anew: of its children only the apps, the writer of their logs and the companions of hooks
    /// that run in them stay, which the next program finds in the record, whoever waits for an action, which ends it in its
    /// time, and whoever stands between a person and an exec, which ends with either.
    pub(super) fn end_companions(&self) {
        let recorded = self.apps.iter().filter(|app| !app.is_preparing());
        let of_app = |app: &AppRun| {
            let process = app.process.as_ref()?;
            Some([
                Some(process.running.pid),
                process.log_writer,
                companion(app),
            ])
        };
        let apps = recorded.filter_map(of_app).flatten().flatten();
        let action = self.action.as_ref().map(ActionJob::pid);
        let execs = self.execs.iter().map(ExecJob::pid);
        let kept: Vec<i32> = apps.chain(action).chain(execs).collect();
        for pid in crate::adopt::children() {
            if !kept.contains(&pid)
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                // One that has ended is waited for by the next program.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    pub(super) async fn adopted_ended(&mut self, end: AdoptedEnd) {
        self.process_ended(end.pid, end.code).await;
    }

    async fn process_ended(&mut self, pid: i32, code: Option<i32>) {
        let main = |app: &AppRun| app.process.as_ref().is_some_and(|p| p.running.pid == pid);
        if let Some(index) = self.find(main) {
            self.app_ended(index, code).await;
        } else if let Some(index) = self.find(|app| companion(app) == Some(pid)) {
            self.companion_ended(index, code);
        } else if code != Some(0) {
            // 0: all pipes have ended, because the apps have, or have closed them.
            self.log_writer_ended(pid, Instant::now());
        }
    }

    pub(super) fn find(&self, which: impl Fn(&AppRun) -> bool) -> Option<usize> {
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
            netns: None,
            answering: &[],
            ids: None,
        };
        for fault in launch::clear(&ground, &mut self.bridge.0, &app.slot).await {
            tracing::warn!(app = %name, fault, "after its end");
        }
        self.following.look_soon();
        let app = &mut self.apps[index];
        let now = Instant::now();
        if app.phase == Phase::Preparing
            && let Some(Hook::Runs(running)) = &mut app.hook
        {
            let end = ContainerEnd {
                code,
                oom_killed: oom,
            };
            running.container_ended(end, now);
            app.process = None;
            self.share_names();
            return self.prepared(index, now);
        }
        // What still waits for a hook has nobody to tell.
        if let Some(Hook::Runs(running)) = app.hook.take() {
            running.leave();
        }
        let stopped = matches!(app.phase, Phase::Stopping { .. }) && !app.hook_failed;
        app.ended(code, oom, now);
        let what = match stopped {
            true => "stopped".to_owned(),
            false => app.end_text(),
        };
        self.stop_guests(&name);
        self.share_names();
        self.store_run_state();
        self.app_changed(&name, what);
    }

    /// Deletes what was thrown away, one child at a time.
    pub(super) fn sweep(&mut self) {
        if self.sweeper.is_some() {
            self.sweep_again = true;
            return;
        }
        match crate::gc::sweep(&self.settings.config) {
            Ok(child) => self.sweeper = child.map(|child| child.pid),
            Err(error) => tracing::warn!(%error, "what was thrown away stays for now"),
        }
    }
}

fn probe_pid(app: &AppRun) -> Option<i32> {
    app.probe.as_ref().map(|running| running.child.pid)
}
