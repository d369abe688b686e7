//! Gives back what work took, once nothing has happened for a second.

use crate::link::LinkState;
use coracle_board_support::memory;
use coracle_protocol::report::Feedback;
use std::time::Duration;
use tokio::sync::watch;

pub const QUIET: Duration = Duration::from_secs(1);

/// After the start, after each change of the link and each deployment; until shutdown.
pub async fn run(
    mut link: watch::Receiver<LinkState>,
    mut last: watch::Receiver<Option<Feedback>>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let quiet = tokio::time::sleep(QUIET);
        tokio::select! {
            () = quiet => {}
            true = work(&mut link, &mut last) => continue,
            _ = shutdown.changed() => return,
        }
        memory::rest();
        tokio::select! {
            more = work(&mut link, &mut last) => if !more {
                return;
            },
            _ = shutdown.changed() => return,
        }
    }
}

/// Until something has happened; `false`: nothing will any more.
async fn work(
    link: &mut watch::Receiver<LinkState>,
    last: &mut watch::Receiver<Option<Feedback>>,
) -> bool {
    let happened = tokio::select! {
        happened = link.changed() => happened,
        happened = last.changed() => happened,
    };
    happened.is_ok()
}
