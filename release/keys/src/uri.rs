//! `pkcs11:` URIs (RFC 7512): which key of which token, by which module.
//!
//! By hand, over percent-encoding: the parser that there is (pk11-uri-parser) does not decode, brings regex, and prints.

use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest URI, in bytes.
const BYTES: usize = 2048;

/// Why it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Too long.
    #[error("the pkcs11 URI has more than {BYTES} bytes")]
    TooLong,
    /// Not `name=value`.
    #[error("`{0}` in the pkcs11 URI is not name=value")]
    NotAPair(String),
    /// Twice.
    #[error("`{0}` stands twice in the pkcs11 URI")]
    Twice(String),
    /// What is not understood must not be passed over (RFC 7512, section 2.3).
    #[error(
        "`{0}` in the pkcs11 URI is not understood; token, serial, manufacturer, model, slot-id, object, id and \
         type=private are, and after the `?` module-path and pin-source"
    )]
    Unknown(String),
    /// A PIN on the command line.
    #[error(
        "pin-value in a pkcs11 URI is seen by everybody on this machine: name a file in pin-source or \
         in CORACLE_PIN_FILE, or type it when asked"
    )]
    PinValue,
    /// Not UTF-8.
    #[error("`{0}` in the pkcs11 URI is no text")]
    NoText(&'static str),
    /// Not a number.
    #[error("slot-id in the pkcs11 URI is no number")]
    Slot,
    /// No key is named.
    #[error("the pkcs11 URI names no key: add object=LABEL or id=%01")]
    NoKey,
    /// A command, or another scheme.
    #[error("pin-source in the pkcs11 URI must be a file: `/path` or `file:/path`")]
    PinSource,
}

/// Which key of which token. What is `None` may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pkcs11Uri {
    text: String,
    /// The token's label.
    pub token: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// Who made the token.
    pub manufacturer: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The slot's number.
    pub slot: Option<u64>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's CKA_ID.
    pub id: Option<Vec<u8>>,
    /// The library that speaks to the token.
    pub module_path: Option<PathBuf>,
    /// A file with the PIN.
    pub pin_source: Option<PathBuf>,
}

impl FromStr for Pkcs11Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > BYTES {
            return Err(UriError::TooLong);
        }
        let rest = text.strip_prefix("pkcs11:").unwrap_or(text);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        let mut seen = Vec::new();
        let attributes = path.split(';').chain(query.split('&'));
        for pair in attributes.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| UriError::NotAPair(pair.to_owned()))?;
            if seen.contains(&name) {
                return Err(UriError::Twice(name.to_owned()));
            }
            seen.push(name);
            uri.set(name, value)?;
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(UriError::NoKey);
        }
        Ok(uri)
    }
}

impl Pkcs11Uri {
    fn set(&mut self, name: &str, value: &str) -> Result<(), UriError> {
        let bytes: Vec<u8> = percent_decode_str(value).collect();
        let text = |what| String::from_utf8(bytes.clone()).map_err(|_| UriError::NoText(what));
        match name {
            "token" => self.token = Some(text("token")?),
            "serial" => self.serial = Some(text("serial")?),
            "manufacturer" => self.manufacturer = Some(text("manufacturer")?),
            "model" => self.model = Some(text("model")?),
            "slot-id" => {
                let number = text("slot-id")?.parse();
                self.slot = Some(number.map_err(|_| UriError::Slot)?);
            }
            "object" => self.object = Some(text("object")?),
            "id" => self.id = Some(bytes),
            "type" if value == "private" => {}
            "module-path" => self.module_path = Some(text("module-path")?.into()),
            "pin-source" => self.pin_source = Some(file(&text("pin-source")?)?),
            "pin-value" => return Err(UriError::PinValue),
            other => return Err(UriError::Unknown(other.to_owned())),
        }
        Ok(())
    }
}

/// A path, or `file:` before one (RFC 8089). RFC 7512 knows `|command` too: nothing is run here.
fn file(text: &str) -> Result<PathBuf, UriError> {
    let path = text.strip_prefix("file:").unwrap_or(text);
    let path = path.strip_prefix("//").unwrap_or(path);
    match path.is_empty() || path.starts_with('|') || path.contains("://") {
        true => Err(UriError::PinSource),
        false => Ok(path.into()),
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Pkcs11Uri, UriError> {
        text.parse()
    }

    #[test]
    fn what_rfc_7512_shows_is_read() {
        let uri = parse(
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
             object=my-key;type=private;id=%69%95%00?pin-source=file:/etc/token_pin&module-path=/lib/m.so",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11 Softtoken"));
        assert_eq!(uri.manufacturer.as_deref(), Some("Snake Oil, Inc."));
        assert_eq!(uri.id.as_deref(), Some(&b"\x69\x95\x00"[..]));
        assert_eq!(uri.pin_source, Some("/etc/token_pin".into()));
        assert_eq!(uri.module_path, Some("/lib/m.so".into()));
        let slot = parse("pkcs11:slot-id=327;object=k?pin-source=pin.txt").unwrap();
        assert_eq!(
            (slot.slot, slot.pin_source),
            (Some(327), Some("pin.txt".into()))
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |text: &str| parse(text).unwrap_err();
        assert_eq!(
            refused("pkcs11:object=k?pin-value=1234"),
            UriError::PinValue
        );
        assert_eq!(refused("pkcs11:token=t"), UriError::NoKey);
        assert_eq!(refused("pkcs11:"), UriError::NoKey);
        assert_eq!(
            refused("pkcs11:object=a;object=b"),
            UriError::Twice("object".into())
        );
        for (text, name) in [
            ("type=cert", "type"),
            ("x-vendor=1", "x-vendor"),
            ("library-version=1", "library-version"),
        ] {
            let text = format!("pkcs11:object=k;{text}");
            assert_eq!(refused(&text), UriError::Unknown(name.into()));
        }
        assert_eq!(
            refused("pkcs11:object"),
            UriError::NotAPair("object".into())
        );
        assert_eq!(refused("pkcs11:object=%ff"), UriError::NoText("object"));
        assert_eq!(refused("pkcs11:object=k;slot-id=x"), UriError::Slot);
        for source in ["%7Ccat%20/pin", "http://x/pin", "file:"] {
            assert_eq!(
                refused(&format!("pkcs11:object=k?pin-source={source}")),
                UriError::PinSource
            );
        }
        assert_eq!(
            refused(&format!("pkcs11:object={}", "k".repeat(3000))),
            UriError::TooLong
        );
    }
}
