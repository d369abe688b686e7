use super::*;
use coracle_protocol::counters::Counter;
use coracle_protocol::key::SigningKey;
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root};
use std::collections::BTreeMap;

fn root(key: &SigningKey, version: u64) -> Envelope {
    let id = key.public().key_id();
    let document = Root {
        spec_version: 1,
        critical: vec![],
        version,
        issued_at: 1,
        expires: 1 << 40,
        keys: BTreeMap::from([(id.clone(), key.public())]),
        roles: BTreeMap::from([(
            Role::Root,
            RoleKeys {
                keys: vec![id],
                threshold: 1,
                epoch: 1,
            },
        )]),
    };
    let mut envelope = Envelope::unsigned(ROOT_TYPE, &serde_json::to_vec(&document).unwrap());
    envelope.sign(key).unwrap();
    envelope
}

struct Place {
    folder: tempfile::TempDir,
    key: SigningKey,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            key: SigningKey::generate().unwrap().0,
        };
        place.image(1);
        place
    }
    fn image(&self, version: u64) {
        let path = self.folder.path().join("root.json");
        std::fs::write(path, root(&self.key, version).to_json()).unwrap();
    }
    fn trust(&self) -> PathBuf {
        self.folder.path().join("trust")
    }
    fn load(&self) -> Result<Trust, TrustError> {
        Trust::load(&self.trust(), &self.folder.path().join("root.json"), false)
    }
}

#[test]
fn an_older_image_does_not_bring_an_older_root_back() {
    let place = Place::new();
    place.image(3);
    assert_eq!(place.load().unwrap().root().document().version, 3);
    place.image(2);
    assert_eq!(place.load().unwrap().root().document().version, 3);
    std::fs::write(place.trust().join("root.json"), b"{torn").unwrap();
    assert_eq!(place.load().unwrap().root().document().version, 2);
    assert!(place.trust().join("root.json.bad").exists());
}

#[test]
fn no_root_is_an_error_that_says_where_it_goes() {
    let place = Place::new();
    std::fs::remove_file(place.folder.path().join("root.json")).unwrap();
    let text = place.load().unwrap_err().to_string();
    assert!(text.contains("root.json is missing"), "{text}");
}

#[test]
fn the_first_name_stays() {
    let place = Place::new();
    let (first, second) = (
        BoardId::new("acme.one").unwrap(),
        BoardId::new("acme.two").unwrap(),
    );
    let mut trust = place.load().unwrap();
    assert_eq!(trust.board_or_unenrolled().as_str(), "unenrolled.board");
    trust.name_board(first.clone()).unwrap();
    trust.name_board(first.clone()).unwrap();
    assert!(matches!(
        trust.name_board(second.clone()),
        Err(TrustError::Named { .. })
    ));
    let mut again = place.load().unwrap();
    assert_eq!(again.board(), Some(&first));
    assert!(again.name_board(second).is_err());
}

#[test]
fn counters_last_and_damage_refuses_instead_of_forgetting() {
    let place = Place::new();
    let mut trust = place.load().unwrap();
    let next = Seen {
        deploy: Counter { epoch: 1, value: 9 },
        ..Seen::default()
    };
    trust.persist(&next).unwrap();
    assert_eq!(place.load().unwrap().seen().unwrap(), &next);
    for slot in ["seen.a", "seen.b"] {
        std::fs::write(place.trust().join(slot), b"torn").unwrap();
    }
    let mut torn = place.load().unwrap();
    assert!(torn.seen().is_err());
    assert!(torn.persist(&next).is_err());
}

