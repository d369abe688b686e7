//! The real daemon, a real Mosquitto with client certificates, a console's blobs over TLS: a
//! deployment from MQTT to its end, over restarts of everything. Enrolment too.

mod support;

use coracle_images::store::BlobStore;
use coracle_protocol::command::{Action, COMMAND_TYPE, CommandResult};
use coracle_protocol::counters::Counter;
use coracle_protocol::deploy::{Deploy, Target};
use coracle_protocol::desired::{Desired, Document, RootNotice};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest};
use coracle_protocol::local::{
    Answer, Event, LayerNeed, Needs, Request, SWITCHING, Trusted, Waiting,
};
use coracle_protocol::names::{AppName, BoardId};
use coracle_protocol::report::{
    AppUse, Current, Feedback, HeatState, HeatStatus, Phase, Presence, SetState, SetStatus,
    Telemetry,
};
use coracle_protocol::root::{ROOT_TYPE, Role, TrustedRoot};
use coracle_protocol::topics::ROOT_NOTICE;
use coracle_protocol::trust_state::TrustState;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::daemon::Daemon;
use support::documents::{CONFIG, DELTA, Documents, LAYER, blob, diff_id, documents};
use support::fleet::{BOARD, Fleet};
use support::supervisor::{FakeSupervisor, State};
use tokio::net::TcpListener;

/// Serves blobs, and enrols with `token`.
async fn console(fleet: Arc<Fleet>, blobs: &[&'static [u8]]) -> (u16, Arc<Mutex<Vec<String>>>) {
    console_with(fleet, blobs, BTreeMap::new()).await
}

/// Serves what stands in `more` too, by its path; what has no bytes there is never answered.
async fn console_with(
    fleet: Arc<Fleet>,
    blobs: &[&'static [u8]],
    more: BTreeMap<String, Vec<u8>>,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(fleet.server());
    let blobs: BTreeMap<String, &'static [u8]> =
        blobs.iter().map(|b| (blob(b).digest.hex(), *b)).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let shown = stream.get_ref().1.peer_certificates().is_some();
            let (blobs, fleet, seen) = (blobs.clone(), fleet.clone(), seen.clone());
            let more = more.clone();
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let path = request.uri().path().to_owned();
                let found = blobs
                    .get(path.trim_start_matches("/blobs/sha256/"))
                    .copied();
                let known = more.get(&path).cloned();
                seen.lock().unwrap().push(path.clone());
                let fleet = fleet.clone();
                async move {
                    let (status, body) = match (path.as_str(), found) {
                        ("/enrol", _) => {
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let request: EnrolRequest = serde_json::from_slice(&body).unwrap();
                            if request.token == "good" {
                                let answer = EnrolAnswer {
                                    board: BoardId::new(BOARD).unwrap(),
                                    certificate_pem: fleet.sign(&request.csr_pem),
                                };
                                (200, serde_json::to_vec(&answer).unwrap())
                            } else {
                                (403, b"{\"error\":\"the token was used\"}".to_vec())
                            }
                        }
                        _ if known.as_ref().is_some_and(Vec::is_empty) => {
                            std::future::pending().await
                        }
                        _ if known.is_some() => (200, known.unwrap_or_default()),
                        (_, Some(bytes)) if shown => (200, bytes.to_vec()),
                        _ => (404, vec![]),
                    };
                    hyper::Response::builder()
                        .status(status)
                        .body(Full::new(bytes::Bytes::from(body)))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (port, asked)
}

/// Mosquitto; killed when dropped.
struct Broker {
    child: Child,
    port: u16,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    async fn start(fleet: &Fleet, folder: &std::path::Path, port: u16) -> Self {
        Self::start_with(fleet, folder, port, "%u").await
    }

    /// Boards may speak and hear at the level `board`.
    async fn start_with(fleet: &Fleet, folder: &std::path::Path, port: u16, board: &str) -> Self {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let acl = "user console\ntopic readwrite coracle/v1/#\npattern read coracle/v1/%u/desired\npattern read coracle/v1/fleet/root\npattern read coracle/v1/%u/command\npattern write coracle/v1/%u/command-result\npattern write coracle/v1/%u/current\npattern write coracle/v1/%u/feedback\npattern write coracle/v1/%u/presence\npattern write coracle/v1/%u/telemetry\n";
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\nacl_file {}\nuser root\n",
            file("broker-ca.pem", &fleet.ca_pem),
            file("broker.pem", &fleet.server_pem),
            file("broker.key", &fleet.server_key_pem),
            file("acl", &acl.replace("%u", board)),
        );
        let child = Command::new("mosquitto")
            .args(["-c", &file("mosquitto.conf", &config)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs `mosquitto` on PATH");
        support::until("mosquitto", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Self { child, port }
    }
}

/// Below the ports that the kernel gives to whoever connects: until it is used nobody gets it by chance.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static TURN: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let spread = (std::process::id() as u16).wrapping_mul(31);
        let port = 20_000 + spread.wrapping_add(turn) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What the console hears, by the topic's last level.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Message>>>);

/// Level and payload.
type Message = (String, Vec<u8>);

impl Heard {
    fn all<T: serde::de::DeserializeOwned>(&self, level: &str) -> Vec<T> {
        let heard = self.0.lock().unwrap();
        let level = heard.iter().filter(|(l, _)| l == level);
        level
            .map(|(_, json)| serde_json::from_slice(json).unwrap())
            .collect()
    }
    fn ended(&self, activity: &str) -> Option<Feedback> {
        let all: Vec<Feedback> = self.all("feedback");
        all.into_iter()
            .find(|f| f.activity == activity && f.phase.is_end())
    }
    fn online(&self) -> Option<Presence> {
        self.all::<Presence>("presence").pop()
    }
}

/// A console's MQTT client, with a certificate of the name `console`: the server's.
fn listen(fleet: &Fleet, port: u16) -> (rumqttc::AsyncClient, Heard) {
    let identity = (fleet.server_pem.as_bytes(), fleet.server_key_pem.as_bytes());
    let tls = coracle_daemon::identity::client_config(fleet.ca_pem.as_bytes(), Some(identity));
    let mut options = rumqttc::MqttOptions::new("console", ("127.0.0.1".to_owned(), port));
    options.set_max_packet_size(64 * 1024, 64 * 1024);
    options.set_transport(rumqttc::Transport::tls_with_config(
        rumqttc::TlsConfiguration::Rustls(Arc::new(tls.unwrap())),
    ));
    let (client, mut eventloop) = rumqttc::AsyncClient::builder(options).build();
    let heard = Heard::default();
    let (into, subscriber) = (heard.clone(), client.clone());
    tokio::spawn(async move {
        loop {
            match eventloop.poll().await {
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))) => {
                    let all = "coracle/v1/+/+";
                    subscriber
                        .try_subscribe(all, rumqttc::QoS::AtLeastOnce)
                        .unwrap();
                }
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))) => {
                    into.0
                        .lock()
                        .unwrap()
                        .push(("suback".into(), b"1".to_vec()));
                }
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(p))) => {
                    let topic = String::from_utf8(p.topic.to_vec()).unwrap();
                    let level = topic.rsplit('/').next().unwrap().to_owned();
                    into.0.lock().unwrap().push((level, p.payload.to_vec()));
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    (client, heard)
}

async fn wish(console: &rumqttc::AsyncClient, desired: &Desired) {
    let options = rumqttc::PublishOptions::at_least_once().retained();
    let json = serde_json::to_vec(desired).unwrap();
    console
        .publish(format!("coracle/v1/{BOARD}/desired"), json, options)
        .await
        .unwrap();
}

fn desired(activity: &str, documents: &Documents) -> Desired {
    Desired {
        activity: activity.into(),
        deploy: Document::Inline(documents.deploy.clone()),
        release: Document::Inline(documents.release.clone()),
    }
}

/// Another wish, with an assignment that was signed later: `change` makes it another one.
fn newer(activity: &str, documents: &Documents, change: impl FnOnce(&mut Deploy)) -> Desired {
    let mut deploy = documents.assignment.clone();
    deploy.seq += 1;
    change(&mut deploy);
    Desired {
        deploy: Document::Inline(documents.signed(&deploy, Role::Deploy)),
        ..desired(activity, documents)
    }
}

fn accept(deltas: Vec<&'static [u8]>) -> impl FnMut(&Request, &State) -> Option<Answer> + Send {
    move |request, state| match request {
        Request::Offer { .. } => Some(Answer::Needs(Needs {
            already: false,
            configs: vec![blob(CONFIG)],
            layers: vec![LayerNeed {
                diff_id: diff_id(),
                full: blob(LAYER),
                deltas: deltas.iter().map(|d| blob(d)).collect(),
            }],
        })),
        Request::Activate { activity } => {
            for phase in [Phase::Switching, Phase::Trial, Phase::Committed] {
                let event = Event::Deployment {
                    activity: activity.clone(),
                    phase,
                    code: None,
                    reason: None,
                };
                state.events.send(event).unwrap();
            }
            None
        }
        _ => None,
    }
}

/// Everything leaves by `link`, the loopback of this machine too.
fn route(daemon: &Daemon, link: &str) {
    let raw = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
    let (to, mask) = (raw([127, 0, 0, 0]), raw([255, 0, 0, 0]));
    let text = format!("{link}\t{to}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n");
    let folder = daemon.folder().join("hardware/proc/net");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("route"), text).unwrap();
}

/// A board that waits with its downloads while its way costs money, as it does, and that was assigned a deployment `one`.
struct Metered {
    wanted: Documents,
    daemon: Daemon,
    supervisor: FakeSupervisor,
    /// Paths that the console was asked for.
    asked: Arc<Mutex<Vec<String>>>,
    heard: Heard,
    /// Ends with the test.
    _broker: Broker,
}

impl Metered {
    async fn start() -> Self {
        let fleet = Arc::new(Fleet::new());
        let wanted = documents(BOARD, 1);
        let mut daemon = Daemon::prepare();
        let file = daemon.folder().join("coracle.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("[agent]\n", "[agent]\nhardware_root = \"hardware\"\n");
        std::fs::write(&file, text + "[downloads]\nmetered = \"wait\"\n").unwrap();
        route(&daemon, "wwan0");
        std::fs::write(daemon.folder().join("root.json"), wanted.root.to_json()).unwrap();
        let (blobs, asked) = console(fleet.clone(), &[CONFIG, LAYER]).await;
        let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
        let port = broker.port;
        fleet.enrol(&daemon.state().join("identity"), blobs, port);
        let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), accept(vec![]));
        supervisor.state.status.lock().unwrap().metered = vec!["wwan0".into()];
        let (client, heard) = listen(&fleet, port);
        daemon.start().await;
        support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
        wish(&client, &desired("one", &wanted)).await;
        Self {
            wanted,
            daemon,
            supervisor,
            asked,
            heard,
            _broker: broker,
        }
    }

    /// Each time that it said that it waits.
    fn waits(&self) -> Vec<Feedback> {
        let mut all = self.heard.all::<Feedback>("feedback");
        all.retain(|f| f.code.as_deref() == Some("download-waits"));
        all
    }

    /// A way that costs nothing takes the other's place, and the deployment comes to its end.
    async fn ends_on_a_free_way(&self) {
        route(&self.daemon, "eth0");
        let end = || self.heard.ended("one");
        support::until("the end", || end().is_some()).await;
        assert_eq!(end().unwrap().phase, Phase::Committed);
    }
}

