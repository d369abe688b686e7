//! `delta push`, `delta list` and `delta pull` against Debian's docker-registry, which lists no referrers, read by skopeo; and
//! against one that holds writers of one index apart, and that has long lists. The console, which lists them, is on the other
//! side in the whole-system tests.

mod support;

use coracle_images::Sha256Digest;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use support::{Place, names, open_registry, skopeo};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const ARTIFACT: &str = "application/vnd.io.github.containers.oci-delta.v1";

fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Digest of the image's manifest in `images`.
fn digest(place: &Place, tag: &str) -> String {
    let index = document(&place.read("images/index.json"));
    let entries = index["manifests"].as_array().unwrap().clone();
    let tagged = |e: &&Value| e["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let entry = entries.iter().find(tagged).unwrap();
    entry["digest"].as_str().unwrap().to_owned()
}

fn blob(place: &Place, layout: &str, digest: &str) -> Vec<u8> {
    place.read(&format!("{layout}/blobs/{}", digest.replace(':', "/")))
}

/// PUT by hand.
fn put(place: &Place, url: &str, kind: &str, body: &str) {
    place.write("body", body);
    let sent = Command::new("curl")
        .args(["-sS", "--fail-with-body", "-X", "PUT", "-H"])
        .arg(format!("content-type: {kind}"))
        .arg("--data-binary")
        .arg(format!("@{}", place.path("body").display()))
        .arg(url)
        .output()
        .expect("this test needs curl");
    assert!(sent.status.success(), "{sent:?}");
}

fn raw(image: &str) -> Value {
    let at = format!("docker://{image}");
    let said = skopeo(&["inspect", "--raw", "--tls-verify=false", &at]).ok();
    document(said.as_bytes())
}

#[test]
fn deltas_go_to_a_registry_that_lists_no_referrers_and_come_back() {
    let place = Place::new().with_images();
    let (_server, host) = open_registry(&place, "");
    let run = |line: &str| place.run(&format!("{line} --platform linux/amd64 --plain-http"));
    let send = |image: &str, tag: &str, base: &str| {
        run(&format!(
            "delta push {host}/shop/web:{image} --images images --tag shop/web:{tag} --base shop/web:{base}"
        ))
    };
    send("2", "2", "1").failed(1, &["status 404"]);
    for tag in ["1", "2"] {
        run(&format!(
            "image push {host}/shop/web:{tag} --images images --tag shop/web:{tag}"
        ))
        .ok();
    }
    send("1", "2", "1").failed(1, &["is not the image", "image push"]);

    // What others keep there stays, whatever they say.
    let image = digest(&place, "shop/web:2");
    let tag = image.replace(':', "-");
    let other = json!({"mediaType": MANIFEST, "digest": image, "size": blob(&place, "images", &image).len(),
                       "artifactType": "application/x-other", "x": {"y": [1]}});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other], "annotations": {"a": "b"}});
    let at_tag = format!("http://{host}/v2/shop/web/manifests/{tag}");
    put(&place, &at_tag, INDEX, &index.to_string());

    let said = send("2", "2", "1").ok();
    assert!(said.contains(&format!("listed in {tag}")), "{said}");
    let there = raw(&format!("{host}/shop/web:{tag}"));
    let entries = there["manifests"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]), (2, &other), "{there}");
    assert_eq!(there["annotations"], json!({"a": "b"}));
    let artifact = entries[1]["digest"].as_str().unwrap().to_owned();
    let manifest = raw(&format!("{host}/shop/web@{artifact}"));
    assert_eq!(entries[1]["artifactType"], ARTIFACT);
    assert_eq!(entries[1]["mediaType"], MANIFEST);
    assert_eq!(entries[1]["annotations"], manifest["annotations"]);
    assert_eq!(manifest["subject"]["digest"], image);

    // Another tool brings the artifact, with the delta in it.
    let from = format!("docker://{host}/shop/web@{artifact}");
    let to = format!("oci:{}:delta", place.path("other").display());
    skopeo(&["copy", "--src-tls-verify=false", &from, &to]).ok();
    let delta = manifest["layers"][2]["digest"].as_str().unwrap();
    assert_eq!(blob(&place, "other", delta), blob(&place, "images", delta));

    // Once more, and nothing is there twice or made again.
    let before = names(&place.path("images/blobs/sha256"));
    send("2", "2", "1").ok();
    assert_eq!(raw(&format!("{host}/shop/web:{tag}")), there);
    assert_eq!(names(&place.path("images/blobs/sha256")), before);

    // What comes back makes the layer of the older one's.
    let listed = run(&format!("delta list {host}/shop/web:2")).ok();
    assert!(listed.contains(delta), "{listed}");
    let none = run(&format!("delta list {host}/shop/web:1")).ok();
    assert_eq!(none, "");
    let brought = run(&format!("delta pull {host}/shop/web:2 --output pulled")).ok();
    assert_eq!(brought, listed);
    let layer = |tag: &str| {
        let manifest = document(&blob(&place, "images", &digest(&place, tag)));
        let config = manifest["config"]["digest"].as_str().unwrap();
        let config = document(&blob(&place, "images", config));
        let packed = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
        (
            packed,
            config["rootfs"]["diff_ids"][1].as_str().unwrap().to_owned(),
        )
    };
    let (old, new) = (layer("shop/web:1"), layer("shop/web:2"));
    let made = place
        .run(&format!(
            "delta apply --base images/blobs/{} --delta pulled/blobs/{} --output made.tar",
            old.0.replace(':', "/"),
            delta.replace(':', "/")
        ))
        .ok();
    assert!(made.contains(&new.1) && listed.contains(&new.1), "{made}");
    let index = document(&place.read("pulled/index.json"));
    assert_eq!(index["manifests"][0]["digest"], artifact);

    // An artifact that says something else of its delta.
    let mut lie = manifest.clone();
    lie["annotations"]["dev.coracle.delta.from"] = new.1.clone().into();
    let lie = lie.to_string();
    let lying = Sha256Digest::of(lie.as_bytes());
    put(
        &place,
        &format!("http://{host}/v2/shop/web/manifests/{lying}"),
        MANIFEST,
        &lie,
    );
    let entry = json!({"mediaType": MANIFEST, "digest": lying, "size": lie.len(), "artifactType": ARTIFACT});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    put(&place, &at_tag, INDEX, &index.to_string());
    run(&format!("delta pull {host}/shop/web:2 --output lied"))
        .failed(1, &["is from", "was not kept", &lying.to_string()]);
    let kept = fs::read_to_string(place.path("lied/index.json")).unwrap();
    assert!(kept.contains("\"manifests\":[]"), "{kept}");
    assert!(
        !place
            .path(&format!("lied/blobs/{}", delta.replace(':', "/")))
            .exists()
    );

    // Where the tag is an image's, nothing is written and nothing is found.
    let first = digest(&place, "shop/web:1").replace(':', "-");
    let image = format!("docker://{host}/shop/web:2");
    let taken = format!("docker://{host}/shop/web:{first}");
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &image,
        &taken,
    ])
    .ok();
    send("1", "1", "2").failed(1, &["holds something else", &first, "nothing was changed"]);
    assert_eq!(
        raw(&format!("{host}/shop/web:{first}"))["layers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

/// A registry without lists that lets an index be replaced only by who has read it; or one with lists in two parts.
#[derive(Default)]
struct Seen {
    /// The index under the tag.
    index: Option<Value>,
    /// Counts its versions.
    version: u32,
    /// Others who write it between a reading and a writing, each once.
    rivals: u32,
    /// `if-match` and `if-none-match` of each attempt, and what became of it.
    attempts: Vec<(String, u16)>,
    /// Where the second part of the list is; none, and there are no lists.
    next: Option<String>,
}

struct Guarded {
    host: String,
    seen: Arc<Mutex<Seen>>,
}

/// Names in lower case, and values.
type Headers = Vec<(String, String)>;

/// `METHOD path`, headers, body.
fn request(stream: &mut TcpStream) -> Option<(String, Headers, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let first = lines.next()?.rsplit_once(' ')?.0.to_owned();
    let headers: Headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, headers, body))
}

