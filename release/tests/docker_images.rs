//! Images with Docker's media types (schema 2), as an older registry holds them, and its schema 1, which is refused.

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::{Place, open_registry, release_toml, skopeo};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Manifest and configuration of the only image of a layout.
fn image(place: &Place, layout: &str) -> (Value, Value) {
    let index = document(&place.read(&format!("{layout}/index.json")));
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{index}");
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        document(&place.read(&format!("{layout}/blobs/{}", digest.replace(':', "/"))))
    };
    let manifest = blob(&entries[0]);
    assert_eq!(manifest["mediaType"], entries[0]["mediaType"]);
    let config = blob(&manifest["config"]);
    (manifest, config)
}

#[test]
fn images_of_dockers_schema_2_are_pulled_imported_and_released() {
    let place = Place::with_keys();
    place.write("base/bin/web", "#!/bin/sh\n");
    place.write("app/etc/web.conf", "a = 1\n");
    place.build("made", "app", "shop/web:1", "gzip");
    let (_, made) = image(&place, "made");
    let (_server, host) = open_registry(&place, "compatibility: {schema1: {enabled: true}}\n");
    let from = format!("oci:{}:shop/web:1", place.path("made").display());
    for (format, tag) in [("v2s2", "2"), ("v2s1", "1")] {
        let to = format!("docker://{host}/shop/web:{tag}");
        skopeo(&[
            "copy",
            "--dest-tls-verify=false",
            "--format",
            format,
            &from,
            &to,
        ])
        .ok();
    }
    let at = format!("docker://{host}/shop/web:2");
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &at]).ok();
    assert_eq!(document(raw.as_bytes())["mediaType"], MANIFEST);
    let pull = |tag: &str, output: &str, platform: &str| {
        place.run(&format!(
            "image pull {host}/shop/web:{tag} --plain-http --output {output} --tag shop/web:1 --platform {platform}"
        ))
    };
    pull("2", "images", "linux/amd64").ok();
    let (manifest, config) = image(&place, "images");
    assert_eq!(manifest["mediaType"], MANIFEST);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.docker.container.image.v1+json"
    );
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    );
    assert_eq!(config["rootfs"]["diff_ids"], made["rootfs"]["diff_ids"]);
    let entrypoint = &config["config"]["Entrypoint"];
    assert_eq!(*entrypoint, json!(["/bin/web"]));

    // By a list for several machines.
    let digest = coracle_images::Sha256Digest::of(raw.trim_end().as_bytes());
    let entry = |digest: &str, architecture: &str| {
        json!({"mediaType": MANIFEST, "digest": digest, "size": raw.trim_end().len(),
               "platform": {"os": "linux", "architecture": architecture}})
    };
    let list = json!({"schemaVersion": 2, "mediaType": LIST,
                      "manifests": [entry(&digest.to_string(), "arm64")]});
    place.write("list", list.to_string());
    let put = Command::new("curl")
        .args(["-sS", "--fail-with-body", "-X", "PUT", "-H"])
        .arg(format!("content-type: {LIST}"))
        .arg("--data-binary")
        .arg(format!("@{}", place.path("list").display()))
        .arg(format!("http://{host}/v2/shop/web/manifests/list"))
        .output()
        .expect("this test needs curl");
    assert!(put.status.success(), "{put:?}");
    pull("list", "listed", "linux/arm64").ok();
    assert_eq!(image(&place, "listed"), (manifest.clone(), config.clone()));
    pull("list", "none", "linux/riscv64").failed(1, &["nothing for linux/riscv64"]);

    // From a layout with such an image, and from what `docker save` writes of it.
    place
        .run("image import images --output imported --tag shop/web:1")
        .ok();
    assert_eq!(image(&place, "imported"), (manifest, config.clone()));
    let archive = format!(
        "docker-archive:{}:shop/web:1",
        place.path("web.tar").display()
    );
    skopeo(&["copy", "--src-tls-verify=false", &at, &archive]).ok();
    place
        .run("image import web.tar --output loaded --tag shop/web:1")
        .ok();
    let (_, loaded) = image(&place, "loaded");
    assert_eq!(loaded["rootfs"], config["rootfs"]);
    place.write("release.toml", release_toml("1", "shop/web:1"));
    place
        .run(
            "release create release.toml --images images --key release.pk8 --root root.json \
             --platform linux/amd64 --output release.json",
        )
        .ok();

    // Schema 1 tells no DiffIDs, and its digest is not that of its bytes.
    let at = format!("docker://{host}/shop/web:1");
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &at]).ok();
    assert_eq!(document(raw.as_bytes())["schemaVersion"], 1);
    pull("1", "old", "linux/amd64").failed(1, &["schema 1", SCHEMA_1, "--format v2s2"]);
    let index = document(&place.read("old/index.json"));
    assert_eq!(index["manifests"], json!([]));
    let mut index = document(&place.read("images/index.json"));
    index["manifests"][0]["mediaType"] = SCHEMA_1.into();
    place.write("images/index.json", index.to_string());
    place
        .run("image import images --output old --tag shop/web:1")
        .failed(1, &[SCHEMA_1, "schema 1"]);
}
