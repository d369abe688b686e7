//! `coracle-boards`, and what it tells.

use std::process::Command;

/// Runs it; it has to end well.
pub fn boards(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-boards"))
        .args(arguments)
        .output()
        .expect("coracle-boards starts");
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
    told
}
