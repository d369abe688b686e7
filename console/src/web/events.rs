//! `/events`: server-sent events, without content. An open page fetches itself anew at each.

use super::Web;
use super::session::SignedIn;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

pub async fn stream(State(web): State<Web>, _who: SignedIn) -> Response {
    let start = (web.rest.live.listen(), web.stop.clone());
    let changes = stream::unfold(start, |(mut changes, stop)| async move {
        let more = tokio::select! {
            change = changes.recv() => !matches!(change, Err(RecvError::Closed)),
            () = stop.cancelled() => false,
        };
        let event = Event::default().data("changed");
        more.then_some((Ok::<_, Infallible>(event), (changes, stop)))
    });
    Sse::new(changes)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(20)))
        .into_response()
}
