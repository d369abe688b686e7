//! The command line. Options may stand before and after the command; one that the command does not
//! know is refused, so that a slip is never taken for consent.

use crate::help;
use coracle_board_support::config::{Config, ConfigError, DEFAULT_CONFIG_FILE, WrittenConfig};
use coracle_protocol::names::AppName;
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Where the daemon and the settings are.
    pub place: Place,
    /// Machine-readable.
    pub json: bool,
    /// What to do.
    pub command: Command,
}

/// A command and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print this.
    Help(&'static str),
    /// `--version`: asks nobody.
    OwnVersion,
    Ps,
    Stats,
    Images,
    Status,
    Version,
    Logs(Logs),
    Control {
        action: Action,
        app: AppName,
    },
    Kill {
        app: AppName,
        /// As it was written, in letters that need no escape in a path.
        signal: String,
    },
    Exec(ExecCommand),
    Volume(VolumeCommand),
    Enrol {
        file: PathBuf,
    },
    UsbApply {
        path: PathBuf,
    },
    UsbPlugged {
        device: PathBuf,
    },
    /// What this program calls for itself.
    UsbResult {
        device: PathBuf,
    },
    UpdateAccept,
    StoreCheck {
        repair: bool,
    },
    Reset {
        decommission: bool,
        volumes: bool,
    },
    BoardCheck,
    BoardShow,
    BoardSchema,
    ConfigCheck,
    ConfigSchema,
}

mod apps;
mod board;
mod exec;
mod volume;
mod words;

pub use exec::ExecCommand;
pub use volume::{NewVolume, VolumeCommand};
use words::gather;

/// What is done to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Restart,
    Stop,
    Start,
    Pause,
    Resume,
}

/// `logs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Whose.
    pub app: AppName,
    /// Go on as the app writes.
    pub follow: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
}

/// Where the daemon and the settings are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    socket: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// Wrong usage.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// As lexopt says it.
    #[error("{0}; see `coracle --help`")]
    Option(#[from] lexopt::Error),
    /// No such command.
    #[error("`{0}` is no command; see `coracle --help`")]
    Command(String),
    /// An argument that must be there.
    #[error("{command} needs {what}; see `coracle {command} --help`")]
    Missing {
        command: &'static str,
        what: &'static str,
    },
    /// One argument too many.
    #[error("{command} takes no `{argument}`; see `coracle {command} --help`")]
    TooMany {
        command: &'static str,
        argument: String,
    },
    /// Not a signal.
    #[error("`{0}` is no signal; see `coracle kill --help`")]
    Signal(String),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] coracle_protocol::names::NameError),
}

/// Reads the command line.
pub fn parse(parser: lexopt::Parser) -> Result<Invocation, UsageError> {
    let mut words = gather(parser)?;
    let name = words.plain.pop_front().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    if words.version {
        return Ok(words.invocation(Command::OwnVersion));
    }
    if words.help || name == "help" {
        let topic = match name.as_str() {
            "help" => words
                .plain
                .front()
                .map_or("".into(), |t| t.to_string_lossy()),
            _ => name.as_str().into(),
        };
        let text = help::of(&topic).ok_or_else(|| UsageError::Command(topic.to_string()))?;
        return Ok(words.invocation(Command::Help(text)));
    }
    let command = match name.as_str() {
        "" => {
            return Err(UsageError::Missing {
                command: "help",
                what: "a command, such as ps",
            });
        }
        "ps" => words.listing("ps", Command::Ps)?,
        "stats" => words.listing("stats", Command::Stats)?,
        "images" => words.listing("images", Command::Images)?,
        "status" => words.listing("status", Command::Status)?,
        "version" => words.listing("version", Command::Version)?,
        "logs" => words.logs()?,
        "restart" => words.control("restart", Action::Restart)?,
        "stop" => words.control("stop", Action::Stop)?,
        "start" => words.control("start", Action::Start)?,
        "pause" => words.control("pause", Action::Pause)?,
        "resume" | "unpause" => words.control("resume", Action::Resume)?,
        "kill" => words.kill()?,
        "enrol" => {
            let file = words.path("enrol", "the enrolment file")?;
            words.end("enrol", Command::Enrol { file })?
        }
        "exec" => words.exec()?,
        "volume" => words.volume()?,
        "usb" => words.usb()?,
        "update" => words.update()?,
        "store" => words.store()?,
        "factory-reset" => words.reset("factory-reset", false)?,
        "decommission" => words.reset("decommission", true)?,
        "board" => words.board()?,
        "config" => words.config()?,
        _ => return Err(UsageError::Command(name)),
    };
    Ok(words.invocation(command))
}

