//! Apps as Docker's containers.

use super::logs::{self, Wanted};
use super::reply::{Fault, Reply, empty, json, of_answer, typed};
use super::router::Query;
use super::{Api, Body, Peer};
use crate::docker::{self, stats::Sample};
use crate::supervisor::Notice;
use coracle_protocol::local::{Answer, AppAction, Event, Request, Status};
use coracle_protocol::names::AppName;
use coracle_protocol::report::{AppState, AppStatus, SetStatus};
use hyper::StatusCode;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// `GET /containers/json`.
pub async fn list(api: &Api, query: &Query) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let filters = docker::filters::Filters::parse(query.get("filters").unwrap_or_default())
        .map_err(Fault::bad)?;
    let all = query.is_set("all") || query.is_set("limit") || filters.wants_stopped();
    let list: Vec<_> = apps(&status)
        .filter(|(_, app)| all || matches!(app.state, AppState::Running | AppState::Restarting))
        .filter(|(set, app)| filters.accept(&docker::container_id(set, app), app))
        .map(|(set, app)| docker::containers::summary(set, app))
        .collect();
    Ok(json(&list))
}

/// `GET /containers/<id>/json`.
pub async fn inspect(api: &Api, id: &str) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let (set, app) = find(&status, id)?;
    let log = logs::files(&api.logs_dir, &app.name).pop();
    Ok(json(&docker::containers::inspect(set, app, log.as_deref())))
}

/// `GET /containers/<id>/logs`.
pub async fn logs(api: &Api, id: &str, query: &Query) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let (_, app) = find(&status, id)?;
    let time = |key| match query.get(key) {
        None | Some("" | "0") => Ok(None),
        Some(text) => docker::logs::parse_time(text)
            .map(Some)
            .ok_or_else(|| Fault::bad(format!("`{key}` is no time: {text}"))),
    };
    let tail = match query.get("tail") {
        None | Some("" | "all") => None,
        // Docker takes anything that is no number as "all".
        Some(text) => text.parse().ok(),
    };
    let wanted = Wanted {
        stdout: query.is_set("stdout"),
        stderr: query.is_set("stderr"),
        timestamps: query.is_set("timestamps"),
        since: time("since")?,
        until: time("until")?,
        tail,
        follow: query.is_set("follow"),
    };
    if !wanted.stdout && !wanted.stderr {
        return Err(Fault::bad(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let (pieces, body) = Body::stream();
    let (folder, name) = (api.logs_dir.clone(), app.name.clone());
    let (supervisor, shutdown) = (api.supervisor.clone(), api.shutdown.clone());
    tokio::spawn(logs::send(
        folder, name, wanted, pieces, supervisor, shutdown,
    ));
    Ok(typed("application/vnd.docker.multiplexed-stream", body))
}

/// `GET /containers/<id>/stats`.
pub async fn stats(api: &Api, id: &str, query: &Query) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let (set, app) = find(&status, id)?;
    let id = docker::container_id(set, app);
    let stream = query.get("stream").is_none() || query.is_set("stream");
    let mut before = Sample::now(app, &status);
    if !stream {
        if !query.is_set("one-shot") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let status = api.supervisor.status().await?;
        let (_, app) = find(&status, &id)?;
        let after = Sample::now(app, &status);
        return Ok(json(&docker::stats::shape(&id, app, &before, &after)));
    }
    let (pieces, body) = Body::stream();
    let (supervisor, mut shutdown) = (api.supervisor.clone(), api.shutdown.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = pieces.closed() => return,
                _ = shutdown.changed() => return,
            }
            let Ok(status) = supervisor.status().await else {
                return;
            };
            let Ok((_, app)) = find(&status, &id) else {
                return;
            };
            let after = Sample::now(app, &status);
            let shape = docker::stats::shape(&id, app, &before, &after);
            let mut line = serde_json::to_vec(&shape).unwrap_or_default();
            line.push(b'\n');
            if pieces.send(line.into()).await.is_err() {
                return;
            }
            before = after;
        }
    });
    Ok(typed("application/json", body))
}

/// `POST /containers/<id>/{start,stop,restart,pause,unpause}`.
pub async fn control(api: &Api, peer: Peer, id: &str, action: AppAction) -> Result<Reply, Fault> {
    let app = audited(api, peer, id, format!("{action:?}")).await?;
    let request = Request::Control {
        app,
        action,
        uid: peer.uid,
    };
    done(api, request).await
}

