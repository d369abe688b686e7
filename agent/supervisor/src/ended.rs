//! The end of processes, by their descriptors. Before Linux 5.3 such a descriptor is the process's folder in /proc, which never is
//! another one's and cannot be waited for: it is looked at again and again.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Between two looks at a folder.
pub const TICK: Duration = Duration::from_millis(50);

/// Whether the descriptor is a folder of /proc, and no pidfd.
pub fn is_folder(process: BorrowedFd<'_>) -> bool {
    fstat(process).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Whether the process of such a folder has ended: it may wait for being reaped, or be gone.
pub fn has_ended(folder: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(stat) = openat(folder, "stat", flags, Mode::empty()) else {
        return true;
    };
    let mut text = String::new();
    let read = File::from(stat).read_to_string(&mut text);
    // Behind the name, which may hold anything.
    let rest = text.rsplit_once(')').map(|(_, rest)| rest);
    read.is_err() || rest.is_none_or(is_over)
}

/// Of what stands behind the name in /proc/PID/stat. The first thread of a process may have ended, while others go on.
pub fn is_over(rest: &str) -> bool {
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next();
    let threads = fields.nth(16).and_then(|count| count.parse().ok());
    match state {
        Some("Z") => threads.is_none_or(|threads: u32| threads <= 1),
        Some("X") | None => true,
        Some(_) => false,
    }
}

/// As poll(2), of a process's end and of `others`: whether it has ended, and what is said of each of the others.
///
/// # Errors
/// poll's.
pub fn poll_beside(
    process: Option<BorrowedFd<'_>>,
    others: &[(BorrowedFd<'_>, PollFlags)],
    left: Option<Duration>,
) -> Result<(bool, Vec<PollFlags>), Errno> {
    let folder = process.filter(|fd| is_folder(*fd));
    let waited = process.filter(|_| folder.is_none());
    let until = left.and_then(|left| Instant::now().checked_add(left));
    loop {
        let ended = folder.is_some_and(has_ended);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let step = match (folder, ended) {
            (Some(_), true) => Some(Duration::ZERO),
            (Some(_), false) => Some(left.map_or(TICK, |left| left.min(TICK))),
            (None, _) => left,
        };
        let step = step.and_then(|step| Timespec::try_from(step).ok());
        let mut polled = Vec::with_capacity(others.len() + 1);
        polled.extend(waited.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        polled.extend(
            others
                .iter()
                .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)),
        );
        poll(&mut polled, step.as_ref())?;
        let mut ready: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        let ended = match waited {
            Some(_) => !ready.remove(0).is_empty(),
            None => ended,
        };
        let is_over = left.is_some_and(|left| left.is_zero());
        let says = ready.iter().any(|flags| !flags.is_empty());
        if ended || says || folder.is_none() || is_over {
            return Ok((ended, ready));
        }
    }
}

/// Waits for the end, so long at most. Whether it came.
///
/// # Errors
/// poll's.
pub fn within(process: &impl AsFd, most: Duration) -> Result<bool, Errno> {
    let until = Instant::now() + most;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll_beside(Some(process.as_fd()), &[], Some(left)) {
            Err(Errno::INTR) => {}
            other => return other.map(|(ended, _)| ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Child, Command};

    fn sleeping() -> (Child, File) {
        let child = Command::new("sleep").arg("100").spawn().unwrap();
        let folder = File::open(format!("/proc/{}", child.id())).unwrap();
        (child, folder)
    }

    #[test]
    fn the_end_is_seen_by_folder_and_by_descriptor() {
        let (mut child, folder) = sleeping();
        let pid = rustix::process::Pid::from_child(&child);
        let flags = rustix::process::PidfdFlags::empty();
        let pidfd = rustix::process::pidfd_open(pid, flags).unwrap();
        assert!(is_folder(folder.as_fd()) && !is_folder(pidfd.as_fd()));
        for process in [folder.as_fd(), pidfd.as_fd()] {
            assert_eq!(within(&process, TICK * 2), Ok(false));
        }
        child.kill().unwrap();
        for process in [folder.as_fd(), pidfd.as_fd()] {
            assert_eq!(within(&process, TICK * 100), Ok(true), "a zombie");
        }
        child.wait().unwrap();
        assert_eq!(within(&folder, Duration::ZERO), Ok(true), "reaped");
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_goes_on() {
        let stat = |state, threads| {
            format!(" {state} 1 2 2 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 {threads} 0 100 0")
        };
        assert!(is_over(&stat("Z", 1)) && is_over(&stat("X", 3)) && is_over(""));
        assert!(!is_over(&stat("Z", 2)) && !is_over(&stat("S", 1)));
    }

    #[test]
    fn what_others_say_is_heard_beside_a_folder() {
        let (mut child, folder) = sleeping();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let others = [(read.as_fd(), PollFlags::IN)];
        let look = |left| poll_beside(Some(folder.as_fd()), &others, left).unwrap();
        assert_eq!(
            look(Some(Duration::ZERO)),
            (false, vec![PollFlags::empty()])
        );
        File::from(write).write_all(b"x").unwrap();
        assert_eq!(look(None).1[0] & PollFlags::IN, PollFlags::IN);
        child.kill().unwrap();
        while !has_ended(folder.as_fd()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(look(None).0 && look(None).1[0].contains(PollFlags::IN));
        child.wait().unwrap();
    }
}
