//! The deploy key in a token, with SoftHSM2 as the token.

mod support;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use coracle_digest::Sha256Digest;
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::verify::VerifiedDeploy;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{Board, Fleet, noise, wait_for};

const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
const URI: &str = "pkcs11:token=fleet;object=deploy";

/// Moves the fleet's deploy key from its file into a token, and answers what a console needs in its environment.
fn into_a_token(fleet: &Fleet) -> Vec<(&'static str, String)> {
    let folder = fleet.path("tokens");
    fs::create_dir(&folder).unwrap();
    let settings = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        folder.display()
    );
    fs::write(fleet.path("softhsm2.conf"), settings).unwrap();
    fs::write(fleet.path("pin"), "1234\n").unwrap();
    // OpenSSL, which softhsm2-util reads with, knows no public half inside (RFC 8410 without RFC 5958).
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    key.extend_from_slice(&fs::read(fleet.path("deploy.pk8")).unwrap()[16..48]);
    let key = BASE64_STANDARD.encode(key);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    fs::write(fleet.path("deploy.pem"), pem).unwrap();
    let of = |name: &str| fleet.path(name).display().to_string();
    let pem = of("deploy.pem");
    for line in [
        "--init-token --free --label fleet --pin 1234 --so-pin 5678".to_owned(),
        format!("--import {pem} --token fleet --label deploy --id 01 --pin 1234"),
    ] {
        let done = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", of("softhsm2.conf"))
            .args(line.split(' '))
            .output()
            .expect("this test needs softhsm2-util: apt install softhsm2");
        assert!(done.status.success(), "{done:?}");
    }
    fs::remove_file(fleet.path("deploy.pk8")).unwrap();
    fs::remove_file(pem).unwrap();
    let module = MODULES.into_iter().find(|path| Path::new(path).exists());
    vec![
        ("SOFTHSM2_CONF", of("softhsm2.conf")),
        ("CORACLE_PIN_FILE", of("pin")),
        (
            "CORACLE_PKCS11_MODULE",
            module
                .expect("this test needs SoftHSM2: apt install softhsm2")
                .into(),
        ),
    ]
}

/// The assignment that the board gets is signed by the fleet's deploy key.
fn arrives(fleet: &Fleet, board: &Board, release: &Sha256Digest) {
    let ordered = fleet.deploy(release, &["acme.b1"]);
    let activity = &ordered["boards"][0]["activity"];
    let message = wait_for("the message", 10, || {
        let message = board.read(&board.topic("desired"), 5)?;
        let desired: Desired = serde_json::from_slice(&message).unwrap();
        (*activity == desired.activity).then_some(desired)
    });
    let Document::Inline(envelope) = message.deploy else {
        panic!("a small document travels inline");
    };
    VerifiedDeploy::open(&envelope, &fleet.root).unwrap();
}

#[test]
fn a_console_signs_with_a_key_in_a_token_that_goes_and_comes_back() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    fleet.stop_console();
    let environment = into_a_token(&fleet);
    fleet.use_deploy_key(URI, &environment);
    fleet.start_console();
    arrives(&fleet, &board, &release);

    let (here, away) = (fleet.path("tokens"), fleet.path("away"));
    fs::rename(&here, &away).unwrap();
    let order = json!({"release": release, "boards": ["acme.b1"]});
    let refused = fleet.post("/api/v1/deployments", &order);
    assert_eq!(refused.status, 503, "{refused:?}");
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("token") && text.contains("coracle-console check"),
        "{text}"
    );
    fs::rename(&away, &here).unwrap();
    arrives(&fleet, &board, &release);
}

/// Three wrong ones lock a card.
#[test]
fn a_pin_that_became_wrong_is_tried_once() {
    let mut fleet = Fleet::start();
    fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    fleet.stop_console();
    let environment = into_a_token(&fleet);
    fleet.use_deploy_key(URI, &environment);
    fleet.start_console();

    fs::write(fleet.path("pin"), "4321\n").unwrap();
    let (here, away) = (fleet.path("tokens"), fleet.path("away"));
    let order = json!({"release": release, "boards": ["acme.b1"]});
    fs::rename(&here, &away).unwrap();
    assert_eq!(fleet.post("/api/v1/deployments", &order).status, 503);
    fs::rename(&away, &here).unwrap();
    let wrong = fleet.post("/api/v1/deployments", &order);
    let text = String::from_utf8_lossy(&wrong.body).into_owned();
    assert!(
        wrong.status == 503 && text.contains("the PIN is wrong"),
        "{text}"
    );
    fs::write(fleet.path("pin"), "1234\n").unwrap();
    let given_up = fleet.post("/api/v1/deployments", &order);
    let text = String::from_utf8_lossy(&given_up.body).into_owned();
    assert!(
        given_up.status == 503 && text.contains("restart the console"),
        "{text}"
    );
}
