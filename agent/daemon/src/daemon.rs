//! Starts every task, waits for a signal, and joins them.

use crate::api::{self, Api};
use crate::blobs::{BlobError, Blobs};
use crate::board_use::Places;
use crate::deployment::{self, EarlyVerifier, Means};
use crate::disk::DiskError;
use crate::fetch::Patience;
use crate::identity::{self, Identity, Overrides};
use crate::link::{self, LinkState, Outbox};
use crate::metrics::Counters;
use crate::own_program::{self, Other};
use crate::renewal::{self, CertificateState};
use crate::{as_made, commands, decommission, reporter, rest, roots, supervisor, telemetry};
use coracle_board_support::config::Config;
use coracle_board_support::program::Program;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};

/// For open requests and the farewell to the broker.
const DRAIN: Duration = Duration::from_secs(5);
/// Feedback that a slow listener on docker.sock may lag behind.
const FEEDBACK: usize = 64;
/// Desired states that may wait; the newest counts.
const DESIRED: usize = 4;
/// Offers from docker.sock that may wait.
const COMMANDS: usize = 4;

/// Why the daemon ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A folder of its own.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store.
    #[error("the store: {0}")]
    Blobs(#[from] BlobError),
    /// Signals or the socket.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A task that never ends has ended.
    #[error("the {0} ended on its own")]
    TaskEnded(&'static str),
}

/// Runs until SIGTERM or SIGINT, or until SIGHUP or the supervisor want another program in its place, which it gives; then drains. The
/// certificate is first asked for within `first_look`.
pub async fn run(
    config: Config,
    listener: std::os::unix::net::UnixListener,
    first_look: std::time::Duration,
    program: &Program,
) -> Result<Option<Other>, DaemonError> {
    let io = |what| move |source| DaemonError::Io { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io("SIGHUP"))?;
    let anew = async {
        while hangup.recv().await.is_some() {
            match Other::this_anew(program, &config) {
                Ok(this) => return this,
                Err(error) => tracing::error!(error, "cannot be executed anew; this one goes on"),
            }
        }
        std::future::pending().await
    };
    let listener = tokio::net::UnixListener::from_std(listener).map_err(io("docker.sock"))?;

    let overrides = Overrides {
        console: config.console_url.clone().map(String::from),
        mqtt: config.mqtt_url.clone().map(String::from),
        keys: identity::Keys::of(&config),
    };
    let (identity, may_enrol, fault) = load_identity(&config, &overrides);
    let board = identity.as_ref().map(|i| i.board.clone());
    let (identity_end, identity) = watch::channel(identity);
    let (board_end, board) = watch::channel(board);
    let (shutdown_end, shutdown) = watch::channel(false);
    let (link_state_end, link_state) = watch::channel(LinkState::default());
    let (certificate_end, certificate) = watch::channel(CertificateState {
        error: fault,
        ..CertificateState::default()
    });
    let (desired_end, desired) = mpsc::channel(DESIRED);
    let (asked_end, asked) = mpsc::channel(COMMANDS);
    let (signed_end, signed) = mpsc::channel(commands::QUEUE);
    let (offered_end, offered) = watch::channel(None);
    let (heard, _) = broadcast::channel(FEEDBACK);
    let (last_end, last) = watch::channel(None);
    let (roots_end, notices) = watch::channel(None);
    let resting = tokio::spawn(rest::run(
        link_state.clone(),
        last.clone(),
        shutdown.clone(),
    ));
    let (supervisor, supervisor_ends) = supervisor::channel();
    let folder = config.agent_dir();
    let following = supervisor.clone();
    // From before the first connection.
    let another = own_program::another(&following, following.watch(), &folder, program);
    let outbox = Arc::new(Outbox::open(&config.spool_dir().join("feedback"))?);
    let blobs = Blobs::open(&config.store_dir())?;
    let counters = Arc::new(Counters::default());

    let renewing = tokio::spawn(renewal::run(renewal::Ends {
        folder: config.identity_dir(),
        overrides: overrides.clone(),
        identity: identity_end.clone(),
        first_look,
        state: certificate_end.clone(),
        shutdown: shutdown.clone(),
    }));
    let enrolling = as_made::run(as_made::Ends {
        maker: identity::Maker::of(&config),
        folder: config.identity_dir(),
        overrides: overrides.clone(),
        identity: identity_end.clone(),
        board: board_end.clone(),
        supervisor: supervisor.clone(),
        state: certificate_end,
        shutdown: shutdown.clone(),
    });
    let enrolling = may_enrol.then(|| tokio::spawn(enrolling));
    let leaving = tokio::spawn(decommission::run(decommission::Ends {
        supervisor: supervisor.clone(),
        outbox: outbox.clone(),
        identity: identity_end.clone(),
        board: board_end.clone(),
        shutdown: shutdown.clone(),
    }));
    let places = Places::of(&config);
    let api = Api {
        places: places.clone(),
        supervisor: supervisor.clone(),
        blobs: blobs.clone(),
        link: link_state,
        certificate,
        commands: asked_end,
        offered,
        heard: heard.clone(),
        last,
        counters: counters.clone(),
        metrics: Default::default(),
        outbox: outbox.clone(),
        identity: identity_end,
        board: board_end,
        overrides,
        identity_dir: config.identity_dir(),
        logs_dir: config.logs_dir(),
        instance: config.instance.clone(),
        local_allow: config.local_allow,
        execs: Default::default(),
        shutdown: shutdown.clone(),
    };
    let means = Means {
        supervisor: supervisor.clone(),
        blobs,
        outbox: outbox.clone(),
        identity: identity.clone(),
        early: EarlyVerifier {
            root_file: config.root_file(),
        },
        patience: Patience::default(),
        downloads: config.downloads.clone(),
        hardware_root: config.hardware_root.clone(),
        record: config.spool_dir().join("deployments.json"),
        heard,
        last: last_end,
        counters,
    };
    let rooting = tokio::spawn(roots::run(
        supervisor.clone(),
        identity.clone(),
        notices,
        shutdown.clone(),
    ));
    let link_ends = link::Ends {
        identity,
        desired: desired_end,
        commands: signed_end,
        roots: roots_end,
        state: link_state_end,
        shutdown: shutdown.clone(),
    };
    let socket = config.supervisor_socket();
    let spool = config.spool_dir();
    let client =
        tokio::spawn(async move { supervisor::run(&socket, supervisor_ends, board).await });
    let link_outbox = outbox.clone();
    let mut link = tokio::spawn(async move { link::run(&spool, link_outbox, link_ends).await });
    let deployments = deployment::run(means, desired, asked, offered_end, shutdown.clone());
    // Not spawned: it holds what cannot change threads.
    tokio::pin!(deployments);
    let reporter = tokio::spawn(reporter::run(
        supervisor.clone(),
        outbox.clone(),
        shutdown.clone(),
    ));
    let obeying = tokio::spawn(commands::run(commands::Ends {
        supervisor: supervisor.clone(),
        outbox: outbox.clone(),
        logs_dir: config.logs_dir(),
        commands: signed,
        shutdown: shutdown.clone(),
    }));
    let telemetry = tokio::spawn(telemetry::run(supervisor, places, outbox, shutdown.clone()));
    let mut api = tokio::spawn(api::serve(listener, Arc::new(api)));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %config.docker_socket().display(), "ready");

    let end = tokio::select! {
        _ = terminate.recv() => Ok(None),
        _ = interrupt.recv() => Ok(None),
        other = another => Ok(Some(other)),
        this = anew => Ok(Some(this)),
        end = &mut deployments => end.map_err(DaemonError::from).and(Err(DaemonError::TaskEnded("deployment"))),
        end = &mut link => match end {
            Ok(Err(e)) => Err(e.into()),
            _ => Err(DaemonError::TaskEnded("link")),
        },
        _ = &mut api => Err(DaemonError::TaskEnded("local API")),
    };
    tracing::info!("draining");
    shutdown_end.send_replace(true);
    let drain = async {
        if !api.is_finished() {
            let _ = api.await;
        }
        if !link.is_finished() {
            let _ = link.await;
        }
        let _ = reporter.await;
        let _ = telemetry.await;
        let _ = obeying.await;
        let _ = leaving.await;
        let _ = rooting.await;
        let _ = renewing.await;
        if let Some(enrolling) = enrolling {
            let _ = enrolling.await;
        }
        let _ = resting.await;
    };
    let drain = async {
        if tokio::time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!("not everything was drained in time");
        }
    };
    tokio::pin!(drain);
    // Whoever is told to end meanwhile becomes no other program, which would not know of it.
    let told = tokio::select! {
        () = &mut drain => false,
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
    };
    if told {
        drain.await;
    }
    client.abort();
    match end {
        Ok(Some(_)) if told => Ok(None),
        end => end,
    }
}

/// A damaged identity leaves the board without a link, and with a local API that says so. Whether the board may enrol by
/// itself: not over an identity that only cannot be read now, or whose addresses a person set wrong. And what is wrong.
fn load_identity(
    config: &Config,
    overrides: &Overrides,
) -> (Option<Identity>, bool, Option<String>) {
    match identity::load(&config.identity_dir(), overrides) {
        Ok(Some(identity)) => (Some(identity), false, None),
        Ok(None) if config.decommissioned_file().exists() => {
            tracing::info!("this board was decommissioned: `coracle enrol FILE` brings it back");
            (None, false, None)
        }
        Ok(None) => {
            tracing::info!("this board is not enrolled: `coracle enrol FILE` does that");
            (None, true, None)
        }
        Err(e) => {
            tracing::error!(error = %e, "the board's identity cannot be used");
            (None, e.is_damage(), Some(e.to_string()))
        }
    }
}
