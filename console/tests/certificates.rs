//! Renewal and revocation of boards' certificates: the boards' port, the broker, the operators' side.

mod support;

use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Board, Fleet, curl, noise, wait_for};

fn state(board: &Board) -> String {
    board.standing()["state"].as_str().unwrap().to_owned()
}

fn wait_state(board: &Board, wanted: &str) {
    wait_for(wanted, 15, || (state(board) == wanted).then_some(()));
}

fn new_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().unwrap()
}

fn words(answer: &support::Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

#[test]
fn an_old_copy_of_a_boards_key_renews_nothing() {
    let fleet = Fleet::start_with(&["--board-certificate-life", "15s"]);
    let board = fleet.enrol("acme.b1");
    assert_eq!(state(&board), "good");
    let early = board.renew(&new_key()).err().unwrap();
    assert_eq!(
        (early.status, words(&early)),
        (409, "the certificate is not due yet".into())
    );
    wait_state(&board, "due");
    let key = std::fs::read_to_string(board.dir.join("key.pem")).unwrap();
    let same = rcgen::KeyPair::from_pem(&key).unwrap();
    assert_eq!(board.renew(&same).err().unwrap().status, 400);

    // The answer may be lost on the way: the present certificate asks again, until a newer one was used.
    board.renew(&new_key()).ok().unwrap();
    let renewed = board.renew(&new_key()).ok().unwrap();
    assert_eq!(state(&board), "due");
    assert_eq!(state(&renewed), "good");
    assert!(renewed.is_let_in());
    assert_eq!(state(&board), "superseded");
    let old = board.renew(&new_key()).err().unwrap();
    assert_eq!(old.status, 403);
    assert!(
        words(&old).contains("another machine has a copy"),
        "{old:?}"
    );

    let listed = fleet.get("/api/v1/boards/acme.b1/certificates");
    let listed = listed.as_array().unwrap();
    let newest = renewed.standing()["serial"].clone();
    let of = |serial: &Value| listed.iter().find(|row| row["serial"] == *serial).unwrap();
    assert_eq!((listed.len(), &of(&newest)["how"]), (3, &json!("renewed")));
    assert!(of(&newest)["last_used"].is_u64());
    assert!(of(&board.standing()["serial"])["superseded_at"].is_u64());
    let audit = fleet.get("/api/v1/audit").to_string();
    assert!(audit.contains("board.renew") && audit.contains(newest.as_str().unwrap()));
}

#[test]
fn an_expired_certificate_opens_nothing_but_its_renewal() {
    let fleet = Fleet::start_with(&["--board-certificate-life", "6s", "--renewal-grace", "8s"]);
    let (board, late) = (fleet.enrol("acme.b1"), fleet.enrol("acme.b2"));
    let (release, _) = fleet.release(1, &[("app", noise(3, 5000))]);
    let blob = format!(
        "/blobs/sha256/{}",
        release.apps[0].image.layers[0].digest.hex()
    );
    wait_state(&board, "expired");
    assert!(
        !board.is_let_in(),
        "the broker lets an expired certificate in"
    );
    let refused = board.get(&blob, &[]);
    assert_eq!(
        (refused.status, words(&refused)),
        (403, "the certificate is over".into())
    );
    let renewed = board.renew(&new_key()).ok().unwrap();
    assert!(renewed.is_let_in());
    assert_eq!(renewed.get(&blob, &[]).status, 200);

    wait_state(&late, "too-late");
    let refused = late.renew(&new_key()).err().unwrap();
    assert_eq!(refused.status, 403);
    assert!(
        words(&refused).contains("for 8 s after its end"),
        "{refused:?}"
    );
    assert!(
        refused.json()["hint"]
            .as_str()
            .unwrap()
            .contains("coracle enrol")
    );
}

/// Signed by the fleet's CA, and never issued: what whoever stole a backup of the CA could make, and what a console from
/// an old backup did issue and does not know.
fn forge(fleet: &Fleet, board: &Board) {
    let read = |name: &str| std::fs::read_to_string(fleet.path("state/pki").join(name)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, board.id.as_str());
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = new_key();
    let forged = params.signed_by(&key, &issuer).unwrap().pem();
    std::fs::write(board.dir.join("crt.pem"), forged).unwrap();
    std::fs::write(board.dir.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn what_an_old_backup_does_not_know_is_taken_in_until_a_time() {
    let until = |seconds| {
        let time = std::time::SystemTime::now() + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    };
    let soon = until(30);
    let fleet = Fleet::start_with(&["--adopt-unknown-until", &soon]);
    let (board, late) = (fleet.enrol("acme.b1"), fleet.enrol("acme.b2"));
    let unknown = Board::at(&fleet, "acme.b9", &board.dir, "b9");
    for board in [&board, &unknown] {
        forge(&fleet, board);
    }
    assert_eq!(state(&board), "good");
    assert_eq!(state(&unknown), "unknown");
    assert!(
        fleet
            .get("/api/v1/audit")
            .to_string()
            .contains("board.adopt")
    );
    let listed = fleet.get("/api/v1/boards/acme.b1/certificates").to_string();
    assert!(listed.contains("adopted"), "{listed}");
    // From then on it is like any other.
    fleet.post("/api/v1/boards/acme.b1/revocation", &json!({}));
    assert_eq!(state(&board), "revoked");
    forge(&fleet, &board);
    assert_eq!(state(&board), "unknown");
    forge(&fleet, &late);
    std::thread::sleep(Duration::from_secs(31));
    assert_eq!(state(&late), "unknown");

    let far = until(31 * 86_400);
    let refused = Command::new(env!("CARGO_BIN_EXE_coracle-console"))
        .args(["serve", "--adopt-unknown-until", &far])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("at most 30 days"), "{words}");
}

#[test]
fn a_certificate_that_another_made_renews_nothing() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", fleet.boards);
    let ca = board.dir.join("ca.crt").display().to_string();
    let bare = curl(&["--cacert", &ca, &url("/certificate")]);
    assert_eq!(bare.status, 403, "{bare:?}");
    forge(&fleet, &board);
    assert_eq!(state(&board), "unknown");
    assert_eq!(board.renew(&new_key()).err().unwrap().status, 403);
    assert_eq!(
        board
            .get(&format!("/blobs/sha256/{}", "0".repeat(64)), &[])
            .status,
        403
    );
}

/// A subscriber that holds its connection. The broker knows a board by its certificate's name: while this one is
/// there, no other may come under that name.
fn hold(board: &Board) -> Child {
    let log = board.dir.join("held");
    let child = board
        .mosquitto("mosquitto_sub")
        .args(["-q", "1", "-t", &board.topic("desired")])
        // Retained: with it the subscription is known to stand.
        .args(["-t", "coracle/v1/fleet/root"])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the subscription", 10, || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("version").then_some(())
    });
    child
}

