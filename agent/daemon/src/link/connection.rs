//! One connection to the broker, from CONNECT to its end.

use super::backoff::End;
use super::odd::{self, Kind, Sort};
use super::outbox::{Item, Outbox};
use super::{Ends, shrink};
use crate::commands;
use crate::identity::Identity;
use coracle_board_support::memory;
use coracle_protocol::desired::{Desired, RootNotice};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::report::Presence;
use coracle_protocol::topics::{ROOT_NOTICE, Topic};
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, LastWill, MqttOptions, Packet, Publish,
    PublishOptions, QoS, TlsConfiguration, Transport,
};
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// PINGREQ after so many quiet seconds.
const KEEP_ALIVE_S: u16 = 30;
/// A connection on which nothing came for so long is dead: two keep-alives and a slow answer.
const SILENCE: Duration = Duration::from_secs(75);
/// For TCP, TLS and CONNACK.
const CONNECT: Duration = Duration::from_secs(30);
/// Largest packet that is read: what is allowed, and room for the topic. One that is a little
/// too long is read and refused by name; beyond four times that the connection ends.
const INCOMING: usize = 4 * LIMITS.mqtt_message_bytes;
/// Unacknowledged messages; the outbox sends one at a time, and a birth beside it.
const IN_FLIGHT: u16 = 8;
/// For the last message and DISCONNECT.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection ended without a fault.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The daemon ends.
    Shutdown,
    /// The board was enrolled anew.
    NewIdentity,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection.
    #[error("{0}")]
    Connection(#[from] Box<ConnectionError>),
    /// A request that the client did not take.
    #[error("MQTT client: {0}")]
    Client(#[from] Box<ClientError>),
    /// Dead.
    #[error("nothing came from the broker for {} s", SILENCE.as_secs())]
    Silent,
    /// A broker that does not open.
    #[error("no connection in {} s", CONNECT.as_secs())]
    NoConnack,
}

impl From<ClientError> for LinkError {
    fn from(error: ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}

/// A broker that is there was heard not longer ago than this: it answers each keep-alive.
const HEARD: Duration = Duration::from_secs(KEEP_ALIVE_S as u64 + 5);

/// What came of a connection.
#[derive(Debug, Default)]
pub struct Traffic {
    /// When the broker accepted it.
    opened: Option<Instant>,
    /// When something came last.
    heard: Option<Instant>,
}

impl Traffic {
    /// How it ended, if it has now.
    pub fn end(&self) -> End {
        let Some(opened) = self.opened else {
            return End::Unopened;
        };
        let lasted = opened.elapsed();
        match self.heard.is_some_and(|heard| heard.elapsed() <= HEARD) {
            true => End::Kicked(lasted),
            false => End::Cut(lasted),
        }
    }
}

type Ack = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Runs one connection.
pub async fn run(
    identity: &Identity,
    session: u64,
    outbox: &Outbox,
    ends: &mut Ends,
    traffic: &mut Traffic,
) -> Result<Ended, LinkError> {
    let (client, mut eventloop) = AsyncClient::builder(options(identity, session))
        .capacity(usize::from(IN_FLIGHT))
        .build();
    let mut network = eventloop.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT.as_secs());
    eventloop.set_network_options(network);
    let mut deadline = Instant::now() + CONNECT;
    let mut waiting: Option<(Item, Ack)> = None;
    loop {
        let connected = traffic.opened.is_some();
        if connected && waiting.is_none() {
            waiting = next(&client, identity, session, outbox)?;
        }
        let event = tokio::select! {
            event = tokio::time::timeout_at(deadline, eventloop.poll()) => match event {
                Ok(event) => event.map_err(Box::new)?,
                Err(_) if connected => return Err(LinkError::Silent),
                Err(_) => return Err(LinkError::NoConnack),
            },
            good = acknowledged(&mut waiting) => {
                if let Some((item, _)) = waiting.take() {
                    if good { outbox.sent(&item) } else { outbox.not_sent(&item) }
                    let left = outbox.waiting();
                    ends.state.send_if_modified(|s| std::mem::replace(&mut s.waiting, left) != left);
                }
                continue;
            }
            () = outbox.changed(), if connected && waiting.is_none() => continue,
            _ = ends.identity.changed() => return Ok(Ended::NewIdentity),
            _ = ends.shutdown.changed() => {
                if connected {
                    farewell(&client, &mut eventloop, identity, session).await;
                }
                return Ok(Ended::Shutdown);
            }
        };
        let Event::Incoming(packet) = event else {
            continue;
        };
        let now = Instant::now();
        traffic.heard = Some(now);
        deadline = now + SILENCE;
        match packet {
            Packet::ConnAck(_) => {
                traffic.opened = Some(now);
                client.try_subscribe(identity.topic(Topic::Desired), QoS::AtLeastOnce)?;
                client.try_subscribe(ROOT_NOTICE, QoS::AtLeastOnce)?;
                // A command is for now: the broker keeps none for a board that is away.
                client.try_subscribe(identity.topic(Topic::Command), QoS::AtMostOnce)?;
                client.try_publish(
                    identity.topic(Topic::Presence),
                    presence(true, session),
                    PublishOptions::at_least_once().retained(),
                )?;
                outbox.connected();
                tracing::info!(broker = %identity.mqtt, session, "link is up");
                ends.state.send_modify(|state| {
                    state.connected = true;
                    state.error = None;
                    state.since = crate::clock::now();
                    state.connects += 1;
                    state.waiting = outbox.waiting();
                });
            }
            Packet::Publish(publish) => {
                if let Some(notice) = read::<RootNotice>(&publish, ROOT_NOTICE, Sort::Root) {
                    ends.roots.send_replace(Some(notice));
                }
                if !publish.retain
                    && let Some(command) =
                        read(&publish, &identity.topic(Topic::Command), Sort::Command)
                {
                    commands::take(&ends.commands, outbox, command);
                }
                if let Some(desired) = read_desired(&publish, &identity.topic(Topic::Desired)) {
                    // Full: three newer ones wait already, and the retained one comes again.
                    if ends.desired.try_send(desired).is_err()
                        && odd::is_first(Kind::Dropped, Sort::Desired)
                    {
                        tracing::warn!(
                            "a desired state was dropped: too many came at once; the next are counted"
                        );
                    }
                }
            }
            // For most boards nothing else happens in hours: what the ping took goes back, at its own wake-up.
            Packet::PingResp => memory::rest(),
            _ => {}
        }
    }
}

fn options(identity: &Identity, session: u64) -> MqttOptions {
    let broker = (identity.mqtt.host.clone(), identity.mqtt.port);
    let mut options = MqttOptions::new(identity.board.as_str(), broker);
    let tls = TlsConfiguration::Rustls(identity.tls.clone());
    options.set_transport(Transport::tls_with_config(tls));
    options.set_keep_alive(KEEP_ALIVE_S);
    // The broker keeps what is published while the board is away.
    options.set_clean_session(false);
    options.set_max_packet_size(INCOMING, LIMITS.mqtt_message_bytes + 1024);
    options.set_inflight(IN_FLIGHT);
    let will = identity.topic(Topic::Presence);
    let gone = presence(false, session);
    options.set_last_will(LastWill::new(will, gone, QoS::AtLeastOnce, true));
    options
}

fn presence(online: bool, session: u64) -> Vec<u8> {
    serde_json::to_vec(&Presence { online, session }).unwrap_or_default()
}

/// Hands the next message of the outbox to the client.
fn next(
    client: &AsyncClient,
    identity: &Identity,
    session: u64,
    outbox: &Outbox,
) -> Result<Option<(Item, Ack)>, LinkError> {
    let Some(item) = outbox.next(session) else {
        return Ok(None);
    };
    let (topic, payload, publish) = match &item {
        Item::Feedback(ticket) => {
            let json = ticket.json.clone();
            (Topic::Feedback, json, PublishOptions::at_least_once())
        }
        Item::Current(current) => (
            Topic::Current,
            shrink::to_fit((**current).clone(), LIMITS.mqtt_message_bytes),
            // A last word that was retained would be held against a board that is enrolled anew.
            match current.decommissioned {
                true => PublishOptions::at_least_once(),
                false => PublishOptions::at_least_once().retained(),
            },
        ),
        Item::Result(json) => {
            let json = json.clone();
            (Topic::CommandResult, json, PublishOptions::at_least_once())
        }
        Item::Telemetry(json) => {
            let json = json.clone();
            (Topic::Telemetry, json, PublishOptions::at_most_once())
        }
    };
    let notice = client.try_publish_tracked(identity.topic(topic), payload, publish)?;
    let ack: Ack = Box::pin(async move { notice.wait_completion_async().await.is_ok() });
    Ok(Some((item, ack)))
}

async fn acknowledged(waiting: &mut Option<(Item, Ack)>) -> bool {
    match waiting {
        Some((_, ack)) => ack.await,
        None => std::future::pending().await,
    }
}

/// A desired state, when the message is one. An empty message is no instruction.
fn read_desired(publish: &Publish, topic: &str) -> Option<Desired> {
    let desired = read::<Desired>(publish, topic, Sort::Desired)?;
    if desired.activity.len() > 128 {
        if odd::is_first(Kind::Malformed, Sort::Desired) {
            tracing::warn!(
                "the activity of a desired state has more than 128 bytes; ignored, and the next are counted"
            );
        }
        return None;
    }
    Some(desired)
}

/// A message of `topic`, when this is one that can be read.
fn read<T: serde::de::DeserializeOwned>(publish: &Publish, topic: &str, sort: Sort) -> Option<T> {
    if publish.topic.as_ref() != topic.as_bytes() || publish.payload.is_empty() {
        return None;
    }
    let (bytes, limit) = (publish.payload.len(), LIMITS.mqtt_message_bytes);
    if bytes > limit {
        if odd::is_first(Kind::TooLong, sort) {
            tracing::warn!(
                topic,
                bytes,
                limit,
                "a message is too long; ignored, and the next are counted"
            );
        }
        return None;
    }
    match serde_json::from_slice(&publish.payload) {
        Ok(message) => Some(message),
        Err(error) => {
            if odd::is_first(Kind::Malformed, sort) {
                tracing::warn!(topic, %error, "a message cannot be read; ignored, and the next are counted");
            }
            None
        }
    }
}

/// Says that the board goes, so that nobody waits for the will. Best effort.
async fn farewell(
    client: &AsyncClient,
    eventloop: &mut rumqttc::EventLoop,
    identity: &Identity,
    session: u64,
) {
    let topic = identity.topic(Topic::Presence);
    let options = PublishOptions::at_least_once().retained();
    let gone = presence(false, session);
    if client.try_publish(topic, gone, options).is_err() || client.try_disconnect().is_err() {
        return;
    }
    let drain = async { while eventloop.poll().await.is_ok() {} };
    let _ = tokio::time::timeout(FAREWELL, drain).await;
}
