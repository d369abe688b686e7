//! Names that travel: each is checked once, where it enters, and carries the proof in its type.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {what}: {rule}")]
pub struct NameError {
    what: &'static str,
    value: String,
    rule: &'static str,
}

const RULE: &str =
    "1 to 48 characters from a-z, 0-9 and -, starting with a letter or digit, not ending in -";

fn is_label(s: &str) -> bool {
    (1..=48).contains(&s.len())
        && s.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !s.starts_with('-')
        && !s.ends_with('-')
}

fn refused(what: &'static str, value: &str, rule: &'static str) -> NameError {
    NameError {
        what,
        value: value.chars().take(80).collect(),
        rule,
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `value` against the rule that the error states.
            pub fn new(value: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(value) { Ok(Self(value.to_owned())) } else { Err(refused($what, value, $rule)) }
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                Self::new(&value)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A board: `<tenant>.<name>`. It is the common name of the board's certificate, its MQTT user
    /// name and a topic level, so it holds no `/`, `+` or `#`.
    BoardId, "board", "<tenant>.<name>, each 1 to 48 characters from a-z, 0-9 and -",
    |s| s.split_once('.').is_some_and(|(tenant, name)| is_label(tenant) && is_label(name))
);
name!(
    /// An app of a release, and the name of its container.
    AppName, "app name", RULE, is_label
);
name!(
    /// A named volume.
    VolumeName, "volume name", RULE, is_label
);
name!(
    /// A secret of an app, and its file in `/run/secrets`.
    SecretName, "secret name", RULE, is_label
);
name!(
    /// An action of an app, by the name that its release gives it.
    ActionName, "action name", RULE, is_label
);
name!(
    /// A device of the board, by the name that the board's profile gives it.
    DeviceName, "device name",
    "1 to 32 characters from a-z, 0-9, - and _, starting with a letter",
    |s| (1..=32).contains(&s.len())
        && s.starts_with(|c: char| c.is_ascii_lowercase())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
);
name!(
    /// A network that a release declares, or the board's own, `bridge`.
    NetworkName, "network name", RULE, is_label
);
name!(
    /// A hardware class: what a release is built for and a board profile declares.
    HardwareClass, "hardware class", RULE, is_label
);
name!(
    /// The product that a release belongs to; release counters are kept for each.
    ProductName, "product name", RULE, is_label
);

impl BoardId {
    /// A board that nobody has enrolled yet. A stick may be for its hardware class; what is for boards
    /// by name never fits.
    pub fn unenrolled() -> Self {
        Self("unenrolled.board".to_owned())
    }
    /// The part before the dot.
    pub fn tenant(&self) -> &str {
        self.0.split_once('.').map_or("", |(tenant, _)| tenant)
    }
    /// The part after the dot.
    pub fn name(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_unenrolled_boards_is_a_board_name() {
        let name = BoardId::unenrolled();
        assert_eq!(BoardId::new(name.as_str()), Ok(name));
    }

    #[test]
    fn a_board_name_cannot_reach_another_topic() {
        assert!(BoardId::new("acme.board-7").is_ok());
        for bad in [
            "acme",
            "acme.",
            ".x",
            "acme.a/b",
            "acme.+",
            "acme.#",
            "a.b.c",
            "Acme.b",
            "acme.b\n",
            "acme.$SYS",
        ] {
            assert!(BoardId::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_app_name_is_no_path() {
        for bad in ["", "..", "../x", "a/b", "-a", "a-", "a b", &"a".repeat(49)] {
            assert!(AppName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
