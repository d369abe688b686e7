//! Signed commands: what the daemon carries the supervisor verifies, counts and does.

mod board;

use board::orders::{code, order, send};
use board::{Board, app, root_document, rootfs, sign};
use coracle_images::layout::RunConfig;
use coracle_protocol::command::{Action, COMMAND_TYPE, Command};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::local::{Answer, AppAction, Request};
use coracle_protocol::names::{ActionName, AppName, BoardId};
use coracle_protocol::release::NamedAction;
use coracle_protocol::report::Phase;
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys};
use std::time::Duration;

/// A board with an app, and the key that may command it.
fn commanded() -> (Board, SigningKey) {
    commanded_with(vec![])
}

/// The app's actions: what they are called, and what they run in its shell.
fn commanded_with(actions: Vec<(&str, &str)>) -> (Board, SigningKey) {
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
    let config = RunConfig {
        user: "web".into(),
        ..RunConfig::default()
    };
    let image = board.image(&rootfs(&board, "hi"), config);
    let mut app = app(&image, "exec sleep 1000");
    app.actions = actions.into_iter().map(action).collect();
    board.commit("1", vec![app]);
    (board, key)
}

fn action((name, script): (&str, &str)) -> NamedAction {
    let argv = ["/bin/sh", "-c", script];
    NamedAction {
        name: ActionName::new(name).unwrap(),
        argv: argv.map(str::to_owned).to_vec(),
        timeout_seconds: 2,
        description: None,
    }
}

fn run(name: &str) -> Action {
    Action::Run {
        app: AppName::new("web").unwrap(),
        name: ActionName::new(name).unwrap(),
    }
}

/// How an action ended, and what it wrote.
fn ran(answer: Answer) -> (Option<String>, String) {
    match answer {
        Answer::Ran { fault, output, .. } => (fault, output),
        other => panic!("{other:?}"),
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

#[test]
fn a_signed_command_restarts_an_app_and_a_replayed_one_does_not() {
    let (mut board, key) = commanded();
    let first = board.app("web").unwrap().pid.unwrap();
    let restart = order(7, restart("web"));
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
    let good = order(7, restart("web"));
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
    let nobody = signed(&order(7, restart("nobody")), &key);
    assert_eq!(code(send(&board, nobody.clone())), "no-app");
    assert_eq!(code(send(&board, nobody)), "old-command");
    let logs = |app: &str| Action::Logs {
        app: AppName::new(app).unwrap(),
        tail: 10,
    };
    let logs_of_nobody = signed(&order(8, logs("nobody")), &key);
    assert_eq!(code(send(&board, logs_of_nobody)), "no-app");
    let logs = order(9, logs("web"));
    let answer = send(&board, signed(&logs, &key));
    assert_eq!(answer, Answer::Command { command: logs });
}

#[test]
fn commands_come_no_faster_than_flash_can_bear() {
    let (board, key) = commanded();
    let commands: Vec<_> = (1..=6)
        .map(|seq| signed(&order(seq, restart("nobody")), &key))
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
    let envelope = signed(&order(7, restart("nobody")), &key);
    assert_eq!(code(send(&board, envelope.clone())), "no-app");
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    assert_eq!(board.end_of(&mut events, "2").0, Phase::Committed);
    assert_eq!(code(send(&board, envelope)), "old-command");
}

#[test]
fn an_action_that_the_release_names_runs_in_the_apps_container() {
    let (board, key) = commanded_with(vec![
        (
            "look",
            "/bin/busybox hostname; id -u; cat /proc/self/cgroup; echo $GREETING; /bin/busybox ls /",
        ),
        ("fail", "echo out; echo err >&2; exit 3"),
        ("named", "echo by its name > /dev/stdout"),
        (
            "flood",
            "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done",
        ),
    ]);
    let look = signed(&order(1, run("look")), &key);
    let (fault, output) = ran(send(&board, look.clone()));
    assert_eq!(fault, None, "{output}");
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("web"));
    assert_eq!(lines.next(), Some("1000"));
    assert!(!output.contains(".."), "not in the app's cgroup: {output}");
    assert!(
        output.contains("hello\n") && output.contains("www\n"),
        "{output}"
    );
    assert_eq!(code(send(&board, look)), "old-command");

    let failed = ran(send(&board, signed(&order(2, run("fail")), &key)));
    assert_eq!(failed, (Some("exited with 3".into()), "out\nerr\n".into()));

    let (fault, output) = ran(send(&board, signed(&order(3, run("flood")), &key)));
    assert_eq!(fault, None);
    assert!(output.ends_with("line 19999\nline 20000\n"));
    assert!(output.len() <= 48 << 10, "{}", output.len());

    // The pipe is the app's user's, who is not root.
    let (fault, output) = ran(send(&board, signed(&order(9, run("named")), &key)));
    assert_eq!((fault, output.as_str()), (None, "by its name\n"));

    let unknown = send(&board, signed(&order(10, run("format")), &key));
    let Answer::Failed { code, reason } = unknown else {
        panic!("{unknown:?}")
    };
    assert_eq!(code, "no-action");
    assert_eq!(
        reason,
        "app `web` has no action `format`; the running release names look, fail, named, flood"
    );
}

#[test]
fn an_action_ends_in_its_time_and_holds_nobody_up() {
    let (mut board, key) = commanded_with(vec![
        ("hang", "trap '' TERM; sleep 61 & echo begun; sleep 62"),
        ("stop", "kill -STOP $$"),
        ("quick", "echo done"),
    ]);
    let alive = |seconds: &str| {
        let (_, all) = board.run_in("web", &["ps", "-o", "args"]);
        all.contains(&format!("sleep {seconds}"))
    };
    let hang = signed(&order(1, run("hang")), &key);
    let mut first = board.client();
    first.send(Request::Command { command: hang });
    board::wait_for("the action", Duration::from_secs(5), || {
        alive("62").then_some(())
    });
    // Nobody waits for it: neither the loop, nor the next command.
    let asked = std::time::Instant::now();
    assert!(board.app("web").is_some());
    assert!(asked.elapsed() < Duration::from_millis(500));
    std::thread::sleep(Duration::from_millis(500));
    let second = signed(&order(2, run("quick")), &key);
    let answer = board.ask(Request::Command { command: second });
    assert_eq!(code(answer), "busy");
    let (fault, output) = ran(first.answer());
    assert_eq!(fault.unwrap(), "it did not end within 2 s and was killed");
    assert_eq!(output, "begun\n");
    assert!(!alive("61") && !alive("62"), "it left something");

    let stopped = ran(send(&board, signed(&order(3, run("stop")), &key)));
    assert_eq!(
        stopped.0.unwrap(),
        "it did not end within 2 s and was killed"
    );
    let quick = ran(send(&board, signed(&order(4, run("quick")), &key)));
    assert_eq!(quick, (None, "done\n".into()));

    // An app that does not run has nothing to do it in.
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    board::wait_for("its end", Duration::from_secs(10), || {
        board.app("web")?.pid.is_none().then_some(())
    });
    let quick = signed(&order(5, run("quick")), &key);
    assert_eq!(code(send(&board, quick)), "not-running");
    board.stop_all();
}
