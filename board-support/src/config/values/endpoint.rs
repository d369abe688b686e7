//! Where the console and its broker are.

use serde::{Deserialize, Serialize};

/// `https://…` or, for a laboratory or a mirror, `http://…`; at most 256 bytes.
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

/// `http://host:port`: the way to a proxy is plain TCP, what goes through it is not; at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// `host:port`, or `host` alone.
    pub fn address(&self) -> &str {
        let text = self.0.strip_prefix("http://").unwrap_or(&self.0);
        text.trim_end_matches('/')
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        endpoint(text, &["http"]).map(Self)
    }
}

impl From<ProxyUrl> for String {
    fn from(url: ProxyUrl) -> String {
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
    // Neither is sent, and a message that quotes it would tell the password.
    if let Some((_, rest)) = text.split_once("://")
        && rest
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
    {
        return Err("a user or a password (`…@`) is not allowed in an address".to_owned());
    }
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
