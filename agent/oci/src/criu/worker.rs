//! The program `criu`, started for one request: `criu swrk FD`, which reads it from a socket and answers there.

use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use coracle_runtime::{Child, spawn_plain};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use prost::Message;

use super::messages::{Answer, Kind, Notify, Request};
use crate::failure::{Doing, Failure};
use crate::terminal;

/// Where else to look than in PATH, which engines keep short.
const FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// An answer is some hundred bytes.
const ANSWER_ROOM: usize = 64 << 10;

/// The program of that name, or at that path.
pub fn find(name: &Path) -> Result<PathBuf, Failure> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = format!("{path}:{FOLDERS}");
    let found = if name.as_os_str().as_bytes().contains(&b'/') {
        Some(name.to_owned())
    } else {
        folders
            .split(':')
            .filter(|folder| folder.starts_with('/'))
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.is_file())
    };
    match found.filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(Failure::Criu(format!(
            "no program {}: checkpoint and restore are done by CRIU (Debian's package criu); it was looked for in {}, and \
             --criu names another place",
            name.display(),
            folders.trim_start_matches(':'),
        ))),
    }
}

/// Started, and waiting for its request.
pub struct Worker {
    socket: OwnedFd,
    child: Child,
}

impl Worker {
    /// `inherited` keep their numbers in it, as the three standard streams do.
    pub fn start(program: &Path, inherited: Vec<OwnedFd>) -> Result<Worker, Failure> {
        let (here, there) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .doing("making a socket pair")?;
        let mut kept = vec![there];
        kept.extend(inherited);
        let path = c_string(program.as_os_str().to_owned());
        let environment: Vec<CString> = std::env::vars_os()
            .filter(|(name, _)| name != "PATH")
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                c_string(name)
            })
            .chain([c_string(
                format!(
                    "PATH={}:{FOLDERS}:/usr/bin:/bin",
                    std::env::var("PATH").unwrap_or_default()
                )
                .into(),
            )])
            .collect();
        let child = spawn_plain(kept, |kept| match execute(&path, &environment, &kept) {
            Ok(never) => match never {},
            Err(errno) => {
                eprintln!(
                    "coracle-runtime: starting {}: {errno}",
                    path.to_string_lossy()
                );
                NOT_STARTED
            }
        })?;
        Ok(Worker {
            socket: here,
            child,
        })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Asks, and answers CRIU at each moment that it tells of by `at`: its name, the process if there is one yet, and
    /// the descriptor that came with it.
    pub fn ask(
        self,
        request: &Request,
        mut at: impl FnMut(&Notify, Option<OwnedFd>) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let mut refused = None;
        let answer = self.send(request).and_then(|()| {
            loop {
                let (answer, descriptor) = self.receive()?;
                let Some(notify) = answer.notify.as_ref().filter(|_| answer.is_notify()) else {
                    return Ok(answer);
                };
                let outcome = at(notify, descriptor);
                self.send(&Request {
                    kind: Kind::Notify.into(),
                    notify_success: Some(outcome.is_ok()),
                    ..Request::default()
                })?;
                if let Err(failure) = outcome {
                    refused = Some(failure);
                }
            }
        });
        drop(self.socket);
        let exit = self.child.wait();
        if let Some(failure) = refused {
            return Err(failure);
        }
        answer.map_err(|failure| match exit {
            Some(exit) if !exit.success() => {
                Failure::Criu(format!("it ended without an answer ({exit:?})"))
            }
            _ => failure,
        })
    }

    fn send(&self, request: &Request) -> Result<(), Failure> {
        let text = request.encode_to_vec();
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&text)],
            &[],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .doing("asking CRIU")?;
        Ok(())
    }

    fn receive(&self) -> Result<(Answer, Option<OwnedFd>), Failure> {
        let mut text = vec![0; ANSWER_ROOM];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut slices = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            flags,
        )
        .doing("listening to CRIU")?;
        let mut descriptor = None;
        for part in message.cmsgs().doing("listening to CRIU")? {
            if let ControlMessageOwned::ScmRights(fds) = part {
                descriptor = fds.first().map(|fd| terminal::own(*fd));
            }
        }
        let (count, cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
        if count == 0 || cut {
            let how = if cut {
                "an answer too long"
            } else {
                "no answer"
            };
            return Err(Failure::Criu(format!("it gave {how}")));
        }
        let answer = Answer::decode(&text[..count])
            .map_err(|error| Failure::Criu(format!("its answer makes no sense: {error}")))?;
        Ok((answer, descriptor))
    }
}

impl Answer {
    fn is_notify(&self) -> bool {
        self.kind == i32::from(Kind::Notify)
    }
}

/// Exit code of a child that could not become CRIU, as a shell has it.
const NOT_STARTED: u8 = 126;

fn c_string(text: std::ffi::OsString) -> CString {
    CString::new(text.into_vec()).unwrap_or_default()
}

/// In the child.
fn execute(
    program: &CString,
    environment: &[CString],
    kept: &[OwnedFd],
) -> nix::Result<std::convert::Infallible> {
    kept.iter().try_for_each(keep_open)?;
    let socket = kept.first().ok_or(nix::Error::EBADF)?;
    let arguments = [
        c"criu".to_owned(),
        c"swrk".to_owned(),
        c_string(socket.as_raw_fd().to_string().into()),
    ];
    nix::unistd::execve(program, &arguments, environment)
}

fn keep_open(fd: impl AsFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}
