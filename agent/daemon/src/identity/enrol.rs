//! One call to the console that turns an enrolment file into a certificate. The key is made here.

use super::{Endpoint, Enrolment, FILE_LIMIT, IdentityError, client_config};
use crate::disk::{self, DiskError};
use crate::fetch::http::{self, HttpError};
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest, EnrolmentFile};
use http_body_util::Full;
use hyper::Request;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For the whole call.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why a board was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file, an address or a certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key or the request for a certificate.
    #[error("cannot make a key and a request for a certificate: {0}")]
    Key(#[from] rcgen::Error),
    /// No answer.
    #[error("console {console}: {source}")]
    Http {
        /// Which console.
        console: Endpoint,
        /// Why.
        source: HttpError,
    },
    /// The console said no.
    #[error("console {console} refused ({status}): {reason}")]
    Refused {
        /// Which console.
        console: Endpoint,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// The answer makes no sense.
    #[error("console {console} answered with {what}")]
    Answer {
        /// Which console.
        console: Endpoint,
        /// What is wrong.
        what: String,
    },
}

impl From<DiskError> for EnrolError {
    fn from(error: DiskError) -> Self {
        Self::Identity(error.into())
    }
}

/// Asks the console that `file` names for a certificate and stores all of it in `folder`, the
/// enrolment last. A board that was enrolled before keeps its key and becomes what `file` says.
pub async fn enrol(folder: &Path, file: &EnrolmentFile) -> Result<(), EnrolError> {
    let console = Endpoint::parse(&file.console_url, 8443)?;
    Endpoint::parse(&file.mqtt, 8883)?;
    let tls = client_config(file.ca_pem.as_bytes(), None).map_err(IdentityError::Tls)?;
    let key = key(folder)?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, file.board.as_str());
    let request = EnrolRequest {
        token: file.token.clone(),
        csr_pem: params.serialize_request(&key)?.pem()?,
    };
    let answer = ask(&console, Arc::new(tls), &request).await?;
    let wrong = |what: String| EnrolError::Answer {
        console: console.clone(),
        what,
    };
    if answer.board != file.board {
        return Err(wrong(format!(
            "a certificate for {}; the enrolment file is for {}",
            answer.board, file.board
        )));
    }
    // What cannot be loaded later is refused now: key and certificate must belong together.
    let certificate = answer.certificate_pem.as_bytes();
    let key = key.serialize_pem();
    client_config(file.ca_pem.as_bytes(), Some((certificate, key.as_bytes())))
        .map_err(|e| wrong(format!("a certificate that cannot be used: {e}")))?;
    disk::write(&folder.join("ca.crt"), file.ca_pem.as_bytes())?;
    disk::write(&folder.join("board.crt"), certificate)?;
    let enrolment = Enrolment {
        enrolment_version: 1,
        board: answer.board,
        console_url: file.console_url.clone(),
        mqtt: file.mqtt.clone(),
    };
    let json = serde_json::to_vec_pretty(&enrolment).unwrap_or_default();
    Ok(disk::write(&folder.join("enrolment.json"), &json)?)
}

/// The key in the folder, or a new one that is stored before anybody hears of it.
fn key(folder: &Path) -> Result<rcgen::KeyPair, EnrolError> {
    let path = folder.join("board.key");
    if let Some(bytes) = disk::read(&path, FILE_LIMIT)? {
        match rcgen::KeyPair::from_pem(&String::from_utf8_lossy(&bytes)) {
            Ok(key) => return Ok(key),
            Err(e) => disk::set_aside(&path, &e),
        }
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    disk::write(&path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

async fn ask(
    console: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    request: &EnrolRequest,
) -> Result<EnrolAnswer, EnrolError> {
    let failed = |source| EnrolError::Http {
        console: console.clone(),
        source,
    };
    let body = serde_json::to_vec(request).unwrap_or_default();
    let call = async {
        let mut connection = http::connect(console, tls).await?;
        let request = Request::post("/enrol")
            .header("host", console.to_string())
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body)))
            .map_err(|e| HttpError::Protocol(e.to_string()))?;
        let response = connection.send(request).await?;
        let status = response.status();
        let body = http::read_all(response.into_body(), FILE_LIMIT as usize).await?;
        Ok((status, body))
    };
    let (status, body) = tokio::time::timeout(DEADLINE, call)
        .await
        .map_err(|_| failed(HttpError::TimedOut(DEADLINE)))?
        .map_err(failed)?;
    if !status.is_success() {
        let reason = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|v| Some(v.get("error")?.as_str()?.to_owned()))
            .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        return Err(EnrolError::Refused {
            console: console.clone(),
            status: status.as_u16(),
            reason: reason.chars().take(400).collect(),
        });
    }
    serde_json::from_slice(&body).map_err(|e| EnrolError::Answer {
        console: console.clone(),
        what: format!("something else than a certificate: {e}"),
    })
}
