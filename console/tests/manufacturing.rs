//! Boards that enrol by the certificate that their maker gave them.

mod support;

use coracle_digest::Sha256Digest;
use coracle_protocol::enrol::{FleetFile, ManufacturingRequest, manufacturing_statement};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SigningKey, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::fs;
use std::process::Command;
use support::{Answer, Board, Fleet, csr, curl, unique};

struct Maker {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Maker {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// A certificate whose subject is `subject`, and its key.
    fn gives(&self, subject: &[(DnType, &str)], until: i32) -> (String, KeyPair) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem, key)
    }

    /// What IEEE 802.1AR calls an IDevID: it has a serial number and no end.
    fn board(&self, serial: &str) -> (String, KeyPair) {
        let subject = [
            (DnType::CustomDnType(vec![2, 5, 4, 5]), serial),
            (DnType::CommonName, "Gateway G2"),
        ];
        self.gives(&subject, 9999)
    }
}

fn fleet_of(maker: &Maker, extra: &[&str]) -> Fleet {
    let mut fleet = Fleet::start();
    fleet.stop_console();
    fs::write(fleet.path("maker.pem"), &maker.pem).unwrap();
    let file = fleet.path("maker.pem").display().to_string();
    let mut options = vec![
        "--manufacturing-ca",
        &file,
        "--manufacturing-tenant",
        "acme",
    ];
    options.extend(extra);
    fleet.with_options(&options);
    fleet.start_console();
    fleet
}

fn fleet_file(fleet: &Fleet) -> FleetFile {
    serde_json::from_value(fleet.get("/api/v1/fleet")).unwrap()
}

fn statement(ca_pem: &str, csr_pem: &str) -> String {
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
    manufacturing_statement(&Sha256Digest::of(&ca), csr_pem)
}

fn ask(fleet: &Fleet, request: &ManufacturingRequest) -> Answer {
    let file = fleet_file(fleet);
    let (ca, body) = (
        fleet.path("fleet-ca"),
        fleet.path(&format!("made-{}", unique())),
    );
    fs::write(&ca, &file.ca_pem).unwrap();
    fs::write(&body, serde_json::to_vec(request).unwrap()).unwrap();
    curl(&[
        "--cacert",
        ca.to_str().unwrap(),
        "--data-binary",
        &format!("@{}", body.display()),
        &format!("{}/enrol/manufacturing", file.console_url),
    ])
}

