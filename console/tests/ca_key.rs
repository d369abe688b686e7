//! The CA's key in a token, with SoftHSM2 as the token.

mod support;

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Board, Fleet, csr, noise, token, wait_for};

const CA: &str = "pkcs11:token=fleet;object=ca";
const DEPLOY: &str = "pkcs11:token=fleet;object=deploy";

fn new_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().unwrap()
}

/// A console whose CA has its key in a token since its first start.
fn with_ca_in_token(extra: &[&str]) -> Fleet {
    let mut fleet = Fleet::prepare(&[&["--ca-key", CA], extra].concat());
    let environment = token::make(&fleet);
    fleet.use_environment(&environment);
    let (good, said) = fleet.run(&["ca", "new", "--key", CA]);
    assert!(good && said.contains("does not leave it"), "{said}");
    fleet.start_console();
    fleet
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}

/// The public half, 65 bytes, of the key of a certificate.
fn point(certificate: &Path) -> Vec<u8> {
    point_of(&fs::read(certificate).unwrap())
}

fn point_of(pem: &[u8]) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let key = &certificate.public_key().subject_public_key.data;
    key.to_vec()
}

/// What a console says that does not start.
fn refused(fleet: &Fleet, extra: &[&str]) -> String {
    let of = |name: &str| fleet.path(name).display().to_string();
    let (state, root, deploy) = (of("state"), of("root.json"), of("deploy.pk8"));
    let usual = ["serve", "--advertise", "127.0.0.1", "--state", &state];
    let keys = ["--root", &root, "--deploy-key", &deploy];
    let (good, said) = fleet.run(&[&usual[..], &keys, extra].concat());
    assert!(!good, "{said}");
    said
}

fn is_cut_off(board: &Board) {
    wait_for("the broker refuses it", 30, || {
        (!board.is_let_in()).then_some(())
    });
}

#[test]
fn a_ca_in_a_token_enrols_renews_and_revokes_and_its_key_is_nowhere_else() {
    let fleet = with_ca_in_token(&["--board-certificate-life", "30s"]);
    let (good, said) = fleet.run(&["ca", "new", "--key", CA]);
    assert!(!good && said.contains("has a private key `ca`"), "{said}");
    let board = fleet.enrol("acme.b1");
    assert!(board.is_let_in());
    wait_for("due", 30, || {
        (board.standing()["state"] == "due").then_some(())
    });
    let renewed = board.renew(&new_key()).ok().unwrap();
    assert!(renewed.is_let_in());
    let answer = fleet.post(
        "/api/v1/boards/acme.b1/revocation",
        &json!({"reason": "sold"}),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    is_cut_off(&renewed);
    assert_eq!(renewed.standing()["state"], "revoked");
    let list = fleet.path("state/pki/fleet.crl");
    let said = Command::new("openssl")
        .args(["crl", "-noout", "-CAfile"])
        .arg(fleet.path("state/pki/ca.crt"))
        .arg("-in")
        .arg(list)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("verify OK"), "{said}");

    // Every private key that lies there is another one: the server's, and that of the console's own link.
    let ca = point(&fleet.path("state/pki/ca.crt"));
    let (mut keys, mut databases) = (0, 0);
    for file in files(&fleet.path("state")) {
        let bytes = fs::read(&file).unwrap();
        let holds = bytes.windows(11).any(|part| part == b"PRIVATE KEY");
        databases += usize::from(file.ends_with("console.db"));
        if holds {
            let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{file:?}"));
            let key = rcgen::KeyPair::from_pem(&text).unwrap();
            assert_ne!(key.public_key_raw(), ca, "{file:?}");
            keys += 1;
        }
    }
    assert!(keys >= 2 && databases == 1, "{keys} {databases}");
    assert!(!fleet.path("state/pki/ca.key").exists());
}