impl Place {
    /// The daemon's socket: `--socket`, else what coracle.toml says.
    pub fn socket(&self) -> Result<PathBuf, ConfigError> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => self.config().map(|config| config.docker_socket()),
        }
    }

    /// `--config`, for a program that is called to help.
    pub fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The settings. Without `--config`, a board that has no coracle.toml has the defaults.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let default = Path::new(DEFAULT_CONFIG_FILE);
        match &self.config {
            Some(file) => Config::load(file),
            None if default.exists() => Config::load(default),
            None => {
                let folder = default.parent().unwrap_or(Path::new("/"));
                Ok(Config::from_written(WrittenConfig::default(), folder))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::names::VolumeName;

    fn read(line: &str) -> Result<Invocation, UsageError> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn options_stand_before_and_after_the_command() {
        let before = read("--socket /s --json ps").unwrap();
        assert_eq!(before, read("ps --json --socket=/s").unwrap());
        assert_eq!(before.command, Command::Ps);
        assert!(before.json);
        assert_eq!(before.place.socket().unwrap(), Path::new("/s"));
    }

    #[test]
    fn logs_take_their_options() {
        let Command::Logs(logs) = read("logs -f --tail 20 web").unwrap().command else {
            panic!("not logs");
        };
        assert_eq!(
            (logs.app.as_str(), logs.follow, logs.tail),
            ("web", true, Some(20))
        );
        let Command::Logs(logs) = read("logs web --tail all").unwrap().command else {
            panic!("not logs");
        };
        assert_eq!((logs.follow, logs.tail), (false, None));
    }

    #[test]
    fn commands_and_their_arguments() {
        let command = |line| read(line).unwrap().command;
        let app = AppName::new("web").unwrap();
        assert_eq!(
            command("stop web"),
            Command::Control {
                action: Action::Stop,
                app
            }
        );
        assert_eq!(
            command("usb apply /media/x"),
            Command::UsbApply {
                path: "/media/x".into()
            }
        );
        assert_eq!(
            command("enrol e.json"),
            Command::Enrol {
                file: "e.json".into()
            }
        );
        assert_eq!(command("update accept"), Command::UpdateAccept);
        let store = |repair| Command::StoreCheck { repair };
        assert_eq!(command("store check --json"), store(false));
        assert_eq!(command("store check --repair"), store(true));
        let reset = |decommission, volumes| Command::Reset {
            decommission,
            volumes,
        };
        assert_eq!(command("factory-reset --yes"), reset(false, false));
        assert_eq!(command("factory-reset --yes --volumes"), reset(false, true));
        assert_eq!(command("decommission --yes"), reset(true, false));
        assert_eq!(command("board check --json"), Command::BoardCheck);
        assert_eq!(command("config check"), Command::ConfigCheck);
        assert_eq!(
            command("volume ls --json"),
            Command::Volume(VolumeCommand::List)
        );
        let new = NewVolume {
            name: VolumeName::new("data").unwrap(),
            size_bytes: Some(64 << 20),
            inodes: Some(100),
        };
        assert_eq!(
            command("volume create data --size 64MiB --inodes 100"),
            Command::Volume(VolumeCommand::Create(new))
        );
        assert_eq!(command("--version"), Command::OwnVersion);
        assert!(matches!(command("help logs"), Command::Help(t) if t == help::of("logs").unwrap()));
        assert!(matches!(command("--help"), Command::Help(_)));
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        for line in [
            "",
            "sp",
            "ps web",
            "ps --tail 3",
            "restart",
            "restart ../x",
            "restart web --json",
            "logs",
            "logs web --tail many",
            "logs web --json",
            "update",
            "update accept twice",
            "update accept --json",
            "factory-reset",
            "factory-reset --volumes",
            "factory-reset all --yes",
            "decommission",
            "decommission --yes --volumes",
            "restart web --yes",
            "usb",
            "usb remove /x",
            "usb apply",
            "usb apply a b",
            "board",
            "board chek",
            "config",
            "config chek",
            "config check --json",
            "volume",
            "volume lss",
            "volume rm",
            "volume rm ../x",
            "volume rm a b",
            "volume rm data --size 1MiB",
            "volume create",
            "volume create data --size big",
            "volume create data --size 1MiB --json",
            "ps --size 1MiB",
            "enrol",
            "ps --jsno",
            "help nothing",
        ] {
            assert!(read(line).is_err(), "`{line}` was accepted");
        }
    }
}
