//! A program that a person runs in an app (`coracle exec`, `docker exec`): in the app's container and within its limits, with its
//! filter and no more capabilities. A child stands between it and the socket in the supervisor's place, which never waits for
//! either, and ends it when whoever asked is gone. It ends with its app, as every process of the app's namespace of processes does.

mod pump;

use crate::apps::filter;
use crate::apps::user::User;
use crate::health::exec::{NOT_STARTED, spec};
use crate::health::probe::Target;
use crate::kernel::ignore_closed_pipes;
use crate::users;
use coracle_protocol::local::{Exec, Stream};
use coracle_runtime::spec::{Console, ProcessSettings};
use coracle_runtime::{Child, Failure, Stdio, Step, exec_with, reap, spawn_plain};
use pump::Pump;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::net::{self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, sockopt};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For whoever asked to come to the socket.
const PATIENCE: Duration = Duration::from_secs(10);
/// For its program to be executed: until then its process stands among the app's, which may stop it.
const START: Duration = Duration::from_secs(10);
/// As a shell has it: no such program, or none that can be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// The socket, and who may come to it beside root.
pub(crate) struct Door {
    pub listener: UnixListener,
    pub path: PathBuf,
    pub uid: u32,
}

/// Starts the child; its exit code is the program's. `user`: who it runs as, where that is another than the app's.
///
/// # Errors
/// In words, when there can be no child.
pub(crate) fn start(
    exec: &Exec,
    user: Option<&User>,
    target: &Target<'_>,
    door: Door,
) -> Result<Child, String> {
    let app = target.running.pidfd.as_fd().try_clone_to_owned();
    let files = vec![door.listener.into(), app.map_err(|e| e.to_string())?];
    let (path, uid) = (door.path, door.uid);
    let child = spawn_plain(files, |mut files| {
        ignore_closed_pipes();
        let (Some(app), Some(listener)) = (files.pop(), files.pop()) else {
            return NOT_STARTED;
        };
        let came = wait_for(&UnixListener::from(listener), uid);
        // The next supervisor clears away what cannot be removed here.
        let _ = std::fs::remove_file(&path);
        let Some(mut socket) = came else {
            return NOT_STARTED;
        };
        let code = match begin(exec, user, target, &app) {
            Ok((program, ends)) => Pump::new(socket, program, ends).run(),
            Err((code, words)) => {
                // Whoever asked may be gone.
                let _ = socket.write_all(&Stream::end(code, &words));
                code
            }
        };
        u8::try_from(code).unwrap_or(NOT_STARTED)
    });
    child.map_err(|e| e.to_string())
}

fn wait_for(listener: &UnixListener, uid: u32) -> Option<UnixStream> {
    let end = Instant::now() + PATIENCE;
    listener.set_nonblocking(true).ok()?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let left = Timespec::try_from(left).ok()?;
        let mut looked = [PollFd::new(listener, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut looked, Some(&left))).ok()? == 0 {
            return None;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if may_come_again(&error) => continue,
            Err(_) => return None,
        };
        let peer = sockopt::socket_peercred(&stream).ok()?.uid.as_raw();
        if peer == 0 || peer == uid {
            return Some(stream);
        }
    }
}

