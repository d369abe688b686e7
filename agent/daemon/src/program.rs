//! The program: settings, socket, privileges, run, drain. The one place that makes exit codes.

use crate::{args, args::Parsed, daemon, privileges, renewal};
use anyhow::Context;
use coracle_board_support::config::Config;
use coracle_board_support::program::Program;
use std::process::ExitCode;

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let options = match args::parse(lexopt::Parser::from_env()) {
        Ok(Parsed::Run(options)) => options,
        Ok(Parsed::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("coracled: {error}\nTry `coracled --help`.");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coracled: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &args::Options) -> anyhow::Result<()> {
    coracle_board_support::memory::begin_small();
    let config = Config::load(&options.config)?;
    let level: tracing::Level = config.log_level.as_str().parse().context("[log] level")?;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    for key in &config.passed_over {
        tracing::warn!(
            key,
            "coracle.toml is of a newer version: this key is passed over"
        );
    }
    let program = Program::own().context("the program's own file")?;
    if Program::brought().is_some() {
        // By its descriptor it was executed, and its number would be the process's name.
        nix::sys::prctl::set_name(c"coracled").context("its name")?;
    }
    let listener = privileges::prepare(&config, options.allow_root)?;
    // One thread does all the work; a second comes only to resolve names and to flush large files.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(128 * 1024)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()?;
    // Whoever tries things out is alone, and waits.
    let first_look = match options.allow_root {
        true => std::time::Duration::ZERO,
        false => renewal::FIRST_LOOK,
    };
    let result = runtime.block_on(daemon::run(config, listener, first_look, &program));
    // A resolver that hangs does not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result? {
        None => Ok(()),
        Some(other) => {
            Err(other.execute(&program)).context("executing another program of the board's own")
        }
    }
}
