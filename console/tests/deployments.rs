//! Releases and deployments: what is signed, what is published, what a lost broker gets again.

mod support;

use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::delta::DeltaReader;
use coracle_images::layout::LayerType;
use coracle_images::unpack::{Source, apply_layer};
use coracle_protocol::counters::Seen;
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::{BoardId, HardwareClass};
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{self, VerifiedDeploy, VerifiedDeployment, VerifiedRelease};
use serde_json::json;
use std::fs::{self, File};
use std::io::Read;
use support::{Fleet, noise};

fn inline(document: Document) -> Envelope {
    match document {
        Document::Inline(envelope) => envelope,
        Document::Blob(blob) => panic!("a small document travels as {blob:?}"),
    }
}

#[test]
fn a_deployment_is_signed_for_one_board_and_counts_up() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    for seq in 1..=2 {
        let ordered = fleet.deploy(&release, &["acme.b1"]);
        let line = &ordered["boards"][0];
        assert_eq!(line["seq"], seq);
        let message = support::wait_for("the message", 10, || {
            let message = board.read(&board.topic("desired"), 5)?;
            let desired: Desired = serde_json::from_slice(&message).unwrap();
            (line["activity"] == desired.activity).then_some(desired)
        });
        let deploy = VerifiedDeploy::open(&inline(message.deploy), &fleet.root).unwrap();
        let signed = VerifiedRelease::open(&inline(message.release), &fleet.root).unwrap();
        assert_eq!(signed.digest(), release);
        let (id, hardware) = (
            BoardId::new("acme.b1").unwrap(),
            HardwareClass::new("generic").unwrap(),
        );
        let seen = Seen::default();
        let this = verify::Board {
            id: &id,
            hardware: &hardware,
            seen: &seen,
            built_at: TimeBound::default(),
        };
        assert_eq!(deploy.document().seq, seq);
        VerifiedDeployment::accept(signed, deploy, this, &[]).unwrap();
        let done = json!({"activity": message.activity, "sequence": 9, "phase": "rolled-back",
            "code": "unhealthy", "reason": "web: GET / answered 500", "fetched":
            {"wire_bytes": 10, "delta_bytes": 4, "full_bytes": 100}});
        board.publish(&board.topic("feedback"), &done);
        let id = ordered["id"].as_str().unwrap();
        let line = support::wait_for("the end", 10, || {
            let line = fleet.get(&format!("/api/v1/deployments/{id}"))["boards"][0].clone();
            (line["end"] == true).then_some(line)
        });
        assert_eq!(line["reason"], "web: GET / answered 500");
        assert_eq!(line["fetched"]["wire_bytes"], 10);
    }
}

#[test]
fn what_boards_would_refuse_is_refused_here_with_a_hint() {
    let fleet = Fleet::start();
    let (document, release) = fleet.release(1, &[("app", noise(1, 500))]);
    let mut value = serde_json::to_value(&document).unwrap();
    let mut tampered = fleet.sign(&value);
    value["version"] = json!("evil");
    tampered.payload = Envelope::unsigned("x", value.to_string().as_bytes()).payload;
    let answer = fleet.api("POST", "/api/v1/releases", Some(&tampered.to_json()));
    assert_eq!(answer.status, 422);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("bad-signature"),
        "{answer:?}"
    );
    assert!(!answer.json()["hint"].as_str().unwrap().is_empty());

    value["apps"][0]["image"]["layers"][0]["digest"] = json!(Sha256Digest::of(b"nowhere"));
    let answer = fleet.api(
        "POST",
        "/api/v1/releases",
        Some(&fleet.sign(&value).to_json()),
    );
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("of app `web`: missing")
    );

    let unknown = fleet.post(
        "/api/v1/deployments",
        &json!({"release": release, "boards": ["acme.nobody"]}),
    );
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.json()["error"]
            .as_str()
            .unwrap()
            .contains("acme.nobody")
    );
    let nothing = fleet.post(
        "/api/v1/deployments",
        &json!({"release": release, "boards": []}),
    );
    assert_eq!(nothing.status, 400);
    let typo = fleet.post(
        "/api/v1/deployments",
        &json!({"release": release, "board": []}),
    );
    assert_eq!(typo.status, 400);
}

