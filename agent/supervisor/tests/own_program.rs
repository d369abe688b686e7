//! A release brings another program of the board's own: it is tried together with its apps, kept or given up with them, and
//! whatever it is, the board comes back.

mod board;

use board::{Board, Client, app, http_health, rootfs, wait_for};
use coracle_digest::Sha256Digest;
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, Event, LayerSource, Request};
use coracle_protocol::names::ProductName;
use coracle_protocol::release::{Agent, App, Blob, Hook, Image};
use coracle_protocol::report::{Phase, SetState};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);

fn web(board: &Board, page: &str) -> App {
    let image = board.image(&rootfs(board, page), RunConfig::default());
    let mut web = app(&image, "exec httpd -f -p 8080 -h /www");
    web.health = Some(http_health(8080));
    web
}

/// The program under test, as small as one is that ships, with some bytes behind it: another one, which does the same.
fn successor(tail: &str) -> Vec<u8> {
    static STRIPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("stripped");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&to).arg(shipped());
        assert!(strip.status().unwrap().success());
        std::fs::read(&to).unwrap()
    });
    [STRIPPED.as_slice(), tail.as_bytes()].concat()
}

/// An image with `bytes` as the program, which is what is signed.
fn agent(board: &Board, version: &str, bytes: &[u8]) -> Agent {
    let root = board.dir.path().join(format!("agent-{version}"));
    std::fs::create_dir(&root).unwrap();
    let path = root.join("coracle-agent");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let image: Image = board.image(&root, RunConfig::default());
    Agent {
        version: version.into(),
        counter: version.parse().unwrap(),
        program: Blob {
            digest: Sha256Digest::of(bytes),
            size: bytes.len() as u64,
        },
        image,
    }
}

fn program_on_board(board: &Board, bytes: &[u8]) -> PathBuf {
    let name = Sha256Digest::of(bytes).hex();
    board.state().join("agent").join(name)
}

/// What the supervisor's process executes now.
fn executed(board: &Board) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/exe", board.supervisor_pid())).unwrap()
}

fn shipped() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_coracle-supervisor"))
}

/// Offered, staged and activated, up to where the board's own program is replaced.
fn activate(board: &mut Board, version: &str, apps: Vec<App>, agent: Agent) {
    let (mut release, _) = board.documents(version, apps);
    release.agent = Some(agent);
    let deploy = board.deploy_of(&release, release.release_counter);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    assert_eq!(board.activate(version), Answer::Done, "{}", board.log());
}

/// The end of a deployment for a daemon that comes again after each supervisor.
fn end(board: &Board, activity: &str) -> (Phase, String) {
    wait_for("the deployment's end", WAIT, || {
        let mut events = board.try_client()?;
        events.try_watch()?;
        while let Some(event) = events.event() {
            if let Event::Deployment {
                activity: of,
                phase,
                reason,
                ..
            } = event
                && of == activity
                && phase.is_end()
            {
                return Some((phase, reason.unwrap_or_default()));
            }
        }
        None
    })
}

fn wait_for_program(board: &Board, program: &Path) {
    wait_for("the program", WAIT, || {
        board.try_status()?;
        (executed(board) == program).then_some(())
    });
}

fn wait_for_page(board: &Board, page: &str) {
    wait_for(page, WAIT, || {
        let apps = board.try_status()?.current?.apps;
        let ip = apps.first()?.ip?;
        let found = board.get(&format!("http://{ip}:8080/"))?;
        (found == page).then_some(())
    });
}

/// As systemd does: started again whenever it ends, until it is the program of the root file system.
fn start_again_and_again(board: &mut Board, starts: usize) {
    for _ in 0..starts {
        board.start_and_wait_for_its_end();
    }
    board.start_supervisor();
}

