//! Fetches from a console that misbehaves, over real TLS.

mod support;

use coracle_board_support::config::{Downloads, MeteredPolicy};
use coracle_daemon::blobs::Blobs;
use coracle_daemon::fetch::gate::{Gate, Hold};
use coracle_daemon::fetch::{Came, FetchError, Fetcher, Patience, Source};
use coracle_daemon::identity::Endpoint;
use coracle_daemon::link::backoff::Backoff;
use coracle_protocol::release::Blob;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::documents::blob;
use support::fleet::Fleet;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the console does with one request: raw bytes, each after a pause.
type Step = Vec<(Duration, Vec<u8>)>;

struct Console {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Answers the first request with the first step, and so on; closes after each.
async fn console(fleet: &Fleet, steps: Vec<Step>) -> Console {
    let acceptor = tokio_rustls::TlsAcceptor::from(fleet.server());
    serve("127.0.0.1", Some(acceptor), steps).await
}

/// As [`console`]; without an acceptor it speaks plain HTTP.
async fn serve(
    host: &str,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    steps: Vec<Step>,
) -> Console {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    tokio::spawn(async move {
        for step in steps {
            let (tcp, _) = listener.accept().await.unwrap();
            match &acceptor {
                None => answer(tcp, step, &seen).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        answer(stream, step, &seen).await;
                    }
                }
            }
        }
    });
    Console { port, requests }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    step: Step,
    seen: &Mutex<Vec<String>>,
) {
    let request = support::head_of(&mut stream).await;
    seen.lock().unwrap().push(request);
    for (pause, bytes) in step {
        tokio::time::sleep(pause).await;
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

fn now(text: &str) -> Step {
    vec![(Duration::ZERO, text.as_bytes().to_vec())]
}

fn ok(body: &str) -> Step {
    now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn patience() -> Patience {
    Patience {
        fruitless_tries: 3,
        tries: 10,
        backoff: Backoff {
            first: Duration::from_millis(5),
            longest: Duration::from_millis(10),
        },
        longest_retry_after: Duration::from_secs(2),
        head: Duration::from_millis(700),
        window: Duration::from_millis(300),
        bytes_per_window: 10,
        mirror_bytes_per_window: 1000,
    }
}

struct Fetched {
    result: Result<(), FetchError>,
    requests: Vec<String>,
    came: u64,
    stored: bool,
    took: Duration,
}

/// Fetches `want` from a console that takes these steps.
async fn fetch(want: Blob, steps: Vec<Step>) -> Fetched {
    fetch_with(want, steps, patience()).await
}

async fn fetch_with(want: Blob, steps: Vec<Step>, patience: Patience) -> Fetched {
    let fleet = Fleet::new();
    let console = console(&fleet, steps).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: console.port,
    };
    let mut fetcher = Fetcher::new(endpoint, fleet.client(), blobs.clone(), patience);
    let begin = Instant::now();
    let mut came = 0;
    let mut progress = |piece: Came| came += piece.bytes;
    let fetching = fetcher.fetch(want, &mut progress);
    let result = tokio::time::timeout(Duration::from_secs(20), fetching)
        .await
        .expect("the fetch hangs");
    Fetched {
        result,
        requests: console.requests.lock().unwrap().clone(),
        came,
        stored: blobs.has(&want),
        took: begin.elapsed(),
    }
}

const BODY: &str = "0123456789abcdefghij";

#[tokio::test]
async fn a_whole_blob() {
    let got = fetch(blob(BODY.as_bytes()), vec![ok(BODY)]).await;
    got.result.unwrap();
    assert!(got.stored);
    assert_eq!(got.came, BODY.len() as u64);
    let path = format!("GET /blobs/sha256/{} ", blob(BODY.as_bytes()).digest.hex());
    assert!(got.requests[0].starts_with(&path), "{}", got.requests[0]);
}

#[tokio::test]
async fn cut_off_and_resumed_where_it_stopped() {
    let cut = now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        &BODY[..12]
    ));
    let rest = now(&format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 12-19/20\r\ncontent-length: 8\r\n\r\n{}",
        &BODY[12..]
    ));
    let got = fetch(blob(BODY.as_bytes()), vec![cut, rest]).await;
    got.result.unwrap();
    assert!(got.stored);
    assert!(got.requests[1].to_lowercase().contains("range: bytes=12-"));
    assert_eq!(got.came, 20, "no byte came twice");
}

