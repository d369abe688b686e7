//! Which broker console and boards meet at, and under which authority: our own, or a foreign one.

use super::ServeError;
use crate::ca::{CONSOLE, Ca, Pair};
use crate::link::Target;
use crate::settings::{Serve, host_port};
use crate::tls;
use std::path::PathBuf;

/// Where the link connects, and what boards are told.
pub(super) fn target(settings: &Serve) -> Result<(Target, String), ServeError> {
    let Some(broker) = &settings.mqtt_broker else {
        if !settings.mqtt_topic_separator.is_dot() {
            return Err(ServeError::TopicSeparator(settings.mqtt_topic_separator));
        }
        let listen = settings.mqtt_listen;
        let host = if listen.ip().is_unspecified() {
            "localhost".to_owned()
        } else if listen.ip().is_loopback() {
            listen.ip().to_string()
        } else {
            settings.advertise.clone()
        };
        let target = Target {
            host,
            port: listen.port(),
            client_id: CONSOLE.into(),
        };
        return Ok((target, host_port(&settings.advertise, listen.port())));
    };
    let wrong = || ServeError::BrokerAddress(broker.clone());
    let (host, port) = broker.rsplit_once(':').ok_or_else(wrong)?;
    let target = Target {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().map_err(|_| wrong())?,
        // Bound to the certificate's name, as boards' are, where the broker does that.
        client_id: CONSOLE.into(),
    };
    Ok((target, broker.clone()))
}

pub(super) fn link_pair(settings: &Serve, ca: &Ca) -> Pair {
    match (&settings.mqtt_cert, &settings.mqtt_key) {
        (Some(certificate), Some(key)) => Pair {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        _ => ca.client().clone(),
    }
}

pub(super) fn link_ca(settings: &Serve, ca: &Ca) -> PathBuf {
    settings
        .mqtt_ca
        .clone()
        .unwrap_or_else(|| ca.files().certificate.clone())
}

// Boards trust what their enrolment file names, and nothing else: a broker under another CA would
// be a stranger to them.
pub(super) fn trusted_by_boards(settings: &Serve, ca: &Ca) -> Result<String, ServeError> {
    let mut pem = ca.certificate_pem().trim_end().to_owned() + "\n";
    if let Some(file) = &settings.mqtt_ca {
        pem.push_str(&tls::authorities(file)?);
    }
    Ok(pem)
}
