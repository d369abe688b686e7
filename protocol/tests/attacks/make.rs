//! Makes the folders: an honest set of documents, and for each attack what is different in it.

use crate::Case;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coracle_protocol::Sha256Digest;
use coracle_protocol::counters::{Counter, Seen};
use coracle_protocol::deploy::DEPLOY_TYPE;
use coracle_protocol::dsse::{Envelope, Signature};
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::{BoardId, HardwareClass, ProductName};
use coracle_protocol::release::RELEASE_TYPE;
use coracle_protocol::root::ROOT_TYPE;
use coracle_protocol::time::TimeBound;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// 2027-01-15, when all of this happens.
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// Files of a folder.
pub type Files = Vec<(String, Vec<u8>)>;

/// The key whose 32 secret bytes are all `byte` (RFC 8410, section 7).
fn key(byte: u8) -> SigningKey {
    const PKCS8_PREFIX: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let mut document = PKCS8_PREFIX.to_vec();
    document.extend([byte; 32]);
    SigningKey::from_pkcs8(&document).expect("a key")
}

const ROOT: [u8; 3] = [1, 2, 3];
const NEW_ROOT: [u8; 3] = [4, 5, 6];
const RELEASE: u8 = 11;
const RELEASE_2: u8 = 12;
const RELEASE_3: u8 = 13;
const DEPLOY: u8 = 21;
const OFFLINE: u8 = 31;
const STRANGER: u8 = 99;

fn public(byte: u8) -> String {
    key(byte).public().into()
}

fn digest(text: &str) -> String {
    Sha256Digest::of(text.as_bytes()).to_string()
}

