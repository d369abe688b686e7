//! `coracle`: what people type on the board. It talks to coracled over docker.sock, reads sticks,
//! and looks at the kernel.
//!
//! | file | what it holds |
//! |---|---|
//! | [`args`], [`help`] | the command line, and what `--help` prints |
//! | [`failure`] | every way to end badly, and its exit code |
//! | [`client`], [`body`] | HTTP/1.1 over the unix socket |
//! | [`status`], [`apps`], [`logs`], [`enrol`] | the commands that ask the daemon |
//! | [`volumes`] | volumes: looked at, made, removed, backed up, restored |
//! | [`usb`], [`plugged`], [`stick`] | a release from a folder, a vfat image, or a stick that was plugged in |
//! | [`result`] | what is left on a stick that asks for it |
//! | [`store`] | whether what is on the disk is what was signed |
//! | [`reset`], [`exec`], [`supervisor`] | what root on the board asks the supervisor itself |
//! | [`board`], [`settings`] | what this board is and what its kernel lacks; coracle.toml |
//! | [`table`], [`human`], [`output`] | how it looks |

#![deny(clippy::expect_used, clippy::unwrap_used)]

mod apps;
mod args;
mod board;
mod body;
mod client;
mod enrol;
mod exec;
mod failure;
mod help;
mod human;
mod logs;
mod output;
mod plugged;
mod reset;
mod result;
mod settings;
mod status;
mod stick;
mod store;
mod supervisor;
mod table;
mod update;
mod usb;
mod volumes;

use args::{Command, Invocation};
use client::Client;
use failure::Failure;
use std::process::ExitCode;

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let end = args::parse(lexopt::Parser::from_env())
        .map_err(Failure::from)
        .and_then(run);
    match end {
        Ok(()) => ExitCode::SUCCESS,
        // `coracle ps | head -1`: whoever read has enough.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) if failure.is_told() => ExitCode::from(failure.exit_code()),
        Err(failure) => {
            eprintln!("coracle: {}", human::printable(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(invocation: Invocation) -> Result<(), Failure> {
    let Invocation {
        place,
        json,
        command,
    } = invocation;
    let client = || place.socket().map(Client::new);
    match command {
        Command::Help(text) => output::text(text),
        Command::OwnVersion => output::text(&format!("coracle {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Ps => apps::ps(&client()?, json).await,
        Command::Stats => apps::stats(&client()?, json).await,
        Command::Images => apps::images(&client()?, json).await,
        Command::Control { action, app } => apps::control(&client()?, action, &app).await,
        Command::Kill { app, signal } => apps::kill(&client()?, &app, &signal).await,
        Command::Logs(wanted) => logs::show(&client()?, &wanted).await,
        Command::Exec(wanted) => exec::run(&place.config()?.supervisor_socket(), wanted).await,
        Command::Volume(command) => volumes::run(&client()?, &command, json).await,
        Command::Status => status::show(&client()?, json).await,
        Command::Version => status::version(client().ok().as_ref(), json).await,
        Command::Enrol { file } => enrol::enrol(&client()?, &file).await,
        Command::UsbApply { path } => usb::apply(&client()?, &place, &path).await,
        Command::UsbPlugged { device } => plugged::apply(&client()?, &place, &device).await,
        Command::UsbResult { device } => result::write(&place, &device),
        Command::StoreCheck { repair } => store::check(&client()?, repair, json).await,
        Command::UpdateAccept => update::accept(&client()?).await,
        Command::Reset {
            decommission,
            volumes,
        } => reset::reset(&place.config()?.supervisor_socket(), decommission, volumes),
        Command::BoardCheck => board::check(&place.config()?, json),
        Command::BoardShow => board::show(&place.config()?, json),
        Command::BoardSchema => output::text(board::SCHEMA),
        Command::ConfigCheck => settings::check(&place.config()?),
        Command::ConfigSchema => output::text(settings::SCHEMA),
    }
}