#[test]
fn what_a_newer_program_counts_is_read_past_and_kept() {
    let place = Place::new();
    drop(place.load().unwrap());
    let had = serde_json::json!({
        "slot_version": 1,
        "generation": 4,
        "of_slot": [1, null, {"a": "b"}],
        "seen": {
            "releases": {"shop": {"epoch": 1, "value": 2, "of_release": true}},
            "deploy": {"epoch": 1, "value": 8, "of_counter": "x"},
            "rescue": {"epoch": 1, "value": 18_446_744_073_709_551_615_u64},
        },
    });
    let json = had.to_string();
    let sum = Sha256Digest::of(json.as_bytes()).hex();
    let slot = place.trust().join("seen.a");
    std::fs::write(&slot, format!("{json}\n{sum}")).unwrap();
    let mut trust = place.load().unwrap();
    let shop = coracle_protocol::names::ProductName::new("shop").unwrap();
    // Whoever makes the next counters need not have come by these: all but two are as at the first start.
    let next = Seen {
        deploy: Counter { epoch: 2, value: 9 },
        releases: BTreeMap::from([(shop, Counter { epoch: 1, value: 3 })]),
        ..Seen::default()
    };
    trust.persist(&next).unwrap();
    for raised in [
        next.clone(),
        Seen {
            newest_issued_at: 5,
            ..next
        },
    ] {
        let mut again = place.load().unwrap();
        again.persist(&raised).unwrap();
        assert_eq!(place.load().unwrap().seen().unwrap(), &raised);
        for slot in ["seen.a", "seen.b"] {
            let bytes = std::fs::read(place.trust().join(slot)).unwrap();
            let json = bytes.split(|byte| *byte == b'\n').next().unwrap();
            let now: serde_json::Value = serde_json::from_slice(json).unwrap();
            for at in [
                "/of_slot",
                "/seen/rescue",
                "/seen/deploy/of_counter",
                "/seen/releases/shop/of_release",
            ] {
                assert!(had.pointer(at).is_some());
                assert_eq!(now.pointer(at), had.pointer(at), "{at} of {slot}");
            }
            assert_eq!(now["seen"]["deploy"]["value"], 9);
            assert_eq!(now["seen"]["releases"]["shop"]["value"], 3);
        }
    }
}

#[test]
fn a_deployment_that_was_offered_before_a_command_does_not_take_its_counter_back() {
    let place = Place::new();
    let mut trust = place.load().unwrap();
    let command = Counter { epoch: 1, value: 5 };
    let offered = Seen {
        deploy: Counter { epoch: 1, value: 9 },
        ..trust.seen().unwrap().clone()
    };
    let commanded = Seen {
        command,
        ..trust.seen().unwrap().clone()
    };
    trust.persist(&commanded).unwrap();
    trust.persist(&offered).unwrap();
    let expected = Seen { command, ..offered };
    assert_eq!(trust.seen().unwrap(), &expected);
    assert_eq!(place.load().unwrap().seen().unwrap(), &expected);
}

fn next_root(signers: &[&SigningKey], key: &SigningKey, version: u64) -> Envelope {
    let mut envelope = root(key, version);
    envelope.signatures.clear();
    for signer in signers {
        envelope.sign(signer).unwrap();
    }
    envelope
}

#[test]
fn each_root_on_the_way_is_on_disk_before_the_next() {
    let place = Place::new();
    let (second, third) = (
        SigningKey::generate().unwrap().0,
        SigningKey::generate().unwrap().0,
    );
    let mut trust = place.load().unwrap();
    let two = next_root(&[&place.key, &second], &second, 2);
    let three = next_root(&[&second, &third], &third, 3);
    assert!(matches!(
        trust.take_root(&three),
        Err(TrustError::NextRoot(_))
    ));
    assert!(trust.take_root(&two).unwrap());
    assert_eq!(place.load().unwrap().root().document().version, 2);
    assert!(!trust.take_root(&two).unwrap(), "once is enough");
    assert!(trust.take_root(&three).unwrap());
    assert_eq!(place.load().unwrap().root().document().version, 3);
    assert!(
        !trust.take_root(&two).unwrap(),
        "an older one is passed over"
    );
    // The image's own, older root does not bring the first key back.
    let stolen = next_root(&[&place.key], &place.key, 4);
    assert!(place.load().unwrap().take_root(&stolen).is_err());
}

