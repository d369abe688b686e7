//! The command line. Options may stand before and after the command; one that the command does not
//! know is refused, so that a slip is never taken for consent.

use crate::help;
use coracle_board_support::config::{Config, ConfigError, DEFAULT_CONFIG_FILE, WrittenConfig};
use coracle_protocol::names::AppName;
use std::ffi::OsString;
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

mod exec;
mod volume;

pub use exec::ExecCommand;
pub use volume::{NewVolume, VolumeCommand};

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

/// Everything that stands on the command line, before it is known what it belongs to.
#[derive(Default)]
struct Words {
    place: Place,
    json: bool,
    help: bool,
    version: bool,
    follow: bool,
    timestamps: bool,
    tail: Option<Option<u64>>,
    size: Option<u64>,
    inodes: Option<u64>,
    yes: bool,
    volumes: bool,
    repair: bool,
    signal: Option<String>,
    exec: Option<ExecCommand>,
    plain: std::collections::VecDeque<OsString>,
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

fn gather(mut parser: lexopt::Parser) -> Result<Words, UsageError> {
    use lexopt::prelude::*;
    let mut words = Words::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("socket") => words.place.socket = Some(parser.value()?.into()),
            Long("config") => words.place.config = Some(parser.value()?.into()),
            Long("json") => words.json = true,
            Short('h') | Long("help") => words.help = true,
            Short('V') | Long("version") => words.version = true,
            Short('f') | Long("follow") => words.follow = true,
            Short('t') | Long("timestamps") => words.timestamps = true,
            Short('n') | Long("tail") => {
                let value = parser.value()?;
                words.tail = Some(match value.to_str() {
                    Some("all") => None,
                    _ => Some(value.parse()?),
                });
            }
            Long("size") => words.size = Some(parser.value()?.parse_with(volume::size)?),
            Long("yes") => words.yes = true,
            Long("repair") => words.repair = true,
            Short('s') | Long("signal") => words.signal = Some(parser.value()?.string()?),
            Long("volumes") => words.volumes = true,
            Long("inodes") => words.inodes = Some(parser.value()?.parse()?),
            // What follows is the program's, from the app's name on.
            Value(value) if words.plain.is_empty() && value == "exec" => {
                words.plain.push_back(value);
                words.gather_exec(&mut parser)?;
                break;
            }
            Value(value) => words.plain.push_back(value),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(words)
}

impl Words {
    fn invocation(self, command: Command) -> Invocation {
        Invocation {
            place: self.place,
            json: self.json,
            command,
        }
    }

    /// A command without arguments whose answer can be JSON.
    fn listing(&mut self, name: &'static str, command: Command) -> Result<Command, UsageError> {
        let json = std::mem::take(&mut self.json);
        let command = self.end(name, command)?;
        self.json = json;
        Ok(command)
    }

    /// Nothing may be left that the command did not take.
    fn end(&mut self, name: &'static str, command: Command) -> Result<Command, UsageError> {
        let extra = [
            (self.json, "--json"),
            (self.follow, "--follow"),
            (self.timestamps, "--timestamps"),
            (self.tail.is_some(), "--tail"),
            (self.size.is_some(), "--size"),
            (self.inodes.is_some(), "--inodes"),
            (self.yes, "--yes"),
            (self.volumes, "--volumes"),
            (self.repair, "--repair"),
            (self.signal.is_some(), "--signal"),
        ];
        let option = extra.into_iter().find(|(given, _)| *given);
        let plain = self
            .plain
            .front()
            .map(|word| word.to_string_lossy().into_owned());
        match option.map(|(_, option)| option.to_owned()).or(plain) {
            Some(argument) => Err(UsageError::TooMany {
                command: name,
                argument,
            }),
            None => Ok(command),
        }
    }

    fn path(&mut self, command: &'static str, what: &'static str) -> Result<PathBuf, UsageError> {
        let word = self.plain.pop_front();
        word.map(PathBuf::from)
            .ok_or(UsageError::Missing { command, what })
    }

