//! `coracle-console serve`: everything started in order, watched, and stopped in order.

mod broker;
mod own_certificate;
mod remembered;

use crate::blobs::Blobs;
use crate::board_port;
use crate::boards;
use crate::boards_api::{self, BoardsApi};
use crate::ca::Ca;
use crate::certificates;
use crate::check;
use crate::deltas::Deltas;
use crate::deploy::Deployer;
use crate::files::{self, Mode};
use crate::ingest;
use crate::link;
use crate::live::Live;
use crate::manufacturing::{MakerError, Makers};
use crate::mosquitto::Broker;
use crate::registry::{self, Manifests, Registry, Uploads};
use crate::republish::Republish;
use crate::rest::{self, Advertised, Rest};
use crate::revocation::{Followers, Keeper, RevocationError};
use crate::roots::{Roots, RootsError};
use crate::secrets::NoRandom;
use crate::settings::{Serve, State, host_port};
use crate::store::Store;
use crate::tls;
use crate::tokens;
use crate::web::{self, Web};
use axum::Router;
use coracle_protocol::topics::Separator;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use broker::{link_ca, link_pair, target, trusted_by_boards};

/// For requests under way when the console stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Uploads that were left alone are looked for so often.
const SWEEP: Duration = Duration::from_secs(3600);

