//! Signed commands: what the daemon carries the supervisor verifies, counts and does.

mod board;

use board::{Board, app, now, root_document, rootfs, sign};
use coracle_images::layout::RunConfig;
use coracle_protocol::command::{Action, COMMAND_TYPE, Command};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::local::{Answer, Request};
use coracle_protocol::names::{AppName, BoardId};
use coracle_protocol::report::Phase;
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys};
use std::time::Duration;

/// A board with an app, and the key that may command it.
fn commanded() -> (Board, SigningKey) {
    let mut board = Board::start();
    let key = SigningKey::generate().unwrap().0;
    let mut root = root_document(&board.keys, 2, 1);
    root.keys.insert(key.public().key_id(), key.public());
    let role = RoleKeys {
        keys: vec![key.public().key_id()],
        threshold: 1,
        epoch: 1,
    };
    root.roles.insert(Role::Command, role);
    let root = sign(ROOT_TYPE, &root, &board.keys.root);
    assert_eq!(board.ask(Request::Root { root }), Answer::Done);
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    board.commit("1", vec![app(&image, "exec sleep 1000")]);
    (board, key)
}

fn command(seq: u64, action: Action) -> Command {
    Command {
        spec_version: 1,
        critical: vec![],
        board: BoardId::new(board::BOARD).unwrap(),
        epoch: 1,
        seq,
        issued_at: now(),
        expires: now() + 120,
        action,
    }
}

fn restart(app: &str) -> Action {
    Action::Restart {
        app: AppName::new(app).unwrap(),
    }
}

fn signed(command: &Command, key: &SigningKey) -> Envelope {
    sign(COMMAND_TYPE, command, key)
}

/// What became of it, once the board takes the next one.
fn send(board: &Board, command: Envelope) -> Answer {
    board::wait_for(
        "the board to take a command",
        Duration::from_secs(5),
        || match board.ask(Request::Command {
            command: command.clone(),
        }) {
            Answer::Failed { code, .. } if code == "busy" => None,
            answer => Some(answer),
        },
    )
}

fn code(answer: Answer) -> String {
    match answer {
        Answer::Refused { code, .. } | Answer::Failed { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signed_command_restarts_an_app_and_a_replayed_one_does_not() {
    let (mut board, key) = commanded();
    let first = board.app("web").unwrap().pid.unwrap();
    let restart = command(7, restart("web"));
    let envelope = signed(&restart, &key);
    let answer = send(&board, envelope.clone());
    assert_eq!(answer, Answer::Command { command: restart });
    let running = |board: &Board, not: i32| {
        board::wait_for("a new process", Duration::from_secs(20), || {
            let pid = board.app("web")?.pid?;
            (pid as i32 != not).then_some(pid)
        })
    };
    let second = running(&board, first as i32);

    // Again, and after a crash: its counter is on disk.
    assert_eq!(code(send(&board, envelope.clone())), "old-command");
    board.restart_supervisor();
    assert_eq!(code(send(&board, envelope)), "old-command");
    assert_eq!(board.app("web").unwrap().pid, Some(second));
    let said = board.log().matches("a command was refused").count();
    assert_eq!(said, 2, "once for each supervisor");
}

#[test]
fn the_supervisor_believes_no_command_by_itself() {
    let (board, key) = commanded();
    let pid = board.app("web").unwrap().pid;
    let good = command(7, restart("web"));
    let by_the_console = signed(&good, &board.keys.deploy);
    assert_eq!(code(send(&board, by_the_console)), "bad-signature");
    let other = Command {
        board: BoardId::new("acme.test-2").unwrap(),
        ..good.clone()
    };
    assert_eq!(code(send(&board, signed(&other, &key))), "wrong-board");
    let over = Command {
        issued_at: 1_700_000_000,
        expires: 1_700_000_060,
        ..good.clone()
    };
    assert_eq!(code(send(&board, signed(&over, &key))), "expired");
    assert_eq!(board.app("web").unwrap().pid, pid);

    // None of these was counted, and no app is not one that another command may start later.
    let nobody = signed(&command(7, restart("nobody")), &key);
    assert_eq!(code(send(&board, nobody.clone())), "no-app");
    assert_eq!(code(send(&board, nobody)), "old-command");
    let logs = |app: &str| Action::Logs {
        app: AppName::new(app).unwrap(),
        tail: 10,
    };
    let logs_of_nobody = signed(&command(8, logs("nobody")), &key);
    assert_eq!(code(send(&board, logs_of_nobody)), "no-app");
    let logs = command(9, logs("web"));
    let answer = send(&board, signed(&logs, &key));
    assert_eq!(answer, Answer::Command { command: logs });
}

#[test]
fn commands_come_no_faster_than_flash_can_bear() {
    let (board, key) = commanded();
    let commands: Vec<_> = (1..=6)
        .map(|seq| signed(&command(seq, restart("nobody")), &key))
        .collect();
    let ask = |command: Envelope| code(board.ask(Request::Command { command }));
    let codes: Vec<_> = commands.into_iter().map(ask).collect();
    let taken = codes.iter().filter(|code| *code == "no-app").count();
    let busy = codes.iter().filter(|code| *code == "busy").count();
    assert!(taken >= 1 && busy >= 1 && taken + busy == 6, "{codes:?}");
}

/// An offer remembers what had been seen when it was made.
#[test]
fn a_command_between_an_offer_and_its_start_stays_counted() {
    let (mut board, key) = commanded();
    let image = board.image(&rootfs(&board, "ho"), RunConfig::default());
    let (release, deploy) = board.documents("2", vec![app(&image, "exec sleep 1000")]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    let envelope = signed(&command(7, restart("nobody")), &key);
    assert_eq!(code(send(&board, envelope.clone())), "no-app");
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    assert_eq!(board.end_of(&mut events, "2").0, Phase::Committed);
    assert_eq!(code(send(&board, envelope)), "old-command");
}
