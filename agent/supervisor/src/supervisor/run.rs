//! The one loop: what is due, what was heard, and the end.

use super::{Supervisor, SupervisorError, actions, transfers};
use crate::anew::{self, Next, Program};
use crate::apps::AppRun;
use crate::notify::Notify;
use crate::settings::Settings;
use crate::socket;
use coracle_board_support::config::Config;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

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
            .chain(self.copier.due())
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
