//! A few of the cuts of `make powercut`: the recorded log of a board's disk, cut and started on this machine, and the board
//! itself, cut and booted.

mod emulated;

#[test]
fn after_a_cut_one_whole_set_runs_and_counters_did_not_go_back() {
    let told = emulated::boards(&[
        "powercut",
        "--updates",
        "4",
        "--cuts",
        "10",
        "--boots",
        "2",
        "--seed",
        "7",
    ]);
    assert!(told.contains("power cuts: all held"), "{told}");
    assert!(told.contains("there were unflushed writes"), "{told}");
    // Of both kinds.
    for kind in ["replayed", "booted"] {
        let of_agents = told
            .lines()
            .filter(|line| line.contains(kind) && line.contains("its own program was"));
        assert!(of_agents.count() > 0, "none of an agent {kind}: {told}");
    }
}
