//! An app's root is nobody on the board, through the real supervisor: its files, its neighbours, the board's own.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::{App, BindMount, Image, NetworkMode, Probe, VolumeMount};
use coracle_protocol::report::{AppUsers, Phase};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);
/// The lowest of the ids that apps get, unless the profile says otherwise.
const FIRST: u32 = 0x7000_0000;

fn image(board: &Board) -> Image {
    let root = rootfs(board, "users");
    for applet in ["touch", "ls", "rm", "stat", "chown", "mkdir", "kill"] {
        let link = root.join("bin").join(applet);
        if link.symlink_metadata().is_err() {
            symlink("busybox", link).unwrap();
        }
    }
    board.image(&root, RunConfig::default())
}

/// An app without a network that runs `script` and then sleeps.
fn quiet(image: &Image, name: &str, script: &str) -> App {
    let mut app = app(
        image,
        &format!("exec 2>&1; {script}; echo end; exec sleep 1000"),
    );
    app.name = AppName::new(name).unwrap();
    app.network.mode = NetworkMode::None;
    app.volumes = vec![VolumeMount {
        name: VolumeName::new("shared").unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: None,
        inodes: None,
    }];
    app
}

/// What the app wrote in that run of it, counted from 1 among those that said that they are at their end.
fn said(board: &Board, name: &str, run: usize) -> String {
    let file = board.state().join(format!("logs/{name}/json.log"));
    wait_for("the app's end", WAIT, || {
        let text = fs::read_to_string(&file).ok()?;
        let lines = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["log"].as_str().unwrap().to_owned()
        });
        let text: String = lines.collect();
        let mut runs = text.split_inclusive("end\n");
        Some(runs.nth(run - 1)?.strip_suffix("end\n")?.to_owned())
    })
}