#[tokio::test]
async fn a_console_without_ranges_begins_anew() {
    let cut = now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        &BODY[..12]
    ));
    let got = fetch(blob(BODY.as_bytes()), vec![cut, ok(BODY)]).await;
    got.result.unwrap();
    assert!(got.stored);
}

#[tokio::test]
async fn another_range_than_asked_for_is_not_taken() {
    let cut = now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        &BODY[..12]
    ));
    let wrong = now(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 10-19/20\r\ncontent-length: 10\r\n\r\nabcdefghij",
    );
    let got = fetch(blob(BODY.as_bytes()), vec![cut, wrong, ok(BODY)]).await;
    got.result.unwrap();
    assert!(got.stored);
    assert_eq!(got.requests.len(), 3);
}

#[tokio::test]
async fn a_wrong_length_is_refused_before_the_body() {
    let steps = vec![ok("short"), ok("short"), ok("short")];
    let got = fetch(blob(BODY.as_bytes()), steps).await;
    let error = got.result.unwrap_err();
    assert_eq!(error.code(), "fetch-failed");
    assert!(error.to_string().contains("content-length is 5"), "{error}");
    assert!(!got.stored);
    assert_eq!(got.came, 0);
}

#[tokio::test]
async fn more_bytes_than_the_blob_has_end_the_fetch() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20\r\n0123456789abcdefghijABCDEFGHIJKL\r\n0\r\n\r\n";
    let got = fetch(blob(BODY.as_bytes()), vec![now(chunked); 3]).await;
    let error = got.result.unwrap_err();
    assert!(error.to_string().contains("more came"), "{error}");
    assert!(!got.stored);
}

#[tokio::test]
async fn other_bytes_are_thrown_away_and_tried_again_a_few_times() {
    let other = BODY.to_uppercase();
    let steps = vec![ok(&other), ok(&other), ok(&other), ok(BODY)];
    let got = fetch(blob(BODY.as_bytes()), steps).await;
    assert_eq!(got.result.unwrap_err().code(), "wrong-digest");
    assert_eq!(got.requests.len(), 3, "bounded");
    assert!(
        !got.requests[1].to_lowercase().contains("range:"),
        "nothing wrong was kept"
    );
    assert!(!got.stored);
}

#[tokio::test]
async fn not_found_ends_at_once() {
    let steps = vec![
        now("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        ok(BODY),
    ];
    let got = fetch(blob(BODY.as_bytes()), steps).await;
    assert!(matches!(got.result, Err(FetchError::NotFound)));
    assert_eq!(got.requests.len(), 1);
}

#[tokio::test]
async fn a_busy_console_is_given_the_time_it_asks_for() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    let got = fetch(blob(BODY.as_bytes()), vec![now(busy), ok(BODY)]).await;
    got.result.unwrap();
    assert!(got.took >= Duration::from_secs(1), "{:?}", got.took);
}

/// The board's own clock has no say in it.
#[tokio::test]
async fn a_busy_console_may_ask_by_a_date() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                retry-after: Sun, 06 Nov 1994 08:49:38 GMT\r\ncontent-length: 0\r\n\r\n";
    let got = fetch(blob(BODY.as_bytes()), vec![now(busy), ok(BODY)]).await;
    got.result.unwrap();
    assert!(got.took >= Duration::from_secs(1), "{:?}", got.took);
    assert!(got.took < Duration::from_secs(10), "{:?}", got.took);
}