#[tokio::test]
async fn a_deployment_waits_for_a_way_that_is_not_metered_and_says_so() {
    let board = Metered::start().await;
    support::until("the reason", || !board.waits().is_empty()).await;
    let why = board.waits().remove(0);
    assert_eq!(why.phase, Phase::Fetching);
    assert!(why.reason.unwrap().contains("`wwan0`"));
    let fetched = || {
        let asked = board.asked.lock().unwrap();
        asked
            .iter()
            .filter(|path| path.starts_with("/blobs/"))
            .count()
    };
    assert_eq!((fetched(), board.heard.ended("one")), (0, None));
    board.ends_on_a_free_way().await;
    assert_eq!(fetched(), 2);
}

/// A technician's stick is what a board without a good way is waiting for.
#[tokio::test]
async fn a_stick_is_taken_while_a_download_waits_which_then_goes_on() {
    let board = Metered::start().await;
    support::until("it waits", || !board.waits().is_empty()).await;

    let offer = serde_json::json!({"deploy": board.wanted.deploy, "release": board.wanted.release});
    let offer = offer.to_string().into_bytes();
    let (status, offered) = board
        .daemon
        .json(Method::POST, "/coracle/v1/offer", &offer)
        .await;
    assert_eq!(status, StatusCode::OK, "{offered}");
    for bytes in [CONFIG, LAYER] {
        let path = format!("/coracle/v1/blobs/sha256/{}", blob(bytes).digest.hex());
        let answer = board.daemon.send(Method::PUT, &path, bytes).await;
        assert!(answer.status().is_success(), "{path}: {answer:?}");
    }
    assert_eq!(board.heard.ended("one"), None);
    let apply = serde_json::json!({"activity": offered["activity"]}).to_string();
    let answer = board
        .daemon
        .send(Method::POST, "/coracle/v1/apply", apply.as_bytes())
        .await;
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("\"committed\""), "{said}");
    // It goes on by itself, and waits as before.
    support::until("it waits again", || board.waits().len() >= 2).await;
    board.ends_on_a_free_way().await;
    let asked = board.supervisor.asked();
    assert_eq!(
        asked.iter().filter(|a| **a == "activate").count(),
        2,
        "{asked:?}"
    );
}

/// A board whose deployment `one` waits for its supervisor.
struct OneWaits {
    wanted: Documents,
    daemon: Daemon,
    client: rumqttc::AsyncClient,
    heard: Heard,
    supervisor: FakeSupervisor,
    /// They are there as long as it is.
    _others: (Arc<Fleet>, Broker),
}

/// It is told with this code and reason.
async fn one_waits(code: &'static str, reason: &'static str) -> OneWaits {
    let mut accepts = accept(vec![]);
    one_meets(move |request, state| match request {
        Request::Activate { activity } if activity == "one" => {
            let event = Event::Deployment {
                activity: activity.clone(),
                phase: Phase::Waiting,
                code: Some(code.into()),
                reason: Some(reason.into()),
            };
            state.events.send(event).unwrap();
            None
        }
        other => accepts(other, state),
    })
    .await
}

/// It meets a supervisor with this script.
async fn one_meets(
    script: impl FnMut(&Request, &State) -> Option<Answer> + Send + 'static,
) -> OneWaits {
    let fleet = Arc::new(Fleet::new());
    let wanted = documents(BOARD, 2);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), wanted.root.to_json()).unwrap();
    let (blobs, _) = console(fleet.clone(), &[CONFIG, LAYER]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), blobs, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), script);
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    wish(&client, &desired("one", &wanted)).await;
    OneWaits {
        wanted,
        daemon,
        client,
        heard,
        supervisor,
        _others: (fleet, broker),
    }
}

impl OneWaits {
    /// Waits until so many messages were refused as this kind: the last that was sent was looked at.
    async fn until_refused(&self, kind: &str, count: u64) {
        until_refused(&self.daemon, kind, count).await;
    }

    /// Waits until so many were found to be for other boards, or of no key that this one knows.
    async fn until_foreign(&self, count: usize) {
        let looks = || self.daemon.log().matches("is not for this board").count();
        support::until("the look", || looks() >= count).await;
    }

    /// Offers this assignment as a stick does, with its blobs, and applies it. What it is called, and what is said of it.
    async fn stick(&self, deploy: &Envelope) -> (String, hyper::Response<hyper::body::Incoming>) {
        let daemon = &self.daemon;
        let offer = serde_json::json!({"deploy": deploy, "release": self.wanted.release});
        let offer = offer.to_string().into_bytes();
        let (status, offered) = daemon.json(Method::POST, "/coracle/v1/offer", &offer).await;
        assert_eq!(status, StatusCode::OK, "{offered}");
        for bytes in [CONFIG, LAYER] {
            let path = format!("/coracle/v1/blobs/sha256/{}", blob(bytes).digest.hex());
            let answer = daemon.send(Method::PUT, &path, bytes).await;
            assert!(answer.status().is_success(), "{path}: {answer:?}");
        }
        let activity = offered["activity"].as_str().unwrap().to_owned();
        let apply = serde_json::json!({ "activity": activity }).to_string();
        let answer = daemon
            .send(Method::POST, "/coracle/v1/apply", apply.as_bytes())
            .await;
        (activity, answer)
    }

    /// Whether this was said of it.
    fn has_said(&self, activity: &str, phase: Phase) -> bool {
        let all: Vec<Feedback> = self.heard.all("feedback");
        all.iter()
            .any(|f| f.activity == activity && f.phase == phase)
    }
}

async fn until_refused(daemon: &Daemon, kind: &str, count: u64) {
    let line = format!("coracle_link_messages_refused_total{{kind=\"{kind}\"}} ");
    for _ in 0..400 {
        let path = "/coracle/v1/metrics";
        let reply = daemon.send(Method::GET, path, b"").await;
        let text = reply.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text);
        let is = text.lines().find_map(|l| l.strip_prefix(&line));
        if is.unwrap().parse::<u64>().unwrap() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 20 s for {count} that are {kind}");
}

/// What waits on the board is told with its reason, and a newer wish takes its place at once.
#[tokio::test]
async fn a_deployment_that_waits_is_told_and_gives_way_to_a_newer_one() {
    let board = one_waits("update-lock", "app `web` holds the update lock").await;
    let heard = &board.heard;
    let waiting = || {
        let all = heard.all::<Feedback>("feedback");
        all.into_iter().find(|f| f.phase == Phase::Waiting)
    };
    support::until("that it waits", || waiting().is_some()).await;
    let waiting = waiting().unwrap();
    assert_eq!(waiting.activity, "one");
    assert_eq!(waiting.code.as_deref(), Some("update-lock"));
    assert_eq!(
        waiting.reason.as_deref(),
        Some("app `web` holds the update lock")
    );
    assert!(heard.ended("one").is_none());
    wish(&board.client, &newer("two", &board.wanted, |_| ())).await;
    support::until("the newer one's end", || heard.ended("two").is_some()).await;
    assert_eq!(heard.ended("two").unwrap().phase, Phase::Committed);
    let first = heard.ended("one").unwrap();
    assert_eq!(first.code.as_deref(), Some("superseded"), "{first:?}");
}

/// The one thing that boards tell again and again, of their own accord.
#[tokio::test]
async fn what_apps_use_is_told_over_mqtt_once_a_minute() {
    let board = one_meets(|_, _| None).await;
    let digest = blob(b"x").digest;
    let app = |name: &str, memory: Option<u64>| {
        serde_json::json!({"name": name, "image": "x:1", "image_manifest": digest, "state": "running",
            "exit_code": null, "oom_killed": false, "restarts": 0, "healthy": null, "health_text": null,
            "pid": 1, "started_at": null, "ip": null, "ports": [], "args": [],
            "limits": {"memory_bytes": 1, "cpu_millis": 1, "pids": 1}, "cgroup": null,
            "memory_bytes": memory, "cpu_usage_us": 7, "pids": 3})
    };
    let set = serde_json::json!({"deployment": digest, "release": digest, "product": "shop", "version": "1",
        "state": "committed", "apps": [app("web", Some(4096)), app("off", None)]});
    let set = serde_json::from_value(set).unwrap();
    {
        let mut status = board.supervisor.state.status.lock().unwrap();
        status.current = Some(set);
        status.own_memory_bytes = Some(2 << 20);
        status.heat = Some(HeatStatus {
            state: HeatState::Cool,
            zone: "cpu-thermal".into(),
            millidegrees: 61_200,
            throttle_celsius: 75,
        });
    }
    let told = || board.heard.all::<Telemetry>("telemetry");
    assert_eq!(told(), []);
    support::until_within(90, "the first of them", || !told().is_empty()).await;
    let [told] = &told()[..] else {
        panic!("{:?}", told());
    };
    let used = AppUse {
        name: AppName::new("web").unwrap(),
        memory_bytes: 4096,
        cpu_usage_us: 7,
        pids: 3,
    };
    assert_eq!(told.apps, [used]);
    assert!(told.at > 1_700_000_000, "{told:?}");
    // The board is this machine, without a capability.
    let used = told.board.clone().unwrap();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.split_whitespace().nth(1).unwrap();
    let total = total.parse::<u64>().unwrap() << 10;
    assert_eq!(used.memory_total_bytes, Some(total));
    assert!(used.memory_used_bytes.unwrap() < total, "{used:?}");
    assert!(used.agent_memory_bytes.unwrap() > 3 << 20, "{used:?}");
    assert!(used.load_hundredths.is_some() && used.uptime_seconds.unwrap() > 0);
    assert!(used.state_free_bytes.unwrap() <= used.state_total_bytes.unwrap());
    assert_eq!(used.images_total_bytes, None, "it is the state folder's");
    assert_eq!(used.zone.as_deref(), Some("cpu-thermal"));
    assert_eq!(
        (used.millidegrees, used.throttle_celsius),
        (Some(61_200), Some(75))
    );
    assert_eq!(used.clone().in_sense(), used);
    // The same on the board.
    let path = "/coracle/v1/status";
    let (_, status) = board.daemon.json(Method::GET, path, b"").await;
    assert_eq!(status["board_use"]["memory_total_bytes"], total);
    assert_eq!(status["board_use"]["millidegrees"], 61_200);
    let path = "/coracle/v1/metrics";
    let reply = board.daemon.send(Method::GET, path, b"").await;
    let text = reply.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = format!("\ncoracle_board_memory_bytes {total}\n");
    assert!(text.contains(&line), "{text}");
}

