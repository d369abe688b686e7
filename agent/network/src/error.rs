//! Why a network operation failed; several reasons where one operation has several steps that go on after an error.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};

use crate::config::ConfigError;
use crate::inside::InsideError;
use crate::link::LinkError;
use crate::networks::{DefinitionError, MAX_NETWORKS_PER_APP};
use crate::nft::NftError;
use crate::pool::PoolError;
use crate::port::PublishedPort;
use crate::sysctl::SysctlError;

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Inside(#[from] InsideError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error(
        "subnet {subnet} overlaps the route {route} of {interface}: give the network another subnet"
    )]
    Overlap {
        subnet: IpNet,
        route: IpNet,
        interface: String,
    },
    #[error("port {port} is published by {owner} already; {app} cannot have it")]
    PortTaken {
        port: PublishedPort,
        app: String,
        owner: String,
    },
    #[error("{app} is attached already, as {ip}")]
    Attached { app: String, ip: Ipv4Addr },
    #[error("bridge {bridge} is not there: the network has to be ensured first")]
    NoBridge { bridge: String },
    #[error("link {link}, which the network lies on, is not on this board")]
    NoParent { link: String },
    #[error("there is no network {name}")]
    NoNetwork { name: String },
    #[error("a network {name} is there already")]
    NetworkExists { name: String },
    #[error("nobody on network {network} has the address {ip}")]
    NoContainer { network: String, ip: Ipv4Addr },
    #[error("{app} asks for {name:?}, which is not on its egress list")]
    NotAllowed { app: String, name: String },
    #[error("network {name} cannot be removed")]
    NotRemovable { name: String },
    #[error("network {name} is used by {apps}")]
    InUse { name: String, apps: String },
    #[error("subnet {subnet} overlaps {other} of network {name}")]
    OverlapsNetwork {
        subnet: Ipv4Net,
        other: Ipv4Net,
        name: String,
    },
    #[error("no subnet is free beside the board's routes: give the network one")]
    NoFreeSubnet,
    #[error("there are {0} networks already, as many as are possible")]
    TooManyDefinitions(usize),
    #[error("{app} is on {MAX_NETWORKS_PER_APP} networks already, as many as are possible")]
    TooManyNetworks { app: String },
    #[error("no random bytes for an IPv6 subnet")]
    Random(#[source] io::Error),
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(
        "the board passes no packets on, and its profile says that this is not to be changed ([network] forwarding = \"keep\"): \
         set {switch} = 1 by sysctl and in /etc/sysctl.d"
    )]
    NoForwarding { switch: &'static str },
    #[error("notes of the board's switches {path}: cannot {action}")]
    BoardNotes {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error("{} steps failed: {}", .0.len(), list(.0))]
    Several(Vec<NetworkError>),
}

impl NetworkError {
    /// The kernel was built without what IPv6 needs here.
    pub(crate) fn lacks_ipv6(&self) -> bool {
        match self {
            Self::Nft(NftError::MissingOption { option, .. }) => {
                option.contains("IPV6") || option.contains("NAT")
            }
            Self::Several(errors) => errors.iter().any(Self::lacks_ipv6),
            _ => false,
        }
    }
}

fn list(errors: &[NetworkError]) -> String {
    let each: Vec<String> = errors.iter().map(chain).collect();
    each.join("; ")
}

/// An error and what lies under it, on one line.
fn chain(error: &NetworkError) -> String {
    let mut text = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(source) = below {
        text.push_str(": ");
        text.push_str(&source.to_string());
        below = source.source();
    }
    text
}

/// Nothing, the one error, or all of them.
pub(crate) fn all_of(mut errors: Vec<NetworkError>) -> Result<(), NetworkError> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(NetworkError::Several(errors)),
    }
}