#[test]
fn a_new_agent_takes_over_and_is_kept_with_its_release() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let before = board.app("web").unwrap().pid.unwrap();
    let supervisor = board.supervisor_pid();
    let two = successor("two");
    let brought = agent(&board, "2", &two);
    let apps = vec![web(&board, "page two")];
    activate(&mut board, "2", apps, brought);
    let begun = Instant::now();
    assert_eq!(end(&board, "2").0, Phase::Committed, "{}", board.log());
    // The trial of its apps is over in a second, and a daemon has stayed after ten.
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(29), "kept after {took:?}");
    assert_eq!(executed(&board), program_on_board(&board, &two));
    assert_eq!(board.supervisor_pid(), supervisor, "the same process");
    wait_for_page(&board, "page two");
    let log = board.log();
    let taken_over = log.find("adopted app=web pid=").map(|at| &log[at..]);
    assert!(
        taken_over.is_some_and(|log| log.starts_with(&format!("adopted app=web pid={before}"))),
        "the app of the set before ran on meanwhile: {log}"
    );

    // It is the board's from now on, with the same apps.
    let pid = board.app("web").unwrap().pid;
    for _ in 0..4 {
        board.end_supervisor();
        board.start_supervisor();
        assert_eq!(executed(&board), program_on_board(&board, &two));
    }
    assert_eq!(board.app("web").unwrap().pid, pid);

    // A release that says nothing of it leaves it; one with the next takes it on, and the one after that drops this one.
    let apps = vec![web(&board, "page three")];
    board.commit("3", apps);
    assert_eq!(executed(&board), program_on_board(&board, &two));
    let four = successor("four");
    let brought = agent(&board, "4", &four);
    let apps = vec![web(&board, "page four")];
    activate(&mut board, "4", apps, brought);
    assert_eq!(end(&board, "4").0, Phase::Committed, "{}", board.log());
    assert_eq!(executed(&board), program_on_board(&board, &four));
    assert!(program_on_board(&board, &two).exists(), "the one before");
    let five = successor("five");
    let brought = agent(&board, "5", &five);
    let apps = vec![web(&board, "page five")];
    activate(&mut board, "5", apps, brought);
    assert_eq!(end(&board, "5").0, Phase::Committed, "{}", board.log());
    wait_for("the oldest to go", WAIT, || {
        (!program_on_board(&board, &two).exists()).then_some(())
    });
}

/// It was kept, and one day it ends soon after each start.
#[test]
fn a_kept_agent_that_does_not_come_up_any_more_goes_back() {
    let mut board = Board::start();
    let two = successor("two");
    let brought = agent(&board, "2", &two);
    let apps = vec![web(&board, "page two")];
    activate(&mut board, "2", apps, brought);
    assert_eq!(end(&board, "2").0, Phase::Committed, "{}", board.log());
    let (pid, brought) = (
        board.app("web").unwrap().pid,
        program_on_board(&board, &two),
    );
    // What ends it once, or twice within a minute, need not be itself.
    for _ in 0..2 {
        board.restart_supervisor();
        assert_eq!(executed(&board), brought);
    }
    wait_for("it to stay", WAIT, || {
        let stayed = "this program has stayed";
        board.log().contains(stayed).then_some(())
    });
    for _ in 0..2 {
        board.restart_supervisor();
        assert_eq!(executed(&board), brought, "counted from anew");
        // Ends that somebody asks for are none of its own.
        board.end_supervisor();
        board.start_supervisor();
        assert_eq!(executed(&board), brought);
    }
    board.restart_supervisor();
    assert_eq!(executed(&board), shipped(), "{}", board.log());
    let words = board.status().last_failure.unwrap();
    assert!(words.contains("program 2 had been kept"), "{words}");
    assert_eq!(board.app("web").unwrap().pid, pid);
    board.restart_supervisor();
    assert_eq!(executed(&board), shipped());
    assert!(board.status().last_failure.is_some());
    wait_for_page(&board, "page two");
    assert!(!brought.exists(), "nothing chooses it any more");
}

