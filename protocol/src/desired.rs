//! What a board is told over MQTT.

use crate::dsse::Envelope;
use crate::release::Blob;
use serde::{Deserialize, Serialize};

/// The retained message on `desired`. An empty message is no instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Names this deployment in every feedback.
    #[serde(deserialize_with = "crate::strict::activity")]
    pub activity: String,
    /// The assignment's envelope.
    pub deploy: Document,
    /// The release's envelope.
    pub release: Document,
}

/// The retained message on [`crate::topics::ROOT_NOTICE`]: the newest root document. A board that lacks
/// more than this one asks the console for those between: `GET <console>/root/<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootNotice {
    /// Its version.
    pub version: u64,
    /// Its envelope, when it fits into the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Envelope>,
}

/// An envelope in the message, or the blob that holds its JSON when the message would grow past
/// `LIMITS.mqtt_message_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Document {
    /// Here.
    Inline(Envelope),
    /// At `<console>/blobs/sha256/<hex>`.
    Blob(Blob),
}