fn may_come_again(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

/// What is held of the program here.
struct Ends {
    /// Where its input goes; `None`: it has none.
    input: Option<File>,
    /// Where its output comes from.
    outputs: [Option<File>; 2],
    is_terminal: bool,
}

type Begun = Result<(Child, Ends), (i32, String)>;

fn begin(exec: &Exec, user: Option<&User>, target: &Target<'_>, app: &OwnedFd) -> Begun {
    let not_started = |words: String| (i32::from(NOT_STARTED), words);
    let seccomp = filter::of_all_apps().map_err(|e| not_started(e.to_string()))?;
    let who = user.unwrap_or(&target.plan.user);
    let streams = streams(exec, who, target).map_err(|e| not_started(e.to_string()))?;
    let (stdio, settings, ends) = streams;
    let mut spec = spec(&exec.args, target, app, seccomp, stdio);
    spec.env = environment(&spec.env, exec, user);
    if let Some(cwd) = &exec.cwd {
        spec.cwd = cwd.into();
    }
    if let Some(user) = user {
        (spec.uid, spec.gid) = (user.uid, user.gid);
        spec.additional_gids.clone_from(&user.groups);
    }
    let program =
        exec_with(&spec, &settings).map_err(|failure| (code(&failure), failure.to_string()))?;
    // Its ends of the pipes go, so that they end with it.
    drop((spec, settings));
    let program = Child {
        pid: program.pid,
        pidfd: program.pidfd,
    };
    let ends = match ends {
        Held::Pipes(ends) => Ok(ends),
        Held::Terminal(here) => terminal(&here),
    };
    match ends {
        Ok(ends) => Ok((program, ends)),
        Err(error) => {
            let _ = program.kill();
            reap::wait(program.pid);
            Err(not_started(error.to_string()))
        }
    }
}

fn code(failure: &Failure) -> i32 {
    match (failure.step, failure.errno) {
        (Step::Exec, libc::ENOENT | libc::ENOTDIR) => NOT_FOUND,
        (Step::Exec, _) => NOT_EXECUTABLE,
        _ => NOT_STARTED.into(),
    }
}

/// The app's, over them those that were asked for.
fn environment(of_app: &[String], exec: &Exec, user: Option<&User>) -> Vec<String> {
    let mut all = of_app.to_vec();
    let mut set = |variable: String| {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        all.retain(|other| other.split('=').next() != Some(name.as_str()));
        all.push(variable);
    };
    if let Some(home) = user.and_then(|user| user.home.as_ref()) {
        set(format!("HOME={home}"));
    }
    if exec.tty.is_some() && !of_app.iter().any(|one| one.starts_with("TERM=")) {
        set("TERM=xterm".to_owned());
    }
    exec.env.iter().cloned().for_each(set);
    all
}

enum Held {
    Pipes(Ends),
    /// Where the terminal's other end comes.
    Terminal(UnixStream),
}

fn streams(
    exec: &Exec,
    who: &User,
    target: &Target<'_>,
) -> io::Result<(Stdio, ProcessSettings, Held)> {
    let mut stdio = Stdio::null().map_err(io::Error::other)?;
    let mut settings = ProcessSettings {
        kept: Some(START),
        own_sockets: target.plan.keeps_to_own_sockets(),
        ..ProcessSettings::default()
    };
    if exec.tty.is_some() {
        let (here, there) = UnixStream::pair()?;
        settings.console = Some(Console {
            receiver: there.into(),
            size: exec.tty,
        });
        return Ok((stdio, settings, Held::Terminal(here)));
    }
    // The user's, so that it can open `/dev/stdout` by name.
    let (uid, gid) = who.on_board(users::of_process(target.running.pid));
    let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fchown(&read, Some(uid), Some(gid))?;
        Ok((read, write))
    };
    let mut outputs = [None, None];
    for (output, of_program) in outputs
        .iter_mut()
        .zip([&mut stdio.stdout, &mut stdio.stderr])
    {
        let (read, write) = pipe()?;
        *output = Some(File::from(read));
        *of_program = write;
    }
    let mut input = None;
    if exec.stdin {
        let (read, write) = pipe()?;
        (stdio.stdin, input) = (read, Some(File::from(write)));
    }
    for end in outputs.iter().flatten().chain(&input) {
        never_block(end)?;
    }
    let ends = Ends {
        input,
        outputs,
        is_terminal: false,
    };
    Ok((stdio, settings, Held::Pipes(ends)))
}

fn never_block(end: &File) -> io::Result<()> {
    Ok(fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?)
}

fn terminal(here: &UnixStream) -> io::Result<Ends> {
    let mut name = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [IoSliceMut::new(&mut name)];
    // It was sent before the program was executed.
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    net::recvmsg(here, &mut text, &mut control, flags)?;
    let master = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut ends) => ends.next(),
        _ => None,
    });
    let master = File::from(master.ok_or(io::ErrorKind::UnexpectedEof)?);
    never_block(&master)?;
    Ok(Ends {
        input: Some(master.try_clone()?),
        outputs: [Some(master), None],
        is_terminal: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::names::AppName;

    #[test]
    fn variables_that_were_asked_for_take_the_place_of_the_apps() {
        let app = ["A=1", "HOME=/app", "PATH=/bin"].map(str::to_owned);
        let mut exec = Exec {
            app: AppName::new("web").unwrap(),
            args: vec!["sh".into()],
            env: vec!["A=2".into(), "B=x=y".into()],
            user: None,
            cwd: None,
            stdin: false,
            tty: None,
        };
        let plain = environment(&app, &exec, None);
        assert_eq!(plain, ["HOME=/app", "PATH=/bin", "A=2", "B=x=y"]);
        exec.tty = Some((24, 80));
        let root = User {
            home: Some("/root".into()),
            ..User::default()
        };
        let all = environment(&app, &exec, Some(&root));
        let expected = ["PATH=/bin", "HOME=/root", "TERM=xterm", "A=2", "B=x=y"];
        assert_eq!(all, expected);
    }
}