#[test]
fn another_document_under_the_same_version_is_refused() {
    let place = Place::new();
    let mut trust = place.load().unwrap();
    let other = root(&SigningKey::generate().unwrap().0, 1);
    assert!(matches!(
        trust.take_root(&other),
        Err(TrustError::OtherRoot { version: 1, .. })
    ));
}

#[test]
fn a_root_that_cannot_be_written_is_not_in_force() {
    let place = Place::new();
    let mut trust = place.load().unwrap();
    let blocked = place.trust().join("root.json.new");
    std::fs::create_dir(&blocked).unwrap();
    let two = next_root(&[&place.key], &place.key, 2);
    assert!(matches!(trust.take_root(&two), Err(TrustError::Disk(_))));
    assert_eq!(trust.root().document().version, 1);
    std::fs::remove_dir(&blocked).unwrap();
    assert!(trust.take_root(&two).unwrap());
}

/// A root of a program to come: signed as it should be, with a role that nobody here knows.
fn newer_root(key: &SigningKey, version: u64) -> Envelope {
    let payload = root(key, version).payload_unverified().unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    document["roles"]["auditor"] = serde_json::json!({"keys": [], "threshold": 1, "of_role": true});
    document["of_root"] = true.into();
    let mut envelope = Envelope::unsigned(ROOT_TYPE, document.to_string().as_bytes());
    envelope.sign(key).unwrap();
    envelope
}

#[test]
fn a_root_of_a_newer_program_is_kept_and_nothing_new_accepted_under_an_older_one() {
    let place = Place::new();
    place.image(2);
    place.load().unwrap().persist(&Seen::default()).unwrap();
    let copy = place.trust().join("root.json");
    let newer = newer_root(&place.key, 4).to_json();
    std::fs::write(&copy, &newer).unwrap();
    let slot = std::fs::read(place.trust().join("seen.a")).unwrap();
    // The image's next root is good by itself; taken, it would stand in the place of the later one.
    let third = root(&place.key, 3);
    for _ in 0..2 {
        let mut trust = place.load().unwrap();
        let refused = [
            trust.seen().map(drop).unwrap_err(),
            trust
                .persist(&Seen {
                    newest_issued_at: 1,
                    ..Seen::default()
                })
                .unwrap_err(),
            trust.take_root(&third).map(drop).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.code(), "newer-root");
            let text = error.to_string();
            assert!(text.contains("root.json is root version 4"), "{text}");
            assert!(text.contains("unknown"), "{text}");
        }
        assert!(
            trust
                .state()
                .damage
                .unwrap()
                .contains("does not understand")
        );
        assert_eq!(std::fs::read(&copy).unwrap(), newer);
        assert_eq!(std::fs::read(place.trust().join("seen.a")).unwrap(), slot);
        assert!(!place.trust().join("root.json.bad").exists());
    }
    place.image(3);
    assert!(place.load().unwrap().seen().is_err());
    place.image(4);
    let trust = place.load().unwrap();
    assert_eq!(trust.seen().unwrap(), &Seen::default());
    assert_eq!(place.load().unwrap().root().document().version, 4);
}

#[test]
fn a_root_that_is_not_understood_and_not_whole_is_damaged() {
    let place = Place::new();
    drop(place.load().unwrap());
    let mut unsigned = newer_root(&place.key, 4);
    unsigned.signatures.clear();
    unsigned.sign(&SigningKey::generate().unwrap().0).unwrap();
    std::fs::write(place.trust().join("root.json"), unsigned.to_json()).unwrap();
    let trust = place.load().unwrap();
    assert_eq!(trust.root().document().version, 1);
    assert!(trust.seen().is_ok());
    assert!(place.trust().join("root.json.bad").exists());
}