/// Whoever has the broker sends what they like. The console takes a deployment back by an assignment of what runs.
#[tokio::test]
async fn a_deployment_is_taken_back_by_a_newer_signed_assignment_alone() {
    let board = one_waits("update-lock", "app `web` holds the update lock").await;
    let heard = &board.heard;
    let all = || heard.all::<Feedback>("feedback");
    let waits = || all().iter().any(|f| f.phase == Phase::Waiting);
    support::until("that it waits", waits).await;
    let before = board.wanted.release_of("0");
    let runs = blob(&before.payload_unverified().unwrap());
    board.supervisor.state.status.lock().unwrap().current = Some(SetStatus {
        deployment: blob(b"its assignment").digest,
        release: runs.digest,
        product: "shop".into(),
        version: "0".into(),
        state: SetState::Committed,
        stale_since: None,
        apps: vec![],
    });
    let asked = || board.supervisor.asked().len();
    let asked_before = asked();
    let taking_back = |deploy: &mut Deploy| {
        deploy.seq += 1;
        deploy.release = runs;
    };
    // The same again under another name, one that was signed before, one for another board, and those of another fleet.
    wish(&board.client, &desired("again", &board.wanted)).await;
    board.until_refused("old", 1).await;
    wish(&board.client, &newer("older", &board.wanted, |d| d.seq = 1)).await;
    board.until_refused("old", 2).await;
    let elsewhere = newer("elsewhere", &board.wanted, |deploy| {
        taking_back(deploy);
        deploy.target = Target::Boards([BoardId::new("acme.other").unwrap()].into());
    });
    wish(&board.client, &elsewhere).await;
    board.until_foreign(1).await;
    let foreign = documents(BOARD, 5);
    wish(&board.client, &newer("foreign", &foreign, taking_back)).await;
    board.until_foreign(2).await;
    assert!(heard.ended("one").is_none(), "{:?}", all());
    assert_eq!(asked(), asked_before, "{:?}", board.supervisor.asked());

    let cancel = Desired {
        release: Document::Inline(before),
        ..newer("cancel", &board.wanted, taking_back)
    };
    wish(&board.client, &cancel).await;
    support::until("the end", || heard.ended("one").is_some()).await;
    let first = heard.ended("one").unwrap();
    assert_eq!(
        (first.phase, first.code.as_deref()),
        (Phase::Failed, Some("cancelled"))
    );
    assert!(first.reason.unwrap().contains("what runs here stays"));
}

/// The set that runs keeps its own assignment when one says the same: the supervisor says `already`, of another digest.
#[tokio::test]
async fn an_assignment_of_what_runs_ends_at_once() {
    let board = one_meets(|request, state| match request {
        Request::Offer { release, .. } => {
            let payload = release.payload_unverified().unwrap();
            state.status.lock().unwrap().current = Some(SetStatus {
                deployment: blob(b"another assignment").digest,
                release: coracle_protocol::Sha256Digest::of(&payload),
                product: "shop".into(),
                version: "1".into(),
                state: SetState::Committed,
                stale_since: None,
                apps: vec![],
            });
            Some(Answer::Needs(Needs {
                already: true,
                configs: vec![],
                layers: vec![],
            }))
        }
        _ => None,
    })
    .await;
    support::until("its end", || board.heard.ended("one").is_some()).await;
    assert_eq!(board.heard.ended("one").unwrap().phase, Phase::Committed);
    assert_eq!(board.supervisor.asked(), ["offer"]);
}

/// A supervisor goes on with what a cut interrupted, and knows of it before its daemon does: what comes meanwhile waits for the
/// end of that, and is then offered anew, since other layers may be on the board.
#[tokio::test]
async fn a_deployment_that_meets_another_one_waits_for_its_end() {
    let mut accepts = accept(vec![]);
    let mut is_busy = true;
    let board = one_meets(move |request, state| match request {
        Request::Activate { .. } if std::mem::take(&mut is_busy) => Some(Answer::Failed {
            code: "busy".into(),
            reason: "another deployment is under way".into(),
        }),
        other => accepts(other, state),
    })
    .await;
    let heard = &board.heard;
    let told = || {
        let all = heard.all::<Feedback>("feedback");
        all.into_iter().find(|f| f.phase == Phase::Waiting)
    };
    support::until("that it waits", || told().is_some()).await;
    let told = told().unwrap();
    assert_eq!(told.code.as_deref(), Some("busy"));
    assert_eq!(
        told.reason.as_deref(),
        Some("another deployment is under way")
    );
    assert_eq!(heard.ended("one"), None);
    let other = Event::Deployment {
        activity: "zero".into(),
        phase: Phase::Committed,
        code: None,
        reason: None,
    };
    board.supervisor.state.events.send(other).unwrap();
    support::until("its end", || heard.ended("one").is_some()).await;
    let end = heard.ended("one").unwrap();
    assert_eq!(end.phase, Phase::Committed, "{end:?}");
    let once = ["offer", "stage full", "activate"];
    assert_eq!(board.supervisor.asked(), [once, once].concat());
}

/// A supervisor that goes back to the program before it takes offers until it does, and forgets them then.
#[tokio::test]
async fn a_supervisor_that_is_executed_anew_meanwhile_is_offered_the_same_again() {
    let (mut accepts, mut cut) = (accept(vec![]), ["stage", "activate"].as_slice());
    let board = one_meets(move |request, state| {
        let word = match request {
            Request::Stage { .. } => "stage",
            Request::Activate { .. } => "activate",
            _ => "",
        };
        if let Some((_, rest)) = cut.split_first().filter(|(first, _)| **first == word) {
            cut = rest;
            state.breaks.store(true, Ordering::Relaxed);
            // It tells of another deployment by then.
            let words = "zero did not stay (interrupted)";
            state.status.lock().unwrap().last_failure = Some(words.into());
            return None;
        }
        accepts(request, state)
    })
    .await;
    let heard = &board.heard;
    support::until("its end", || heard.ended("one").is_some()).await;
    let end = heard.ended("one").unwrap();
    assert_eq!(end.phase, Phase::Committed, "{end:?}");
    let asked = board.supervisor.asked();
    let (staged, whole) = (["offer", "stage full"], ["offer", "stage full", "activate"]);
    assert_eq!(asked, [&staged[..], &whole, &whole].concat());
}

/// Who holds a stick stands before the board: what waits for a lock, an hour or a person gives way, and waits on afterwards.
#[tokio::test]
async fn a_stick_is_taken_while_a_deployment_waits_on_the_board() {
    let board = one_waits("consent", "somebody must accept it").await;
    let (wanted, daemon, heard) = (&board.wanted, &board.daemon, &board.heard);
    let waits = |n: usize| {
        let all = heard.all::<Feedback>("feedback");
        all.iter().filter(|f| f.phase == Phase::Waiting).count() >= n
    };
    support::until("it waits", || waits(1)).await;

    // A stick that is no good holds nothing up.
    let bad = serde_json::json!({"deploy": wanted.release, "release": wanted.deploy});
    let bad = bad.to_string().into_bytes();
    let (status, refused) = daemon.json(Method::POST, "/coracle/v1/offer", &bad).await;
    assert!(
        !status.is_success() && refused["code"] != "busy",
        "{refused}"
    );
    support::until("it waits again", || waits(2)).await;

    let offer = serde_json::json!({"deploy": wanted.deploy, "release": wanted.release});
    let offer = offer.to_string().into_bytes();
    let (status, offered) = daemon.json(Method::POST, "/coracle/v1/offer", &offer).await;
    assert_eq!(status, StatusCode::OK, "{offered}");
    for bytes in [CONFIG, LAYER] {
        let path = format!("/coracle/v1/blobs/sha256/{}", blob(bytes).digest.hex());
        let answer = daemon.send(Method::PUT, &path, bytes).await;
        assert!(answer.status().is_success(), "{path}: {answer:?}");
    }
    let apply = serde_json::json!({"activity": offered["activity"]}).to_string();
    let answer = daemon
        .send(Method::POST, "/coracle/v1/apply", apply.as_bytes())
        .await;
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("\"committed\""), "{said}");
    support::until("it waits once more", || waits(3)).await;
    assert_eq!(heard.ended("one"), None);
}

