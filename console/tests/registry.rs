//! The registry, driven by skopeo and by hand.

mod support;

use coracle_digest::Sha256Digest;
use serde_json::Value;
use std::fs;
use support::{Fleet, blob, curl, noise, skopeo, unique};

#[test]
fn an_image_goes_in_and_comes_back_the_same() {
    let fleet = Fleet::start();
    let (release, _) = fleet.release(1, &[("app", noise(1, 200_000))]);
    let back = fleet.path("back");
    let from = format!("docker://127.0.0.1:{}/demo/web:1", fleet.http);
    let creds = format!("token:{}", fleet.token());
    let to = format!("oci:{}:1", back.display());
    let pulled = skopeo(&[&from, &to, "--src-tls-verify=false", "--src-creds", &creds]);
    assert!(pulled.status.success(), "{pulled:?}");
    let image = &release.apps[0].image;
    let index: Value = serde_json::from_slice(&fs::read(back.join("index.json")).unwrap()).unwrap();
    assert_eq!(
        index["manifests"][0]["digest"],
        image.manifest.digest.to_string()
    );
    for digest in [
        image.manifest.digest,
        image.config.digest,
        image.layers[0].digest,
    ] {
        assert_eq!(Sha256Digest::of(&blob(&back, &digest)), digest);
    }
    let tags = fleet.get("/v2/demo/web/tags/list");
    assert_eq!(tags["tags"], serde_json::json!(["1"]));

    // Without a token, or with a wrong one, nothing is served.
    let wrong = skopeo(&[
        &from,
        &to,
        "--src-tls-verify=false",
        "--src-creds",
        "token:wrong",
    ]);
    assert!(!wrong.status.success());
    let bare = curl(&[&format!("http://127.0.0.1:{}/v2/", fleet.http)]);
    assert_eq!(bare.status, 401);
    assert!(
        bare.header("www-authenticate")
            .unwrap()
            .starts_with("Basic")
    );
    assert_eq!(bare.json()["errors"][0]["code"], "UNAUTHORIZED");
}