/// A document, how its text is spoiled after it became JSON, and who signs it.
#[derive(Clone)]
struct Document {
    kind: &'static str,
    body: Value,
    text: Vec<(&'static str, String)>,
    keys: Vec<u8>,
    after: fn(&mut Envelope),
}

impl Document {
    fn new(kind: &'static str, body: Value, keys: &[u8]) -> Self {
        Self {
            kind,
            body,
            text: Vec::new(),
            keys: keys.to_vec(),
            after: |_| {},
        }
    }
    fn payload(&self) -> Vec<u8> {
        let mut text = self.body.to_string();
        for (from, to) in &self.text {
            assert!(text.contains(from), "no {from} in {text}");
            text = text.replacen(from, to, 1);
        }
        text.into_bytes()
    }
    fn envelope(&self) -> Envelope {
        let mut envelope = Envelope::unsigned(self.kind, &self.payload());
        for byte in &self.keys {
            envelope.sign(&key(*byte)).expect("signing");
        }
        (self.after)(&mut envelope);
        envelope
    }
}

#[derive(Clone)]
struct World {
    roots: Vec<Document>,
    release: Document,
    deploy: Document,
    /// Fills in the release's digest and size.
    agree: bool,
    seen: Seen,
    board: &'static str,
    built_at: u64,
    already: bool,
}

fn root(version: u64, root_keys: [u8; 3]) -> Value {
    let mut keys = serde_json::Map::new();
    for byte in root_keys
        .into_iter()
        .chain([RELEASE, RELEASE_2, RELEASE_3, DEPLOY, OFFLINE])
    {
        keys.insert(key(byte).public().key_id(), json!(public(byte)));
    }
    let ids =
        |bytes: &[u8]| -> Vec<String> { bytes.iter().map(|b| key(*b).public().key_id()).collect() };
    json!({
        "spec_version": 1, "version": version,
        "issued_at": NOW - 300 * DAY + version, "expires": NOW + 3650 * DAY,
        "keys": keys,
        "roles": {
            "root": {"keys": ids(&root_keys), "threshold": 2, "epoch": 1},
            "release": {"keys": ids(&[RELEASE]), "threshold": 1, "epoch": 1},
            "deploy": {"keys": ids(&[DEPLOY]), "threshold": 1, "epoch": 1},
            "offline-deploy": {"keys": ids(&[OFFLINE]), "threshold": 1, "epoch": 1},
        },
    })
}

fn app(name: &str) -> Value {
    json!({
        "name": name,
        "image": {
            "name": "shop/web:1",
            "manifest": {"digest": digest("manifest"), "size": 500},
            "config": {"digest": digest("config"), "size": 400},
            "layers": [{
                "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest("layer"), "size": 1000,
                "diff_id": digest("tar"), "unpacked_size": 3000,
            }],
        },
        "env": {"LANG": "C"},
        "limits": {"memory_bytes": 67_108_864, "cpu_millis": 500, "pids": 32},
    })
}

fn agent(counter: u64) -> Value {
    json!({
        "version": "1.2",
        "counter": counter,
        "program": {"digest": digest("program"), "size": 2000},
        "image": app("agent")["image"],
    })
}

fn honest() -> World {
    let release = json!({
        "spec_version": 1, "product": "shop", "version": "2.0", "epoch": 1, "release_counter": 7,
        "issued_at": NOW - DAY, "expires": NOW + 90 * DAY,
        "hardware": ["qemux86-64"], "apps": [app("web")],
    });
    let deploy = json!({
        "spec_version": 1, "role": "deploy", "target": {"boards": ["acme.board-1"]},
        "epoch": 1, "seq": 42, "issued_at": NOW, "expires": NOW + 30 * DAY,
    });
    let product = ProductName::new("shop").expect("a name");
    World {
        roots: vec![Document::new(ROOT_TYPE, root(1, ROOT), &ROOT[..2])],
        release: Document::new(RELEASE_TYPE, release, &[RELEASE]),
        deploy: Document::new(DEPLOY_TYPE, deploy, &[DEPLOY]),
        agree: true,
        seen: Seen {
            releases: BTreeMap::from([(product, Counter { epoch: 1, value: 6 })]),
            deploy: Counter {
                epoch: 1,
                value: 41,
            },
            offline_deploy: Counter::default(),
            reset: Counter::default(),
            command: Counter::default(),
            agent: Counter::default(),
            newest_issued_at: NOW - 10 * DAY,
            time: TimeBound::at(NOW - 10 * DAY),
        },
        board: "acme.board-1",
        built_at: NOW - 400 * DAY,
        already: false,
    }
}

impl World {
    fn threshold(&mut self) {
        let ids: Vec<String> = [RELEASE, RELEASE_2, RELEASE_3]
            .iter()
            .map(|b| key(*b).public().key_id())
            .collect();
        self.roots[0].body["roles"]["release"] = json!({"keys": ids, "threshold": 2, "epoch": 1});
    }
    fn rotated(&mut self, keys: &[u8]) -> &mut Value {
        self.roots
            .push(Document::new(ROOT_TYPE, root(2, NEW_ROOT), keys));
        &mut self.roots[1].body
    }
    fn files(mut self, attack: &str, outcome: &str, says: &str) -> Files {
        if self.agree {
            let payload = self.release.payload();
            self.deploy.body["release"] =
                json!({"digest": Sha256Digest::of(&payload).to_string(), "size": payload.len()});
        }
        let already = match self.already {
            true => vec![Sha256Digest::of(&self.deploy.payload())],
            false => Vec::new(),
        };
        let case = Case {
            attack: attack.into(),
            board: BoardId::new(self.board).expect("a board"),
            hardware: HardwareClass::new("qemux86-64").expect("a class"),
            seen: self.seen,
            built_at: self.built_at,
            already,
            outcome: outcome.into(),
            says: says.into(),
        };
        let mut files = vec![
            ("release.json".to_owned(), self.release.envelope().to_json()),
            ("deploy.json".to_owned(), self.deploy.envelope().to_json()),
            (
                "case.json".to_owned(),
                serde_json::to_vec_pretty(&case).expect("JSON"),
            ),
        ];
        for (at, document) in self.roots.iter().enumerate() {
            let name = match at {
                0 => "root.json".to_owned(),
                n => format!("root-{}.json", n + 1),
            };
            files.push((name, document.envelope().to_json()));
        }
        files
    }
}

fn payload_of(envelope: &Envelope) -> String {
    String::from_utf8(envelope.payload_unverified().expect("base64")).expect("UTF-8")
}

/// Both roles at epoch 2, by a root that followed a theft.
fn raise_epochs(w: &mut World) {
    let next = w.rotated(&[1, 2, 4, 5]);
    next["issued_at"] = json!(NOW - 2 * DAY);
    next["roles"]["deploy"]["epoch"] = json!(2);
    next["roles"]["release"]["epoch"] = json!(2);
    w.release.body["epoch"] = json!(2);
    w.deploy.body["epoch"] = json!(2);
}

/// Each folder's name and files.
pub fn all() -> Vec<(String, Files)> {
    let mut out = Vec::new();
    let mut add =
        |name: &str, attack: &str, outcome: &str, says: &str, change: &dyn Fn(&mut World)| {
            let mut world = honest();
            change(&mut world);
            out.push((name.to_owned(), world.files(attack, outcome, says)));
        };

    add(
        "honest",
        "none: these documents are good",
        "accepted",
        "",
        &|_| {},
    );

    // Signatures.
    add(
        "tampered_payload",
        "one argument of an app is changed under the old signature",
        "bad-signature",
        "release: 0 of 1",
        &|w| {
            w.release.after = |e| {
                let text = payload_of(e).replace("\"C\"", "\"X\"");
                e.payload = BASE64.encode(text);
            }
        },
    );
    add(
        "signature_stripped",
        "the signatures are taken away",
        "bad-signature",
        "0 of 1",
        &|w| w.release.after = |e| e.signatures.clear(),
    );
    add(
        "signature_of_another_document",
        "a good signature of the right key, over another document",
        "bad-signature",
        "0 of 1",
        &|w| {
            w.release.after = |e| {
                let mut other = Envelope::unsigned(RELEASE_TYPE, b"{}");
                other.sign(&key(RELEASE)).expect("signing");
                e.signatures = other.signatures;
            }
        },
    );
    add(
        "wrong_role_key_signs_release",
        "the offline-deploy key signs a release",
        "bad-signature",
        "release: 0 of 1",
        &|w| w.release.keys = vec![OFFLINE],
    );
    add(
        "deploy_key_signs_release",
        "a stolen console signs a release of its own",
        "bad-signature",
        "release: 0 of 1",
        &|w| w.release.keys = vec![DEPLOY],
    );
    add(
        "release_key_signs_deploy",
        "the release key signs an assignment",
        "bad-signature",
        "assignment: 0 of 1",
        &|w| w.deploy.keys = vec![RELEASE],
    );
    add(
        "offline_deploy_key_signs_deploy",
        "the stick's key signs in the console's name",
        "bad-signature",
        "assignment: 0 of 1",
        &|w| w.deploy.keys = vec![OFFLINE],
    );
    add(
        "unknown_key_signs_release",
        "a key that the root does not know",
        "bad-signature",
        "0 of 1",
        &|w| w.release.keys = vec![STRANGER],
    );
    add(
        "same_key_two_keyids",
        "one key, listed under two names, to reach a threshold of two",
        "root-malformed",
        "threshold 2 with 1 distinct keys",
        &|w| {
            w.threshold();
            let body = &mut w.roots[0].body;
            body["keys"]["twin"] = json!(public(RELEASE));
            body["roles"]["release"]["keys"] = json!([key(RELEASE).public().key_id(), "twin"]);
        },
    );
    add(
        "same_signature_twice",
        "one signature, twice under two keyids, to reach a threshold of two",
        "bad-signature",
        "1 of 2",
        &|w| {
            w.threshold();
            w.release.after = |e| {
                let sig = e.signatures[0].sig.clone();
                e.signatures.push(Signature {
                    keyid: key(RELEASE_2).public().key_id(),
                    sig,
                });
            };
        },
    );
    add(
        "keyid_lies",
        "none: a wrong keyid is only a hint, the signature is good",
        "accepted",
        "",
        &|w| w.release.after = |e| e.signatures[0].keyid = "0000000000000000".into(),
    );
    add(
        "threshold_two_of_three_one_signature",
        "one of three release keys is stolen",
        "bad-signature",
        "1 of 2",
        &|w| w.threshold(),
    );
    add(
        "threshold_two_of_three_two_signatures",
        "none: two of three release keys signed",
        "accepted",
        "",
        &|w| {
            w.threshold();
            w.release.keys = vec![RELEASE, RELEASE_3];
        },
    );

    // The root.
    add(
        "small_order_key",
        "a release key under which anybody can sign",
        "root-malformed",
        "small order",
        &|w| {
            let id = key(RELEASE).public().key_id();
            let mut point = [0; 32];
            point[0] = 1;
            w.roots[0].body["keys"][id] = json!(BASE64.encode(point));
        },
    );
    add(
        "online_key_in_offline_role",
        "the console's key is also a release key",
        "root-malformed",
        "use two keys",
        &|w| {
            w.roots[0].body["roles"]["release"]["keys"] = json!([key(DEPLOY).public().key_id()]);
        },
    );
    add(
        "root_threshold_zero",
        "a role that needs no signature",
        "root-malformed",
        "threshold 0",
        &|w| w.roots[0].body["roles"]["release"]["threshold"] = json!(0),
    );
    add(
        "root_threshold_above_keys",
        "a threshold that no keys can reach",
        "root-malformed",
        "threshold 2 with 1 distinct keys",
        &|w| w.roots[0].body["roles"]["deploy"]["threshold"] = json!(2),
    );
    add(
        "root_not_self_signed",
        "a root with one of its two signatures",
        "root-envelope",
        "1 of 2",
        &|w| w.roots[0].keys = vec![1],
    );

    // Confusion.
    add(
        "payload_type_confusion",
        "a release is presented as an assignment",
        "bad-envelope",
        "payload type",
        &|w| w.deploy = w.release.clone(),
    );
    add(
        "payload_type_rewritten",
        "the same, and the type on the envelope is changed",
        "bad-signature",
        "assignment: 0 of 1",
        &|w| {
            w.deploy = w.release.clone();
            w.deploy.after = |e| e.payload_type = DEPLOY_TYPE.into();
        },
    );

    // For whom.
    add(
        "other_boards_assignment",
        "the assignment of another board",
        "wrong-board",
        "acme.board-1",
        &|w| w.board = "acme.board-2",
    );
    add(
        "assignment_by_hardware_from_console",
        "the online key assigns to a whole class of boards",
        "malformed",
        "offline-deploy",
        &|w| w.deploy.body["target"] = json!({"hardware": ["qemux86-64"]}),
    );
    add(
        "wrong_hardware",
        "a release for other hardware",
        "wrong-hardware",
        "raspberrypi4",
        &|w| w.release.body["hardware"] = json!(["raspberrypi4"]),
    );

    // Old things.
    add(
        "replayed_assignment",
        "an assignment that the board has had",
        "old-assignment",
        "1.41",
        &|w| w.deploy.body["seq"] = json!(41),
    );
    add(
        "rollback_release_counter",
        "the console assigns an older release",
        "old-release",
        "rollback",
        &|w| w.release.body["release_counter"] = json!(5),
    );
    add(
        "older_agent_by_another_product",
        "the console assigns the newest release of a product that was left with an older agent",
        "old-agent",
        "agent.counter 1.3 of the release is below 1.4",
        &|w| {
            w.release.body["product"] = json!("kiosk");
            w.release.body["agent"] = agent(3);
            w.seen.agent = Counter { epoch: 1, value: 4 };
        },
    );
    add(
        "same_agent_by_another_product",
        "none: the agent that the board has, and no release of this product before",
        "accepted",
        "",
        &|w| {
            w.release.body["product"] = json!("kiosk");
            w.release.body["agent"] = agent(4);
            w.seen.agent = Counter { epoch: 1, value: 4 };
        },
    );
    add(
        "rollback_by_other_role",
        "an old stick against a newer assignment of the console",
        "older-than-other-role",
        "issued",
        &|w| {
            w.deploy.body["role"] = json!("offline-deploy");
            w.deploy.keys = vec![OFFLINE];
            w.deploy.body["issued_at"] = json!(NOW - 11 * DAY);
        },
    );
    add(
        "expired_release",
        "a release that is surely out of date",
        "expired",
        "release: expired",
        &|w| w.seen.time = TimeBound::at(NOW + 91 * DAY),
    );
    add(
        "expired_assignment",
        "an assignment that is surely out of date",
        "expired",
        "assignment: expired",
        &|w| w.built_at = NOW + 31 * DAY,
    );
    add(
        "expired_root",
        "keys that are surely out of date",
        "expired",
        "root document: expired",
        &|w| w.roots[0].body["expires"] = json!(NOW - 20 * DAY),
    );
    add(
        "epoch_lower",
        "signed before the release role's epoch was raised",
        "wrong-epoch",
        "epoch 1",
        &|w| w.roots[0].body["roles"]["release"]["epoch"] = json!(2),
    );
    add(
        "epoch_higher",
        "an epoch that the root does not know",
        "wrong-epoch",
        "epoch 2",
        &|w| w.release.body["epoch"] = json!(2),
    );
    add(
        "deploy_epoch_lower",
        "signed before the deploy role's epoch was raised",
        "wrong-epoch",
        "assignment: signed under epoch 1",
        &|w| w.roots[0].body["roles"]["deploy"]["epoch"] = json!(2),
    );
    add(
        "new_epoch_starts_counters_anew",
        "none: after a theft ran the counters up, a new root starts anew",
        "accepted",
        "",
        &|w| {
            raise_epochs(w);
            let top = Counter {
                epoch: 1,
                value: (1 << 53) - 1,
            };
            w.seen.deploy = top;
            w.seen.releases.values_mut().for_each(|c| *c = top);
            w.release.body["release_counter"] = json!(1);
            w.deploy.body["seq"] = json!(1);
        },
    );
    add(
        "new_epoch_takes_back_time",
        "none: a stolen key ran time ahead, a new root takes it back",
        "accepted",
        "",
        &|w| {
            raise_epochs(w);
            w.seen.time = TimeBound::at(NOW + 1000 * DAY);
            w.seen.newest_issued_at = NOW + 1000 * DAY;
        },
    );

    // JSON.
    add(
        "duplicate_json_keys",
        "a field twice: two readers could take different ones",
        "malformed",
        "duplicate field",
        &|w| w.release.text = vec![("\"epoch\":1", "\"epoch\":1,\"epoch\":1".into())],
    );
    add(
        "duplicate_env_key",
        "a variable twice in `env`",
        "malformed",
        "stands twice",
        &|w| w.release.text = vec![("\"LANG\":\"C\"", "\"LANG\":\"C\",\"LANG\":\"D\"".into())],
    );
    add(
        "duplicate_root_key",
        "a keyid twice in the root's `keys`",
        "root-malformed",
        "stands twice",
        &|w| {
            w.roots[0].text = vec![(
                "\"keys\":{",
                format!("\"keys\":{{\"x\":\"{0}\",\"x\":\"{0}\",", public(STRANGER)),
            )]
        },
    );
    add(
        "duplicate_root_role",
        "a role twice in the root's `roles`",
        "root-malformed",
        "stands twice",
        &|w| {
            w.roots[0].text = vec![(
                "\"roles\":{",
                "\"roles\":{\"release\":{\"keys\":[],\"threshold\":1,\"epoch\":1},".into(),
            )]
        },
    );
    add(
        "duplicate_member",
        "a board twice in the target",
        "malformed",
        "stands twice",
        &|w| {
            w.deploy.text = vec![(
                "[\"acme.board-1\"]",
                "[\"acme.board-1\",\"acme.board-1\"]".into(),
            )]
        },
    );
    add(
        "unknown_field",
        "a field that this program does not know",
        "malformed",
        "unknown field",
        &|w| w.release.body["apps"][0]["privileged"] = json!(true),
    );
    add(
        "extra_app_in_assignment",
        "the console adds an app of its own to the developers' release",
        "malformed",
        "unknown field `apps`",
        &|w| w.deploy.body["apps"] = json!([app("evil")]),
    );
    add(
        "assignment_sets_what_the_release_does_not_allow",
        "the console gives an app a variable that the developers did not hand out",
        "not-settable",
        "does not let a site set variable `LD_PRELOAD`",
        &|w| {
            w.release.body["apps"][0]["site_settable"] = json!({"env": ["LANG"]});
            w.deploy.body["site"] = json!({"web": {"env": {"LD_PRELOAD": "/data/evil.so"}}});
        },
    );
    add(
        "unknown_critical",
        "an extension that a reader must know",
        "malformed",
        "critical extension",
        &|w| w.release.body["critical"] = json!(["hooks"]),
    );
    add(
        "unknown_spec_version",
        "a later format",
        "malformed",
        "spec_version 2",
        &|w| w.deploy.body["spec_version"] = json!(2),
    );
    add(
        "trailing_bytes",
        "a second document behind the first",
        "malformed",
        "trailing",
        &|w| {
            w.release.after = |e| {
                let text = payload_of(e) + "{}";
                *e = Envelope::unsigned(RELEASE_TYPE, text.as_bytes());
                e.sign(&key(RELEASE)).expect("signing");
            }
        },
    );
    add(
        "integer_above_2_53",
        "a number that JSON readers round",
        "malformed",
        "release_counter",
        &|w| w.release.body["release_counter"] = json!(1u64 << 53),
    );
    add(
        "fraction_for_an_integer",
        "a fraction as a counter",
        "malformed",
        "floating point",
        &|w| w.deploy.body["seq"] = json!(42.5),
    );

    // Sizes.
    add(
        "oversize_envelope",
        "an envelope above the limit",
        "parse",
        "the limit is 262144",
        &|w| w.release.after = |e| e.signatures[0].keyid = "x".repeat(256 * 1024),
    );
    add(
        "too_many_signatures",
        "an envelope that costs a slow core minutes",
        "parse",
        "17 signatures",
        &|w| w.release.after = |e| e.signatures = vec![e.signatures[0].clone(); 17],
    );
    add(
        "too_many_apps",
        "65 apps",
        "malformed",
        "apps is 65; the limit is 64",
        &|w| w.release.body["apps"] = (0..65).map(|n| app(&format!("a{n}"))).collect(),
    );
    add(
        "too_many_layers",
        "128 layers",
        "malformed",
        "image.layers is 128",
        &|w| {
            let layer = w.release.body["apps"][0]["image"]["layers"][0].clone();
            w.release.body["apps"][0]["image"]["layers"] = json!(vec![layer; 128]);
        },
    );
    add(
        "too_many_boards",
        "65 boards in one assignment",
        "malformed",
        "target.boards is 65",
        &|w| {
            let boards: Vec<_> = (1..66).map(|n| format!("acme.board-{n}")).collect();
            w.deploy.body["target"] = json!({"boards": boards});
        },
    );

    // Nonsense, signed.
    add(
        "app_named_twice",
        "two apps of one name",
        "malformed",
        "named twice",
        &|w| w.release.body["apps"] = json!([app("web"), app("web")]),
    );
    add(
        "app_name_is_a_path",
        "an app whose name leads out of its folder",
        "malformed",
        "app name",
        &|w| w.release.body["apps"][0]["name"] = json!("../../etc"),
    );
    add(
        "volume_over_proc",
        "a volume over the container's /proc",
        "malformed",
        "/proc",
        &|w| w.release.body["apps"][0]["volumes"] = json!([{"name": "p", "target": "/proc/sys"}]),
    );
    add(
        "limit_of_zero",
        "a limit of 0, which the kernel reads as none",
        "malformed",
        "is 0",
        &|w| w.release.body["apps"][0]["limits"]["io_write_bytes_per_second"] = json!(0),
    );

    // Agreement.
    add(
        "mix_and_match",
        "an assignment beside a release that it does not name",
        "release-mismatch",
        "the release offered is",
        &|w| {
            w.agree = false;
            w.deploy.body["release"] = json!({"digest": digest("another release"), "size": 700});
        },
    );
    add(
        "release_size_lies",
        "the right digest with another size",
        "release-mismatch",
        "assignment is for",
        &|w| {
            w.agree = false;
            let digest = Sha256Digest::of(&w.release.payload()).to_string();
            w.deploy.body["release"] = json!({"digest": digest, "size": 1});
        },
    );
    add(
        "same_assignment_again",
        "none: what runs is offered again",
        "accepted",
        "",
        &|w| {
            w.already = true;
            w.seen.deploy.value = 42;
            w.seen.time = TimeBound::at(NOW + 31 * DAY);
        },
    );

    // The next root.
    add(
        "root_rotation_by_old_and_new",
        "none: the next root, signed by both thresholds",
        "accepted",
        "",
        &|w| {
            w.rotated(&[1, 2, 4, 5]);
        },
    );
    add(
        "root_rotation_skips_a_version",
        "version 3 after version 1",
        "root-version",
        "must be 2",
        &|w| w.rotated(&[1, 2, 4, 5])["version"] = json!(3),
    );
    add(
        "root_rotation_signed_by_new_only",
        "a root that only its own new keys signed",
        "root-envelope",
        "0 of 2",
        &|w| {
            w.rotated(&[4, 5, 6]);
        },
    );
    add(
        "root_rotation_signed_by_old_only",
        "new keys whose owners never signed",
        "root-envelope",
        "0 of 2",
        &|w| {
            w.rotated(&[1, 2, 3]);
        },
    );
    add(
        "root_rotation_revokes_release_key",
        "a release of the key that the next root revoked",
        "bad-signature",
        "release: 0 of 1",
        &|w| {
            w.rotated(&[1, 2, 4, 5])["roles"]["release"]["keys"] =
                json!([key(RELEASE_2).public().key_id()]);
        },
    );
    add(
        "root_rotation_lowers_an_epoch",
        "the next root takes counters back",
        "root-epoch",
        "goes back",
        &|w| w.rotated(&[1, 2, 4, 5])["roles"]["deploy"]["epoch"] = json!(0),
    );
    add(
        "root_rotation_backwards",
        "the first root again after the second",
        "root-envelope",
        "0 of 2",
        &|w| {
            w.rotated(&[1, 2, 4, 5]);
            w.roots.push(w.roots[0].clone());
        },
    );

    // Time.
    add(
        "deploy_issued_after_release_expires",
        "a stolen console moves time past the release's end",
        "expired",
        "release: expired",
        &|w| {
            w.deploy.body["issued_at"] = json!((1u64 << 53) - 2);
            w.deploy.body["expires"] = json!((1u64 << 53) - 1);
        },
    );
    add(
        "time_bound_stays_below_release_expiry",
        "a stolen console moves time as far as it can",
        "accepted",
        "",
        &|w| {
            w.deploy.body["issued_at"] = json!(NOW + 90 * DAY);
            w.deploy.body["expires"] = json!((1u64 << 53) - 1);
        },
    );
    out
}
