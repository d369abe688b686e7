//! What a board takes one after the other: counters that never go back but by a new epoch, as `test_rollback` of
//! theupdateframework/tuf-conformance has it, and what console and sticks may do between them.

use coracle_protocol::Sha256Digest;
use coracle_protocol::counters::{Counter, Seen};
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy, Target};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::{BoardId, HardwareClass, ProductName};
use coracle_protocol::release::{Blob, RELEASE_TYPE, SignedRelease};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root, TrustedRoot};
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{Board, VerifiedDeploy, VerifiedDeployment, VerifiedRelease};
use std::collections::{BTreeMap, BTreeSet};

const CONSOLE: AssignmentRole = AssignmentRole::Deploy;
const STICK: AssignmentRole = AssignmentRole::OfflineDeploy;
const FAR: u64 = 1_000_000;

/// Epochs of roles `release`, `deploy` and `offline-deploy`.
type Epochs = [u64; 3];

/// A fleet whose keys are the same all along, and one board of it.
struct Fleet {
    keys: Vec<SigningKey>,
    root: TrustedRoot,
    seen: Seen,
}

/// What is offered; epochs are those of the root.
#[derive(Clone, Copy)]
struct Offer {
    by: AssignmentRole,
    seq: u64,
    product: &'static str,
    counter: u64,
    issued_at: u64,
}

fn offer(by: AssignmentRole, seq: u64, counter: u64, issued_at: u64) -> Offer {
    Offer {
        by,
        seq,
        product: "shop",
        counter,
        issued_at,
    }
}

fn signed(kind: &str, document: &impl serde::Serialize, key: &SigningKey) -> Envelope {
    let mut envelope = Envelope::unsigned(kind, &serde_json::to_vec(document).unwrap());
    envelope.sign(key).unwrap();
    envelope
}

impl Fleet {
    fn new() -> Self {
        let keys: Vec<SigningKey> = (0..4).map(|_| SigningKey::generate().unwrap().0).collect();
        let first = signed(ROOT_TYPE, &Self::document(&keys, 1, 100, [1; 3]), &keys[0]);
        Self {
            root: TrustedRoot::from_image(&first).unwrap(),
            keys,
            seen: Seen::default(),
        }
    }

    fn document(keys: &[SigningKey], version: u64, issued_at: u64, epochs: Epochs) -> Root {
        let roles = [
            (Role::Root, 1),
            (Role::Release, epochs[0]),
            (Role::Deploy, epochs[1]),
            (Role::OfflineDeploy, epochs[2]),
        ];
        let id = |at: usize| keys[at].public().key_id();
        Root {
            spec_version: 1,
            critical: vec![],
            version,
            issued_at,
            expires: 2 * FAR,
            keys: (0..4).map(|at| (id(at), keys[at].public())).collect(),
            roles: (0..)
                .zip(roles)
                .map(|(at, (role, epoch))| {
                    let keys = vec![id(at)];
                    (
                        role,
                        RoleKeys {
                            keys,
                            threshold: 1,
                            epoch,
                        },
                    )
                })
                .collect(),
        }
    }

    /// The next root, of that time.
    fn rotate(&mut self, issued_at: u64, epochs: Epochs) {
        let version = self.root.document().version + 1;
        let next = Self::document(&self.keys, version, issued_at, epochs);
        let next = signed(ROOT_TYPE, &next, &self.keys[0]);
        self.root = self.root.next(&next).unwrap();
    }

    fn epoch(&self, role: Role) -> u64 {
        self.root.document().roles[&role].epoch
    }

    /// The board is offered this, and goes on from there if it takes it; otherwise the code of its refusal.
    fn offer(&mut self, what: Offer) -> Result<(), &'static str> {
        let board = BoardId::new("acme.b").unwrap();
        let hardware = HardwareClass::new("pc").unwrap();
        let release = SignedRelease {
            spec_version: 1,
            critical: vec![],
            product: ProductName::new(what.product).unwrap(),
            version: "1".into(),
            epoch: self.epoch(Role::Release),
            release_counter: what.counter,
            issued_at: 100,
            expires: FAR,
            hardware: BTreeSet::from([hardware.clone()]),
            networks: Vec::new(),
            agent: None,
            apps: vec![],
        };
        let release = signed(RELEASE_TYPE, &release, &self.keys[1]);
        let payload = release.payload_unverified().unwrap();
        let (role, key) = match what.by {
            AssignmentRole::Deploy => (Role::Deploy, &self.keys[2]),
            AssignmentRole::OfflineDeploy => (Role::OfflineDeploy, &self.keys[3]),
        };
        let deploy = Deploy {
            spec_version: 1,
            critical: vec![],
            role: what.by,
            target: Target::Boards(BTreeSet::from([board.clone()])),
            release: Blob {
                digest: Sha256Digest::of(&payload),
                size: payload.len() as u64,
            },
            epoch: self.epoch(role),
            seq: what.seq,
            issued_at: what.issued_at,
            expires: what.issued_at + 10_000,
            deltas: vec![],
            site: BTreeMap::new(),
            secrets: vec![],
            result: false,
        };
        let deploy = signed(DEPLOY_TYPE, &deploy, key);
        let against = Board {
            id: &board,
            hardware: &hardware,
            seen: &self.seen,
            built_at: TimeBound::default(),
        };
        let release = VerifiedRelease::open(&release, &self.root).map_err(|e| e.code())?;
        let deploy = VerifiedDeploy::open(&deploy, &self.root).map_err(|e| e.code())?;
        let taken =
            VerifiedDeployment::accept(release, deploy, against, &[]).map_err(|e| e.code())?;
        self.seen = taken.seen().clone();
        Ok(())
    }
}

