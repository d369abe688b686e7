//! A process that the caller waits for: signals go to it, its terminal is shown here, its exit code is ours.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use coracle_runtime::{ProcessHandle, reap};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::failure::{Doing, Failure};
use crate::terminal;

/// Signals wait in a descriptor from here on. The container's process gets the default ones back.
pub struct Signals(SignalFd);

impl Signals {
    pub fn hold() -> Result<Signals, Failure> {
        let mut held = SigSet::all();
        // A crash of ours must stay one, and job control is the shell's.
        for signal in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGTSTP,
        ] {
            held.remove(signal);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&held), None).doing("holding signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&held, flags)
            .doing("signalfd")
            .map(Signals)
    }
}

/// Receives the other end of the process's terminal.
pub fn receive_master(socket: &UnixStream) -> Result<OwnedFd, Failure> {
    let mut text = [0; 64];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
        .doing("receiving the terminal")?;
    for part in message.cmsgs().doing("receiving the terminal")? {
        if let ControlMessageOwned::ScmRights(fds) = part
            && let Some(fd) = fds.first()
        {
            return Ok(terminal::own(*fd));
        }
    }
    Err(Failure::System {
        what: "receiving the terminal",
        source: Errno::EPROTO.into(),
    })
}

/// Until the child `pid` has ended. Its code, as a shell has it.
pub fn wait(pid: i32, signals: &Signals, master: Option<OwnedFd>) -> Result<i32, Failure> {
    let process = ProcessHandle::open(pid).doing("watching the process")?;
    let shown = match master {
        Some(master) => Some(Shown::new(master)?),
        None => None,
    };
    let mut input_open = shown.is_some();
    loop {
        let stdin = std::io::stdin();
        let mut watched = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
        if let Some(shown) = &shown {
            watched.push(PollFd::new(shown.master.as_fd(), PollFlags::POLLIN));
            if input_open {
                watched.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.doing("waiting")?,
        };
        let ready: Vec<bool> = watched
            .iter()
            .map(|one| one.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        if let Some(shown) = &shown {
            if ready.get(2) == Some(&true) {
                input_open = shown.pass_input();
            }
            if ready.get(1) == Some(&true) {
                shown.pass_output();
            }
        }
        while let Ok(Some(signal)) = signals.0.read_signal() {
            let number = signal.ssi_signo as i32;
            match number {
                libc::SIGCHLD => {
                    let ended = reap::reap_all()
                        .into_iter()
                        .find(|(child, _)| *child == pid);
                    if let Some((_, exit)) = ended {
                        if let Some(shown) = &shown {
                            shown.drain();
                        }
                        return Ok(exit.shell_code());
                    }
                }
                libc::SIGWINCH => {
                    if let Some(shown) = &shown {
                        terminal::copy_size(stdin.as_fd(), shown.master.as_fd());
                    }
                }
                // Meant for us alone: a write of ours found nobody.
                libc::SIGPIPE | libc::SIGURG => {}
                // It may have ended by now.
                other => drop(process.signal(other)),
            }
        }
    }
}

/// The caller's terminal, raw as long as this lives.
struct Shown {
    master: File,
    before: Option<Termios>,
}

impl Shown {
    fn new(master: OwnedFd) -> Result<Shown, Failure> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw).doing("setting the terminal")?;
            terminal::copy_size(stdin.as_fd(), master.as_fd());
        }
        Ok(Shown {
            master: master.into(),
            before,
        })
    }

    /// False at the end of the input.
    fn pass_input(&self) -> bool {
        let mut text = [0; 4096];
        match std::io::stdin().read(&mut text) {
            Ok(0) => {
                // What a terminal says at its end.
                let _ = (&self.master).write_all(&[4]);
                false
            }
            Ok(count) => (&self.master).write_all(&text[..count]).is_ok(),
            Err(_) => false,
        }
    }

    /// False when there is nothing more: all who held the terminal are gone.
    fn pass_output(&self) -> bool {
        let mut text = [0; 4096];
        match (&self.master).read(&mut text) {
            Ok(count) if count > 0 => {
                let mut stdout = std::io::stdout();
                let _ = stdout
                    .write_all(&text[..count])
                    .and_then(|()| stdout.flush());
                true
            }
            _ => false,
        }
    }

    /// What was written just before the end.
    fn drain(&self) {
        loop {
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let is_ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
            if !is_ready || !self.pass_output() {
                return;
            }
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
