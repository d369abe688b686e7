//! Where an app may go: one entry of its `egress` list, as people write it.

use super::checks::is_host_name;
use crate::release::Protocol;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What may stand in a list, for messages.
const FORMS: &str = "a name, *.name, an address or a subnet, with tcp://, udp:// or sctp:// before it and :port or :first-last behind it \
                     where that is meant: mqtt.example:8883, 10.0.0.0/8, [2001:db8::/32]:443, udp://ntp.example:123";

/// `[tcp://|udp://|sctp://]to[:port[-port]]`. Without a protocol every one; with a port TCP and UDP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Egress {
    /// Only this one.
    pub protocol: Option<Protocol>,
    /// Where to.
    pub to: EgressTo,
    /// First and last port; every one when left out.
    pub ports: Option<(u16, u16)>,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EgressTo {
    /// A name, in small letters.
    Name(String),
    /// Every name that ends with a dot and this one.
    Below(String),
    /// An address or a subnet.
    Net(IpNet),
}

impl FromStr for Egress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?}: {why}; possible is {FORMS}");
        let (protocol, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("tcp", rest)) => (Some(Protocol::Tcp), rest),
            Some(("udp", rest)) => (Some(Protocol::Udp), rest),
            Some(("sctp", rest)) => (Some(Protocol::Sctp), rest),
            Some((other, _)) => {
                return Err(wrong(&format!("{other:?} is neither tcp, udp nor sctp")));
            }
        };
        let (to, port) = split(rest).map_err(wrong)?;
        let ports = port.map(ports).transpose().map_err(wrong)?;
        let to = destination(to).map_err(|why| wrong(&why))?;
        Ok(Self {
            protocol,
            to,
            ports,
        })
    }
}

/// The destination without brackets, and what stands behind the last colon.
fn split(text: &str) -> Result<(String, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']').ok_or("`[` without `]`")?;
        let (prefix, port) = match behind.split_once(':') {
            Some((prefix, port)) => (prefix, Some(port)),
            None => (behind, None),
        };
        if !inside.contains(':') || !(prefix.is_empty() || prefix.starts_with('/')) {
            return Err("brackets are for IPv6");
        }
        return Ok((format!("{inside}{prefix}"), port));
    }
    match text.split_once(':') {
        None => Ok((text.to_owned(), None)),
        // Two colons and no brackets: an IPv6 address by itself.
        Some((_, rest)) if rest.contains(':') => Ok((text.to_owned(), None)),
        Some((to, port)) => Ok((to.to_owned(), Some(port))),
    }
}

fn ports(text: &str) -> Result<(u16, u16), &'static str> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err("a port is 1 to 65535, a range goes from the lower one to the higher one"),
    }
}

fn destination(text: String) -> Result<EgressTo, String> {
    if let Some(net) = net(&text)? {
        return Ok(EgressTo::Net(net));
    }
    let text = text.to_ascii_lowercase();
    let (name, below) = match text.strip_prefix("*.") {
        Some(name) => (name.to_owned(), true),
        None => (text, false),
    };
    // A last part of digits belongs to an address that is none (RFC 1123 2.1).
    let last = name.rsplit('.').next().unwrap_or_default();
    if !is_host_name(&name) || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("neither a name nor an address".to_owned());
    }
    Ok(match below {
        true => EgressTo::Below(name),
        false => EgressTo::Name(name),
    })
}

fn net(text: &str) -> Result<Option<IpNet>, String> {
    let net = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(ip), _) => IpNet::from(ip),
        (_, Ok(net)) => net,
        _ => return Ok(None),
    };
    if net != net.trunc() {
        return Err(format!("{} is meant", net.trunc()));
    }
    let ip = net.addr();
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if ip.is_loopback()
        || ip.is_multicast()
        || mapped
        || (ip.is_unspecified() && net.prefix_len() == net.max_prefix_len())
    {
        return Err("no packet leaves the container for there".to_owned());
    }
    Ok(Some(net))
}

impl fmt::Display for EgressTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(Protocol::Tcp) => f.write_str("tcp://")?,
            Some(Protocol::Udp) => f.write_str("udp://")?,
            Some(Protocol::Sctp) => f.write_str("sctp://")?,
            None => {}
        }
        let six = matches!(self.to, EgressTo::Net(IpNet::V6(_)));
        match self.ports {
            Some(_) if six => write!(f, "[{}]", self.to)?,
            _ => self.to.fmt(f)?,
        }
        match self.ports {
            Some((first, last)) if first == last => write!(f, ":{first}"),
            Some((first, last)) => write!(f, ":{first}-{last}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Egress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Egress> for String {
    fn from(egress: Egress) -> Self {
        egress.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written_in_one_way() {
        for (text, written) in [
            ("mqtt.example:8883", "mqtt.example:8883"),
            ("MQTT.Example", "mqtt.example"),
            ("broker", "broker"),
            ("*.storage.example:443", "*.storage.example:443"),
            ("tcp://host:1-65535", "tcp://host:1-65535"),
            ("udp://ntp.example:123", "udp://ntp.example:123"),
            ("udp://ntp.example", "udp://ntp.example"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("tcp://192.0.2.7:80", "tcp://192.0.2.7:80"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("0.0.0.0/1", "0.0.0.0/1"),
            ("[::/1]:443", "[::/1]:443"),
            ("::/0", "::/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::]/32:443", "[2001:db8::/32]:443"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("[2001:db8::7]:8000-8010", "[2001:db8::7]:8000-8010"),
            ("[2001:db8::7]", "2001:db8::7"),
        ] {
            let read: Egress = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read.to_string(), written, "{text}");
            assert_eq!(written.parse::<Egress>().unwrap(), read);
        }
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for (text, words) in [
            ("", "neither a name nor an address"),
            ("*", "neither"),
            ("*.", "neither"),
            ("a.*.example", "neither"),
            ("10.0.0.256", "neither"),
            ("10.0.0", "neither"),
            ("10.0.0.0/33", "neither"),
            ("mqtt.example.", "neither"),
            ("a b", "neither"),
            ("10.0.0.1/8", "10.0.0.0/8 is meant"),
            ("2001:db8::1/32", "2001:db8::/32 is meant"),
            (
                "http://mqtt.example",
                "\"http\" is neither tcp, udp nor sctp",
            ),
            ("mqtt.example:0", "a port is 1 to 65535"),
            ("mqtt.example:", "a port is"),
            ("mqtt.example:+5", "a port is"),
            ("mqtt.example:65536", "a port is"),
            ("mqtt.example:90-80", "from the lower one"),
            ("[2001:db8::1:443", "`[` without `]`"),
            ("[mqtt.example]:443", "brackets are for IPv6"),
            ("[2001:db8::1]x:443", "brackets are for IPv6"),
            ("127.0.0.1:80", "no packet leaves"),
            ("::1", "no packet leaves"),
            ("224.0.0.1", "no packet leaves"),
            ("::ffff:10.0.0.1", "no packet leaves"),
            ("0.0.0.0", "no packet leaves"),
            ("::", "no packet leaves"),
        ] {
            let fault = text.parse::<Egress>().expect_err(text);
            assert!(fault.contains(words), "{text}: {fault}");
            assert!(fault.contains("mqtt.example:8883"), "says what is possible");
        }
    }
}