impl Guarded {
    fn start(place: &Place, image: &str, rivals: u32, next: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Seen {
            rivals,
            next,
            ..Seen::default()
        }));
        let (shared, manifest) = (seen.clone(), blob(place, "images", image));
        let blobs = place.path("images/blobs/sha256");
        let tag = image.replace(':', "-");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some((asked, headers, body)) = request(&mut stream) else {
                    continue;
                };
                let mut seen = shared.lock().unwrap();
                let entry = |digest: &str| json!({"mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": ARTIFACT});
                let (status, more, body) = if asked.starts_with("HEAD ") {
                    (200, String::new(), Vec::new())
                } else if asked == format!("GET /v2/web/manifests/{tag}") {
                    match &seen.index {
                        None => (404, String::new(), Vec::new()),
                        Some(index) => (
                            200,
                            format!("content-type: {INDEX}\r\netag: \"{}\"\r\n", seen.version),
                            index.to_string().into_bytes(),
                        ),
                    }
                } else if asked == format!("PUT /v2/web/manifests/{tag}") {
                    let condition = headers.iter().find(|(name, _)| name.starts_with("if-"));
                    let condition = condition
                        .map(|(name, value)| format!("{name}: {value}"))
                        .unwrap_or_default();
                    if seen.rivals > 0 {
                        seen.rivals -= 1;
                        seen.version += 1;
                        let mut index = seen.index.clone().unwrap_or_else(
                            || json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
                        );
                        let rival =
                            entry(&Sha256Digest::of(&seen.version.to_le_bytes()).to_string());
                        index["manifests"].as_array_mut().unwrap().push(rival);
                        seen.index = Some(index);
                    }
                    let holds = match &seen.index {
                        None => condition == "if-none-match: *",
                        Some(_) => condition == format!("if-match: \"{}\"", seen.version),
                    };
                    let status = if holds { 201 } else { 412 };
                    if holds {
                        seen.version += 1;
                        seen.index = Some(document(&body));
                    }
                    seen.attempts.push((condition, status));
                    (status, String::new(), Vec::new())
                } else if asked.starts_with("PUT ") {
                    (201, String::new(), Vec::new())
                } else if asked.starts_with("GET /v2/web/referrers/") {
                    let last = asked.ends_with("last=1");
                    match (&seen.next, last) {
                        (None, _) => (404, String::new(), Vec::new()),
                        (Some(next), false) => {
                            let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": "sha512:00"}]});
                            (
                                200,
                                format!(
                                    "content-type: {INDEX}\r\nlink: <{next}>; rel=\"next\"\r\n"
                                ),
                                list.to_string().into_bytes(),
                            )
                        }
                        (Some(_), true) => {
                            let found = seen.index.clone().unwrap_or_default();
                            (
                                200,
                                format!("content-type: {INDEX}\r\n"),
                                found.to_string().into_bytes(),
                            )
                        }
                    }
                } else if asked == "GET /v2/web/manifests/2" {
                    (
                        200,
                        format!("content-type: {MANIFEST}\r\n"),
                        manifest.clone(),
                    )
                } else if let Some((_, hex)) = asked.split_once("/manifests/sha256:") {
                    match fs::read(blobs.join(hex)) {
                        Ok(bytes) => (200, format!("content-type: {MANIFEST}\r\n"), bytes),
                        Err(_) => (404, String::new(), Vec::new()),
                    }
                } else {
                    (404, String::new(), Vec::new())
                };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n",
                    body.len()
                );
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body));
            }
        });
        Self { host, seen }
    }
}

