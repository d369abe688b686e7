//! `coracle-console`: reads the command line, does what it says, turns an error into an exit code
//! (1 failed, 2 usage).

use clap::Parser;
use coracle_console::settings::{Command, CommandLine};
use coracle_console::{check, serve, tokens};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let line = CommandLine::parse();
    let filter = EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    match run(line.command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coracle-console: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(settings) => serve::run(settings).await?,
        Command::Token(command) => println!("{}", tokens::run(command).await?),
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
