//! Repository names and references (distribution-spec, "Pulling manifests"). A checked name is a
//! safe path: no component begins with a dot or an underscore.

use super::RegistryError;
use axum::extract::Query;
use axum::http::Uri;
use coracle_digest::Sha256Digest;
use std::fmt;

/// Tags that one push of a manifest may give it beside its digest: the spec wants ten at least.
const MOST_TAGS: usize = 32;

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

/// The tags in the query of a manifest that is pushed by its digest (distribution-spec, end-7b).
pub(super) fn tags_beside(uri: &Uri) -> Result<Vec<Reference>, RegistryError> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|query| query.0)
        .unwrap_or_default();
    let tags = pairs.into_iter().filter(|(name, _)| name == "tag");
    let tags = tags.map(|(_, text)| match Reference::new(&text) {
        Some(tag @ Reference::Tag(_)) => Ok(tag),
        _ => Err(RegistryError::ReferenceInvalid(
            text.chars().take(160).collect(),
        )),
    });
    let tags: Vec<Reference> = tags.collect::<Result<_, _>>()?;
    match tags.len() {
        0..=MOST_TAGS => Ok(tags),
        got => Err(RegistryError::TooManyTags {
            got,
            most: MOST_TAGS,
        }),
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
