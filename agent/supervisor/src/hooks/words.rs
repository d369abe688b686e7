//! What a hook says: line by line into the app's log, and the last of it for whoever asks.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Bytes that are kept of the end.
const KEPT_BYTES: usize = 1024;
/// Lines of it that are told, and characters of one.
const LINES: usize = 5;
const LINE_CHARS: usize = 160;

/// `PIPE_BUF` (pipe(7)): what is written in one piece is not mixed with what the app itself says.
const PIECE_BYTES: usize = 4096;

/// Reads after the hook's end: as many as its pipe can hold. What it left running may talk on.
const LAST_READS: u32 = 16;

/// The words of one hook.
#[derive(Debug, Default)]
pub(super) struct Words {
    log: Option<OwnedFd>,
    /// A line whose end has not come.
    pending: Vec<u8>,
    kept: Vec<u8>,
}

impl Words {
    /// What comes from now on goes there.
    pub(super) fn go_to(&mut self, log: Option<OwnedFd>) {
        self.log = log;
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
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let watched = [open.then_some(from), program];
            let mut polled = Vec::with_capacity(2);
            polled.extend(
                watched
                    .into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::IN)),
            );
            match poll(&mut polled, left.as_ref()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let is_ready = |at: Option<&PollFd<'_>>| at.is_some_and(|fd| !fd.revents().is_empty());
            let speaks = open && is_ready(polled.first());
            let ended = program.is_some() && is_ready(polled.last());
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
        let mut left = &pending[..];
        while let Some(log) = &self.log
            && !left.is_empty()
        {
            match rustix::io::write(log, left) {
                Ok(count) => left = &left[count..],
                Err(Errno::INTR) => {}
                // Nobody reads it any more.
                Err(_) => self.log = None,
            }
        }
    }

    /// No more comes: the last line ends, so that the app's next one begins anew.
    pub(super) fn end(&mut self) {
        if !self.pending.is_empty() {
            self.pending.push(b'\n');
            self.write();
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