/// What a stick has the board for is nobody's to end by a message: whoever has the broker can send again what was signed before.
#[tokio::test]
async fn what_was_put_aside_for_a_stick_gives_way_to_a_newer_assignment_alone() {
    let board = one_waits("consent", "somebody must accept it").await;
    let (wanted, daemon, heard) = (&board.wanted, &board.daemon, &board.heard);
    let all = || heard.all::<Feedback>("feedback");
    let waits = || all().iter().any(|f| f.phase == Phase::Waiting);
    support::until("it waits", waits).await;
    let stick = |release: &Envelope| {
        let offer = serde_json::json!({"deploy": wanted.deploy, "release": release});
        offer.to_string().into_bytes()
    };
    let offer = stick(&wanted.release);
    let (status, offered) = daemon.json(Method::POST, "/coracle/v1/offer", &offer).await;
    assert_eq!(status, StatusCode::OK, "{offered}");

    wish(&board.client, &desired("again", wanted)).await;
    board.until_refused("old", 1).await;
    wish(&board.client, &newer("older", wanted, |d| d.seq = 1)).await;
    board.until_refused("old", 2).await;
    let foreign = documents(BOARD, 5);
    wish(&board.client, &newer("foreign", &foreign, |_| ())).await;
    board.until_foreign(1).await;
    assert_eq!(all().iter().find(|f| f.phase.is_end()), None, "{:?}", all());

    wish(&board.client, &newer("two", wanted, |_| ())).await;
    support::until("the newer one's end", || heard.ended("two").is_some()).await;
    assert_eq!(heard.ended("two").unwrap().phase, Phase::Committed);
    let one = heard.ended("one").unwrap();
    assert_eq!(one.code.as_deref(), Some("superseded"), "{one:?}");
    // It has had its turn, and its sender hears so.
    support::until("the foreign one's", || heard.ended("foreign").is_some()).await;
    let foreign = heard.ended("foreign").unwrap();
    assert_eq!(foreign.code.as_deref(), Some("bad-signature"));
}

/// One whose release is still to come is known by its assignment: what was signed before it does not take its place.
#[tokio::test]
async fn what_was_signed_before_ends_no_deployment_whose_documents_are_on_the_way() {
    let fleet = Arc::new(Fleet::new());
    let wanted = documents(BOARD, 5);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), wanted.root.to_json()).unwrap();
    // A console that never sends the release.
    let payload = wanted.release.to_json();
    let release = coracle_protocol::release::Blob {
        digest: coracle_protocol::Sha256Digest::of(&payload),
        size: payload.len() as u64,
    };
    let path = format!("/blobs/sha256/{}", release.digest.hex());
    let silent = BTreeMap::from([(path.clone(), vec![])]);
    let (console, asked) = console_with(fleet.clone(), &[], silent).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), console, broker.port);
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), accept(vec![]));
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    let one = Desired {
        release: Document::Blob(release),
        ..desired("one", &wanted)
    };
    wish(&client, &one).await;
    support::until("that the release is asked for", || {
        asked.lock().unwrap().contains(&path)
    })
    .await;
    wish(&client, &newer("replay", &wanted, |d| d.seq = 4)).await;
    until_refused(&daemon, "old", 1).await;
    let all = heard.all::<Feedback>("feedback");
    assert_eq!(all.iter().find(|f| f.activity == "replay"), None, "{all:?}");
    assert_eq!(heard.ended("one"), None);
}

/// The broker keeps a wish that was refused, and whoever has it calls one as they like: nothing of that ends a stick's set.
#[tokio::test]
async fn what_was_refused_takes_no_place_when_it_comes_again() {
    let mut accepts = accept(vec![]);
    let board = one_meets(move |request, state| match request {
        Request::Offer { activity, .. } if ["two", "three", "four"].contains(&&**activity) => {
            Some(Answer::Refused {
                code: "hardware-mismatch".into(),
                reason: "it is for other boards".into(),
            })
        }
        other => accepts(other, state),
    })
    .await;
    let (wanted, heard) = (&board.wanted, &board.heard);
    support::until("one", || heard.ended("one").is_some()).await;
    let two = newer("two", wanted, |_| ());
    wish(&board.client, &two).await;
    support::until("two", || heard.ended("two").is_some()).await;

    board.supervisor.state.actions_end.send_replace(false);
    let mut by_stick = wanted.assignment.clone();
    by_stick.role = coracle_protocol::deploy::AssignmentRole::OfflineDeploy;
    let deploy = wanted.signed(&by_stick, Role::OfflineDeploy);
    let (activity, answer) = board.stick(&deploy).await;
    let is_staged = || board.has_said(&activity, Phase::Staging);
    support::until("the stick's set is staged", is_staged).await;
    let before = board.supervisor.asked();
    wish(&board.client, &two).await;
    board.until_refused("repeated", 1).await;
    let three = Desired {
        activity: "three".into(),
        ..two
    };
    wish(&board.client, &three).await;
    board.until_refused("repeated", 2).await;
    assert_eq!(board.supervisor.asked(), before);
    // One that was not refused before takes its place until it is.
    wish(&board.client, &newer("four", wanted, |d| d.seq += 1)).await;
    support::until("four", || heard.ended("four").is_some()).await;
    assert_eq!(heard.ended("four").unwrap().phase, Phase::Refused);

    board.supervisor.state.actions_end.send_replace(true);
    support::until("the stick's end", || heard.ended(&activity).is_some()).await;
    let stick = heard.ended(&activity).unwrap();
    assert_eq!(stick.phase, Phase::Committed, "{stick:?}");
    support::until("three", || heard.ended("three").is_some()).await;
    drop(answer);
}

/// What the supervisor says of the set that it has beside the one that runs.
fn waiting(code: &str, deployment: coracle_protocol::Sha256Digest) -> Option<Waiting> {
    Some(Waiting {
        activity: "one".into(),
        deployment,
        version: "1.0".into(),
        code: code.into(),
        reason: "in words".into(),
    })
}

/// The board was just being switched to it: whoever wished it hears why it did not stay, whatever it was to give way to.
#[tokio::test]
async fn what_gave_way_too_late_and_did_not_stay_is_told_as_rolled_back() {
    let mut accepts = accept(vec![]);
    let mut is_switched = true;
    let mut one = None;
    let board = one_meets(move |request, state| match request {
        Request::Offer {
            activity, deploy, ..
        } if activity == "one" => {
            let payload = deploy.payload_unverified().unwrap();
            one = Some(coracle_protocol::Sha256Digest::of(&payload));
            accepts(request, state)
        }
        Request::Activate { activity } if activity == "one" => {
            let event = Event::Deployment {
                activity: activity.clone(),
                phase: Phase::Waiting,
                code: Some("update-lock".into()),
                reason: None,
            };
            state.events.send(event).unwrap();
            None
        }
        Request::Offer { activity, .. } if activity == "two" && is_switched => {
            state.status.lock().unwrap().waiting = waiting(SWITCHING, one.unwrap());
            accepts(request, state)
        }
        Request::Activate { activity } if activity == "two" && std::mem::take(&mut is_switched) => {
            Some(Answer::Failed {
                code: "busy".into(),
                reason: "another deployment is under way".into(),
            })
        }
        other => accepts(other, state),
    })
    .await;
    let heard = &board.heard;
    let waits = |activity| board.has_said(activity, Phase::Waiting);
    support::until("one waits", || waits("one")).await;
    wish(&board.client, &newer("two", &board.wanted, |_| ())).await;
    support::until("two waits", || waits("two")).await;
    assert!(board.has_said("one", Phase::Switching));
    assert_eq!(heard.ended("one"), None);
    {
        let mut status = board.supervisor.state.status.lock().unwrap();
        status.waiting = None;
        status.last_failure = Some("one did not stay (unhealthy): app `web` ended with 1".into());
    }
    let back = Event::Deployment {
        activity: "one".into(),
        phase: Phase::RolledBack,
        code: None,
        reason: None,
    };
    board.supervisor.state.events.send(back).unwrap();
    support::until("two", || heard.ended("two").is_some()).await;
    assert_eq!(heard.ended("two").unwrap().phase, Phase::Committed);
    let one = heard.ended("one").unwrap();
    assert_eq!(one.phase, Phase::RolledBack, "{one:?}");
    let reason = one.reason.unwrap();
    assert!(reason.ends_with("app `web` ended with 1"), "{reason}");
}

/// A newer one that runs already leaves the supervisor what waits there: it waits on, and is told as nothing else.
#[tokio::test]
async fn what_merely_waits_is_not_told_as_switched_to() {
    let mut accepts = accept(vec![]);
    let mut one = None;
    let board = one_meets(move |request, state| match request {
        Request::Offer {
            activity, deploy, ..
        } if activity == "one" => {
            let payload = deploy.payload_unverified().unwrap();
            one = Some(coracle_protocol::Sha256Digest::of(&payload));
            accepts(request, state)
        }
        Request::Activate { activity } if activity == "one" => {
            let event = Event::Deployment {
                activity: activity.clone(),
                phase: Phase::Waiting,
                code: Some("consent".into()),
                reason: None,
            };
            state.events.send(event).unwrap();
            state.status.lock().unwrap().waiting = waiting("consent", one.unwrap());
            None
        }
        Request::Offer {
            deploy, release, ..
        } => {
            let digest = |of: &Envelope| blob(&of.payload_unverified().unwrap()).digest;
            state.status.lock().unwrap().current = Some(SetStatus {
                deployment: digest(deploy),
                release: digest(release),
                product: "shop".into(),
                version: "1".into(),
                state: SetState::Committed,
                stale_since: None,
                apps: vec![],
            });
            Some(Answer::Needs(Needs {
                already: true,
                configs: vec![],
                layers: vec![],
            }))
        }
        other => accepts(other, state),
    })
    .await;
    let heard = &board.heard;
    let waits = || {
        let all: Vec<Feedback> = heard.all("feedback");
        all.iter().filter(|f| f.phase == Phase::Waiting).count()
    };
    support::until("one waits", || waits() == 1).await;
    wish(&board.client, &newer("two", &board.wanted, |_| ())).await;
    support::until("two", || heard.ended("two").is_some()).await;
    support::until("one waits on", || waits() == 2).await;
    assert!(!board.has_said("one", Phase::Switching));
    assert_eq!(heard.ended("one"), None);
}

