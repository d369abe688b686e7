//! A release that brings the board's own program, as the engineer makes it.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use support::{Place, release_toml};

fn program(place: &Place, folder: &str, bytes: &[u8], mode: u32) {
    place.write(&format!("{folder}/coracle-agent"), bytes);
    let path = place.path(&format!("{folder}/coracle-agent"));
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn build(place: &Place, folder: &str, more: &str, tag: &str) {
    place
        .run(&format!(
            "image build --rootfs {folder} {more} --owner 0:0 --platform linux/amd64 --entrypoint /coracle-agent \
             --output images --tag {tag}"
        ))
        .ok();
}

fn with_agent(image: &str) -> String {
    let agent =
        format!("[agent]\nversion = \"1.2\"\ncounter = 12\nimage = \"{image}\"\n\n[[apps]]");
    release_toml("2", "shop/web:2").replacen("[[apps]]", &agent, 1)
}

const CREATE: &str = "release create release.toml --images images --key release.pk8 --platform linux/amd64 --output r.json";

#[test]
fn a_release_names_the_agents_own_bytes_and_a_stick_carries_them() {
    let place = Place::with_keys().with_images();
    let bytes = b"\x7fELF, and what it does";
    program(&place, "agent", bytes, 0o755);
    build(&place, "agent", "", "coracle/agent:1.2");
    place.write("release.toml", with_agent("coracle/agent:1.2"));
    place.run(CREATE).ok();
    let shown = place.run("release show r.json").ok();
    assert!(shown.contains("agent 1.2: counter 12, "), "{shown}");
    let folder = "stick";
    place
        .run(&format!(
            "usb --release r.json --images images --key offline.pk8 --board acme.b-1 --seq 1 --platform linux/amd64 --output {folder}"
        ))
        .ok();
    let readme = String::from_utf8(place.read("stick/README.txt")).unwrap();
    assert!(readme.contains("the board's own program 1.2"), "{readme}");
    let envelope: serde_json::Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    use base64::Engine;
    let payload = envelope["payload"].as_str().unwrap();
    let payload = base64::engine::general_purpose::STANDARD
        .decode(payload)
        .unwrap();
    let release: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let agent = &release["agent"];
    let digest = coracle_protocol::Sha256Digest::of(bytes).to_string();
    assert_eq!(agent["program"]["digest"], digest);
    assert_eq!(agent["program"]["size"], bytes.len());
    assert_eq!(agent["counter"], 12);
    let layer = agent["image"]["layers"][0]["digest"].as_str().unwrap();
    let blob = layer.replace("sha256:", "stick/coracle/blobs/sha256/");
    assert!(place.path(&blob).exists(), "{blob}");
}

/// The boards that a new program is for are of before it.
#[test]
fn a_release_with_an_agent_has_no_field_that_boards_before_it_refuse_unless_told() {
    let place = Place::with_keys().with_images();
    program(&place, "agent", b"\x7fELF", 0o755);
    build(&place, "agent", "", "coracle/agent:1.2");
    let file = with_agent("coracle/agent:1.2");
    for (text, counts) in [
        (format!("layer_entries = true\n{file}"), true),
        (file, false),
    ] {
        place.write("release.toml", text);
        place.run(CREATE).ok();
        let shown = place.run("release show --json r.json").ok();
        assert_eq!(shown.contains("\"entries\""), counts, "{shown}");
    }
}

#[test]
fn what_a_board_would_not_execute_is_refused_before_it_is_signed() {
    let place = Place::with_keys().with_images();
    program(&place, "script", b"#!/bin/sh\n", 0o755);
    build(&place, "script", "", "script:1");
    program(&place, "open", b"\x7fELF", 0o775);
    build(&place, "open", "", "open:1");
    program(&place, "plain", b"\x7fELF", 0o644);
    build(&place, "plain", "", "plain:1");
    build(&place, "open", "--layer plain", "two:1");
    for (image, word) in [
        ("script:1", "no ELF program"),
        ("open:1", "mode 775"),
        ("plain:1", "mode 644"),
        ("two:1", "has 2 layers"),
        ("shop/web:2", "has 2 layers"),
        ("none:1", "none:1"),
    ] {
        place.write("release.toml", with_agent(image));
        place
            .run(CREATE)
            .failed(1, &["release.toml", "agent", word]);
        assert!(!place.path("r.json").exists());
    }
}

/// Boards would take none below it any more, or none at all would be refused.
#[test]
fn an_agent_has_a_counter() {
    let place = Place::with_keys().with_images();
    program(&place, "agent", b"\x7fELF", 0o755);
    build(&place, "agent", "", "coracle/agent:1.2");
    let good = with_agent("coracle/agent:1.2");
    for (line, words) in [
        ("", "missing field `counter`"),
        ("counter = 0\n", "nonzero"),
        ("counter = 9007199254740993\n", "agent: counter"),
    ] {
        place.write("release.toml", good.replacen("counter = 12\n", line, 1));
        place.run(CREATE).failed(1, &["release.toml", words]);
        assert!(!place.path("r.json").exists());
    }
}
