//! The command line, as engines write it for runc: global options, a command, then options and names in any order.

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::failure::Failure;
use crate::id::ContainerId;

mod checkpoint;
mod update;

pub use checkpoint::{Checkpoint, Images, ManageCgroups, Restore};
pub use update::Update;

/// Where states are kept unless `--root` says otherwise.
const ROOT: &str = "/run/coracle-runtime";

/// Options before the command.
#[derive(Debug)]
pub struct Global {
    pub root: PathBuf,
    pub log: Option<PathBuf>,
    pub log_json: bool,
    pub debug: bool,
    /// The program that checkpoints and restores: a path, or a name to look for.
    pub criu: PathBuf,
    /// New containers are scopes of systemd's.
    pub systemd: bool,
}

/// `create` and `run`.
#[derive(Debug, Default)]
pub struct Create {
    pub bundle: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
    /// `run` only.
    pub detach: bool,
    /// `run` only: the stopped container stays.
    pub keep: bool,
    /// The container's cgroup is a scope of systemd's.
    pub systemd: bool,
}

#[derive(Debug, Default)]
pub struct Exec {
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
    pub detach: bool,
    pub ignore_paused: bool,
    /// Below the container's: `path`, or `controller,…:path` for some of v1's hierarchies.
    pub cgroup: Option<String>,
    /// A `process` of the specification; the rest is then not asked for.
    pub process: Option<PathBuf>,
    pub tty: bool,
    pub cwd: Option<String>,
    pub env: Vec<String>,
    pub user: Option<String>,
    pub additional_gids: Vec<String>,
    pub capabilities: Vec<String>,
    pub no_new_privs: bool,
    pub apparmor: Option<String>,
    pub process_label: Option<String>,
    pub args: Vec<String>,
}

#[derive(Debug)]
pub enum Command {
    Help,
    Version,
    Create(ContainerId, Create),
    Run(ContainerId, Create),
    Start(ContainerId),
    State(ContainerId),
    Kill {
        id: ContainerId,
        signal: String,
        all: bool,
    },
    Delete {
        id: ContainerId,
        force: bool,
    },
    Exec(ContainerId, Exec),
    Pause(ContainerId),
    Resume(ContainerId),
    Update(ContainerId, Update),
    Checkpoint(ContainerId, Checkpoint),
    Restore(ContainerId, Restore),
    Events {
        id: ContainerId,
        once: bool,
        interval: String,
    },
    Ps {
        id: ContainerId,
        json: bool,
        options: Vec<String>,
    },
    List {
        json: bool,
        quiet: bool,
    },
    Spec {
        bundle: Option<PathBuf>,
        rootless: bool,
    },
    Features,
}

/// The global options are there also when what follows them makes no sense: engines read of it in the log.
pub fn parse(mut parser: lexopt::Parser) -> (Global, Result<Command, Failure>) {
    let mut global = Global {
        root: ROOT.into(),
        log: None,
        log_json: false,
        debug: false,
        criu: "criu".into(),
        systemd: false,
    };
    let command = parse_into(&mut global, &mut parser);
    (global, command)
}

fn parse_into(global: &mut Global, parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    loop {
        let Some(argument) = parser.next()? else {
            return Ok(Command::Help);
        };
        match argument {
            Long("root") => global.root = parser.value()?.into(),
            Long("log") => global.log = Some(parser.value()?.into()),
            Long("log-format") => global.log_json = one_of(parser, &["text", "json"])? == "json",
            Long("debug") => global.debug = true,
            // Whoever says so must be root all the same.
            Long("rootless") => drop(parser.value()?),
            Long("criu") => global.criu = parser.value()?.into(),
            Long("cgroup-manager") => {
                global.systemd = one_of(parser, &["cgroupfs", "systemd"])? == "systemd";
            }
            Long("systemd-cgroup") => global.systemd = true,
            Long("version") | Short('v') => return Ok(Command::Version),
            Long("help") | Short('h') => return Ok(Command::Help),
            Value(name) => {
                let name = name.string()?;
                return command(&name, parser, global);
            }
            other => return Err(other.unexpected().into()),
        }
    }
}

fn one_of(parser: &mut lexopt::Parser, known: &[&str]) -> Result<String, Failure> {
    let value = parser.value()?.string()?;
    if !known.contains(&value.as_str()) {
        return Err(Failure::Usage(format!("{value:?} is none of {known:?}")));
    }
    Ok(value)
}

fn command(
    name: &str,
    parser: &mut lexopt::Parser,
    global: &mut Global,
) -> Result<Command, Failure> {
    Ok(match name {
        "create" => create(parser, global).map(|(id, create)| Command::Create(id, create))?,
        "run" => create(parser, global).map(|(id, create)| Command::Run(id, create))?,
        "start" => Command::Start(only_id(parser)?),
        "state" => Command::State(only_id(parser)?),
        "pause" => Command::Pause(only_id(parser)?),
        "resume" => Command::Resume(only_id(parser)?),
        "kill" => kill(parser)?,
        "delete" => delete(parser)?,
        "exec" => exec(parser)?,
        "update" => update::parse(parser).map(|(id, update)| Command::Update(id, update))?,
        "events" => events(parser)?,
        "ps" => ps(parser)?,
        "list" => list(parser)?,
        "spec" => spec(parser)?,
        "features" => Command::Features,
        "checkpoint" => checkpoint::checkpoint(parser)?,
        "restore" => checkpoint::restore(parser, global)?,
        "help" => Command::Help,
        _ => {
            // One who asks where the states are need not name a command that exists.
            let root = global.root.display();
            return Err(Failure::Usage(format!("no command {name:?} (root {root})")));
        }
    })
}

