//! A few of the cuts of `make powercut`: the recorded log of a board's disk, cut and started on this machine, and the board
//! itself, cut and booted.

use std::process::Command;

#[test]
fn after_a_cut_one_whole_set_runs_and_counters_did_not_go_back() {
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-boards"))
        .args(["powercut", "--updates", "4", "--cuts", "10", "--boots", "2"])
        .args(["--seed", "7"])
        .output()
        .expect("coracle-boards starts");
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
    assert!(told.contains("power cuts: all held"), "{told}");
    assert!(told.contains("there were unflushed writes"), "{told}");
}