#[test]
fn versions_go_on_and_never_back() {
    for by in [CONSOLE, STICK] {
        let mut fleet = Fleet::new();
        fleet.offer(offer(by, 5, 5, 500)).unwrap();
        let seen = fleet.seen.clone();
        for (what, offered, expected) in [
            ("the same again", offer(by, 5, 5, 500), "old-assignment"),
            ("an older number", offer(by, 4, 5, 600), "old-assignment"),
            (
                "an older one, larger",
                offer(by, 4, 9, 600),
                "old-assignment",
            ),
            ("an older release", offer(by, 6, 4, 600), "old-release"),
            (
                "an older time",
                offer(by, 6, 5, 499),
                "older-than-other-role",
            ),
        ] {
            assert_eq!(fleet.offer(offered), Err(expected), "{what}");
            assert_eq!(
                fleet.seen, seen,
                "{what}: what is refused counts for nothing"
            );
        }
        // As far as a counter goes, and not further.
        let top = (1 << 53) - 1;
        fleet.offer(offer(by, top, top, 600)).unwrap();
        for (seq, counter) in [(0, 0), (1, top), (top, top)] {
            let refused = fleet.offer(offer(by, seq, counter, 700));
            assert_eq!(refused, Err("old-assignment"));
        }
    }
}

/// `test_new_*_fast_forward_recovery`: each role by its own epoch, and by no other's.
#[test]
fn counters_that_were_run_up_start_anew_with_their_own_epoch() {
    let top = (1 << 53) - 1;
    for by in [CONSOLE, STICK] {
        let own = if by == CONSOLE { [1, 2, 1] } else { [1, 1, 2] };
        let others = if by == CONSOLE { [1, 1, 2] } else { [1, 2, 1] };
        for (what, epochs, seq, counter, expected) in [
            ("its own epoch", own, 1, 5, Ok(())),
            ("another's", others, 1, 5, Err("old-assignment")),
            ("the release's", [2, 1, 1], 1, 5, Err("old-assignment")),
            ("not of releases", own, 1, 4, Err("old-release")),
        ] {
            let mut fleet = Fleet::new();
            fleet.offer(offer(by, top, 5, 500)).unwrap();
            fleet.rotate(600, epochs);
            let taken = fleet.offer(offer(by, seq, counter, 700));
            assert_eq!(taken, expected, "{what}");
        }
        let mut fleet = Fleet::new();
        fleet.offer(offer(by, 5, top, 500)).unwrap();
        fleet.rotate(600, own);
        let refused = fleet.offer(offer(by, 6, 1, 700));
        assert_eq!(refused, Err("old-release"));
        fleet.rotate(800, [2, own[1], own[2]]);
        fleet.offer(offer(by, 6, 1, 900)).unwrap();
    }
}

/// A thief who signs for one role moves time and the newest assignment for both; the root that ends that must let in whoever comes
/// first, not only the role whose key was stolen. `test_expired_metadata`: what has run out meanwhile is no hindrance.
#[test]
fn time_that_a_stolen_key_ran_ahead_is_taken_back_for_both_roles() {
    for (thief, epochs) in [(CONSOLE, [1, 2, 1]), (STICK, [1, 1, 2])] {
        for first in [CONSOLE, STICK] {
            let mut fleet = Fleet::new();
            fleet.offer(offer(CONSOLE, 1, 1, 200)).unwrap();
            fleet.offer(offer(STICK, 1, 1, 300)).unwrap();
            fleet.offer(offer(thief, 2, 1, FAR - 1)).unwrap();
            let honest = offer(first, 3, 1, 700);
            assert_eq!(fleet.offer(honest), Err("expired"));
            fleet.rotate(600, epochs);
            let taken = fleet.offer(honest);
            assert_eq!(taken, Ok(()), "{thief:?} stole, {first:?} comes");
            assert_eq!(fleet.seen.time, TimeBound::at(700));
            assert_eq!(fleet.seen.newest_issued_at, 700);
        }
    }
}

/// Once a document of the new root was taken, time goes on from there: the first one of another role or product takes nothing back.
#[test]
fn a_new_root_takes_time_back_once() {
    let other = |seq, issued_at| Offer {
        product: "radio",
        ..offer(CONSOLE, seq, 1, issued_at)
    };
    let fleet = || {
        let mut fleet = Fleet::new();
        fleet.offer(offer(STICK, 1, 1, 200)).unwrap();
        fleet.offer(other(1, 250)).unwrap();
        fleet.offer(offer(CONSOLE, 2, 1, 300)).unwrap();
        fleet.rotate(400, [2; 3]);
        fleet.offer(offer(CONSOLE, 1, 1, 20_000)).unwrap();
        fleet
    };
    for (what, late, expected) in [
        // Its own end is at 10,600, which is past.
        ("a stick of before", offer(STICK, 1, 1, 600), "expired"),
        (
            "a stick",
            offer(STICK, 1, 1, 19_000),
            "older-than-other-role",
        ),
        ("another product", other(2, 600), "expired"),
        ("another product", other(2, 19_000), "older-than-other-role"),
    ] {
        let mut fleet = fleet();
        assert_eq!(fleet.offer(late), Err(expected), "{what}");
        assert_eq!(fleet.seen.time, TimeBound::at(20_000));
    }
    let mut fleet = fleet();
    fleet.offer(offer(STICK, 1, 1, 20_001)).unwrap();
    fleet.offer(other(2, 20_002)).unwrap();
    assert_eq!(fleet.seen.time, TimeBound::at(20_002));
    let counter = |value| Counter { epoch: 2, value };
    assert_eq!(fleet.seen.offline_deploy, counter(1));
    assert_eq!(fleet.seen.deploy, counter(2));
    assert!(fleet.seen.releases.values().all(|seen| *seen == counter(1)));
}