/// A hook before an app's start runs to its end in the program that began it.
#[test]
fn an_agent_waits_for_the_hook_of_an_app() {
    let mut board = Board::start();
    let mut one = web(&board, "page one");
    // Short at first, and at the next start as long as a migration of data.
    let script = "[ -e /second ] && sleep 16; echo > /second";
    one.hooks.pre_start = Some(Hook {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout_seconds: Some(30),
    });
    board.commit("1", vec![one]);
    let two = successor("two");
    let brought = agent(&board, "2", &two);
    let apps = vec![web(&board, "page two")];
    let restart = coracle_protocol::local::AppAction::Restart;
    assert_eq!(board.control("web", restart), Answer::Done);
    wait_for("the hook", WAIT, || {
        let waits_for = board.app("web")?.waiting_for?;
        waits_for.contains("pre_start").then_some(())
    });
    let begun = Instant::now();
    activate(&mut board, "2", apps, brought);
    wait_for("the reason", WAIT, || {
        let reason = board.status().waiting?.reason;
        let told = "takes over first, once the pre_start hook of app `web` has ended";
        reason.contains(told).then_some(())
    });
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(executed(&board), shipped(), "{}", board.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    wait_for_program(&board, &program_on_board(&board, &two));
    let log = board.log();
    let (ended, replaced) = ("pre_start has ended", "own program is replaced");
    assert!(log.rfind(ended) < log.find(replaced), "{log}");
}

#[test]
fn a_release_that_does_not_stay_takes_its_agent_with_it() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let two = successor("two");
    let brought = agent(&board, "2", &two);
    let mut sick = web(&board, "page two");
    sick.args[2] = "exec sleep 1000".into();
    activate(&mut board, "2", vec![sick], brought);
    let (phase, reason) = end(&board, "2");
    assert_eq!(phase, Phase::RolledBack);
    assert!(reason.contains("web"), "{reason}");
    wait_for_program(&board, shipped());
    wait_for_page(&board, "page one");
    assert!(board.status().last_failure.unwrap().contains("web"));
    board.restart_supervisor();
    assert_eq!(executed(&board), shipped());
    wait_for_page(&board, "page one");
}

/// It runs, its apps are healthy, and nobody could tell the board anything any more.
#[test]
fn an_agent_that_no_daemon_finds_to_goes_back() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let brought = agent(&board, "2", &successor("two"));
    let apps = vec![web(&board, "page two")];
    activate(&mut board, "2", apps, brought);
    wait_for("its end", WAIT, || {
        let over = "no daemon has connected";
        board.log().contains(over).then_some(())
    });
    wait_for_program(&board, shipped());
    wait_for_page(&board, "page one");
    let words = board.status().last_failure.unwrap();
    assert!(words.contains("no daemon"), "{words}");
}

/// A daemon that cannot read the new program's answers hangs up each time and comes again a second later; one that only watches
/// has shown nothing.
#[test]
fn an_agent_that_its_daemon_does_not_understand_goes_back() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let brought = agent(&board, "2", &successor("two"));
    let apps = vec![web(&board, "page two")];
    activate(&mut board, "2", apps, brought);
    let (mut watching, mut hung_up) = (None, 0);
    wait_for("its end", WAIT, || {
        if board.log().contains("no daemon has connected") {
            return Some(());
        }
        let watch = |client: &mut Client| client.try_ask(Request::Watch);
        if watching.as_mut().and_then(watch).is_none() {
            watching = board.try_client();
        }
        let mut daemon = board.try_client()?;
        daemon.try_ask(Request::Watch)?;
        daemon.try_ask(Request::Status)?;
        hung_up += 1;
        std::thread::sleep(Duration::from_secs(1));
        None
    });
    assert!(hung_up > 10, "{hung_up}");
    wait_for_program(&board, shipped());
    wait_for_page(&board, "page one");
    let words = board.status().last_failure.unwrap();
    assert!(words.contains("and stayed"), "{words}");
}

