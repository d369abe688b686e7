//! What a hook says: line by line into the app's log, and the last of it for whoever asks. A log that stands still (a slow
//! disk, a writer that hangs) holds a hook up for a moment at most: what it says beyond that is counted, and not logged.

use crate::ended;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes that are kept of the end.
const KEPT_BYTES: usize = 1024;
/// Lines of it that are told, and characters of one.
const LINES: usize = 5;
const LINE_CHARS: usize = 160;

/// `PIPE_BUF` (pipe(7)): what is written in one piece is not mixed with what the app itself says.
const PIECE_BYTES: usize = 4096;

/// Reads after the hook's end: as many as its pipe can hold. What it left running may talk on.
const LAST_READS: u32 = 16;

/// Bytes that wait for the log. While there are more, the hook is not heard.
const WAITING_BYTES: usize = 64 << 10;
/// For so long a log may stand still before what waits for it is given up, and for so long it is waited for in the end.
const STILL: Duration = Duration::from_millis(400);

/// The words of one hook.
#[derive(Debug, Default)]
pub(super) struct Words {
    log: Option<OwnedFd>,
    /// A line whose end has not come.
    pending: Vec<u8>,
    /// Lines for the log, in pieces that it takes whole or not at all, and their bytes.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// When the log took something last, or was asked first.
    moved: Option<Instant>,
    /// It was given up, and has taken nothing since.
    still: bool,
    /// Bytes that were given up.
    lost: usize,
    kept: Vec<u8>,
}

impl Words {
    /// What comes from now on goes there.
    pub(super) fn go_to(&mut self, log: Option<OwnedFd>) {
        // Opened anew: that nobody waits for it is this end's own, and none of the app's.
        let own = |log: &OwnedFd| {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let path = format!("/proc/self/fd/{}", log.as_raw_fd());
            rustix::fs::open(path, flags, Mode::empty()).ok()
        };
        self.log = log.map(|log| own(&log).unwrap_or(log));
    }

