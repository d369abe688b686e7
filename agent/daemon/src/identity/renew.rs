//! The board's certificate, looked after: how it stands, and the next one when it is due. Whether it is due the
//! console says; the board's clock plays no part.

use super::pair::{self, Pair};
use super::{
    ConsoleError, FILE_LIMIT, Identity, IdentityError, Overrides, client_config, console, enrol,
    load,
};
use crate::disk::{self, DiskError};
use coracle_protocol::renewal::{RenewAnswer, RenewRequest, Standing};
use std::path::Path;
use std::sync::Arc;

/// Why it could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A file, or a certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key or the request for a certificate.
    #[error("cannot make a key and a request for a certificate: {0}")]
    Key(#[from] rcgen::Error),
    /// The console.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The board was enrolled anew meanwhile.
    #[error("the board was enrolled anew while its certificate was renewed")]
    Replaced,
}

impl From<DiskError> for RenewError {
    fn from(error: DiskError) -> Self {
        Self::Identity(error.into())
    }
}

/// What was found.
#[derive(Debug)]
pub struct Checked {
    /// How the certificate in force stands.
    pub standing: Standing,
    /// With a new one: who the board is from now on.
    pub renewed: Option<Identity>,
}

/// Asks how the certificate of `identity` stands, and renews it when it is due or over. The new pair is on disk
/// before it is used, and the old one until the new one has been taken by the console.
pub async fn check(
    folder: &Path,
    overrides: &Overrides,
    identity: &Identity,
) -> Result<Checked, RenewError> {
    let before = Pair::read(folder)?;
    // One that was cut off before it proved itself.
    if let Some(waiting) = Pair::read_renewed(folder)? {
        match prove(folder, overrides, identity, &waiting, &before).await {
            Ok(checked) => return Ok(checked),
            Err(error @ RenewError::Console(ConsoleError::Http { .. })) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a renewed certificate is of no use; another is asked for");
                pair::remove(folder, pair::RENEWED)?;
            }
        }
    }
    let ask = console::get(&identity.console, identity.tls.clone(), "/certificate");
    let standing: Standing = ask.await?;
    if !standing.state.may_renew() {
        return Ok(Checked {
            standing,
            renewed: None,
        });
    }
    tracing::info!(serial = standing.serial, state = ?standing.state, "the certificate is renewed");
    let (key, csr_pem) = enrol::request(&identity.board)?;
    let request = RenewRequest { csr_pem };
    let ask = console::post(&identity.console, identity.tls.clone(), "/renew", &request);
    let answer: RenewAnswer = ask.await?;
    if answer.board != identity.board {
        let what = format!(
            "a certificate for {}; this board is {}",
            answer.board, identity.board
        );
        return Err(ConsoleError::Answer {
            console: identity.console.clone(),
            what,
        }
        .into());
    }
    let new = Pair::new(&answer.certificate_pem, &key);
    new.write(folder, pair::RENEWED)?;
    prove(folder, overrides, identity, &new, &before).await
}

/// Connects with the new pair, and puts it into force when the console takes it.
async fn prove(
    folder: &Path,
    overrides: &Overrides,
    identity: &Identity,
    new: &Pair,
    before: &Option<Pair>,
) -> Result<Checked, RenewError> {
    let ca = disk::read(&folder.join("ca.crt"), FILE_LIMIT)?
        .ok_or_else(|| IdentityError::Missing(folder.join("ca.crt")))?;
    let tls = client_config(&ca, Some(new.halves())).map_err(IdentityError::Tls)?;
    let ask = console::get(&identity.console, Arc::new(tls), "/certificate");
    let standing: Standing = ask.await?;
    if !standing.state.is_served() || standing.board != identity.board {
        let what = format!("a certificate that it then does not take: {standing:?}");
        return Err(ConsoleError::Answer {
            console: identity.console.clone(),
            what,
        }
        .into());
    }
    let _replacing = pair::REPLACING.lock().await;
    if Pair::read(folder)? != *before {
        return Err(RenewError::Replaced);
    }
    pair::promote(folder)?;
    let renewed = load(folder, overrides)?;
    tracing::info!(
        serial = standing.serial,
        not_after = standing.not_after,
        "renewed"
    );
    Ok(Checked { standing, renewed })
}
