//! `image pull` and `image push` against Debian's docker-registry, which is what Docker's own registry runs, and against
//! one that gives tokens and has its blobs elsewhere.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use support::{Place, Server, docker_registry, free_port, names, openssl};

/// With TLS, client certificates and Basic: user `ci`, password `secret`.
fn guarded_registry(place: &Place) -> (Server, u16) {
    for name in ["ca", "other-ca"] {
        openssl(
            place,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} \
             -keyout {name}.key -out {name}.pem"
            ),
        );
    }
    place.write("names", "subjectAltName=IP:127.0.0.1");
    for name in ["server", "client"] {
        openssl(
            place,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            place,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
            ),
        );
    }
    // bcrypt of `secret`, cost 5.
    place.write(
        "users",
        "ci:$2y$05$QFTa9cZJkGfgGd4gN4ESN.kMgLEg3iLyDgKxiUwQVCXLgDK7iwzMy\n",
    );
    let port = free_port();
    let settings = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n\
         auth: {{htpasswd: {{realm: coracle, path: {}}}}}\n\
         http: {{addr: '127.0.0.1:{port}', tls: {{certificate: {}, key: {}, clientcas: [{}]}}}}\n",
        place.path("stored").display(),
        place.path("users").display(),
        place.path("server.pem").display(),
        place.path("server.key").display(),
        place.path("ca.pem").display(),
    );
    (docker_registry(place, port, &settings), port)
}

#[test]
fn an_image_goes_to_dockers_registry_and_comes_back() {
    let place = Place::new().with_images();
    place.build("images", "app-1", "shop/gzip:1", "gzip");
    place.write("password", "secret\n");
    place.write("wrong", "guess\n");
    let (_server, port) = guarded_registry(&place);
    let host = format!("127.0.0.1:{port}");
    let trust = "--ca ca.pem --cert client.pem --key client.key";
    let sign_in = "--user ci --password-file password";
    let push = |image: &str, tag: &str, rest: &str| {
        place.run(&format!(
            "image push {host}/{image} --images images --tag {tag} --platform linux/amd64 {rest}"
        ))
    };
    let all = format!("{trust} {sign_in}");
    for (image, tag) in [
        ("shop/web:1", "shop/web:1"),
        ("shop/web:2", "shop/web:2"),
        ("zip:1", "shop/gzip:1"),
    ] {
        let said = push(image, tag, &all).ok();
        assert!(said.contains(image) && said.contains("sent"), "{said}");
    }
    // The lower layer was there: the second image needed its upper one.
    let again = push("shop/web:2", "shop/web:2", &all).ok();
    assert!(!again.contains("KiB sent"), "{again}");

    let pull = |image: &str, rest: &str| {
        place.run(&format!(
            "image pull {host}/{image} --output pulled --platform linux/amd64 {rest}"
        ))
    };
    pull("shop/web:1", &all).ok();
    pull("shop/web:2", &all).ok();
    pull("zip:1", &format!("{all} --tag shop/gzip:1")).ok();
    let (pulled, made) = (
        names(&place.path("pulled/blobs/sha256")),
        names(&place.path("images/blobs/sha256")),
    );
    assert_eq!(pulled, made, "the same blobs, and nothing else");
    for blob in &made {
        let read = |layout: &str| place.read(&format!("{layout}/blobs/sha256/{blob}"));
        assert!(read("pulled") == read("images"), "{blob}");
    }
    let digest = |layout: &str| {
        let index: serde_json::Value =
            serde_json::from_slice(&place.read(&format!("{layout}/index.json"))).unwrap();
        let entries = index["manifests"].as_array().unwrap().clone();
        let tagged = |e: &&serde_json::Value| {
            e["annotations"]["org.opencontainers.image.ref.name"] == "shop/web:2"
        };
        entries.iter().find(tagged).unwrap()["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(digest("pulled"), digest("images"));
    // By its digest; what was there is not fetched, and a blob that was cut off goes on.
    let by_digest = format!("shop/web@{}", digest("images"));
    pull(&by_digest, &all).failed(2, &["--tag"]);
    let largest = made
        .iter()
        .max_by_key(|blob| place.read(&format!("images/blobs/sha256/{blob}")).len())
        .unwrap();
    let whole = place.path(&format!("pulled/blobs/sha256/{largest}"));
    let part = whole.with_extension("part");
    fs::rename(&whole, &part).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&part)
        .unwrap()
        .set_len(1000)
        .unwrap();
    pull("shop/web:1", &all).ok();
    pull("shop/web:2", &all).ok();
    pull("zip:1", &format!("{all} --tag shop/gzip:1")).ok();
    assert!(whole.exists() && !part.exists());

    // Each way in that is not one.
    pull("shop/web:1", trust).failed(1, &["status 401", "--user"]);
    pull(
        "shop/web:1",
        &format!("{trust} --user ci --password-file wrong"),
    )
    .failed(1, &["status 401"]);
    pull("shop/web:1", &format!("--ca ca.pem {sign_in}")).failed(1, &["cannot reach"]);
    pull(
        "shop/web:1",
        &format!("--ca other-ca.pem --cert client.pem --key client.key {sign_in}"),
    )
    .failed(1, &["cannot reach"]);
    pull("shop/none:1", &all).failed(1, &["status 404"]);
    place
        .run("image pull shop/web:1 --output pulled")
        .failed(2, &["shop/web:1", "registry.example"]);
}

/// A path, and with which login it was asked for.
type Asked = (String, Option<String>);

/// What the other host does.
#[derive(Clone, Copy, PartialEq)]
enum Elsewhere {
    Serves,
    Spoils,
    /// It would like to have the password.
    AsksForLogin,
}

/// A registry that gives tokens for a password and has its blobs on another host, as the large ones do.
struct Tokens {
    port: u16,
    seen: Arc<Mutex<Vec<Asked>>>,
}

fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}

