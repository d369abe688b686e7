//! Options about boards that show who made them.

use clap::Args;
use coracle_protocol::names::{BoardId, NameError};
use std::fmt;
use std::path::PathBuf;

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Manufacturing {
    /// CA of the boards' maker, PEM: boards with a manufacturing certificate of it enrol without a token
    #[arg(long, value_name = "FILE", requires = "manufacturing_tenant")]
    pub manufacturing_ca: Option<PathBuf>,
    /// Such a board is called NAME.<serial number of its manufacturing certificate>
    #[arg(long, value_name = "NAME", requires = "manufacturing_ca", value_parser = Tenant::new)]
    pub manufacturing_tenant: Option<Tenant>,
    /// Take in those that nobody has heard of too; else only those that `coracle-console boards add` names
    #[arg(long, requires = "manufacturing_ca")]
    pub manufacturing_any: bool,
}

/// The part of a board's name before the dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant(String);

impl Tenant {
    /// By the rule for boards' names.
    pub fn new(text: &str) -> Result<Self, NameError> {
        BoardId::new(&format!("{text}.board")).map(|board| Self(board.tenant().to_owned()))
    }

    /// The board of this tenant that is called `name`.
    pub fn board(&self, name: &str) -> Result<BoardId, NameError> {
        BoardId::new(&format!("{}.{name}", self.0))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
