//! The values that coracle.toml may hold. Each type is checked while it is read, so that a wrong
//! value is reported with its line, and so that whoever holds one need not check again.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A name that becomes part of paths, cgroup names and nftables names: 1 to 32 of `a-z 0-9 - _`,
/// beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlainName(String);

impl PlainName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PlainName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let begins = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        if begins && text.len() <= 32 && text.bytes().all(plain) {
            return Ok(Self(text));
        }
        Err(format!(
            "`{text}` is not allowed; allowed are 1 to 32 characters of a-z 0-9 - _, the first one a letter"
        ))
    }
}

impl From<PlainName> for String {
    fn from(name: PlainName) -> String {
        name.0
    }
}

/// A network link's name: 1 to 15 printable bytes without `/` and space (IFNAMSIZ of linux/if.h,
/// 16 with its NUL; `dev_valid_name` of net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LinkName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let printable = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'"';
        let reserved = text == "." || text == ".." || text == "lo";
        if !reserved && (1..=15).contains(&text.len()) && text.bytes().all(printable) {
            return Ok(Self(text));
        }
        Err(format!(
            "`{text}` is not a link name; allowed are 1 to 15 printable characters without space, `/`, `:` and `\"`"
        ))
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> String {
        name.0
    }
}

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

/// `https://…` or, for a laboratory, `http://…`; at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConsoleUrl(String);

impl ConsoleUrl {
    /// As text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ConsoleUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let text = endpoint(text, &["https", "http"])?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl From<ConsoleUrl> for String {
    fn from(url: ConsoleUrl) -> String {
        url.0
    }
}

/// `mqtts://host:port` or, for a laboratory, `mqtt://host:port`; at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BrokerUrl(String);

impl BrokerUrl {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        endpoint(text, &["mqtts", "mqtt"]).map(Self)
    }
}

impl From<BrokerUrl> for String {
    fn from(url: BrokerUrl) -> String {
        url.0
    }
}

/// Checks the scheme and that a host follows. No full URL grammar: the program that connects
/// parses it again, this is to report a slip with its line.
fn endpoint(text: String, schemes: &[&str]) -> Result<String, String> {
    let known = text.split_once("://").is_some_and(|(scheme, rest)| {
        schemes.contains(&scheme) && !rest.starts_with(['/', ':']) && !rest.is_empty()
    });
    let printable = text.bytes().all(|b| b.is_ascii_graphic());
    if known && printable && text.len() <= 256 {
        return Ok(text);
    }
    let allowed: Vec<String> = schemes
        .iter()
        .map(|s| format!("{s}://host[:port]"))
        .collect();
    Err(format!(
        "`{text}` is not allowed; allowed are {}, 256 bytes at most",
        allowed.join(" and ")
    ))
}

/// Who may start containers by hand on the board, through the local Docker Engine API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalPolicy {
    /// Only images that a verified release names.
    #[default]
    Signed,
    /// Any image; a container belongs to the user who created it.
    Owner,
    /// Nothing is started by hand.
    None,
}

/// The least severe event that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed and a person may have to act.
    Error,
    /// Something failed and Coracle goes on by itself.
    Warn,
    /// State changes: a deployment, a start, a stop.
    #[default]
    Info,
    /// Each step.
    Debug,
    /// Each message.
    Trace,
}

impl LogLevel {
    /// As `tracing` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Which board profile is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProfileChoice {
    /// By device tree and DMI.
    #[default]
    Auto,
    /// The one of this name.
    Named(PlainName),
}

impl TryFrom<String> for ProfileChoice {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        PlainName::try_from(text)
            .map(Self::Named)
            .map_err(|fault| format!("{fault}; or \"auto\""))
    }
}

impl From<ProfileChoice> for String {
    fn from(choice: ProfileChoice) -> String {
        match choice {
            ProfileChoice::Auto => "auto".to_owned(),
            ProfileChoice::Named(name) => name.into(),
        }
    }
}