/// As a daemon does that ends soon after each start as the new program: the root file system's comes again, and asks again.
fn ask_program(daemon: &mut Client, running: Option<Sha256Digest>) -> Option<Option<Sha256Digest>> {
    match daemon.try_ask(Request::Program { running })? {
        Answer::Program { program } => Some(program),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_is_no_daemon_goes_back() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let own = board.status().program.unwrap();
    assert_eq!(own.brought, None);
    // Nothing is counted of one that is what it is to be.
    for _ in 0..9 {
        assert_eq!(ask_program(&mut board.client(), None), Some(None));
    }
    let two = successor("two");
    let digest = Sha256Digest::of(&two);
    let brought = agent(&board, "2", &two);
    let apps = vec![web(&board, "page two")];
    activate(&mut board, "2", apps, brought);
    wait_for_program(&board, &program_on_board(&board, &two));
    let own = board.status().program.unwrap();
    assert_eq!((own.version.as_str(), own.brought), ("2", Some(digest)));
    let mut said = Vec::new();
    for _ in 0..3 {
        let mut daemon = board.client();
        daemon.try_watch().unwrap();
        said.push(ask_program(&mut daemon, None).unwrap());
    }
    assert_eq!(said, [Some(digest); 3]);
    // It stays, with all that an older daemon would have to show: it is not the one that is on trial.
    let mut daemon = board.client();
    daemon.try_watch().unwrap();
    assert_eq!(ask_program(&mut daemon, None), Some(None));
    wait_for_program(&board, shipped());
    drop(daemon);
    wait_for_page(&board, "page one");
    let words = board.status().last_failure.unwrap();
    assert!(
        words.contains("program 2 was executed as coracled 3 times and did not stay"),
        "{words}"
    );
}

#[test]
fn an_agent_whose_daemon_is_of_it_too_is_kept() {
    let mut board = Board::start();
    let two = successor("two");
    let digest = Some(Sha256Digest::of(&two));
    let brought = agent(&board, "2", &two);
    let mut app = web(&board, "page two");
    // A daemon is waited for until half a minute after their trial: twenty seconds longer than the program has to stay.
    app.trial_seconds = 20;
    activate(&mut board, "2", vec![app], brought);
    wait_for_program(&board, &program_on_board(&board, &two));
    // One before it that has hung stays beside it, and counts for nothing.
    let mut before = board.client();
    before.try_watch().unwrap();
    assert_eq!(ask_program(&mut before, None), Some(digest));
    std::thread::sleep(Duration::from_secs(32));
    assert!(!board.log().contains("this program is kept"));
    let mut daemon = board.client();
    daemon.try_watch().unwrap();
    assert_eq!(ask_program(&mut daemon, digest), Some(digest));
    wait_for("it to be kept", WAIT, || {
        board.log().contains("this program is kept").then_some(())
    });
    drop((before, daemon));
    assert_eq!(executed(&board), program_on_board(&board, &two));
    wait_for_page(&board, "page two");
}

#[test]
fn agents_that_are_none_leave_the_board_as_it_was() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let pid = board.app("web").unwrap().pid;
    let whole = successor("");
    // For another machine: EM_68K.
    let mut foreign = whole.clone();
    foreign[18..20].copy_from_slice(&4_u16.to_le_bytes());
    // Each is signed as it is. These two cannot be executed at all, and the board knows at once.
    for (version, bytes) in [("2", b"#!/bin/sh\nsleep 60\n".to_vec()), ("3", foreign)] {
        let brought = agent(&board, version, &bytes);
        let apps = vec![web(&board, "page two")];
        activate(&mut board, version, apps, brought);
        let (phase, reason) = end(&board, version);
        assert_eq!(phase, Phase::Failed, "{reason}");
        assert!(
            reason.contains("no ELF program") || reason.contains("cannot be executed"),
            "{reason}"
        );
        assert_eq!(executed(&board), shipped());
        assert_eq!(board.app("web").unwrap().pid, pid);
    }
    // These end at once, or before anything could be heard of them: two starts they have.
    let end_at_once = std::fs::read("/bin/false").unwrap();
    let torn = whole[..whole.len() / 2].to_vec();
    for (version, bytes) in [("4", end_at_once), ("5", torn)] {
        let brought = agent(&board, version, &bytes);
        let apps = vec![web(&board, "page two")];
        activate(&mut board, version, apps, brought);
        board.wait_for_the_supervisors_end();
        start_again_and_again(&mut board, 1);
        let (phase, reason) = end(&board, version);
        assert_eq!(phase, Phase::Failed, "{reason}");
        assert!(reason.contains("started 2 times"), "{reason}");
        let words = board.status().last_failure.unwrap();
        assert!(words.contains("started 2 times"), "{words}");
        assert_eq!(executed(&board), shipped());
        assert_eq!(board.app("web").unwrap().pid, pid);
    }
    wait_for_page(&board, "page one");
    // And the next good one is taken.
    let next = successor("next");
    let brought = agent(&board, "6", &next);
    let apps = vec![web(&board, "page six")];
    activate(&mut board, "6", apps, brought);
    assert_eq!(end(&board, "6").0, Phase::Committed, "{}", board.log());
    assert_eq!(executed(&board), program_on_board(&board, &next));
}