impl Tokens {
    /// Serves the images of a layout, `web:1` by an index for two machines.
    fn start(place: &Place, elsewhere: Elsewhere) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, blobs) = (seen.clone(), place.path("images/blobs/sha256"));
        let index: serde_json::Value =
            serde_json::from_slice(&place.read("images/index.json")).unwrap();
        let mut entry = index["manifests"][0].clone();
        entry["platform"] = serde_json::json!({"architecture": "arm64", "os": "linux"});
        let mut other = entry.clone();
        other["platform"]["architecture"] = "riscv64".into();
        other["digest"] = format!("sha256:{}", "0".repeat(64)).into();
        let list = serde_json::json!({"schemaVersion": 2, "manifests": [other, entry]}).to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let word = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("authorization")
                        .then(|| value.to_owned())
                });
                log.lock().unwrap().push((path.clone(), word.clone()));
                let blob = |hex: &str| fs::read(blobs.join(hex)).unwrap_or_default();
                if path.starts_with("/token") {
                    let token = match word.as_deref() {
                        Some("Basic Y2k6c2VjcmV0") => br#"{"token":"T1"}"#.to_vec(),
                        _ => Vec::new(),
                    };
                    answer(
                        &mut stream,
                        if token.is_empty() { "401 No" } else { "200 OK" },
                        "",
                        &token,
                    );
                } else if path.starts_with("/elsewhere/") && elsewhere == Elsewhere::AsksForLogin {
                    let challenge = format!(
                        "www-authenticate: Bearer realm=\"http://localhost:{port}/token/elsewhere\"\r\n"
                    );
                    answer(&mut stream, "401 Unauthorized", &challenge, b"");
                } else if let Some(hex) = path.strip_prefix("/elsewhere/") {
                    let mut bytes = blob(hex);
                    if elsewhere == Elsewhere::Spoils {
                        bytes[0] ^= 1;
                    }
                    answer(&mut stream, "200 OK", "", &bytes);
                } else if word.as_deref() != Some("Bearer T1") {
                    let challenge = format!(
                        "www-authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"r\",scope=\"repository:web:pull\"\r\n"
                    );
                    answer(&mut stream, "401 Unauthorized", &challenge, b"");
                } else if path.ends_with("/manifests/1") {
                    answer(
                        &mut stream,
                        "200 OK",
                        "content-type: application/vnd.oci.image.index.v1+json\r\n",
                        list.as_bytes(),
                    );
                } else if let Some((_, hex)) = path.split_once("/manifests/sha256:") {
                    answer(
                        &mut stream,
                        "200 OK",
                        "content-type: application/vnd.oci.image.manifest.v1+json\r\n",
                        &blob(hex),
                    );
                } else if let Some((_, hex)) = path.split_once("/blobs/sha256:") {
                    let to = format!("location: http://localhost:{port}/elsewhere/{hex}\r\n");
                    answer(&mut stream, "307 Temporary Redirect", &to, b"");
                } else {
                    answer(&mut stream, "404 Not Found", "", b"");
                }
            }
        });
        Self { port, seen }
    }
}

