//! Which path is answered by what.

use super::reply::{Fault, Reply, json, typed};
use super::{Api, Body, Peer, attach, containers, exec, networks, own, store, volumes, wait};
use crate::docker;
use bytes::Bytes;
use coracle_board_support::config::LocalPolicy;
use coracle_protocol::local::AppAction;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use std::collections::BTreeMap;

/// Longest path and query, in bytes.
const PATH: usize = 4096;

/// The query of a request, decoded. A key without a value is set.
pub struct Query(BTreeMap<String, String>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        Self::from_text(request.uri().query().unwrap_or_default())
    }

    fn from_text(query: &str) -> Self {
        let pairs = query.split('&').flat_map(|pair| {
            let bare = !pair.contains('=');
            form_urlencoded::parse(pair.as_bytes()).map(move |(key, value)| match bare {
                true => (key.into_owned(), "1".to_owned()),
                false => (key.into_owned(), value.into_owned()),
            })
        });
        let mut all = BTreeMap::new();
        all.extend(pairs);
        Self(all)
    }
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
    /// Whether `key` is set to something true, as Docker reads it.
    pub fn is_set(&self, key: &str) -> bool {
        !matches!(
            self.get(key),
            None | Some("" | "0" | "no" | "false" | "none")
        )
    }
}

/// Answers any request.
pub async fn answer(api: &Api, peer: Peer, request: Request<Incoming>) -> Reply {
    let head = request.method() == Method::HEAD;
    let what = format!("{} {}", request.method(), request.uri().path());
    let mut reply = route(api, peer, request).await.unwrap_or_else(|fault| {
        tracing::debug!(uid = peer.uid, request = %what, status = fault.status.as_u16(), message = %fault.message, "request not served");
        fault.reply()
    });
    let headers = reply.headers_mut();
    headers.insert("api-version", HeaderValue::from_static(docker::API_VERSION));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(
        "server",
        HeaderValue::from_static(concat!("Coracle/", env!("CARGO_PKG_VERSION"), " (linux)")),
    );
    if head {
        *reply.body_mut() = Body::whole(Bytes::new());
    }
    reply
}

async fn route(api: &Api, peer: Peer, request: Request<Incoming>) -> Result<Reply, Fault> {
    let path = request.uri().path().to_owned();
    if path.len() + request.uri().query().map_or(0, str::len) > PATH {
        return Err(Fault::new(StatusCode::URI_TOO_LONG, "the path is too long"));
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let parts = match parts.split_first() {
        Some((version, rest)) if is_version(version)? => rest,
        _ => &parts[..],
    };
    let query = Query::of(&request);
    let method = request.method().clone();
    match (method.as_str(), parts) {
        ("GET" | "HEAD", ["_ping"]) => {
            let mut reply = typed("text/plain; charset=utf-8", Body::whole("OK"));
            let no_cache = HeaderValue::from_static("no-cache, no-store, must-revalidate");
            reply.headers_mut().insert("cache-control", no_cache);
            Ok(reply)
        }
        ("GET", ["version"]) => Ok(json(&docker::version(&kernel(api).await))),
        ("GET", ["info"]) => {
            let status = api.supervisor.status().await?;
            Ok(json(&docker::info(&status, &api.instance)))
        }
        ("GET", ["containers", "json"]) => containers::list(api, &query).await,
        ("POST", ["containers", "create"]) => {
            let body = read_body(request, UNSERVED_BODY).await;
            Err(containers::only_by_release(&body.unwrap_or_default()))
        }
        ("GET", ["containers", id, "json"]) => containers::inspect(api, id).await,
        ("GET", ["containers", id, "logs"]) => containers::logs(api, id, &query).await,
        ("GET", ["containers", id, "stats"]) => containers::stats(api, id, &query).await,
        ("GET", ["containers", id, "top"]) => containers::top(api, id, &query).await,
        ("POST", ["containers", id, "wait"]) => wait::wait(api, id, &query).await,
        ("POST", ["containers", id, "attach"]) => {
            let mut request = request;
            attach::attach(api, id, &query, &mut request).await
        }
        ("POST", ["containers", id, "kill"]) => containers::kill(api, peer, id, &query).await,
        (
            "POST",
            [
                "containers",
                id,
                action @ ("start" | "stop" | "restart" | "pause" | "unpause"),
            ],
        ) => {
            let action = match *action {
                "start" => AppAction::Start,
                "restart" => AppAction::Restart,
                "pause" => AppAction::Pause,
                "unpause" => AppAction::Resume,
                _ => AppAction::Stop,
            };
            containers::control(api, peer, id, action).await
        }
        ("POST", ["containers", id, "exec"]) => exec::create(api, id, request).await,
        (_, ["exec", id, what]) => exec::route(api, peer, (id, what), &query, request).await,
        ("GET", ["images", "json"]) => {
            let status = api.supervisor.status().await?;
            Ok(json(&docker::images(&status)))
        }
        ("GET", ["images", .., "json"]) => {
            let name = parts[1..parts.len() - 1].join("/");
            Err(Fault::not_found(format!("No such image: {name}")))
        }
        ("GET", ["networks"]) => networks::list(api, &query).await,
        ("GET", ["networks", name]) => networks::inspect(api, name).await,
        (_, ["networks", ..]) => {
            let _ = read_body(request, UNSERVED_BODY).await;
            Err(networks::only_by_release())
        }
        (_, ["volumes", rest @ ..]) => volumes::route(api, peer, rest, &query, request).await,
        (
            "GET",
            [
                "plugins" | "secrets" | "configs" | "services" | "nodes" | "tasks",
                name,
                ..,
            ],
        ) => Err(Fault::not_found(format!("No such object: {name}"))),
        ("GET", ["events"]) => containers::events(api, &query),
        (_, ["coracle", "v1", "volumes", rest @ ..]) => {
            volumes::own(api, peer, rest, request).await
        }
        (_, ["coracle", "v1", ..]) if method != Method::GET && !may_change(api, peer) => {
            let _ = read_body(request, UNSERVED_BODY).await;
            Err(Fault {
                code: Some("not-allowed".into()),
                ..Fault::new(
                    StatusCode::FORBIDDEN,
                    "[local] allow of coracle.toml is \"none\"",
                )
            })
        }
        (_, ["coracle", "v1", "store", rest @ ..]) => store::route(api, peer, rest, request).await,
        (_, ["coracle", "v1", rest @ ..]) => own::route(api, peer, rest, request).await,
        _ => {
            // A client that still sends when the connection is closed never sees the answer.
            let _ = read_body(request, UNSERVED_BODY).await;
            Err(Fault::new(
                StatusCode::NOT_IMPLEMENTED,
                format!(
                    "Coracle does not serve {method} {path}: apps come from signed releases (see `coracle --help`)"
                ),
            ))
        }
    }
}

/// What the supervisor judges by itself comes past this. A stick that is plugged in is read by a process of coracled's user.
fn may_change(api: &Api, peer: Peer) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    api.local_allow != LocalPolicy::None || peer.uid == 0 || peer.uid == own
}