/// A console's wish that came too late for a stick's set waits for its end, and whoever wished it hears what became of it.
#[tokio::test]
async fn a_wish_that_is_older_than_a_sticks_has_its_turn_and_is_told() {
    let mut accepts = accept(vec![]);
    let mut waits = true;
    let board = one_meets(move |request, state| match request {
        Request::Activate { activity } if activity.starts_with("local-") && waits => {
            waits = false;
            let event = Event::Deployment {
                activity: activity.clone(),
                phase: Phase::Waiting,
                code: Some("consent".into()),
                reason: None,
            };
            state.events.send(event).unwrap();
            None
        }
        Request::Offer { activity, .. } if activity == "late" => Some(Answer::Refused {
            code: "older-than-other-role".into(),
            reason: "the assignment was issued at 50".into(),
        }),
        other => accepts(other, state),
    })
    .await;
    let (wanted, heard) = (&board.wanted, &board.heard);
    support::until("one", || heard.ended("one").is_some()).await;
    let mut by_stick = wanted.assignment.clone();
    by_stick.role = coracle_protocol::deploy::AssignmentRole::OfflineDeploy;
    by_stick.issued_at = 100;
    let deploy = wanted.signed(&by_stick, Role::OfflineDeploy);
    let (activity, answer) = board.stick(&deploy).await;
    let stick_waits = || board.has_said(&activity, Phase::Waiting);
    support::until("the stick's set waits", stick_waits).await;
    wish(&board.client, &newer("late", wanted, |d| d.issued_at = 50)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((heard.ended(&activity), heard.ended("late")), (None, None));

    let kept = Event::Deployment {
        activity: activity.clone(),
        phase: Phase::Committed,
        code: None,
        reason: None,
    };
    board.supervisor.state.events.send(kept).unwrap();
    support::until("the late one's end", || heard.ended("late").is_some()).await;
    let late = heard.ended("late").unwrap();
    assert_eq!(
        (late.phase, late.code.as_deref()),
        (Phase::Refused, Some("older-than-other-role"))
    );
    assert_eq!(heard.ended(&activity).unwrap().phase, Phase::Committed);
    drop(answer);
}

/// Until the supervisor has taken the newer one it may switch to what waits there, and nobody is told that this was taken back.
#[tokio::test]
async fn what_waits_on_the_board_has_not_ended_before_the_supervisor_let_go_of_it() {
    let mut accepts = accept(vec![]);
    let board = one_meets(move |request, state| match request {
        Request::Activate { activity } if activity == "one" => {
            let event = Event::Deployment {
                activity: activity.clone(),
                phase: Phase::Waiting,
                code: Some("consent".into()),
                reason: None,
            };
            state.events.send(event).unwrap();
            None
        }
        Request::Offer { activity, .. } if activity == "refused" => Some(Answer::Refused {
            code: "over-budget".into(),
            reason: "it does not fit".into(),
        }),
        // Just then the board is switched to what waited.
        Request::Offer {
            activity, deploy, ..
        } if activity == "late" => {
            let payload = deploy.payload_unverified().unwrap();
            let late = coracle_protocol::Sha256Digest::of(&payload);
            let calls = state.calls.lock().unwrap();
            let one = calls.iter().find_map(|call| match call {
                Request::Offer { deploy, .. } => deploy.payload_unverified().ok(),
                _ => None,
            });
            let one = coracle_protocol::Sha256Digest::of(&one.unwrap());
            assert_ne!(one, late);
            state.status.lock().unwrap().current = Some(SetStatus {
                deployment: one,
                release: blob(b"release").digest,
                product: "shop".into(),
                version: "1".into(),
                state: SetState::Trial,
                stale_since: None,
                apps: vec![],
            });
            accepts(request, state)
        }
        Request::Activate { activity } if activity == "late" => {
            let mut status = state.status.lock().unwrap();
            status.current.as_mut().unwrap().state = SetState::Committed;
            Some(Answer::Refused {
                code: "old-release".into(),
                reason: "release counter".into(),
            })
        }
        Request::Offer { .. } if state.status.lock().unwrap().current.is_some() => {
            Some(Answer::Needs(Needs {
                already: true,
                configs: vec![],
                layers: vec![],
            }))
        }
        other => accepts(other, state),
    })
    .await;
    let heard = &board.heard;
    let of_one = || {
        let mut all = heard.all::<Feedback>("feedback");
        all.retain(|f| f.activity == "one");
        all
    };
    let waits = |n| {
        of_one()
            .iter()
            .filter(|f| f.phase == Phase::Waiting)
            .count()
            == n
    };
    support::until("that it waits", || waits(1)).await;
    wish(&board.client, &newer("refused", &board.wanted, |_| ())).await;
    support::until("the refusal", || heard.ended("refused").is_some()).await;
    support::until("that it waits on", || waits(2)).await;
    assert_eq!(heard.ended("one"), None);

    wish(&board.client, &newer("late", &board.wanted, |d| d.seq += 1)).await;
    support::until("how it ended", || heard.ended("one").is_some()).await;
    assert_eq!(heard.ended("one").unwrap().phase, Phase::Committed);
    assert_eq!(
        heard.ended("late").unwrap().code.as_deref(),
        Some("old-release")
    );
    let all = heard.all::<Feedback>("feedback");
    let at = |word: &dyn Fn(&Feedback) -> bool| all.iter().position(word).unwrap();
    let switched = at(&|f| f.activity == "one" && f.phase == Phase::Switching);
    assert!(switched < at(&|f| f.activity == "late" && f.phase.is_end()));
}

#[tokio::test]
async fn a_deployment_over_mqtt_and_again_after_restarts() {
    let fleet = Arc::new(Fleet::new());
    let documents = documents(BOARD, 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    // The delta is not at the console: the full layer serves.
    let (blobs, asked) = console(fleet.clone(), &[CONFIG, LAYER]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    let port = broker.port;
    fleet.enrol(&daemon.state().join("identity"), blobs, port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), accept(vec![DELTA]));
    let (client, heard) = listen(&fleet, port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    support::until("what runs", || !heard.all::<Current>("current").is_empty()).await;
    wish(&client, &desired("one", &documents)).await;
    support::until("the end", || heard.ended("one").is_some()).await;
    let end = heard.ended("one").unwrap();
    assert_eq!(end.phase, Phase::Committed, "{end:?}");
    assert_eq!(
        end.fetched.unwrap().wire_bytes,
        (CONFIG.len() + LAYER.len()) as u64
    );
    assert_eq!(supervisor.asked(), ["offer", "stage full", "activate"]);
    let path = format!("/blobs/sha256/{}", blob(DELTA).digest.hex());
    assert!(
        asked.lock().unwrap().contains(&path),
        "the delta was tried first"
    );
    let calls = supervisor.state.calls.lock().unwrap().clone();
    let board = BoardId::new(BOARD).unwrap();
    assert!(calls.contains(&Request::Identity { board }));

    let memory = daemon.proc("smaps_rollup");
    let pss = memory.lines().find(|l| l.starts_with("Pss:")).unwrap();
    eprintln!("coracled with the link up, after a deployment: {pss}");
    // What that took is given back: pages of the program, which has a few hundred.
    let program = |daemon: &Daemon| -> u64 {
        let (mut inside, mut kib) = (false, 0);
        for line in daemon.proc("smaps").lines() {
            match line.split_once(char::is_whitespace) {
                Some((key, _)) if !key.ends_with(':') => inside = line.ends_with("coracled"),
                Some(("Rss:", value)) if inside => {
                    kib += value.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
                _ => {}
            }
        }
        kib
    };
    let busy = program(&daemon);
    support::until("a rest", || program(&daemon) < busy * 3 / 4).await;

    // A crash: the will tells, and the retained wish starts nothing again.
    let first = heard.online().unwrap().session;
    daemon.kill();
    support::until("the will", || heard.online().is_some_and(|p| !p.online)).await;
    daemon.start().await;
    support::until("a new birth", || heard.online().is_some_and(|p| p.online)).await;
    assert!(heard.online().unwrap().session > first);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        supervisor.asked(),
        ["offer", "stage full", "activate"],
        "the same wish is no work"
    );
    let versions: Vec<u64> = heard
        .all::<Current>("current")
        .iter()
        .map(|c| c.version)
        .collect();
    assert!(versions.is_sorted() && versions.len() >= 2, "{versions:?}");

    // The broker goes away and comes back: the link does too, with a session of its own.
    let before = heard.online().unwrap().session;
    drop(broker);
    let _broker = Broker::start(&fleet, daemon.folder(), port).await;
    // A board that was kicked waits up to half a minute, so that a fleet comes back spread out.
    support::until_within(60, "the link", || {
        heard.online().is_some_and(|p| p.session > before)
    })
    .await;

    // SIGTERM says good-bye at once.
    assert!(daemon.terminate().success(), "{}", daemon.log());
    support::until("the farewell", || heard.online().is_some_and(|p| !p.online)).await;
}

/// Every two seconds at most; the delta is not to be had, and the full layer takes a while.
#[tokio::test]
async fn which_blob_comes_is_told_with_how_much_of_it_is_here_and_from_whom() {
    let fleet = Arc::new(Fleet::new());
    let documents = documents(BOARD, 1);
    let mut daemon = Daemon::prepare();
    let file = daemon.folder().join("coracle.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "[downloads]\nbytes_per_second = 100000\n").unwrap();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    let large: &'static [u8] = vec![7; 600_000].leak();
    let (blobs, _) = console(fleet.clone(), &[CONFIG, large]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    let port = broker.port;
    fleet.enrol(&daemon.state().join("identity"), blobs, port);
    let mut small = accept(vec![DELTA]);
    let _supervisor =
        FakeSupervisor::start(
            &daemon.supervisor_socket(),
            move |request, state| match small(request, state) {
                Some(Answer::Needs(mut needs)) => {
                    needs.layers[0].full = blob(large);
                    Some(Answer::Needs(needs))
                }
                other => other,
            },
        );
    let (client, heard) = listen(&fleet, port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    wish(&client, &desired("one", &documents)).await;
    support::until("the end", || heard.ended("one").is_some()).await;
    let all: Vec<Feedback> = heard.all("feedback");
    let told: Vec<&Feedback> = all.iter().filter(|f| f.blob.is_some()).collect();
    // Six seconds of bytes.
    assert!((1..=3).contains(&told.len()), "{all:?}");
    for feedback in told {
        let words = feedback.blob.as_deref().unwrap();
        let here = words.strip_prefix("layer 1 of 1 of web: ").unwrap();
        let here = here.strip_suffix(" of 600000 bytes, from the console");
        let here: u64 = here.unwrap_or_else(|| panic!("{words}")).parse().unwrap();
        assert!(here > 100_000 && here <= 600_000, "{words}");
        assert_eq!(feedback.phase, Phase::Fetching);
        assert!(feedback.percent.unwrap() > 0);
    }
    assert_eq!(heard.ended("one").unwrap().blob, None);
}

#[tokio::test]
async fn a_refusal_reaches_the_console_and_what_was_said_offline_does_later() {
    let fleet = Arc::new(Fleet::new());
    let (mine, other) = (documents(BOARD, 1), documents("acme.board-2", 1));
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), other.root.to_json()).unwrap();
    let (blobs, _) = console(fleet.clone(), &[CONFIG, LAYER]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    let port = broker.port;
    fleet.enrol(&daemon.state().join("identity"), blobs, port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), accept(vec![]));
    let (client, heard) = listen(&fleet, port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    wish(&client, &desired("for-another", &other)).await;
    support::until("the refusal", || heard.ended("for-another").is_some()).await;
    let end = heard.ended("for-another").unwrap();
    assert_eq!(
        (end.phase, end.code.as_deref()),
        (Phase::Refused, Some("wrong-board"))
    );
    wish(&client, &desired("forged", &mine)).await;
    support::until("the refusal", || heard.ended("forged").is_some()).await;
    assert_eq!(
        heard.ended("forged").unwrap().code.as_deref(),
        Some("bad-signature")
    );
    assert!(supervisor.asked().is_empty(), "it never came to an offer");

    // Feedback without a link waits on disk and survives the daemon.
    drop(broker);
    daemon.kill();
    let spool = daemon.state().join("spool/feedback");
    let waiting = Feedback {
        activity: "offline".into(),
        sequence: 0,
        phase: Phase::Committed,
        percent: None,
        code: None,
        reason: None,
        fetched: None,
        blob: None,
    };
    let file = spool.join(format!("{:020}.json", 7));
    std::fs::write(&file, serde_json::to_vec(&waiting).unwrap()).unwrap();
    daemon.start().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(file.exists(), "nobody took it yet");
    daemon.kill();
    let _broker = Broker::start(&fleet, daemon.folder(), port).await;
    // This console forgets its subscription with the broker; it must be back first.
    support::until("the console", || heard.all::<u8>("suback").len() == 2).await;
    daemon.start().await;
    support::until("what waited", || heard.ended("offline").is_some()).await;
    support::until("an empty spool", || !file.exists()).await;
}

#[tokio::test]
async fn a_newer_wish_takes_the_place_of_one_that_is_being_fetched() {
    let fleet = Arc::new(Fleet::new());
    let documents = documents(BOARD, 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    // Nobody serves blobs there: the fetch is tried again and again.
    fleet.enrol(&daemon.state().join("identity"), free_port(), broker.port);
    let mut fetching = accept(vec![]);
    let supervisor =
        FakeSupervisor::start(
            &daemon.supervisor_socket(),
            move |request, state| match request {
                Request::Offer { activity, .. } if activity.as_str() == "newer" => {
                    Some(Answer::Needs(Needs {
                        already: true,
                        configs: vec![],
                        layers: vec![],
                    }))
                }
                _ => fetching(request, state),
            },
        );
    // It runs, as the supervisor says of the newer one.
    let newer = newer("newer", &documents, |_| ());
    let Document::Inline(deploy) = &newer.deploy else {
        panic!("{newer:?}");
    };
    let payload = deploy.payload_unverified().unwrap();
    supervisor.state.status.lock().unwrap().current = Some(SetStatus {
        deployment: coracle_protocol::Sha256Digest::of(&payload),
        release: blob(b"release").digest,
        product: "shop".into(),
        version: "1".into(),
        state: SetState::Committed,
        stale_since: None,
        apps: vec![],
    });
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    wish(&client, &desired("older", &documents)).await;
    support::until("the fetch", || {
        let all: Vec<Feedback> = heard.all("feedback");
        all.iter().any(|f| f.phase == Phase::Fetching)
    })
    .await;
    wish(&client, &newer).await;
    support::until("both ends", || {
        heard.ended("older").is_some() && heard.ended("newer").is_some()
    })
    .await;
    let older = heard.ended("older").unwrap();
    assert_eq!(
        (older.phase, older.code.as_deref()),
        (Phase::Failed, Some("superseded"))
    );
    assert_eq!(heard.ended("newer").unwrap().phase, Phase::Committed);
}

/// The supervisor counts what lies in the store as used.
#[tokio::test]
async fn what_another_deployment_left_makes_room_for_one_that_does_not_fit() {
    let fleet = Arc::new(Fleet::new());
    let documents = documents(BOARD, 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    let store = BlobStore::open(daemon.state().join("store")).unwrap();
    let left = store.put(b"of another deployment").unwrap();
    let mut part = store
        .download(blob(LAYER).digest, LAYER.len() as u64)
        .unwrap();
    part.write(&LAYER[..9]).unwrap();
    drop(part);
    let part = store.path(&blob(LAYER).digest).with_extension("part");
    let (blobs, _) = console(fleet.clone(), &[CONFIG, LAYER]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), blobs, broker.port);
    let (mut fetching, of_another) = (accept(vec![]), store.path(&left));
    let _supervisor =
        FakeSupervisor::start(
            &daemon.supervisor_socket(),
            move |request, state| match request {
                Request::Offer { .. } if of_another.exists() || !part.exists() => {
                    Some(Answer::Refused {
                        code: "over-budget".into(),
                        reason: "it does not fit".into(),
                    })
                }
                _ => fetching(request, state),
            },
        );
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    wish(&client, &desired("one", &documents)).await;
    support::until("the end", || heard.ended("one").is_some()).await;
    let end = heard.ended("one").unwrap();
    assert_eq!(end.phase, Phase::Committed, "{end:?}");
}

#[tokio::test]
async fn a_board_speaks_where_its_enrolment_says() {
    let fleet = Arc::new(Fleet::new());
    let wanted = documents(BOARD, 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), wanted.root.to_json()).unwrap();
    let (port, _) = console(fleet.clone(), &[CONFIG, LAYER]).await;
    let colon = BOARD.replace('.', ":");
    let broker = Broker::start_with(&fleet, daemon.folder(), free_port(), &colon).await;
    let (client, heard) = listen(&fleet, broker.port);
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), accept(vec![]));
    daemon.start().await;
    let file = serde_json::json!({
        "board": BOARD, "console_url": format!("https://127.0.0.1:{port}"),
        "mqtt": format!("127.0.0.1:{}", broker.port), "ca_pem": fleet.ca_pem, "token": "good",
        "topic_separator": ":",
    });
    let file = file.to_string();
    let path = "/coracle/v1/enrol";
    let (status, answer) = daemon.json(Method::POST, path, file.as_bytes()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    let options = rumqttc::PublishOptions::at_least_once().retained();
    let wish = serde_json::to_vec(&desired("one", &wanted)).unwrap();
    let topic = format!("coracle/v1/{colon}/desired");
    client.publish(topic, wish, options).await.unwrap();
    support::until("the end", || heard.ended("one").is_some()).await;
    assert_eq!(heard.ended("one").unwrap().phase, Phase::Committed);

    // It is kept with the enrolment.
    daemon.kill();
    daemon.start().await;
    let births = || {
        heard
            .all::<Presence>("presence")
            .into_iter()
            .filter(|p| p.online)
            .count()
    };
    support::until("the second birth", || births() == 2).await;
}

#[tokio::test]
async fn enrolment_makes_a_key_and_a_link() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let (port, _) = console(fleet.clone(), &[]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    let (_client, heard) = listen(&fleet, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    daemon.start().await;
    let file = |token: &str, ca: &str| {
        serde_json::to_vec(&serde_json::json!({
            "board": BOARD, "console_url": format!("https://127.0.0.1:{port}"),
            "mqtt": format!("127.0.0.1:{}", broker.port), "ca_pem": ca, "token": token
        }))
        .unwrap()
    };
    let path = "/coracle/v1/enrol";
    let (status, error) = daemon
        .json(hyper::Method::POST, path, &file("bad", &fleet.ca_pem))
        .await;
    assert_eq!(status, 403);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("the token was used"),
        "{error}"
    );
    let stranger = Fleet::new().ca_pem;
    let (status, _) = daemon
        .json(hyper::Method::POST, path, &file("good", &stranger))
        .await;
    assert_eq!(
        status, 502,
        "a console that the file's CA did not sign hears no token"
    );
    assert!(!daemon.state().join("identity/enrolment.json").exists());
    let (status, answer) = daemon
        .json(hyper::Method::POST, path, &file("good", &fleet.ca_pem))
        .await;
    assert_eq!(
        (status.as_u16(), answer["board"].as_str()),
        (200, Some(BOARD))
    );
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    // Unasked too: whoever was decommissioned a moment ago is so no more.
    let calls = supervisor.state.calls.lock().unwrap().clone();
    assert!(calls.contains(&Request::Enrolled), "{calls:?}");
    use std::os::unix::fs::PermissionsExt;
    let key = daemon.state().join("identity/board.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_enrolment_that_is_cut_off_leaves_no_pair_that_could_take_its_place() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let (port, _) = console(fleet.clone(), &[]).await;
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    daemon.start().await;
    let identity = daemon.state().join("identity");
    // Of an earlier identity; and the new one cannot be written.
    std::fs::create_dir_all(identity.join("board.key/full")).unwrap();
    std::fs::write(identity.join("renewed.key"), "of an earlier identity").unwrap();
    let file = serde_json::json!({
        "board": BOARD, "console_url": format!("https://127.0.0.1:{port}"),
        "mqtt": "127.0.0.1:1", "ca_pem": fleet.ca_pem, "token": "good"
    });
    let (status, said) = daemon
        .json(
            hyper::Method::POST,
            "/coracle/v1/enrol",
            &serde_json::to_vec(&file).unwrap(),
        )
        .await;
    assert!(
        !status.is_success() && said.to_string().contains("board.key"),
        "{said}"
    );
    assert!(!identity.join("renewed.key").exists());
}

/// A supervisor that trusts version `have` and takes what is one higher.
fn trusting(have: u64) -> impl FnMut(&Request, &State) -> Option<Answer> + Send {
    let mut version = have;
    move |request, _| match request {
        Request::Trust => Some(Answer::Trust(Trusted {
            root: documents(BOARD, 1).root,
            state: TrustState {
                root_version: version,
                root: blob(b"root").digest,
                root_expires: 4_000_000_000,
                time: 1,
                clock_kept: false,
                secret_key: None,
                deploy: Counter::default(),
                offline_deploy: Counter::default(),
                releases: BTreeMap::new(),
                damage: None,
            },
        })),
        Request::Root { root } => match TrustedRoot::version_unverified(root) {
            Ok(next) if next == version + 1 => {
                version = next;
                Some(Answer::Done)
            }
            other => Some(Answer::Refused {
                code: "bad-root".into(),
                reason: format!("{other:?} after {version}"),
            }),
        },
        _ => None,
    }
}

/// A root with that version; the fake supervisor looks at nothing else.
fn root_of(version: u64) -> Envelope {
    let root = documents(BOARD, 1).root.payload_unverified().unwrap();
    let mut root: serde_json::Value = serde_json::from_slice(&root).unwrap();
    root["version"] = version.into();
    Envelope::unsigned(ROOT_TYPE, root.to_string().as_bytes())
}

#[tokio::test]
async fn a_new_root_comes_over_mqtt_and_those_between_from_the_console() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let roots: BTreeMap<String, Vec<u8>> = (2..=4)
        .map(|v| (format!("/root/{v}"), root_of(v).to_json()))
        .collect();
    let (blobs, asked) = console_with(fleet.clone(), &[], roots).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), blobs, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), trusting(1));
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    let given = || -> Vec<u64> {
        let calls = supervisor.state.calls.lock().unwrap();
        calls
            .iter()
            .filter_map(|call| match call {
                Request::Root { root } => TrustedRoot::version_unverified(root).ok(),
                _ => None,
            })
            .collect()
    };
    let tell = async |version: u64, root: Option<Envelope>| {
        let options = rumqttc::PublishOptions::at_least_once().retained();
        let json = serde_json::to_vec(&RootNotice { version, root }).unwrap();
        client.publish(ROOT_NOTICE, json, options).await.unwrap();
    };
    // The next one, in the message: nobody is asked for anything.
    tell(2, Some(root_of(2))).await;
    support::until("version 2", || given() == [2]).await;
    assert!(asked.lock().unwrap().iter().all(|p| !p.contains("root")));
    // Two have been missed.
    tell(4, Some(root_of(4))).await;
    support::until("version 4", || given() == [2, 3, 4]).await;
    // Known ones and nonsense are no work.
    tell(3, Some(root_of(3))).await;
    client
        .publish(
            ROOT_NOTICE,
            b"{}".to_vec(),
            rumqttc::PublishOptions::at_least_once(),
        )
        .await
        .unwrap();
    // The retained notice comes again after a crash.
    daemon.kill();
    daemon.start().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(given(), [2, 3, 4]);
}

#[tokio::test]
async fn a_root_from_a_stick_goes_to_the_supervisor() {
    let mut daemon = Daemon::prepare();
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), trusting(1));
    daemon.start().await;
    let put = async |version: u64| {
        let body = serde_json::json!({"root": root_of(version)}).to_string();
        let path = "/coracle/v1/root";
        daemon
            .json(hyper::Method::POST, path, body.as_bytes())
            .await
    };
    support::until("the supervisor", || {
        daemon.log().contains("ready") && daemon.supervisor_socket().exists()
    })
    .await;
    let (status, answer) = put(3).await;
    assert_eq!(status, 403, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("after 1"),
        "{answer}"
    );
    assert_eq!(put(2).await.0, 204);
}