#[test]
fn a_delta_is_offered_for_a_layer_that_the_board_holds_and_applies() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let old_app = noise(5, 120_000);
    let mut new_app = old_app.clone();
    new_app[60_000..60_016].copy_from_slice(&[0; 16]);
    let (old, _) = fleet.release(1, &[("app", old_app), ("motd", b"one".to_vec())]);
    let from = &old.apps[0].image.layers[0];
    board.say_current(1, &[from.diff_id]);
    support::wait_for("what the board holds", 10, || {
        (!fleet.get("/api/v1/boards/acme.b1")["current"].is_null()).then_some(())
    });
    let (new, release) = fleet.release(2, &[("app", new_app), ("motd", b"two".to_vec())]);
    let to = &new.apps[0].image.layers[0];
    let ordered = fleet.deploy(&release, &["acme.b1"]);
    let offered = &ordered["boards"][0]["deltas"][0];
    assert_eq!(
        (offered["from"].clone(), offered["to"].clone()),
        (json!(from.diff_id), json!(to.diff_id))
    );
    let size = offered["size"].as_u64().unwrap();
    assert!(size * 10 < to.size, "{size} of {}", to.size);

    // As a board does it: signed document, blob by mutual TLS, tree of the old layer, new tar.
    let message = board.read(&board.topic("desired"), 10).unwrap();
    let desired: Desired = serde_json::from_slice(&message).unwrap();
    let deploy = VerifiedDeploy::open(&inline(desired.deploy), &fleet.root).unwrap();
    let delta = deploy.document().deltas[0].clone();
    let answer = board.get(&format!("/blobs/sha256/{}", delta.digest.hex()), &[]);
    assert_eq!(Sha256Digest::of(&answer.body), delta.digest);
    let blob = fleet.path("delta");
    fs::write(&blob, &answer.body).unwrap();
    let tree = fleet.path("unpacked");
    fs::create_dir(&tree).unwrap();
    let full = board.get(&format!("/blobs/sha256/{}", from.digest.hex()), &[]);
    let layer = fleet.path("layer");
    fs::write(&layer, full.body).unwrap();
    let source = Source::Full {
        blob: File::open(&layer).unwrap(),
        layer: LayerType::from_media_type(&from.media_type).unwrap(),
    };
    let applied = apply_layer(
        source,
        File::open(&tree).unwrap().into(),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(applied.diff_id, from.diff_id);
    let mut reader = DeltaReader::open(
        File::open(&blob).unwrap(),
        File::open(&tree).unwrap().into(),
        &Limits::default(),
    )
    .unwrap();
    let mut tar = Vec::new();
    reader.read_to_end(&mut tar).unwrap();
    assert_eq!(Sha256Digest::of(&tar), to.diff_id);

    let manifest = new.apps[0].image.manifest.digest;
    let referrers = fleet.get(&format!("/v2/demo/web/referrers/{manifest}"));
    const ARTIFACT: &str = "application/vnd.io.github.containers.oci-delta.v1";
    assert_eq!(referrers["manifests"][0]["artifactType"], ARTIFACT);
    let artifact = referrers["manifests"][0]["digest"].as_str().unwrap();
    let artifact = fleet.get(&format!("/v2/demo/web/manifests/{artifact}"));
    let note = |name: &str| format!("io.github.containers.delta.{name}");
    assert_eq!(artifact["artifactType"], ARTIFACT);
    assert_eq!(artifact["subject"]["digest"], json!(manifest));
    let notes = &artifact["annotations"];
    assert_eq!(notes[note("target")], json!(manifest));
    let (was, config) = (&old.apps[0].image.manifest, &old.apps[0].image.config);
    assert_eq!(notes[note("source")], json!(was.digest));
    assert_eq!(notes[note("source-config")], json!(config.digest));
    let layers = artifact["layers"].as_array().unwrap();
    let contents: Vec<&str> = layers
        .iter()
        .map(|layer| layer["annotations"][note("content")].as_str().unwrap())
        .collect();
    assert_eq!(contents, ["image-manifest", "image-config", "image-layer"]);
    assert_eq!(layers[0]["digest"], json!(manifest));
    assert_eq!(layers[1]["digest"], json!(new.apps[0].image.config.digest));
    assert_eq!(layers[2]["digest"], json!(delta.digest));
    assert_eq!(layers[2]["mediaType"], coracle_images::delta::MEDIA_TYPE);
    assert_eq!(layers[2]["annotations"][note("to")], json!(to.digest));
}