fn push_to(place: &Place, host: &str) -> support::Ran {
    place.run(&format!(
        "delta push {host}/web:2 --images images --tag shop/web:2 --base shop/web:1 --platform linux/amd64 --plain-http"
    ))
}

#[test]
fn an_index_that_others_change_meanwhile_keeps_their_entries() {
    let place = Place::new().with_images();
    let image = digest(&place, "shop/web:2");
    let server = Guarded::start(&place, &image, 2, None);
    push_to(&place, &server.host).ok();
    let seen = server.seen.lock().unwrap();
    let conditions: Vec<(&str, u16)> = seen.attempts.iter().map(|(c, s)| (&c[..], *s)).collect();
    assert_eq!(
        conditions,
        [
            ("if-none-match: *", 412),
            ("if-match: \"1\"", 412),
            ("if-match: \"2\"", 201)
        ]
    );
    let entries = seen.index.as_ref().unwrap()["manifests"]
        .as_array()
        .unwrap();
    assert_eq!(entries.len(), 3);

    // Those who never stop end it, and the words say what stands.
    let server = Guarded::start(&place, &image, u32::MAX, None);
    push_to(&place, &server.host).failed(1, &["6 times", "not listed", "push again"]);
}

#[test]
fn a_list_in_parts_is_read_to_its_end_and_nowhere_else() {
    let place = Place::new().with_images();
    let image = digest(&place, "shop/web:2");
    let without = Guarded::start(&place, &image, 0, None);
    push_to(&place, &without.host).ok();
    let index = without.seen.lock().unwrap().index.clone();
    let parts = |next: &str| {
        let server = Guarded::start(&place, &image, 0, Some(next.to_owned()));
        server.seen.lock().unwrap().index = index.clone();
        let host = &server.host;
        place.run(&format!(
            "delta list {host}/web:2 --platform linux/amd64 --plain-http"
        ))
    };
    let listed = parts(&format!("/v2/web/referrers/{image}?last=1")).ok();
    assert!(listed.contains("from sha256:"), "{listed}");
    parts("http://localhost:1/v2/").failed(1, &["elsewhere"]);
    // One that never ends.
    parts(&format!("/v2/web/referrers/{image}?last=0")).failed(1, &["more than 64 parts"]);
}
