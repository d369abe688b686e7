//! Pages.
use crate::rest::Rest;
use axum::Router;
use tokio_util::sync::CancellationToken;

/// Pages.
#[derive(Clone)]
pub struct Web {}
impl Web {
    pub fn new(_rest: Rest, _stop: CancellationToken) -> Self {
        Self {}
    }
}
/// Routes.
pub fn router(web: Web) -> Router {
    let _ = web;
    Router::new()
}