/// As a board does it, with a new key.
fn enrol(fleet: &Fleet, made: &(String, KeyPair)) -> Result<Board, Answer> {
    let key = KeyPair::generate().unwrap();
    let csr = csr(&key);
    let signature = made
        .1
        .sign(statement(&fleet_file(fleet).ca_pem, &csr).as_bytes())
        .unwrap();
    let request = ManufacturingRequest::new(made.0.clone(), csr, &signature);
    let answer = ask(fleet, &request);
    if answer.status != 200 {
        return Err(answer);
    }
    let dir = fleet.path(&format!("as-made-{}", unique()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ca.crt"), fleet_file(fleet).ca_pem).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    fs::write(dir.join("crt.pem"), text("certificate_pem")).unwrap();
    Ok(Board::at(
        fleet,
        &text("board"),
        &dir,
        &format!("used-{}", unique()),
    ))
}

fn refusal(result: Result<Board, Answer>) -> String {
    let answer = result.err().expect("it was taken in");
    assert_eq!(answer.status, 403, "{answer:?}");
    format!("{}", answer.json())
}

fn boards_add(fleet: &Fleet, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-console"))
        .args(["boards", "add", "--state"])
        .arg(fleet.path("state"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_board_that_an_operator_named_enrols_by_its_makers_certificate() {
    let maker = Maker::new();
    let fleet = fleet_of(&maker, &[]);
    let made = maker.board("SN-0017");
    let unknown = refusal(enrol(&fleet, &made));
    assert!(unknown.contains("boards add acme.sn-0017"), "{unknown}");
    assert_eq!(fleet.get("/api/v1/boards"), json!([]));

    let list = fleet.path("delivery.txt");
    fs::write(
        &list,
        "acme.sn-0016\n\nacme.sn-0017 # the one on the roof\n",
    )
    .unwrap();
    let file = list.display().to_string();
    let added = boards_add(&fleet, &["acme.sn-0016", "--file", &file]);
    assert!(
        added.0 && added.1.starts_with("2 added, 1 expected before\n"),
        "{added:?}"
    );
    fs::write(&list, "acme.a\nnot a board\n").unwrap();
    let (good, words) = boards_add(&fleet, &["--file", &file]);
    assert!(
        !good && words.contains("delivery.txt: line 2: `not a board`"),
        "{words}"
    );

    let board = enrol(&fleet, &made).ok().unwrap();
    assert_eq!(
        (board.id.as_str(), board.is_let_in()),
        ("acme.sn-0017", true)
    );
    let listed = fleet.get("/api/v1/boards/acme.sn-0017/certificates");
    assert_eq!(listed[0]["how"], "manufacturing");

    // After a factory reset: it is told apart in the audit log, and what it had is superseded.
    let again = enrol(&fleet, &made).ok().unwrap();
    assert!(again.is_let_in());
    assert_eq!(again.standing()["state"], "good");
    assert_eq!(board.standing()["state"], "superseded");
    let audit = fleet.get("/api/v1/audit").to_string();
    assert!(
        audit.contains("board.add") && audit.contains("not for the first time"),
        "{audit}"
    );
}

#[test]
fn a_revoked_board_does_not_come_back_by_its_makers_certificate() {
    let maker = Maker::new();
    let fleet = fleet_of(&maker, &["--manufacturing-any"]);
    let made = maker.board("b1");
    enrol(&fleet, &made).ok().unwrap();
    let answer = fleet.post(
        "/api/v1/boards/acme.b1/revocation",
        &json!({"reason": "stolen"}),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    let words = refusal(enrol(&fleet, &made));
    assert!(words.contains("acme.b1 was revoked"), "{words}");
    // A person enrols the board that came back. Whoever has its manufacturing key still has it.
    fleet.enrol("acme.b1");
    let words = refusal(enrol(&fleet, &made));
    assert!(words.contains("revoked once"), "{words}");
    let (_, words) = boards_add(&fleet, &["acme.b1"]);
    assert!(words.contains("not those that were revoked"), "{words}");
    refusal(enrol(&fleet, &made));
    let (_, words) = boards_add(&fleet, &["--again", "acme.b1"]);
    assert!(words.starts_with("1 added"), "{words}");
    assert!(enrol(&fleet, &made).ok().unwrap().is_let_in());
}

#[test]
fn a_makers_certificate_opens_one_door_and_only_for_who_holds_its_key() {
    let (maker, other) = (Maker::new(), Maker::new());
    let fleet = fleet_of(&maker, &["--manufacturing-any"]);
    let made = maker.board("b1");
    assert!(refusal(enrol(&fleet, &other.board("b1"))).contains("manufacturing certificate"));
    // Another board's certificate, and one's own key.
    let stolen = (maker.board("b2").0, KeyPair::generate().unwrap());
    assert!(refusal(enrol(&fleet, &stolen)).contains("not signed with the key"));
    let over = maker.gives(&[(DnType::CommonName, "b1")], 2001);
    assert!(refusal(enrol(&fleet, &over)).contains("xpired"));
    for subject in [&[][..], &[(DnType::CommonName, "../b1")]] {
        let nameless = maker.gives(subject, 9999);
        refusal(enrol(&fleet, &nameless));
    }

    // What was signed for another request or for another fleet.
    let (key, elsewhere) = (KeyPair::generate().unwrap(), Maker::new());
    let ca = fleet_file(&fleet).ca_pem;
    for signed in [
        statement(&ca, &csr(&KeyPair::generate().unwrap())),
        statement(&elsewhere.pem, &csr(&key)),
    ] {
        let signature = made.1.sign(signed.as_bytes()).unwrap();
        let request = ManufacturingRequest::new(made.0.clone(), csr(&key), &signature);
        let answer = ask(&fleet, &request);
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    // The same request twice: a key has one certificate.
    let csr = csr(&key);
    let signature = made.1.sign(statement(&ca, &csr).as_bytes()).unwrap();
    let request = ManufacturingRequest::new(made.0.clone(), csr, &signature);
    assert_eq!(ask(&fleet, &request).status, 200);
    let twice = ask(&fleet, &request);
    assert_eq!(twice.status, 400, "{twice:?}");

    // It is no certificate of the fleet, whatever name it carries: neither on the boards' port nor at the broker.
    let member = fleet.enrol("acme.b3");
    // Nor does the maker take over a board that people enrolled.
    let taken = refusal(enrol(&fleet, &maker.board("b3")));
    assert!(taken.contains("not expected"), "{taken}");
    let forged = maker.gives(&[(DnType::CommonName, "acme.b3")], 9999);
    let dir = fleet.path("forged");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(member.dir.join("ca.crt"), dir.join("ca.crt")).unwrap();
    fs::write(dir.join("crt.pem"), &forged.0).unwrap();
    fs::write(dir.join("key.pem"), forged.1.serialize_pem()).unwrap();
    let forged = Board::at(&fleet, "acme.b3", &dir, "forger");
    assert!(member.is_let_in() && !forged.is_let_in());
    let url = format!("https://127.0.0.1:{}/certificate", fleet.boards);
    let file = |name: &str| forged.dir.join(name).display().to_string();
    let status = Command::new("curl")
        .args([
            "-s",
            "--cacert",
            &file("ca.crt"),
            "--cert",
            &file("crt.pem"),
        ])
        .args(["--key", &file("key.pem"), &url])
        .output()
        .unwrap();
    assert!(!status.status.success(), "{status:?}");
}

#[test]
fn a_board_that_enrols_again_and_again_is_bounded_and_others_are_not() {
    let maker = Maker::new();
    let fleet = fleet_of(
        &maker,
        &["--manufacturing-any", "--board-certificate-life", "8s"],
    );
    let made = maker.board("b1");
    let first = enrol(&fleet, &made).ok().unwrap();
    for _ in 1..16 {
        // Each is used, and so supersedes the one before.
        enrol(&fleet, &made).ok().unwrap().standing();
    }
    let answer = enrol(&fleet, &made).err().unwrap();
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(first.standing()["state"], "superseded");
    let other = enrol(&fleet, &maker.board("b2")).ok().unwrap();
    // And those that were made do not stop the renewal of one that is in force.
    support::wait_for("due", 15, || {
        (other.standing()["state"] == "due").then_some(())
    });
    other.renew(&KeyPair::generate().unwrap()).ok().unwrap();
}

#[test]
fn a_console_without_a_makers_ca_says_so() {
    let fleet = Fleet::start();
    let words = refusal(enrol(&fleet, &Maker::new().board("b1")));
    assert!(words.contains("--manufacturing-ca"), "{words}");
}
