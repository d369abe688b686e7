//! Docker's exec: what was asked for is kept here, and is the supervisor's when it is started. The supervisor decides who may.

mod carry;

use super::reply::{Fault, Reply, empty, json, of_answer};
use super::router::{Query, read_body};
use super::{Api, Body, Peer, containers};
use crate::docker;
use bytes::Bytes;
use carry::Carried;
use coracle_protocol::local::{Answer, Exec, Request as Ask, Stream};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Bytes of a body that describes an exec: all its texts, and JSON around them.
const DESCRIPTION: usize = 256 << 10;
/// So many are remembered, the last ones: a client asks for the exit code at the end.
const KEPT: usize = 64;
/// As a shell has it.
const NOT_EXECUTABLE: i32 = 126;
/// As a shell has it: how it ended is not known.
const UNKNOWN: i32 = 255;
/// Rows and columns of a terminal, until its client says others.
const SIZE: (u16, u16) = (24, 80);

/// What was asked for lately, the oldest first.
#[derive(Default)]
pub struct Execs(Mutex<VecDeque<Arc<One>>>);

/// One of them.
struct One {
    id: String,
    container: String,
    exec: Exec,
    with_output: bool,
    state: Mutex<State>,
}

/// Where it is.
enum State {
    Created,
    Runs {
        pid: i32,
        /// Rows and columns go there.
        sizes: mpsc::Sender<(u16, u16)>,
    },
    Ended(i32),
}

/// One that is being started, or runs. Whoever lets go of it, also because its client went before it had begun, has heard all that
/// there is to hear: it runs no more as far as anybody here knows.
struct Going(Arc<One>);

impl Deref for Going {
    type Target = One;

    fn deref(&self) -> &One {
        &self.0
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut state = self.state();
        if matches!(*state, State::Runs { .. }) {
            *state = State::Ended(UNKNOWN);
        }
    }
}

impl One {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Execs {
    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<One>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<One>, Fault> {
        let found = self.all().iter().find(|one| one.id == id).cloned();
        found.ok_or_else(|| Fault::not_found(format!("No such exec instance: {id}")))
    }
}

/// `POST /containers/<id>/exec`; Docker's client says more, of which nothing is lost.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(default)]
    attach_stdin: bool,
    #[serde(default)]
    attach_stdout: bool,
    #[serde(default)]
    attach_stderr: bool,
    #[serde(default)]
    tty: bool,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    user: String,
    #[serde(default)]
    working_dir: String,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    console_size: Option<(u16, u16)>,
}

/// `POST /exec/<id>/start`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Start {
    #[serde(default)]
    detach: bool,
    console_size: Option<(u16, u16)>,
}

/// `POST /containers/<id>/exec`
pub async fn create(api: &Api, id: &str, request: Request<Incoming>) -> Result<Reply, Fault> {
    let body = read_body(request, DESCRIPTION).await?;
    let wanted: Description = read_json(&body)?;
    let status = api.supervisor.status().await?;
    let (set, app) = containers::find(&status, id)?;
    if wanted.privileged {
        return Err(Fault::bad(
            "an exec has no more rights than its app: --privileged is not there",
        ));
    }
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let exec = Exec {
        app: app.name.clone(),
        args: wanted.cmd.unwrap_or_default(),
        env: wanted.env.unwrap_or_default(),
        user: some(wanted.user),
        cwd: some(wanted.working_dir),
        stdin: wanted.attach_stdin,
        tty: wanted.tty.then_some(wanted.console_size.unwrap_or(SIZE)),
    };
    exec.check().map_err(Fault::bad)?;
    let id: String = (0..4)
        .map(|_| format!("{:016x}", crate::random::u64()))
        .collect();
    let one = One {
        id: id.clone(),
        container: docker::container_id(set, app),
        exec,
        with_output: wanted.attach_stdout || wanted.attach_stderr,
        state: Mutex::new(State::Created),
    };
    let mut all = api.execs.all();
    if all.len() >= KEPT {
        // One that runs is remembered, as long as there is another to forget.
        let rests = |one: &Arc<One>| !matches!(*one.state(), State::Runs { .. });
        let at = all.iter().position(rests).unwrap_or(0);
        all.remove(at);
    }
    all.push_back(Arc::new(one));
    let mut reply = json(&serde_json::json!({ "Id": id }));
    *reply.status_mut() = StatusCode::CREATED;
    Ok(reply)
}

/// A path below `/exec/<id>`.
pub async fn route(
    api: &Api,
    peer: Peer,
    (id, what): (&str, &str),
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    let one = api.execs.find(id)?;
    match (request.method().as_str(), what) {
        ("GET", "json") => Ok(inspect(&one)),
        ("POST", "start") => start(api, peer, one, request).await,
        ("POST", "resize") => resize(&one, query),
        _ => Err(Fault::not_found("no such path below /exec")),
    }
}

fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| Fault::bad(format!("the body cannot be read: {error}")))
}