#[track_caller]
fn first_id(board: &Board, name: &str) -> u32 {
    match board.app(name).unwrap().users {
        Some(AppUsers::Own { first, count }) => {
            assert_eq!(count, 65_536);
            first
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn reason(board: &Board, name: &str) -> String {
    match board.app(name).unwrap().users {
        Some(AppUsers::Board { because }) => because,
        other => panic!("{name}: {other:?}"),
    }
}

/// Real, effective, saved and file user of an app's first process, as the board counts them.
fn users_of(board: &Board, name: &str) -> Vec<u32> {
    let pid = board.app(name).unwrap().pid.unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let numbers = line.unwrap().split_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// A site's changes of the profile, for the next supervisor.
fn isolation(board: &Board, text: &str) {
    let file = board.config().with_file_name("board.toml");
    fs::write(file, format!("[isolation]\n{text}\n")).unwrap();
}

#[test]
fn an_apps_root_is_nobody_on_the_board() {
    let mut board = Board::start();
    let image = image(&board);
    let gift = board.dir.path().join("gift");
    fs::create_dir(&gift).unwrap();
    fs::write(gift.join("open"), "for all\n").unwrap();
    fs::write(gift.join("secret"), "for root\n").unwrap();
    fs::set_permissions(gift.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(board.config()).unwrap();
    let binds = format!("[volumes]\nbinds = [\"{}\"]\n", gift.display());
    fs::write(board.config(), text + &binds).unwrap();
    board.restart_supervisor();

    let mut web = quiet(
        &image,
        "web",
        "id -u; cat /gift/open; cat /gift/secret; echo x > /gift/open; touch /gift/new; touch /mine /data/web; \
         chown 33:34 /data/web; stat -c %u /dev/stdout /data /etc/passwd",
    );
    web.user_namespace = Some(true);
    web.binds = vec![BindMount {
        source: gift.to_string_lossy().into_owned(),
        target: "/gift".into(),
        read_only: false,
    }];
    let other = quiet(
        &image,
        "other",
        "until test -f /data/web; do sleep 0.1; done; stat -c '%u %g' /data/web; ls /gift",
    );
    board.commit("1", vec![web, other]);

    let text = said(&board, "web", 1);
    assert!(text.starts_with("0\nfor all\n"), "{text}");
    assert_eq!(text.matches("Permission denied").count(), 3, "{text}");
    assert!(text.ends_with("0\n0\n0\n"), "{text}");
    assert_eq!(fs::read_to_string(gift.join("open")).unwrap(), "for all\n");
    assert_eq!(fs::read_dir(&gift).unwrap().count(), 2);
    // The same numbers in both apps and on disk, whatever their ranges.
    assert!(said(&board, "other", 1).starts_with("33 34\n"));
    let owner = |path: &Path| {
        let is = path.symlink_metadata().unwrap();
        (is.uid(), is.gid())
    };
    let state = board.state();
    assert_eq!(owner(&state.join("volumes/shared/room/data/web")), (33, 34));
    assert_eq!(
        owner(&state.join("containers/web/layer/upper/mine")),
        (0, 0)
    );

    let (web, other) = (first_id(&board, "web"), first_id(&board, "other"));
    assert!(web >= FIRST && other >= FIRST && web != other);
    assert_eq!(users_of(&board, "web"), [web; 4]);
    // With all that the board lets a user of that number do, an app's root reaches nobody.
    let pid = |name: &str| board.app(name).unwrap().pid.unwrap();
    let as_web = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.uid(web).gid(web).args(args).output().unwrap()
    };
    let signal = |pid: u32| as_web("/bin/kill", &["-0", &pid.to_string()]);
    assert!(signal(pid("web")).status.success());
    for stranger in [pid("other"), board.supervisor_pid(), std::process::id()] {
        let answer = signal(stranger);
        let words = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(words.contains("not permitted"), "{words}");
    }
}

#[test]
fn an_app_keeps_its_ids_over_updates_ways_back_and_crashes() {
    let mut board = Board::start();
    let image = image(&board);
    let web = |script: &str| quiet(&image, "web", script);
    let other = quiet(&image, "other", "true");
    board.commit(
        "1",
        vec![
            web("echo one > /data/file; chown 7 /data/file"),
            other.clone(),
        ],
    );
    let (first, others) = (first_id(&board, "web"), first_id(&board, "other"));

    board.restart_supervisor();
    assert_eq!(first_id(&board, "web"), first, "adopted");
    board.commit(
        "2",
        vec![web(
            "cat /data/file; stat -c %u /data/file; echo two > /data/file",
        )],
    );
    assert!(said(&board, "web", 2).starts_with("one\n7\n"));
    assert_eq!(first_id(&board, "web"), first, "updated");

    // What failed and went back finds what the failed one wrote.
    let mut bad = web("echo three > /data/file; chown 9 /data/file; exit 1");
    bad.trial_seconds = 2;
    assert_eq!(board.deploy("3", vec![bad]).0, Phase::RolledBack);
    wait_for("the set before", WAIT, || {
        board.app("web").filter(|app| app.pid.is_some())
    });
    assert_eq!(first_id(&board, "web"), first, "gone back");
    assert_eq!(said(&board, "web", 3), "three\n9\n");

    // `other` is gone, and so may its ids be, but never those of somebody who is there.
    board.commit("4", vec![web("true"), quiet(&image, "third", "true")]);
    assert_eq!(first_id(&board, "web"), first);
    assert_eq!(first_id(&board, "third"), others);
    let ids = board.state().join("ids.json");
    let text = fs::read_to_string(&ids).unwrap();
    assert!(text.contains("third") && !text.contains("other"), "{text}");

    // A list that was lost while apps run: theirs are not given to others.
    fs::write(&ids, "{").unwrap();
    board.restart_supervisor();
    assert!(board.state().join("ids.json.bad").exists());
    let before = board.app("third").unwrap().pid;
    assert_eq!(board.control("third", AppAction::Restart), Answer::Done);
    let third = wait_for("a restart", WAIT, || {
        let app = board.app("third")?;
        if app.pid.is_none() || app.pid == before {
            return None;
        }
        matches!(app.users, Some(AppUsers::Own { .. })).then(|| first_id(&board, "third"))
    });
    assert_ne!(third, first_id(&board, "web"));
}

#[test]
fn a_layer_of_before_is_taken_over() {
    let mut board = Board::start();
    isolation(&board, "user_namespaces = \"off\"");
    board.restart_supervisor();
    let image = image(&board);
    let web = quiet(
        &image,
        "web",
        "stat -c '%u %n' /kept/* /data/* 2>/dev/null; mkdir -p /kept && touch /kept/root /kept/user /data/user && \
         chown 1000 /kept/user /data/user; rm -f /etc/group; cat /proc/self/uid_map",
    );
    board.commit("1", vec![web]);
    assert_eq!(users_of(&board, "web"), [0; 4]);
    assert!(reason(&board, "web").contains("user_namespaces = \"off\""));
    assert!(said(&board, "web", 1).contains(" 4294967295"));

    // As after an update of the agent: what runs goes on as it is, and the next start is another.
    isolation(&board, "user_namespaces = \"auto\"\nfirst_id = 1048576");
    board.restart_supervisor();
    assert!(reason(&board, "web").contains("`coracle restart`"));
    let before = board.app("web").unwrap().pid;
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    wait_for("a restart", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some() && app.pid != before)
    });
    assert_eq!(first_id(&board, "web"), 1_048_576);
    let text = said(&board, "web", 2);
    assert!(
        text.starts_with("0 /kept/root\n1000 /kept/user\n1000 /data/user\n"),
        "{text}"
    );
    assert!(text.contains(" 1048576 "), "{text}");

    // And back.
    isolation(&board, "user_namespaces = \"off\"");
    board.restart_supervisor();
    let before = board.app("web").unwrap().pid;
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    wait_for("a restart", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some() && app.pid != before)
    });
    assert_eq!(users_of(&board, "web"), [0; 4]);
    let text = said(&board, "web", 3);
    assert!(
        text.starts_with("0 /kept/root\n1000 /kept/user\n1000 /data/user\n"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_as_it_must_is_refused_by_name() {
    let mut board = Board::start();
    isolation(&board, "user_namespaces = \"required\"");
    board.restart_supervisor();
    let image = image(&board);
    let refused = |board: &mut Board, app: App, code: &str, words: &str| {
        let (release, deploy) = board.documents("1", vec![app]);
        match board.offer("a", &release, &deploy) {
            Answer::Refused { code: got, reason } => {
                assert_eq!(got, code, "{reason}");
                assert!(reason.contains(words), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    };
    let plain = quiet(&image, "web", "true");
    let mut host = plain.clone();
    host.network.mode = NetworkMode::Host;
    let words = "app `web`: it cannot have users of its own, and the board's profile requires it: it uses the board's network";
    refused(&mut board, host.clone(), "users", words);
    let mut never = plain.clone();
    never.user_namespace = Some(false);
    refused(
        &mut board,
        never.clone(),
        "users",
        "the release says user_namespace = false",
    );
    // Who it runs as is known once its image is.
    let root = rootfs(&board, "far");
    let config = RunConfig {
        user: "70000".into(),
        ..RunConfig::default()
    };
    let far = quiet(&board.image(&root, config), "web", "true");
    let (release, deploy) = board.documents("far", vec![far]);
    let needs = board.needs("far", &release, &deploy);
    board.stage_all("far", &needs);
    let Answer::Failed { code, reason: why } = board.activate("far") else {
        panic!("activated");
    };
    assert_eq!(code, "start-failed");
    assert!(why.contains("user or group 70000"), "{why}");
    board.commit("1", vec![plain.clone()]);
    first_id(&board, "web");

    // A kernel that cannot: named where it must be, told where it may be.
    board.without_calls = vec![board::MOUNT_SETATTR];
    board.restart_supervisor();
    refused(&mut board, plain.clone(), "kernel-lacks", "not implemented");
    isolation(&board, "user_namespaces = \"auto\"");
    board.restart_supervisor();
    let mut must = plain.clone();
    must.user_namespace = Some(true);
    refused(&mut board, must, "kernel-lacks", "the release requires it");
    board.commit("2", vec![plain]);
    let because = reason(&board, "web");
    assert!(because.contains("not implemented"), "{because}");
    assert_eq!(users_of(&board, "web"), [0; 4]);

    board.without_calls.clear();
    board.restart_supervisor();
    board.commit("3", vec![host]);
    assert_eq!(reason(&board, "web"), "it uses the board's network");
    board.commit("4", vec![never]);
    assert!(reason(&board, "web").contains("user_namespace = false"));
}

#[test]
fn an_app_in_anothers_network_keeps_its_own_users_and_its_low_ports() {
    let mut board = Board::start();
    let image = image(&board);
    let mut host = app(&image, "exec sleep 1000");
    host.volumes = vec![];
    let mut guest = app(&image, "ls /sys/class/net; exec httpd -f -p 80 -h /www");
    guest.name = AppName::new("guest").unwrap();
    guest.network.mode = NetworkMode::Container;
    guest.network.container = Some(AppName::new("web").unwrap());
    let mut health = board::http_health(80);
    health.interval_ms = 200;
    guest.health = Some(health);
    // Asked from inside the other app, whose network it is.
    let mut asked = board::http_health(80);
    asked.probe = Probe::Exec {
        argv: ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:80/"]
            .map(String::from)
            .into(),
    };
    host.health = Some(asked);
    board.commit("1", vec![guest, host]);
    assert_ne!(first_id(&board, "guest"), first_id(&board, "web"));
    for name in ["guest", "web"] {
        wait_for("a healthy app", WAIT, || {
            board.app(name).filter(|app| app.healthy == Some(true))
        });
    }
    let log = fs::read_to_string(board.state().join("logs/guest/json.log")).unwrap();
    assert!(log.contains("eth0"), "{log}");
    // Not every ping of an image's tries the socket that needs no rights.
    let (_, groups) = board.run_in("guest", &["cat", "/proc/sys/net/ipv4/ping_group_range"]);
    assert_eq!(groups, "0\t2147483647\n");
}
