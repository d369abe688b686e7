//! Apps that end again and again in their trial.

mod board;

use board::{Board, app, rootfs};
use coracle_images::layout::RunConfig;
use coracle_protocol::report::Phase;
use std::time::{Duration, Instant};

#[test]
fn being_up_at_the_end_of_a_trial_is_no_proof_for_an_app_that_failed_in_it() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "one"), RunConfig::default());
    board.commit("1", vec![app(&image, "exec sleep 1000")]);

    // Its second run covers the third second, at which the trial would be over.
    let mut dies = app(&image, "sleep 1.2; exit 3");
    dies.trial_seconds = 3;
    let (phase, why) = board.deploy("2", vec![dies]);
    assert_eq!(phase, Phase::RolledBack, "{why:?}");
    assert!(why.unwrap().contains("exited with 3"));

    // One that fails at first and runs then is kept, when it has run for as long as the trial asks.
    let script = "test -e /failed && exec sleep 1000; touch /failed; exit 3";
    let mut recovers = app(&image, script);
    recovers.trial_seconds = 5;
    let begun = Instant::now();
    board.commit("3", vec![recovers]);
    let least = Duration::from_secs(1 + 5);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
}