    fn app(&mut self, command: &'static str) -> Result<AppName, UsageError> {
        let what = "the name of an app, as `coracle ps` shows it";
        let word = self
            .plain
            .pop_front()
            .ok_or(UsageError::Missing { command, what })?;
        Ok(AppName::new(&word.to_string_lossy())?)
    }

    fn control(&mut self, name: &'static str, action: Action) -> Result<Command, UsageError> {
        let app = self.app(name)?;
        self.end(name, Command::Control { action, app })
    }

    /// Which signals there are the supervisor knows.
    fn kill(&mut self) -> Result<Command, UsageError> {
        let app = self.app("kill")?;
        let signal = self.signal.take().unwrap_or_else(|| "KILL".to_owned());
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '+';
        if signal.is_empty() || !signal.chars().all(is_word) {
            return Err(UsageError::Signal(signal));
        }
        self.end("kill", Command::Kill { app, signal })
    }

    fn logs(&mut self) -> Result<Command, UsageError> {
        let logs = Logs {
            app: self.app("logs")?,
            follow: std::mem::take(&mut self.follow),
            timestamps: std::mem::take(&mut self.timestamps),
            tail: self.tail.take().flatten(),
        };
        self.end("logs", Command::Logs(logs))
    }

    fn usb(&mut self) -> Result<Command, UsageError> {
        let what = "`apply` and a folder or an image, or `plugged` and a device";
        let word = self.plain.pop_front().unwrap_or_default();
        let command = match word.to_str() {
            Some("apply") => Command::UsbApply {
                path: self.path("usb", what)?,
            },
            Some("plugged") => Command::UsbPlugged {
                device: self.path("usb", what)?,
            },
            Some("result") => Command::UsbResult {
                device: self.path("usb", what)?,
            },
            _ => {
                return Err(UsageError::Missing {
                    command: "usb",
                    what,
                });
            }
        };
        self.end("usb", command)
    }

    fn update(&mut self) -> Result<Command, UsageError> {
        match self.plain.pop_front() {
            Some(word) if word == "accept" => self.end("update", Command::UpdateAccept),
            _ => Err(UsageError::Missing {
                command: "update",
                what: "`accept`",
            }),
        }
    }

    fn store(&mut self) -> Result<Command, UsageError> {
        match self.plain.pop_front() {
            Some(word) if word == "check" => {
                let repair = std::mem::take(&mut self.repair);
                self.listing("store", Command::StoreCheck { repair })
            }
            _ => Err(UsageError::Missing {
                command: "store",
                what: "`check`",
            }),
        }
    }

    /// What cannot be undone asks for a word more than its name.
    fn reset(&mut self, command: &'static str, decommission: bool) -> Result<Command, UsageError> {
        if !std::mem::take(&mut self.yes) {
            let what = "`--yes`: it cannot be undone";
            return Err(UsageError::Missing { command, what });
        }
        // Of a board that leaves its fleet they go all the same.
        let volumes = !decommission && std::mem::take(&mut self.volumes);
        let reset = Command::Reset {
            decommission,
            volumes,
        };
        self.end(command, reset)
    }

    fn config(&mut self) -> Result<Command, UsageError> {
        let word = self.plain.pop_front().unwrap_or_default();
        let command = match word.to_str() {
            Some("check") => Command::ConfigCheck,
            Some("schema") => Command::ConfigSchema,
            _ => {
                return Err(UsageError::Missing {
                    command: "config",
                    what: "check or schema",
                });
            }
        };
        self.end("config", command)
    }

    fn board(&mut self) -> Result<Command, UsageError> {
        let word = self.plain.pop_front().unwrap_or_default();
        match word.to_str() {
            Some("check") => self.listing("board", Command::BoardCheck),
            Some("show") => self.listing("board", Command::BoardShow),
            Some("schema") => self.listing("board", Command::BoardSchema),
            _ => Err(UsageError::Missing {
                command: "board",
                what: "check, show or schema",
            }),
        }
    }
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
