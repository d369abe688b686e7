//! Published ports: one, a range of them, and the way people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::config::MAX_PORTS_PER_APP;

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A door from the board into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedPort {
    /// Only connections to this address of the board. None means each of its addresses; 0.0.0.0 each IPv4 one, :: each
    /// IPv6 one.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl PublishedPort {
    /// As many doors as there are ports: host port n leads to container port n of the other range.
    pub fn range(
        host_ip: Option<IpAddr>,
        host: RangeInclusive<u16>,
        container: RangeInclusive<u16>,
        protocol: Protocol,
    ) -> Result<Vec<Self>, PortError> {
        let lengths = (host.len(), container.len());
        if lengths.0 != lengths.1 || lengths.0 == 0 {
            return Err(PortError::Lengths(lengths.0, lengths.1));
        }
        if lengths.0 > MAX_PORTS_PER_APP {
            return Err(PortError::TooMany(lengths.0));
        }
        if *host.start() == 0 || *container.start() == 0 {
            return Err(PortError::Zero);
        }
        let pairs = host.zip(container);
        let door = |(host_port, container_port)| Self {
            host_ip,
            host_port,
            container_port,
            protocol,
        };
        Ok(pairs.map(door).collect())
    }

    /// What `docker run -p` takes, with both ports said: `[ADDRESS:]PORT[-PORT]:PORT[-PORT][/tcp|/udp|/sctp]`, an IPv6 address
    /// in brackets.
    pub fn parse(text: &str) -> Result<Vec<Self>, PortError> {
        let unreadable = || PortError::Text(text.to_owned());
        let (ports, protocol) = match text.rsplit_once('/') {
            None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((ports, "sctp")) => (ports, Protocol::Sctp),
            Some(_) => return Err(unreadable()),
        };
        let (rest, container) = ports.rsplit_once(':').ok_or_else(unreadable)?;
        let (host_ip, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((ip, host)) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                let ip = match bare {
                    Some(six) => six.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                    None => ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                };
                (Some(ip.ok_or_else(unreadable)?), host)
            }
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
        };
        let host = range(host).ok_or_else(unreadable)?;
        let container = range(container).ok_or_else(unreadable)?;
        Self::range(host_ip, host, container, protocol)
    }

    /// The one address that is listened on, if it is one.
    pub fn bound_to(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether the door is open to packets of this family.
    pub(crate) fn serves(&self, ipv6: bool) -> bool {
        self.host_ip.is_none_or(|ip| ip.is_ipv6() == ipv6)
    }

    /// Whether both want the same packets: the same transport and port, and one address or every address.
    pub fn collides_with(&self, other: &Self) -> bool {
        let shared_family = [false, true]
            .iter()
            .any(|six| self.serves(*six) && other.serves(*six));
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && shared_family
            && match (self.bound_to(), other.bound_to()) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound_to() {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        write!(f, "{}/{}", self.host_port, self.protocol)
    }
}

/// Why ports cannot be published as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PortError {
    #[error("{0:?} is no published port: [ADDRESS:]PORT[-PORT]:PORT[-PORT][/tcp|/udp|/sctp] is")]
    Text(String),
    #[error("{0} ports of the board cannot lead to {1} of the container")]
    Lengths(usize, usize),
    #[error("a range of {0} ports; at most {MAX_PORTS_PER_APP} are possible")]
    TooMany(usize),
    #[error("port 0 means nothing")]
    Zero,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> PublishedPort {
        PublishedPort::parse(text).unwrap()[0]
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let all = PublishedPort::parse("127.0.0.1:8000-8002:80-82/udp").unwrap();
        let pairs: Vec<_> = all
            .iter()
            .map(|p| (p.host_port, p.container_port))
            .collect();
        assert_eq!(pairs, [(8000, 80), (8001, 81), (8002, 82)]);
        assert!(all.iter().all(
            |p| p.protocol == Protocol::Udp && p.bound_to() == Some(Ipv4Addr::LOCALHOST.into())
        ));
        assert_eq!(
            one("[2001:db8::1]:443:8443").to_string(),
            "[2001:db8::1]:443/tcp"
        );
        assert_eq!(one("8080:80/tcp").to_string(), "8080/tcp");
        for bad in [
            "80",
            "80:",
            ":80",
            "a:80",
            "1:2/icmp",
            "::1:80:80",
            "70000:1",
            "127.0.0.1:80",
            "80:80:80:80",
        ] {
            assert_eq!(
                PublishedPort::parse(bad),
                Err(PortError::Text(bad.into())),
                "{bad}"
            );
        }
        assert_eq!(
            PublishedPort::parse("1-3:1-2"),
            Err(PortError::Lengths(3, 2))
        );
        assert_eq!(
            PublishedPort::parse("3-1:3-1"),
            Err(PortError::Lengths(0, 0))
        );
        assert_eq!(
            PublishedPort::parse("1-257:1-257"),
            Err(PortError::TooMany(257))
        );
        assert_eq!(PublishedPort::parse("0:1"), Err(PortError::Zero));
    }

    #[test]
    fn a_port_on_every_address_collides_with_one_on_a_single_address() {
        let any = one("80:8080");
        let (loopback, other) = (one("127.0.0.1:80:8080"), one("10.0.0.1:80:8080"));
        assert!(any.collides_with(&loopback) && loopback.collides_with(&any));
        assert!(!loopback.collides_with(&other) && !any.collides_with(&one("80:8080/udp")));
        let (four, six) = (one("0.0.0.0:80:80"), one("[::]:80:80"));
        assert!(!four.collides_with(&six) && any.collides_with(&six));
        assert!(six.collides_with(&one("[2001:db8::1]:80:80")) && !six.collides_with(&other));
    }
}
