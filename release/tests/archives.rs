//! `image import` and `image export`, beside what skopeo reads and writes.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Place, Ran, names};

fn skopeo(place: &Place, from: &str, to: &str) {
    let output = Command::new("skopeo")
        .current_dir(place.path(""))
        .args([
            "copy",
            "-q",
            "--insecure-policy",
            "--override-arch",
            "amd64",
            from,
            to,
        ])
        .output()
        .expect("this test needs skopeo");
    Ran::of(output).ok();
}

/// As `… | coracle-release image import -`.
fn piped(place: &Place, archive: &str, rest: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-release"))
        .current_dir(place.path(""))
        .args("image import -".split(' '))
        .args(rest.split_whitespace())
        .stdin(Stdio::from(File::open(place.path(archive)).unwrap()))
        .output()
        .unwrap();
    Ran::of(output)
}

/// The DiffIDs of an image: what its layers are, whatever they are packed by.
fn diff_ids(place: &Place, layout: &str, tag: &str) -> serde_json::Value {
    let config: serde_json::Value = serde_json::from_str(&identity(place, layout, tag)).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    config["rootfs"]["diff_ids"].clone()
}

/// What an image is, whatever its layers are packed by: digest of the configuration (Docker's image id) and DiffIDs.
fn identity(place: &Place, layout: &str, tag: &str) -> String {
    let output = Command::new("skopeo")
        .current_dir(place.path(""))
        .args(["inspect", "--override-arch", "amd64", "--config", "--raw"])
        .arg(format!("oci:{layout}:{tag}"))
        .output()
        .expect("this test needs skopeo");
    Ran::of(output).ok()
}

fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect()
}

#[test]
fn what_docker_save_writes_is_imported_from_a_pipe() {
    let place = Place::with_keys().with_images();
    // skopeo packs no zstd into an archive of Docker's, and writes Docker's kind of configuration.
    place.build("zipped", "app-1", "shop/web:1", "gzip");
    skopeo(
        &place,
        "oci:zipped:shop/web:1",
        "docker-archive:web.tar:shop/web:1",
    );
    let said = piped(&place, "web.tar", "--output taken").ok();
    assert!(said.contains("shop/web:1 sha256:"), "{said}");
    let wanted = diff_ids(&place, "images", "shop/web:1");
    assert_eq!(diff_ids(&place, "taken", "shop/web:1"), wanted);
    // Both layers packed as `image build` does: the same blobs. One manifest and one configuration beside them.
    let (taken, made) = (
        names(&place.path("taken/blobs/sha256")),
        names(&place.path("old/blobs/sha256")),
    );
    assert_eq!(taken.len(), 4, "nothing but the image: {taken:?}");
    let shared = taken.iter().filter(|blob| made.contains(blob)).count();
    assert!(shared >= 2, "{taken:?} {made:?}");
    // And a release is made of it.
    place.write("release.toml", support::release_toml("1", "shop/web:1"));
    place
        .run("release create release.toml --images taken --key release.pk8 --platform linux/amd64 --output release.json")
        .ok();

    // Another name, another packing, a packed archive.
    let gzip = Command::new("gzip").arg(place.path("web.tar")).status();
    assert!(gzip.unwrap().success());
    piped(&place, "web.tar.gz", "--output taken --tag other:2").ok();
    let said = piped(
        &place,
        "web.tar.gz",
        "--output taken --tag other:2 --compression gzip",
    )
    .ok();
    assert!(said.contains("(replaced sha256:"), "{said}");
    assert_eq!(diff_ids(&place, "taken", "other:2"), wanted);
    skopeo(&place, "oci:taken:other:2", "oci:again:x");
}

#[test]
fn layouts_are_imported_as_they_are() {
    let place = Place::new().with_images();
    skopeo(
        &place,
        "oci:images:shop/web:1",
        "oci-archive:web.tar:shop/web:1",
    );
    place.run("image import web.tar --output one").ok();
    place.run("image import images --output both").ok();
    let both = names(&place.path("both/blobs/sha256"));
    assert_eq!(both, names(&place.path("images/blobs/sha256")));
    let one = names(&place.path("one/blobs/sha256"));
    assert!(
        one.len() == 4 && one.iter().all(|blob| both.contains(blob)),
        "{one:?}"
    );
    for tag in ["shop/web:1", "shop/web:2"] {
        assert_eq!(
            identity(&place, "both", tag),
            identity(&place, "images", tag)
        );
    }
    place
        .run("image import images --output both --tag web:3")
        .failed(1, &["2 images"]);
    place
        .run("image import base --output both")
        .failed(1, &["base", "no OCI image layout"]);
}