    /// Takes what comes out of `from`, until `program` has ended or, without one, everybody has who can write. `false`: the time was
    /// over before.
    pub(super) fn follow(
        &mut self,
        from: &OwnedFd,
        program: Option<&OwnedFd>,
        until: Option<Instant>,
    ) -> rustix::io::Result<bool> {
        let mut open = true;
        let mut reads = 0;
        while open || program.is_some() {
            let hears = open && self.waiting_bytes < WAITING_BYTES;
            let patience = if self.still { Duration::ZERO } else { STILL };
            let gives_up = self.moved.filter(|_| open && !hears);
            let gives_up = gives_up.map(|at| at + patience);
            let wakes = [until, gives_up].into_iter().flatten().min();
            let left = wakes.map(|at| at.saturating_duration_since(Instant::now()));
            let log = self.log.as_ref().filter(|_| !self.waiting.is_empty());
            let watched = [
                (hears.then_some(from), PollFlags::IN),
                (log, PollFlags::OUT),
            ];
            let watched: Vec<_> = watched
                .iter()
                .filter_map(|(fd, flags)| Some(((*fd)?.as_fd(), *flags)))
                .collect();
            let looked = ended::poll_beside(program.map(AsFd::as_fd), &watched, left);
            let (ended, ready) = match looked {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let mut ready = ready.into_iter();
            let mut is_ready =
                |is_there: bool| is_there && ready.next().is_some_and(|of| !of.is_empty());
            let speaks = is_ready(hears);
            if is_ready(log.is_some()) {
                self.flush();
            }
            // What has ended is heard to its end, whatever the log does.
            if open && !hears && (ended || gives_up.is_some_and(|at| at <= Instant::now())) {
                self.give_up();
                continue;
            }
            if speaks {
                open = self.take(from)?;
            }
            if ended {
                reads += 1;
                if !speaks || reads > LAST_READS {
                    return Ok(true);
                }
            } else if until.is_some_and(|at| at <= Instant::now()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there may be more.
    fn take(&mut self, from: &OwnedFd) -> rustix::io::Result<bool> {
        let mut buffer = [0; PIECE_BYTES];
        match rustix::io::read(from, &mut buffer[..]) {
            Ok(count) => {
                self.push(&buffer[..count]);
                Ok(count > 0)
            }
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let over = self.kept.len().saturating_sub(KEPT_BYTES);
        self.kept.drain(..over);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.pending.len() + line.len() > PIECE_BYTES {
                self.write();
            }
            self.pending.extend_from_slice(line);
            if line.ends_with(b"\n") {
                self.write();
            }
        }
    }

    fn write(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if self.log.is_none() {
            return;
        }
        if self.waiting.is_empty() {
            self.moved = Some(Instant::now());
        }
        self.waiting_bytes += pending.len();
        self.waiting.push_back(pending);
        self.flush();
    }

    /// What the log takes now.
    fn flush(&mut self) {
        while let (Some(log), Some(piece)) = (&self.log, self.waiting.front_mut()) {
            match rustix::io::write(log, piece) {
                Ok(count) => {
                    self.moved = Some(Instant::now());
                    self.still = false;
                    self.waiting_bytes -= count;
                    piece.drain(..count);
                    if piece.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.log = None;
                    self.give_up();
                }
            }
        }
    }

    fn give_up(&mut self) {
        self.still = true;
        self.lost += self.waiting_bytes;
        self.waiting_bytes = 0;
        self.waiting.clear();
    }

    /// No more comes: the last line ends, so that the app's next one begins anew.
    pub(super) fn end(&mut self) {
        if !self.pending.is_empty() {
            self.pending.push(b'\n');
            self.write();
        }
        let end = Instant::now() + STILL;
        loop {
            if self.waiting.is_empty() {
                if self.lost == 0 || self.log.is_none() {
                    return;
                }
                let lost = std::mem::take(&mut self.lost);
                let words = format!("coracle: {lost} bytes of this hook were not logged\n");
                self.pending = words.into_bytes();
                self.write();
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            let Some(log) = self.log.as_ref().filter(|_| !left.is_zero()) else {
                return;
            };
            let left = Timespec::try_from(left).ok();
            if poll(&mut [PollFd::new(log, PollFlags::OUT)], left.as_ref()).is_ok() {
                self.flush();
            }
        }
    }

    /// The last lines, in one.
    pub(super) fn last(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let lines: Vec<String> = last.iter().map(|line| shown(line.trim())).collect();
        lines.join(" | ")
    }
}

/// What controls terminals is no word.
fn shown(line: &str) -> String {
    let safe = |c: char| match c.is_control() {
        true => ' ',
        false => c,
    };
    line.chars().take(LINE_CHARS).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    /// What is said, what of it is told, and what the log got.
    fn said(bytes: &[u8]) -> (String, Vec<u8>) {
        let (from, to) = pipe();
        let (log, of_words) = pipe();
        let mut words = Words::default();
        words.go_to(Some(of_words));
        let bytes = bytes.to_vec();
        let speaker = std::thread::spawn(move || {
            let mut left = &bytes[..];
            while !left.is_empty() {
                let count = rustix::io::write(&to, left).unwrap();
                left = &left[count..];
            }
        });
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(log).read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(words.follow(&from, None, None), Ok(true));
        words.end();
        let last = words.last();
        drop(words);
        speaker.join().unwrap();
        (last, reader.join().unwrap())
    }

    #[test]
    fn all_of_it_is_logged_and_the_last_lines_are_told() {
        let (last, log) = said(b"one\n\ntwo\nthree\nfour\nfive\nsix");
        assert_eq!(last, "two | three | four | five | six");
        assert_eq!(log, b"one\n\ntwo\nthree\nfour\nfive\nsix\n");
        assert_eq!(said(b""), (String::new(), vec![]));
    }

    #[test]
    fn who_talks_without_end_is_told_of_in_a_few_words() {
        let much = [&b"x".repeat(100_000)[..], b"\n\x1b[2Jred\x07\xff\n"].concat();
        let (last, log) = said(&much);
        assert_eq!(log, much);
        assert!(last.ends_with(" |  [2Jred \u{fffd}"), "{last:?}");
        assert!(last.len() < 400, "{}", last.len());
    }

    /// As long as its log's writer hangs, and once it goes on.
    #[test]
    fn a_log_that_stands_still_holds_no_hook_up() {
        let (from, to) = pipe();
        let (log, of_words) = pipe();
        let mut words = Words::default();
        words.go_to(Some(of_words));
        let speaker = std::thread::spawn(move || {
            let line = [&b"x".repeat(99)[..], b"\n"].concat();
            // Some ninety times what waits at most.
            for _ in 0..60_000 {
                rustix::io::write(&to, &line).unwrap();
            }
            rustix::io::write(&to, b"the last word\n").unwrap();
        });
        let begin = Instant::now();
        assert_eq!(words.follow(&from, None, None), Ok(true));
        // The end says it, where that still fits into the log.
        let lost = words.lost + words.waiting_bytes;
        assert!(lost > 300_000, "{lost}");
        words.end();
        assert!(begin.elapsed() < Duration::from_secs(30), "it was held up");
        speaker.join().unwrap();
        assert!(words.last().ends_with(" | the last word"));

        // What comes once it goes on is logged, behind what was lost.
        let reader = std::thread::spawn(move || {
            let mut all = String::new();
            std::fs::File::from(log).read_to_string(&mut all).unwrap();
            all
        });
        words.push(b"again\n");
        words.end();
        drop(words);
        let text = reader.join().unwrap();
        assert!(text.contains("again\n"), "{}", &text[text.len() - 200..]);
        assert!(text.contains("bytes of this hook were not logged\n"));
    }

    #[test]
    fn a_hook_that_is_late_or_leaves_a_talker_behind_is_not_waited_for() {
        let (from, to) = pipe();
        let mut words = Words::default();
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let flags = rustix::process::PidfdFlags::empty();
        let program = rustix::process::pidfd_open(pid, flags).unwrap();
        assert_eq!(words.follow(&from, Some(&program), soon()), Ok(false));
        let talker = to.as_fd().try_clone_to_owned().unwrap();
        std::thread::spawn(move || while rustix::io::write(&talker, b"still here\n").is_ok() {});
        assert_eq!(words.follow(&from, Some(&program), soon()), Ok(false));
        child.kill().unwrap();
        child.wait().unwrap();
        let far = Some(Instant::now() + Duration::from_secs(600));
        assert_eq!(words.follow(&from, Some(&program), far), Ok(true));
    }
}
