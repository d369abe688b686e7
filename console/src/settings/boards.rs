//! `coracle-console boards`: what can be asked of it.

use clap::{Subcommand, ValueEnum};
use coracle_protocol::names::BoardId;
use std::path::PathBuf;

/// What can be done with boards' certificates.
#[derive(Debug, Clone, Subcommand)]
pub enum BoardsCommand {
    /// List boards, and how long their newest certificates are good.
    List {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Name boards that may enrol by their manufacturing certificates.
    #[command(after_help = ADD_HELP)]
    Add {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The boards
        #[arg(required_unless_present = "file")]
        boards: Vec<BoardId>,
        /// More of them, one in each line; what follows a # is not read
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Those that were revoked too: nobody else has their manufacturing keys
        #[arg(long)]
        again: bool,
    },
    /// Print what a broker of yours must know of the boards: their users and rights.
    #[command(after_help = RIGHTS_HELP)]
    Rights {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The broker
        #[arg(long, value_enum)]
        broker: ForeignBroker,
        /// Write it into this file, whole or not at all, and say `changed` or `unchanged`
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the certificates of one board: serial number, end, last use.
    Certificates {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The board
        board: BoardId,
    },
    /// Take a board's certificates back: a running console and its broker end its connections within seconds.
    #[command(after_help = REVOKE_HELP)]
    Revoke {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The board
        board: BoardId,
        /// Why; the board is told, and the audit log
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// A broker with a user for each board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForeignBroker {
    /// A block `authorization` for its configuration
    Nats,
    /// A file of definitions
    Rabbitmq,
}

const RIGHTS_HELP: &str = "\
For boards' topics with `:`, as `serve --mqtt-topic-separator :` has them. A board is in it from its enrolment file on. Of one that is
revoked NATS is not told, and RabbitMQ that it may do nothing. What to do with it: docs/broker.md.
Use --output: `> boards.conf` empties the file first, and with an empty one NATS lets everybody in.

Examples:
  coracle-console boards rights --state /var/lib/coracle-console --broker nats --output /etc/nats/coracle/boards.conf
  coracle-console boards rights --state /var/lib/coracle-console --broker rabbitmq --output /etc/rabbitmq/coracle/boards.json";

const ADD_HELP: &str = "\
With `serve --manufacturing-ca CA --manufacturing-tenant acme`, the board whose manufacturing certificate has the
serial number SN-0017 is acme.sn-0017.

Example:
  coracle-console boards add --state /var/lib/coracle-console --file delivery-2026-11.txt";

const REVOKE_HELP: &str = "\
What runs on the board goes on, and sticks work: revocation is about the network. A board comes back by enrolling
again, with a new enrolment file and a new key. A broker of yours needs the new list: docs/broker.md. NATS and RabbitMQ take
none, and do not let a name in again before the last certificate that was taken back is over: enrol it under another name.

Example:
  coracle-console boards revoke --state /var/lib/coracle-console acme.b-1 --reason \"stolen from site 4\"";