#[tokio::test]
async fn a_console_cannot_ask_for_a_year() {
    let busy =
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 31536000\r\ncontent-length: 0\r\n\r\n";
    let got = fetch(blob(BODY.as_bytes()), vec![now(busy), ok(BODY)]).await;
    got.result.unwrap();
    assert!(got.took < Duration::from_secs(10), "{:?}", got.took);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere =
        "HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n";
    let got = fetch(blob(BODY.as_bytes()), vec![now(elsewhere), ok(BODY)]).await;
    assert!(matches!(got.result, Err(FetchError::Redirect(302))));
    assert_eq!(got.requests.len(), 1);
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow() {
    let mut drip = now("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n");
    drip.extend((0..20).map(|n| (Duration::from_millis(120), vec![BODY.as_bytes()[n]])));
    let got = fetch(blob(BODY.as_bytes()), vec![drip, ok(BODY)]).await;
    got.result.unwrap();
    assert_eq!(got.requests.len(), 2, "the first was given up");
    assert!(
        got.requests[0].len() < got.requests[1].len(),
        "and the second asks for the rest"
    );
}

/// Bytes of the head come again and again, and the head does not end.
#[tokio::test]
async fn a_head_that_trickles_is_given_up() {
    let mut trickle = now("HTTP/1.1 200 OK\r\n");
    trickle.extend((0..100).map(|n| {
        let line = format!("x-{n}: y\r\n").into_bytes();
        (Duration::from_millis(50), line)
    }));
    let got = fetch(blob(BODY.as_bytes()), vec![trickle.clone(), ok(BODY)]).await;
    got.result.unwrap();
    assert_eq!(got.requests.len(), 2, "the first was given up");
    let steps = vec![trickle.clone(), trickle.clone(), trickle];
    let got = fetch(blob(BODY.as_bytes()), steps).await;
    let error = got.result.unwrap_err().to_string();
    assert!(error.contains("no answer in 0.7 s"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Each answer ends after some byte, and some consoles know no ranges: what is here is never asked for again where they do.
    #[test]
    fn any_cuts_are_made_up_for(cuts in proptest::collection::vec((0usize..20, any::<bool>()), 0..8)) {
        let body = BODY.as_bytes();
        let (mut steps, mut begins, mut here, mut wire) = (Vec::new(), vec![0], 0, 0);
        for (cut, ranges) in cuts.into_iter().chain([(body.len(), true)]) {
            let from = if ranges { here } else { 0 };
            let head = match from {
                0 => "200 OK\r\n".to_owned(),
                _ => format!("206 Partial Content\r\ncontent-range: bytes {from}-19/20\r\n"),
            };
            here = cut.max(from);
            wire += here - from;
            begins.push(here);
            let (length, part) = (body.len() - from, &BODY[from..here]);
            steps.push(now(&format!("HTTP/1.1 {head}content-length: {length}\r\n\r\n{part}")));
        }
        let patience = Patience { fruitless_tries: 20, tries: 20, ..patience() };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let got = runtime.block_on(fetch_with(blob(body), steps, patience));
        got.result.unwrap();
        prop_assert!(got.stored);
        prop_assert_eq!(got.came, wire as u64);
        for (request, from) in got.requests.iter().zip(begins) {
            let asked = request.to_lowercase();
            let range = asked.split("range: bytes=").nth(1).map(|range| range.split('-').next().unwrap());
            let wanted = (from > 0).then(|| from.to_string());
            prop_assert_eq!(range, wanted.as_deref());
        }
    }
}

#[tokio::test]
async fn silence_is_bounded_and_the_last_reason_is_told() {
    let mut silent = now("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n");
    silent.push((Duration::from_secs(3), vec![]));
    let got = fetch(
        blob(BODY.as_bytes()),
        vec![silent.clone(), silent.clone(), silent],
    )
    .await;
    let error = got.result.unwrap_err().to_string();
    assert!(error.contains("gave up after 3 tries"), "{error}");
    assert!(error.contains("fewer than 10 bytes"), "{error}");
}

#[tokio::test]
async fn a_console_of_another_fleet_is_not_spoken_to() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let console = console(&other, vec![ok(BODY), ok(BODY), ok(BODY)]).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: console.port,
    };
    let mut fetcher = Fetcher::new(endpoint, fleet.client(), blobs, patience());
    let error = fetcher
        .fetch(blob(BODY.as_bytes()), &mut |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    assert!(console.requests.lock().unwrap().is_empty());
}

/// A list of routes by which everything, this machine's own loopback too, leaves by `link`.
fn route(root: &std::path::Path, link: &str) {
    let raw = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
    let (to, mask) = (raw([127, 0, 0, 0]), raw([255, 0, 0, 0]));
    let text = format!("{link}\t{to}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n");
    let folder = root.join("proc/net");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("route"), text).unwrap();
}

fn gate(root: &std::path::Path, rules: Downloads) -> Gate {
    let mut gate = Gate::new(rules, vec!["wwan0".into()], root.to_owned());
    gate.pause = Duration::from_millis(50);
    gate
}

struct Waiting {
    fetcher: Fetcher,
    console: Console,
    blobs: Blobs,
    _folder: tempfile::TempDir,
}

async fn waiting(root: &std::path::Path, rules: Downloads, steps: Vec<Step>) -> Waiting {
    let fleet = Fleet::new();
    let console = console(&fleet, steps).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: console.port,
    };
    let mut fetcher = Fetcher::new(endpoint, fleet.client(), blobs.clone(), patience());
    fetcher.obey(gate(root, rules), std::rc::Rc::default());
    Waiting {
        fetcher,
        console,
        blobs,
        _folder: folder,
    }
}

