//! `coracle-release`: see the library.

#![deny(clippy::expect_used, clippy::unwrap_used)]

use clap::Parser;
use coracle_release::cli::Cli;
use coracle_release::keys::UriError;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before it is parsed: what is wrong with an argument is said with the argument.
    let has_pin = |argument: std::ffi::OsString| {
        let text = argument.to_string_lossy();
        text.contains("pkcs11:") && text.contains("pin-value=")
    };
    if std::env::args_os().any(has_pin) {
        eprintln!("coracle-release: {}", UriError::PinValue);
        return ExitCode::from(2);
    }
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("coracle-release: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
