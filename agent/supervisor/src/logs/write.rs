//! The log writer's inside: from two pipes of each app to docker's json-file lines, with rotation.
//!
//! It runs in a child of its own that outlives the supervisor, so that an app's stdout never breaks, and a slow flash stalls
//! nobody but apps that write. Each has its turn: of one that says without end, [`LINE_BYTES`] are taken before the others have
//! theirs, and written in pieces, however many lines they are. What cannot be written is lost; it is read all the same.
//! Format: one JSON object a line, `log` (with its newline; without one when a line was cut at [`LINE_BYTES`]), `stream`,
//! `time` (RFC 3339, UTC).

use super::file::LogFile;
use super::hand_over::{self, Job};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of one line, as Docker cuts them.
pub const LINE_BYTES: usize = 16 * 1024;
/// Reads of a pipe that a new one of the same app takes the place of: what the biggest one holds.
const LAST_READS: usize = (1 << 20) / LINE_BYTES;

struct Stream {
    name: &'static str,
    pipe: File,
    pending: Vec<u8>,
    open: bool,
}

/// How long the first app is waited for.
const FIRST: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

struct AppLog {
    streams: [Stream; 2],
    file: LogFile,
}

/// Writes what comes out of all apps whose output is given on `listener`, until all of it has ended.
pub fn run(listener: &OwnedFd) -> io::Result<()> {
    hand_over::listen_myself(listener)?;
    let mut apps: Vec<AppLog> = Vec::new();
    let mut buffer = vec![0; LINE_BYTES];
    let mut patience = Some(FIRST);
    loop {
        let (news, ready) = wait(listener, &apps, patience)?;
        if apps.is_empty() && !news {
            return Ok(());
        }
        // Before anything that waits for a disk: the supervisor waits for this.
        let given = match news {
            true => hand_over::take_all(listener),
            false => Vec::new(),
        };
        for (app, stream) in ready {
            apps[app].read(stream, &mut buffer);
        }
        let had = !apps.is_empty() || !given.is_empty();
        for (job, ends) in given {
            let is_older = |app: &mut AppLog| app.file.is_in(&job.folder);
            for mut older in apps.extract_if(.., is_older) {
                older.finish(&mut buffer);
            }
            apps.extend(AppLog::new(job, ends).ok());
        }
        apps.retain(|app| app.streams.iter().any(|stream| stream.open));
        patience = match (apps.is_empty(), had) {
            (false, _) => None,
            (true, true) => Some(AT_ONCE),
            // None yet: what came was no app's output.
            (true, false) => patience,
        };
    }
}

/// Whether an app's output waits to be taken, and which streams of which apps have something.
type Found = (bool, Vec<(usize, usize)>);

fn wait(listener: &OwnedFd, apps: &[AppLog], patience: Option<Timespec>) -> io::Result<Found> {
    let open: Vec<(usize, usize)> = (0..apps.len())
        .flat_map(|app| [(app, 0), (app, 1)])
        .filter(|(app, stream)| apps[*app].streams[*stream].open)
        .collect();
    let mut polled = vec![PollFd::new(listener, PollFlags::IN)];
    polled.extend(open.iter().map(|(app, stream)| {
        let pipe = &apps[*app].streams[*stream].pipe;
        PollFd::new(pipe, PollFlags::IN)
    }));
    loop {
        match poll(&mut polled, patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        }
    }
    let has = |fd: &PollFd<'_>| !fd.revents().is_empty();
    let ready = open.iter().zip(&polled[1..]);
    let ready = ready.filter(|(_, fd)| has(fd)).map(|(place, _)| *place);
    Ok((has(&polled[0]), ready.collect()))
}

impl AppLog {
    fn new(job: Job, [stdout, stderr]: [OwnedFd; 2]) -> io::Result<Self> {
        // The app may take what was there when this process looked: it must not wait for that app's next word. The app's own
        // ends are other descriptions of the pipes, and stay as they are.
        for pipe in [&stdout, &stderr] {
            rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        let stream = |name, pipe: OwnedFd| Stream {
            name,
            pipe: pipe.into(),
            pending: Vec::new(),
            open: true,
        };
        let mut file = LogFile::of(&job);
        // It is there from the start for whoever wants to follow it; each piece tries again.
        let _ = file.open();
        Ok(Self {
            streams: [stream("stdout", stdout), stream("stderr", stderr)],
            file,
        })
    }

    /// Whether there was something.
    fn read(&mut self, stream: usize, buffer: &mut [u8]) -> bool {
        let stream = &mut self.streams[stream];
        let found = stream.pipe.read(buffer);
        match &found {
            Ok(0) => {
                stream.open = false;
                stream.flush(&mut self.file);
            }
            Ok(count) => stream.take(&buffer[..*count], &mut self.file),
            Err(error) if is_nothing(error.kind()) => {}
            Err(_) => stream.open = false,
        }
        self.file.write_piece();
        found.is_ok_and(|count| count > 0)
    }

    /// Takes what is left in the pipes, before a new start's take their place. Whoever else has the app's ends writes to nobody then.
    fn finish(&mut self, buffer: &mut [u8]) {
        for stream in 0..self.streams.len() {
            let mut left = LAST_READS;
            while left > 0 && self.streams[stream].open && self.read(stream, buffer) {
                left -= 1;
            }
            self.streams[stream].flush(&mut self.file);
        }
        self.file.write_piece();
    }
}

/// Nothing to read this time, and the pipe goes on.
fn is_nothing(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

impl Stream {
    fn take(&mut self, bytes: &[u8], log: &mut LogFile) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.pending.len() >= LINE_BYTES {
                self.flush(log);
            }
        }
    }

    fn flush(&mut self, log: &mut LogFile) {
        if self.pending.is_empty() {
            return;
        }
        let line = line(&self.pending, self.name, SystemTime::now());
        // Nothing is kept for an app that says nothing.
        self.pending = Vec::new();
        log.put(&line);
    }
}

/// One line of the file.
fn line(text: &[u8], stream: &str, at: SystemTime) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        log: std::borrow::Cow<'a, str>,
        stream: &'a str,
        time: String,
    }
    let line = Line {
        log: String::from_utf8_lossy(text),
        stream,
        time: rfc3339(at),
    };
    let mut json = serde_json::to_vec(&line).unwrap_or_default();
    json.push(b'\n');
    json
}

/// RFC 3339 in UTC, with nanoseconds. A clock outside the years 1970 to 9999 stays at their end.
fn rfc3339(at: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_nanos(at.clamp(UNIX_EPOCH, last)).to_string()
}

#[cfg(test)]
mod tests;