#[tokio::test]
async fn a_metered_way_is_waited_out_also_in_the_middle_of_a_blob() {
    let root = tempfile::tempdir().unwrap();
    let rules = Downloads {
        metered: MeteredPolicy::Wait,
        ..Downloads::default()
    };
    let mut cut = now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        &BODY[..12]
    ));
    cut.push((Duration::from_millis(300), b"c".to_vec()));
    cut.push((Duration::from_secs(2), b"defghij".to_vec()));
    let rest = now(&format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 13-19/20\r\ncontent-length: 7\r\n\r\n{}",
        &BODY[13..]
    ));
    let want = blob(BODY.as_bytes());
    route(root.path(), "wwan0");
    let mut w = waiting(root.path(), rules, vec![cut, rest]).await;
    let held = w.fetcher.fetch(want, &mut |_| {}).await.unwrap_err();
    assert!(matches!(held, FetchError::Held(_)), "{held}");
    assert!(w.console.requests.lock().unwrap().is_empty(), "not a byte");

    // Waits, and goes on once the way is free.
    let mut reasons = Vec::new();
    let mut told = |why: &Hold| reasons.push(why.to_string());
    let free = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        route(root.path(), "eth0");
    };
    tokio::join!(w.fetcher.wait(&want, &mut told), free);
    assert_eq!(reasons.len(), 1, "said once");
    assert!(reasons[0].contains("`wwan0`"), "{reasons:?}");

    // In the middle the modem takes over.
    let mut progress = |_: Came| route(root.path(), "wwan0");
    let held = w.fetcher.fetch(want, &mut progress).await.unwrap_err();
    assert!(matches!(held, FetchError::Held(_)), "{held}");
    assert!(!w.blobs.has(&want));
    route(root.path(), "eth0");
    w.fetcher.fetch(want, &mut |_| {}).await.unwrap();
    assert!(w.blobs.has(&want));
    let requests = w.console.requests.lock().unwrap().clone();
    assert!(
        requests[1].to_lowercase().contains("range: bytes=13-"),
        "{requests:?}"
    );
    // What is here is waited for by nobody.
    route(root.path(), "wwan0");
    w.fetcher.wait(&want, &mut |_| panic!("it is here")).await;
}

#[tokio::test]
async fn a_metered_way_is_as_slow_as_asked_and_slow_is_no_fault() {
    let root = tempfile::tempdir().unwrap();
    route(root.path(), "wwan0");
    let rules = Downloads {
        bytes_per_second: Some(1 << 30),
        metered_bytes_per_second: Some(20_000),
        ..Downloads::default()
    };
    let body = "x".repeat(40_000);
    let want = blob(body.as_bytes());
    let mut w = waiting(root.path(), rules.clone(), vec![ok(&body)]).await;
    let start = Instant::now();
    w.fetcher.fetch(want, &mut |_| {}).await.unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    assert_eq!(w.console.requests.lock().unwrap().len(), 1, "in one go");

    route(root.path(), "eth0");
    let mut w = waiting(root.path(), rules, vec![ok(&body)]).await;
    let start = Instant::now();
    w.fetcher.fetch(want, &mut |_| {}).await.unwrap();
    assert!(start.elapsed() < took / 2, "{:?}", start.elapsed());
}

/// Fetches from mirrors and a console, and what each was asked.
struct Mirrored {
    fetcher: Fetcher,
    blobs: Blobs,
    mirrors: Vec<Console>,
    console: Console,
    _folder: tempfile::TempDir,
}

impl Mirrored {
    fn asked(&self) -> (Vec<usize>, usize) {
        let count = |server: &Console| server.requests.lock().unwrap().len();
        (
            self.mirrors.iter().map(count).collect(),
            count(&self.console),
        )
    }
}

