//! Secrets and settings of a site: what an assignment may bring beside its release, and what of it anybody
//! but the app gets to see.

mod board;

use board::{BOARD, Board, app, rootfs};
use coracle_images::layout::RunConfig;
use coracle_protocol::deploy::Deploy;
use coracle_protocol::local::Answer;
use coracle_protocol::names::{AppName, BoardId, SecretName};
use coracle_protocol::release::{App, Port, Protocol};
use coracle_protocol::report::{AppUsers, Phase};
use coracle_protocol::secret::{OpeningKey, Sealed, SealingKey};
use coracle_protocol::site::{SetPort, Settable, SettablePort, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const VALUE: &str = "hunter2-and-no-other";

fn seal(key: &SealingKey, name: &str) -> Sealed {
    let (board, app) = (BoardId::new(BOARD).unwrap(), AppName::new("web").unwrap());
    key.seal(
        &board,
        &app,
        &SecretName::new(name).unwrap(),
        VALUE.as_bytes(),
    )
    .unwrap()
}

fn key(board: &Board) -> SealingKey {
    board.status().trust.unwrap().secret_key.unwrap()
}

fn code(answer: Answer) -> (String, String) {
    match answer {
        Answer::Refused { code, reason } => (code, reason),
        other => panic!("{other:?}"),
    }
}

/// An app whose user is not root, that needs secret `db`.
fn wanting(board: &Board, script: &str) -> App {
    let config = RunConfig {
        user: "web".into(),
        ..RunConfig::default()
    };
    let image = board.image(&rootfs(board, "hi"), config);
    let mut app = app(&image, script);
    app.secrets = BTreeSet::from([SecretName::new("db").unwrap()]);
    app
}

/// Every file below `folder` that holds the value.
fn holds_value(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            holds_value(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(VALUE.len()).any(|at| at == VALUE.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn a_secret_is_a_file_for_its_app_and_nowhere_else() {
    let mut board = Board::start();
    let script = format!(
        "test \"$(cat /run/secrets/db)\" = {VALUE} || exit 9; echo no > /run/secrets/db && exit 8; echo ok; exec sleep 1000"
    )
    // The script itself must not hold the value, or it would be found in the release.
    .replace(VALUE, "\"hunter2\"-and-no-other");
    let app = wanting(&board, &script);
    let (release, deploy) = board.documents("1", vec![app]);
    let deploy = Deploy {
        secrets: vec![seal(&key(&board), "db")],
        ..deploy
    };
    let (phase, reason) = board.carry_out("1", &release, &deploy);
    assert_eq!((phase, reason), (Phase::Committed, None), "{}", board.log());
    let pid = board.app("web").unwrap().pid.unwrap();
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.contains(" /run/secrets "))
        .unwrap();
    assert!(
        mount.contains("- tmpfs ") && mount.contains(" ro,"),
        "{mount}"
    );
    let file = std::fs::metadata(format!("/proc/{pid}/root/run/secrets/db")).unwrap();
    use std::os::unix::fs::MetadataExt;
    // The app's user, as the board counts those of this app.
    let Some(AppUsers::Own { first, .. }) = board.app("web").unwrap().users else {
        panic!("its users are the board's");
    };
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o400, first + 1000));

    // Nowhere: state, logs, journal, what the board says, environment, arguments.
    let mut found = Vec::new();
    holds_value(&board.state(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    let status = serde_json::to_string(&board.status()).unwrap();
    assert!(!status.contains(VALUE) && !board.log().contains(VALUE));
    for file in ["environ", "cmdline"] {
        let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(VALUE), "{file}");
    }

    // A restart of the app brings it again; the next set without it takes it away.
    board::kill(pid);
    board::wait_for("the app again", std::time::Duration::from_secs(20), || {
        board.app("web")?.pid.filter(|again| *again != pid)
    });
    let image = release.apps[0].image.clone();
    board.commit(
        "2",
        vec![board::app(
            &image,
            "test ! -e /run/secrets/db || exit 9; exec sleep 1000",
        )],
    );
    let left = board.dir.path().join("run/supervisor/secrets/web");
    assert!(!left.exists());
    board.stop_all();
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!all.contains(board.dir.path().to_str().unwrap()), "{all}");
}

#[test]
fn secrets_that_do_not_open_or_were_not_asked_for_are_refused() {
    let mut board = Board::start();
    let app = wanting(&board, "exec sleep 1000");
    let (release, deploy) = board.documents("1", vec![app]);
    let with = |secrets| Deploy {
        secrets,
        ..deploy.clone()
    };
    let offer = |deploy: &Deploy| code(board.offer("a", &release, deploy));
    let (word, reason) = offer(&deploy);
    assert_eq!(word, "not-settable");
    assert!(reason.contains("needs secret `db`"), "{reason}");
    let own = key(&board);
    let (word, reason) = offer(&with(vec![seal(&own, "db"), seal(&own, "other")]));
    assert_eq!(word, "not-settable");
    assert!(reason.contains("no secret `other`"), "{reason}");
    let stranger = OpeningKey::generate();
    let (word, reason) = offer(&with(vec![seal(stranger.public(), "db")]));
    assert_eq!(word, "bad-secret");
    assert!(reason.contains("seal it anew"), "{reason}");
    let moved = Sealed {
        name: SecretName::new("db").unwrap(),
        ..seal(&own, "other")
    };
    assert_eq!(offer(&with(vec![moved])).0, "bad-secret");
    assert_eq!(board.status().current, None);

    // The key stays over a restart, and its damage is not the end of the board.
    board.restart_supervisor();
    assert_eq!(key(&board), own);
    board.kill_supervisor();
    std::fs::write(board.state().join("trust/secret.key"), b"torn").unwrap();
    board.start_supervisor();
    assert_ne!(key(&board), own);
}

#[test]
fn apps_without_secrets_run_whatever_becomes_of_the_key() {
    let mut board = Board::start();
    let wanting = wanting(&board, "exec sleep 1000");
    let plain = App {
        name: AppName::new("plain").unwrap(),
        secrets: BTreeSet::new(),
        ..wanting.clone()
    };
    let (release, deploy) = board.documents("1", vec![wanting, plain]);
    let deploy = Deploy {
        secrets: vec![seal(&key(&board), "db")],
        ..deploy
    };
    assert_eq!(board.carry_out("1", &release, &deploy).0, Phase::Committed);

    // Another key, then one that cannot be read: the file is left alone, it may be readable tomorrow.
    let file = board.state().join("trust/secret.key");
    let own = std::fs::read(&file).unwrap();
    let runs = |board: &Board, name: &str| board.app(name).and_then(|app| app.pid);
    for unreadable in [false, true] {
        board.stop_all();
        std::fs::remove_file(&file).unwrap();
        match unreadable {
            true => std::fs::create_dir(&file).unwrap(),
            false => std::fs::write(&file, OpeningKey::generate().to_bytes()).unwrap(),
        }
        board.start_supervisor();
        let limit = std::time::Duration::from_secs(20);
        board::wait_for("the app without secrets", limit, || runs(&board, "plain"));
        assert_eq!(runs(&board, "web"), None, "{}", board.log());
        assert_eq!(file.is_dir(), unreadable);
        assert_eq!(
            board.status().trust.unwrap().secret_key.is_none(),
            unreadable
        );
    }
    board.stop_all();
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, own).unwrap();
    board.start_supervisor();
    board::wait_for("both", std::time::Duration::from_secs(20), || {
        runs(&board, "plain").and(runs(&board, "web"))
    });
}

