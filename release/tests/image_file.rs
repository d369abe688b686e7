//! `image build image.toml`.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use support::{Place, Ran, names};

const FILE: &str = r#"
base = "shop/web:1"
platform = "linux/amd64"

[[files]]
from = "assets"
to = "/srv/assets"

[[files]]
from = "run.sh"
to = "/usr/local/bin/"
mode = "0755"

[config]
cmd = ["--port", "9000"]
env = { PORT = "9000", MODE = "shop" }
user = "7"
expose = ["9000/tcp"]
labels = { "org.example.by" = "ci" }
"#;

fn place() -> Place {
    let place = Place::new().with_images();
    place.write("src/image.toml", FILE);
    place.write("src/run.sh", "#!/bin/sh\n");
    place.write("src/assets/logo.svg", "<svg/>");
    place.write("src/assets/deep/a", "a");
    symlink("logo.svg", place.path("src/assets/icon.svg")).unwrap();
    fs::set_permissions(place.path("src/assets/deep"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(
        place.path("src/assets/deep/a"),
        Permissions::from_mode(0o640),
    )
    .unwrap();
    place
}

fn inspect(place: &Place, tag: &str, what: &str) -> serde_json::Value {
    let output = Command::new("skopeo")
        .current_dir(place.path(""))
        .args(["inspect", "--override-arch", "amd64", "--raw", what])
        .arg(format!("oci:images:{tag}"))
        .output()
        .expect("this test needs skopeo");
    serde_json::from_str(&Ran::of(output).ok()).unwrap()
}

#[test]
fn an_image_is_another_one_with_files_and_settings() {
    let place = place();
    let build = "image build src/image.toml --output images --tag shop/web:3";
    let said = place.run(build).ok();
    assert!(said.contains("shop/web:3 sha256:"), "{said}");
    let (base, made) = (
        inspect(&place, "shop/web:1", "--raw"),
        inspect(&place, "shop/web:3", "--raw"),
    );
    let layers = |manifest: &serde_json::Value| manifest["layers"].as_array().unwrap().clone();
    assert_eq!(
        layers(&made)[..2],
        layers(&base)[..],
        "the base's layers, as they are"
    );
    assert_eq!(layers(&made).len(), 3);
    let config = inspect(&place, "shop/web:3", "--config");
    let run = &config["config"];
    assert_eq!(
        run["Entrypoint"],
        serde_json::json!(["/bin/web"]),
        "of the base"
    );
    assert_eq!(run["Cmd"], serde_json::json!(["--port", "9000"]));
    assert_eq!(run["Env"], serde_json::json!(["PORT=9000", "MODE=shop"]));
    assert_eq!(
        (&run["User"], &run["WorkingDir"]),
        (&"7".into(), &"/srv".into())
    );
    assert_eq!(
        run["ExposedPorts"],
        serde_json::json!({"8080/tcp": {}, "9000/tcp": {}})
    );
    assert_eq!(run["Labels"]["org.example.by"], "ci");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    assert_eq!(config["history"].as_array().unwrap().len(), 3);

    place
        .run("image export --images images --tag shop/web:3 --platform linux/amd64 web.tar")
        .ok();
    let archive = place.read("web.tar");
    let diff_id = config["rootfs"]["diff_ids"][2]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    let mut outer = tar::Archive::new(&archive[..]);
    let layer = outer
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().starts_with(&diff_id));
    let mut found = Vec::new();
    for entry in tar::Archive::new(layer.unwrap()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let path = entry.path().unwrap().display().to_string();
        let path = path
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        found.push(format!("{path} {:o}", header.mode().unwrap() & 0o7777));
    }
    for wanted in [
        "srv 755",
        "srv/assets/logo.svg 644",
        "srv/assets/deep 750",
        "srv/assets/deep/a 640",
        "usr/local/bin 755",
        "usr/local/bin/run.sh 755",
    ] {
        assert!(
            found.iter().any(|found| found == wanted),
            "{wanted} in {found:?}"
        );
    }
    assert!(
        found
            .iter()
            .any(|found| found.starts_with("srv/assets/icon.svg ")),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|found| found.contains("libc")),
        "{found:?}"
    );

    // Again, at another time: the same image.
    let before = names(&place.path("images/blobs/sha256"));
    place.run(build).ok();
    assert_eq!(names(&place.path("images/blobs/sha256")), before);
}

