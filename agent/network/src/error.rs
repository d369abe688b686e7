//! Why a network operation failed; several reasons where one operation has several steps that go on after an error.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::{ConfigError, PublishedPort};
use crate::link::LinkError;
use crate::nft::NftError;
use crate::pool::PoolError;
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
    Sysctl(#[from] SysctlError),
    #[error(
        "subnet {subnet} overlaps the route {route} of {interface}: give the network another subnet"
    )]
    Overlap {
        subnet: Ipv4Net,
        route: Ipv4Net,
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
    #[error("{} steps failed: {}", .0.len(), list(.0))]
    Several(Vec<NetworkError>),
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
