//! What keeps apps apart, tried on a thread of its own: a namespace belongs to the thread that made
//! it, and goes with it. A user namespace is only for a process with one thread: see `users`.

use super::{Need, Outcome, Trials, netlink, overlay, storage, users};
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
    on_a_thread("namespaces", trials, |found| on_this_thread(state, found));
    // On another one: the first has a pid namespace for its children, and can have no second child.
    on_a_thread(users::SUBJECT, trials, |found| {
        let apart = kernel::unshare(UnshareFlags::NEWNS);
        match storage::writable(state) {
            Outcome::Fails(_) => found.note(users::SUBJECT, nowhere()),
            _ => found.note_result(users::SUBJECT, apart.and_then(|()| users::attempt(state))),
        }
    });
}

fn on_a_thread(subject: &str, trials: &mut Trials, body: impl FnOnce(&mut Trials) + Send) {
    let found = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut found = Trials::default();
            body(&mut found);
            found
        });
        thread.join()
    });
    match found {
        Ok(found) => found.0.into_iter().for_each(|trial| {
            trials.note(&trial.subject, trial.outcome);
        }),
        Err(_) => trials.note(
            subject,
            Outcome::NotTried(cut("the thread that tries it ended early")),
        ),
    }
}

/// What is tried in the state folder, and cannot be: that says nothing about the kernel.
fn nowhere() -> Outcome {
    Outcome::NotTried(cut("the state folder cannot be written"))
}

fn on_this_thread(state: &Path, found: &mut Trials) {
    for (subject, flag) in NAMESPACES {
        found.note_result(subject, kernel::unshare(flag));
    }
    let works = |found: &Trials, subject| found.outcome(subject) == Some(&Outcome::Works);
    // Without namespaces of its own the thread would touch the board's mounts and links.
    match (works(found, "mnt namespace"), storage::writable(state)) {
        (true, Outcome::Fails(_)) => found.note("overlayfs", nowhere()),
        (true, _) => found.note_result("overlayfs", overlay::attempt(state)),
        (false, _) => found.note(
            "overlayfs",
            Outcome::NotTried(cut("it needs a mount namespace")),
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
    // Where there are no chains at all the gap says so already.
    let chains = works(found, "nf_tables");
    for need in Need::OF_NETWORKS {
        let by_chains = matches!(need, Need::EgressList | Need::EgressRate);
        let why = match (works(found, "net namespace"), by_chains && !chains) {
            (false, _) => "it needs a network namespace",
            (true, true) => "it needs nf_tables",
            (true, false) => {
                found.note_result(need.subject(), need.attempt(state));
                continue;
            }
        };
        found.note(need.subject(), Outcome::NotTried(cut(why)));
    }
    found.note_result("seccomp filters", kernel::allow_all_filter());
}