#[test]
fn faults_of_an_image_file_are_named() {
    let place = place();
    for (from, to, words) in [
        ("cmd =", "comand =", vec!["bad.toml", "comand"]),
        (
            "\"/srv/assets\"",
            "\"srv/assets\"",
            vec!["files[0].to", "`srv/assets`"],
        ),
        ("\"/srv/assets\"", "\"/srv/../../etc\"", vec!["files[0].to"]),
        ("\"0755\"", "\"rwx\"", vec!["files[1].mode", "`rwx`"]),
        ("\"run.sh\"", "\"gone.sh\"", vec!["gone.sh"]),
        ("shop/web:1", "shop/none:1", vec!["no image `shop/none:1`"]),
        (
            "linux/amd64",
            "amd64/linux/v1/x",
            vec!["platform", "linux/arm64"],
        ),
        (
            "base =",
            "rootfs = \"x\"\nbase =",
            vec!["rootfs", "[[files]]"],
        ),
    ] {
        place.write("src/bad.toml", FILE.replacen(from, to, 1));
        place
            .run("image build src/bad.toml --output images --tag shop/web:4")
            .failed(1, &words);
    }
    place
        .run("image build src/image.toml --rootfs base --output images --tag shop/web:4")
        .failed(2, &["--rootfs"]);
    place
        .run("image build --output images --tag shop/web:4")
        .failed(2, &["--rootfs"]);
}

/// Members of a layer that was not packed, with kinds and modes.
fn members(layer: &[u8]) -> Vec<String> {
    let mut tar = tar::Archive::new(layer);
    let entries = tar.entries().unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let path = entry.path().unwrap().display().to_string();
            let kind = entry.header().entry_type().as_byte() as char;
            format!("{path} {kind} {:o}", entry.header().mode().unwrap())
        })
        .collect()
}

/// Builds `src/image.toml` of `[[files]]` alone; what its layer has.
fn layer(place: &Place, files: &[(&str, &str)]) -> Result<Vec<String>, Ran> {
    let entry =
        |(from, to): &(&str, &str)| format!("[[files]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    place.write(
        "src/image.toml",
        files.iter().map(entry).collect::<String>(),
    );
    let _ = fs::remove_dir_all(place.path("plain"));
    let ran =
        place.run("image build src/image.toml --compression none --output plain --tag files:1");
    if ran.code != 0 {
        return Err(ran);
    }
    let largest = names(&place.path("plain/blobs/sha256"))
        .into_iter()
        .map(|blob| place.read(&format!("plain/blobs/sha256/{blob}")))
        .max_by_key(Vec::len);
    Ok(members(&largest.unwrap()))
}

#[test]
fn nothing_is_written_through_links_of_earlier_entries() {
    let place = Place::new();
    place.write("host/file", "of this machine");
    place.write("src/new", "of the image");
    place.write("src/folder/file", "of the image");
    symlink(place.path("host"), place.path("src/dir")).unwrap();
    symlink(place.path("host/file"), place.path("src/link")).unwrap();
    let host = || (names(&place.path("host")), place.read("host/file"));
    let before = host();

    // On the way.
    let refused = layer(&place, &[("dir", "/opt/d"), ("new", "/opt/d/file")]);
    refused.unwrap_err().failed(
        1,
        &["files[1].to", "`/opt/d` of an earlier entry is no folder"],
    );
    // At its end: the later entry takes its place.
    for (from, to, wanted) in [
        ("new", "/opt/l", "opt/l 0 644"),
        ("folder", "/opt/l", "opt/l/file 0 644"),
    ] {
        let found = layer(&place, &[("link", "/opt/l"), (from, to)]).map_err(|ran| ran.err);
        let found = found.unwrap();
        assert!(found.iter().any(|member| member == wanted), "{found:?}");
        assert_eq!(host(), before);
    }
    // Inside a folder that goes onto another one.
    place.write("src/one/d/x", "");
    fs::remove_dir_all(place.path("src/one/d")).unwrap();
    symlink(place.path("host"), place.path("src/one/d")).unwrap();
    place.write("src/two/d/file", "of the image");
    let found = layer(&place, &[("one", "/opt"), ("two", "/opt")]).map_err(|ran| ran.err);
    let found = found.unwrap();
    assert!(found.contains(&"opt/d/file 0 644".to_owned()), "{found:?}");
    assert_eq!(host(), before);

    // What never ends is not read.
    let made = Command::new("mkfifo")
        .arg(place.path("src/folder/pipe"))
        .status();
    assert!(made.unwrap().success());
    let refused = layer(&place, &[("folder", "/opt")]);
    refused
        .unwrap_err()
        .failed(1, &["src/folder/pipe", "neither a file"]);
}

#[test]
fn folders_have_their_modes_whoever_builds() {
    let place = Place::new();
    place.write("src/closed/deep/file", "x");
    for folder in ["src/closed/deep", "src/closed"] {
        fs::set_permissions(place.path(folder), Permissions::from_mode(0o555)).unwrap();
    }
    let found = layer(&place, &[("closed", "/opt/closed")]).map_err(|ran| ran.err);
    let found = found.unwrap();
    for wanted in [
        "./ 5 755",
        "opt/ 5 755",
        "opt/closed/ 5 555",
        "opt/closed/deep/ 5 555",
        "opt/closed/deep/file 0 644",
    ] {
        assert!(
            found.iter().any(|member| member == wanted),
            "{wanted}: {found:?}"
        );
    }
}