/// Why the console did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// Root document or deploy key.
    #[error(transparent)]
    Trust(#[from] check::TrustError),
    /// Root documents.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The fleet's CA.
    #[error(transparent)]
    Ca(#[from] crate::ca::CaError),
    /// The database.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The list of revoked certificates.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// The first token.
    #[error(transparent)]
    Token(#[from] tokens::TokenError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// `--manufacturing-ca`.
    #[error(transparent)]
    Maker(#[from] MakerError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] crate::mosquitto::BrokerError),
    /// The link to it.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// A port.
    #[error("cannot listen on {address} ({option}): {source}")]
    Listen {
        /// Which option named it.
        option: &'static str,
        /// The port.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signal(std::io::Error),
    /// `--mqtt-broker`.
    #[error("--mqtt-broker `{0}` is not HOST:PORT")]
    BrokerAddress(String),
    /// The own broker knows boards' topics by their names.
    #[error(
        "--mqtt-topic-separator `{}` is for a broker of yours (--mqtt-broker): the console's own keeps boards apart by the \
         names in their certificates, which have a dot",
        .0.as_str()
    )]
    TopicSeparator(Separator),
    /// Boards have others.
    #[error(
        "{boards} boards of this fleet are enrolled with `{}` in their topics, and would not be heard with \
         --mqtt-topic-separator `{}`: start with the first. To change it, write the second into {} and give each of them \
         a new enrolment file after the start",
        .was.as_str(), .asked.as_str(), .file.display()
    )]
    SeparatorChanged {
        /// What they were told.
        was: Separator,
        /// What is asked for now.
        asked: Separator,
        /// How many.
        boards: u64,
        /// What remembers it.
        file: PathBuf,
    },
    /// Damaged.
    #[error("{} holds neither `.` nor `:`: write into it what boards' topics have", .file.display())]
    Remembered {
        /// It.
        file: PathBuf,
    },
    /// No random numbers.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(settings: Serve) -> Result<(), ServeError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;

    let (mut target, advertised_mqtt) = target(&settings)?;
    let state = State {
        root: settings.state.clone(),
    };
    // The broker's user passes through; everything in here is closed to it but its own folder.
    files::make_dir(&state.root, 0o711)?;
    coracle_keys::token::spare_tries();
    let signer = check::trust(&settings.root, &settings.deploy_key)?;
    let policy = settings.certificates();
    if let Some(until) = policy
        .adopt_until
        .filter(|until| crate::clock::now() < *until)
    {
        let until = boards::day(until);
        tracing::warn!(%until, "certificates of the fleet's CA that are not on record are taken in");
    }
    let ca = Ca::open_with(
        &state.pki(),
        &settings.advertise,
        policy.life,
        settings.ca_key.as_ref(),
    )?;
    let ca = Arc::new(ca);
    let makers = Makers::open(&settings.manufacturing, ca.certificate_pem())?.map(Arc::new);
    let store = Store::open(&state.database()).await?;
    certificates::take_in(&store).await?;
    let separator = settings.mqtt_topic_separator;
    remembered::separator(&state, &store, separator).await?;
    target.client_id = remembered::identifier(&state, separator)?;
    let (keeper, revocations) = Keeper::open(store.clone(), ca.clone(), state.revoked()).await?;
    tokens::first(&store, &state).await?;
    let root_file = check::root_envelope(&settings.root)?;
    let roots = Roots::open(store.clone(), signer.clone(), &root_file).await?;
    let blobs = Blobs::open(&state.registry())?;
    let live = Live::default();
    let republish = Republish::default();
    let manifests = Manifests::new(&state.registry(), blobs.clone());
    let deltas = Deltas::new(
        store.clone(),
        blobs.clone(),
        manifests.clone(),
        live.clone(),
        stop.clone(),
    );

    let operators = listen("--listen", settings.listen).await?;
    let boards = listen("--board-listen", settings.board_listen).await?;
    let broker = match settings.mqtt_broker {
        Some(_) => None,
        None => {
            let broker = Broker::prepare(
                &settings.mosquitto,
                &state.mosquitto(),
                settings.mqtt_listen,
                &ca,
                &revocations.list(),
            )?;
            let reload = broker.reload();
            // Its own token: the broker outlives the link, which says goodbye through it.
            let broker_stop = CancellationToken::new();
            let watcher = broker.start(broker_stop.clone()).await?;
            Some((broker_stop, watcher, reload))
        }
    };
    let link_tls = tls::client(&link_pair(&settings, &ca), &link_ca(&settings, &ca))?;
    let (link, pump, inbox) = link::open(&target, link_tls, separator)?;

    let port = |listener: &TcpListener, fallback: SocketAddr| {
        listener.local_addr().unwrap_or(fallback).port()
    };
    let board_port = port(&boards, settings.board_listen);
    let advertised = Arc::new(Advertised {
        console_url: format!("https://{}", host_port(&settings.advertise, board_port)),
        mqtt: advertised_mqtt,
        ca_pem: trusted_by_boards(&settings, &ca)?,
        topic_separator: separator,
    });
    let uploads = Uploads::new(blobs.clone());
    let deployer = Deployer {
        store: store.clone(),
        blobs: blobs.clone(),
        signer,
        deltas: deltas.clone(),
        republish: republish.clone(),
        live: live.clone(),
        delta_wait: Duration::from_secs(settings.delta_wait),
        turn: Arc::default(),
    };
    let rest = Rest {
        store: store.clone(),
        blobs: blobs.clone(),
        deployer,
        deltas,
        roots: roots.clone(),
        revocations: revocations.clone(),
        live: live.clone(),
        link: link.clone(),
        advertised: advertised.clone(),
    };
    let registry = Registry {
        store: store.clone(),
        blobs: blobs.clone(),
        uploads: uploads.clone(),
        manifests,
    };
    let operator_routes = Router::new()
        .nest("/api/v1", rest::router(rest.clone()))
        .merge(registry::router(registry))
        .merge(web::router(Web::new(rest, stop.clone())));
    let (server_tls_to, server_tls) =
        watch::channel(tls::server(ca.server(), &ca.files().certificate)?);
    let board_routes = boards_api::router(BoardsApi {
        store: store.clone(),
        blobs,
        ca: ca.clone(),
        makers,
        policy,
        revocations: revocations.clone(),
        live: live.clone(),
    });
    let reload = broker.as_ref().map(|(_, _, reload)| reload.clone());
    let own_certificate = own_certificate::keep(ca.clone(), server_tls_to, reload, stop.clone());
    let followers = Followers {
        broker: broker.as_ref().map(|(_, _, reload)| reload.clone()),
        target,
        broker_ca: link_ca(&settings, &ca),
        republish: republish.clone(),
        live: live.clone(),
    };

    let link_stop = CancellationToken::new();
    let mut up = link.clone();
    let tasks = [
        tokio::spawn(pump.run(republish.clone(), link_stop.clone())),
        tokio::spawn(ingest::run(
            inbox,
            store.clone(),
            live,
            republish.clone(),
            revocations,
        )),
        tokio::spawn(keeper.run(followers, stop.clone())),
        tokio::spawn(republish.run(store.clone(), link.clone(), stop.clone())),
        tokio::spawn(roots.announce(link, stop.clone())),
        tokio::spawn(serve_operators(operators, operator_routes, stop.clone())),
        tokio::spawn(board_port::serve(
            boards,
            server_tls,
            board_routes,
            stop.clone(),
        )),
        tokio::spawn(own_certificate),
        tokio::spawn(sweep(uploads, stop.clone())),
    ];
    tracing::info!(
        operators = %settings.listen, boards = %advertised.console_url, mqtt = %advertised.mqtt,
        "listening"
    );

    let ready = async {
        if up.wait_up().await.is_ok() {
            announce(&settings, &advertised);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ready => {}
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
    }
    stop.cancel();
    link_stop.cancel();
    for task in tasks {
        let abort = task.abort_handle();
        if tokio::time::timeout(DRAIN + Duration::from_secs(1), task)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
    if let Some((broker_stop, watcher, _)) = broker {
        broker_stop.cancel();
        let _ = watcher.await;
    }
    store.close().await;
    if let Some(file) = &settings.ready_file {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

fn announce(settings: &Serve, advertised: &Advertised) {
    let facts = serde_json::json!({
        "listen": settings.listen.to_string(),
        "console_url": advertised.console_url,
        "mqtt": advertised.mqtt,
    });
    if let Some(file) = &settings.ready_file {
        let written = files::write(file, facts.to_string().as_bytes(), Mode::Public);
        if let Err(error) = written {
            tracing::error!(%error, "the ready file cannot be written");
        }
    }
    tracing::info!("ready");
}

async fn listen(option: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen {
            option,
            address,
            source,
        })
}

async fn serve_operators(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let drained = stop.clone();
    let server = axum::serve(listener, routes)
        .with_graceful_shutdown(async move { drained.cancelled().await });
    tokio::select! {
        result = server => {
            if let Err(error) = result {
                tracing::error!(%error, "the operators' port ended");
            }
        }
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
    }
}

async fn sweep(uploads: Uploads, stop: CancellationToken) {
    loop {
        let uploads = uploads.clone();
        let _ = tokio::task::spawn_blocking(move || uploads.sweep()).await;
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = stop.cancelled() => return,
        }
    }
}
