//! What stands on a command line, and what its command has not taken.

use super::{Command, ExecCommand, Invocation, Place, UsageError, volume};
use coracle_protocol::names::AppName;
use std::ffi::OsString;
use std::path::PathBuf;

/// Everything that stands on the command line, before it is known what it belongs to.
#[derive(Default)]
pub(super) struct Words {
    pub(super) place: Place,
    pub(super) json: bool,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) follow: bool,
    pub(super) timestamps: bool,
    pub(super) tail: Option<Option<u64>>,
    pub(super) size: Option<u64>,
    pub(super) inodes: Option<u64>,
    pub(super) yes: bool,
    pub(super) volumes: bool,
    pub(super) repair: bool,
    pub(super) signal: Option<String>,
    pub(super) exec: Option<ExecCommand>,
    pub(super) plain: std::collections::VecDeque<OsString>,
}

pub(super) fn gather(mut parser: lexopt::Parser) -> Result<Words, UsageError> {
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
    pub(super) fn invocation(self, command: Command) -> Invocation {
        Invocation {
            place: self.place,
            json: self.json,
            command,
        }
    }

    /// A command without arguments whose answer can be JSON.
    pub(super) fn listing(
        &mut self,
        name: &'static str,
        command: Command,
    ) -> Result<Command, UsageError> {
        let json = std::mem::take(&mut self.json);
        let command = self.end(name, command)?;
        self.json = json;
        Ok(command)
    }

    /// Nothing may be left that the command did not take.
    pub(super) fn end(
        &mut self,
        name: &'static str,
        command: Command,
    ) -> Result<Command, UsageError> {
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

    pub(super) fn path(
        &mut self,
        command: &'static str,
        what: &'static str,
    ) -> Result<PathBuf, UsageError> {
        let word = self.plain.pop_front();
        word.map(PathBuf::from)
            .ok_or(UsageError::Missing { command, what })
    }

    pub(super) fn app(&mut self, command: &'static str) -> Result<AppName, UsageError> {
        let what = "the name of an app, as `coracle ps` shows it";
        let word = self
            .plain
            .pop_front()
            .ok_or(UsageError::Missing { command, what })?;
        Ok(AppName::new(&word.to_string_lossy())?)
    }
}
