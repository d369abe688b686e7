//! A program inside an app's container (a probe, an action), and the child that waits for it in the supervisor's place.
//!
//! Until it is executed the program's process stands in the container: among the app's processes, which may
//! stop it by a signal, and within the app's share of the CPU, which they may use up. Whoever waits for it
//! there can be made to wait for ever, so that is never the supervisor.

use super::probe::{Target, report_file};
use crate::apps::filter;
use crate::ended;
use coracle_runtime::spec::ProcessSettings;
use coracle_runtime::{
    Capabilities, Child, ExecSpec, SeccompProgram, Stdio, exec_with, reap, spawn_plain,
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Exit code when there was no program to wait for.
pub(crate) const NOT_STARTED: u8 = 125;

/// Starts the child; its exit code is the program's.
///
/// # Errors
/// In words, when there can be no child.
pub(super) fn start(
    argv: &[String],
    timeout: Duration,
    target: &Target<'_>,
) -> Result<(Child, File), String> {
    waiter(target, |app, mut report| {
        match run(argv, timeout, target, app) {
            Ok(code) => code,
            Err(fault) => {
                // Without a report the exit code tells.
                let _ = report.write_all(fault.as_bytes());
                NOT_STARTED
            }
        }
    })
}

/// Starts a child that waits for a program in the supervisor's place, and what it reports to. `work` has the descriptor of the app's
/// first process; its answer is the child's exit code.
///
/// # Errors
/// In words, when there can be no child.
pub(crate) fn waiter(
    target: &Target<'_>,
    work: impl FnOnce(&OwnedFd, File) -> u8,
) -> Result<(Child, File), String> {
    let (report, of_child) = report_file()?;
    let app = target.running.pidfd.as_fd();
    let app = app.try_clone_to_owned().map_err(|e| e.to_string())?;
    let child = spawn_plain(vec![of_child, app], |mut files| {
        match (files.pop(), files.pop()) {
            (Some(app), Some(report)) => work(&app, report.into()),
            _ => NOT_STARTED,
        }
    });
    Ok((child.map_err(|e| e.to_string())?, report))
}

/// In such a child: the program, as the app's user and within the app's limits, executed within that time and killed with this
/// child. `app`: the descriptor of the app's first process.
///
/// # Errors
/// In words, when it cannot be started; nothing of it is left.
pub(crate) fn program(
    (argv, most): (&[String], Duration),
    target: &Target<'_>,
    app: &OwnedFd,
    stdio: Stdio,
) -> Result<Child, String> {
    let seccomp = filter::of_all_apps().map_err(|e| e.to_string())?;
    let spec = spec(argv, target, app, seccomp, stdio);
    let settings = ProcessSettings {
        kept: Some(most),
        own_sockets: target.plan.keeps_to_own_sockets(),
        ..ProcessSettings::default()
    };
    let program = exec_with(&spec, &settings).map_err(|e| e.to_string())?;
    Ok(Child {
        pid: program.pid,
        pidfd: program.pidfd,
    })
}

/// As the app's own process has it.
pub(crate) fn spec<'a>(
    argv: &[String],
    target: &Target<'a>,
    app: &'a OwnedFd,
    seccomp: &'a SeccompProgram,
    stdio: Stdio,
) -> ExecSpec<'a> {
    let plan = target.plan;
    ExecSpec {
        pid: target.running.pid,
        pidfd: app.as_fd(),
        cgroup: target.cgroup,
        args: argv.to_vec(),
        env: plan.env.clone(),
        cwd: plan.cwd.clone(),
        uid: plan.user.uid,
        gid: plan.user.gid,
        additional_gids: plan.user.groups.clone(),
        umask: 0o022,
        capabilities: Capabilities::docker(),
        seccomp: Some(seccomp),
        no_new_privs: true,
        rlimits: plan.rlimits.clone(),
        oom_score_adj: Some(plan.oom_score),
        stdio,
    }
}

/// A program and what it started that stayed in its session's first group.
///
/// # Errors
/// In words, when it cannot be killed.
pub(crate) fn kill(program: &Child) -> Result<(), String> {
    if let Some(group) = Pid::from_raw(program.pid) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    program.kill().map_err(|e| e.to_string())
}

/// In the child, whose descriptors are `app` and its report.
fn run(
    argv: &[String],
    timeout: Duration,
    target: &Target<'_>,
    app: &OwnedFd,
) -> Result<u8, String> {
    let stdio = Stdio::null().map_err(|e| e.to_string())?;
    let program = program((argv, timeout), target, app, stdio)?;
    // An error leaves the supervisor's own limit to end both.
    if ended::within(&program.pidfd, timeout) == Ok(false) {
        kill(&program)?;
        return Err(format!("no answer within {timeout:?}"));
    }
    let exit = reap::wait(program.pid).map_or(i32::from(NOT_STARTED), |exit| exit.shell_code());
    Ok(u8::try_from(exit).unwrap_or(NOT_STARTED))
}
