//! `coracle-release delta push` and the real console, which lists what refers to an image: no tag takes the list's place, and
//! skopeo finds what was sent.

mod fleet;

use coracle_tests::service::run;
use fleet::{Fleet, program};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn skopeo(token: &str, arguments: &[&str]) -> Value {
    let creds = format!("token:{token}");
    let said =
        run(Command::new("skopeo")
            .args(arguments)
            .args(["--tls-verify=false", "--creds", &creds]))
        .unwrap();
    serde_json::from_str(&said).unwrap()
}

/// Two layers, of which the upper one differs by `version`.
fn build(dir: &Path, version: &str) {
    let path = |name: &str| dir.join(name);
    for (file, text) in [
        ("base/etc/motd", "hello\n".to_owned()),
        (
            &format!("app-{version}/srv/text"),
            (0..20_000).map(|n| format!("{n:x}\n")).collect::<String>() + version,
        ),
    ] {
        let file = path(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    run(program("coracle-release")
        .args(["image", "build", "--owner", "0:0", "--entrypoint", "/srv"])
        .args(["--platform", "linux/amd64", "--layer"])
        .arg(path("base"))
        .arg("--layer")
        .arg(path(&format!("app-{version}")))
        .arg("--output")
        .arg(path("images"))
        .args(["--tag", &format!("shop/web:{version}")]))
    .unwrap();
}

#[test]
fn the_consoles_own_list_has_the_deltas_that_are_pushed_there() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    for version in ["1", "2"] {
        build(dir.path(), version);
    }
    let token_file = dir.path().join("console/admin.token");
    let token = std::fs::read_to_string(&token_file).unwrap();
    let token = token.trim();
    let host = format!("127.0.0.1:{}", fleet.http);
    let ask = |command: [&str; 2], version: &str, more: &[&str]| {
        run(program("coracle-release")
            .args(command)
            .arg(format!("{host}/shop/web:{version}"))
            .args(["--platform", "linux/amd64", "--plain-http"])
            .args(["--user", "token", "--password-file"])
            .arg(&token_file)
            .args(more))
        .unwrap()
    };
    let images = dir.path().join("images").display().to_string();
    for version in ["1", "2"] {
        let tag = format!("shop/web:{version}");
        ask(
            ["image", "push"],
            version,
            &["--images", &images, "--tag", &tag],
        );
    }
    let from = [
        "--images",
        &images,
        "--tag",
        "shop/web:2",
        "--base",
        "shop/web:1",
    ];
    let said = ask(["delta", "push"], "2", &from);
    assert!(said.contains("listed by the registry"), "{said}");

    let image = format!("docker://{host}/shop/web:2");
    let digest = skopeo(token, &["inspect", &image])["Digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let list = run(Command::new("curl")
        .args(["-sS", "--fail", "-H"])
        .arg(format!("Authorization: Bearer {token}"))
        .arg(format!("http://{host}/v2/shop/web/referrers/{digest}")))
    .unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let entries = list["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{list}");
    let artifact = entries[0]["digest"].as_str().unwrap();
    let at = format!("docker://{host}/shop/web@{artifact}");
    let manifest = skopeo(token, &["inspect", "--raw", &at]);
    assert_eq!(manifest["subject"]["digest"], digest.as_str());
    let delta = manifest["layers"][2]["digest"].as_str().unwrap();
    let tags = skopeo(token, &["list-tags", &format!("docker://{host}/shop/web")]);
    assert_eq!(tags["Tags"], serde_json::json!(["1", "2"]));

    let listed = ask(["delta", "list"], "2", &[]);
    assert!(listed.contains(delta), "{listed}");
    let pulled = dir.path().join("pulled");
    let brought = ask(
        ["delta", "pull"],
        "2",
        &["--output", &pulled.display().to_string()],
    );
    assert_eq!(brought, listed);
    let blob = |layout: &Path| std::fs::read(layout.join("blobs").join(delta.replace(':', "/")));
    assert_eq!(blob(&pulled).unwrap(), blob(Path::new(&images)).unwrap());
}
