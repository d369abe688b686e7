//! The program: settings, build, run, drain; and the one place where an error becomes an exit code.

use crate::agent;
use crate::anew::{Next, Program};
use crate::reset;
use crate::settings::Settings;
use crate::supervisor::{Supervisor, is_locked, stop_all};
use anyhow::Context;
use coracle_board_support::config::{Config, DEFAULT_CONFIG_FILE};
use coracle_board_support::wear;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
coracle-supervisor: the only process on the board that makes containers; it runs as root

  coracle-supervisor [--config FILE]            run; SIGTERM ends it and leaves the apps running,
                                                SIGHUP executes the program anew, as after an upgrade
  coracle-supervisor stop-all [--config FILE]   end every app and take the apps' network away
  coracle-supervisor check [--config FILE]      say whether it would come up with that file
  coracle-supervisor --version

  --config FILE   coracle.toml; /etc/coracle/coracle.toml when left out

Examples
  coracle-supervisor
  coracle-supervisor stop-all --config /etc/coracle/coracle.toml

Exit codes: 0 done, 1 failed, 2 this was typed wrongly.
";

enum Asked {
    Run(PathBuf),
    StopAll(PathBuf),
    Check(PathBuf),
    Say(String),
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let asked = match arguments() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("coracle-supervisor: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let outcome = match asked {
        Asked::Say(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Asked::Run(file) => run(&file, false),
        Asked::StopAll(file) => run(&file, true),
        Asked::Check(file) => check(&file),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coracle-supervisor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::*;
    let mut file = PathBuf::from(DEFAULT_CONFIG_FILE);
    let (mut stop, mut check) = (false, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => file = parser.value()?.into(),
            Long("help") | Short('h') => return Ok(Asked::Say(HELP.to_owned())),
            Long("version") => {
                let version = concat!("coracle-supervisor ", env!("CARGO_PKG_VERSION"), "\n");
                return Ok(Asked::Say(version.to_owned()));
            }
            Value(word) if word == "stop-all" && !check => stop = true,
            Value(word) if word == "check" && !stop => check = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok(match (stop, check) {
        (true, _) => Asked::StopAll(file),
        (_, true) => Asked::Check(file),
        _ => Asked::Run(file),
    })
}

/// What a reload asks the program that it leads to.
fn check(file: &std::path::Path) -> anyhow::Result<()> {
    Ok(Settings::can_be_read(&Config::load(file)?)?)
}

fn run(file: &std::path::Path, stop: bool) -> anyhow::Result<()> {
    coracle_board_support::memory::begin_small();
    // The level is in the file, so the file is read once before anything can be logged.
    let config = Config::load(file)?;
    let level = config.log_level.as_str().parse::<tracing::Level>()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .init();
    for key in &config.passed_over {
        tracing::warn!(
            key,
            "coracle.toml is of a newer version: this key is passed over"
        );
    }
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "it makes containers and has to run as root"
    );
    // Secrets are in this memory: no core dump of it is written, whatever the board does with those of others.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let program = Program::own().context("the program's own file")?;
    match Program::brought().is_some() {
        // By its descriptor it was executed, and its number would be the process's name.
        true => rustix::thread::set_name(c"coracle-supervi").context("its name")?,
        false => {
            // Which says nothing about the program.
            anyhow::ensure!(
                stop || !is_locked(&config),
                "another supervisor runs already"
            );
            let boot = wear::boot_id(&config.hardware_root);
            let boot = (!stop).then_some(boot.as_str());
            agent::follow(
                &config,
                &program,
                boot,
                Settings::can_be_read(&config).is_ok(),
            );
        }
    }
    let settings = Settings::load(file)?;
    // One thread, for ever: the child side of a launch runs ordinary code after clone.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime")?;
    // What could not be had of a full disk may be there now.
    let was_full = !stop && runtime.block_on(reset::finish(&settings))?;
    let settings = match was_full {
        true => Settings::load(file)?,
        false => settings,
    };
    let next = runtime.block_on(async {
        match stop {
            true => stop_all(&settings).await.map(|()| Next::End),
            false => Supervisor::start(settings).await?.run(&program).await,
        }
    })?;
    drop(runtime);
    match next {
        Next::End => Ok(()),
        Next::Anew => Err(program.execute()).context("executing it anew"),
    }
}