/// What was signed is one program, and its layer has another.
#[test]
fn an_agent_with_other_bytes_than_were_signed_is_never_executed() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let mut brought = agent(&board, "2", &successor("two"));
    brought.program.digest = Sha256Digest::of(&successor("six"));
    let apps = vec![web(&board, "page two")];
    activate(&mut board, "2", apps, brought);
    let (phase, reason) = end(&board, "2");
    assert_eq!(phase, Phase::Failed);
    assert!(reason.contains("was signed"), "{reason}");
    assert_eq!(executed(&board), shipped());
    assert!(!board.state().join("agent/choice").exists());
    wait_for_page(&board, "page one");
}

/// A release that nobody of the developers signed brings none either.
#[test]
fn an_agent_that_is_not_signed_is_refused() {
    let mut board = Board::start();
    let brought = agent(&board, "2", &successor("two"));
    let apps = vec![web(&board, "page two")];
    let (mut release, _) = board.documents("2", apps);
    release.agent = Some(brought);
    let deploy = board.deploy_of(&release, 2);
    let mut other = release.clone();
    other.agent.as_mut().unwrap().program.digest = Sha256Digest::of(b"mine");
    // The assignment names the one, the other is sent.
    let answer = board.offer("2", &other, &deploy);
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    board.keys.release = coracle_protocol::key::SigningKey::generate().unwrap().0;
    let answer = board.offer("2", &release, &deploy);
    let Answer::Refused { code, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code, "bad-signature");
    assert!(!board.state().join("agent/choice").exists());
}

/// The release before, signed as it was, with the agent before: the counters of the new agent know it.
#[test]
fn an_older_release_does_not_bring_the_older_agent_back() {
    let mut board = Board::start();
    let (two, three) = (successor("two"), successor("three"));
    let brought = agent(&board, "2", &two);
    let apps = vec![web(&board, "page two")];
    let (mut release, _) = board.documents("2", apps.clone());
    release.agent = Some(brought);
    let deploy = board.deploy_of(&release, 1);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    assert_eq!(board.activate("2"), Answer::Done);
    assert_eq!(end(&board, "2").0, Phase::Committed, "{}", board.log());
    let before = std::fs::read(board.state().join("trust/seen.a")).unwrap();
    let brought = agent(&board, "3", &three);
    activate(&mut board, "3", apps, brought);
    assert_eq!(end(&board, "3").0, Phase::Committed, "{}", board.log());
    for seq in [1, 9] {
        let again = board.deploy_of(&release, seq);
        let Answer::Refused { code, .. } = board.offer("again", &release, &again) else {
            panic!("an older release was taken");
        };
        assert!(code.starts_with("old-"), "{code}");
    }
    // Nor does the release of another product, which is new to this board.
    release.product = ProductName::new("kiosk").unwrap();
    let refused = |board: &Board, seq| {
        let other = board.deploy_of(&release, seq);
        let Answer::Refused { code, reason } = board.offer("other", &release, &other) else {
            panic!("an older agent was taken");
        };
        assert_eq!(code, "old-agent");
        assert!(
            reason.contains("agent.counter 1.2 of the release is below 1.3"),
            "{reason}"
        );
    };
    refused(&board, 9);
    // Counters from before it: those of the set that was kept with it count.
    board.end_supervisor();
    for slot in ["seen.a", "seen.b"] {
        let path = board.state().join("trust").join(slot);
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains(r#""agent":{"epoch":1,"value":3}"#)
        );
        std::fs::write(&path, &before).unwrap();
    }
    board.start_supervisor();
    refused(&board, 10);
    assert_eq!(executed(&board), program_on_board(&board, &three));
}

