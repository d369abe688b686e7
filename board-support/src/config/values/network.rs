//! Subnet and largest packet of the apps' bridge.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 subnet with room for a bridge and at least one container: prefix /8 to /29, no host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The network's own address: `172.30.0.0`.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Bits of the network part, 8 to 29.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

impl Default for Subnet {
    /// 172.30.0.0/16: of 172.16.0.0/12 (RFC 1918), away from Docker's own 172.17.0.0/16.
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(172, 30, 0, 0),
            prefix: 16,
        }
    }
}

impl FromStr for Subnet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |why: &str| {
            format!(
                "`{text}` {why}; allowed is an IPv4 subnet such as 172.30.0.0/16, with /8 to /29"
            )
        };
        let (address, prefix) = text.split_once('/').ok_or_else(|| fault("has no prefix"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| fault("is not an address"))?;
        let prefix: u8 = prefix
            .parse()
            .map_err(|_| fault("has no number after `/`"))?;
        if !(8..=29).contains(&prefix) {
            return Err(fault("is too large or too small"));
        }
        if address.to_bits() << prefix != 0 {
            return Err(fault("has bits set beyond its prefix"));
        }
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            return Err(fault("is no range for hosts"));
        }
        Ok(Self { address, prefix })
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The largest packet on a link in bytes: 576 (what each IPv4 host must accept, RFC 791) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u16")]
pub struct Mtu(u16);

impl Mtu {
    /// In bytes.
    pub fn bytes(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for Mtu {
    type Error = String;
    fn try_from(bytes: i64) -> Result<Self, String> {
        match u16::try_from(bytes) {
            Ok(bytes) if bytes >= 576 => Ok(Self(bytes)),
            _ => Err(format!(
                "{bytes} is not allowed; allowed are 576 to 65535 bytes"
            )),
        }
    }
}

impl From<Mtu> for u16 {
    fn from(mtu: Mtu) -> u16 {
        mtu.0
    }
}
