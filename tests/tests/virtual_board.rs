//! The root tests of the runtime, of its OCI command line, of the supervisor's quotas and of networks on links on kernels that are not this
//! machine's: a board with cgroup v2, one with v1 and one with another architecture, in QEMU.

mod emulated;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// QEMU takes one of this machine's processors for a board: two boards run side by side, where nothing else runs
/// (`make test` asks for one at a time).
static LANES: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

fn board(lane: usize, name: &str) -> String {
    let _turn = LANES[lane].lock().unwrap_or_else(PoisonError::into_inner);
    emulated::boards(&[name])
}

const HELD: &str = "container and jail and apparmor and checkpoint and confined and exec and hostile and lifecycle and net_devices and old_kernels and spec_fields and quota and wire held";

#[test]
fn containers_and_jails_hold_on_version_two_of_cgroups() {
    let told = board(0, "x86-64");
    assert!(told.contains(HELD), "{told}");
}

#[test]
fn containers_and_jails_hold_on_version_one_of_cgroups() {
    let told = board(1, "x86-64-v1");
    assert!(told.contains(HELD), "{told}");
}

#[test]
fn containers_and_jails_hold_on_arm64() {
    let told = board(0, "arm64");
    assert!(told.contains("container and jail and wire held"), "{told}");
}

/// Debian's kernel for machines in a cloud, which those have, knows no CAN.
#[test]
fn links_and_can_controllers_are_an_apps_on_a_kernel_that_has_them() {
    let told = board(0, "x86-64-can");
    let test = "two_containers_speak_over_controllers_at_the_bit_rate_that_is_asked_for ... ok";
    assert!(told.contains(test) && told.contains("wire held"), "{told}");
}

/// The watchdog is one that QEMU emulates: nothing of the machine but its disk is there after it has bitten.
#[test]
fn a_critical_app_and_a_supervisor_that_hangs_have_the_watchdog_reset_a_board() {
    let told = board(1, "x86-64-watchdog");
    let held = [
        "a_critical_app_resets_the_machine_twice_and_no_more ... ok",
        "a_supervisor_that_hangs_has_the_machine_reset ... ok",
    ];
    assert!(
        held.iter().all(|test| told.contains(test)) && told.contains("reset held"),
        "{told}"
    );
}

/// One interface: the tests expect the same of both versions. They may ask which one there is only to say that a test
/// makes no sense on it.
#[test]
fn the_runtime_tests_know_no_version() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/runtime/tests/container");
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the tests")
        .map(|entry| entry.expect("a file").path())
        .collect();
    let mut asked = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        for (at, _) in text.match_indices("version_two()") {
            let after = &text[at..];
            let block = &after[..after.find('}').unwrap_or(after.len())];
            assert!(
                block.contains("support::not_here("),
                "{}: {block}",
                file.display()
            );
            asked += 1;
        }
    }
    assert!(asked > 0, "nobody asks: is the function called otherwise?");
}
