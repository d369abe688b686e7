//! The demo is the whole-system test: each of its steps asserts what it shows.

use coracle_tests::leftovers;
use std::process::Command;

#[test]
fn the_whole_loop_holds_and_nothing_of_it_is_left() {
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-demo"))
        .output()
        .expect("the demo starts");
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
    assert!(told.contains("[11/11"), "the demo ended early:\n{told}");
    assert_eq!(leftovers::find("cordemo"), Vec::<String>::new());
}
