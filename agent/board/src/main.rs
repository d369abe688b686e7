//! The three programs of a board in one file, as boards ship it: the name that it is called by says which one it is.
//!
//! They share the standard library, the parsers and the protocol, so that one file takes two thirds of what three
//! take, on flash and, since pages of a file are shared, in memory. They stay processes of their own: the daemon runs
//! without a capability, and what of the file it does not run gives it nothing that it could not bring along.

#![deny(clippy::expect_used, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

type Program = fn() -> ExitCode;

/// Name, and where it begins.
const PROGRAMS: [(&str, Program); 3] = [
    ("coracle-supervisor", coracle_supervisor::program::main),
    ("coracled", coracle_daemon::program::main),
    ("coracle", coracle_cli::main),
];

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    match program(name) {
        Some(program) => program(),
        None => {
            eprintln!(
                "{}: this file is coracle-supervisor, coracled and coracle: call it by one of those names \
                 (ln -s coracle-agent coracled)",
                name.display()
            );
            ExitCode::from(2)
        }
    }
}

fn program(name: &OsStr) -> Option<Program> {
    PROGRAMS
        .iter()
        .find(|(known, _)| name == *known)
        .map(|(_, program)| *program)
}

#[cfg(test)]
mod tests {
    use super::{PROGRAMS, program};
    use std::ffi::OsStr;

    /// A package that is named in a profile has lost the profile's `strip` (cargo 1.95): four MiB of symbols would ship.
    #[test]
    fn programs_that_are_built_for_size_are_stripped() {
        let settings = include_str!("../../../Cargo.toml");
        let (_, release) = settings
            .split_once("\n[profile.release.package]\n")
            .unwrap();
        for package in ["agent", "cli", "daemon", "oci", "supervisor"] {
            let line = format!("\ncoracle-{package} = {{ opt-level = \"z\", strip = true }}\n");
            assert!(release.contains(&line), "{package}");
        }
    }

    #[test]
    fn a_program_is_found_by_its_whole_name_only() {
        for (name, _) in PROGRAMS {
            assert!(program(OsStr::new(name)).is_some(), "{name}");
        }
        for name in ["", "coracle-agent", "coracl", "coracled2", "Coracle"] {
            assert!(program(OsStr::new(name)).is_none(), "{name}");
        }
    }
}
