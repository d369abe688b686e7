//! What other people's suites ask of a verifier, asked of this one: the sequences of root documents, keys,
//! thresholds, expiry and root versions of theupdateframework/tuf-conformance (`test_updater_key_rotations`,
//! `test_keys`, `test_expiration`; `test_rollback` is in `rollback.rs`), and the encoding of secure-systems-lab/dsse.

use coracle_protocol::counters::Seen;
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy, Target};
use coracle_protocol::dsse::{DsseError, Envelope, pae};
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::{BoardId, HardwareClass, ProductName};
use coracle_protocol::release::{Blob, RELEASE_TYPE, SignedRelease};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root, RootError, TrustedRoot};
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{
    Board, Refusal, VerifiedDeploy, VerifiedDeployment, VerifiedRelease,
};
use std::collections::{BTreeMap, BTreeSet};

fn keys() -> Vec<SigningKey> {
    (0..10).map(|_| SigningKey::generate().unwrap().0).collect()
}

fn ids(keys: &[SigningKey], of: &[usize]) -> Vec<String> {
    of.iter().map(|at| keys[*at].public().key_id()).collect()
}

fn signed(
    kind: &str,
    document: &impl serde::Serialize,
    keys: &[SigningKey],
    by: &[usize],
) -> Envelope {
    let mut envelope = Envelope::unsigned(kind, &serde_json::to_vec(document).unwrap());
    for at in by {
        envelope.sign(&keys[*at]).unwrap();
    }
    envelope
}

/// A root whose role `root` has these keys; `release` has `release`'s.
fn root(
    keys: &[SigningKey],
    version: u64,
    of: &[usize],
    threshold: usize,
    release: (&[usize], usize),
) -> Root {
    let role = |of: &[usize], threshold| RoleKeys {
        keys: ids(keys, of),
        threshold,
        epoch: 1,
    };
    Root {
        spec_version: 1,
        critical: vec![],
        version,
        issued_at: 100,
        expires: 1_000,
        keys: keys
            .iter()
            .map(|key| (key.public().key_id(), key.public()))
            .collect(),
        roles: BTreeMap::from([
            (Role::Root, role(of, threshold)),
            (Role::Release, role(release.0, release.1)),
            (Role::Deploy, role(&[9], 1)),
        ]),
    }
}

/// Keys, threshold, signers of one version.
type Step = (&'static [usize], usize, &'static [usize]);

const FIVE: &[usize] = &[0, 1, 2, 3, 4];
const ONE_OTHER: &[usize] = &[0, 1, 3, 4, 5];

/// What happens, the versions, and how many of them a board takes.
const ROTATIONS: &[(&str, &[Step], usize)] = &[
    (
        "one key, rotated",
        &[(&[1], 1, &[1]), (&[2], 1, &[2, 1]), (&[2], 1, &[2])],
        3,
    ),
    (
        "strangers sign too",
        &[
            (&[1], 1, &[3, 1, 4]),
            (&[2], 1, &[3, 2, 1, 4]),
            (&[2], 1, &[3, 2, 4]),
        ],
        3,
    ),
    (
        "3 of 5, others sign each time",
        &[
            (FIVE, 3, &[0, 2, 4]),
            (FIVE, 3, &[0, 4, 1]),
            (FIVE, 3, &[0, 1, 3]),
            (FIVE, 3, &[0, 1, 3]),
        ],
        4,
    ),
    (
        "3 of 5, one key goes",
        &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 4, 1])],
        2,
    ),
    (
        "3 of 5, one key goes in two steps",
        &[
            (FIVE, 3, &[0, 2, 4]),
            (ONE_OTHER, 3, &[0, 2, 4, 5]),
            (ONE_OTHER, 3, &[0, 4, 5]),
        ],
        3,
    ),
    (
        "3 of 5, all keys go",
        &[
            (FIVE, 3, &[0, 2, 4]),
            (&[5, 6, 7, 8], 3, &[0, 2, 4, 5, 6, 7]),
            (&[5, 6, 7, 8], 3, &[5, 6, 7]),
        ],
        3,
    ),
    (
        "1 of 3 becomes 2 of 3",
        &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[1, 2])],
        2,
    ),
    (
        "2 of 3 becomes 1 of 3",
        &[
            (&[1, 2, 3], 2, &[1, 2]),
            (&[1, 2, 3], 1, &[1, 2]),
            (&[1, 2, 3], 1, &[1]),
        ],
        3,
    ),
    (
        "1 of 1 becomes 2 of 2",
        &[(&[1], 1, &[1]), (&[1, 2], 2, &[1, 2])],
        2,
    ),
    (
        "the old key did not sign",
        &[(&[1], 1, &[1]), (&[2], 1, &[2, 3, 4])],
        1,
    ),
    (
        "the new key did not sign",
        &[(&[1], 1, &[1]), (&[2], 1, &[1, 3, 4])],
        1,
    ),
    (
        "fewer than 3 new keys signed",
        &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 2, 4])],
        1,
    ),
    (
        "fewer than 3 old keys signed",
        &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 4, 5])],
        1,
    ),
    (
        "the raised threshold is not reached",
        &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[2])],
        1,
    ),
    (
        "the lowered threshold would reach, the old one not",
        &[(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1])],
        1,
    ),
];

