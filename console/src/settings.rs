//! What the operator wrote on the command line, and what the console runs with.

mod boards;
mod manufacturing;

pub use boards::{BoardsCommand, ForeignBroker};
pub use manufacturing::{Manufacturing, Tenant};

use crate::certificates::Policy;
use clap::{Args, Parser, Subcommand};
use coracle_keys::KeyRef;
use coracle_keys::uri::Pkcs11Uri;
use coracle_protocol::topics::Separator;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The fleet console of Coracle: registry, enrolment, assignments, live status.
#[derive(Debug, Parser)]
#[command(name = "coracle-console", version, about, max_term_width = 100)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the console.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<Serve>),
    /// Make, list and delete API tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The fleet's CA.
    #[command(subcommand)]
    Ca(CaCommand),
    /// List boards and their certificates, and revoke them.
    #[command(subcommand)]
    Boards(BoardsCommand),
    /// Check the state folder, the keys and the broker program, and say what is wrong.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  # Everything on one machine; boards reach it as console.example.org
  coracle-console serve --state /var/lib/coracle-console \\
      --advertise console.example.org --root root.json --deploy-key deploy.pk8

  # With a broker that is already there
  coracle-console serve --state /var/lib/coracle-console --advertise 192.0.2.10 \\
      --root root.json --deploy-key deploy.pk8 \\
      --mqtt-broker mqtt.example.org:8883 --mqtt-ca broker-ca.pem \\
      --mqtt-cert console.pem --mqtt-key console.key

The first start makes the fleet's CA, the certificates, the database, and an API token in
STATE/admin.token. Operators' pages, REST and registry are plain HTTP: keep them on loopback, or
put a reverse proxy with TLS before them.";

const CHECK_EXAMPLES: &str = "\
Example:
  coracle-console check --state /var/lib/coracle-console --root root.json --deploy-key deploy.pk8";

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Folder of everything that the console keeps; made when missing
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Operators' port: web pages, REST (/api/v1), registry (/v2); plain HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Boards' port: enrolment and blobs; TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    pub board_listen: SocketAddr,
    /// Port of the console's own broker (Mosquitto); TLS
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8883",
        conflicts_with = "mqtt_broker"
    )]
    pub mqtt_listen: SocketAddr,
    /// Use this broker instead of an own one
    #[arg(long, value_name = "HOST:PORT")]
    pub mqtt_broker: Option<String>,
    /// CA of that broker, PEM; boards that enrol from now on trust it too [default: the fleet's CA]
    #[arg(long, value_name = "FILE", requires = "mqtt_broker")]
    pub mqtt_ca: Option<PathBuf>,
    /// Client certificate for that broker, PEM [default: the console's, from the fleet's CA]
    #[arg(
        long,
        value_name = "FILE",
        requires = "mqtt_broker",
        requires = "mqtt_key"
    )]
    pub mqtt_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "mqtt_cert")]
    pub mqtt_key: Option<PathBuf>,
    /// What stands between tenant and name in boards' topics: `:` for a broker that takes no dot there (NATS, RabbitMQ);
    /// boards that enrol from now on are told
    #[arg(long, value_name = "CHARACTER", default_value = ".")]
    pub mqtt_topic_separator: Separator,
    /// Name or IP address by which boards reach this machine
    #[arg(long, value_name = "HOST")]
    pub advertise: String,
    /// The fleet's root document (envelope)
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
    /// Private key of role `deploy`: PKCS#8, or a key in a token (pkcs11:token=T;object=K?pin-source=/FILE)
    #[arg(long, value_name = "FILE|URI")]
    pub deploy_key: KeyRef,
    /// The fleet CA's key in a token (pkcs11:token=T;object=K?pin-source=/FILE), as `coracle-console ca new` makes it
    /// [default: a file in the state folder]
    #[arg(long, value_name = "URI")]
    pub ca_key: Option<Pkcs11Uri>,
    /// Write the addresses into this file (JSON) when everything is up
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Days for which a board's certificate is good; boards renew it when two thirds are over
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub board_certificate_days: u32,
    /// The same, finer, like "12h": for short-lived certificates
    #[arg(long, value_name = "TIME", conflicts_with = "board_certificate_days", value_parser = life)]
    pub board_certificate_life: Option<Duration>,
    /// For so long after its end a certificate may still be renewed, by whoever holds its key; "0s": never
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = humantime::parse_duration)]
    pub renewal_grace: Duration,
    /// After a database was restored from a backup: until then, like 2026-12-05T00:00:00Z and at most 30 days from now,
    /// certificates of the fleet's CA that it does not know are taken in, for boards that it does
    #[arg(long, value_name = "TIME", value_parser = adopt_until)]
    pub adopt_unknown_until: Option<u64>,
    /// Boards that show who made them.
    #[command(flatten)]
    pub manufacturing: Manufacturing,
    /// Seconds that a deployment waits for deltas; those that take longer serve the next one
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub delta_wait: u64,
    /// The broker program
    #[arg(long, value_name = "PROGRAM", default_value = "mosquitto")]
    pub mosquitto: PathBuf,
}