#[test]
fn while_the_cas_token_is_away_boards_are_served_and_what_waits_is_made_up_for() {
    let mut fleet = with_ca_in_token(&["--board-certificate-life", "6s", "--renewal-grace", "1h"]);
    let (board, other) = (fleet.enrol("acme.b1"), fleet.enrol("acme.b2"));
    let file = fleet.enrolment("acme.b3");
    token::away(&fleet);
    let refused = fleet.send_csr(&file, &csr(&new_key()));
    let words = String::from_utf8_lossy(&refused.body).into_owned();
    assert_eq!(refused.status, 503, "{words}");
    for part in ["token", "ask again later", "check --ca-key"] {
        assert!(words.contains(part), "{words}");
    }
    wait_for("over", 30, || {
        (other.standing()["state"] == "expired").then_some(())
    });
    assert_eq!(other.renew(&new_key()).err().unwrap().status, 503);
    let path = "/api/v1/boards/acme.b1/revocation";
    assert_eq!(fleet.post(path, &json!({"reason": "sold"})).status, 200);
    assert_eq!(board.standing()["state"], "revoked");

    // Started anew without it, as after a cut of power.
    fleet.stop_console();
    fleet.start_console();
    assert_eq!(board.standing()["state"], "revoked");
    assert_eq!(other.renew(&new_key()).err().unwrap().status, 503);
    let state = fleet.path("state").display().to_string();
    let check = ["check", "--state", &state, "--ca-key", CA];
    let (good, said) = fleet.run(&check);
    assert!(
        !good && said.contains("FAIL the CA's key in its token"),
        "{said}"
    );

    token::back(&fleet);
    assert!(
        fleet
            .run(&check)
            .1
            .contains("the CA's key in its token: opens")
    );
    assert!(other.renew(&new_key()).ok().unwrap().is_let_in());
    // The enrolment file was not used up.
    assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 200);
    let serial = board.standing()["serial"].as_str().unwrap().to_uppercase();
    wait_for("the list has it", 30, || {
        let list = Command::new("openssl")
            .args(["crl", "-noout", "-text", "-in"])
            .arg(fleet.path("state/pki/fleet.crl"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&list.stdout)
            .contains(&serial)
            .then_some(())
    });
}

#[test]
fn two_keys_in_one_token_open_it_again_in_turn_and_try_a_wrong_pin_once() {
    let mut fleet = Fleet::prepare(&["--ca-key", CA]);
    let environment = token::make(&fleet);
    token::import_deploy_key(&fleet);
    fleet.use_deploy_key(DEPLOY, &environment);
    assert!(fleet.run(&["ca", "new", "--key", CA]).0);
    fleet.start_console();
    fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    fleet.deploy(&release, &["acme.b1"]);
    let order = json!({"release": release, "boards": ["acme.b1"]});
    for round in 2..4 {
        token::away(&fleet);
        assert_eq!(fleet.post("/api/v1/deployments", &order).status, 503);
        let file = fleet.enrolment(&format!("acme.b{round}"));
        assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 503);
        token::back(&fleet);
        assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 200);
        fleet.deploy(&release, &["acme.b1"]);
        fleet.enrol(&format!("acme.c{round}"));
    }
    fs::write(fleet.path("pin"), "4321\n").unwrap();
    token::away(&fleet);
    let file = fleet.enrolment("acme.b9");
    assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 503);
    token::back(&fleet);
    for _ in 0..3 {
        assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 503);
    }
    let refused = fleet.post("/api/v1/deployments", &order);
    let words = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        refused.status == 503 && words.contains("the PIN is wrong"),
        "{words}"
    );
    assert!(words.contains("was not tried again"), "{words}");
}

