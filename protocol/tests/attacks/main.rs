//! One folder for each attack on trust: the documents as an attacker would send them, the board's
//! memory, and what must come of it (`case.json`). `docs/threat-model.md` names these tests.
//!
//! The folders are made by `make.rs` with fixed keys (Ed25519 is deterministic, RFC 8032 5.1.6):
//! `CORACLE_WRITE_GOLDEN=1 cargo test -p coracle-protocol --test attacks the_folders_are_as_made` writes them anew.

mod make;

use coracle_protocol::Sha256Digest;
use coracle_protocol::counters::Seen;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::{BoardId, HardwareClass};
use coracle_protocol::root::{RootError, TrustedRoot};
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{
    Board, Refusal, VerifiedDeploy, VerifiedDeployment, VerifiedRelease,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `case.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the attacker did.
    attack: String,
    board: BoardId,
    hardware: HardwareClass,
    /// What the board has accepted so far.
    seen: Seen,
    built_at: u64,
    /// Digests of the assignments that the board runs.
    already: Vec<Sha256Digest>,
    /// The code of the refusal; `accepted` when it must go through.
    outcome: String,
    /// What the refusal must say.
    says: String,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/attacks")
        .join(name)
}

fn read(name: &str, file: &str) -> Vec<u8> {
    let path = folder(name).join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn case(name: &str) -> Case {
    serde_json::from_slice(&read(name, "case.json")).expect("case.json")
}

/// Why it did not go through: a code and words.
struct Refused(String, String);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.code().into(), refusal.to_string())
    }
}

impl From<RootError> for Refused {
    fn from(error: RootError) -> Self {
        let code = match &error {
            RootError::Envelope(_) => "root-envelope",
            RootError::Malformed(_) => "root-malformed",
            RootError::Version { .. } => "root-version",
            RootError::Epoch { .. } => "root-epoch",
        };
        Self(code.into(), error.to_string())
    }
}

fn envelope(name: &str, file: &str) -> Result<Envelope, Refused> {
    Envelope::parse(&read(name, file)).map_err(|e| Refused("parse".into(), e.to_string()))
}

/// All that a board does with a folder.
fn run(name: &str) -> Result<VerifiedDeployment, Refused> {
    let case = case(name);
    let mut root = TrustedRoot::from_image(&envelope(name, "root.json")?)?;
    for file in ["root-2.json", "root-3.json"] {
        if folder(name).join(file).exists() {
            root = root.next(&envelope(name, file)?)?;
        }
    }
    let release = VerifiedRelease::open(&envelope(name, "release.json")?, &root)?;
    let deploy = VerifiedDeploy::open(&envelope(name, "deploy.json")?, &root)?;
    let board = Board {
        id: &case.board,
        hardware: &case.hardware,
        seen: &case.seen,
        built_at: TimeBound::at(case.built_at),
    };
    Ok(VerifiedDeployment::accept(
        release,
        deploy,
        board,
        &case.already,
    )?)
}

fn check(name: &str) -> Option<VerifiedDeployment> {
    let case = case(name);
    match run(name) {
        Ok(deployment) => {
            assert_eq!(case.outcome, "accepted", "it was accepted: {}", case.attack);
            Some(deployment)
        }
        Err(Refused(code, words)) => {
            assert_eq!(code, case.outcome, "refused for another reason: {words}");
            assert!(
                !case.says.is_empty() && words.contains(&case.says),
                "`{words}` does not say `{}`",
                case.says
            );
            None
        }
    }
}

macro_rules! attacks {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

attacks! {
    honest
    tampered_payload
    signature_stripped
    signature_of_another_document
    wrong_role_key_signs_release
    deploy_key_signs_release
    release_key_signs_deploy
    offline_deploy_key_signs_deploy
    unknown_key_signs_release
    same_key_two_keyids
    same_signature_twice
    keyid_lies
    threshold_two_of_three_one_signature
    threshold_two_of_three_two_signatures
    small_order_key
    online_key_in_offline_role
    root_threshold_zero
    root_threshold_above_keys
    root_not_self_signed
    payload_type_confusion
    payload_type_rewritten
    other_boards_assignment
    assignment_by_hardware_from_console
    wrong_hardware
    replayed_assignment
    rollback_release_counter
    older_agent_by_another_product
    same_agent_by_another_product
    rollback_by_other_role
    expired_release
    expired_assignment
    expired_root
    epoch_lower
    epoch_higher
    deploy_epoch_lower
    new_epoch_starts_counters_anew
    new_epoch_takes_back_time
    duplicate_json_keys
    duplicate_env_key
    duplicate_root_key
    duplicate_root_role
    duplicate_member
    unknown_field
    unknown_critical
    unknown_spec_version
    trailing_bytes
    integer_above_2_53
    fraction_for_an_integer
    oversize_envelope
    too_many_signatures
    too_many_apps
    too_many_layers
    too_many_boards
    app_named_twice
    app_name_is_a_path
    volume_over_proc
    limit_of_zero
    mix_and_match
    release_size_lies
    same_assignment_again
    extra_app_in_assignment
    assignment_sets_what_the_release_does_not_allow
    root_rotation_by_old_and_new
    root_rotation_skips_a_version
    root_rotation_signed_by_new_only
    root_rotation_signed_by_old_only
    root_rotation_revokes_release_key
    root_rotation_lowers_an_epoch
    root_rotation_backwards
    deploy_issued_after_release_expires
}

/// The stolen console does its worst: an assignment from as late as the release allows.
#[test]
fn time_bound_stays_below_release_expiry() {
    let name = "time_bound_stays_below_release_expiry";
    let deployment = check(name).expect("accepted");
    let expires = deployment.release().document().expires;
    assert_eq!(deployment.deploy().document().issued_at, expires);
    assert!(!deployment.seen().time.is_past(expires));
    assert!(deployment.seen().newest_issued_at <= expires);
}

/// What an honest deployment leaves in the board's memory.
#[test]
fn accepting_raises_what_may_not_go_back() {
    let before = case("honest").seen;
    let deployment = check("honest").expect("accepted");
    let seen = deployment.seen();
    assert!(seen.deploy > before.deploy && seen.time > before.time);
    assert!(seen.newest_issued_at > before.newest_issued_at);
    assert_eq!(seen.offline_deploy, before.offline_deploy);
    let product = &deployment.release().document().product;
    assert!(seen.releases[product] > before.releases[product]);
}

/// An agent raises its own counter, which no release without one takes back.
#[test]
fn the_agent_of_a_release_is_remembered() {
    let name = "same_agent_by_another_product";
    let deployment = check(name).expect("accepted");
    assert_eq!(
        deployment.release().document().agent_counter().unwrap(),
        deployment.seen().agent
    );
    assert_eq!(deployment.seen().agent, case(name).seen.agent);
    let seen = Seen {
        agent: deployment.seen().agent,
        ..case("honest").seen
    };
    let root = TrustedRoot::from_image(&envelope("honest", "root.json").ok().unwrap()).unwrap();
    let open = |file| envelope("honest", file).ok().unwrap();
    let release = VerifiedRelease::open(&open("release.json"), &root).unwrap();
    let deploy = VerifiedDeploy::open(&open("deploy.json"), &root).unwrap();
    let case = case("honest");
    let board = Board {
        id: &case.board,
        hardware: &case.hardware,
        seen: &seen,
        built_at: TimeBound::at(case.built_at),
    };
    let without = VerifiedDeployment::accept(release, deploy, board, &[]).unwrap();
    assert_eq!(without.seen().agent, seen.agent);
}

/// The same documents again, as a reboot or a retained message brings them, change nothing.
#[test]
fn the_same_assignment_changes_nothing() {
    let deployment = check("same_assignment_again").expect("accepted");
    assert_eq!(*deployment.seen(), case("same_assignment_again").seen);
}

/// Folders of tests that do more than [`check`]: the one above, and the one in `src/key/speccheck.rs`.
const ELSEWHERE: [&str; 2] = [
    "time_bound_stays_below_release_expiry",
    "edge_cases_of_ed25519_are_decided_as_written",
];

/// A folder that no test reads would be a claim without proof.
#[test]
fn every_folder_has_its_test() {
    let folders: Vec<String> = std::fs::read_dir(folder("."))
        .expect("the folder of the attacks")
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    for name in &folders {
        let name = name.as_str();
        assert!(
            ELSEWHERE.contains(&name) || NAMES.contains(&name),
            "no test reads `{name}`"
        );
    }
    assert_eq!(folders.len(), NAMES.len() + ELSEWHERE.len());
}

/// What lies in the folders is what the maker makes: nobody edited a fixture to pass a test.
#[test]
fn the_folders_are_as_made() {
    for (name, files) in make::all() {
        if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
            write(&name, &files);
        }
        for (file, bytes) in files {
            assert!(read(&name, &file) == bytes, "{name}/{file} is not as made");
        }
    }
}

fn write(name: &str, files: &[(String, Vec<u8>)]) {
    let dir = folder(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("making the folder");
    for (file, bytes) in files {
        std::fs::write(dir.join(file), bytes).expect("writing the fixture");
    }
}
