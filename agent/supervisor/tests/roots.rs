//! Root documents that come after the image's: the chain, what a revoked key can still do, and how counters
//! recover that a stolen key ran up.

mod board;

use board::{Board, app, now, root_document, rootfs, sign};
use coracle_images::layout::RunConfig;
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::local::{Answer, Event, Request};
use coracle_protocol::release::{RELEASE_TYPE, Release};
use coracle_protocol::report::Phase;
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root};

fn new_key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

fn signed_by(document: &Root, keys: &[&SigningKey]) -> Envelope {
    let mut envelope = sign(ROOT_TYPE, document, keys[0]);
    for key in &keys[1..] {
        envelope.sign(key).unwrap();
    }
    envelope
}

fn take(board: &Board, root: Envelope) -> Answer {
    board.ask(Request::Root { root })
}

fn code(answer: Answer) -> String {
    match answer {
        Answer::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn trusted(board: &Board) -> u64 {
    board.status().trust.unwrap().root_version
}

fn documents(board: &mut Board, version: &str) -> (Release, Deploy) {
    let image = board.image(&rootfs(board, "hi"), RunConfig::default());
    board.documents(version, vec![app(&image, "exec sleep 1000")])
}

#[test]
fn a_revoked_release_key_signs_nothing_new_and_what_runs_goes_on() {
    let mut board = Board::start();
    let (release, deploy) = documents(&mut board, "1");
    assert_eq!(board.carry_out("1", &release, &deploy).0, Phase::Committed);
    let pid = board.app("web").unwrap().pid;

    // An offer that was accepted under the old root is forgotten with it.
    let (stolen, assigned) = documents(&mut board, "2");
    board.needs("2", &stolen, &assigned);
    let mut events = board.watch();
    let revoked = std::mem::replace(&mut board.keys.release, new_key());
    let two = signed_by(&root_document(&board.keys, 2, 1), &[&board.keys.root]);
    assert_eq!(take(&board, two.clone()), Answer::Done);
    assert_eq!(events.event(), Some(Event::Root { version: 2 }));
    assert!(matches!(
        board.activate("2"),
        Answer::Failed { code, .. } if code == "no-offer"
    ));
    let by_revoked = sign(RELEASE_TYPE, &stolen, &revoked);
    let assignment = sign(DEPLOY_TYPE, &assigned, &board.keys.deploy);
    let answer = board.offer_signed("2", by_revoked, assignment);
    assert_eq!(code(answer), "bad-signature");
    assert_eq!(board.app("web").unwrap().pid, pid, "what runs goes on");

    // After a crash too; and the new key's release goes through.
    board.restart_supervisor();
    assert_eq!((trusted(&board), board.app("web").unwrap().pid), (2, pid));
    assert_eq!(take(&board, two), Answer::Done, "the same one again");
    let (release, deploy) = documents(&mut board, "3");
    assert_eq!(board.carry_out("3", &release, &deploy).0, Phase::Committed);
}

#[test]
fn an_offer_goes_on_under_a_new_root_that_its_keys_are_in() {
    let mut board = Board::start();
    let (release, deploy) = documents(&mut board, "1");
    let needs = board.needs("1", &release, &deploy);
    let two = signed_by(&root_document(&board.keys, 2, 1), &[&board.keys.root]);
    assert_eq!(take(&board, two), Answer::Done);
    board.stage_all("1", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("1"), Answer::Done);
    assert_eq!(board.end_of(&mut events, "1").0, Phase::Committed);
}

#[test]
fn a_root_that_its_predecessor_did_not_sign_is_refused() {
    let mut board = Board::start();
    let stranger = new_key();
    let old = std::mem::replace(&mut board.keys.root, new_key());
    let two = root_document(&board.keys, 2, 1);
    for keys in [
        &[&stranger][..],
        &[&board.keys.root],
        // The old ones alone could name keys that nobody holds.
        &[&old],
    ] {
        assert_eq!(code(take(&board, signed_by(&two, keys))), "bad-root");
    }
    let three = signed_by(&root_document(&board.keys, 3, 1), &[&old, &board.keys.root]);
    assert_eq!(code(take(&board, three)), "bad-root");
    assert_eq!(trusted(&board), 1);
    let both = signed_by(&two, &[&old, &board.keys.root]);
    assert_eq!(take(&board, both), Answer::Done);
    assert_eq!(trusted(&board), 2);
}

#[test]
fn a_counter_that_a_stolen_key_ran_up_recovers_by_a_new_epoch() {
    let mut board = Board::start();
    // The thief: the largest counter that a document can have, and the newest time it may claim.
    let (release, mut deploy) = documents(&mut board, "thief");
    (deploy.seq, deploy.issued_at) = ((1 << 53) - 1, now() + 80_000);
    assert_eq!(board.carry_out("t", &release, &deploy).0, Phase::Committed);
    let (release, deploy) = documents(&mut board, "honest");
    assert_eq!(code(board.offer("h", &release, &deploy)), "old-assignment");

    board.keys.deploy = new_key();
    let two = signed_by(&root_document(&board.keys, 2, 2), &[&board.keys.root]);
    assert_eq!(take(&board, two), Answer::Done);
    let answer = board.offer("h", &release, &deploy);
    assert_eq!(code(answer), "wrong-epoch", "documents of the old epoch");
    let release = Release {
        epoch: 2,
        ..release
    };
    let deploy = Deploy {
        epoch: 2,
        seq: 1,
        ..board.deploy_of(&release, 1)
    };
    let slots = ["seen.a", "seen.b"].map(|name| board.state().join("trust").join(name));
    let before = slots.clone().map(|slot| std::fs::read(slot).unwrap());
    assert_eq!(board.carry_out("h", &release, &deploy).0, Phase::Committed);
    let trust = board.status().trust.unwrap();
    assert_eq!((trust.deploy.epoch, trust.deploy.value), (2, 1));
    assert!(trust.time < now() + 10_000, "time is taken back too");
    board.restart_supervisor();
    assert_eq!(board.status().trust.unwrap(), trust);

    // The set is on disk, and the power goes before its counters are.
    board.kill_supervisor();
    for (slot, bytes) in slots.iter().zip(before) {
        std::fs::write(slot, bytes).unwrap();
    }
    board.start_supervisor();
    let after = board.status().trust.unwrap();
    assert_eq!((after.deploy.epoch, after.deploy.value), (2, 1));
    assert!(after.time < now() + 10_000, "{}", after.time);
    let deploy = Deploy {
        epoch: 2,
        ..board.deploy_of(&release, 2)
    };
    assert_eq!(board.carry_out("i", &release, &deploy).0, Phase::Committed);
}

/// A thief moves time for whoever else may assign, and the root that ends that lets them in too, without the console.
#[test]
fn a_stick_gets_in_again_after_a_stolen_deploy_key_ran_time_ahead() {
    let mut board = Board::start();
    let sticks = new_key();
    let with_sticks = |board: &Board, version, deploy_epoch| {
        let mut root = root_document(&board.keys, version, 1);
        let id = sticks.public().key_id();
        root.keys.insert(id.clone(), sticks.public());
        let (keys, threshold, epoch) = (vec![id], 1, 1);
        let role = RoleKeys {
            keys,
            threshold,
            epoch,
        };
        root.roles.insert(Role::OfflineDeploy, role);
        root.roles.get_mut(&Role::Deploy).unwrap().epoch = deploy_epoch;
        signed_by(&root, &[&board.keys.root])
    };
    assert_eq!(take(&board, with_sticks(&board, 2, 1)), Answer::Done);
    let (release, mut deploy) = documents(&mut board, "thief");
    (deploy.seq, deploy.issued_at) = ((1 << 53) - 1, now() + 80_000);
    assert_eq!(board.carry_out("t", &release, &deploy).0, Phase::Committed);

    board.keys.deploy = new_key();
    let three = with_sticks(&board, 3, 2);
    let (release, deploy) = documents(&mut board, "stick");
    board.keys.deploy = sticks;
    let stick = Deploy {
        role: AssignmentRole::OfflineDeploy,
        seq: 1,
        expires: now() + 60_000,
        ..deploy
    };
    assert_eq!(code(board.offer("s", &release, &stick)), "expired");
    assert_eq!(take(&board, three), Answer::Done);
    assert_eq!(board.carry_out("s", &release, &stick).0, Phase::Committed);
    let trust = board.status().trust.unwrap();
    assert!(trust.time < now() + 10_000, "time is taken back");
    assert_eq!((trust.deploy.epoch, trust.deploy.value), (2, 0));
    assert_eq!(trust.offline_deploy.value, 1);
    board.restart_supervisor();
    assert_eq!(board.status().trust.unwrap(), trust);
}
