//! `update accept`: somebody on the board says yes to the release that waits.

use crate::client::Client;
use crate::failure::Failure;
use crate::human::printable;
use crate::{output, status};
use coracle_protocol::local::SWITCHING;
use serde_json::json;

/// `coracle update accept`
pub async fn accept(client: &Client) -> Result<(), Failure> {
    let waiting = status::supervisor(client).await?.waiting;
    let Some(set) = waiting.filter(|set| set.code != SWITCHING) else {
        return Err(Failure::NothingWaits);
    };
    // By its digest: one that came since it was looked at is not meant.
    let body = json!({ "deployment": set.deployment });
    client.post("/coracle/v1/accept", &body).await?;
    let version = printable(&set.version);
    output::text(&format!("accepted: {version}, {}\n", set.activity))
}