/// Whoever can write to the flash while the board is off, or flash that rots.
#[test]
fn an_agent_that_was_changed_on_disk_is_passed_over() {
    let mut board = Board::start();
    let (two, three) = (successor("two"), successor("three"));
    for (version, bytes) in [("2", &two), ("3", &three)] {
        let brought = agent(&board, version, bytes);
        let apps = vec![web(&board, version)];
        activate(&mut board, version, apps, brought);
        assert_eq!(end(&board, version).0, Phase::Committed, "{}", board.log());
    }
    let pid = board.app("web").unwrap().pid;
    board.kill_supervisor();
    // Another file under its name, of the same size and whole by itself.
    let path = program_on_board(&board, &three);
    let evil = path.with_file_name("evil");
    std::fs::write(&evil, successor("EVIL!")).unwrap();
    std::fs::set_permissions(&evil, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&evil, &path).unwrap();
    board.start_supervisor();
    assert_eq!(executed(&board), program_on_board(&board, &two));
    board.kill_supervisor();
    std::fs::remove_file(program_on_board(&board, &two)).unwrap();
    board.start_supervisor();
    assert_eq!(executed(&board), shipped());
    let log = board.log();
    assert!(log.contains("was signed") && log.contains("passed over"));
    assert_eq!(board.app("web").unwrap().pid, pid);
    // Which one is chosen, in a file that is none: the root file system's, and what was there is evidence.
    board.kill_supervisor();
    std::fs::write(board.state().join("agent/choice"), b"{}").unwrap();
    board.start_supervisor();
    assert_eq!(executed(&board), shipped());
    assert!(board.state().join("agent/choice.bad").exists());
    wait_for_page(&board, "3");
}

/// What is on the disk before the start of a program on trial whose set is gone; it has two seconds to come to its loop.
fn put_on_trial(board: &Board, program: &[u8]) {
    let path = program_on_board(board, program);
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let digest = Sha256Digest::of(program);
    let json = format!(
        r#"{{"choice_version":1,"program":{{"digest":"{digest}","size":{},"layer":"{digest}","version":"2"}},"previous":null,"trial":{{"deployment":"{digest}","starts":0,"patience_seconds":2}},"failed":null}}"#,
        program.len()
    );
    let sum = Sha256Digest::of(json.as_bytes()).hex();
    std::fs::write(board.state().join("agent/choice"), format!("{json}\n{sum}")).unwrap();
}

/// It is to go, and the root file system's is not there at that moment: it serves the board until it is.
#[test]
fn an_agent_that_has_nothing_to_go_back_to_waits_for_it() {
    let mut board = Board::start();
    let (two, own) = (successor("two"), board.dir.path().join("shipped"));
    board.kill_supervisor();
    put_on_trial(&board, &two);
    std::fs::copy(shipped(), &own).unwrap();
    let aside = own.with_extension("aside");
    board.start_supervisor_of(&own);
    let brought = program_on_board(&board, &two);
    wait_for("the program on trial", WAIT, || {
        (executed(&board) == brought).then_some(())
    });
    std::fs::rename(&own, &aside).unwrap();
    wait_for("it to be wanted", WAIT, || {
        let wanted = "the program before this one cannot be executed yet";
        board.log().contains(wanted).then_some(())
    });
    // As long as it had for its start, and more.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(executed(&board), brought);
    board.status();
    std::fs::rename(&aside, &own).unwrap();
    wait_for_program(&board, &own);
    assert!(!board.log().contains("was started 2 times"));
}

