//! What keeps apps apart, tried on a thread of its own: a namespace belongs to the thread that made
//! it, and goes with it. A user namespace is only for a process with one thread: see `users`.

use super::{Outcome, Trials, netlink, overlay, users};
use crate::kernel;
use crate::text::cut;
use rustix::thread::UnshareFlags;
use std::path::Path;

const NAMESPACES: [(&str, UnshareFlags); 6] = [
    ("mnt namespace", UnshareFlags::NEWNS),
    ("uts namespace", UnshareFlags::NEWUTS),
    ("ipc namespace", UnshareFlags::NEWIPC),
    ("pid namespace", UnshareFlags::NEWPID),
    ("net namespace", UnshareFlags::NEWNET),
    ("cgroup namespace", UnshareFlags::NEWCGROUP),
];

/// Tries all of it and adds what came of it.
pub(super) fn run(state: &Path, trials: &mut Trials) {
    let found = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut found = Trials::default();
            on_this_thread(state, &mut found);
            found
        });
        thread.join()
    });
    match found {
        Ok(found) => found.0.into_iter().for_each(|trial| {
            trials.note(&trial.subject, trial.outcome);
        }),
        Err(_) => trials.note(
            "namespaces",
            Outcome::NotTried(cut("the thread that tries them ended early")),
        ),
    }
}

fn on_this_thread(state: &Path, found: &mut Trials) {
    for (subject, flag) in NAMESPACES {
        found.note_result(subject, kernel::unshare(flag));
    }
    let works = |found: &Trials, subject| found.outcome(subject) == Some(&Outcome::Works);
    // Without namespaces of its own the thread would touch the board's mounts and links.
    match works(found, "mnt namespace") {
        true => found.note_result("overlayfs", overlay::attempt(state)),
        false => found.note(
            "overlayfs",
            Outcome::NotTried(cut("it needs a mount namespace")),
        ),
    }
    match works(found, "overlayfs") {
        true => {
            // What is made as another user is made by a thread that does nothing else.
            let tried = std::thread::scope(|scope| scope.spawn(|| users::attempt(state)).join());
            let dead = |_| {
                Err(std::io::Error::other(
                    "the thread that tries it ended early",
                ))
            };
            found.note_result("users of apps' own", tried.unwrap_or_else(dead));
        }
        false => found.note(
            "users of apps' own",
            Outcome::NotTried(cut("it needs overlayfs")),
        ),
    }
    type Attempt = fn() -> std::io::Result<()>;
    for (subject, attempt) in [
        ("bridge", (|| netlink::make_link("bridge")) as Attempt),
        ("veth", || netlink::make_link("veth")),
        ("nf_tables", netlink::masquerade),
    ] {
        match works(found, "net namespace") {
            true => found.note_result(subject, attempt()),
            false => found.note(
                subject,
                Outcome::NotTried(cut("it needs a network namespace")),
            ),
        }
    }
    found.note_result("seccomp filters", kernel::allow_all_filter());
}
