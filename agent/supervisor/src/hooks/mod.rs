//! Programs of an app's own around its start and its end.
//!
//! | hook | where it runs | what executes it |
//! |---|---|---|
//! | `pre_start` | in a container like the app's, in its place | the supervisor, as it starts the app |
//! | `post_start`, `pre_stop` | in the app's container | its companion, as an exec probe's child does |
//!
//! Beside each stands a companion, a child of the supervisor: it passes what the hook says on to the app's log and keeps the last of
//! it for whoever asks how the hook ended. It waits where the supervisor must not: for a program of the app's, and for a log on a slow disk.

mod companion;
mod words;

pub use companion::{Companion, between};

use crate::health::probe::Target;
use crate::logs::Output;
use coracle_protocol::release::HookKind;
use coracle_runtime::Child;
use std::fs::File;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

/// A companion ends a hook itself, and tells what it said; the supervisor does so much later, where the companion cannot.
const LATER: Duration = Duration::from_millis(500);

/// From one try to end what should have ended to the next.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a companion's report: longer than the longest that it writes.
const REPORT_BYTES: u64 = 4096;

/// Characters of a command that are told.
const COMMAND_CHARS: usize = 120;

/// A hook of an app, until it is over.
#[derive(Debug)]
pub enum Hook {
    /// To be executed in the container that runs.
    Due(HookKind),
    /// Runs.
    Runs(Running),
}

/// How the container of a `pre_start` ended.
#[derive(Debug, Clone, Copy)]
pub struct ContainerEnd {
    /// Exit code, 128 + signal when killed by one.
    pub code: Option<i32>,
    /// For using too much memory.
    pub oom_killed: bool,
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    /// Which.
    pub kind: HookKind,
    /// When it has taken too long, by the supervisor's own clock.
    pub deadline: Instant,
    /// With `pre_start`, once its container has ended.
    pub container: Option<ContainerEnd>,
    /// `None` once it has ended.
    companion: Option<Child>,
    /// `None` with one that an earlier supervisor started.
    report: Option<File>,
    command: String,
    timeout: Duration,
    overdue: bool,
}

impl Running {
    /// Executes a hook in the container that runs.
    ///
    /// # Errors
    /// In words, when there can be no companion.
    pub fn execute(
        kind: HookKind,
        (argv, timeout): (&[String], Duration),
        target: &Target<'_>,
        output: Option<&Output>,
    ) -> Result<Self, String> {
        let log = output.and_then(Output::write_end);
        let companion = companion::execute(argv, timeout, target, log)?;
        Ok(Self {
            companion: Some(companion.child),
            report: Some(companion.report),
            deadline: Instant::now() + timeout + LATER,
            ..Self::new(kind, argv, timeout)
        })
    }

    /// A `pre_start`, whose container was started.
    pub fn in_container((argv, timeout): (&[String], Duration), companion: Companion) -> Self {
        Self {
            companion: Some(companion.child),
            report: Some(companion.report),
            ..Self::new(HookKind::PreStart, argv, timeout)
        }
    }

    /// One that an earlier supervisor executed. Its companion still ends it in time.
    pub fn adopted(
        kind: HookKind,
        (argv, timeout): (&[String], Duration),
        companion: Child,
    ) -> Self {
        Self {
            companion: Some(companion),
            deadline: Instant::now() + timeout + LATER,
            ..Self::new(kind, argv, timeout)
        }
    }

    fn new(kind: HookKind, argv: &[String], timeout: Duration) -> Self {
        Self {
            kind,
            companion: None,
            report: None,
            container: None,
            deadline: Instant::now() + timeout,
            command: argv.join(" ").chars().take(COMMAND_CHARS).collect(),
            timeout,
            overdue: false,
        }
    }

    /// Process number of its companion, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.companion.as_ref().map(|companion| companion.pid)
    }

    /// Its companion has ended.
    pub fn companion_ended(&mut self) {
        self.companion = None;
    }

    /// Ends its companion, and with it that of a hook which nobody waits for any more.
    pub fn leave(&self) {
        if let Some(companion) = &self.companion {
            // One that has ended is reaped in its turn.
            let _ = companion.kill();
        }
    }

    /// It takes too long. What is killed for it is told in its turn; what does not end is tried again.
    pub fn is_overdue(&mut self, now: Instant) -> bool {
        let is_overdue = self.deadline <= now;
        if is_overdue {
            self.overdue |= self.container.is_none();
            self.deadline = now + AGAIN;
        }
        is_overdue
    }

    /// The container of a `pre_start` has ended; its companion has a moment to tell what was said.
    pub fn container_ended(&mut self, end: ContainerEnd, now: Instant) {
        self.container = Some(end);
        self.deadline = now + AGAIN;
    }

    /// What became of it, by the exit code of its program. `Ok` is success.
    pub fn result(self, code: i32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let has_report = self.report.is_some();
        let (fault, said) = self.report.map(read).unwrap_or_default();
        let fault = match (fault.is_empty(), self.container.map(|end| end.oom_killed)) {
            (false, _) => fault,
            (_, Some(true)) => "was killed for using more memory than its app may".to_owned(),
            _ if self.overdue => late(self.timeout),
            // An earlier supervisor had what it said.
            _ if !has_report && code == i32::from(companion::NOT_ENDED) => {
                format!("{}, or exited with {code}", late(self.timeout))
            }
            _ if code > 128 => format!("was killed by signal {}", code - 128),
            _ => format!("exited with {code}"),
        };
        let said = match said.is_empty() {
            true => said,
            false => format!("; it said: {said}"),
        };
        Err(format!("{} `{}` {fault}{said}", self.kind, self.command))
    }
}

fn late(timeout: Duration) -> String {
    format!("did not end within {} s", timeout.as_secs())
}

/// What went wrong, when the companion knows, and what the hook said last.
fn read(mut report: File) -> (String, String) {
    let mut bytes = Vec::new();
    // A report that cannot be read leaves the exit code to tell.
    let _ = report
        .rewind()
        .and_then(|()| report.take(REPORT_BYTES).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let (fault, said) = text.split_once('\n').unwrap_or((&text, ""));
    (fault.to_owned(), said.to_owned())
}