#[test]
fn archives_are_read_by_others_and_the_same_each_time() {
    let place = Place::new().with_images();
    for (format, transport) in [("docker", "docker-archive"), ("oci", "oci-archive")] {
        let export = format!(
            "image export --images images --tag shop/web:2 --platform linux/amd64 --format {format}"
        );
        let to = |name: &str| place.run(&format!("{export} {name}"));
        to("one.tar").ok();
        to("two.tar").ok();
        assert_eq!(place.read("one.tar"), place.read("two.tar"));
        let piped = Command::new(env!("CARGO_BIN_EXE_coracle-release"))
            .current_dir(place.path(""))
            .args(export.split_whitespace())
            .arg("-")
            .output()
            .unwrap();
        assert_eq!(piped.stdout, place.read("one.tar"));
        skopeo(
            &place,
            &format!("{transport}:one.tar"),
            &format!("oci:{format}:web:2"),
        );
        assert_eq!(
            identity(&place, format, "web:2"),
            identity(&place, "images", "shop/web:2")
        );
        place
            .run(&format!("image import one.tar --output {format}-again"))
            .ok();
        let tag = "shop/web:2";
        assert_eq!(
            identity(&place, &format!("{format}-again"), tag),
            identity(&place, "images", tag)
        );
    }
    let docker = members(&place.read("one.tar"));
    assert!(docker.contains(&"index.json".to_owned()), "{docker:?}");
    place
        .run("image export --images images --tag shop/web:9 web.tar")
        .failed(1, &["no image `shop/web:9`"]);
    assert!(!place.path("web.tar").exists());
}

#[test]
fn nothing_of_a_damaged_archive_stays() {
    let place = Place::new().with_images();
    place
        .run("image export --images images --tag shop/web:1 --platform linux/amd64 good.tar")
        .ok();
    place
        .run("image export --images images --tag shop/web:1 --platform linux/amd64 --format oci oci.tar")
        .ok();
    let (docker, oci) = (place.read("good.tar"), place.read("oci.tar"));
    let find = |archive: &[u8], name: &str| {
        let mut tar = tar::Archive::new(archive);
        let entry = tar.entries().unwrap().map(Result::unwrap);
        let at = |entry: tar::Entry<'_, &[u8]>| {
            let path = entry.path().unwrap().display().to_string();
            path.contains(name)
                .then(|| entry.raw_file_position() as usize)
        };
        entry.into_iter().find_map(at).unwrap()
    };
    let changed = |archive: &[u8], at: usize| {
        let mut archive = archive.to_vec();
        archive[at] ^= 1;
        archive
    };
    let layer = find(&docker, "layer.tar");
    for (archive, words) in [
        (changed(&docker, layer + 2000), vec!["layer.tar", "damaged"]),
        (
            changed(&oci, find(&oci, "blobs/")),
            vec!["blobs/sha256/", "damaged"],
        ),
        (
            docker[..docker.len() / 2].to_vec(),
            vec!["reading the archive"],
        ),
        (
            docker[..find(&docker, "manifest.json") - 512].to_vec(),
            vec!["no image"],
        ),
        (b"no archive at all".to_vec(), vec!["archive"]),
        (Vec::new(), vec!["no image"]),
    ] {
        place.write("bad.tar", archive);
        place
            .run("image import bad.tar --output taken")
            .failed(1, &words);
        assert_eq!(
            names(&place.path("taken/blobs/sha256")),
            [""; 0],
            "{words:?}"
        );
    }
    let index = fs::read_to_string(place.path("taken/index.json")).unwrap();
    assert!(index.contains("\"manifests\":[]"), "{index}");

    // A name that leads elsewhere, and a link that does.
    for (path, link) in [("../evil", None), ("a/layer.tar", Some("../../evil"))] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        header.set_size(0);
        if let Some(target) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        place.write("evil.tar", tar.into_inner().unwrap());
        place
            .run("image import evil.tar --output taken")
            .failed(1, &["evil", "leads out of it"]);
    }
    assert!(!Path::new(&place.path("evil")).exists());
    let mut left = String::new();
    File::open(place.path("taken/index.json"))
        .unwrap()
        .read_to_string(&mut left)
        .unwrap();
    assert_eq!(left, index);
}
