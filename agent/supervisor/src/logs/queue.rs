//! What lies between the apps' pipes and the disk: of each app what was read and is not written yet, bounded. One thread reads
//! and never waits for a disk, another writes; so a slow disk holds up only apps whose policy is to wait.

use super::hand_over::Job;
use super::lines::{Lines, STREAMS};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Bytes of an app that waits: past it, its pipes are not read.
const WAITING_BYTES: usize = 64 * 1024;

/// Bytes that are kept of such an app at most: with its end and its next start, what is left in its pipes is read at once.
const MOST_BYTES: usize = 4 << 20;

/// What one read takes beside its bytes.
const CHUNK_BYTES: usize = 128;

/// What was read at once.
pub(super) struct Chunk {
    /// By [`STREAMS`].
    pub(super) stream: usize,
    pub(super) at: SystemTime,
    /// Without any, the stream has ended.
    pub(super) bytes: Vec<u8>,
    /// Was dropped before it.
    pub(super) missed: Missed,
}

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Missed {
    fn add(&mut self, bytes: &[u8]) {
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn is_none(&self) -> bool {
        self.bytes == 0
    }
}

/// One app's.
struct Queue {
    number: u64,
    drop_beyond: Option<usize>,
    /// A start that the writing thread has not taken notice of.
    begun: Option<Job>,
    folder: std::path::PathBuf,
    /// `None` while it is being written.
    lines: Option<Lines>,
    chunks: Vec<Chunk>,
    /// Of `chunks`.
    bytes: usize,
    /// Of those that are being written.
    in_flight: usize,
    /// After `chunks`. Once something was dropped, all is until the writing thread comes.
    missed: Missed,
    /// Whether the last byte that was dropped of a stream was inside of a line: the rest of that goes too.
    cut: [bool; STREAMS.len()],
    /// Somebody waits until there is room.
    is_awaited: bool,
    /// Its pipes have ended.
    is_over: bool,
}

impl Queue {
    fn has_work(&self) -> bool {
        self.lines.is_some()
            && (self.begun.is_some()
                || !self.chunks.is_empty()
                || !self.missed.is_none()
                || self.is_over)
    }

    fn waiting(&self) -> usize {
        self.bytes + self.in_flight
    }
}

#[derive(Default)]
struct State {
    queues: Vec<Queue>,
    /// Of the next queue.
    number: u64,
    /// Where the search for work begins: each has its turn.
    turn: usize,
    /// Nothing more is read.
    is_over: bool,
}

/// Those of all apps.
pub(super) struct Queues {
    state: Mutex<State>,
    work: Condvar,
    /// Counts when there is room again where it was awaited.
    room: OwnedFd,
}

/// What one app's log gets now.
pub(super) struct Work {
    number: u64,
    lines: Lines,
    chunks: Vec<Chunk>,
    missed: Missed,
    begun: Option<Job>,
    is_over: bool,
}

impl Queues {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Readable when an app that waited need not any more.
    pub(super) fn room(&self) -> BorrowedFd<'_> {
        self.room.as_fd()
    }

    /// It was seen.
    pub(super) fn forget_room(&self) {
        // Nothing in it is nothing to forget.
        let _ = rustix::io::read(&self.room, &mut [0; 8]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of an app that starts: the one of its last start goes on, so that what that said comes first.
    pub(super) fn begin(&self, job: Job) -> u64 {
        let mut state = self.state();
        let drop_beyond = job
            .drop_beyond
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let known = state.queues.iter_mut().find(|q| q.folder == job.folder);
        let number = match known {
            Some(queue) => {
                queue.drop_beyond = drop_beyond;
                queue.is_over = false;
                queue.cut = [false; STREAMS.len()];
                queue.begun = Some(job);
                queue.number
            }
            None => {
                state.number += 1;
                let number = state.number;
                state.queues.push(Queue {
                    number,
                    drop_beyond,
                    folder: job.folder.clone(),
                    lines: Some(Lines::of(&job)),
                    begun: Some(job),
                    chunks: Vec::new(),
                    bytes: 0,
                    in_flight: 0,
                    missed: Missed::default(),
                    cut: [false; STREAMS.len()],
                    is_awaited: false,
                    is_over: false,
                });
                number
            }
        };
        self.work.notify_one();
        number
    }

    /// Whether the app of that queue is in `folder`.
    pub(super) fn is_in(&self, number: u64, folder: &Path) -> bool {
        let mut state = self.state();
        state.of(number).is_some_and(|queue| queue.folder == folder)
    }

    /// Whether more of the app is to be read now. If not, [`Queues::room`] tells when.
    pub(super) fn takes_more(&self, number: u64) -> bool {
        let mut state = self.state();
        let Some(queue) = state.of(number) else {
            return true;
        };
        let has_room = queue.drop_beyond.is_some() || queue.waiting() < WAITING_BYTES;
        queue.is_awaited |= !has_room;
        has_room
    }

    /// What was read. Without a byte, the stream has ended.
    pub(super) fn put(&self, number: u64, stream: usize, mut bytes: &[u8]) {
        let mut state = self.state();
        let Some(queue) = state.of(number) else {
            return;
        };
        let is_end = bytes.is_empty();
        let most = queue.drop_beyond.unwrap_or(MOST_BYTES);
        let is_full = queue.waiting() + bytes.len() + CHUNK_BYTES > most;
        if !is_end && (!queue.missed.is_none() || is_full) {
            queue.missed.add(bytes);
            queue.cut[stream] = !bytes.ends_with(b"\n");
            self.work.notify_one();
            return;
        }
        if queue.cut[stream] {
            let rest = bytes.iter().position(|byte| *byte == b'\n');
            let (cut, after) = bytes.split_at(rest.map_or(bytes.len(), |at| at + 1));
            queue.missed.add(cut);
            queue.cut[stream] = rest.is_none() && !is_end;
            bytes = after;
            if !is_end && bytes.is_empty() {
                self.work.notify_one();
                return;
            }
        }
        // What comes after that is said after that.
        let missed = std::mem::take(&mut queue.missed);
        queue.bytes += bytes.len() + CHUNK_BYTES;
        queue.chunks.push(Chunk {
            stream,
            at: SystemTime::now(),
            bytes: bytes.to_vec(),
            missed,
        });
        self.work.notify_one();
    }

    /// The app's pipes have ended: the queue goes once it is written.
    pub(super) fn leave(&self, number: u64) {
        if let Some(queue) = self.state().of(number) {
            queue.is_over = true;
        }
        self.work.notify_one();
    }

    /// Nothing more comes from any app.
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.work.notify_one();
    }

    /// Writes until everything is over.
    pub(super) fn write_all(&self) {
        while let Some(work) = self.next_work() {
            self.write(work);
        }
    }

    /// Writes what waits, of this moment.
    #[cfg(test)]
    pub(super) fn write_what_waits(&self) {
        let next = || self.state().take();
        while let Some(work) = next() {
            self.write(work);
        }
    }

    fn next_work(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if let Some(work) = state.take() {
                return Some(work);
            }
            if state.is_over {
                return None;
            }
            let woken = self.work.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, mut work: Work) {
        if let Some(job) = work.begun {
            work.lines.begin(&job);
        }
        work.lines.write(work.chunks, work.missed, work.is_over);
        let mut state = self.state();
        let Some(queue) = state.of(work.number) else {
            return;
        };
        queue.in_flight = 0;
        queue.lines = Some(work.lines);
        let is_awaited = std::mem::take(&mut queue.is_awaited);
        if queue.is_over && work.is_over && queue.chunks.is_empty() && queue.missed.is_none() {
            state.queues.retain(|queue| queue.number != work.number);
        }
        if is_awaited {
            // It can fail only for being as high as it gets, and then it is readable.
            let _ = rustix::io::write(&self.room, &1u64.to_ne_bytes());
        }
    }
}

impl State {
    fn of(&mut self, number: u64) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.number == number)
    }

    fn take(&mut self) -> Option<Work> {
        let count = self.queues.len();
        let at = (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|at| self.queues[*at].has_work())?;
        self.turn = at + 1;
        let queue = &mut self.queues[at];
        queue.in_flight = std::mem::take(&mut queue.bytes);
        Some(Work {
            number: queue.number,
            lines: queue.lines.take()?,
            // Nothing is kept for an app that says nothing.
            chunks: std::mem::take(&mut queue.chunks),
            missed: std::mem::take(&mut queue.missed),
            begun: queue.begun.take(),
            is_over: queue.is_over,
        })
    }
}
