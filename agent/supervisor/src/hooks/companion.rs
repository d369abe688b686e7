//! The child beside a hook.

use super::late;
use super::words::Words;
use crate::health::exec;
use crate::health::probe::{Target, report_file};
use crate::kernel;
use crate::logs::AppEnds;
use crate::users;
use coracle_runtime::{Child, Stdio, reap, spawn_plain};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::time::{Duration, Instant};

/// Exit code when there was no program to wait for, or it was late: its report says more.
pub(super) const NOT_ENDED: u8 = 125;

/// A companion, and where it says what the hook said.
#[derive(Debug)]
pub struct Companion {
    pub(super) child: Child,
    pub(super) report: File,
}

/// Executes the program in the container; the companion's exit code is the program's.
pub(super) fn execute(
    argv: &[String],
    timeout: Duration,
    target: &Target<'_>,
    log: Option<OwnedFd>,
) -> Result<Companion, String> {
    let app = target.running.pidfd.as_fd();
    let app = app.try_clone_to_owned().map_err(|e| e.to_string())?;
    start([Some(app), log], |words, files| {
        let [Some(app), log] = files else {
            return Err("its descriptors are gone".to_owned());
        };
        words.go_to(log);
        run(argv, timeout, target, (&app, words))
    })
}

/// Beside a program that the supervisor starts itself: what goes into the ends that come back comes out of `ends`.
///
/// # Errors
/// In words, when there can be no pipe or no companion.
pub fn between(ends: AppEnds, (uid, gid): (u32, u32)) -> Result<(AppEnds, Companion), String> {
    let (read, stdout) = pipe(uid, gid).map_err(|e| e.to_string())?;
    let stderr = stdout.try_clone().map_err(|e| e.to_string())?;
    // Both into one, so that lines stay in their order.
    let companion = start([Some(read), Some(ends.stdout)], |words, [read, log]| {
        words.go_to(log);
        if let Some(read) = read {
            words.follow(&read, None, None).map_err(|e| e.to_string())?;
        }
        Ok(0)
    })?;
    Ok((AppEnds { stdout, stderr }, companion))
}

/// A child that has these files.
fn start<const N: usize>(
    files: [Option<OwnedFd>; N],
    work: impl FnOnce(&mut Words, [Option<OwnedFd>; N]) -> Result<u8, String>,
) -> Result<Companion, String> {
    let (report, of_child) = report_file()?;
    let given = [Some(of_child)].into_iter().chain(files).flatten();
    let child = spawn_plain(given.collect(), |files| {
        let mut files = files.into_iter();
        let Some(report) = files.next() else {
            return NOT_ENDED;
        };
        // A log that nobody reads any more is no fault of the hook, nor of this.
        kernel::ignore_closed_pipes();
        let mut words = Words::default();
        let outcome = work(&mut words, std::array::from_fn(|_| files.next()));
        words.end();
        let (code, fault) = match outcome {
            Ok(code) => (code, String::new()),
            Err(fault) => (NOT_ENDED, fault.replace('\n', " ")),
        };
        // Without a report the exit code tells.
        let _ = File::from(report).write_all(format!("{fault}\n{}", words.last()).as_bytes());
        code
    });
    let child = child.map_err(|e| e.to_string())?;
    Ok(Companion { child, report })
}

/// In the companion.
fn run(
    argv: &[String],
    timeout: Duration,
    target: &Target<'_>,
    (app, words): (&OwnedFd, &mut Words),
) -> Result<u8, String> {
    let end = Instant::now() + timeout;
    let ids = users::of_process(target.running.pid);
    let (uid, gid) = target.plan.user.on_board(ids);
    let (read, write) = pipe(uid, gid).map_err(|e| e.to_string())?;
    let stdio = Stdio {
        stdin: File::open("/dev/null").map_err(|e| e.to_string())?.into(),
        stdout: write.try_clone().map_err(|e| e.to_string())?,
        stderr: write,
        terminal: false,
    };
    let program = exec::program((argv, timeout), target, app, stdio)
        .map_err(|fault| format!("could not be executed: {fault}"))?;
    let ended = words.follow(&read, Some(&program.pidfd), Some(end));
    if !matches!(ended, Ok(true)) {
        exec::kill(&program)?;
        return Err(match ended {
            Err(errno) => format!("could not be waited for: {errno}"),
            Ok(_) => late(timeout),
        });
    }
    let exit = reap::wait(program.pid).map_or(i32::from(NOT_ENDED), |exit| exit.shell_code());
    Ok(u8::try_from(exit).unwrap_or(NOT_ENDED))
}

/// The app's user's, so that it can open `/dev/stdout` by name.
fn pipe(uid: u32, gid: u32) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fchown(&write, Some(uid), Some(gid))?;
    Ok((read, write))
}
