//! The command line.

use coracle_board_support::config::DEFAULT_CONFIG_FILE;
use std::path::PathBuf;

const HELP: &str = "\
coracled - the board's link to the world: MQTT, downloads, the local API.
It needs no capability. Started as root, it binds docker.sock and then becomes the user that
[agent] user names; started as that user, it only runs.

usage: coracled [--config FILE] [--allow-root]

  --config FILE   settings (default /etc/coracle/coracle.toml)
  --allow-root    stay root, and ask for the certificate at once; for trying things out
  --version       print the version
  --help          print this

examples:
  coracled --config /etc/coracle/coracle.toml
  docker -H unix:///run/coracle/docker.sock ps

exit codes: 0 ended by SIGTERM or SIGINT; 1 failed; 2 wrong usage
";

/// What to run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// coracle.toml.
    pub config: PathBuf,
    /// Whether root stays root.
    pub allow_root: bool,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Run.
    Run(Options),
    /// Print this and end.
    Print(String),
}

/// Reads the command line.
pub fn parse(mut parser: lexopt::Parser) -> Result<Parsed, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options {
        config: DEFAULT_CONFIG_FILE.into(),
        allow_root: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") => options.config = parser.value()?.into(),
            Long("allow-root") => options.allow_root = true,
            Long("version") => {
                return Ok(Parsed::Print(format!(
                    "coracled {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            Short('h') | Long("help") => return Ok(Parsed::Print(HELP.to_owned())),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Parsed::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let parsed = parse(lexopt::Parser::from_args([
            "--config",
            "/x",
            "--allow-root",
        ]));
        let want = Options {
            config: "/x".into(),
            allow_root: true,
        };
        assert_eq!(parsed.unwrap(), Parsed::Run(want));
        assert!(parse(lexopt::Parser::from_args(["--cnofig", "/x"])).is_err());
    }
}