/// Bytes of a request that is not served, which are read for courtesy.
const UNSERVED_BODY: usize = 64 << 10;

/// `v1.24` to [`docker::API_VERSION`]; another number is refused as Docker does.
fn is_version(part: &str) -> Result<bool, Fault> {
    let Some(minor) = part.strip_prefix("v1.") else {
        return Ok(false);
    };
    let supported = docker::MIN_MINOR..=docker::MINOR;
    match minor.parse::<u32>() {
        Ok(minor) if supported.contains(&minor) => Ok(true),
        Ok(minor) if minor > docker::MINOR => Err(Fault::bad(format!(
            "client version 1.{minor} is too new. Maximum supported API version is {}",
            docker::API_VERSION
        ))),
        Ok(minor) => Err(Fault::bad(format!(
            "client version 1.{minor} is too old. Minimum supported API version is 1.{}",
            docker::MIN_MINOR
        ))),
        Err(_) => Ok(false),
    }
}

/// `docker version` works without a supervisor too.
async fn kernel(api: &Api) -> docker::Machine {
    match api.supervisor.status().await {
        Ok(status) => docker::Machine {
            kernel: status.board.kernel,
            architecture: status.board.architecture,
        },
        Err(_) => docker::Machine::this(),
    }
}

/// A whole body of at most `limit` bytes.
pub async fn read_body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Fault> {
    let body = http_body_util::Limited::new(request.into_body(), limit);
    match tokio::time::timeout(std::time::Duration::from_secs(30), body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {limit} bytes"),
        )),
        Ok(Err(e)) => Err(Fault::bad(e.to_string())),
        Err(_) => Err(Fault::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in 30 s",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(is_version("v1.43").unwrap());
        assert!(is_version("v1.24").unwrap());
        assert!(!is_version("containers").unwrap());
        assert!(is_version("v1.99").is_err());
        assert!(is_version("v1.2").is_err());
    }

    #[test]
    fn queries_are_decoded() {
        let query =
            Query::from_text("all&filters=%7B%22a%22%3A1%7D+x%&tail=10&empty=&bad=%zz&&all=0");
        for (key, value) in [
            ("all", "0"),
            ("filters", "{\"a\":1} x%"),
            ("tail", "10"),
            ("empty", ""),
            ("bad", "%zz"),
        ] {
            assert_eq!(query.get(key), Some(value), "{key}");
        }
        assert!(Query::from_text("all").is_set("all"));
        assert!(!query.is_set("all"));
        assert!(!Query::from_text("").is_set("all"));
    }
}
