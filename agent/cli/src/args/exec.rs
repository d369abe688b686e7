//! `exec`: options of its own up to the app's name; what follows that is the program's.

use super::words::Words;
use super::{Command, UsageError};
use coracle_protocol::names::AppName;
use lexopt::prelude::*;

/// `exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCommand {
    /// In which.
    pub app: AppName,
    /// The program, and its arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Who it runs as.
    pub user: Option<String>,
    /// Where it begins.
    pub cwd: Option<String>,
    /// It reads what is typed.
    pub interactive: bool,
    /// It has a terminal.
    pub tty: bool,
}

impl Words {
    pub(super) fn gather_exec(&mut self, parser: &mut lexopt::Parser) -> Result<(), UsageError> {
        let (mut env, mut user, mut cwd) = (Vec::new(), None, None);
        let (mut interactive, mut tty) = (false, false);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("socket") => self.place.socket = Some(parser.value()?.into()),
                Long("config") => self.place.config = Some(parser.value()?.into()),
                Short('h') | Long("help") => self.help = true,
                Short('i') | Long("interactive") => interactive = true,
                Short('t') | Long("tty") => tty = true,
                Short('u') | Long("user") => user = Some(parser.value()?.string()?),
                Short('w') | Long("workdir") => cwd = Some(parser.value()?.string()?),
                Short('e') | Long("env") => env.extend(variable(parser.value()?.string()?)),
                Value(app) => {
                    let app = AppName::new(&app.to_string_lossy())?;
                    let mut args = Vec::new();
                    for argument in parser.raw_args()? {
                        args.push(argument.string()?);
                    }
                    if args.first().is_some_and(|first| first == "--") {
                        args.remove(0);
                    }
                    self.exec = Some(ExecCommand {
                        app,
                        args,
                        env,
                        user,
                        cwd,
                        interactive,
                        tty,
                    });
                    return Ok(());
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(())
    }

    pub(super) fn exec(&mut self) -> Result<Command, UsageError> {
        let wanted = self.exec.take().filter(|exec| !exec.args.is_empty());
        let exec = wanted.ok_or(UsageError::Missing {
            command: "exec",
            what: "the name of an app, as `coracle ps` shows it, and a program of it",
        })?;
        self.end("exec", Command::Exec(exec))
    }
}

/// One without a value has the caller's; nothing when the caller has none.
fn variable(text: String) -> Option<String> {
    match text.contains('=') {
        true => Some(text),
        false => Some(format!("{text}={}", std::env::var(&text).ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn read(line: &str) -> Result<ExecCommand, UsageError> {
        let parser = lexopt::Parser::from_args(line.split_whitespace());
        match parse(parser)?.command {
            Command::Exec(exec) => Ok(exec),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_up_to_the_name_are_ours_and_what_follows_is_the_programs() {
        let exec =
            read("--config /c exec -it -u web:www -e A=b=c -w /tmp web ls -t --json -u x").unwrap();
        assert_eq!(
            exec,
            ExecCommand {
                app: AppName::new("web").unwrap(),
                args: ["ls", "-t", "--json", "-u", "x"].map(str::to_owned).into(),
                env: vec!["A=b=c".into()],
                user: Some("web:www".into()),
                cwd: Some("/tmp".into()),
                interactive: true,
                tty: true,
            }
        );
        assert_eq!(read("exec web -- ps").unwrap().args, ["ps"]);
        assert_eq!(read("exec -- web -- ps").unwrap().args, ["ps"]);
        assert_eq!(read("exec web -- -- ps").unwrap().args, ["--", "ps"]);
        let not_set = read("exec -e CORACLE_NOT_SET web ps").unwrap();
        assert!(not_set.env.is_empty());
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "exec",
            "exec web",
            "exec web --",
            "exec -x web ps",
            "exec WEB! ps",
            "exec -u",
            "--yes exec web ps",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
