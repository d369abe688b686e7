//! A stick of a test, as a folder, as an image and as a device, and a daemon that takes what it brings.

// Each test file uses its own part of it.
#![allow(dead_code)]

pub mod hostile;

use crate::daemon::Daemon;
use coracle_protocol::Sha256Digest;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::stick::Stick;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Output;

pub const OFFER: &str = "POST /coracle/v1/offer";
pub const ROOT: &str = "POST /coracle/v1/root";
pub const APPLY: &str = "POST /coracle/v1/apply";
pub const CONFIG: &[u8] = b"{}";
pub const DELTA: &[u8] = b"delta";
pub const LARGER_DELTA: &[u8] = b"a larger delta";

/// Longer than one piece.
pub fn full() -> Vec<u8> {
    vec![7; 200_000]
}

pub fn put(bytes: &[u8]) -> String {
    format!(
        "PUT /coracle/v1/blobs/sha256/{}",
        Sha256Digest::of(bytes).hex()
    )
}

pub fn blob(bytes: &[u8]) -> Value {
    json!({"digest": Sha256Digest::of(bytes), "size": bytes.len()})
}

/// A daemon that takes the offer and each blob, and a stick with those blobs.
pub fn board_and_stick(on_stick: &[&[u8]]) -> (Daemon, PathBuf) {
    board_and_stick_with(on_stick, vec![])
}

/// The same, with root documents on the stick.
pub fn board_and_stick_with(on_stick: &[&[u8]], roots: Vec<Envelope>) -> (Daemon, PathBuf) {
    let daemon = Daemon::start();
    let release = json!({"apps": [{"trial_seconds": 5}, {"trial_seconds": 2}]}).to_string();
    let stick = Stick {
        stick_version: 1,
        deploy: Envelope::unsigned("d", b"{}"),
        release: Envelope::unsigned("r", release.as_bytes()),
        deploys: vec![],
        roots,
    };
    let root = daemon.folder().join("stick");
    let blobs = root.join("coracle/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(
        root.join("coracle/stick.json"),
        serde_json::to_vec(&stick).unwrap(),
    )
    .unwrap();
    for bytes in on_stick {
        std::fs::write(blobs.join(Sha256Digest::of(bytes).hex()), bytes).unwrap();
    }
    let needs = json!({"already": false, "configs": [blob(CONFIG)], "layers": [{
        "diff_id": Sha256Digest::of(b"layer"), "full": blob(&full()),
        "deltas": [blob(DELTA), blob(LARGER_DELTA)]
    }]});
    daemon.answer(
        OFFER,
        200,
        json!({"activity": "local-1", "needs": needs}).to_string(),
    );
    for bytes in [CONFIG, DELTA, LARGER_DELTA, &full()] {
        daemon.answer(&put(bytes), 201, "");
    }
    (daemon, root)
}

pub fn phases(phases: &[&str], end: Value) -> String {
    let mut lines = String::new();
    for (sequence, phase) in phases.iter().enumerate() {
        let line = json!({"activity": "local-1", "sequence": sequence, "phase": phase});
        lines.push_str(&format!("{line}\n"));
    }
    let mut end = end;
    end["activity"] = json!("local-1");
    end["sequence"] = json!(phases.len());
    format!("{lines}{end}\n")
}

pub fn committed() -> String {
    let before = [
        "received",
        "verified",
        "fetching",
        "staging",
        "switching",
        "trial",
    ];
    phases(&before, json!({"phase": "committed"}))
}

pub fn apply(daemon: &Daemon, stick: &std::path::Path) -> (i32, String, String) {
    let output: Output = daemon.run(&["usb", "apply", stick.to_str().unwrap()]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}
/// A vfat image of a stick folder, its mode 0600, as a device node's is.
pub fn image_of(stick: &std::path::Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = stick.with_extension("img");
    let mut file = std::fs::File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.set_len(8 << 20).unwrap();
    let options = fatfs::FormatVolumeOptions::new();
    // As `coracle-release usb` calls it.
    fatfs::format_volume(&mut file, options.volume_label(*b"CORACLE    ")).unwrap();
    let files = fatfs::FileSystem::new(&mut file, fatfs::FsOptions::new()).unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(stick.join(&folder)).unwrap().flatten() {
            let inside = folder.join(entry.file_name());
            let name = inside.to_str().unwrap();
            if entry.file_type().unwrap().is_dir() {
                files.root_dir().create_dir(name).unwrap();
                folders.push(inside);
                continue;
            }
            let bytes = std::fs::read(entry.path()).unwrap();
            let mut file = files.root_dir().create_file(name).unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
        }
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// A coracle.toml whose user is not root; the stand-in for the daemon is open to it.
pub fn config(daemon: &Daemon, more: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = daemon.folder();
    let file = folder.join("coracle.toml");
    std::fs::write(
        &file,
        format!("[agent]\nuser = \"nobody\"\nrun_dir = \"run\"\n{more}"),
    )
    .unwrap();
    std::fs::create_dir_all(folder.join("run/supervisor")).unwrap();
    for (path, mode) in [
        (folder.to_owned(), 0o755),
        (folder.join("docker.sock"), 0o777),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    file.display().to_string()
}

/// A loop device, which is taken away with its test.
pub struct Loop(pub PathBuf);

impl Loop {
    pub fn of(image: &std::path::Path, more: &[&str]) -> Self {
        let made = std::process::Command::new("losetup")
            .args(["--find", "--show"])
            .args(more)
            .arg(image)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(PathBuf::from(
            String::from_utf8(made.stdout).unwrap().trim(),
        ))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let gone = std::process::Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(gone.unwrap().success());
    }
}

pub fn plug(daemon: &Daemon, config: &str, device: &std::path::Path) -> (i32, String, String) {
    let device = device.to_str().unwrap();
    let output = daemon.run(&["--config", config, "usb", "plugged", device]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}