/// Mirrors on 127.0.0.2, plain HTTP below `/coracle`.
async fn mirrored(mirrors: Vec<Vec<Step>>, steps: Vec<Step>) -> Mirrored {
    let fleet = Fleet::new();
    let console = console(&fleet, steps).await;
    let mut servers = Vec::new();
    let mut downloads = Downloads::default();
    for steps in mirrors {
        let server = serve("127.0.0.2", None, steps).await;
        let url = format!("http://127.0.0.2:{}/coracle", server.port);
        downloads.mirrors.push(url.try_into().unwrap()).unwrap();
        servers.push(server);
    }
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: console.port,
    };
    let sources = Source::all(&downloads, endpoint.clone(), fleet.client());
    let fetcher = Fetcher::new(endpoint, fleet.client(), blobs.clone(), patience());
    Mirrored {
        fetcher: fetcher.from_sources(sources),
        blobs,
        mirrors: servers,
        console,
        _folder: folder,
    }
}

/// The whole of 127/8 by the modem, 127.0.0.2 by the cable.
fn mirror_by_cable(root: &std::path::Path) {
    route(root, "wwan0");
    let raw = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
    let (to, mask) = (raw([127, 0, 0, 2]), raw([255; 4]));
    let file = root.join("proc/net/route");
    let mut routes = std::fs::read_to_string(&file).unwrap();
    routes += &format!("eth0\t{to}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n");
    std::fs::write(&file, routes).unwrap();
}

#[tokio::test]
async fn a_mirror_is_asked_before_the_console_and_over_plain_http() {
    let want = blob(BODY.as_bytes());
    let mut m = mirrored(vec![vec![ok(BODY)]], vec![]).await;
    let mut last = None;
    let mut progress = |piece: Came| last = Some(piece);
    m.fetcher.fetch(want, &mut progress).await.unwrap();
    assert!(m.blobs.has(&want));
    assert_eq!(m.asked(), (vec![1], 0));
    let last = last.unwrap();
    assert_eq!(last.here, want.size);
    assert!(last.from.starts_with("the mirror "), "{last:?}");
    let request = m.mirrors[0].requests.lock().unwrap()[0].clone();
    let path = format!("GET /coracle/blobs/sha256/{} ", want.digest.hex());
    assert!(request.starts_with(&path), "{request}");
}

#[tokio::test]
async fn a_mirror_that_closes_after_each_blob_is_asked_for_the_next_one() {
    let (one, two) = (blob(BODY.as_bytes()), blob(b"another blob"));
    let mut m = mirrored(vec![vec![ok(BODY), ok("another blob")]], vec![]).await;
    m.fetcher.fetch(one, &mut |_| {}).await.unwrap();
    m.fetcher.fetch(two, &mut |_| {}).await.unwrap();
    assert_eq!(m.asked(), (vec![2], 0));
}

/// Whatever a mirror does, the blob comes, soon, and the console is asked once.
#[tokio::test]
async fn what_a_mirror_does_wrong_costs_one_try() {
    let head = |text: &str| now(&format!("HTTP/1.1 {text}\r\ncontent-length: 0\r\n\r\n"));
    let cut = now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        &BODY[..12]
    ));
    let mut drip = cut.clone();
    drip.push((Duration::from_secs(30), b"x".to_vec()));
    let rest = now(&format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 12-19/20\r\ncontent-length: 8\r\n\r\n{}",
        &BODY[12..]
    ));
    // What it does, whether the console goes on where it stopped, and whether it is asked for the next blob.
    for (name, does, goes_on, again) in [
        ("has nothing", head("404 Not Found"), false, true),
        (
            "is busy",
            head("503 Busy\r\nretry-after: 3600"),
            false,
            false,
        ),
        (
            "points elsewhere",
            head("302 Found\r\nlocation: http://127.0.0.1:1/"),
            false,
            false,
        ),
        ("has another length", ok("short"), false, false),
        ("has other bytes", ok(&BODY.to_uppercase()), false, false),
        ("is cut off", cut, true, false),
        ("hangs", drip, true, false),
        ("speaks no HTTP", now("220 ready\r\n"), false, false),
    ] {
        let next = "another blob, and longer";
        let console = if goes_on { rest.clone() } else { ok(BODY) };
        let mut m = mirrored(vec![vec![does, ok(next)]], vec![console, ok(next)]).await;
        let begin = Instant::now();
        let want = blob(BODY.as_bytes());
        let fetched = m.fetcher.fetch(want, &mut |_| {}).await;
        fetched.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(m.blobs.has(&want), "{name}");
        assert_eq!(m.asked(), (vec![1], 1), "{name}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{name}");
        let asked = m.console.requests.lock().unwrap()[0].to_lowercase();
        assert_eq!(
            asked.contains("range: bytes=12-"),
            goes_on,
            "{name}: {asked}"
        );
        m.fetcher
            .fetch(blob(next.as_bytes()), &mut |_| {})
            .await
            .unwrap();
        let (mirror, console) = if again { (2, 1) } else { (1, 2) };
        assert_eq!(m.asked(), (vec![mirror], console), "{name}: the next blob");
    }
}