#[test]
fn root_keys_rotate_as_the_conformance_suite_has_it() {
    let keys = keys();
    for (what, steps, taken) in ROTATIONS {
        let envelopes: Vec<Envelope> = (1..)
            .zip(*steps)
            .map(|(version, (of, threshold, by))| {
                signed(
                    ROOT_TYPE,
                    &root(&keys, version, of, *threshold, (&[8], 1)),
                    &keys,
                    by,
                )
            })
            .collect();
        let mut trusted = TrustedRoot::from_image(&envelopes[0]).unwrap();
        for envelope in &envelopes[1..] {
            match trusted.next(envelope) {
                Ok(next) => trusted = next,
                Err(error) => {
                    assert!(
                        matches!(error, RootError::Envelope(DsseError::Threshold { .. })),
                        "{what}: {error}"
                    );
                    break;
                }
            }
        }
        assert_eq!(trusted.document().version, *taken as u64, "{what}");
    }
}

#[test]
fn keys_of_other_roles_rotate_as_the_conformance_suite_has_it() {
    let keys = keys();
    let cases: &[(&str, Step, bool)] = &[
        ("the new key", (&[2], 1, &[2]), true),
        ("strangers sign too", (&[1], 1, &[3, 1, 4]), true),
        ("without the new key", (&[2], 1, &[1, 3, 4]), false),
        (
            "3 signed, one of them no key of the role",
            (ONE_OTHER, 3, &[0, 2, 4]),
            false,
        ),
        ("2 of 3 signed", (ONE_OTHER, 3, &[0, 4]), false),
        ("a first three", (FIVE, 3, &[0, 2, 4]), true),
        ("a second three", (FIVE, 3, &[0, 4, 1]), true),
        ("a third three", (FIVE, 3, &[0, 1, 3]), true),
        ("a fourth three", (FIVE, 3, &[1, 2, 3]), true),
        ("a fifth three", (FIVE, 3, &[2, 3, 4]), true),
        ("all five", (FIVE, 5, FIVE), true),
    ];
    for (what, (of, threshold, by), good) in cases {
        let document = root(&keys, 1, &[8], 1, (of, *threshold));
        let trusted = TrustedRoot::from_image(&signed(ROOT_TYPE, &document, &keys, &[8])).unwrap();
        let opened =
            VerifiedRelease::open(&signed(RELEASE_TYPE, &release(500), &keys, by), &trusted);
        assert_eq!(opened.is_ok(), *good, "{what}: {opened:?}");

        let mut document = root(&keys, 1, &[8], 1, (&[7], 1));
        let role = document.roles.get_mut(&Role::Deploy).unwrap();
        (role.keys, role.threshold) = (ids(&keys, of), *threshold);
        let trusted = TrustedRoot::from_image(&signed(ROOT_TYPE, &document, &keys, &[8])).unwrap();
        let opened = VerifiedDeploy::open(
            &signed(DEPLOY_TYPE, &deploy(b"x", 500), &keys, by),
            &trusted,
        );
        assert_eq!(opened.is_ok(), *good, "assignment, {what}: {opened:?}");
    }
}