/// A layer as somebody else packs it: paths with kinds, modes and owners.
fn packed(members: &[(&str, tar::EntryType, u32, u64)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for &(path, kind, mode, owner) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 1);
        header.set_size(0);
        match kind {
            tar::EntryType::Symlink => tar.append_link(&mut header, path, "usr/bin").unwrap(),
            _ => tar
                .append_data(&mut header, path, std::io::empty())
                .unwrap(),
        }
    }
    tar.into_inner().unwrap()
}

/// `below:1` in `images`: these layers.
fn with_base(place: &Place, layers: &[Vec<u8>]) {
    use coracle_images::layout::{CONFIG, ImageConfig, Layout, MANIFEST, Manifest, Platform};
    let layout = Layout::create(place.path("images"), &Default::default()).unwrap();
    let built = layers.iter().map(|layer| {
        layout
            .put("application/vnd.oci.image.layer.v1.tar", layer)
            .unwrap()
    });
    let layers: Vec<_> = built.collect();
    let config: ImageConfig = serde_json::from_value(serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| layer.digest).collect::<Vec<_>>()},
    }))
    .unwrap();
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": layout.put_json(CONFIG, &config).unwrap(), "layers": layers,
    }))
    .unwrap();
    let mut entry = layout.put_json(MANIFEST, &manifest).unwrap();
    entry.platform = Some(Platform::linux("amd64", None));
    layout.tag(entry, "below:1").unwrap();
}

#[test]
fn folders_on_the_way_stay_as_the_image_below_has_them() {
    use tar::EntryType::{Directory, Regular, Symlink};
    let place = Place::new();
    place.write("src/new", "x");
    with_base(
        &place,
        &[
            packed(&[
                ("./", Directory, 0o711, 3),
                ("./tmp/", Directory, 0o755, 0),
                ("./gone/", Directory, 0o700, 7),
                ("./bin", Symlink, 0o777, 0),
                ("./file", Regular, 0o644, 0),
            ]),
            packed(&[
                ("tmp/", Directory, 0o1777, 5),
                (".wh.gone", Regular, 0o644, 0),
            ]),
        ],
    );
    let build = |to: &[&str], below: &str| {
        let entry = |to: &&str| format!("[[files]]\nfrom = \"new\"\nto = \"{to}\"\n");
        let entries: String = to.iter().map(entry).collect();
        place.write(
            "src/image.toml",
            format!("{below}\nplatform = \"linux/amd64\"\nowner = \"9:9\"\n{entries}"),
        );
        let before = names(&place.path("images/blobs/sha256"));
        let ran =
            place.run("image build src/image.toml --compression none --output images --tag made:1");
        let new = names(&place.path("images/blobs/sha256"));
        let new = new.into_iter().filter(|blob| !before.contains(blob));
        let layer = new
            .map(|blob| place.read(&format!("images/blobs/sha256/{blob}")))
            .max_by_key(Vec::len);
        (ran, layer.unwrap_or_default())
    };
    let found = |layer: &[u8]| -> Vec<String> {
        let mut tar = tar::Archive::new(layer);
        let entries = tar.entries().unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let header = entry.header();
                let (mode, uid, gid) = (header.mode(), header.uid(), header.gid());
                let path = entry.path().unwrap().display().to_string();
                format!(
                    "{path} {:o} {}:{}",
                    mode.unwrap(),
                    uid.unwrap(),
                    gid.unwrap()
                )
            })
            .collect()
    };
    let (ran, layer) = build(&["/tmp/seed/new", "/gone/new"], "base = \"below:1\"");
    ran.ok();
    assert_eq!(
        found(&layer),
        [
            "./ 711 3:4",
            "gone/ 755 9:9",
            "gone/new 644 9:9",
            "tmp/ 1777 5:6",
            "tmp/seed/ 755 9:9",
            "tmp/seed/new 644 9:9",
        ]
    );
    // What a folder would hide.
    let (ran, _) = build(&["/bin/new"], "base = \"below:1\"");
    ran.failed(1, &["files[0].to", "`/bin` is a link to `usr/bin`"]);
    let (ran, _) = build(&["/file/new"], "base = \"below:1\"");
    ran.failed(
        1,
        &["files[0].to", "`/file` of the image below is no folder"],
    );

    // The same on top of a folder.
    place.write("src/root/tmp/x", vec![b'x'; 1]);
    symlink("usr/bin", place.path("src/root/bin")).unwrap();
    fs::set_permissions(place.path("src/root/tmp"), Permissions::from_mode(0o1777)).unwrap();
    let (ran, layer) = build(&["/tmp/new", "/var/lib/new"], "rootfs = \"root\"");
    ran.ok();
    let found = found(&layer);
    assert!(found.contains(&"tmp/ 1777 9:9".to_owned()), "{found:?}");
    let (ran, _) = build(&["/bin/new"], "rootfs = \"root\"");
    ran.failed(1, &["files[0].to", "`/bin` is a link to `usr/bin`"]);
}
