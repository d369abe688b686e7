//! Brings root documents to the supervisor, which alone decides about them: from the console's notice over
//! MQTT, and from `GET <console>/root/<version>` for those that a board has missed. One after the other:
//! each is signed by the keys of the one before it.

use crate::fetch::http::{self, HttpError};
use crate::identity::{Endpoint, Identity};
use crate::supervisor::{Supervisor, SupervisorError, unexpected};
use coracle_protocol::desired::RootNotice;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Request, Trusted};
use http_body_util::Full;
use hyper::StatusCode;
use std::time::Duration;
use tokio::sync::watch;

/// For one document.
const DEADLINE: Duration = Duration::from_secs(60);
/// After a failure; the next deployment asks at once.
const AGAIN: Duration = Duration::from_secs(300);

/// Why the newest root is not in force.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The supervisor.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The supervisor says no.
    #[error("root version {version} was refused ({code}): {reason}")]
    Refused {
        /// Of the document.
        version: u64,
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
    /// No answer from the console.
    #[error("console {console}: {source}")]
    Http {
        /// Which console.
        console: Endpoint,
        /// Why.
        source: HttpError,
    },
    /// An answer that makes no sense.
    #[error("console {console} answered {what} for root version {version}")]
    Answer {
        /// Which console.
        console: Endpoint,
        /// Asked for.
        version: u64,
        /// What is wrong.
        what: String,
    },
}

/// Follows the notices until shutdown.
pub async fn run(
    supervisor: Supervisor,
    identity: watch::Receiver<Option<Identity>>,
    mut notices: watch::Receiver<Option<RootNotice>>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let notice = notices.borrow_and_update().clone();
        let mut again = None;
        if let Some(notice) = notice {
            supervisor.wait_up().await;
            let who = identity.borrow().clone();
            match follow(&supervisor, who.as_ref(), &notice).await {
                Ok(()) => {}
                Err(error @ RootsError::Refused { .. }) => {
                    tracing::error!(%error, "a new root document is not in force");
                }
                Err(error) => {
                    tracing::warn!(%error, "a new root document is not in force yet");
                    again = Some(AGAIN);
                }
            }
        }
        let pause = async {
            match again {
                Some(again) => tokio::time::sleep(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = notices.changed() => if changed.is_err() { return },
            () = pause => {}
            _ = shutdown.changed() => return,
        }
    }
}

async fn follow(
    supervisor: &Supervisor,
    identity: Option<&Identity>,
    notice: &RootNotice,
) -> Result<(), RootsError> {
    let have = trusted(supervisor).await?.state.root_version;
    if notice.version <= have {
        return Ok(());
    }
    if let (true, Some(root)) = (notice.version == have + 1, &notice.root) {
        return give(supervisor, notice.version, root.clone()).await;
    }
    match identity {
        Some(identity) => fetch(supervisor, identity).await,
        None => Ok(()),
    }
}

/// What the supervisor trusts now.
pub async fn trusted(supervisor: &Supervisor) -> Result<Trusted, SupervisorError> {
    match supervisor.ask(Request::Trust).await? {
        Answer::Trust(trusted) => Ok(trusted),
        other => Err(unexpected("trust", &other)),
    }
}

/// Asks the console for each next root until it has no more.
pub async fn fetch(supervisor: &Supervisor, identity: &Identity) -> Result<(), RootsError> {
    let have = trusted(supervisor).await?.state.root_version;
    for version in (have + 1..).take(LIMITS.roots) {
        let Some(root) = get(identity, version).await? else {
            return Ok(());
        };
        give(supervisor, version, root).await?;
    }
    Ok(())
}

/// Hands one document to the supervisor.
pub async fn give(supervisor: &Supervisor, version: u64, root: Envelope) -> Result<(), RootsError> {
    match supervisor.ask(Request::Root { root }).await? {
        Answer::Done => Ok(()),
        Answer::Refused { code, reason } => Err(RootsError::Refused {
            version,
            code,
            reason,
        }),
        other => Err(unexpected("done", &other).into()),
    }
}

async fn get(identity: &Identity, version: u64) -> Result<Option<Envelope>, RootsError> {
    let console = &identity.console;
    let failed = |source| RootsError::Http {
        console: console.clone(),
        source,
    };
    let call = async {
        let mut connection = http::connect_to(console, identity.tls.clone()).await?;
        let request = hyper::Request::get(format!("/root/{version}"))
            .header("host", console.to_string())
            .body(Full::default())
            .map_err(|e| HttpError::Protocol(e.to_string()))?;
        let response = connection.send(request).await?;
        let status = response.status();
        let body = http::read_all(response.into_body(), LIMITS.envelope_bytes).await?;
        Ok((status, body))
    };
    let (status, body) = tokio::time::timeout(DEADLINE, call)
        .await
        .map_err(|_| failed(HttpError::TimedOut(DEADLINE)))?
        .map_err(failed)?;
    let answer = |what| RootsError::Answer {
        console: console.clone(),
        version,
        what,
    };
    match status {
        StatusCode::OK => Envelope::parse(&body)
            .map(Some)
            .map_err(|e| answer(e.to_string())),
        StatusCode::NOT_FOUND => Ok(None),
        other => Err(answer(format!("HTTP status {}", other.as_u16()))),
    }
}