fn inspect(one: &One) -> Reply {
    let (pid, code) = match *one.state() {
        State::Created => (0, None),
        State::Runs { pid, .. } => (pid, None),
        State::Ended(code) => (0, Some(code)),
    };
    let runs = matches!(*one.state(), State::Runs { .. });
    let (program, arguments) = one.exec.args.split_first().unzip();
    json(&serde_json::json!({
        "ID": one.id,
        "ContainerID": one.container,
        "Running": runs,
        "ExitCode": code,
        "Pid": pid,
        "OpenStdin": one.exec.stdin,
        "OpenStdout": one.with_output,
        "OpenStderr": one.with_output,
        "CanRemove": false,
        "DetachKeys": "",
        "ProcessConfig": {
            "tty": one.exec.tty.is_some(),
            "entrypoint": program,
            "arguments": arguments,
            "user": one.exec.user,
            "privileged": false,
        },
    }))
}

fn resize(one: &One, query: &Query) -> Result<Reply, Fault> {
    let number = |key| query.get(key).and_then(|text| text.parse().ok());
    let (Some(rows), Some(columns)) = (number("h"), number("w")) else {
        return Err(Fault::bad("`h` and `w` are rows and columns"));
    };
    match &*one.state() {
        State::Runs { sizes, .. } if one.exec.tty.is_some() => {
            // One that waits already is followed by another when the client's own changes again.
            let _ = sizes.try_send((rows, columns));
            Ok(empty(StatusCode::OK))
        }
        _ => Err(conflict(format!("exec {} has no terminal now", one.id))),
    }
}

fn conflict(text: String) -> Fault {
    Fault::new(StatusCode::CONFLICT, text)
}

async fn start(
    api: &Api,
    peer: Peer,
    one: Arc<One>,
    mut request: Request<Incoming>,
) -> Result<Reply, Fault> {
    let taken_over = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let body = read_body(request, DESCRIPTION).await?;
    let wanted: Start = match body.is_empty() {
        true => Start::default(),
        false => read_json(&body)?,
    };
    let mut exec = one.exec.clone();
    if let (Some(tty), Some(size)) = (&mut exec.tty, wanted.console_size) {
        *tty = size;
    }
    let client = match (wanted.detach, taken_over) {
        (true, _) => None,
        (false, Some(taken_over)) => Some(taken_over),
        (false, None) => {
            return Err(Fault::bad(
                "an exec that is not detached takes over the connection: `Connection: Upgrade` and `Upgrade: tcp`",
            ));
        }
    };
    // Nothing is typed into one that is detached.
    exec.stdin &= client.is_some();
    let (sizes, changes) = mpsc::channel(4);
    match &mut *one.state() {
        state @ State::Created => *state = State::Runs { pid: 0, sizes },
        _ => return Err(conflict(format!("exec {} was started already", one.id))),
    }
    let one = Going(one);
    let app = exec.app.clone();
    tracing::info!(target: "audit", uid = peer.uid, gid = peer.gid, pid = peer.pid, %app, program = ?exec.args.first(), "exec");
    let tty = exec.tty.is_some();
    let ask = Ask::Exec {
        exec,
        uid: peer.uid,
    };
    let socket = match begin(api, ask).await {
        Ok(socket) => socket,
        Err(fault) if client.is_some() => refused(&fault).await?,
        Err(fault) => {
            *one.state() = State::Created;
            return Err(fault);
        }
    };
    let carried = Carried { one, socket, tty };
    let Some(client) = client else {
        return carried.detached().await.map(|()| empty(StatusCode::OK));
    };
    tokio::spawn(carried.attached(client, changes));
    let mut reply = Reply::new(Body::whole(Bytes::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let content = match tty {
        true => "application/vnd.docker.raw-stream",
        false => "application/vnd.docker.multiplexed-stream",
    };
    for (name, value) in [
        (CONTENT_TYPE, content),
        (CONNECTION, "Upgrade"),
        (UPGRADE, "tcp"),
    ] {
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(reply)
}

/// Docker's client shows no words of an answer in which it is not given the connection: they come over that.
async fn refused(fault: &Fault) -> Result<UnixStream, Fault> {
    let told = async {
        let (here, mut there) = UnixStream::pair()?;
        let end = Stream::end(NOT_EXECUTABLE, &fault.message);
        there.write_all(&end).await?;
        std::io::Result::Ok(here)
    };
    told.await
        .map_err(|error| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn begin(api: &Api, ask: Ask) -> Result<UnixStream, Fault> {
    let path = match api.supervisor.ask(ask).await? {
        Answer::Transfer { socket } => socket,
        other => {
            let mut fault = of_answer(other);
            fault.status = match fault.code.as_deref() {
                Some("no-app") => StatusCode::NOT_FOUND,
                Some("not-running" | "too-many" | "busy") => StatusCode::CONFLICT,
                Some("bad-exec") => StatusCode::BAD_REQUEST,
                _ => fault.status,
            };
            return Err(fault);
        }
    };
    UnixStream::connect(&path)
        .await
        .map_err(|error| Fault::new(StatusCode::BAD_GATEWAY, format!("{path}: {error}")))
}