/// A command as a console signs it; this daemon's supervisor looks at nothing.
fn command(seq: u64, action: Action) -> Envelope {
    let command = coracle_protocol::command::Command {
        spec_version: 1,
        critical: vec![],
        board: BoardId::new(BOARD).unwrap(),
        epoch: 1,
        seq,
        issued_at: 1,
        expires: 2,
        action,
    };
    Envelope::unsigned(COMMAND_TYPE, &serde_json::to_vec(&command).unwrap())
}

fn restart_of(app: &str) -> Action {
    let app = AppName::new(app).unwrap();
    Action::Restart { app }
}

async fn send(console: &rumqttc::AsyncClient, command: &Envelope, retained: bool) {
    let options = rumqttc::PublishOptions::at_least_once();
    let options = if retained {
        options.retained()
    } else {
        options
    };
    let topic = format!("coracle/v1/{BOARD}/command");
    console
        .publish(topic, command.to_json(), options)
        .await
        .unwrap();
}

/// All messages of a command's result, when they are there.
fn result_of(heard: &Heard, command: &Envelope) -> Option<(Option<String>, String)> {
    let id = coracle_protocol::Sha256Digest::of(&command.payload_unverified().unwrap());
    let all: Vec<CommandResult> = heard.all("command-result");
    let mut parts: Vec<_> = all.into_iter().filter(|r| r.command == id).collect();
    let most = usize::try_from(parts.first()?.parts).unwrap();
    (parts.len() == most).then_some(())?;
    parts.sort_by_key(|r| r.part);
    let text = parts.iter().map(|r| r.text.as_str()).collect();
    Some((parts[0].code.clone(), text))
}