#[test]
fn the_same_key_ten_times_is_one_key() {
    let keys = keys();
    let mut document = root(&keys, 1, &[8], 1, (&[1], 1));
    let entry = document.roles.get_mut(&Role::Release).unwrap();
    for n in 0..9 {
        let id = format!("another-name-{n}");
        document.keys.insert(id.clone(), keys[1].public());
        entry.keys.push(id);
    }
    let envelope = |document: &Root| signed(ROOT_TYPE, document, &keys, &[8]);
    assert!(TrustedRoot::from_image(&envelope(&document)).is_ok());
    document.roles.get_mut(&Role::Release).unwrap().threshold = 6;
    let error = TrustedRoot::from_image(&envelope(&document)).unwrap_err();
    assert!(error.to_string().contains("1 distinct keys"), "{error}");
}

#[test]
fn more_signatures_than_keys_are_never_reached() {
    let keys = keys();
    let mut document = root(&keys, 1, &[8], 1, (FIVE, 5));
    document.roles.get_mut(&Role::Release).unwrap().threshold = 6;
    assert!(TrustedRoot::from_image(&signed(ROOT_TYPE, &document, &keys, &[8])).is_err());
    // A role that names a key which the document does not hold.
    let mut document = root(&keys, 1, &[8], 1, (FIVE, 5));
    document.keys.remove(&keys[4].public().key_id());
    let error = TrustedRoot::from_image(&signed(ROOT_TYPE, &document, &keys, &[8])).unwrap_err();
    assert!(error.to_string().contains("not in `keys`"), "{error}");
}

fn release(expires: u64) -> SignedRelease {
    SignedRelease {
        spec_version: 1,
        critical: vec![],
        product: ProductName::new("shop").unwrap(),
        version: "1".into(),
        epoch: 1,
        release_counter: 1,
        issued_at: 100,
        expires,
        hardware: BTreeSet::from([HardwareClass::new("pc").unwrap()]),
        networks: Vec::new(),
        agent: None,
        apps: vec![],
    }
}

fn deploy(release: &[u8], expires: u64) -> Deploy {
    Deploy {
        spec_version: 1,
        critical: vec![],
        role: AssignmentRole::Deploy,
        target: Target::Boards(BTreeSet::from([BoardId::new("acme.b").unwrap()])),
        release: Blob {
            digest: coracle_protocol::Sha256Digest::of(release),
            size: release.len() as u64,
        },
        epoch: 1,
        seq: 1,
        issued_at: 100,
        expires,
        deltas: vec![],
        site: BTreeMap::new(),
        secrets: vec![],
        result: false,
    }
}

/// What a board whose bound of time is `now` says to documents under `root`.
fn offered(
    root: &TrustedRoot,
    keys: &[SigningKey],
    expires: u64,
    now: u64,
) -> Result<Seen, Refusal> {
    let release = signed(RELEASE_TYPE, &release(expires), keys, &[8]);
    let payload = release.payload_unverified().unwrap();
    let deploy = deploy(&payload, expires);
    let seen = Seen {
        time: TimeBound::at(now),
        ..Seen::default()
    };
    let board = Board {
        id: &BoardId::new("acme.b").unwrap(),
        hardware: &HardwareClass::new("pc").unwrap(),
        seen: &seen,
        built_at: TimeBound::default(),
    };
    VerifiedDeployment::accept(
        VerifiedRelease::open(&release, root)?,
        VerifiedDeploy::open(&signed(DEPLOY_TYPE, &deploy, keys, &[9]), root)?,
        board,
        &[],
    )
    .map(|deployment| deployment.seen().clone())
}

#[test]
fn an_expired_root_is_a_step_on_the_way_and_no_place_to_stay() {
    let keys = keys();
    let of = |version, expires| {
        let mut document = root(&keys, version, &[8], 1, (&[8], 1));
        document.expires = expires;
        signed(ROOT_TYPE, &document, &keys, &[8])
    };
    let first = TrustedRoot::from_image(&of(1, 200)).unwrap();
    assert!(offered(&first, &keys, 900, 150).is_ok());
    let refusal = offered(&first, &keys, 900, 300).unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::Expired {
                document: "root document",
                ..
            }
        ),
        "{refusal}"
    );
    // The second one has expired as well: it is only the way to the third.
    let second = first.next(&of(2, 250)).unwrap();
    assert!(offered(&second, &keys, 900, 300).is_err());
    let third = second.next(&of(3, 1_000)).unwrap();
    assert!(offered(&third, &keys, 900, 300).is_ok());
}

