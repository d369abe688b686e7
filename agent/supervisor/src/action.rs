//! An action of an app: a program that the signed release names, in the app's container, as the app's user and within its
//! limits. A child waits for it in the supervisor's place, keeps the end of what it writes, and kills it when its time is over.

use crate::ended;
use crate::health::exec::{self, NOT_STARTED, program, waiter};
use crate::health::probe::Target;
use crate::users;
use coracle_protocol::release::NamedAction;
use coracle_runtime::{Child, Exit, Stdio, reap};
use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::time::{Duration, Instant};

/// Bytes of output that are kept, the last ones.
const KEPT: usize = 48 << 10;
/// Bytes at a time.
const PIECE: usize = 8 << 10;
/// The child ends the program; a child that cannot, since the container holds it up, is ended so long after that.
const SLACK: Duration = Duration::from_secs(2);

/// One that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// Who waits for it.
    pub child: Child,
    /// When that one has taken too long.
    pub due: Instant,
    overdue: bool,
    timeout: Duration,
    report: File,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Why it counts as not done, in words.
    pub fault: Option<String>,
    /// The end of what it wrote.
    pub output: String,
}

/// Starts it.
///
/// # Errors
/// In words, when there can be no child.
pub(crate) fn start(action: &NamedAction, target: &Target<'_>) -> Result<Running, String> {
    let timeout = Duration::from_secs(action.timeout_seconds.into());
    let (child, report) = waiter(target, |app, mut report| {
        let ended = run(&action.argv, timeout, target, app).unwrap_or_else(|fault| Output {
            fault: fault.replace('\n', " "),
            bytes: Vec::new(),
        });
        let mut words = ended.fault.into_bytes();
        words.push(b'\n');
        words.extend(ended.bytes);
        match report.write_all(&words) {
            Ok(()) => 0,
            Err(_) => NOT_STARTED,
        }
    })?;
    Ok(Running {
        child,
        due: Instant::now() + timeout + SLACK,
        overdue: false,
        timeout,
        report,
    })
}

impl Running {
    /// Ends a child that has taken too long; its end comes as any child's.
    pub fn end_when_due(&mut self, now: Instant) {
        if self.due <= now {
            let _ = self.child.kill();
            (self.due, self.overdue) = (now + SLACK, true);
        }
    }

    /// What came of it, now that the child has ended.
    pub fn ended(self, exit: Exit) -> Ended {
        let mut report = self.report;
        let mut bytes = Vec::new();
        let most = (2 * KEPT) as u64;
        let read = report
            .rewind()
            .and_then(|()| report.take(most).read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes);
        match (exit.success(), read, text.split_once('\n')) {
            (true, Ok(_), Some((fault, output))) => Ended {
                fault: (!fault.is_empty()).then(|| fault.to_owned()),
                output: output.to_owned(),
            },
            _ => Ended {
                fault: Some(match self.overdue {
                    true => over(self.timeout),
                    false => "whoever waited for it died; how it ended is not known".to_owned(),
                }),
                output: String::new(),
            },
        }
    }
}

fn over(timeout: Duration) -> String {
    format!(
        "it did not end within {} s and was killed",
        timeout.as_secs()
    )
}

/// What the child knows in the end.
struct Output {
    fault: String,
    bytes: Vec<u8>,
}

/// In the child.
fn run(
    argv: &[String],
    timeout: Duration,
    target: &Target<'_>,
    app: &OwnedFd,
) -> Result<Output, String> {
    let end = Instant::now() + timeout;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(words)?;
    // The app's user's, so that it can open `/dev/stdout` by name.
    let (uid, gid) = target
        .plan
        .user
        .on_board(users::of_process(target.running.pid));
    fchown(&write, Some(uid), Some(gid)).map_err(|e| e.to_string())?;
    // What the program writes to may block; what is read here must not.
    rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::empty()).map_err(words)?;
    let mut stdio = Stdio::null().map_err(|e| e.to_string())?;
    stdio.stderr = write.try_clone().map_err(|e| e.to_string())?;
    stdio.stdout = write;
    let program = program((argv, timeout), target, app, stdio)?;
    let mut pipe = Some(File::from(read));
    let mut bytes = Vec::new();
    let fault = loop {
        let left = end.saturating_duration_since(Instant::now());
        let ended = wait(&program.pidfd, pipe.as_ref(), left);
        if ended == Ok(true) {
            drain(pipe.as_mut(), &mut bytes);
            let exit = reap::wait(program.pid).map_or(i32::from(NOT_STARTED), Exit::shell_code);
            break match exit {
                0 => String::new(),
                code => format!("exited with {code}"),
            };
        }
        if let (Err(_), _) | (_, true) = (ended, left.is_zero()) {
            exec::kill(&program)?;
            drain(pipe.as_mut(), &mut bytes);
            break ended.map_or_else(words, |_| over(timeout));
        }
        if let Some(Ok(0)) = pipe.as_mut().map(|pipe| take(pipe, &mut bytes)) {
            // Every writer has closed it; the program may go on.
            pipe = None;
        }
    };
    trim(&mut bytes);
    Ok(Output { fault, bytes })
}

fn words(errno: Errno) -> String {
    errno.to_string()
}

/// Until the program ends, writes, or its time is over. Whether it has ended.
fn wait(pidfd: &OwnedFd, pipe: Option<&File>, left: Duration) -> Result<bool, Errno> {
    let pipe: Vec<_> = pipe
        .map(|pipe| (pipe.as_fd(), PollFlags::IN))
        .into_iter()
        .collect();
    let looked = || ended::poll_beside(Some(pidfd.as_fd()), &pipe, Some(left));
    retry_on_intr(looked).map(|(ended, _)| ended)
}

/// What is in the pipe, a piece of it. 0: it has ended; an error: it is empty.
fn take(pipe: &mut File, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; PIECE];
    let count = pipe.read(&mut piece)?;
    bytes.extend_from_slice(&piece[..count]);
    if bytes.len() > 2 * KEPT {
        trim(bytes);
    }
    Ok(count)
}

/// What the program left in the pipe. Others may write on: no more than a pipe holds is read.
fn drain(pipe: Option<&mut File>, bytes: &mut Vec<u8>) {
    const MOST: usize = (1 << 20) / PIECE;
    let Some(pipe) = pipe else { return };
    for _ in 0..MOST {
        if !matches!(take(pipe, bytes), Ok(1..)) {
            return;
        }
    }
}

fn trim(bytes: &mut Vec<u8>) {
    let extra = bytes.len().saturating_sub(KEPT);
    bytes.drain(..extra);
}