#[test]
fn an_assignment_sets_only_what_the_release_allows() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    let mut web = app(&image, "test \"$SITE\" = north || exit 9; exec sleep 1000");
    web.network.ports = vec![Port {
        host: 8080,
        container: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
    }];
    web.site_settable = Settable {
        env: BTreeSet::from(["SITE".into()]),
        ports: vec![SettablePort {
            container: 80,
            protocol: Protocol::Tcp,
            from: 8000,
            to: 8100,
        }],
        memory_bytes_max: Some(64 << 20),
        ..Settable::default()
    };
    let (release, deploy) = board.documents("1", vec![web]);
    let with = |settings: Settings| Deploy {
        site: BTreeMap::from([(AppName::new("web").unwrap(), settings)]),
        ..deploy.clone()
    };
    let port = |host| {
        vec![SetPort {
            container: 80,
            protocol: Protocol::Tcp,
            host,
        }]
    };
    let env = |name: &str| BTreeMap::from([(name.to_owned(), "north".to_owned())]);
    let settings = Settings::default;
    for (settings, word) in [
        (
            Settings {
                env: env("LD_PRELOAD"),
                ..settings()
            },
            "LD_PRELOAD",
        ),
        (
            Settings {
                ports: port(22),
                ..settings()
            },
            "outside 8000 to 8100",
        ),
        (
            Settings {
                memory_bytes: Some(65 << 20),
                ..settings()
            },
            "allows up to",
        ),
        (
            Settings {
                cpu_millis: Some(20),
                ..settings()
            },
            "does not let a site set cpu_millis",
        ),
        (
            Settings {
                memory_bytes: Some(1),
                ..settings()
            },
            "below 1 MiB",
        ),
    ] {
        let (code, reason) = code(board.offer("a", &release, &with(settings)));
        assert_eq!(code, "not-settable");
        assert!(reason.contains(word), "{reason}");
    }
    let other = Deploy {
        site: BTreeMap::from([(AppName::new("another").unwrap(), settings())]),
        ..deploy.clone()
    };
    assert_eq!(code(board.offer("a", &release, &other)).0, "not-settable");

    let good = with(Settings {
        env: env("SITE"),
        ports: port(8042),
        memory_bytes: Some(48 << 20),
        ..settings()
    });
    assert_eq!(board.carry_out("1", &release, &good).0, Phase::Committed);
    let running = board.app("web").unwrap();
    assert_eq!(running.ports[0].host, 8042);
    assert_eq!(running.limits.memory_bytes, 48 << 20);
    // It is what runs after a restart too.
    board.restart_supervisor();
    assert_eq!(board.app("web").unwrap().ports[0].host, 8042);
}

#[test]
fn a_crash_of_the_supervisor_leaves_no_core_with_secrets_in_it() {
    use std::os::unix::process::ExitStatusExt;
    let mut board = Board::start();
    // A program like any other leaves one here.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; kill -ABRT $$"]);
    let other = command.current_dir(board.dir.path()).status().unwrap();
    assert!(
        other.core_dumped(),
        "this machine writes no core dumps (kernel.core_pattern, ulimit -Hc): {other}"
    );
    let status = board.crash_supervisor();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(!status.core_dumped(), "{status}");
    board.start_supervisor();
}