#[test]
fn documents_hold_until_their_second_and_no_longer() {
    let keys = keys();
    let document = root(&keys, 1, &[8], 1, (&[8], 1));
    let root = TrustedRoot::from_image(&signed(ROOT_TYPE, &document, &keys, &[8])).unwrap();
    for (now, good) in [
        (0, true),
        (499, true),
        (500, true),
        (501, false),
        (u64::MAX >> 12, false),
    ] {
        assert_eq!(offered(&root, &keys, 500, now).is_ok(), good, "at {now}");
    }
    // What a board accepts never takes its time back.
    assert_eq!(
        offered(&root, &keys, 900, 700).unwrap().time,
        TimeBound::at(700)
    );
}

#[test]
fn only_the_next_version_of_a_root_is_taken() {
    let keys = keys();
    let of = |version| {
        signed(
            ROOT_TYPE,
            &root(&keys, version, &[8], 1, (&[8], 1)),
            &keys,
            &[8],
        )
    };
    let five = TrustedRoot::from_image(&of(5)).unwrap();
    for version in [0, 1, 4, 5, 7, 1 << 52] {
        let refused = five.next(&of(version)).unwrap_err();
        assert_eq!(
            refused,
            RootError::Version {
                have: 5,
                got: version
            }
        );
    }
    assert_eq!(five.next(&of(6)).unwrap().document().version, 6);
}

/// protocol.md of DSSE: the encoding and its example; no two inputs give the same bytes.
#[test]
fn the_encoding_that_is_signed_is_dsse_s() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    // Lengths count bytes, not characters; a body may hold anything.
    assert_eq!(pae("\u{e9}", b"\0 1"), b"DSSEv1 2 \xc3\xa9 3 \0 1");
    let moved = [
        ("a", &b"b c"[..]),
        ("a b", b"c"),
        ("a 3 b", b"c"),
        ("", b"a b c"),
    ];
    let encoded: BTreeSet<Vec<u8>> = moved.iter().map(|(kind, body)| pae(kind, body)).collect();
    assert_eq!(encoded.len(), moved.len());
}

/// envelope.md of DSSE: what a reader has to take, and what it has to leave.
#[test]
fn envelopes_are_read_as_dsse_says() {
    let keys = keys();
    let public = [keys[0].public()];
    let body = b"\xfb\xff\xfe payload";
    let envelope = signed(ROOT_TYPE, &"x", &keys, &[]);
    assert!(envelope.verify(ROOT_TYPE, &public, 1).is_err());
    let mut envelope = Envelope::unsigned(ROOT_TYPE, body);
    envelope.sign(&keys[0]).unwrap();
    let json = String::from_utf8(envelope.to_json()).unwrap();
    let safe = |text: &str| text.replace('+', "-").replace('/', "_");
    let sig = &envelope.signatures[0].sig;
    let url_safe = json
        .replace(&envelope.payload, &safe(&envelope.payload))
        .replace(sig, &safe(sig));
    assert_ne!(url_safe, json);
    for (what, text, good) in [
        ("as it is written", json.clone(), true),
        ("URL-safe base64", url_safe, true),
        (
            "fields that nobody knows",
            json.replacen('{', "{\"more\":1,", 1),
            true,
        ),
        (
            "without a keyid",
            json.replace(&format!("\"keyid\":\"{}\",", public[0].key_id()), ""),
            true,
        ),
        (
            "another keyid",
            json.replace(&public[0].key_id(), "0000"),
            true,
        ),
        (
            "two payloads",
            json.replacen('{', "{\"payload\":\"AAAA\",", 1),
            false,
        ),
        (
            "no signatures",
            json.replace("\"signatures\"", "\"other\""),
            false,
        ),
        (
            "not base64",
            json.replacen("\"payload\":\"", "\"payload\":\"!", 1),
            false,
        ),
    ] {
        let opened = Envelope::parse(text.as_bytes())
            .and_then(|envelope| envelope.verify(ROOT_TYPE, &public, 1));
        assert_eq!(opened.is_ok(), good, "{what}: {opened:?}");
        if let Ok(payload) = opened {
            assert_eq!(payload.bytes(), body);
        }
    }
}