#[test]
fn uploads_in_pieces_ranges_mounts_and_referrers() {
    let fleet = Fleet::start();
    let auth = format!("Authorization: Bearer {}", fleet.token());
    let base = format!("http://127.0.0.1:{}", fleet.http);
    let bytes = noise(7, 100_000);
    let digest = Sha256Digest::of(&bytes);
    let send = |method: &str, path: &str, part: &[u8], headers: &[&str]| {
        let file = fleet.path(&format!("part-{}", unique()));
        fs::write(&file, part).unwrap();
        let (at, url) = (format!("@{}", file.display()), format!("{base}{path}"));
        let mut arguments = vec!["-X", method, "-H", &auth, "--data-binary", &at];
        for header in headers {
            arguments.extend(["-H", header]);
        }
        arguments.push(&url);
        curl(&arguments)
    };
    let start = send("POST", "/v2/a/b/blobs/uploads/", b"", &[]);
    assert_eq!(start.status, 202);
    let place = start.header("location").unwrap();
    let first = send(
        "PATCH",
        &place,
        &bytes[..60_000],
        &["Content-Range: 0-59999"],
    );
    assert_eq!(
        (first.status, first.header("range").as_deref()),
        (202, Some("0-59999"))
    );
    let gap = send(
        "PATCH",
        &place,
        &bytes[70_000..],
        &["Content-Range: 70000-99999"],
    );
    assert_eq!(
        (gap.status, gap.json()["errors"][0]["code"].as_str()),
        (416, Some("BLOB_UPLOAD_INVALID"))
    );
    let state = fleet.api("GET", &place, None);
    assert_eq!(
        (state.status, state.header("range").as_deref()),
        (204, Some("0-59999"))
    );
    let end = send(
        "PUT",
        &format!("{place}?digest={digest}"),
        &bytes[60_000..],
        &[],
    );
    assert_eq!(end.status, 201, "{end:?}");

    // Other bytes than promised never get a name.
    let lie = send(
        "POST",
        &format!("/v2/a/b/blobs/uploads/?digest={digest}"),
        b"other",
        &[],
    );
    assert_eq!(
        (lie.status, lie.json()["errors"][0]["code"].as_str()),
        (400, Some("DIGEST_INVALID"))
    );
    let other = Sha256Digest::of(b"other");
    assert_eq!(
        fleet
            .api("GET", &format!("/v2/a/b/blobs/{other}"), None)
            .status,
        404
    );

    let path = format!("/v2/a/b/blobs/{digest}");
    let part = curl(&[
        "-H",
        &auth,
        "-H",
        "Range: bytes=99990-",
        &format!("{base}{path}"),
    ]);
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range").as_deref(),
        Some("bytes 99990-99999/100000")
    );
    assert_eq!(part.body, &bytes[99_990..]);
    let past = curl(&[
        "-H",
        &auth,
        "-H",
        "Range: bytes=100000-",
        &format!("{base}{path}"),
    ]);
    assert_eq!(past.status, 416);
    let head = fleet.api("HEAD", &path, None);
    assert_eq!(head.header("content-length").as_deref(), Some("100000"));
    let mount = send(
        "POST",
        &format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b"),
        b"",
        &[],
    );
    assert_eq!(mount.status, 201);

    // A manifest that names what is not here is refused; one with a subject is found by it.
    let manifest = |layer: &Sha256Digest, subject: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x-test","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{layer}","size":100000}},"layers":[]{subject}}}"#
        )
    };
    let kind = ["Content-Type: application/vnd.oci.image.manifest.v1+json"];
    let missing = send(
        "PUT",
        "/v2/a/b/manifests/1",
        manifest(&other, "").as_bytes(),
        &kind,
    );
    assert_eq!(
        (missing.status, missing.json()["errors"][0]["code"].as_str()),
        (400, Some("MANIFEST_BLOB_UNKNOWN"))
    );
    let image = manifest(&digest, "");
    assert_eq!(
        send("PUT", "/v2/a/b/manifests/1", image.as_bytes(), &kind).status,
        201
    );
    let subject = Sha256Digest::of(image.as_bytes());
    let artifact = manifest(
        &digest,
        &format!(
            r#","subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{subject}","size":{}}}"#,
            image.len()
        ),
    );
    let reference = Sha256Digest::of(artifact.as_bytes());
    let put = send(
        "PUT",
        &format!("/v2/a/b/manifests/{reference}"),
        artifact.as_bytes(),
        &kind,
    );
    assert_eq!(put.header("oci-subject"), Some(subject.to_string()));
    let found = fleet.get(&format!(
        "/v2/a/b/referrers/{subject}?artifactType=application/x-test"
    ));
    assert_eq!(found["manifests"][0]["digest"], reference.to_string());
    let none = fleet.get(&format!("/v2/a/b/referrers/{subject}?artifactType=other"));
    assert_eq!(none["manifests"], serde_json::json!([]));
    // By its digest, with names beside it; names that are none, or too many, and nothing is stored.
    let other_image = manifest(&digest, r#","annotations":{"a":"b"}"#);
    let other_at = format!(
        "/v2/a/b/manifests/{}",
        Sha256Digest::of(other_image.as_bytes())
    );
    let many: String = (0..33).map(|n| format!("tag={n}&")).collect();
    for (query, status) in [("tag=x&tag=a/b", 400), (&many[..], 414)] {
        let refused = send(
            "PUT",
            &format!("{other_at}?{query}"),
            other_image.as_bytes(),
            &kind,
        );
        assert_eq!(refused.status, status, "{refused:?}");
        assert_eq!(fleet.api("GET", &other_at, None).status, 404);
    }
    let tagged = send(
        "PUT",
        &format!("{other_at}?tag=3&tag=4.0"),
        other_image.as_bytes(),
        &kind,
    );
    let said: Vec<&str> = tagged
        .headers
        .lines()
        .filter_map(|line| line.strip_prefix("oci-tag: "))
        .collect();
    assert_eq!((tagged.status, said), (201, vec!["3", "4.0"]));
    for tag in ["3", "4.0"] {
        let back = fleet.api("GET", &format!("/v2/a/b/manifests/{tag}"), None);
        assert_eq!(back.body, other_image.as_bytes());
    }
    let by_tag = fleet.api("GET", "/v2/a/b/manifests/1", None);
    assert_eq!(by_tag.body, image.as_bytes());
    assert_eq!(
        fleet.api("GET", "/v2/a/b/manifests/2", None).json()["errors"][0]["code"],
        "MANIFEST_UNKNOWN"
    );
    assert_eq!(fleet.api("DELETE", "/v2/a/b/manifests/1", None).status, 405);
}
