//! What Docker Engine 20.10 sends for `docker login`, `push` and `pull`, as it was recorded, without
//! an engine. It holds on to details that other clients do not need: chunks without
//! `Content-Range`, `Docker-Upload-UUID`, a digest in percent signs, schema 2 types.

mod support;

use base64::Engine;
use coracle_digest::Sha256Digest;
use serde_json::{Value, json};
use std::fs;
use support::{Answer, Fleet, curl, noise, unique};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// One `docker` that is logged in, or not.
struct Docker<'a> {
    fleet: &'a Fleet,
    auth: Option<String>,
}

impl Docker<'_> {
    fn send(&self, method: &str, path: &str, body: Option<&[u8]>, headers: &[&str]) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.fleet.http);
        let mut arguments = vec!["-H", "Connection: close"];
        if let Some(auth) = &self.auth {
            arguments.extend(["-H", auth]);
        }
        for header in headers {
            arguments.extend(["-H", header]);
        }
        let file = self.fleet.path(&format!("docker-{}", unique()));
        let at = format!("@{}", file.display());
        if let Some(body) = body {
            fs::write(&file, body).unwrap();
            arguments.extend(["--data-binary", &at, "-H", "Content-Type:"]);
        }
        match method {
            "HEAD" => arguments.push("-I"),
            method => arguments.extend(["-X", method]),
        }
        arguments.push(&url);
        curl(&arguments)
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Sha256Digest {
        let digest = Sha256Digest::of(bytes);
        let blob = format!("/v2/{repository}/blobs/{digest}");
        assert_eq!(self.send("HEAD", &blob, None, &[]).status, 404);
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.send("POST", &uploads, Some(b""), &[]);
        assert_eq!(begun.status, 202);
        let uuid = begun.header("docker-upload-uuid").unwrap();
        let place = begun.header("location").unwrap();
        assert!(place.ends_with(&uuid), "{place}");
        let sent = self.send(
            "PATCH",
            &place,
            Some(bytes),
            &["Transfer-Encoding: chunked"],
        );
        assert_eq!(sent.status, 202, "{sent:?}");
        assert_eq!(sent.header("range"), Some(format!("0-{}", bytes.len() - 1)));
        assert_eq!(sent.header("docker-upload-uuid"), Some(uuid));
        let place = sent.header("location").unwrap();
        let end = self.send(
            "PUT",
            &format!("{place}?digest=sha256%3A{}", digest.hex()),
            Some(b""),
            &[],
        );
        assert_eq!(end.status, 201, "{end:?}");
        assert_eq!(
            end.header("docker-content-digest"),
            Some(digest.to_string())
        );
        let there = self.send("HEAD", &blob, None, &[]);
        assert_eq!(
            (there.status, there.header("content-length")),
            (200, Some(bytes.len().to_string()))
        );
        digest
    }
}

