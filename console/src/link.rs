//! The console's MQTT link: the only room that knows rumqttc. Messages of boards go to [`Inbox`] in order;
//! the republisher is told when a connection is up, and what the broker retains for boards.

mod retained;
mod take_place;

pub use take_place::{TakePlaceError, Taken, take_place};

use crate::mosquitto::MESSAGE_BYTES;
use crate::republish::Republish;
use coracle_protocol::names::BoardId;
use coracle_protocol::topics::{Separator, Topic};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration,
    Transport,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A message as it came.
#[derive(Debug)]
pub struct Message {
    /// Whose topic.
    pub board: BoardId,
    /// Which one.
    pub kind: Topic,
    /// What.
    pub payload: Vec<u8>,
}

/// Where messages come out. Bounded: a slow database slows the link, not the memory's growth.
pub type Inbox = mpsc::Receiver<Message>;

/// Where the broker is and who the console is to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// MQTT client id.
    pub client_id: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Certificates.
    #[error("TLS to the broker: {0}")]
    Tls(#[from] crate::tls::TlsError),
    /// Options.
    #[error("MQTT: {0}")]
    Options(String),
    /// The link was closed.
    #[error("the link to the broker is closed")]
    Closed,
}

/// Publishes.
#[derive(Clone)]
pub struct Link {
    client: AsyncClient,
    up: watch::Receiver<bool>,
    /// Whether a pattern brought what is retained, since the connection is up.
    shown: watch::Receiver<bool>,
    separator: Separator,
}

/// The other half, to be run by [`Pump::run`].
pub struct Pump {
    events: EventLoop,
    client: AsyncClient,
    up: watch::Sender<bool>,
    shown: watch::Sender<bool>,
    separator: Separator,
    out: mpsc::Sender<Message>,
}

/// A link to `target` under the client configuration `tls`, for boards whose topics have this `separator`.
pub fn open(
    target: &Target,
    tls: Arc<rustls::ClientConfig>,
    separator: Separator,
) -> Result<(Link, Pump, Inbox), LinkError> {
    let mut options =
        MqttOptions::new(target.client_id.clone(), (target.host.clone(), target.port));
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    options.set_keep_alive(15);
    // The broker keeps what boards say while the console restarts.
    options.set_clean_session(false);
    // Frame and topic come on top of the payload.
    options.set_max_packet_size(MESSAGE_BYTES + 1024, MESSAGE_BYTES + 1024);
    let (client, events) = AsyncClient::builder(options)
        .capacity(64)
        .try_build()
        .map_err(|e| LinkError::Options(e.to_string()))?;
    let (up_sender, up) = watch::channel(false);
    let (shown_sender, shown) = watch::channel(false);
    let (out, inbox) = mpsc::channel(256);
    let pump = Pump {
        events,
        client: client.clone(),
        up: up_sender,
        shown: shown_sender,
        separator,
        out,
    };
    let link = Link {
        client,
        up,
        shown,
        separator,
    };
    Ok((link, pump, inbox))
}

impl Link {
    /// A board's topic.
    pub fn topic(&self, kind: Topic, board: &BoardId) -> String {
        kind.of(board, self.separator)
    }
    /// Publishes a retained message, QoS 1. Waits while the queue to the broker is full.
    pub async fn publish_retained(&self, topic: &str, payload: Vec<u8>) -> Result<(), LinkError> {
        self.client
            .publish(topic, payload, PublishOptions::at_least_once().retained())
            .await
            .map_err(|_| LinkError::Closed)
    }
    /// Publishes a message for whoever listens now, QoS 1. Waits while the queue to the broker is full.
    pub async fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), LinkError> {
        self.client
            .publish(topic, payload, PublishOptions::at_least_once())
            .await
            .map_err(|_| LinkError::Closed)
    }
    /// Whether the broker is connected now.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }
    /// Waits for the end of a connection.
    pub async fn wait_down(&mut self) -> Result<(), LinkError> {
        self.up
            .wait_for(|up| !*up)
            .await
            .map(|_| ())
            .map_err(|_| LinkError::Closed)
    }
    /// Waits for a connection.
    pub async fn wait_up(&mut self) -> Result<(), LinkError> {
        self.up
            .wait_for(|up| *up)
            .await
            .map(|_| ())
            .map_err(|_| LinkError::Closed)
    }
}

impl Pump {
    /// Keeps the connection until `stop`: exponential pauses with full jitter, also after a
    /// connection that was cut soon.
    pub async fn run(mut self, republish: Republish, stop: CancellationToken) {
        let mut failures = 0_u32;
        let mut since = tokio::time::Instant::now();
        loop {
            let event = tokio::select! {
                event = self.events.poll() => event,
                () = stop.cancelled() => break,
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                    tracing::info!("connected to the broker");
                    since = tokio::time::Instant::now();
                    self.shown.send_replace(false);
                    republish.connected(ack.session_present);
                    self.subscribe();
                    self.up.send_replace(true);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let topic = String::from_utf8_lossy(&publish.topic);
                    let Some((board, kind)) = Topic::parse(&topic, self.separator) else {
                        if publish.retain && topic == retained::PROBE {
                            self.shown.send_replace(true);
                        }
                        continue;
                    };
                    if kind == Topic::Desired {
                        republish.seen(board, &publish.payload);
                        continue;
                    }
                    let payload = publish.payload.to_vec();
                    let sent = tokio::select! {
                        sent = self.out.send(Message { board, kind, payload }) => sent.is_ok(),
                        () = stop.cancelled() => false,
                    };
                    if !sent {
                        break;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let was_up = self.up.send_replace(false);
                    if was_up && since.elapsed() > Duration::from_secs(60) {
                        failures = 0;
                    }
                    failures = failures.saturating_add(1);
                    let pause = jitter(failures);
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "no broker");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => break,
                    }
                }
            }
        }
        self.up.send_replace(false);
        let _ = self.client.try_disconnect();
        // The goodbye needs the loop once more; a broker that is gone must not hold the console.
        let last = async { while self.events.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), last).await;
    }

    fn subscribe(&self) {
        for topic in [
            // What the broker holds, to be compared with the database.
            Topic::Desired,
            Topic::Current,
            Topic::Feedback,
            Topic::Presence,
            Topic::Telemetry,
            Topic::CommandResult,
        ] {
            let qos = match topic {
                Topic::Telemetry => QoS::AtMostOnce,
                _ => QoS::AtLeastOnce,
            };
            if let Err(error) = self.client.try_subscribe(topic.of_all_boards(), qos) {
                tracing::error!(%error, "cannot subscribe");
            }
        }
    }
}

// Full jitter in milliseconds: uniform below a bound that doubles up to 30 s, and never so short
// that two clients of one name throw each other out in a tight loop.
fn jitter(failures: u32) -> Duration {
    let bound = 250_u64.saturating_mul(1 << failures.min(7)).min(30_000);
    let random = crate::secrets::random_hex(8)
        .ok()
        .and_then(|hex| u64::from_str_radix(&hex, 16).ok())
        .unwrap_or(bound / 2);
    Duration::from_millis(250 + random % (bound + 1))
}
