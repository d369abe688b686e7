//! The board's certificate, looked after: how it stands, and the next one when it is due. Whether it is due the
//! console says; the board's clock plays no part.

use super::key::{self, KeyError};
use super::pair::{self, Pair};
use super::tls::config_with;
use super::{
    ConsoleError, FILE_LIMIT, Identity, IdentityError, Overrides, client_config, console, load,
};
use crate::disk::{self, DiskError};
use coracle_protocol::renewal::{RenewAnswer, RenewRequest, Standing, State};
use std::path::Path;
use std::sync::Arc;

/// Why it could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A file, or a certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key or the request for a certificate.
    #[error(transparent)]
    Key(#[from] KeyError),
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

/// What the console makes of a new pair.
enum Proof {
    /// It is in force now.
    Taken(Box<Checked>),
    /// It never will be, and why.
    OfNoUse(String),
}

/// Asks how the certificate of `identity` stands, and renews it when it is due or over. The new pair is on disk
/// before it is used, and the old one until the new one has been taken by the console.
pub async fn check(
    folder: &Path,
    overrides: &Overrides,
    identity: &Identity,
) -> Result<Checked, RenewError> {
    let before = Pair::read(folder)?;
    if let Some(pair) = &before {
        pair.leave_copy(folder);
    }
    // One that was cut off before it proved itself. It may be the only one that the console still renews: only
    // its clear word does away with it.
    let mut waiting = None;
    if let Some(pair) = Pair::read_renewed(folder)? {
        match prove(folder, overrides, identity, &pair, &before).await {
            Ok(Proof::Taken(checked)) => return Ok(*checked),
            Ok(Proof::OfNoUse(why)) => {
                tracing::warn!(
                    why,
                    "a renewed certificate is of no use; another is asked for"
                );
                pair::remove(folder, pair::RENEWED)?;
            }
            Err(error @ RenewError::Console(_)) => {
                tracing::warn!(%error, "a renewed certificate could not be shown; it is kept");
                waiting = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let ask = console::get(&identity.console, identity.tls.clone(), "/certificate");
    let standing: Standing = ask.await?;
    if !standing.state.may_renew() {
        return match waiting {
            // By the one that waits: it has been shown before.
            Some(error) if standing.state == State::Superseded => Err(error),
            _ => Ok(Checked {
                standing,
                renewed: None,
            }),
        };
    }
    tracing::info!(serial = standing.serial, state = ?standing.state, "the certificate is renewed");
    let (key, csr_pem) = key::request(&overrides.keys, &identity.board)?;
    let request = RenewRequest { csr_pem };
    let ask = console::post(&identity.console, identity.tls.clone(), "/renew", &request);
    let answer: RenewAnswer = ask.await?;
    let wrong = |what| {
        let console = identity.console.clone();
        RenewError::Console(ConsoleError::Answer { console, what })
    };
    if answer.board != identity.board {
        return Err(wrong(format!(
            "a certificate for {}; this board is {}",
            answer.board, identity.board
        )));
    }
    let new = Pair::new(&answer.certificate_pem, &key);
    {
        let _replacing = pair::REPLACING.lock().await;
        if Pair::read(folder)? != before {
            return Err(RenewError::Replaced);
        }
        new.write(folder, pair::RENEWED)?;
    }
    match prove(folder, overrides, identity, &new, &before).await? {
        Proof::Taken(checked) => Ok(*checked),
        Proof::OfNoUse(why) => Err(wrong(format!(
            "a certificate that it then does not take: {why}"
        ))),
    }
}

/// Connects with the new pair, and puts it into force when the console serves or renews it.
async fn prove(
    folder: &Path,
    overrides: &Overrides,
    identity: &Identity,
    new: &Pair,
    before: &Option<Pair>,
) -> Result<Proof, RenewError> {
    let ca = disk::read(&folder.join("ca.crt"), FILE_LIMIT)?
        .ok_or_else(|| IdentityError::Missing(folder.join("ca.crt")))?;
    client_config(&ca, None).map_err(IdentityError::Tls)?;
    let tls = match config_with(&ca, Some(new.halves()), &overrides.keys.tpm) {
        Ok(tls) => tls,
        Err(error) => return Ok(Proof::OfNoUse(error.to_string())),
    };
    let ask = console::get(&identity.console, Arc::new(tls), "/certificate");
    let standing: Standing = ask.await?;
    let state = standing.state;
    if standing.board != identity.board
        || matches!(state, State::Revoked | State::TooLate | State::Unknown)
    {
        return Ok(Proof::OfNoUse(format!("{standing:?}")));
    }
    if !state.is_served() && !state.may_renew() {
        let what = format!("a word about a new certificate that is not known here: {standing:?}");
        let console = identity.console.clone();
        return Err(ConsoleError::Answer { console, what }.into());
    }
    let _replacing = pair::REPLACING.lock().await;
    if Pair::read(folder)? != *before {
        return Err(RenewError::Replaced);
    }
    pair::promote(folder)?;
    new.leave_copy(folder);
    let renewed = load(folder, overrides)?;
    tracing::info!(
        serial = standing.serial,
        not_after = standing.not_after,
        "renewed"
    );
    Ok(Proof::Taken(Box::new(Checked { standing, renewed })))
}