#[test]
fn tokens_are_fetched_and_go_to_nobody_else() {
    let place = Place::new().with_images();
    place.write("password", "secret\n");
    let server = Tokens::start(&place, Elsewhere::Serves);
    let pull = |rest: &str| {
        place.run(&format!(
            "image pull 127.0.0.1:{}/web:1 --plain-http --output pulled --platform linux/arm64 {rest}",
            server.port
        ))
    };
    pull("").failed(1, &["/token", "status 401", "--user"]);
    server.seen.lock().unwrap().clear();
    pull("--user ci --password-file password").ok();
    // Manifest, configuration and two layers: the index is not needed any more.
    assert_eq!(names(&place.path("pulled/blobs/sha256")).len(), 4);
    let seen = server.seen.lock().unwrap().clone();
    let token = seen
        .iter()
        .find(|(path, _)| path.starts_with("/token"))
        .unwrap();
    assert!(
        token.0.contains("service=r") && token.0.contains("scope=repository"),
        "{token:?}"
    );
    let elsewhere: Vec<_> = seen
        .iter()
        .filter(|(path, _)| path.starts_with("/elsewhere"))
        .collect();
    assert_eq!(elsewhere.len(), 3);
    assert!(
        elsewhere.iter().all(|(_, word)| word.is_none()),
        "{elsewhere:?}"
    );

    // Another byte in a blob, and nothing gets a name.
    let spoiled = Tokens::start(&place, Elsewhere::Spoils);
    place
        .run(&format!(
            "image pull 127.0.0.1:{}/web:1 --plain-http --output bad --platform linux/arm64 --user ci --password-file password",
            spoiled.port
        ))
        .failed(1, &["sha256:"]);
    let index = fs::read_to_string(place.path("bad/index.json")).unwrap();
    assert!(index.contains("\"manifests\":[]"), "{index}");
    // No password in the clear unless that is asked for.
    place
        .run(&format!(
            "image pull 127.0.0.1:{}/web:1 --output bad",
            server.port
        ))
        .failed(1, &["cannot reach"]);
}

#[test]
fn a_host_that_blobs_lie_on_gets_no_login_by_asking() {
    let place = Place::new().with_images();
    place.write("password", "secret\n");
    let server = Tokens::start(&place, Elsewhere::AsksForLogin);
    place
        .run(&format!(
            "image pull 127.0.0.1:{}/web:1 --plain-http --output pulled --platform linux/arm64 --user ci --password-file password",
            server.port
        ))
        .failed(1, &["http://localhost refused GET", "status 401", "for the registry alone"]);
    let seen = server.seen.lock().unwrap().clone();
    assert!(seen.iter().any(|(path, _)| path.starts_with("/elsewhere")));
    let asked = |(path, _): &&Asked| path.starts_with("/token/elsewhere");
    assert_eq!(seen.iter().find(asked), None, "{seen:?}");
}

#[test]
fn blobs_that_announce_any_size_end_in_an_error() {
    let place = Place::new().with_images();
    let read =
        |path: &str| -> serde_json::Value { serde_json::from_slice(&place.read(path)).unwrap() };
    let mut index = read("images/index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let mut manifest = read(&format!("images/blobs/sha256/{}", &digest[7..]));
    manifest["layers"][0]["size"] = u64::MAX.into();
    let bytes = manifest.to_string();
    let digest = coracle_images::Sha256Digest::of(bytes.as_bytes());
    index["manifests"][0]["digest"] = digest.to_string().into();
    index["manifests"][0]["size"] = bytes.len().into();
    place.write(&format!("images/blobs/sha256/{}", digest.hex()), &bytes);
    place.write("images/index.json", index.to_string());
    place.write("password", "secret\n");
    let server = Tokens::start(&place, Elsewhere::Serves);
    place
        .run(&format!(
            "image pull 127.0.0.1:{}/web:1 --plain-http --output pulled --platform linux/arm64 --user ci --password-file password",
            server.port
        ))
        .failed(1, &["18446744073709551615 bytes"]);
}
