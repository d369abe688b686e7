//! One call to the console that turns an enrolment file into a certificate. The key is made here, a new one each
//! time: a board that enrols again may do so because its key is in other hands.

use super::key::{self, KeyError, Keys};
use super::pair::{self, Pair};
use super::tls::config_with;
use super::{ConsoleError, Endpoint, Enrolment, IdentityError, client_config, console};
use crate::disk::{self, DiskError};
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest, EnrolmentFile, FleetFile};
use coracle_protocol::names::BoardId;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a board was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file, an address or a certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key or the request for a certificate.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The console.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// A person was quicker.
    #[error("this board was enrolled by hand meanwhile")]
    Overtaken,
    /// What the board's maker gave it.
    #[error("{}: {why}", path.display())]
    Manufacturing {
        /// `fleet.json`, the manufacturing certificate or its key.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl From<DiskError> for EnrolError {
    fn from(error: DiskError) -> Self {
        Self::Identity(error.into())
    }
}

/// Asks the console that `file` names for a certificate and stores all of it in `folder`, the
/// enrolment last. A board that was enrolled before becomes what `file` says.
pub async fn enrol(folder: &Path, keys: &Keys, file: &EnrolmentFile) -> Result<(), EnrolError> {
    let fleet = FleetFile {
        console_url: file.console_url.clone(),
        mqtt: file.mqtt.clone(),
        ca_pem: file.ca_pem.clone(),
        topic_separator: file.topic_separator,
    };
    let asked = Asked::prepare(&fleet, None, keys, &file.board)?;
    let request = EnrolRequest {
        token: file.token.clone(),
        csr_pem: asked.csr_pem.clone(),
    };
    let answer = asked.post("/enrol", &request).await?;
    if answer.board != file.board {
        return Err(asked.wrong(format!(
            "a certificate for {}; the enrolment file is for {}",
            answer.board, file.board
        )));
    }
    let _replacing = pair::REPLACING.lock().await;
    asked.store(folder, &fleet, answer)
}

/// A new key, and the console that is asked to certify it.
pub(super) struct Asked {
    console: Endpoint,
    tls: Arc<rustls::ClientConfig>,
    key: String,
    tpm: PathBuf,
    pub(super) csr_pem: String,
}

impl Asked {
    /// Of the fleet's console, or of that one `instead`.
    pub(super) fn prepare(
        fleet: &FleetFile,
        instead: Option<&str>,
        keys: &Keys,
        board: &BoardId,
    ) -> Result<Self, EnrolError> {
        let console = Endpoint::parse(instead.unwrap_or(&fleet.console_url), 8443)?;
        Endpoint::parse(&fleet.mqtt, 8883)?;
        let tls = client_config(fleet.ca_pem.as_bytes(), None).map_err(IdentityError::Tls)?;
        let (key, csr_pem) = key::request(keys, board)?;
        Ok(Self {
            console,
            tls: Arc::new(tls),
            key,
            tpm: keys.tpm.clone(),
            csr_pem,
        })
    }

    pub(super) async fn post(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<EnrolAnswer, ConsoleError> {
        console::post(&self.console, self.tls.clone(), path, request).await
    }

    fn wrong(&self, what: String) -> EnrolError {
        let console = self.console.clone();
        ConsoleError::Answer { console, what }.into()
    }

    /// Stores what came, the enrolment last; for whoever holds [`pair::REPLACING`].
    pub(super) fn store(
        &self,
        folder: &Path,
        fleet: &FleetFile,
        answer: EnrolAnswer,
    ) -> Result<(), EnrolError> {
        // What cannot be loaded later is refused now: key and certificate must belong together.
        let pair = Pair::new(&answer.certificate_pem, &self.key);
        config_with(fleet.ca_pem.as_bytes(), Some(pair.halves()), &self.tpm)
            .map_err(|e| self.wrong(format!("a certificate that cannot be used: {e}")))?;
        disk::write(&folder.join("ca.crt"), fleet.ca_pem.as_bytes())?;
        // Before the new pair is there: one of an earlier identity must never take its place.
        pair::remove(folder, pair::RENEWED)?;
        pair.write(folder, pair::IN_FORCE)?;
        pair.leave_copy(folder);
        let enrolment = Enrolment {
            enrolment_version: 1,
            board: answer.board,
            console_url: fleet.console_url.clone(),
            mqtt: fleet.mqtt.clone(),
            topic_separator: fleet.topic_separator,
        };
        let json = serde_json::to_vec_pretty(&enrolment).unwrap_or_default();
        Ok(disk::write(&folder.join("enrolment.json"), &json)?)
    }
}
