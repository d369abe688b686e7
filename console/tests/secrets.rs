//! Secrets and settings of a site: what the console keeps, what it signs, and what it refuses to sign.

mod support;

use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::names::{AppName, BoardId, SecretName};
use coracle_protocol::secret::{OpeningKey, Sealed};
use coracle_protocol::verify::VerifiedDeploy;
use serde_json::{Value, json};
use support::{Fleet, noise, wait_for};

#[test]
fn a_sealed_secret_travels_in_the_assignment_and_the_console_cannot_read_it() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (release, _) = fleet.release(1, &[("app", noise(1, 5000))]);
    let mut document: Value = serde_json::to_value(&release).unwrap();
    document["release_counter"] = json!(2);
    document["apps"][0]["secrets"] = json!(["db"]);
    document["apps"][0]["site_settable"] = json!({"env": ["SITE"]});
    let envelope = fleet.sign(&document);
    let added = fleet.api("POST", "/api/v1/releases", Some(&envelope.to_json()));
    assert_eq!(added.status, 200, "{added:?}");
    let release = added.json()["digest"].clone();
    let deploy = |site: Value| {
        let order = json!({"release": release, "boards": ["acme.b1"], "site": site});
        fleet.post("/api/v1/deployments", &order)
    };
    let without = deploy(json!({}));
    assert_eq!(without.status, 422, "{without:?}");
    assert!(
        without.json()["error"]
            .to_string()
            .contains("needs secret `db`")
    );

    let key = OpeningKey::generate();
    let id = BoardId::new("acme.b1").unwrap();
    let seal = |name: &str| -> Sealed {
        let (app, name) = (AppName::new("web").unwrap(), SecretName::new(name).unwrap());
        key.public().seal(&id, &app, &name, b"hunter2").unwrap()
    };
    let set = |board: &str, sealed: &Sealed| {
        let body = serde_json::to_value(sealed).unwrap();
        fleet
            .post(&format!("/api/v1/boards/{board}/secrets"), &body)
            .status
    };
    assert_eq!(set("acme.b1", &seal("db")), 200);
    // In the place of the older one; one that no app asks for stays here.
    let newest = seal("db");
    assert_eq!(set("acme.b1", &newest), 200);
    assert_eq!(set("acme.b1", &seal("unused")), 200);
    assert_eq!(set("acme.nobody", &seal("db")), 404);
    let long = Sealed {
        sealed: "A".repeat(20_000),
        ..seal("db")
    };
    assert_eq!(set("acme.b1", &long), 400);
    let listed = fleet.get("/api/v1/boards/acme.b1/secrets");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(&newest.sealed));

    let refused = deploy(json!({"web": {"env": {"PATH": "/tmp"}}}));
    assert_eq!(refused.status, 422, "{refused:?}");
    let ordered = deploy(json!({"web": {"env": {"SITE": "north"}}}));
    assert_eq!(ordered.status, 200, "{ordered:?}");
    let desired = wait_for("the message", 15, || {
        let message = board.read(&board.topic("desired"), 3)?;
        serde_json::from_slice::<Desired>(&message).ok()
    });
    let Document::Inline(envelope) = desired.deploy else {
        panic!("a small document travels as a blob");
    };
    let signed = VerifiedDeploy::open(&envelope, &fleet.root).unwrap();
    let deploy = signed.document();
    assert_eq!(deploy.secrets, [newest]);
    assert_eq!(key.open(&id, &deploy.secrets[0]).unwrap(), b"hunter2");
    assert_eq!(
        deploy.site[&AppName::new("web").unwrap()].env["SITE"],
        "north"
    );
    assert!(
        !std::fs::read_to_string(fleet.path("console.log"))
            .unwrap()
            .contains("hunter2")
    );
}