#[test]
fn a_revoked_board_is_cut_off_and_comes_back_with_a_new_key() {
    let fleet = Fleet::start();
    let (board, other) = (fleet.enrol("acme.b1"), fleet.enrol("acme.b2"));
    let (release, digest) = fleet.release(1, &[("app", noise(3, 5000))]);
    fleet.deploy(&digest, &["acme.b1", "acme.b2"]);
    let blob = format!(
        "/blobs/sha256/{}",
        release.apps[0].image.layers[0].digest.hex()
    );
    assert_eq!(board.get(&blob, &[]).status, 200);
    let (mut held, mut stays) = (hold(&board), hold(&other));
    // A file that lies about somewhere must not bring it back.
    let lost = fleet.enrolment("acme.b1");

    let path = "/api/v1/boards/acme.b1/revocation";
    let answer = fleet.post(path, &json!({"reason": "stolen from site 4"}));
    assert_eq!(
        (answer.status, &answer.json()["certificates"]),
        (200, &json!(1)),
        "{answer:?}"
    );
    wait_for("the broker drops its connection", 10, || {
        held.try_wait().unwrap()
    });
    wait_for("the broker refuses it", 10, || {
        (!board.is_let_in()).then_some(())
    });
    assert!(
        stays.try_wait().unwrap().is_none(),
        "another board lost its connection"
    );
    stays.kill().unwrap();
    stays.wait().unwrap();
    assert!(other.is_let_in());

    let refused = board.get(&blob, &[]);
    assert_eq!(
        (refused.status, words(&refused)),
        (403, "revoked: stolen from site 4".into())
    );
    assert_eq!(state(&board), "revoked");
    assert_eq!(board.renew(&new_key()).err().unwrap().status, 403);
    assert_eq!(fleet.send_csr(&lost, &support::csr(&new_key())).status, 401);
    let deploy = fleet.post(
        "/api/v1/deployments",
        &json!({"release": digest, "boards": ["acme.b1"]}),
    );
    assert_eq!(deploy.status, 409, "{deploy:?}");
    assert!(words(&deploy).contains("acme.b1"), "{deploy:?}");
    assert_eq!(fleet.post(path, &json!({})).status, 409);
    assert_eq!(
        fleet
            .post("/api/v1/boards/acme.no/revocation", &json!({}))
            .status,
        404
    );
    assert_eq!(
        fleet.post(path, &json!({"reason": "x".repeat(201)})).status,
        400
    );
    let seen = fleet.get("/api/v1/boards/acme.b1");
    assert_eq!(seen["revoked_why"], "stolen from site 4");
    let list = fleet.api("GET", "/api/v1/crl", None);
    assert_eq!(
        list.body,
        std::fs::read(fleet.path("state/pki/fleet.crl")).unwrap()
    );

    // Back with a new file; with the old key it is not taken.
    let file = fleet.enrolment("acme.b1");
    let key = std::fs::read_to_string(board.dir.join("key.pem")).unwrap();
    let old = rcgen::KeyPair::from_pem(&key).unwrap();
    let refused = fleet.send_csr(&file, &support::csr(&old));
    assert_eq!(
        (refused.status, words(&refused)),
        (403, "a certificate of this key was revoked".into())
    );
    let thief = Board::at(&fleet, "acme.b1", &board.dir, "thief");
    let again = fleet.enrol("acme.b1");
    assert!(again.is_let_in() && !thief.is_let_in());
    assert_eq!(
        (state(&again), state(&thief)),
        ("good".into(), "revoked".into())
    );
    let desired = again.read(&again.topic("desired"), 10);
    assert!(
        desired.is_some_and(|d| d.len() > 100),
        "what is wanted of it is there again"
    );
    assert_eq!(
        fleet.get("/api/v1/boards/acme.b1")["revoked_at"],
        json!(null)
    );
}

#[test]
fn a_revocation_from_the_command_line_holds_over_a_restart() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let mut held = hold(&board);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_coracle-console"))
            .args(&arguments[..2])
            .arg("--state")
            .arg(fleet.path("state"))
            .args(&arguments[2..])
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    assert!(!run(&["boards", "revoke", "acme.b9"]).0);
    let (good, said) = run(&["boards", "revoke", "acme.b1", "--reason", "sold"]);
    assert!(
        good && said.contains("acme.b1 is revoked, with 1 certificates"),
        "{said}"
    );
    let (_, said) = run(&["boards", "list"]);
    assert!(
        said.contains("acme.b1\trevoked") && said.contains("sold"),
        "{said}"
    );
    let (_, said) = run(&["boards", "certificates", "acme.b1"]);
    assert!(
        said.contains(board.standing()["serial"].as_str().unwrap()) && said.contains("revoked"),
        "{said}"
    );
    wait_for("the broker drops its connection", 15, || {
        held.try_wait().unwrap()
    });
    assert!(!board.is_let_in());
    fleet.stop_console();
    fleet.start_console();
    assert!(!board.is_let_in());
    assert_eq!(state(&board), "revoked");
}
