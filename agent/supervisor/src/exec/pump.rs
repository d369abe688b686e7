//! Bytes between the socket and the program. Each way holds one piece, and reads no more before that one has gone.

use super::Ends;
use crate::ended;
use crate::health::exec::{self, NOT_STARTED};
use coracle_protocol::local::{HEAD, Stream};
use coracle_runtime::{Child, Exit, reap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::termios::{Winsize, tcsetwinsize};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What others who hold the program's output may still write when it has ended: as much as a pipe may hold.
const AFTER_ITS_END: usize = 1 << 20;
/// What ends the input of a terminal.
const END_OF_INPUT: u8 = 4;

pub(super) struct Pump {
    socket: UnixStream,
    program: Child,
    ends: Ends,
    /// From the socket, not a whole piece yet.
    coming: Vec<u8>,
    /// For the program.
    typed: Vec<u8>,
    /// No more comes for it.
    typed_all: bool,
    /// For the socket.
    going: Vec<u8>,
    /// How it ended.
    exit: Option<i32>,
    /// Bytes that are still taken from it after that.
    left: usize,
}

/// Whoever asked is gone, or sends what is no piece.
struct Gone;

impl Pump {
    pub(super) fn new(socket: UnixStream, program: Child, ends: Ends) -> Self {
        let started = Stream::Started.piece(&program.pid.to_be_bytes());
        Self {
            socket,
            program,
            ends,
            coming: Vec::new(),
            typed: Vec::new(),
            typed_all: false,
            going: started,
            exit: None,
            left: AFTER_ITS_END,
        }
    }

    /// Until the program has ended and that was told; its exit code.
    pub(super) fn run(mut self) -> i32 {
        if self.socket.set_nonblocking(true).is_err() || self.carry().is_err() {
            self.kill();
        }
        self.exit.unwrap_or(NOT_STARTED.into())
    }

    fn carry(&mut self) -> Result<(), Gone> {
        loop {
            self.wait()?;
            self.send()?;
            // Whatever else holds things up, an app's end waits until its last process is waited for.
            if self.exit.is_none() && has_ended(&self.program) {
                self.exit = Some(self.reap());
                self.ends.input = None;
            }
            self.receive()?;
            self.type_in();
            self.take();
            let all_taken = self.going.is_empty() && self.ends.outputs.iter().all(Option::is_none);
            if let (Some(code), true) = (self.exit, all_taken) {
                self.going = Stream::end(code, "");
                while !self.going.is_empty() {
                    let mut looked = [PollFd::new(&self.socket, PollFlags::OUT)];
                    retry_on_intr(|| poll(&mut looked, None)).map_err(|_| Gone)?;
                    self.send()?;
                }
                return Ok(());
            }
        }
    }

    /// Until something can be done.
    fn wait(&mut self) -> Result<(), Gone> {
        let mut of_socket = PollFlags::empty();
        of_socket.set(PollFlags::IN, self.typed.is_empty());
        of_socket.set(PollFlags::OUT, !self.going.is_empty());
        let mut looked = vec![(self.socket.as_fd(), of_socket)];
        if let (Some(input), false) = (&self.ends.input, self.typed.is_empty()) {
            looked.push((input.as_fd(), PollFlags::OUT));
        }
        if self.going.is_empty() {
            if self.exit.is_some() {
                // What there is is taken without a wait.
                return Ok(());
            }
            let outputs = self.ends.outputs.iter().flatten();
            looked.extend(outputs.map(|output| (output.as_fd(), PollFlags::IN)));
        }
        let process = self.exit.is_none().then(|| self.program.pidfd.as_fd());
        let looks = || ended::poll_beside(process, &looked, None);
        let (_, said) = retry_on_intr(looks).map_err(|_| Gone)?;
        let gone = PollFlags::HUP | PollFlags::ERR;
        match said.first().is_some_and(|said| said.intersects(gone)) {
            true => Err(Gone),
            false => Ok(()),
        }
    }

    fn send(&mut self) -> Result<(), Gone> {
        while !self.going.is_empty() {
            match self.socket.write(&self.going) {
                Ok(count) => drop(self.going.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Gone> {
        if !self.typed.is_empty() {
            return Ok(());
        }
        let mut bytes = [0; HEAD + Stream::PIECE];
        match self.socket.read(&mut bytes) {
            Ok(0) => return Err(Gone),
            Ok(count) => self.coming.extend_from_slice(&bytes[..count]),
            Err(error) if is_nothing_yet(&error) => {}
            Err(_) => return Err(Gone),
        }
        while let Some(head) = self.coming.first_chunk::<HEAD>() {
            let (stream, length) = Stream::of_head(*head).ok_or(Gone)?;
            if self.coming.len() < HEAD + length {
                break;
            }
            let piece: Vec<u8> = self.coming.drain(..HEAD + length).skip(HEAD).collect();
            match (stream, &piece[..]) {
                (Stream::Stdin, _) if self.typed_all => {}
                (Stream::Stdin, []) => {
                    self.typed_all = true;
                    if self.ends.is_terminal {
                        self.typed.push(END_OF_INPUT);
                    }
                }
                (Stream::Stdin, text) => self.typed.extend_from_slice(text),
                (Stream::Size, [a, b, c, d]) => {
                    self.resize(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                }
                _ => return Err(Gone),
            }
        }
        Ok(())
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let (Some(terminal), true) = (&self.ends.input, self.ends.is_terminal) {
            let size = Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // A terminal that nobody has open any more has no use for it.
            let _ = tcsetwinsize(terminal, size);
        }
    }

    fn type_in(&mut self) {
        let Some(input) = &mut self.ends.input else {
            return self.typed.clear();
        };
        let mut is_closed = false;
        while !self.typed.is_empty() {
            match input.write(&self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(error) if is_nothing_yet(&error) => return,
                Err(_) => {
                    is_closed = true;
                    self.typed.clear();
                }
            }
        }
        // A terminal that nobody has open now may be opened again.
        if (is_closed || self.typed_all) && !self.ends.is_terminal {
            self.ends.input = None;
        }
    }

    /// A piece of each of what the program wrote.
    fn take(&mut self) {
        if !self.going.is_empty() {
            return;
        }
        let mut bytes = [0; Stream::PIECE];
        let streams = [Stream::Stdout, Stream::Stderr];
        for (stream, output) in streams.into_iter().zip(&mut self.ends.outputs) {
            let Some(file) = output else { continue };
            match file.read(&mut bytes) {
                Ok(count @ 1..) => {
                    self.going.extend(stream.head(count));
                    self.going.extend_from_slice(&bytes[..count]);
                    if self.exit.is_some() {
                        self.left = self.left.saturating_sub(count);
                    }
                }
                // More may come of a program that has not ended.
                Err(error) if is_nothing_yet(&error) && self.exit.is_none() => {}
                // A terminal that nobody has open says EIO.
                _ => *output = None,
            }
        }
        if self.left == 0 {
            self.ends.outputs = [None, None];
        }
    }

    fn reap(&self) -> i32 {
        reap::wait(self.program.pid).map_or(i32::from(NOT_STARTED), Exit::shell_code)
    }

    fn kill(&mut self) {
        if self.exit.is_none() {
            let _ = exec::kill(&self.program);
            self.exit = Some(self.reap());
        }
    }
}

fn is_nothing_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn has_ended(program: &Child) -> bool {
    ended::within(&program.pidfd, Duration::ZERO) != Ok(false)
}
