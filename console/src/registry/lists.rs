//! What a repository holds, in lists: tags, and what refers to a manifest.

use super::routes::{Registry, blocking, digest};
use super::{RegistryError, Repository};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use coracle_images::layout::INDEX;
use std::collections::BTreeMap;

impl Registry {
    pub(super) async fn tags(
        &self,
        repository: Repository,
        uri: &Uri,
    ) -> Result<Response, RegistryError> {
        let query = query(uri);
        let manifests = self.manifests.clone();
        let name = repository.clone();
        let mut tags = blocking(move || manifests.tags(&name))
            .await?
            .ok_or_else(|| RegistryError::NameUnknown(repository.to_string()))?;
        if let Some(last) = query.get("last") {
            tags.retain(|tag| tag > last);
        }
        let most = query
            .get("n")
            .and_then(|n| n.parse().ok())
            .unwrap_or(usize::MAX);
        let more = tags.len() > most;
        tags.truncate(most);
        let link = tags
            .last()
            .filter(|_| more)
            .map(|last| format!("</v2/{repository}/tags/list?n={most}&last={last}>; rel=\"next\""));
        let body = axum::Json(serde_json::json!({"name": repository.as_str(), "tags": tags}));
        Ok(match link {
            Some(link) => ([(header::LINK, link)], body).into_response(),
            None => body.into_response(),
        })
    }

    pub(super) async fn referrers(
        &self,
        repository: Repository,
        subject: &str,
        uri: &Uri,
    ) -> Result<Response, RegistryError> {
        let subject = digest(subject)?;
        let manifests = self.manifests.clone();
        let mut found = blocking(move || manifests.referrers(&repository, &subject)).await?;
        let query = query(uri);
        let filter = query.get("artifactType");
        if let Some(kind) = filter {
            found.retain(|d| d.artifact_type.as_ref() == Some(kind));
        }
        let body = serde_json::json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": found,
        });
        let mut response = ([(header::CONTENT_TYPE, INDEX)], body.to_string()).into_response();
        if filter.is_some()
            && let Ok(value) = "artifactType".parse()
        {
            response.headers_mut().insert("oci-filters-applied", value);
        }
        Ok(response)
    }
}

pub(super) fn query(uri: &Uri) -> BTreeMap<String, String> {
    axum::extract::Query::<BTreeMap<String, String>>::try_from_uri(uri)
        .map(|q| q.0)
        .unwrap_or_default()
}