#[test]
fn boards_of_every_version_find_their_delta_made() {
    let fleet = Fleet::start();
    let app = noise(5, 120_000);
    let changed = |at: usize| {
        let mut app = app.clone();
        app[at..at + 16].copy_from_slice(&[0; 16]);
        app
    };
    let mut held = Vec::new();
    for version in [1, 2] {
        let (release, _) = fleet.release(version, &[("app", changed(version as usize * 9000))]);
        held.push(release.apps[0].image.layers[0].diff_id);
    }
    // Two boards of the second version, one that was left behind.
    for (name, layer) in [
        ("acme.b1", held[0]),
        ("acme.b2", held[1]),
        ("acme.b3", held[1]),
    ] {
        fleet.enrol(name).say_current(1, &[layer]);
        support::wait_for("what the board holds", 10, || {
            (!fleet.get(&format!("/api/v1/boards/{name}"))["current"].is_null()).then_some(())
        });
    }
    let (_, release) = fleet.release(3, &[("app", changed(60_000))]);
    let one = format!("/api/v1/releases/{release}");
    let deltas = support::wait_for("the deltas", 60, || {
        let deltas = fleet.get(&one)["deltas"].clone();
        (deltas["done"] == deltas["pairs"] && deltas["done"] != 0).then_some(deltas)
    });
    assert_eq!(deltas, json!({"pairs": 2, "done": 2, "made": 2}));
    let listed = fleet.get("/api/v1/releases");
    // Those of one second are listed in no order.
    let entries = listed.as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["digest"] == json!(release));
    assert_eq!(entry.unwrap()["deltas"]["made"], 2, "{listed}");

    let ordered = fleet.deploy(&release, &["acme.b1", "acme.b2", "acme.b3"]);
    let from = |board: usize| ordered["boards"][board]["deltas"][0]["from"].clone();
    assert_eq!(
        [from(0), from(1), from(2)],
        [held[0], held[1], held[1]].map(|id| json!(id))
    );
}

#[test]
fn a_large_release_travels_as_a_blob() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (document, _) = fleet.release(1, &[("app", noise(1, 500))]);
    let mut value = serde_json::to_value(&document).unwrap();
    let env: serde_json::Map<_, _> = (0..100)
        .map(|i| (format!("V{i}"), json!("x".repeat(100))))
        .collect();
    value["apps"][0]["env"] = json!(env);
    let envelope = fleet.sign(&value);
    let added = fleet.api("POST", "/api/v1/releases", Some(&envelope.to_json()));
    let release: Sha256Digest = serde_json::from_value(added.json()["digest"].clone()).unwrap();
    fleet.deploy(&release, &["acme.b1"]);
    let message = board.read(&board.topic("desired"), 10).unwrap();
    assert!(
        message.len() <= coracle_protocol::limits::LIMITS.mqtt_message_bytes,
        "{}",
        message.len()
    );
    let desired: Desired = serde_json::from_slice(&message).unwrap();
    let Document::Blob(blob) = desired.release else {
        panic!("inline: {} bytes", message.len())
    };
    let answer = board.get(&format!("/blobs/sha256/{}", blob.digest.hex()), &[]);
    assert_eq!(answer.body.len() as u64, blob.size);
    let fetched = Envelope::parse(&answer.body).unwrap();
    assert_eq!(
        VerifiedRelease::open(&fetched, &fleet.root)
            .unwrap()
            .digest(),
        release
    );
}

#[test]
fn what_the_broker_lost_is_published_again() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 500))]);
    fleet.deploy(&release, &["acme.b1"]);
    let topic = board.topic("desired");
    let first = board.read(&topic, 10).unwrap();

    let took = fleet.stop_console();
    assert!(took.as_secs() < 8, "stopping took {took:?}");
    assert!(!fleet.path("ready").exists());
    fs::remove_file(fleet.path("state/mosquitto/data/broker.db")).unwrap();
    fleet.start_console();
    assert_eq!(
        board.read(&topic, 10).as_ref(),
        Some(&first),
        "after a restart"
    );

    // Deleted under a running console, by somebody with the console's certificate.
    let publish = support::mosquitto("mosquitto_pub", fleet.mqtt, fleet.console_certificates());
    support::publish(publish, &topic, b"", &["-q", "1", "-r"]);
    let again = support::wait_for("the message is back", 20, || board.read(&topic, 2));
    assert_eq!(again, first, "after a deletion");

    // A killed console leaves its broker; the next one takes the port over.
    fleet.kill_console();
    fleet.start_console();
    assert_eq!(
        board.read(&topic, 10).as_ref(),
        Some(&first),
        "after a kill"
    );
    let ordered = fleet.deploy(&release, &["acme.b1"]);
    assert_eq!(
        ordered["boards"][0]["seq"], 2,
        "the counter outlives a kill"
    );
}