#[test]
fn a_ca_moves_from_its_file_into_a_token() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    fleet.stop_console();
    let environment = token::make(&fleet);
    fleet.use_environment(&environment);
    let ca_key = fleet.path("state/pki/ca.key");
    token::import(&fleet, &ca_key, "ca", "02");
    let serve = |uri: &str| refused(&fleet, &["--ca-key", uri]);
    let said = serve(CA);
    assert!(said.contains("pki/ca.key is there too"), "{said}");
    fs::rename(&ca_key, fleet.path("ca.key")).unwrap();
    let another = "pkcs11:token=fleet;object=another";
    assert!(fleet.run(&["ca", "new", "--key", another]).0);
    let said = serve(another);
    assert!(said.contains("holds another key"), "{said}");
    fleet.with_options(&["--ca-key", CA]);
    fleet.start_console();
    assert!(board.is_let_in());
    assert!(fleet.enrol("acme.b2").is_let_in());
    // And without the option it is not silently made anew.
    fleet.stop_console();
    let said = refused(&fleet, &[]);
    assert!(said.contains("--ca-key"), "{said}");
}

#[test]
fn a_console_whose_own_certificate_is_due_starts_without_the_token() {
    let mut fleet = with_ca_in_token(&[]);
    let board = fleet.enrol("acme.b1");
    fleet.stop_console();
    let server = fleet.path("state/pki/server.crt");
    let old = fs::read(&server).unwrap();
    // As if half of its life were over.
    fs::remove_file(fleet.path("state/pki/server.json")).unwrap();
    token::away(&fleet);
    fleet.start_console();
    assert!(board.is_let_in());
    assert_eq!(fs::read(&server).unwrap(), old);
    assert!(fleet.log().contains("due to be issued anew"));
    // It is back while the console serves: boards meet the new one, on the console's port and at the broker. There it cannot be
    // written at first.
    let copy = fleet.path("state/mosquitto/server.crt");
    fs::remove_file(&copy).unwrap();
    fs::create_dir(&copy).unwrap();
    token::back(&fleet);
    wait_for("a new certificate", 150, || {
        (fs::read(&server).unwrap() != old).then_some(())
    });
    wait_for("that it does not serve", 30, || {
        let log = fleet.log();
        log.contains("does not serve yet; it is tried each minute")
            .then_some(())
    });
    fs::remove_dir(&copy).unwrap();
    wait_for("it serves", 90, || {
        fleet
            .log()
            .contains("issued anew, and serves")
            .then_some(())
    });
    let new = point(&server);
    assert_ne!(new, point_of(&old));
    for port in [fleet.boards, fleet.mqtt] {
        wait_for("it is shown", 10, || (shown(port) == new).then_some(()));
    }
    assert!(board.is_let_in());
    fleet.stop_console();
    fleet.start_console();
    assert_eq!(point(&server), new);
    assert!(board.is_let_in());
}

/// The public half of the key of a server.
fn shown(port: u16) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("-----BEGIN").unwrap_or_default();
    point_of(&text.as_bytes()[begin..])
}

#[test]
fn a_console_that_is_started_again_and_again_tries_a_wrong_pin_once() {
    let mut fleet = with_ca_in_token(&[]);
    fleet.stop_console();
    fs::write(fleet.path("pin"), "4321\n").unwrap();
    let serve = || refused(&fleet, &["--ca-key", CA]);
    assert!(serve().contains("the PIN is wrong"));
    // Whoever starts it again and again has it serve, and certify nothing.
    fleet.start_console();
    let file = fleet.enrolment("acme.b1");
    let refused = fleet.send_csr(&file, &csr(&new_key()));
    let words = String::from_utf8_lossy(&refused.body).into_owned();
    assert_eq!(refused.status, 503, "{words}");
    assert!(words.contains("check --ca-key"), "{words}");
    assert!(fleet.log().contains("log in once by hand"));
    fleet.kill_console();
    fs::write(fleet.path("pin"), "1234\n").unwrap();
    fleet.start_console();
    assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 503);
    let state = fleet.path("state").display().to_string();
    let (good, said) = fleet.run(&["check", "--state", &state, "--ca-key", CA]);
    assert!(good, "{said}");
    assert_eq!(fleet.send_csr(&file, &csr(&new_key())).status, 200);
}
