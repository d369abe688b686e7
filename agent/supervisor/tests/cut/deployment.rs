//! A deployment that is cut before its n-th system call.

use crate::board::Board;
use crate::cut::{Cut, Traced};
use coracle_protocol::local::{Event, Request};
use coracle_protocol::release::App;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stages a release of these apps and lets the supervisor switch to it, which is cut there and started anew.
pub fn cut(board: &mut Board, version: &str, apps: Vec<App>, n: usize) -> Cut {
    let (release, deploy) = board.documents(version, apps);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    let mut events = board.watch();
    let mut client = board.client();
    let (socket, log) = (board.socket(), board.log_path());
    let traced = Traced::seize(board.supervisor_pid(), &log);
    client.send(Request::Activate {
        activity: version.to_owned(),
    });
    let over = Arc::new(AtomicBool::new(false));
    let (ended, of) = (over.clone(), version.to_owned());
    let watcher = std::thread::spawn(move || {
        let is_end = |event: &Event| matches!(event, Event::Deployment { activity, phase, .. } if *activity == of && phase.is_end());
        while let Some(event) = events.event() {
            if is_end(&event) {
                ended.store(true, Ordering::Relaxed);
                // Whatever wakes it.
                let _ = UnixStream::connect(&socket);
                return;
            }
        }
    });
    let cut = traced.run_to(n, &over);
    if let Cut::Before(_) = cut {
        board.restart_supervisor();
    }
    watcher.join().unwrap();
    cut
}
