//! `coracle-console`: reads the command line, does what it says, turns an error into an exit code
//! (1 failed, 2 usage).

#![deny(clippy::expect_used, clippy::unwrap_used)]

use clap::Parser;
use coracle_console::settings::{CaCommand, Command, CommandLine};
use coracle_console::{boards, ca, check, serve, tokens};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// A delta that is being computed when the console stops is given up after this.
const BLOCKING: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let filter = EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("coracle-console: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(line.command));
    runtime.shutdown_timeout(BLOCKING);
    code.unwrap_or_else(|error| {
        eprintln!("coracle-console: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(settings) => serve::run(*settings).await?,
        Command::Token(command) => println!("{}", tokens::run(command).await?),
        Command::Ca(CaCommand::New { key }) => {
            let (token, _) = ca::key::make(&key)?;
            println!(
                "made a key for a fleet's CA\n  private in {token}, and it does not leave it\n  next: coracle-console serve … --ca-key '{key}'"
            );
        }
        Command::Boards(command) => println!("{}", boards::run(command).await?),
        Command::Check(settings) => {
            let report = check::run(&settings).await;
            print!("{report}");
            if !report.is_good() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