#[test]
fn login_push_mount_and_pull() {
    let fleet = Fleet::start();
    let mut docker = Docker {
        fleet: &fleet,
        auth: None,
    };
    let asked = docker.send("GET", "/v2/", None, &[]);
    assert_eq!(asked.status, 401);
    assert!(
        asked
            .header("www-authenticate")
            .unwrap()
            .starts_with("Basic")
    );
    assert_eq!(
        asked.header("docker-distribution-api-version").as_deref(),
        Some("registry/2.0")
    );
    let login = |token: &str| {
        let word = base64::engine::general_purpose::STANDARD.encode(format!("token:{token}"));
        Some(format!("Authorization: Basic {word}"))
    };
    docker.auth = login("wrong");
    assert_eq!(docker.send("GET", "/v2/", None, &[]).status, 401);
    docker.auth = login(&fleet.token());
    assert_eq!(docker.send("GET", "/v2/", None, &[]).status, 200);

    let (layer, config) = (noise(1, 300_000), b"{\"os\":\"linux\"}".to_vec());
    let layer_digest = docker.push_blob("shop/busy", &layer);
    let config_digest = docker.push_blob("shop/busy", &config);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                   "size": config.len(), "digest": config_digest},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": layer.len(), "digest": layer_digest}]});
    // Three spaces, as docker indents; the bytes are what is kept.
    let manifest = serde_json::to_string_pretty(&manifest)
        .unwrap()
        .replace("  ", "   ");
    let digest = Sha256Digest::of(manifest.as_bytes());
    let kind = format!("Content-Type: {MANIFEST}");
    let put = |path: &str, body: &str, kind: &str| {
        let url = format!("http://127.0.0.1:{}{path}", fleet.http);
        let file = fleet.path(&format!("manifest-{}", unique()));
        fs::write(&file, body).unwrap();
        let at = format!("@{}", file.display());
        let auth = docker.auth.as_deref().unwrap();
        curl(&[
            "-X",
            "PUT",
            "-H",
            auth,
            "-H",
            kind,
            "--data-binary",
            &at,
            &url,
        ])
    };
    let stored = put("/v2/shop/busy/manifests/1", &manifest, &kind);
    assert_eq!(stored.status, 201, "{stored:?}");
    assert_eq!(
        stored.header("docker-content-digest"),
        Some(digest.to_string())
    );

    // A second repository: the engine asks for a mount, and uploads when it gets a 202.
    let mount = |digest: &Sha256Digest| {
        let path = format!(
            "/v2/other/busy/blobs/uploads/?from=shop%2Fbusy&mount=sha256%3A{}",
            digest.hex()
        );
        docker.send("POST", &path, Some(b""), &[])
    };
    for digest in [&layer_digest, &config_digest] {
        let mounted = mount(digest);
        assert_eq!(mounted.status, 201, "{mounted:?}");
        assert_eq!(
            mounted.header("location"),
            Some(format!("/v2/other/busy/blobs/{digest}"))
        );
    }
    let fallback = mount(&Sha256Digest::of(b"nowhere"));
    assert_eq!(fallback.status, 202);
    assert!(fallback.header("docker-upload-uuid").is_some());
    assert_eq!(
        put("/v2/other/busy/manifests/1", &manifest, &kind).status,
        201
    );

    // Pull: HEAD by tag with every type that it knows, then all by digest.
    let accept: Vec<String> = ["application/vnd.oci.image.manifest.v1+json", MANIFEST, LIST]
        .iter()
        .map(|kind| format!("Accept: {kind}"))
        .collect();
    let accept: Vec<&str> = accept.iter().map(String::as_str).collect();
    let head = docker.send("HEAD", "/v2/shop/busy/manifests/1", None, &accept);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type").as_deref(), Some(MANIFEST));
    assert_eq!(
        head.header("content-length"),
        Some(manifest.len().to_string())
    );
    assert_eq!(
        head.header("docker-content-digest"),
        Some(digest.to_string())
    );
    let by_digest = format!("/v2/shop/busy/manifests/{digest}");
    let pulled = docker.send("GET", &by_digest, None, &accept);
    assert_eq!(pulled.header("content-type").as_deref(), Some(MANIFEST));
    assert_eq!(pulled.body, manifest.as_bytes());
    for (digest, bytes) in [(layer_digest, &layer), (config_digest, &config)] {
        let blob = docker.send("GET", &format!("/v2/shop/busy/blobs/{digest}"), None, &[]);
        assert_eq!((blob.status, &blob.body), (200, bytes));
    }
    let missing = docker.send("GET", "/v2/shop/nope/manifests/1", None, &accept);
    let code: Value = missing.json()["errors"][0]["code"].clone();
    assert_eq!((missing.status, code), (404, json!("MANIFEST_UNKNOWN")));

    // `docker manifest push`: a list that names the image.
    let list = json!({"schemaVersion": 2, "mediaType": LIST, "manifests": [{"mediaType": MANIFEST,
        "size": manifest.len(), "digest": digest,
        "platform": {"architecture": "amd64", "os": "linux"}}]});
    let kind = format!("Content-Type: {LIST}");
    assert_eq!(
        put("/v2/shop/busy/manifests/all", &list.to_string(), &kind).status,
        201
    );
    let head = docker.send("HEAD", "/v2/shop/busy/manifests/all", None, &accept);
    assert_eq!(head.header("content-type").as_deref(), Some(LIST));
}
