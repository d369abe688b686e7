//! `coracle-release`: see the library.

#![deny(clippy::expect_used, clippy::unwrap_used)]

use clap::Parser;
use coracle_release::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("coracle-release: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
