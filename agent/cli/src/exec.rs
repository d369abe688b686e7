//! `exec`: a program in a running app. The supervisor itself is asked, which looks at who is connected; bytes go over the socket
//! that it names.

use crate::args::ExecCommand;
use crate::failure::Failure;
use crate::supervisor::ask;
use coracle_protocol::local::{Answer, Exec, HEAD, Request, Stream};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, Read, Stdin, Write};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Where nobody knows better.
const SIZE: (u16, u16) = (24, 80);
/// As `docker` has it: there was no program.
const NOT_STARTED: u8 = 125;

/// Why it did not end with 0.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Not there, or another user asks.
    #[error("cannot reach the supervisor at {}: {source}; is it running, and is this root?", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It does not do it.
    #[error("nothing was run: {0}")]
    Refused(String),
    /// The app has no such program, or it cannot be run.
    #[error("{words}")]
    NotStarted { code: u8, words: String },
    /// The program has ended with this, or this one by a signal.
    #[error("ended with {0}")]
    Ended(u8),
    /// The way to the program.
    #[error("the connection to the program broke: {0}")]
    Broken(#[source] io::Error),
}

impl ExecError {
    /// The program's, or why there was none.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotStarted { code, .. } | Self::Ended(code) => *code,
            _ => NOT_STARTED,
        }
    }
}

/// `coracle exec`
pub async fn run(socket: &Path, wanted: ExecCommand) -> Result<(), Failure> {
    let exec = Exec {
        app: wanted.app,
        args: wanted.args,
        env: wanted.env,
        user: wanted.user,
        cwd: wanted.cwd,
        stdin: wanted.interactive,
        tty: wanted.tty.then(|| size().unwrap_or(SIZE)),
    };
    let is_terminal = exec.tty.is_some();
    let with_input = exec.stdin;
    let uid = nix::unistd::geteuid().as_raw();
    let asked = ask(socket, Request::Exec { exec, uid });
    let asked = asked.map_err(|source| ExecError::Unreachable {
        socket: socket.to_owned(),
        source,
    })?;
    let at = match asked {
        Answer::Transfer { socket } => socket,
        Answer::Refused { reason, .. } | Answer::Failed { reason, .. } => {
            return Err(ExecError::Refused(reason).into());
        }
        other => return Err(ExecError::Refused(format!("{other:?}")).into()),
    };
    let stream = UnixStream::connect(at).await.map_err(ExecError::Broken)?;
    let (mut from, to) = stream.into_split();
    let mut ends = Ends::listen().map_err(ExecError::Broken)?;
    let mut raw = None;
    let mut to = Some(to);
    let code = loop {
        let (stream, bytes) = tokio::select! {
            piece = read(&mut from) => piece.map_err(ExecError::Broken)?,
            code = ends.next() => break code,
        };
        match stream {
            Stream::Started => {
                if let Some(to) = to.take() {
                    // Not before: what is said of a program that cannot be run is for a terminal as it was.
                    // Who types nothing keeps the keys that interrupt this command.
                    raw = (is_terminal && with_input).then(Raw::set).flatten();
                    tokio::spawn(write(to, with_input, is_terminal));
                }
            }
            Stream::Stdout => put(io::stdout(), &bytes)?,
            Stream::Stderr => put(io::stderr(), &bytes)?,
            Stream::End => match Stream::read_end(&bytes) {
                Some((code, words)) if words.is_empty() => break small(code),
                Some((code, words)) => {
                    let code = small(code);
                    return Err(ExecError::NotStarted { code, words }.into());
                }
                None => return Err(ExecError::Broken(io::ErrorKind::InvalidData.into()).into()),
            },
            Stream::Stdin | Stream::Size => {}
        }
    };
    drop(raw);
    match code {
        0 => Ok(()),
        code => Err(ExecError::Ended(code).into()),
    }
}

fn small(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(NOT_STARTED)
}

fn put(mut to: impl Write, bytes: &[u8]) -> Result<(), Failure> {
    to.write_all(bytes)
        .and_then(|()| to.flush())
        .map_err(Failure::Output)
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<(Stream, Vec<u8>)> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).await?;
    let (stream, length) = Stream::of_head(head).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok((stream, bytes))
}

/// What is typed, and the terminal's size whenever that changes. An error is the program's end, which is told elsewhere.
async fn write(mut to: OwnedWriteHalf, with_input: bool, is_terminal: bool) -> io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    let mut typed = with_input.then(type_in);
    loop {
        tokio::select! {
            Some(()) = changes.recv(), if is_terminal => {
                if let Some((rows, columns)) = size() {
                    let [a, b] = rows.to_be_bytes();
                    let [c, d] = columns.to_be_bytes();
                    to.write_all(&Stream::Size.piece(&[a, b, c, d])).await?;
                }
            }
            bytes = next(&mut typed) => {
                if bytes.is_none() {
                    typed = None;
                }
                // An empty piece is the end.
                let bytes = bytes.unwrap_or_default();
                to.write_all(&Stream::Stdin.piece(&bytes)).await?;
            }
        }
    }
}

async fn next(typed: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => std::future::pending().await,
    }
}

/// A thread of its own, which ends with this program: standard input may wait for a person.
fn type_in() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, typed) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = [0; Stream::PIECE];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    if pieces.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    typed
}

/// Rows and columns of the terminal here.
fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout()));
    let size = size
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0)?;
    Some((size.ws_row, size.ws_col))
}

/// Each key goes to the program as it is pressed, as long as this lives.
struct Raw(Stdin, Termios);

impl Raw {
    /// `None`: standard input is no terminal.
    fn set() -> Option<Raw> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Raw(stdin, before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
    }
}

/// Signals that end this program: by its own hand, so that the terminal is as it was.
struct Ends([(Signal, u8); 3]);

impl Ends {
    fn listen() -> io::Result<Ends> {
        let of = |kind: SignalKind| io::Result::Ok((signal(kind)?, kind.as_raw_value() as u8));
        Ok(Ends([
            of(SignalKind::interrupt())?,
            of(SignalKind::terminate())?,
            of(SignalKind::hangup())?,
        ]))
    }

    /// 128 and its number.
    async fn next(&mut self) -> u8 {
        let [(a, of_a), (b, of_b), (c, of_c)] = &mut self.0;
        128 + tokio::select! {
            _ = a.recv() => *of_a,
            _ = b.recv() => *of_b,
            _ = c.recv() => *of_c,
        }
    }
}
