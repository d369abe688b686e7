//! `image push` and `image pull` against Debian's docker-registry with `auth: token`: what it lets in is a JWT of a token server that it
//! trusts by a certificate (distribution's "Token Authentication Specification").

mod support;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Place, Server, docker_registry, free_port, names, openssl};

/// Who may what, by `Authorization`: `ci` with `secret`, `reader` with `look`.
const RIGHTS: [(&str, &[&str]); 2] = [
    ("Basic Y2k6c2VjcmV0", &["pull", "push"]),
    ("Basic cmVhZGVyOmxvb2s=", &["pull"]),
];

/// A key and its certificate, by an authority of its own.
struct Signer {
    key: PathBuf,
    certificate: String,
}

impl Signer {
    /// `NAME-ca.pem` is whom to trust.
    fn new(place: &Place, name: &str) -> Self {
        openssl(
            place,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}-ca -keyout {name}-ca.key -out {name}-ca.pem"
            ),
        );
        openssl(
            place,
            &format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            place,
            &format!(
                "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -days 2 -outform der -out {name}.der"
            ),
        );
        Self {
            key: place.path(&format!("{name}.key")),
            certificate: STANDARD.encode(place.read(&format!("{name}.der"))),
        }
    }

    /// A JWT (RFC 7519) by RS256.
    fn token(&self, claims: &serde_json::Value) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = openssl.stdin.take().unwrap();
        input.write_all(signed.as_bytes()).unwrap();
        drop(input);
        let output = openssl.wait_with_output().unwrap();
        assert!(output.status.success());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(output.stdout))
    }
}

/// The actions that are granted of `repository:shop/web:pull,push`.
fn access(scope: &str, rights: &[&str]) -> Option<serde_json::Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let granted: Vec<&str> = actions
        .split(',')
        .filter(|action| rights.contains(action))
        .collect();
    Some(json!({"type": kind, "name": name, "actions": granted}))
}

/// Serves tokens that `signer` signed; what it was asked for.
fn token_server(signer: Signer) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = head_of(&mut stream);
            let query = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let parameter = |name: &str| {
                let pairs = query.split_once('?').map_or("", |(_, pairs)| pairs);
                let value = pairs
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                value
                    .unwrap_or_default()
                    .replace("%3A", ":")
                    .replace("%2F", "/")
                    .replace("%2C", ",")
            };
            let word = head.lines().find_map(|line| {
                line.split_once(": ")
                    .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
            });
            let rights = RIGHTS
                .iter()
                .find(|(login, _)| word.is_some_and(|(_, said)| said == *login));
            let (status, body) = match rights {
                None => ("401 Unauthorized", json!({"details": "who is that?"})),
                Some((_, rights)) => {
                    log.lock().unwrap().push(parameter("scope"));
                    let now = SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .unwrap()
                        .as_secs();
                    let claims = json!({"iss": "tests", "sub": "ci", "aud": parameter("service"), "jti": "1",
                        "iat": now, "nbf": now - 5, "exp": now + 60,
                        "access": [access(&parameter("scope"), rights)]});
                    (
                        "200 OK",
                        json!({"token": signer.token(&claims), "expires_in": 60}),
                    )
                }
            };
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A registry that sends everybody to `realm`, and lets in whom the authority `trusted` vouches for.
fn registry(place: &Place, realm: u16, trusted: &str) -> (Server, String) {
    let port = free_port();
    let settings = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
         auth: {{token: {{realm: 'http://127.0.0.1:{realm}/token', service: coracle-tests, issuer: tests, rootcertbundle: {}}}}}\n",
        place.path("stored").display(),
        place.path(trusted).display(),
    );
    (
        docker_registry(place, port, &settings),
        format!("127.0.0.1:{port}"),
    )
}

#[test]
fn an_image_goes_to_a_registry_with_tokens_and_comes_back() {
    let place = Place::new().with_images();
    for (file, password) in [
        ("secret", "secret\n"),
        ("look", "look\n"),
        ("wrong", "guess\n"),
    ] {
        place.write(file, password);
    }
    let (realm, asked) = token_server(Signer::new(&place, "signer"));
    let (_server, host) = registry(&place, realm, "signer-ca.pem");
    let ci = "--user ci --password-file secret";
    let push = |version: u32, login: &str| {
        place.run(&format!(
            "image push {host}/shop/web:{version} --plain-http --images images --tag shop/web:{version} --platform linux/amd64 {login}"
        ))
    };
    let pull = |version: u32, login: &str| {
        place.run(&format!(
            "image pull {host}/shop/web:{version} --plain-http --output pulled --platform linux/amd64 {login}"
        ))
    };
    // Nobody has pushed anything: whoever may not has not.
    push(1, "").failed(1, &["/token", "status 401", "--user"]);
    push(1, "--user ci --password-file wrong").failed(1, &["/token", "status 401"]);
    push(1, "--user reader --password-file look").failed(1, &["status 401"]);
    assert!(
        !place
            .path("stored")
            .join("docker/registry/v2/repositories/shop/web/_manifests")
            .exists()
    );

    asked.lock().unwrap().clear();
    push(1, ci).ok();
    // The registry asks for the right to look first, and then for that to write.
    let scopes = asked.lock().unwrap().clone();
    assert_eq!(
        scopes,
        ["repository:shop/web:pull", "repository:shop/web:pull,push"]
    );
    push(2, ci).ok();

    asked.lock().unwrap().clear();
    pull(1, "--user reader --password-file look").ok();
    assert_eq!(*asked.lock().unwrap(), ["repository:shop/web:pull"]);
    pull(2, ci).ok();
    let blobs = names(&place.path("images/blobs/sha256"));
    assert_eq!(names(&place.path("pulled/blobs/sha256")), blobs);
    for blob in &blobs {
        let read = |layout: &str| place.read(&format!("{layout}/blobs/sha256/{blob}"));
        assert!(read("pulled") == read("images"), "{blob}");
    }
    pull(1, "").failed(1, &["/token", "status 401", "--user"]);
}

#[test]
fn a_token_of_somebody_whom_the_registry_does_not_trust_is_no_way_in() {
    let place = Place::new().with_images();
    place.write("secret", "secret\n");
    let (realm, asked) = token_server(Signer::new(&place, "stranger"));
    Signer::new(&place, "signer");
    let (_server, host) = registry(&place, realm, "signer-ca.pem");
    place
        .run(&format!(
            "image push {host}/shop/web:1 --plain-http --images images --tag shop/web:1 --platform linux/amd64 --user ci --password-file secret"
        ))
        .failed(1, &[&host, "status 401"]);
    assert_eq!(
        asked.lock().unwrap().len(),
        1,
        "one token is enough to know it"
    );
}
