//! Repository names and references (distribution-spec, "Pulling manifests"). A checked name is a
//! safe path: no component begins with a dot or an underscore.

use coracle_digest::Sha256Digest;
use std::fmt;

/// A repository: `demo/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(String);

impl Repository {
    /// Checks `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*`, at most 255 bytes.
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= 255 && name.split('/').all(is_component);
        fits.then(|| Self(name.to_owned()))
    }
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
    ends && text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    Tag(String),
    /// `sha256:…`.
    Digest(Sha256Digest),
}

impl Reference {
    /// Checks a tag or digest.
    pub fn new(text: &str) -> Option<Self> {
        if text.contains(':') {
            return text.parse().ok().map(Self::Digest);
        }
        let fits = (1..=128).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self::Tag(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_way_out_of_its_folder() {
        for good in ["web", "demo/web", "a.b_c__d--e/f0"] {
            assert!(Repository::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "..",
            "a/../b",
            "a..b",
            "_tags",
            "a/_x",
            "A",
            "a___b",
            "a_.b",
            ".a",
            "a.",
            "a b",
            &"a".repeat(256),
        ] {
            assert!(Repository::new(bad).is_none(), "{bad}");
        }
        for bad in ["", ".x", "..", "-x", "a/b", "sha512:00", &"a".repeat(129)] {
            assert!(Reference::new(bad).is_none(), "{bad}");
        }
        assert_eq!(Reference::new("1.4"), Some(Reference::Tag("1.4".into())));
    }
}
