//! `coracle-runtime`: the OCI runtime command line that podman, conmon, containerd and dockerd drive.
//!
//! | file | what it holds |
//! |---|---|
//! | [`args`], [`id`] | the command line; names of containers |
//! | [`config`], [`plan`] | config.json, and what it means in the library's words |
//! | [`store`], [`state`], [`alive`] | what is kept of a container, and what has become of it |
//! | [`create`], [`inside`], [`start`], [`run`] | from a bundle to a program that runs |
//! | [`exec`], [`filter`], [`foreground`], [`terminal`] | one more process, and its seccomp filter; waiting for one, and showing its terminal |
//! | [`kill`], [`delete`], [`pause`], [`update`], [`limits`] | what is done to a container |
//! | [`place`], [`systemd`] | where a container's cgroup is, and who makes it |
//! | [`checkpoint`], [`restore`], [`criu`] | its processes in images, and made again from them |
//! | [`show`], [`events`], [`features`], [`spec`] | what is told |
//! | [`hooks`] | programs of the configuration |
//! | [`net_devices`] | network devices of the host that become the container's |
//! | [`journal`], [`failure`] | what is written where, and every way to end badly |

mod alive;
mod args;
mod checkpoint;
mod config;
mod create;
mod criu;
mod delete;
mod events;
mod exec;
mod failure;
mod features;
mod filter;
mod foreground;
mod hooks;
mod id;
mod inside;
mod journal;
mod kill;
mod limits;
mod net_devices;
mod pause;
mod place;
mod plan;
mod restore;
mod run;
mod show;
mod spec;
mod start;
mod state;
mod store;
mod systemd;
mod terminal;
mod update;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use args::{Command, Global};
use config::Config;
use create::Terminal;
use failure::{Doing, Failure};
use journal::Journal;
use store::Store;

const HELP: &str = "\
coracle-runtime [--root DIR] [--log FILE] [--log-format text|json] [--criu PROGRAM] [--systemd-cgroup] COMMAND

  create ID [-b BUNDLE] [--console-socket S] [--pid-file F] [--preserve-fds N]
  start ID               run what create has made
  run ID [-d] [--keep]   create and start; without -d wait for the end and delete
  state ID               as JSON
  kill ID [SIGNAL] [-a]  TERM unless another is named
  delete ID [-f]
  exec ID [-t] [-d] [-u UID[:GID]] [-e K=V] [--cwd DIR] [-p PROCESS.json] PROGRAM …
  pause ID, resume ID
  update ID [--memory N] [--cpu-quota N] … | -r RESOURCES.json
  checkpoint ID [--image-path DIR] [--work-path DIR] [--leave-running] [--pre-dump] [--parent-path DIR]
  restore ID [-b BUNDLE] [-d] [--pid-file F] [--console-socket S] [--image-path DIR] [--work-path DIR]
                         both: --tcp-established --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode M …
  events ID [--stats] [--interval 5s]
  ps ID [-f json] [PS OPTIONS], list [-q] [-f json]
  spec [-b BUNDLE], features
";

/// What runc ends with when something of its own fails.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let (global, command) = args::parse(lexopt::Parser::from_env());
    let journal = Journal::new(&global);
    match command.and_then(|command| run(&global, command, &journal)) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
        Err(failure) => {
            journal.error(&failure.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn run(global: &Global, command: Command, journal: &Journal) -> Result<i32, Failure> {
    if matches!(
        command,
        Command::Create(..) | Command::Run(..) | Command::Exec(..)
    ) {
        seal()?;
    }
    let store = || Store::open(&global.root);
    match command {
        Command::Help => print!("{HELP}"),
        Command::Version => {
            println!(
                "coracle-runtime version {}\nspec: 1.3.0",
                env!("CARGO_PKG_VERSION")
            );
        }
        Command::Create(id, options) => {
            let config = Config::load(options.bundle.as_deref())?;
            let socket = options.console_socket.as_deref();
            let terminal = socket.map_or(Terminal::None, Terminal::Socket);
            create::create(&store()?, &id, &config, &options, terminal, journal)?;
        }
        Command::Run(id, options) => {
            let config = Config::load(options.bundle.as_deref())?;
            return run::run(&store()?, &id, &config, &options, journal);
        }
        Command::Start(id) => start::start(&store()?, &id, journal)?,
        Command::State(id) => show::state(&store()?, &id)?,
        Command::Kill { id, signal, all } => kill::kill(&store()?, &id, &signal, all)?,
        Command::Delete { id, force } => delete::delete(&store()?, &id, force, journal)?,
        Command::Exec(id, options) => return exec::exec(&store()?, &id, &options, journal),
        Command::Pause(id) => pause::pause(&store()?, &id)?,
        Command::Resume(id) => pause::resume(&store()?, &id)?,
        Command::Update(id, options) => update::update(&store()?, &id, &options, journal)?,
        Command::Events { id, once, interval } => events::events(&store()?, &id, once, &interval)?,
        Command::Ps { id, json, options } => show::ps(&store()?, &id, json, &options)?,
        Command::List { json, quiet } => show::list(&store()?, json, quiet)?,
        Command::Checkpoint(id, options) => {
            checkpoint::checkpoint(global, &store()?, &id, &options, journal)?;
        }
        Command::Restore(id, options) => {
            return restore::restore(global, &store()?, &id, &options, journal);
        }
        Command::Spec { bundle, rootless } => spec::write(bundle.as_deref(), rootless)?,
        Command::Features => println!("{}", features::features(global)),
    }
    Ok(0)
}

/// Executes this program anew from a place that no container can write to, unless it is there already.
fn seal() -> Result<(), Failure> {
    let Some(program) = coracle_runtime::sealed::program().doing("sealing the program")? else {
        return Ok(());
    };
    let c_string = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let args: Vec<CString> = std::env::args_os()
        .map(|arg| c_string(arg.into_vec()))
        .collect();
    let env: Vec<CString> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name.into_vec())
        })
        .collect();
    match nix::unistd::fexecve(program, &args, &env) {
        Ok(never) => match never {},
        Err(errno) => Err(errno).doing("executing the sealed program"),
    }
}