/// A board asks twelve times in the life of its certificate.
const LEAST_LIFE: Duration = Duration::from_secs(6);
const MOST_LIFE: Duration = Duration::from_secs(36_500 * 86_400);

fn life(text: &str) -> Result<Duration, String> {
    let life = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match (LEAST_LIFE..=MOST_LIFE).contains(&life) {
        true => Ok(life),
        false => Err("6s to 36500d are possible".into()),
    }
}

/// Whoever has the CA's key can make unknown certificates: not for longer than boards need to come by.
const MOST_ADOPTING: u64 = 30 * 86_400;

fn adopt_until(text: &str) -> Result<u64, String> {
    let time = humantime::parse_rfc3339(text).map_err(|e| e.to_string())?;
    let time = time.duration_since(std::time::UNIX_EPOCH);
    let time = time.map_or(0, |since| since.as_secs());
    match time > crate::clock::now() + MOST_ADOPTING {
        true => Err("at most 30 days from now".into()),
        false => Ok(time),
    }
}

impl Serve {
    /// For how long certificates are good.
    pub fn certificates(&self) -> Policy {
        let days = u64::from(self.board_certificate_days) * 86_400;
        Policy {
            life: self
                .board_certificate_life
                .unwrap_or(Duration::from_secs(days)),
            grace: self.renewal_grace,
            adopt_until: self.adopt_unknown_until,
        }
    }
}

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Folder of everything that the console keeps
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// The fleet's root document (envelope)
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// Private key of role `deploy`: PKCS#8, or a key in a token
    #[arg(long, value_name = "FILE|URI")]
    pub deploy_key: Option<KeyRef>,
    /// The fleet CA's key, when it is in a token
    #[arg(long, value_name = "URI")]
    pub ca_key: Option<Pkcs11Uri>,
    /// The broker program
    #[arg(long, value_name = "PROGRAM", default_value = "mosquitto")]
    pub mosquitto: PathBuf,
}

/// What can be done with the fleet's CA.
#[derive(Debug, Clone, Subcommand)]
pub enum CaCommand {
    /// Make a key for the CA in a token, which it never leaves.
    #[command(after_help = CA_HELP)]
    New {
        /// Where: pkcs11:token=T;object=LABEL
        #[arg(long, value_name = "URI")]
        key: Pkcs11Uri,
    },
}

const CA_HELP: &str = "\
A console that starts with `--ca-key URI` for the first time makes the CA's certificate for it. The CA of a console that runs
already keeps its key: import STATE/pki/ca.key into the token, take the file away, and start with --ca-key.

Example:
  coracle-console ca new --key 'pkcs11:token=fleet;object=ca?pin-source=/etc/coracle/pin'";

/// What can be done with API tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it: the only time that it is shown.
    New {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Name by which the audit log calls whoever uses it
        #[arg(long)]
        name: String,
        /// May look, not change
        #[arg(long)]
        read_only: bool,
    },
    /// List names and roles.
    List {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Delete a token by its name.
    Delete {
        /// Folder of everything that the console keeps
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Its name
        #[arg(long)]
        name: String,
    },
}

/// Where everything lies in the state folder.
#[derive(Debug, Clone)]
pub struct State {
    /// The folder.
    pub root: PathBuf,
}

impl State {
    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("console.db")
    }
    /// The first API token.
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin.token")
    }
    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    /// The list of revoked certificates.
    pub fn revoked(&self) -> PathBuf {
        self.root.join("pki/fleet.crl")
    }
    /// Blobs, manifests, tags.
    pub fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }
    /// The console's client identifier at a broker that holds nobody to the one of its certificate.
    pub fn mqtt_identifier(&self) -> PathBuf {
        self.root.join("mqtt-identifier")
    }
    /// What boards' topics have in the place of their names' dot.
    pub fn topic_separator(&self) -> PathBuf {
        self.root.join("topic-separator")
    }
    /// The broker's folder.
    pub fn mosquitto(&self) -> PathBuf {
        self.root.join("mosquitto")
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: u16) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}