/// What a supervisor says that knows the app `web` alone.
fn obey(request: &Request, _: &State) -> Option<Answer> {
    let Request::Command { command } = request else {
        return None;
    };
    let command: coracle_protocol::command::Command =
        serde_json::from_slice(&command.payload_unverified().unwrap()).unwrap();
    Some(match command.action.app().unwrap().as_str() {
        "web" if matches!(command.action, Action::Run { .. }) => Answer::Ran {
            fault: (command.seq == 7).then(|| "exited with 3".into()),
            output: "half done".into(),
            command,
        },
        "web" => Answer::Command { command },
        other => Answer::Failed {
            code: "no-app".into(),
            reason: format!("no app `{other}` is in the running set"),
        },
    })
}

fn commands_of(supervisor: &FakeSupervisor) -> usize {
    let calls = supervisor.state.calls.lock().unwrap();
    calls
        .iter()
        .filter(|call| matches!(call, Request::Command { .. }))
        .count()
}

#[tokio::test]
async fn commands_go_to_the_supervisor_and_their_results_to_the_console() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), 1, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), obey);
    let (client, heard) = listen(&fleet, broker.port);
    support::until("the console", || !heard.all::<u8>("suback").is_empty()).await;
    // Neither what somebody retained nor what came while the board was away is for now.
    send(&client, &command(1, restart_of("web")), true).await;
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;

    let restart = command(2, restart_of("web"));
    send(&client, &restart, false).await;
    support::until("a result", || result_of(&heard, &restart).is_some()).await;
    let (code, text) = result_of(&heard, &restart).unwrap();
    assert_eq!(
        (code, text.as_str()),
        (None, "app `web` is being restarted")
    );
    // The same once more is no other command.
    send(&client, &restart, false).await;

    let unknown = command(3, restart_of("nobody"));
    send(&client, &unknown, false).await;
    support::until("a refusal", || result_of(&heard, &unknown).is_some()).await;
    let (code, text) = result_of(&heard, &unknown).unwrap();
    assert_eq!(code.as_deref(), Some("no-app"));
    assert!(text.contains("`nobody`"), "{text}");
    assert_eq!(commands_of(&supervisor), 2);

    let folder = daemon.state().join("logs/web");
    std::fs::create_dir_all(&folder).unwrap();
    let said = |n: u32| format!("line {n} {}", "\"x\"".repeat(30));
    let lines: String = (0..3000)
        .map(|n| {
            let line = serde_json::json!({"log": said(n) + "\n", "stream": "stdout", "time": "2027-01-01T00:00:00Z"});
            format!("{line}\n")
        })
        .collect();
    std::fs::write(folder.join("json.log"), lines).unwrap();
    let logs = |tail| Action::Logs {
        app: AppName::new("web").unwrap(),
        tail,
    };
    let few = command(4, logs(2));
    send(&client, &few, false).await;
    support::until("two lines", || result_of(&heard, &few).is_some()).await;
    let expected: String = (2998..3000)
        .map(|n| format!("2027-01-01T00:00:00Z {}\n", said(n)))
        .collect();
    assert_eq!(result_of(&heard, &few).unwrap(), (None, expected));
    let many = command(5, logs(1000));
    send(&client, &many, false).await;
    support::until("many lines", || result_of(&heard, &many).is_some()).await;
    let (code, text) = result_of(&heard, &many).unwrap();
    assert_eq!(code, None);
    assert!(text.ends_with(&format!("{}\n", said(2999))));
    let lines = text.lines().count();
    assert!((300..1000).contains(&lines), "{lines} lines in 64 KiB");
    let parts = heard.all::<CommandResult>("command-result");
    assert!(parts.iter().any(|part| part.parts > 5));

    let action = |seq| {
        let app = AppName::new("web").unwrap();
        let name = coracle_protocol::names::ActionName::new("reindex").unwrap();
        command(seq, Action::Run { app, name })
    };
    let failed = Some("action-failed".to_owned());
    for (action, code, says) in [
        (action(6), None, "half done"),
        (action(7), failed, "half done\nexited with 3"),
    ] {
        send(&client, &action, false).await;
        support::until("an action", || result_of(&heard, &action).is_some()).await;
        let result = result_of(&heard, &action).unwrap();
        assert_eq!(result, (code, says.to_owned()));
    }
    assert!(!daemon.log().contains("half done"));
}

#[tokio::test]
async fn a_long_action_keeps_no_other_command_waiting() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), 1, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), obey);
    supervisor.state.actions_end.send_replace(false);
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    let action = |seq| {
        let app = AppName::new("web").unwrap();
        let name = coracle_protocol::names::ActionName::new("reindex").unwrap();
        command(seq, Action::Run { app, name })
    };
    let (long, restart, second) = (action(6), command(7, restart_of("web")), action(8));
    for command in [&long, &restart, &second] {
        send(&client, command, false).await;
    }
    support::until("the others", || result_of(&heard, &second).is_some()).await;
    let (code, text) = result_of(&heard, &restart).unwrap();
    assert_eq!(
        (code, text.as_str()),
        (None, "app `web` is being restarted")
    );
    let (code, text) = result_of(&heard, &second).unwrap();
    assert_eq!(code.as_deref(), Some("busy"));
    assert!(text.contains("send it again"), "{text}");
    assert_eq!(result_of(&heard, &long), None);
    assert_eq!(commands_of(&supervisor), 2);

    supervisor.state.actions_end.send_replace(true);
    support::until("its end", || result_of(&heard, &long).is_some()).await;
    assert_eq!(
        result_of(&heard, &long).unwrap(),
        (None, "half done".to_owned())
    );
    // The next may come.
    send(&client, &second, false).await;
    support::until("the next call", || commands_of(&supervisor) == 3).await;
}

