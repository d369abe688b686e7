//! `deployment`: holds one that was ordered, or takes it back.

use super::fleet::ConsoleArgs;
use super::say;
use crate::failure::Failure;
use crate::withhold::{self, Change};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum DeploymentCommand {
    /// Take a deployment back: boards that fetch it or wait drop it, and keep what runs
    ///
    /// A board that has switched is beyond it; then this ends with 1 and names it.
    ///
    /// Example: coracle-release deployment cancel 0f3a…
    Cancel(About),
    /// Hold the boards that have said nothing of it yet; what has begun goes on
    Pause(About),
    /// Send it to the boards that are held
    Resume(About),
}

#[derive(Debug, Args)]
pub(super) struct About {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The deployment, as `deploy` named it
    id: String,
}

impl DeploymentCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (about, change) = match self {
            Self::Cancel(about) => (about, Change::Cancel),
            Self::Pause(about) => (about, Change::Pause),
            Self::Resume(about) => (about, Change::Resume),
        };
        let changed = withhold::change(&about.console.open()?, &about.id, change)?;
        say(&changed.describe());
        Ok(changed.end()?)
    }
}
