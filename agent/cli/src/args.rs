//! The command line.

use crate::failure::Failure;
use coracle_board_support::config::{Config, DEFAULT_CONFIG_FILE};
use std::ffi::OsString;
use std::path::PathBuf;

const HELP: &str = "\
coracle - what runs on this board, and what to do about it

usage: coracle [--socket PATH | --config FILE] [--json] COMMAND

  ps                        apps, their state, health and use
  status                    board, link, the running set, the last failure
  stats                     memory, CPU time and processes of each app
  images                    images of the running set
  logs [-f] [--tail N] [-t] APP
                            what an app wrote; -f goes on, -t shows times
  start | stop | restart APP
  enrol FILE                join the fleet that FILE (from the console) names
  usb apply PATH            install from a stick: a folder or a vfat image
  board check               what the kernel lacks for this board, and how to get it
  board show                which profile was chosen, and why
  board schema              what a profile file may say
  version                   versions of this program and of the agent

  --socket PATH   docker.sock of the agent (default: from the configuration)
  --config FILE   coracle.toml (default /etc/coracle/coracle.toml)
  --json          for programs

examples:
  coracle ps
  coracle logs -f --tail 20 web
  coracle usb apply /media/stick
  coracle --json status

exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused (trust or budget); 4 cannot reach coracled
";

/// What is said when `usb` is followed by something else.
const USB_USAGE: &str = "`usb` is followed by `apply PATH`";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--config`, or where it usually is.
    pub config: PathBuf,
    /// Whether output is for programs.
    pub json: bool,
    /// The command.
    pub command: Command,
}

/// Commands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    Ps,
    Status,
    Stats,
    Images,
    Version,
    Logs {
        app: String,
        follow: bool,
        tail: Option<u32>,
        timestamps: bool,
    },
    Control {
        app: String,
        action: &'static str,
    },
    Enrol {
        file: PathBuf,
    },
    UsbApply {
        path: PathBuf,
    },
    Board(BoardCommand),
}

/// `coracle board …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BoardCommand {
    Check,
    Show,
    Schema,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Run.
    Run(Options),
    /// Print this and end.
    Print(String),
}

impl Options {
    /// Where the agent listens. A board without coracle.toml has it where it usually is.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if !self.config.exists() && self.config == std::path::Path::new(DEFAULT_CONFIG_FILE) {
            return Ok("/run/coracle/docker.sock".into());
        }
        Config::load(&self.config)
            .map(|config| config.docker_socket())
            .map_err(|e| Failure::Board(e.to_string()))
    }
}

/// Reads the command line. Options may stand before and after the command.
pub fn parse(mut parser: lexopt::Parser) -> Result<Parsed, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut socket, mut json) = (None, false);
    let mut config = PathBuf::from(DEFAULT_CONFIG_FILE);
    let (mut follow, mut tail, mut timestamps) = (false, None, false);
    let mut words: Vec<OsString> = Vec::new();
    while let Some(arg) = parser.next()? {
        let logs = words.first().is_some_and(|w| w == "logs");
        match arg {
            Long("socket") => socket = Some(parser.value()?.into()),
            Long("config") => config = parser.value()?.into(),
            Long("json") => json = true,
            Short('f') | Long("follow") if logs => follow = true,
            Short('t') | Long("timestamps") if logs => timestamps = true,
            Short('n') | Long("tail") if logs => tail = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(Parsed::Print(HELP.to_owned())),
            Long("version") => words.push("version".into()),
            Value(word) => words.push(word),
            other => return Err(other.unexpected()),
        }
    }
    let Some(name) = words.first() else {
        return Ok(Parsed::Print(HELP.to_owned()));
    };
    let name = name.to_string_lossy().into_owned();
    let mut rest = words.into_iter().skip(1);
    let mut next = |what: &str| {
        rest.next()
            .ok_or_else(|| lexopt::Error::Custom(format!("`{name}` needs {what}").into()))
    };
    let mut app = || -> Result<String, lexopt::Error> {
        let name = next("the name of an app; `coracle ps` lists them")?.string()?;
        // It becomes part of a path.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(lexopt::Error::Custom(
                format!("`{name}` is no app name").into(),
            ));
        }
        Ok(name)
    };
    let command = match name.as_str() {
        "ps" => Command::Ps,
        "status" => Command::Status,
        "stats" => Command::Stats,
        "images" => Command::Images,
        "version" => Command::Version,
        "logs" => Command::Logs {
            app: app()?,
            follow,
            tail,
            timestamps,
        },
        "start" => Command::Control {
            app: app()?,
            action: "start",
        },
        "stop" => Command::Control {
            app: app()?,
            action: "stop",
        },
        "restart" => Command::Control {
            app: app()?,
            action: "restart",
        },
        "enrol" => Command::Enrol {
            file: next("the enrolment file")?.into(),
        },
        "usb" => match next(USB_USAGE)?.to_str() {
            Some("apply") => Command::UsbApply {
                path: next("the path of the stick")?.into(),
            },
            _ => return Err(lexopt::Error::Custom(USB_USAGE.into())),
        },
        "board" => Command::Board(match next("`check`, `show` or `schema`")?.to_str() {
            Some("check") => BoardCommand::Check,
            Some("show") => BoardCommand::Show,
            Some("schema") => BoardCommand::Schema,
            _ => {
                return Err(lexopt::Error::Custom(
                    "`board` is followed by `check`, `show` or `schema`".into(),
                ));
            }
        }),
        _ => {
            return Err(lexopt::Error::Custom(
                format!("there is no command `{name}`").into(),
            ));
        }
    };
    if let Some(word) = rest.next() {
        return Err(lexopt::Error::UnexpectedArgument(word));
    }
    Ok(Parsed::Run(Options {
        socket,
        config,
        json,
        command,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(args: &[&str]) -> Result<Command, lexopt::Error> {
        match parse(lexopt::Parser::from_args(args))? {
            Parsed::Run(options) => Ok(options.command),
            Parsed::Print(_) => Err("printed".into()),
        }
    }

    #[test]
    fn commands() {
        assert_eq!(command(&["ps", "--json"]).unwrap(), Command::Ps);
        let logs = Command::Logs {
            app: "web".into(),
            follow: true,
            tail: Some(3),
            timestamps: false,
        };
        assert_eq!(command(&["logs", "-f", "--tail=3", "web"]).unwrap(), logs);
        assert_eq!(command(&["logs", "web", "-fn3"]).unwrap(), logs);
        let usb = Command::UsbApply { path: "/x".into() };
        assert_eq!(command(&["usb", "apply", "/x"]).unwrap(), usb);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for bad in [
            &["nonsense"][..],
            &["logs"],
            &["ps", "web"],
            &["ps", "-f"],
            &["stop", "../x"],
            &["usb", "format", "/x"],
            &["board"],
        ] {
            assert!(command(bad).is_err(), "{bad:?}");
        }
    }
}
