//! The console in a board's place at the broker. MQTT has one connection to a client identifier: "the Server MUST
//! disconnect the existing Client" (MQTT 3.1.1, MQTT-3.1.4-2). So any broker drops the board's connection, and with
//! a clean session what it keeps for it.

use super::Target;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, MqttOptions, Packet, TlsConfiguration,
    Transport,
};
use std::sync::Arc;
use std::time::Duration;

/// For all of it.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why a board's connection may stand.
#[derive(Debug, thiserror::Error)]
pub enum TakePlaceError {
    /// The broker.
    #[error("{0}")]
    Connection(Box<ConnectionError>),
    /// Options.
    #[error("MQTT: {0}")]
    Options(String),
    /// Too slow.
    #[error("the broker did not answer in {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// How it came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// The board's connection is ended.
    Place,
    /// The broker lets nobody in under that name: it keeps users, and has this one no more. Whoever is in still is heard.
    NoSuchUser,
}

/// Connects as the client `name`, with a certificate of that name, and goes again.
pub async fn take_place(
    target: &Target,
    name: &str,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Taken, TakePlaceError> {
    use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
    let mut options = MqttOptions::new(name, (target.host.clone(), target.port));
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    options.set_clean_session(true);
    let (client, mut events) = AsyncClient::builder(options)
        .capacity(4)
        .try_build()
        .map_err(|e| TakePlaceError::Options(e.to_string()))?;
    let work = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => break,
                Ok(_) => {}
                Err(ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized)) => {
                    return Ok(Taken::NoSuchUser);
                }
                Err(error) => return Err(TakePlaceError::Connection(Box::new(error))),
            }
        }
        let _ = client.try_disconnect();
        while events.poll().await.is_ok() {}
        Ok(Taken::Place)
    };
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or(Err(TakePlaceError::TimedOut))
}
