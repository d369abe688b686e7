//! Names that become part of paths, cgroups and links.

use serde::{Deserialize, Serialize};

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

/// A network link's name: 1 to 15 printable bytes without `/`, `:`, `%` and space (IFNAMSIZ of linux/if.h, 16 with its NUL;
/// `dev_valid_name` of net/core/dev.c; `%` makes the kernel choose a name). Releases have the same rule.
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
        let printable = |b: u8| b.is_ascii_graphic() && !b"/:%\"".contains(&b);
        let reserved = text == "." || text == ".." || text == "lo";
        if !reserved && (1..=15).contains(&text.len()) && text.bytes().all(printable) {
            return Ok(Self(text));
        }
        Err(format!(
            "`{text}` is not a link name; allowed are 1 to 15 printable characters without space, `/`, `:`, `%` and `\"`"
        ))
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> String {
        name.0
    }
}
