//! An app's hooks: when one is due, and what its end means for the app.

use super::{AppRun, Phase, Process};
use crate::hooks::{ContainerEnd, Hook, Running};
use coracle_protocol::release::HookKind;
use coracle_runtime::Child;
use std::time::{Duration, Instant};

/// What an earlier supervisor left of a hook.
#[derive(Debug)]
pub struct LeftHook {
    /// Which.
    pub kind: HookKind,
    /// It was executed.
    pub begun: bool,
    /// Its companion, when that lives.
    pub companion: Option<Child>,
}

impl AppRun {
    /// The hook that runs.
    pub fn running_hook(&self) -> Option<&Running> {
        match &self.hook {
            Some(Hook::Runs(running)) => Some(running),
            _ => None,
        }
    }

    /// Which hook is due or runs.
    pub fn hook_kind(&self) -> Option<HookKind> {
        self.hook.as_ref().map(|hook| match hook {
            Hook::Due(kind) => *kind,
            Hook::Runs(running) => running.kind,
        })
    }

    /// Its process, if any, is a `pre_start`.
    pub fn is_preparing(&self) -> bool {
        self.hook_kind() == Some(HookKind::PreStart)
    }

    /// It runs, and its `post_start` has not ended yet.
    pub fn is_settling(&self) -> bool {
        self.hook_kind() == Some(HookKind::PostStart)
    }

    /// The container of its `pre_start` was started.
    pub fn prepares(&mut self, process: Process, hook: Running) {
        self.process = Some(process);
        self.phase = Phase::Preparing;
        self.hook = Some(Hook::Runs(hook));
        self.hook_failed = false;
        self.ended_fine = None;
        self.held = None;
    }

    /// It runs: what comes after the start is due.
    pub fn settles(&mut self) {
        let has_one = self.app.hook(HookKind::PostStart).is_some();
        self.hook = has_one.then_some(Hook::Due(HookKind::PostStart));
    }

    /// What comes after the start has succeeded: probes begin, as of an app that was started now.
    pub fn settled(&mut self, now: Instant) {
        self.hook = None;
        self.track(now);
    }

    /// A hook around its start has failed: what runs is ended, and it counts as an end that was none of a success.
    pub fn hook_fails(&mut self, text: String, end: ContainerEnd, now: Instant) {
        self.fault = Some(text);
        self.hook_failed = true;
        self.hook = None;
        match self.phase {
            Phase::Up => self.begin_end(now),
            Phase::Preparing => self.ended(end.code, end.oom_killed, now),
            _ => {}
        }
    }

    /// Begins its end: the hook before it, or the stop signal at once.
    pub(super) fn begin_end(&mut self, now: Instant) {
        let has_run = self.phase == Phase::Up && !self.is_settling() && !self.hook_failed;
        let has_one = self.app.hook(HookKind::PreStop).is_some();
        self.wake();
        self.await_end(now);
        match has_run && has_one {
            true => self.hook = Some(Hook::Due(HookKind::PreStop)),
            false => self.tell_to_end(),
        }
    }

    fn await_end(&mut self, now: Instant) {
        let grace = Duration::from_secs(self.app.stop_grace_seconds.into());
        self.phase = Phase::Stopping {
            kill_at: Some(now + grace),
        };
    }