/// `POST /containers/<id>/kill`.
pub async fn kill(api: &Api, peer: Peer, id: &str, query: &Query) -> Result<Reply, Fault> {
    let named = query.get("signal").filter(|name| !name.is_empty());
    let signal = named.unwrap_or("SIGKILL").to_owned();
    let app = audited(api, peer, id, format!("Signal({signal:?})")).await?;
    let request = Request::Signal {
        app,
        signal,
        uid: peer.uid,
    };
    done(api, request).await
}

/// The app's name, once it is in the log who asks for what.
async fn audited(api: &Api, peer: Peer, id: &str, action: String) -> Result<AppName, Fault> {
    let status = api.supervisor.status().await?;
    let (_, app) = find(&status, id)?;
    tracing::info!(target: "audit", uid = peer.uid, gid = peer.gid, pid = peer.pid, app = %app.name, %action, "local request");
    Ok(app.name.clone())
}

async fn done(api: &Api, request: Request) -> Result<Reply, Fault> {
    match api.supervisor.ask(request).await? {
        Answer::Done => Ok(empty(StatusCode::NO_CONTENT)),
        other => Err(of_answer(other)),
    }
}

/// `GET /containers/<id>/top`. The supervisor looks, who sees all processes.
pub async fn top(api: &Api, id: &str, query: &Query) -> Result<Reply, Fault> {
    let arguments = query.get("ps_args").unwrap_or_default();
    if !matches!(arguments, "" | "-ef") {
        return Err(Fault::bad(format!(
            "a board takes no arguments of ps: {arguments:?}"
        )));
    }
    let status = api.supervisor.status().await?;
    let app = find(&status, id)?.1.name.clone();
    match api.supervisor.ask(Request::Processes { app }).await? {
        Answer::Processes { titles, rows } => Ok(json(
            &serde_json::json!({"Titles": titles, "Processes": rows}),
        )),
        other => Err(of_answer(other)),
    }
}

/// To `docker run` and `docker create`, whose request is `body`.
pub fn only_by_release(body: &[u8]) -> Fault {
    let request = serde_json::from_slice(body).unwrap_or_default();
    let mut message = "containers are the apps of a signed release, which is whole: none is added to it on a board. Declare an app in [[apps]] \
                       of the next release (docs/release-file.md)"
        .to_owned();
    let instead = docker::create::instead(&request);
    if !instead.is_empty() {
        message = format!("{message}; in its [apps.network], {instead}");
    }
    Fault::new(StatusCode::NOT_IMPLEMENTED, message)
}

/// `GET /events`: what happens to apps, as it happens.
pub fn events(api: &Api, query: &Query) -> Result<Reply, Fault> {
    let until = match query.get("until") {
        None | Some("" | "0") => None,
        Some(text) => {
            let until = docker::logs::parse_time(text)
                .ok_or_else(|| Fault::bad(format!("`until` is no time: {text}")))?;
            Some(until.saturating_sub(crate::clock::since_epoch()))
        }
    };
    let mut notices = api.supervisor.watch();
    let (supervisor, mut shutdown) = (api.supervisor.clone(), api.shutdown.clone());
    let (pieces, body) = Body::stream();
    tokio::spawn(async move {
        let end = async {
            match until {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                () = &mut end => return,
                () = pieces.closed() => return,
                _ = shutdown.changed() => return,
            };
            let (app, what) = match notice {
                Ok(Notice::Event(Event::AppChanged { app, what })) => (app, what),
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let Ok(status) = supervisor.status().await else {
                continue;
            };
            let Some((set, app)) = apps(&status).find(|(_, a)| a.name == app) else {
                continue;
            };
            let shape = docker::event(&docker::container_id(set, app), app, &what);
            let mut line = serde_json::to_vec(&shape).unwrap_or_default();
            line.push(b'\n');
            if pieces.send(line.into()).await.is_err() {
                return;
            }
        }
    });
    Ok(typed("application/json", body))
}

fn apps(status: &Status) -> impl Iterator<Item = (&SetStatus, &AppStatus)> {
    let set = status.current.iter();
    set.flat_map(|set| set.apps.iter().map(move |app| (set, app)))
}

/// An app by name, id or the beginning of its id.
pub fn find<'a>(status: &'a Status, wanted: &str) -> Result<(&'a SetStatus, &'a AppStatus), Fault> {
    if let Some(found) = apps(status).find(|(_, app)| app.name.as_str() == wanted) {
        return Ok(found);
    }
    let mut hits = apps(status).filter(|(set, app)| {
        !wanted.is_empty() && docker::container_id(set, app).starts_with(wanted)
    });
    match (hits.next(), hits.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => Err(Fault::bad(format!(
            "Multiple IDs found with provided prefix: {wanted}"
        ))),
        _ => Err(Fault::not_found(format!("No such container: {wanted}"))),
    }
}