/// What is fast enough for the console is not for a mirror, unless the board asks for no more.
#[tokio::test]
async fn a_mirror_that_drips_gives_way_to_the_console() {
    let body = "x".repeat(600);
    let want = blob(body.as_bytes());
    let mut drip = now("HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n");
    drip.extend((0..6).map(|_| (Duration::from_millis(200), vec![b'x'; 100])));
    let root = tempfile::tempdir().unwrap();
    for (rate, asked) in [(None, (vec![1], 1)), (Some(400), (vec![1], 0))] {
        let mut m = mirrored(vec![vec![drip.clone()]], vec![ok(&body)]).await;
        let rules = Downloads {
            bytes_per_second: rate,
            ..Downloads::default()
        };
        m.fetcher
            .obey(gate(root.path(), rules), std::rc::Rc::default());
        m.fetcher.fetch(want, &mut |_| {}).await.unwrap();
        assert!(m.blobs.has(&want));
        assert_eq!(m.asked(), asked);
    }
}

/// Its hiccup does not cost the whole deployment.
#[tokio::test]
async fn a_mirror_that_failed_is_asked_again_after_a_while() {
    let head = |text: &str| now(&format!("HTTP/1.1 {text}\r\ncontent-length: 0\r\n\r\n"));
    for (does, rest) in [
        (head("503 Busy\r\nretry-after: 0"), Duration::from_secs(2)),
        (head("503 Busy"), Duration::from_secs(2)),
        (head("404 Not Found"), Duration::from_secs(2)),
    ] {
        let mut m = mirrored(vec![vec![does, ok(BODY)]], vec![]).await;
        let want = blob(BODY.as_bytes());
        let root = tempfile::tempdir().unwrap();
        let rules = Downloads {
            metered: MeteredPolicy::Wait,
            ..Downloads::default()
        };
        // Only the mirror's way is free.
        mirror_by_cable(root.path());
        m.fetcher
            .obey(gate(root.path(), rules), std::rc::Rc::default());
        let held = m.fetcher.fetch(want, &mut |_| {}).await.unwrap_err();
        assert!(matches!(held, FetchError::Held(_)), "{held}");
        let begin = Instant::now();
        m.fetcher.wait(&want, &mut |_| {}).await;
        assert!(begin.elapsed() > rest / 2, "it is left alone");
        assert!(begin.elapsed() < Duration::from_secs(10), "not for ever");
        m.fetcher.fetch(want, &mut |_| {}).await.unwrap();
        assert_eq!(m.asked(), (vec![2], 0));
    }
}

/// A beginning with other bytes is found out at the end, and thrown away.
#[tokio::test]
async fn a_mirror_cannot_spoil_what_the_console_sends() {
    let want = blob(BODY.as_bytes());
    let other = now("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nOTHER BYTES!");
    let rest = now(&format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 12-19/20\r\ncontent-length: 8\r\n\r\n{}",
        &BODY[12..]
    ));
    let mut m = mirrored(vec![vec![other]], vec![rest, ok(BODY)]).await;
    m.fetcher.fetch(want, &mut |_| {}).await.unwrap();
    assert!(m.blobs.has(&want));
    assert_eq!(m.asked(), (vec![1], 2));
}

/// Wrong bytes that lay here, or that another one sent, are not its fault: it may send all of them.
#[tokio::test]
async fn an_honest_mirror_is_not_blamed_for_what_others_sent() {
    let want = blob(BODY.as_bytes());
    let other = now("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nOTHER BYTES!");
    let rest = now(&format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 12-19/20\r\ncontent-length: 8\r\n\r\n{}",
        &BODY[12..]
    ));
    let next = "another blob";
    let honest = vec![rest, ok(BODY), ok(next)];
    let mut m = mirrored(vec![vec![other], honest], vec![]).await;
    m.fetcher.fetch(want, &mut |_| {}).await.unwrap();
    assert!(m.blobs.has(&want));
    m.fetcher
        .fetch(blob(next.as_bytes()), &mut |_| {})
        .await
        .unwrap();
    assert_eq!(m.asked(), (vec![1, 3], 0));
}