    /// It was adopted: the hook of an earlier supervisor goes on, is executed again or is over.
    pub fn go_on_with(&mut self, left: Option<LeftHook>, stopping: bool, now: Instant) {
        if stopping {
            self.wake();
        }
        let companion = |run: &Self, kind, companion| {
            let hook = run.app.hook(kind)?;
            Some(Hook::Runs(Running::adopted(kind, hook, companion?)))
        };
        match (left, stopping) {
            (None, false) => {}
            (Some(left), false) if left.kind == HookKind::PostStart => {
                let runs = companion(self, left.kind, left.companion);
                // Whether one that has ended did well nobody saw.
                self.hook = runs.or(Some(Hook::Due(left.kind)));
            }
            (Some(left), true) if left.kind == HookKind::PreStop => {
                self.await_end(now);
                self.hook = match (left.begun, companion(self, left.kind, left.companion)) {
                    (false, _) => Some(Hook::Due(left.kind)),
                    (true, Some(runs)) => Some(runs),
                    (true, None) => return self.tell_to_end(),
                };
            }
            (_, true) => {
                // Told once more, so that this supervisor too knows that its end is no fault of the app.
                self.await_end(now);
                self.tell_to_end();
            }
            (Some(_), false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plain_app;
    use super::*;
    use coracle_protocol::release::{Condition, Hooks, Restart};

    fn run(restart: Restart) -> AppRun {
        let hook = |name: &str| coracle_protocol::release::Hook {
            argv: vec![name.to_owned()],
            timeout_seconds: None,
        };
        let mut app = plain_app();
        app.restart = restart;
        app.hooks = Hooks {
            pre_start: Some(hook("/a")),
            post_start: Some(hook("/b")),
            pre_stop: Some(hook("/c")),
        };
        AppRun::new(app.into(), Err("no plan in this test".into()))
    }

    const NO_END: ContainerEnd = ContainerEnd {
        code: Some(3),
        oom_killed: false,
    };

    #[test]
    fn a_hook_before_the_start_that_fails_is_a_failed_start() {
        let now = Instant::now();
        let mut app = run(Restart::Always);
        app.phase = Phase::Preparing;
        app.hook_fails("pre_start".into(), NO_END, now);
        let at = now + Duration::from_secs(1);
        assert_eq!((app.phase, app.in_a_row), (Phase::Waiting { at }, 1));
        assert!(app.hook_failed && app.end_text() == "pre_start");

        let mut once = run(Restart::No);
        once.phase = Phase::Preparing;
        once.hook_fails("pre_start".into(), NO_END, now);
        assert_eq!((once.phase, once.ended_fine), (Phase::Ended, Some(false)));
    }

    #[test]
    fn a_hook_after_the_start_that_fails_ends_the_app_and_is_marked_against_it() {
        let now = Instant::now();
        let mut app = run(Restart::OnFailure);
        app.phase = Phase::Up;
        app.settles();
        assert!(app.is_settling());
        app.hook_fails("post_start".into(), NO_END, now);
        // No hook before the stop of one that never came up.
        assert!(matches!(app.phase, Phase::Stopping { .. }) && app.hook.is_none());
        // With success by its own word, which does not count.
        app.ended(Some(0), false, now);
        let at = now + Duration::from_secs(1);
        assert_eq!((app.phase, app.in_a_row), (Phase::Waiting { at }, 1));
    }

    #[test]
    fn the_hook_before_a_stop_comes_once_and_within_the_grace() {
        let now = Instant::now();
        let mut app = run(Restart::Always);
        app.phase = Phase::Up;
        app.begin_end(now);
        assert_eq!(app.hook_kind(), Some(HookKind::PreStop));
        let kill_at = Some(now + Duration::from_secs(10));
        assert_eq!(app.phase, Phase::Stopping { kill_at });
        app.hook = None;
        app.stop(now + Duration::from_secs(5));
        assert_eq!(
            (app.phase, app.hook_kind()),
            (Phase::Stopping { kill_at }, None)
        );

        let mut early = run(Restart::Always);
        early.phase = Phase::Up;
        early.settles();
        early.begin_end(now);
        assert_eq!(
            early.hook_kind(),
            Some(HookKind::PostStart),
            "its end is the container's"
        );
    }

    #[test]
    fn a_next_supervisor_knows_what_is_still_to_be_done() {
        let now = Instant::now();
        let left = |kind, begun| {
            Some(LeftHook {
                kind,
                begun,
                companion: None,
            })
        };
        for begun in [false, true] {
            let mut app = run(Restart::Always);
            app.phase = Phase::Up;
            app.go_on_with(left(HookKind::PostStart, begun), false, now);
            assert!(app.is_settling(), "again: nobody saw how it ended");
            let mut app = run(Restart::Always);
            app.phase = Phase::Up;
            app.go_on_with(left(HookKind::PreStop, begun), true, now);
            assert!(matches!(app.phase, Phase::Stopping { .. }));
            assert_eq!(app.hook.is_some(), !begun);
        }
        let mut app = run(Restart::Always);
        app.phase = Phase::Up;
        app.go_on_with(left(HookKind::PostStart, true), true, now);
        assert!(matches!(app.phase, Phase::Stopping { .. }) && app.hook.is_none());
    }

    #[test]
    fn an_app_has_started_once_what_comes_after_the_start_has_ended_well() {
        let now = Instant::now();
        let mut app = run(Restart::Always);
        app.phase = Phase::Up;
        app.settles();
        assert!(!app.meets(Condition::Started));
        assert_eq!(app.not_proven(), Some(Ok(())), "too early to say");
        app.settled(now);
        assert!(app.meets(Condition::Started) && app.not_proven().is_none());
    }

    #[test]
    fn a_stop_while_the_start_is_prepared_ends_it_and_a_restart_begins_anew() {
        let now = Instant::now();
        for wanted in [true, false] {
            let mut app = run(Restart::No);
            // Its container has ended, and its companion has not.
            (app.phase, app.wanted) = (Phase::Preparing, wanted);
            app.stop(now);
            let expected = match wanted {
                true => Phase::Waiting { at: now },
                false => Phase::Ended,
            };
            assert_eq!((app.phase, app.hook.is_none()), (expected, true));
        }
    }
}
