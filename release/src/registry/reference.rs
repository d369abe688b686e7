//! `registry.example:5000/shop/web:1.4`, or with `@sha256:…`.

use super::RegistryError;
use coracle_images::Sha256Digest;
use std::fmt;
use std::str::FromStr;

/// An image of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `host` or `host:port`.
    pub host: String,
    /// `shop/web`.
    pub name: String,
    /// A tag or a digest.
    pub version: String,
}

impl FromStr for Reference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let bad = || RegistryError::Reference(text.chars().take(300).collect());
        // Docker's names without a host mean its hub: not here, where nothing is guessed.
        let (host, rest) = text.split_once('/').ok_or_else(bad)?;
        let is_host = host.contains(['.', ':']) || host == "localhost";
        let (name, version) = match rest.split_once('@') {
            Some((name, digest)) => {
                let digest: Sha256Digest = digest.parse().map_err(|_| bad())?;
                (name, digest.to_string())
            }
            None => match rest.split_once(':') {
                Some((name, tag)) => (name, tag.to_owned()),
                None => (rest, "latest".to_owned()),
            },
        };
        let plain = |text: &str, also: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
            let sized = !text.is_empty() && text.len() <= 255;
            sized && !text.starts_with('.') && text.chars().all(allowed)
        };
        let parts = name.split('/').all(|part| plain(part, "._-"));
        if !is_host || !plain(host, ".-:[]") || !parts || !plain(&version, "._-:") {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            name: name.to_owned(),
            version,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joint = if self.version.contains(':') { '@' } else { ':' };
        write!(f, "{}/{}{joint}{}", self.host, self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let digest = Sha256Digest::of(b"x");
        for (text, host, name, version) in [
            ("r.example/web", "r.example", "web", "latest"),
            ("localhost/a/b:1.4", "localhost", "a/b", "1.4"),
            ("10.0.0.1:5000/a:v1", "10.0.0.1:5000", "a", "v1"),
            (
                &format!("r.example/a@{digest}"),
                "r.example",
                "a",
                &digest.to_string(),
            ),
        ] {
            let found: Reference = text.parse().unwrap();
            assert_eq!(
                (&found.host[..], &found.name[..], &found.version[..]),
                (host, name, version)
            );
            assert_eq!(found.to_string().parse::<Reference>().unwrap(), found);
        }
        for bad in [
            "web:1",
            "library/web:1",
            "r.example/",
            "r.example/a b",
            "r.example/../a",
            "r.example/a@sha256:12",
            "r.example/a?x",
            "u@r.example/a",
            "r.example//a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