/// A download that was dropped is hashing yet what it finds.
#[tokio::test]
async fn a_mirror_is_not_blamed_for_a_blob_that_is_held_here() {
    let want = blob(BODY.as_bytes());
    let mut m = mirrored(vec![vec![ok(BODY)]], vec![]).await;
    let held = m.blobs.download(want).await.unwrap();
    let release = async {
        tokio::time::sleep(Duration::from_millis(7)).await;
        drop(held);
    };
    let mut progress = |_: Came| {};
    let (fetched, ()) = tokio::join!(m.fetcher.fetch(want, &mut progress), release);
    fetched.unwrap();
    assert_eq!(m.asked(), (vec![1], 0));
}

#[tokio::test]
async fn the_next_mirror_goes_on_where_one_stopped() {
    let want = blob(BODY.as_bytes());
    let cut = now(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        &BODY[..12]
    ));
    let rest = now(&format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 12-19/20\r\ncontent-length: 8\r\n\r\n{}",
        &BODY[12..]
    ));
    let missing = now("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let mut m = mirrored(vec![vec![missing], vec![cut], vec![rest]], vec![]).await;
    let mut came = 0;
    m.fetcher
        .fetch(want, &mut |piece| came += piece.bytes)
        .await
        .unwrap();
    assert_eq!(m.asked(), (vec![1, 1, 1], 0));
    assert_eq!(came, 20, "no byte came twice");
}

#[tokio::test]
async fn a_mirror_behind_a_free_way_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let rules = Downloads {
        metered: MeteredPolicy::Wait,
        ..Downloads::default()
    };
    mirror_by_cable(root.path());
    let missing = now("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let mut m = mirrored(vec![vec![ok(BODY), missing]], vec![]).await;
    m.fetcher
        .obey(gate(root.path(), rules), std::rc::Rc::default());
    let want = blob(BODY.as_bytes());
    m.fetcher
        .wait(&want, &mut |_| panic!("the mirror's way is free"))
        .await;
    m.fetcher.fetch(want, &mut |_| {}).await.unwrap();
    assert!(m.blobs.has(&want));
    // What the mirror does not have waits for the console's way, and asks nobody meanwhile.
    let other = blob(b"not on the mirror");
    let held = m.fetcher.fetch(other, &mut |_| {}).await.unwrap_err();
    assert!(matches!(held, FetchError::Held(_)), "{held}");
    let mut told = 0;
    let mut count = |_: &Hold| told += 1;
    let waiting = m.fetcher.wait(&other, &mut count);
    let over = tokio::time::timeout(Duration::from_millis(300), waiting).await;
    assert!(over.is_err(), "it does not wait");
    assert_eq!((told, m.asked()), (1, (vec![2], 0)));
}

/// A proxy that leads to where it is told, or says no.
async fn proxy(says_no: bool) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let request = support::head_of(&mut tcp).await;
            let to = request.split(' ').nth(1).unwrap().to_owned();
            seen.lock().unwrap().push(request);
            if says_no {
                let _ = tcp
                    .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                    .await;
                continue;
            }
            let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
            tcp.write_all(b"HTTP/1.1 200 Connection established\r\nvia: p\r\n\r\n")
                .await
                .unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tcp, &mut server).await });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn the_console_is_reached_through_a_proxy() {
    for says_no in [false, true] {
        let fleet = Fleet::new();
        let console = console(&fleet, vec![ok(BODY)]).await;
        let (port, asked) = proxy(says_no).await;
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let downloads = Downloads {
            proxy: Some(format!("http://127.0.0.1:{port}").try_into().unwrap()),
            ..Downloads::default()
        };
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: console.port,
        };
        let sources = Source::all(&downloads, endpoint.clone(), fleet.client());
        let fetcher = Fetcher::new(endpoint, fleet.client(), blobs.clone(), patience());
        let want = blob(BODY.as_bytes());
        let result = fetcher.from_sources(sources).fetch(want, &mut |_| {}).await;
        let connect = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", console.port);
        assert!(asked.lock().unwrap()[0].starts_with(&connect));
        if says_no {
            let error = result.unwrap_err().to_string();
            assert!(
                error.contains("407") && error.contains("[downloads] proxy"),
                "{error}"
            );
            assert!(console.requests.lock().unwrap().is_empty());
        } else {
            result.unwrap();
            assert!(blobs.has(&want));
        }
    }
}