#[tokio::test]
async fn too_many_commands_at_once_are_told_so_and_wait_their_turn() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), 1, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), obey);
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    let commands: Vec<_> = (1..=20)
        .map(|seq| command(seq, restart_of("web")))
        .collect();
    let begin = std::time::Instant::now();
    for command in &commands {
        send(&client, command, false).await;
    }
    let results = || -> Vec<_> {
        let all = commands.iter();
        all.filter_map(|command| result_of(&heard, command))
            .collect()
    };
    support::until("twenty results", || results().len() == 20).await;
    let results = results();
    let done = results.iter().filter(|(code, _)| code.is_none()).count();
    let busy = results
        .iter()
        .filter(|(code, _)| code.as_deref() == Some("busy"));
    assert_eq!(done + busy.count(), 20);
    assert!((2..=6).contains(&done), "{done} were done");
    assert_eq!(commands_of(&supervisor), done);
    let least = Duration::from_secs(done as u64 - 1);
    assert!(begin.elapsed() >= least, "{:?} for {done}", begin.elapsed());
}

#[tokio::test]
async fn a_decommissioned_board_says_so_once_and_connects_no_more() {
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), 1, broker.port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    let (_client, heard) = listen(&fleet, broker.port);
    support::until("the console", || !heard.all::<u8>("suback").is_empty()).await;
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;
    let words = || -> Vec<bool> {
        let all: Vec<Current> = heard.all("current");
        all.iter().map(|current| current.decommissioned).collect()
    };
    support::until("what runs", || words() == [false]).await;

    // As the next supervisor would say.
    supervisor.state.status.lock().unwrap().decommissioned = true;
    let _ = supervisor.state.events.send(Event::Root { version: 1 });
    support::until("its last word", || words() == [false, true]).await;
    support::until("its end", || heard.online().is_some_and(|p| !p.online)).await;
    let sessions = heard.all::<Presence>("presence").len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(heard.all::<Presence>("presence").len(), sessions);
    assert_eq!(words(), [false, true]);
    let log = daemon.log();
    assert!(
        log.contains("connects no more until it is enrolled"),
        "{log}"
    );
}

/// A broker in foreign hands, or a console with a fault: a hundred of each kind of message that is of no use.
#[tokio::test]
async fn a_flood_of_odd_messages_is_told_once_and_counted_and_holds_nothing_up() {
    let fleet = Arc::new(Fleet::new());
    let documents = documents(BOARD, 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    let (blobs, _) = console(fleet.clone(), &[CONFIG, LAYER]).await;
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    fleet.enrol(&daemon.state().join("identity"), blobs, broker.port);
    let mut good = accept(vec![]);
    let supervisor =
        FakeSupervisor::start(
            &daemon.supervisor_socket(),
            move |request, state| match request {
                Request::Offer { activity, .. } if activity.starts_with("old") => {
                    Some(Answer::Refused {
                        code: "old-assignment".into(),
                        reason: "assignment (1, 1) is not above (1, 7)".into(),
                    })
                }
                _ => good(request, state),
            },
        );
    let (client, heard) = listen(&fleet, broker.port);
    daemon.start().await;
    support::until("the birth", || heard.online().is_some_and(|p| p.online)).await;

    let send = async |payload: Vec<u8>| {
        let options = rumqttc::PublishOptions::at_least_once();
        let topic = format!("coracle/v1/{BOARD}/desired");
        client.publish(topic, payload, options).await.unwrap();
    };
    let counted = async |daemon: &Daemon| -> BTreeMap<String, u64> {
        let reply = daemon.send(Method::GET, "/coracle/v1/metrics", b"").await;
        let text = reply.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.lines().filter_map(|line| {
            let line = line.strip_prefix("coracle_link_messages_refused_total{kind=\"")?;
            let (kind, count) = line.split_once("\"} ")?;
            Some((kind.to_owned(), count.parse().unwrap()))
        });
        lines.collect()
    };
    let until_counted = async |daemon: &Daemon, kinds: &[&str], wanted: u64| {
        for _ in 0..200 {
            let counted = counted(daemon).await;
            let sum: u64 = kinds.iter().map(|kind| counted[*kind]).sum();
            assert!(sum <= wanted, "{counted:?}");
            if sum == wanted {
                return counted;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{kinds:?} are not {wanted}: {:?}", counted(daemon).await);
    };
    let none = counted(&daemon).await;
    assert_eq!(none.len(), 5, "{none:?}");
    assert!(none.values().all(|count| *count == 0), "{none:?}");

    for _ in 0..100 {
        send(vec![b'x'; 9000]).await;
        send(b"{\"activity\":".to_vec()).await;
    }
    until_counted(&daemon, &["too-long"], 100).await;
    until_counted(&daemon, &["malformed"], 100).await;

    // What runs already, again and again; the queue to the deployments is short.
    let wish = |activity: &str| serde_json::to_vec(&desired(activity, &documents)).unwrap();
    send(wish("good")).await;
    support::until("the end", || heard.ended("good").is_some()).await;
    for _ in 0..100 {
        send(wish("good")).await;
    }
    let before = until_counted(&daemon, &["repeated", "dropped"], 100).await;
    assert!(before["repeated"] > 0, "{before:?}");

    // Replays under names of their own, which only the supervisor can tell.
    for number in 0..100 {
        send(wish(&format!("old-{number}"))).await;
    }
    // Each was dropped, was known beside the one that was under way, was found to be no newer, or is a deployment that ended.
    let ended = |code: &str| {
        let all: Vec<Feedback> = heard.all("feedback");
        let ended = all.iter().filter(|f| {
            f.activity.starts_with("old-") && f.phase.is_end() && f.code.as_deref() == Some(code)
        });
        ended.count() as u64
    };
    let mut after = counted(&daemon).await;
    for _ in 0..200 {
        if ended("old-assignment") > 0 && counted(&daemon).await == after {
            break;
        }
        // Metrics are up to a second old.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        after = counted(&daemon).await;
    }
    let refused = ended("old-assignment");
    assert!((refused..=100).contains(&after["old"]), "{after:?}");
    let since = |kind: &str| after[kind] - before[kind];
    let seen = since("dropped") + since("repeated") + after["old"] + ended("superseded");
    assert_eq!(seen, 100, "{after:?}");

    let log = daemon.log();
    for words in [
        "a message is too long; ignored",
        "a message cannot be read; ignored",
        "nothing new is wanted;",
    ] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
    assert!(log.matches("a desired state was dropped").count() <= 1);

    // It is as well as before.
    send(wish("after-all")).await;
    support::until("an honest wish", || heard.ended("after-all").is_some()).await;
    let end = heard.ended("after-all").unwrap();
    assert_eq!(end.phase, Phase::Committed, "{end:?}");
    let offers = supervisor.asked();
    let offers = offers.iter().filter(|what| **what == "offer").count() as u64;
    assert!(
        offers <= 2 + refused + ended("superseded"),
        "{offers} offers"
    );
    assert_eq!(heard.all::<Presence>("presence").len(), 1, "the link stood");
}

/// A board without a battery, and one whose clock somebody set ahead; what the supervisor says of the time decides.
#[tokio::test]
async fn a_clock_that_is_wrong_and_jumps_keeps_no_board_from_its_broker_unless_somebody_keeps_it() {
    const IN_1970: &str = "@1970-01-01 00:00:10";
    // Past the end of the broker's certificate.
    const IN_2090: &str = "@2090-01-01 00:00:00";
    let fleet = Arc::new(Fleet::new());
    let mut daemon = Daemon::prepare();
    daemon.set_clock(IN_1970);
    let broker = Broker::start(&fleet, daemon.folder(), free_port()).await;
    let port = broker.port;
    fleet.enrol(&daemon.state().join("identity"), 1, port);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    let trust = |clock_kept: bool| -> TrustState {
        let counter = serde_json::json!({"epoch": 0, "value": 0});
        let digest = coracle_protocol::Sha256Digest::of(b"root");
        let trust = serde_json::json!({"root_version": 1, "root": digest, "root_expires": 4_000_000_000_u64,
            "time": 1_800_000_000, "clock_kept": clock_kept, "deploy": counter, "offline_deploy": counter,
            "releases": {}});
        serde_json::from_value(trust).unwrap()
    };
    supervisor.state.status.lock().unwrap().trust = Some(trust(false));
    let (_client, heard) = listen(&fleet, port);
    support::until("the console", || !heard.all::<u8>("suback").is_empty()).await;
    let link = async |daemon: &Daemon| {
        let (_, status) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
        status["link"].clone()
    };
    let online = || heard.online().is_some_and(|p| p.online);

    daemon.start().await;
    support::until("the birth in 1970", online).await;
    let since = link(&daemon).await["since"].as_u64().unwrap();
    assert!(since < 86_400, "{since}");
    // What stands, stands on; what is new opens, wherever the clock goes.
    for clock in [IN_2090, IN_1970, IN_2090] {
        let births = heard.all::<Presence>("presence").len();
        daemon.set_clock(clock);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(heard.all::<Presence>("presence").len(), births, "{clock}");
        daemon.kill();
        support::until("the will", || !online()).await;
        daemon.start().await;
        support::until("the birth", online).await;
    }
    let since = link(&daemon).await["since"].as_u64().unwrap();
    assert!(since > 3_700_000_000, "{since}");

    // Somebody keeps it now, as it seems: then the certificate is over, and both times are told.
    supervisor.state.status.lock().unwrap().trust = Some(trust(true));
    let told = heard.all::<Current>("current").len();
    let _ = supervisor.state.events.send(Event::Root { version: 1 });
    support::until("it was told", || {
        heard.all::<Current>("current").len() > told
    })
    .await;
    drop(broker);
    let _broker = Broker::start(&fleet, daemon.folder(), port).await;
    let mut said = serde_json::Value::Null;
    for _ in 0..600 {
        said = link(&daemon).await;
        if said["error"].to_string().contains("clock is ahead") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let error = said["error"].to_string();
    for part in ["clock is ahead", "2090-01-01", "2027-01-15"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(said["connected"], false);

    // It is put right, and the link is back by itself.
    daemon.set_clock("+0");
    support::until_within(60, "the link under the right clock", || {
        heard.online().is_some_and(|p| p.online && p.session > 4)
    })
    .await;
}