fn create(parser: &mut lexopt::Parser, global: &Global) -> Result<(ContainerId, Create), Failure> {
    let mut id = None;
    let mut create = Create {
        systemd: global.systemd,
        ..Create::default()
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bundle") | Short('b') => create.bundle = Some(parser.value()?.into()),
            Long("console-socket") => create.console_socket = Some(parser.value()?.into()),
            Long("pid-file") => create.pid_file = Some(parser.value()?.into()),
            Long("preserve-fds") => create.preserve_fds = parser.value()?.parse()?,
            Long("detach") | Short('d') => create.detach = true,
            Long("keep") => create.keep = true,
            // The root is changed by pivot_root, on any file system.
            Long("no-pivot" | "no-new-keyring" | "no-subreaper") => {}
            other => take_id(&mut id, other)?,
        }
    }
    Ok((wanted(id)?, create))
}

fn only_id(parser: &mut lexopt::Parser) -> Result<ContainerId, Failure> {
    let mut id = None;
    while let Some(argument) = parser.next()? {
        take_id(&mut id, argument)?;
    }
    wanted(id)
}

fn take_id(id: &mut Option<ContainerId>, argument: lexopt::Arg<'_>) -> Result<(), Failure> {
    match argument {
        Value(value) if id.is_none() => *id = Some(ContainerId::parse(&value.string()?)?),
        other => return Err(other.unexpected().into()),
    }
    Ok(())
}

fn wanted(id: Option<ContainerId>) -> Result<ContainerId, Failure> {
    id.ok_or_else(|| Failure::Usage("a container id is missing".into()))
}

fn kill(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut id, mut signal, mut all) = (None, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("all") | Short('a') => all = true,
            Long("signal") | Short('s') => signal = Some(parser.value()?.string()?),
            Value(value) if id.is_some() && signal.is_none() => signal = Some(value.string()?),
            other => take_id(&mut id, other)?,
        }
    }
    Ok(Command::Kill {
        id: wanted(id)?,
        signal: signal.unwrap_or_else(|| "TERM".into()),
        all,
    })
}

fn delete(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut id, mut force) = (None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("force") | Short('f') => force = true,
            other => take_id(&mut id, other)?,
        }
    }
    let id = wanted(id)?;
    Ok(Command::Delete { id, force })
}

/// The program's own options follow its name, so options of ours end there.
fn exec(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut id, mut exec) = (None, Exec::default());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("console-socket") => exec.console_socket = Some(parser.value()?.into()),
            Long("pid-file") => exec.pid_file = Some(parser.value()?.into()),
            Long("preserve-fds") => exec.preserve_fds = parser.value()?.parse()?,
            Long("detach") | Short('d') => exec.detach = true,
            Long("cgroup") => exec.cgroup = Some(parser.value()?.string()?),
            Long("ignore-paused") => exec.ignore_paused = true,
            Long("process") | Short('p') => exec.process = Some(parser.value()?.into()),
            Long("tty") | Short('t') => exec.tty = true,
            Long("cwd") => exec.cwd = Some(parser.value()?.string()?),
            Long("env") | Short('e') => exec.env.push(parser.value()?.string()?),
            Long("user") | Short('u') => exec.user = Some(parser.value()?.string()?),
            Long("additional-gids") | Short('g') => {
                exec.additional_gids.push(parser.value()?.string()?);
            }
            Long("cap") | Short('c') => exec.capabilities.push(parser.value()?.string()?),
            Long("no-new-privs") => exec.no_new_privs = true,
            Long("apparmor") => exec.apparmor = Some(parser.value()?.string()?),
            Long("process-label") => exec.process_label = Some(parser.value()?.string()?),
            Long("no-subreaper") => {}
            Value(first) if id.is_some() => {
                exec.args.push(first.string()?);
                for rest in parser.raw_args()? {
                    exec.args.push(rest.string()?);
                }
            }
            other => take_id(&mut id, other)?,
        }
    }
    Ok(Command::Exec(wanted(id)?, exec))
}

fn events(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut id, mut once, mut interval) = (None, false, "5s".to_owned());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("stats") => once = true,
            Long("interval") => interval = parser.value()?.string()?,
            other => take_id(&mut id, other)?,
        }
    }
    let id = wanted(id)?;
    Ok(Command::Events { id, once, interval })
}

fn ps(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut id, mut json, mut options) = (None, false, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("format") | Short('f') if options.is_empty() => {
                json = one_of(parser, &["table", "json"])? == "json";
            }
            Value(first) if id.is_some() => {
                options.push(first.string()?);
                for rest in parser.raw_args()? {
                    options.push(rest.string()?);
                }
            }
            other => take_id(&mut id, other)?,
        }
    }
    let id = wanted(id)?;
    Ok(Command::Ps { id, json, options })
}

fn list(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut json, mut quiet) = (false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("format") | Short('f') => json = one_of(parser, &["table", "json"])? == "json",
            Long("quiet") | Short('q') => quiet = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::List { json, quiet })
}

fn spec(parser: &mut lexopt::Parser) -> Result<Command, Failure> {
    let (mut bundle, mut rootless) = (None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bundle") | Short('b') => bundle = Some(parser.value()?.into()),
            Long("rootless") => rootless = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Spec { bundle, rootless })
}

#[cfg(test)]
mod tests;
