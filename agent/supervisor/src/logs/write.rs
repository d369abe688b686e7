//! The log writer's inside: reads two pipes of each app, and has a second thread write what comes out.
//!
//! It runs in a child of its own that outlives the supervisor, so that an app's stdout never breaks, and a slow flash stalls
//! nobody but apps that write and whose policy is to wait. Each has its turn: of one that says without end, [`LINE_BYTES`] are
//! read before the others have theirs, and written in pieces, however many lines they are. What cannot be written is lost; it
//! is read all the same.

use super::hand_over::{self, Job};
use super::lines::LINE_BYTES;
use super::queue::Queues;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// Reads of a pipe that a new one of the same app takes the place of: what the biggest one holds.
const LAST_READS: usize = (1 << 20) / LINE_BYTES;

/// Bytes: what the writing thread has on its stack are a line's numbers.
const STACK_BYTES: usize = 128 * 1024;

struct Stream {
    pipe: File,
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
    queue: u64,
    second: bool,
}

/// Writes what comes out of all apps whose output is given on `listener`, until all of it has ended.
pub fn run(listener: &OwnedFd) -> io::Result<()> {
    hand_over::listen_myself(listener)?;
    let queues = Queues::new()?;
    std::thread::scope(|scope| {
        let writing = std::thread::Builder::new().stack_size(STACK_BYTES);
        writing.spawn_scoped(scope, || queues.write_all())?;
        let outcome = read_all(listener, &queues);
        queues.end();
        outcome
    })
}

fn read_all(listener: &OwnedFd, queues: &Queues) -> io::Result<()> {
    let mut apps: Vec<AppLog> = Vec::new();
    let mut buffer = vec![0; LINE_BYTES];
    let mut patience = Some(FIRST);
    loop {
        let (news, ready) = wait(listener, queues, &apps, patience)?;
        if apps.is_empty() && !news {
            return Ok(());
        }
        // First: the supervisor waits for this.
        let given = match news {
            true => hand_over::take_all(listener),
            false => Vec::new(),
        };
        for (app, stream) in ready {
            apps[app].read(stream, &mut buffer, queues);
        }
        let had = !apps.is_empty() || !given.is_empty();
        for (job, ends) in given {
            let is_older =
                |app: &mut AppLog| app.second == job.second && queues.is_in(app.queue, &job.folder);
            for mut older in apps.extract_if(.., is_older) {
                older.finish(&mut buffer, queues);
            }
            apps.extend(AppLog::new(job, ends, queues).ok());
        }
        for app in apps
            .extract_if(.., |app| !app.is_open())
            .collect::<Vec<_>>()
        {
            if apps.iter().all(|other| other.queue != app.queue) {
                queues.leave(app.queue);
            }
        }
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

fn wait(
    listener: &OwnedFd,
    queues: &Queues,
    apps: &[AppLog],
    patience: Option<Timespec>,
) -> io::Result<Found> {
    let open: Vec<(usize, usize)> = (0..apps.len())
        .filter(|app| queues.takes_more(apps[*app].queue))
        .flat_map(|app| [(app, 0), (app, 1)])
        .filter(|(app, stream)| apps[*app].streams[*stream].open)
        .collect();
    let mut polled = vec![
        PollFd::new(listener, PollFlags::IN),
        PollFd::from_borrowed_fd(queues.room(), PollFlags::IN),
    ];
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
    if has(&polled[1]) {
        queues.forget_room();
    }
    let ready = open.iter().zip(&polled[2..]);
    let ready = ready.filter(|(_, fd)| has(fd)).map(|(place, _)| *place);
    Ok((has(&polled[0]), ready.collect()))
}

impl AppLog {
    fn new(job: Job, [stdout, stderr]: [OwnedFd; 2], queues: &Queues) -> io::Result<Self> {
        // The app may take what was there when this process looked: it must not wait for that app's next word. The app's own
        // ends are other descriptions of the pipes, and stay as they are.
        for pipe in [&stdout, &stderr] {
            rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        let stream = |pipe: OwnedFd| Stream {
            pipe: pipe.into(),
            open: true,
        };
        Ok(Self {
            streams: [stream(stdout), stream(stderr)],
            second: job.second,
            queue: queues.begin(job),
        })
    }

    fn is_open(&self) -> bool {
        self.streams.iter().any(|stream| stream.open)
    }

    /// What the queue knows one of its streams by.
    fn number_of(&self, stream: usize) -> usize {
        stream + self.streams.len() * usize::from(self.second)
    }

    /// Whether there was something.
    fn read(&mut self, stream: usize, buffer: &mut [u8], queues: &Queues) -> bool {
        let number = self.number_of(stream);
        let of = &mut self.streams[stream];
        let found = of.pipe.read(buffer);
        match &found {
            Ok(0) => {
                of.open = false;
                queues.put(self.queue, number, &[]);
            }
            Ok(count) => queues.put(self.queue, number, &buffer[..*count]),
            Err(error) if is_nothing(error.kind()) => {}
            Err(_) => of.open = false,
        }
        found.is_ok_and(|count| count > 0)
    }

    /// Takes what is left in the pipes, before a new start's take their place. Whoever else has the app's ends writes to nobody then.
    fn finish(&mut self, buffer: &mut [u8], queues: &Queues) {
        for stream in 0..self.streams.len() {
            let mut left = LAST_READS;
            while left > 0 && self.streams[stream].open && self.read(stream, buffer, queues) {
                left -= 1;
            }
            queues.put(self.queue, self.number_of(stream), &[]);
        }
    }
}

/// Nothing to read this time, and the pipe goes on.
fn is_nothing(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests;