/// It starts, and never comes to its loop: no watchdog is needed to be rid of it.
#[test]
fn an_agent_that_hangs_is_ended_and_passed_over() {
    let mut board = Board::start();
    let one = web(&board, "page one");
    board.commit("1", vec![one]);
    let pid = board.app("web").unwrap().pid;
    let two = successor("two");
    board.kill_supervisor();
    put_on_trial(&board, &two);
    // What it waits for at its start never comes.
    let root = board.dir.path().join("state/trust/root.json");
    let aside = root.with_extension("aside");
    let hangs_at = [root.clone(), board.dir.path().join("etc/root.json")];
    let hangs_at = hangs_at.into_iter().find(|path| path.exists()).unwrap();
    std::fs::rename(&hangs_at, &aside).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &hangs_at,
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    for _ in 0..2 {
        let status = board.start_and_wait_for_its_end();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(status.signal(), Some(libc::SIGALRM), "{}", board.log());
    }
    std::fs::rename(&aside, &hangs_at).unwrap();
    board.start_supervisor();
    assert_eq!(executed(&board), shipped());
    assert!(board.log().contains("was started 2 times"));
    assert_eq!(board.app("web").unwrap().pid, pid);
    wait_for_page(&board, "page one");
}

/// Whatever instant of the takeover the supervisor dies at, as at a power cut: one whole set runs, with the program that belongs to it.
#[test]
fn cut_at_any_moment_of_the_takeover_the_board_has_one_set_and_its_agent() {
    let two = successor("two");
    for after in [0, 1100, 1500] {
        let mut board = Board::start();
        let one = web(&board, "page one");
        board.commit("1", vec![one]);
        let brought = agent(&board, "2", &two);
        let apps = vec![web(&board, "page two")];
        activate(&mut board, "2", apps, brought);
        std::thread::sleep(Duration::from_millis(after));
        board.kill_supervisor();
        board.start_supervisor();
        // The daemon, which comes again after each supervisor.
        let mut daemon = None;
        let ended = wait_for("an end", WAIT, || {
            let ask = |daemon: &mut Client| daemon.try_ask(Request::Status);
            let Some(Answer::Status(status)) = daemon.as_mut().and_then(ask) else {
                daemon = board.try_client();
                daemon.as_mut()?.try_watch()?;
                return None;
            };
            let current = status.current?;
            if current.state != SetState::Committed || status.waiting.is_some() {
                return None;
            }
            let program = match current.version.as_str() {
                "2" => program_on_board(&board, &two),
                _ => shipped().to_owned(),
            };
            (executed(&board) == program).then_some(current.version)
        });
        drop(daemon);
        wait_for_page(
            &board,
            match ended.as_str() {
                "2" => "page two",
                _ => "page one",
            },
        );
    }
}

#[test]
fn an_agents_layer_is_staged_as_any_other() {
    let mut board = Board::start();
    let brought = agent(&board, "2", &successor("two"));
    let layer = brought.image.layers[0].clone();
    let (mut release, _) = board.documents("2", vec![web(&board, "page two")]);
    release.agent = Some(brought);
    let deploy = board.deploy_of(&release, 1);
    let needs = board.needs("2", &release, &deploy);
    assert!(
        needs
            .layers
            .iter()
            .any(|need| need.diff_id == layer.diff_id)
    );
    std::fs::write(board.store_blob(layer.digest), b"other bytes").unwrap();
    let answer = board.stage("2", layer.diff_id, LayerSource::Full);
    assert!(
        matches!(&answer, Answer::Failed { code, .. } if code == "bad-layer"),
        "{answer:?}"
    );
}
