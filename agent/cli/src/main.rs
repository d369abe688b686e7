//! `coracle`: what people type on the board. Arguments, one command, one exit code.

mod args;
mod board;
mod client;
mod enrol;
mod failure;
mod logs;
mod show;
mod table;
mod usb;

use args::{Command, Parsed};
use client::Client;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match args::parse(lexopt::Parser::from_env()) {
        Ok(Parsed::Run(options)) => options,
        Ok(Parsed::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("coracle: {error}\nTry `coracle --help`.");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        // `coracle logs | head`: whoever reads has had enough.
        Err(Failure::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("coracle: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(options: &args::Options) -> Result<(), Failure> {
    if let Command::Board(what) = &options.command {
        return board::run(*what, &options.config, options.json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Output)?;
    let client = Client::new(options.socket()?);
    let json = options.json;
    runtime.block_on(async {
        match &options.command {
            Command::Ps => show::ps(&client, json).await,
            Command::Status => show::status(&client, json).await,
            Command::Stats => show::stats(&client, json).await,
            Command::Images => show::images(&client, json).await,
            Command::Version => show::version(&client, json).await,
            Command::Logs {
                app,
                follow,
                tail,
                timestamps,
            } => logs::run(&client, app, *follow, *tail, *timestamps).await,
            Command::Control { app, action } => {
                let path = format!("/containers/{app}/{action}");
                client.post(&path, Vec::new()).await.map(drop)
            }
            Command::Enrol { file } => enrol::run(&client, file).await,
            Command::UsbApply { path } => usb::apply(&client, path, json).await,
            // Answered above: it needs no daemon.
            Command::Board(_) => Ok(()),
        }
    })
}
