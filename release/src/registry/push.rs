//! Images, blobs and artifacts from a layout into a registry (distribution-spec, "Push").

use super::{Registry, RegistryError};
use crate::progress;
use coracle_images::Sha256Digest;
use coracle_images::layout::{Descriptor, Image, Layout, Manifest};
use std::io::{self, Cursor};
use ureq::http::Response;
use ureq::{Body, SendBody};

/// How what refers to an image is found in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// The registry lists it.
    Listed,
    /// It knows no lists: it is in the index of this tag (distribution-spec, "Referrers Tag Schema").
    Tagged(String),
}

impl Registry {
    /// Sends an image; the bytes that were not there before.
    pub fn push(&self, layout: &Layout, image: &Image) -> Result<u64, RegistryError> {
        let sent = self.send_missing(layout, image.manifest.blobs())?;
        let bytes = layout.document_bytes(&image.descriptor)?;
        let size = bytes.len() as u64;
        let version = &self.reference.version;
        self.put(version, &image.descriptor.media_type, bytes, None)?;
        Ok(sent + size)
    }

    /// Sends an artifact of the layout that is about an image there; the bytes that were not there before, and how it is found.
    pub fn attach(
        &self,
        layout: &Layout,
        artifact: &Descriptor,
    ) -> Result<(u64, Attached), RegistryError> {
        let manifest: Manifest = layout.document(artifact)?;
        let bytes = layout.document_bytes(artifact)?;
        let Some(subject) = &manifest.subject else {
            return Err(RegistryError::NoSubject(artifact.digest));
        };
        let sent = self.send_missing(layout, manifest.blobs())? + bytes.len() as u64;
        let version = artifact.digest.to_string();
        let answer = self.put(&version, &artifact.media_type, bytes, None)?;
        let said = answer.headers().get("oci-subject");
        let said = said.and_then(|said| said.to_str().ok()?.parse::<Sha256Digest>().ok());
        if said == Some(subject.digest) {
            return Ok((sent, Attached::Listed));
        }
        let tag = self.add_to_tag(&subject.digest, artifact, &manifest)?;
        Ok((sent, Attached::Tagged(tag)))
    }

    fn has(&self, blob: &Sha256Digest) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{blob}"));
        match self.ask("HEAD", &url, |request| self.agent.run(request.body(())?)) {
            Ok(_) => Ok(true),
            Err(RegistryError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send_missing<'b>(
        &self,
        layout: &Layout,
        blobs: impl Iterator<Item = &'b Descriptor>,
    ) -> Result<u64, RegistryError> {
        let mut sent = 0;
        for blob in blobs {
            if !self.has(&blob.digest)? {
                self.send(layout, blob)?;
                sent += blob.size;
            }
        }
        Ok(sent)
    }

    /// Puts a manifest or an index; under a condition, a header of RFC 9110, 13.1.
    pub(super) fn put(
        &self,
        version: &str,
        media_type: &str,
        bytes: Vec<u8>,
        condition: Option<(&str, &str)>,
    ) -> Result<Response<Body>, RegistryError> {
        let url = self.url(&format!("manifests/{version}"));
        self.ask("PUT", &url, |request| {
            let mut request = request
                .header("content-type", media_type)
                .header("content-length", bytes.len());
            if let Some((name, value)) = condition {
                request = request.header(name, value);
            }
            let body = SendBody::from_owned_reader(Cursor::new(bytes.clone()));
            self.agent.run(request.body(body)?)
        })
    }

    fn send(&self, layout: &Layout, blob: &Descriptor) -> Result<(), RegistryError> {
        let begin = self.url("blobs/uploads/");
        let answer = self.ask("POST", &begin, |request| {
            self.agent
                .run(request.header("content-length", 0).body(())?)
        })?;
        let place = answer.headers().get("location");
        let place = place.and_then(|place| place.to_str().ok());
        let place = place.ok_or_else(|| RegistryError::Answer {
            url: begin.clone(),
            what: "no Location for the upload".to_owned(),
        })?;
        let place = match place.starts_with('/') {
            true => format!("{}{place}", self.base),
            false => place.to_owned(),
        };
        // The login goes along, so that it must be the same registry.
        if !place.starts_with(&format!("{}/", self.base)) {
            return Err(RegistryError::Answer {
                url: begin,
                what: format!("the upload is to go elsewhere, to `{place}`"),
            });
        }
        let joint = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{joint}digest={}", blob.digest);
        let bar = progress::bytes(&format!("pushing {}", self.reference), blob.size);
        self.ask("PUT", &url, |request| {
            let file = layout.store().open_blob(&blob.digest);
            let file = file.map_err(|error| ureq::Error::Io(io::Error::other(error)))?;
            let request = request
                .header("content-type", "application/octet-stream")
                .header("content-length", blob.size)
                .body(SendBody::from_owned_reader(progress::reading(&bar, file)))?;
            self.agent.run(request)
        })?;
        bar.finish_and_clear();
        Ok(())
    }
}
