//! What a registry holds about an image (distribution-spec, "Listing Referrers"), and the index below a tag that takes the place
//! of the registry's list where it knows none ("Unavailable Referrers API").

use super::pull::media_type;
use super::{Registry, RegistryError};
use crate::image::limits;
use coracle_images::Sha256Digest;
use coracle_images::layout::{Descriptor, INDEX, Manifest};
use serde_json::{Value, json};
use std::time::Duration;

/// Parts of a list that are read.
const PAGES: usize = 64;

/// Tries to change an index that others change as well.
const TRIES: u32 = 6;

/// The index under a subject's tag, as it is.
struct TagIndex {
    index: Value,
    /// As in [`Document`](super::pull::Document).
    etag: Option<String>,
}

impl Registry {
    /// What refers to a manifest and is of this type. What a list says in words that are not known here, a digest of another
    /// kind, is passed over.
    pub fn referrers(
        &self,
        subject: &Sha256Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let query: String = artifact_type
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        let mut next = Some(self.url(&format!("referrers/{subject}?artifactType={query}")));
        let mut found = Vec::new();
        for page in 0..PAGES {
            let Some(url) = next.take() else { break };
            match self.page(&url) {
                Ok((entries, link)) => {
                    found.extend(entries);
                    next = link;
                }
                Err(RegistryError::Refused { status: 404, .. }) if page == 0 => {
                    found = entries(self.tagged(subject)?.as_ref());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(url) = next {
            let what = format!("more than {PAGES} parts of a list");
            return Err(RegistryError::Answer { url, what });
        }
        let entries = found.into_iter().filter_map(|entry| {
            let entry: Descriptor = serde_json::from_value(entry).ok()?;
            (entry.artifact_type.as_deref() == Some(artifact_type)).then_some(entry)
        });
        Ok(entries.collect())
    }

    /// One part of the registry's own list, and where the next one is.
    fn page(&self, url: &str) -> Result<(Vec<Value>, Option<String>), RegistryError> {
        let mut answer = self.ask("GET", url, |request| {
            self.agent.run(request.header("accept", INDEX).body(())?)
        })?;
        let media_type = media_type(answer.headers());
        let link = answer.headers().get("link");
        let link = link.and_then(|link| next_of(link.to_str().ok()?));
        let next = match link {
            Some(path) if path.starts_with('/') => Some(format!("{}{path}", self.base)),
            // The login goes along.
            Some(other) if other.starts_with(&format!("{}/", self.base)) => Some(other),
            Some(other) => {
                let what = format!("the list goes on elsewhere, at `{other}`");
                return Err(RegistryError::Answer {
                    url: url.to_owned(),
                    what: crate::console::visible(&what),
                });
            }
            None => None,
        };
        let body = answer.body_mut().with_config();
        let bytes = body.limit(limits().document_bytes).read_to_vec();
        let bytes = bytes.map_err(|error| RegistryError::Answer {
            url: url.to_owned(),
            what: error.to_string(),
        })?;
        let index = index(&media_type, &bytes).map_err(|what| RegistryError::Answer {
            url: url.to_owned(),
            what,
        })?;
        let part = TagIndex { index, etag: None };
        Ok((entries(Some(&part)), next))
    }

    fn tagged(&self, subject: &Sha256Digest) -> Result<Option<TagIndex>, RegistryError> {
        let tag = tag_of(subject);
        let document = match self.document(&tag) {
            Ok(document) => document,
            Err(RegistryError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let index = index(&document.media_type, &document.bytes).map_err(|what| {
            let name = &self.reference.name;
            let host = &self.reference.host;
            RegistryError::Tag {
                tag: format!("{host}/{name}:{tag}"),
                what,
            }
        })?;
        let etag = document.etag;
        Ok(Some(TagIndex { index, etag }))
    }

    /// Reads the index below the subject's tag, adds the artifact, writes it, and reads it again: another one who did the same at
    /// the same time may have left ours out, where the registry knows no conditions.
    pub(super) fn add_to_tag(
        &self,
        subject: &Sha256Digest,
        artifact: &Descriptor,
        manifest: &Manifest,
    ) -> Result<String, RegistryError> {
        let tag = tag_of(subject);
        let is_ours = |entry: &Value| entry["digest"] == artifact.digest.to_string();
        for attempt in 0..TRIES {
            let before = self.tagged(subject)?;
            let entries = entries(before.as_ref());
            if entries.iter().any(is_ours) {
                return Ok(tag);
            }
            let is_new = before.is_none();
            let (mut index, etag) = match before {
                Some(before) => (before.index, before.etag),
                None => (json!({"schemaVersion": 2, "mediaType": INDEX}), None),
            };
            let condition = match &etag {
                Some(etag) => Some(("if-match", &etag[..])),
                None if is_new => Some(("if-none-match", "*")),
                None => None,
            };
            let entry = described(artifact, manifest);
            index["manifests"] = entries.into_iter().chain([entry]).collect();
            let bytes = index.to_string().into_bytes();
            match self.put(&tag, INDEX, bytes, condition) {
                // Changed since it was read.
                Ok(_) | Err(RegistryError::Refused { status: 412, .. }) => {}
                Err(error) => return Err(error),
            }
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(200) * attempt);
            }
        }
        match entries(self.tagged(subject)?.as_ref()).iter().any(is_ours) {
            true => Ok(tag),
            false => Err(RegistryError::Contended { tag, tries: TRIES }),
        }
    }
}

/// The entry of an artifact in a list: as the registry itself would write it.
fn described(artifact: &Descriptor, manifest: &Manifest) -> Value {
    let own = manifest.artifact_type.as_deref();
    let kind = own.filter(|kind| !kind.is_empty());
    json!({
        "mediaType": artifact.media_type, "digest": artifact.digest, "size": artifact.size,
        "artifactType": kind.unwrap_or(&manifest.config.media_type),
        "annotations": manifest.annotations,
    })
}

/// The tag that holds what refers to `subject`.
fn tag_of(subject: &Sha256Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn index(media_type: &str, bytes: &[u8]) -> Result<Value, String> {
    if media_type != INDEX {
        let kind = crate::console::visible(media_type);
        return Err(format!("it is `{kind}`, not an index"));
    }
    let index: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match index["manifests"].is_array() || index["manifests"].is_null() {
        true if index.is_object() => Ok(index),
        _ => Err("it is no index".to_owned()),
    }
}

fn entries(found: Option<&TagIndex>) -> Vec<Value> {
    let entries = found.and_then(|found| found.index["manifests"].as_array());
    entries.cloned().unwrap_or_default()
}

/// The target of `<…>; rel="next"` (RFC 8288).
fn next_of(link: &str) -> Option<String> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|part| {
        let part = part.trim();
        part == "rel=next" || part == "rel=\"next\""
    });
    is_next.then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_list_goes_on() {
        let next = "</v2/a/referrers/x?n=2>; rel=\"next\"";
        assert_eq!(next_of(next).unwrap(), "/v2/a/referrers/x?n=2");
        for other in ["", "</v2/a>; rel=\"prev\"", "/v2/a; rel=next", "</v2/a"] {
            assert_eq!(next_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_an_index_is_one() {
        assert!(index(INDEX, br#"{"schemaVersion":2}"#).is_ok());
        for (kind, text) in [
            ("application/json", r#"{"manifests":[]}"#),
            (INDEX, r#"{"manifests":{}}"#),
            (INDEX, "[]"),
            (INDEX, "x"),
        ] {
            assert!(index(kind, text.as_bytes()).is_err(), "{kind} {text}");
        }
    }
}
