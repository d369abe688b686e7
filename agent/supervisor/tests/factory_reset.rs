//! Factory reset and decommission: by whom, of what, and cut off at any moment. Needs root and ptrace(2).
//!
//! A few of the moments; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

mod board;
mod cut;

use board::orders::{code, order, send};
use board::{Board, app, root_document, rootfs, sign, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::command::{Action, COMMAND_TYPE, Command, RESET_TYPE};
use coracle_protocol::deploy::Deploy;
use coracle_protocol::key::SigningKey;
use coracle_protocol::local::{Answer, Message, Request, VolumeAction};
use coracle_protocol::names::{BoardId, VolumeName};
use coracle_protocol::release::{App, Image, Release, VolumeMount};
use coracle_protocol::report::{AppUsers, Phase};
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys};
use cut::{Cut, Traced};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(90);
/// Moments that are tried where nobody says how many.
const SAMPLE: usize = 4;

struct Keys {
    command: SigningKey,
    reset: SigningKey,
}

/// A board with keys of both roles, an app with a volume, and an identity as the daemon would have made it.
fn board() -> (Board, Keys) {
    furnished(Board::start())
}

fn furnished(mut board: Board) -> (Board, Keys) {
    let key = || SigningKey::generate().unwrap().0;
    let keys = Keys {
        command: key(),
        reset: key(),
    };
    let mut root = root_document(&board.keys, 2, 1);
    for (role, key) in [(Role::Command, &keys.command), (Role::Reset, &keys.reset)] {
        let id = key.public().key_id();
        root.keys.insert(id.clone(), key.public());
        let role_keys = RoleKeys {
            keys: vec![id],
            threshold: 1,
            epoch: 1,
        };
        root.roles.insert(role, role_keys);
    }
    let root = sign(ROOT_TYPE, &root, &board.keys.root);
    assert_eq!(board.ask(Request::Root { root }), Answer::Done);
    populate(&mut board);
    (board, keys)
}

fn web(image: &Image) -> App {
    let mut app = app(
        image,
        "trap 'exit 0' TERM; echo x >/data/x; sleep 1000 & wait",
    );
    app.volumes = vec![VolumeMount {
        name: VolumeName::new("data").unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: Some(4 << 20),
        inodes: None,
    }];
    app.limits.disk_bytes = Some(4 << 20);
    app
}

/// All that a reset takes away is there; what was deployed.
fn populate(board: &mut Board) -> (Release, Deploy) {
    let image = board.image(&rootfs(board, "hi"), RunConfig::default());
    let (release, deploy) = board.documents("next", vec![web(&image)]);
    let activity = format!("a{}", release.release_counter);
    let end = board.carry_out(&activity, &release, &deploy);
    assert_eq!(end, (Phase::Committed, None));
    let identity = board.state().join("identity");
    for name in ["board.key", "board.crt", "ca.crt", "enrolment.json"] {
        std::fs::write(identity.join(name), name).unwrap();
    }
    for name in ["deployments", "containers", "layers", "logs", "volumes"] {
        assert!(!names(board, name).is_empty(), "{name}");
    }
    (release, deploy)
}

fn names(board: &Board, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(board.state().join(folder));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn trust(board: &Board, name: &str) -> Option<Vec<u8>> {
    std::fs::read(board.state().join("trust").join(name)).ok()
}

fn is_noted(board: &Board) -> bool {
    board.state().join("reset.json").exists()
}

/// Waits for the supervisor that has done it, so many times by now.
fn done(board: &Board, times: usize) {
    wait_for("the end of the reset", WAIT, || {
        let log = board.log();
        let (before, after) = log.rsplit_once("reset: done")?;
        let all = before.matches("reset: done").count() + 1 == times;
        (all && after.contains("ready socket") && !is_noted(board)).then_some(())
    });
}

/// Nothing is left but what must stay.
fn is_reset(board: &Board, with_volumes: bool) {
    let status = board.status();
    assert!(status.current.is_none() && status.previous.is_none());
    assert!(status.layers.is_empty());
    for name in [
        "deployments",
        "containers",
        "layers",
        "logs",
        "store/blobs/sha256",
    ] {
        assert_eq!(names(board, name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(names(board, "volumes").is_empty(), with_volumes);
    wait_for("the trash to be deleted", WAIT, || {
        names(board, "staging").is_empty().then_some(())
    });
    for slot in ["seen.a", "seen.b", "root.json"] {
        assert!(trust(board, slot).is_some(), "{slot}");
    }
    let store = std::fs::metadata(board.state().join("store/blobs/sha256")).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&store),
        1,
        "the daemon's"
    );
}

#[test]
fn a_factory_reset_leaves_trust_and_a_replayed_one_does_nothing() {
    let (mut board, keys) = board();
    let (release, deploy) = populate(&mut board);
    let pid = board.app("web").unwrap().pid.unwrap();

    let keeps = order(7, Action::FactoryReset { volumes: false });
    let keeps = sign(RESET_TYPE, &keeps, &keys.reset);
    assert!(matches!(send(&board, &keeps), Answer::Command { .. }));
    done(&board, 1);
    is_reset(&board, false);
    assert!(!std::path::Path::new(&format!("/proc/{pid}/root")).exists());
    assert_eq!(trust(&board, "board-id").unwrap(), b"acme.test-1\n");
    assert!(!names(&board, "identity").is_empty());

    // Neither the order nor what was deployed before is new to it.
    assert_eq!(code(send(&board, &keeps)), "old-command");
    assert_eq!(
        code(board.offer("again", &release, &deploy)),
        "old-assignment"
    );
    populate(&mut board);
    assert_eq!(code(send(&board, &keeps)), "old-command");
    assert!(board.app("web").unwrap().pid.is_some());

    let all = order(8, Action::FactoryReset { volumes: true });
    let all = sign(RESET_TYPE, &all, &keys.reset);
    assert!(matches!(send(&board, &all), Answer::Command { .. }));
    done(&board, 2);
    is_reset(&board, true);
}

#[test]
fn neither_a_stolen_console_nor_the_daemon_resets_a_board() {
    let (board, keys) = board();
    let wipe = |seq| order(seq, Action::FactoryReset { volumes: true });
    let leave = |seq| order(seq, Action::Decommission {});
    for (document, kind, key, says) in [
        (wipe(7), RESET_TYPE, &keys.command, "bad-signature"),
        (leave(7), RESET_TYPE, &keys.command, "bad-signature"),
        (leave(7), RESET_TYPE, &board.keys.deploy, "bad-signature"),
        (wipe(7), COMMAND_TYPE, &keys.command, "malformed"),
        (leave(7), COMMAND_TYPE, &keys.command, "malformed"),
        (wipe(7), COMMAND_TYPE, &keys.reset, "bad-signature"),
    ] {
        assert_eq!(code(send(&board, sign(kind, &document, key))), says);
    }
    let other = Command {
        board: BoardId::new("acme.test-2").unwrap(),
        ..wipe(7)
    };
    let other = sign(RESET_TYPE, &other, &keys.reset);
    assert_eq!(code(send(&board, &other)), "wrong-board");

    // The daemon's user, as root on the board would ask.
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(board.dir.path(), all).unwrap();
    let script = "
import os, socket, struct, sys
os.setgroups([]); os.setgid(1); os.setuid(1)
to = socket.socket(socket.AF_UNIX)
to.connect(sys.argv[1])
call = sys.argv[2].encode()
to.sendall(struct.pack('>I', len(call)) + call)
print(to.recv(4096)[4:].decode())
";
    let call = r#"{"id":1,"request":{"reset":{"decommission":true,"volumes":true}}}"#;
    let asked = Program::new("python3")
        .args(["-c", script])
        .arg(board.socket())
        .arg(call)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(said.contains("not-root"), "{said}{asked:?}");

    assert!(!is_noted(&board));
    std::thread::sleep(Duration::from_secs(1));
    assert!(board.app("web").unwrap().pid.is_some());
}

#[test]
fn a_decommissioned_board_has_no_key_and_no_name_until_it_is_enrolled() {
    let (board, keys) = board();
    let secret = trust(&board, "secret.key").unwrap();
    let leave = order(7, Action::Decommission {});
    let leave = sign(RESET_TYPE, &leave, &keys.reset);
    // What is asked behind it is answered before it is done.
    let (mut before, command) = (board.client(), leave.clone());
    before.send(Request::Command { command });
    let id = before.send(Request::Status);
    let said = std::iter::from_fn(|| before.message());
    let status = said.take(2).find_map(|message| match message {
        Message::Reply(reply) if reply.id == id => Some(reply.answer),
        _ => None,
    });
    let Some(Answer::Status(status)) = status else {
        panic!("{status:?}");
    };
    assert!(status.resetting && !status.decommissioned);
    done(&board, 1);
    assert!(!board.status().resetting);
    is_reset(&board, true);
    assert_eq!(names(&board, "identity"), Vec::<String>::new());
    assert_eq!(trust(&board, "board-id"), None);
    assert_ne!(trust(&board, "secret.key").unwrap(), secret);
    assert!(board.status().decommissioned);

    // A daemon that remembers who it was is not believed.
    let name = |name: &str| Request::Identity {
        board: BoardId::new(name).unwrap(),
    };
    assert_eq!(code(board.ask(name(board::BOARD))), "decommissioned");
    assert_eq!(code(send(&board, &leave)), "not-enrolled");
    assert_eq!(board.ask(Request::Enrolled), Answer::Done);
    assert_eq!(board.ask(name("acme.test-9")), Answer::Done);
    assert!(!board.status().decommissioned);
    let old = Command {
        board: BoardId::new("acme.test-9").unwrap(),
        ..order(7, Action::Decommission {})
    };
    let old = sign(RESET_TYPE, &old, &keys.reset);
    assert_eq!(code(send(&board, &old)), "old-command");
}

/// What is asked for by root on the board, cut off while it is noted.
fn ask_and_kill(board: &mut Board, after: Duration) -> bool {
    let mut client = board.client();
    client.send(Request::Reset {
        decommission: false,
        volumes: true,
    });
    std::thread::sleep(after);
    board.kill_supervisor();
    is_noted(board)
}

/// The supervisor that does it is cut off before its n-th call that changes something.
fn carry_on_and_cut(board: &mut Board, n: usize) -> Cut {
    let mut child = board.held_program(&[]);
    let log: PathBuf = board.log_path();
    let traced = Traced::seize(child.id(), &log);
    writeln!(child.stdin.take().unwrap(), "go").unwrap();
    board.take_supervisor(child);
    let over = Arc::new(AtomicBool::new(false));
    let cut_off = Arc::new(AtomicBool::new(false));
    let (ended, given_up) = (over.clone(), cut_off.clone());
    let socket = board.socket();
    let watcher = std::thread::spawn(move || {
        while !given_up.load(Ordering::Relaxed) && UnixStream::connect(&socket).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        ended.store(true, Ordering::Relaxed);
        // Whatever wakes it.
        let _ = UnixStream::connect(&socket);
    });
    let cut = traced.run_to(n, &over);
    cut_off.store(true, Ordering::Relaxed);
    if let Cut::Before(_) = cut {
        board.kill_supervisor();
    }
    watcher.join().unwrap();
    cut
}

#[test]
fn a_reset_that_is_cut_off_is_gone_on_with() {
    let (mut board, _) = board();
    // Noted or not: all or nothing.
    for after in [0, 2, 20] {
        let noted = ask_and_kill(&mut board, Duration::from_millis(after));
        board.start_supervisor();
        assert!(!is_noted(&board));
        match noted {
            true => {
                is_reset(&board, true);
                populate(&mut board);
            }
            false => assert!(board.app("web").is_some()),
        }
    }
    let noted = |board: &mut Board| {
        while !ask_and_kill(board, Duration::from_millis(100)) {
            board.start_supervisor();
        }
    };
    noted(&mut board);
    let Cut::Over(all) = carry_on_and_cut(&mut board, usize::MAX) else {
        panic!("it was cut off")
    };
    is_reset(&board, true);
    assert!(all > 20, "{all}");
    let wanted = match std::env::var("CORACLE_CUTS").as_deref() {
        Ok("all") => all,
        Ok(number) => number.parse().unwrap(),
        Err(_) => SAMPLE,
    };
    for k in 0..wanted.min(all) {
        let n = 1 + k * all / wanted.min(all);
        populate(&mut board);
        noted(&mut board);
        let cut = carry_on_and_cut(&mut board, n);
        if let Cut::Before(call) = &cut {
            eprintln!("cut before call {n} of {all}: {call}");
            board.start_supervisor();
        }
        assert!(!is_noted(&board), "cut before call {n}");
        is_reset(&board, true);
    }
}

/// The board lives on while one folder cannot be emptied, and keeps what it gets meanwhile.
#[test]
fn a_reset_that_cannot_finish_takes_nothing_twice() {
    let (mut board, _) = board();
    board.kill_supervisor();
    let state = board.state();
    std::fs::write(
        state.join("reset.json"),
        r#"{"reset_version":1,"decommission":false,"volumes":true}"#,
    )
    .unwrap();
    let held = state.join("logs/held");
    std::fs::create_dir_all(&held).unwrap();
    let mount = |command: &mut std::process::Command| assert!(command.status().unwrap().success());
    mount(
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "held"])
            .arg(&held),
    );
    // A daemon that was taken over has put a link in the place of its blobs.
    let elsewhere = board.dir.path().join("elsewhere");
    std::fs::create_dir_all(elsewhere.join("sha256")).unwrap();
    std::fs::write(elsewhere.join("sha256/file"), "not the board's").unwrap();
    std::fs::rename(state.join("store/blobs"), board.dir.path().join("blobs")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, state.join("store/blobs")).unwrap();

    board.start_supervisor();
    assert!(is_noted(&board), "the folder that is held");
    assert!(board.status().current.is_none());
    assert!(elsewhere.join("sha256/file").exists());
    assert!(names(&board, "store/blobs/sha256").is_empty());

    // Once more as long as there is nothing new.
    board.kill_supervisor();
    board.start_supervisor();
    assert!(is_noted(&board));
    populate(&mut board);
    board.kill_supervisor();
    board.start_supervisor();
    assert!(!is_noted(&board));
    wait_for("the app", WAIT, || board.app("web").and_then(|app| app.pid));
    assert!(!names(&board, "volumes").is_empty());
    mount(std::process::Command::new("umount").arg(&held));
}

/// A small disk of its own below a board's state.
struct Disk(PathBuf);

impl Disk {
    /// `image`: where it lies. The board's supervisor does not run, and spares little of it from then on.
    fn below(board: &Board, image: PathBuf) -> Self {
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            let done = Program::new(program).args(args).output().unwrap();
            assert!(done.status.success(), "{program}: {done:?}");
        };
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(192 << 20).unwrap();
        let [state, image] = [board.state(), image].map(PathBuf::into_os_string);
        let options = ["-q", "-m", "0", "-N", "4096"].map(std::ffi::OsStr::new);
        run("mkfs.ext4", &[&options[..], &[&image]].concat());
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &state]);
        let site = board.dir.path().join("etc/board.toml");
        let text = std::fs::read_to_string(&site).unwrap();
        std::fs::write(&site, format!("{text}[reserve]\ndisk_mib = 1\n")).unwrap();
        Self(state.into())
    }

    /// Takes each byte and each file that is left.
    fn fill(&self) {
        let filler = self.0.join("filler");
        let filler = std::fs::File::options()
            .create(true)
            .append(true)
            .open(filler)
            .unwrap();
        let flags = rustix::fs::FallocateFlags::empty();
        for size in [1 << 20, 4096] {
            loop {
                let end = filler.metadata().unwrap().len();
                if rustix::fs::fallocate(&filler, flags, end, size).is_err() {
                    break;
                }
            }
        }
        filler.sync_all().unwrap();
        let folder = self.0.join("files");
        // A folder has no block of its own on a full disk.
        let folder = std::fs::create_dir(&folder).map_or(self.0.clone(), |()| folder);
        for number in 0.. {
            if std::fs::File::create(folder.join(format!("filler-{number}"))).is_err() {
                return;
            }
        }
    }
}

impl Disk {
    /// Takes away what [`Disk::fill`] made.
    fn relieve(&self) {
        for folder in [self.0.clone(), self.0.join("files")] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with("filler") {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = Program::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(gone.unwrap().success());
    }
}

/// By a signed order, which has to be counted first, and by root on the board.
#[test]
fn a_board_whose_disk_is_full_is_reset_all_the_same() {
    let mut board = Board::start();
    board.kill_supervisor();
    let images = tempfile::tempdir().unwrap();
    let disk = Disk::below(&board, images.path().join("disk"));
    board.start_supervisor();
    let name = BoardId::new(board::BOARD).unwrap();
    assert_eq!(board.ask(Request::Identity { board: name }), Answer::Done);
    let (mut board, keys) = furnished(board);

    disk.fill();
    let probe = std::fs::write(board.state().join("probe"), "x");
    assert!(probe.is_err(), "there is space");
    let wipe = order(7, Action::FactoryReset { volumes: true });
    let answer = send(&board, sign(RESET_TYPE, &wipe, &keys.reset));
    assert!(matches!(answer, Answer::Command { .. }), "{answer:?}");
    done(&board, 1);
    is_reset(&board, true);

    // There is room for the next time, and what the board was asked when its disk was full is asked anew.
    disk.relieve();
    populate(&mut board);
    disk.fill();
    let asked = board.ask(Request::Reset {
        decommission: true,
        volumes: true,
    });
    assert_eq!(asked, Answer::Done, "{}", board.log());
    done(&board, 2);
    is_reset(&board, true);
    assert!(board.status().decommissioned);
    drop(disk);
}

/// A full disk shows nothing of what could hold limits on it, and nothing of users: what the board has done it can do.
#[test]
fn a_board_that_starts_with_a_full_disk_gives_up_no_wall() {
    let mut board = Board::start();
    let own_users = board.log().contains("apps have users of their own");
    board.kill_supervisor();
    let images = tempfile::tempdir().unwrap();
    let disk = Disk::below(&board, images.path().join("disk"));
    let mine = || Request::Volume {
        action: VolumeAction::Create {
            name: VolumeName::new("mine").unwrap(),
            size_bytes: Some(4 << 20),
            inodes: None,
        },
        uid: 0,
    };

    // Nothing is known.
    board.start_supervisor();
    board.kill_supervisor();
    disk.fill();
    board.start_supervisor();
    assert!(board.log().contains("the disk is full: what limits"));
    assert_eq!(code(board.ask(mine())), "no-space");
    disk.relieve();
    let made = board.ask(mine());
    let Answer::Volumes { volumes } = &made else {
        panic!("{made:?}");
    };
    assert_eq!(volumes[0].means.as_deref(), Some("image"));
    let name = BoardId::new(board::BOARD).unwrap();
    assert_eq!(board.ask(Request::Identity { board: name }), Answer::Done);
    let (mut board, _) = furnished(board);
    let users = |board: &Board| board.app("web").map(|app| app.users.unwrap());
    assert!(!own_users || matches!(users(&board), Some(AppUsers::Own { .. })));

    // The app has had its users and its limit, and is started anew with both.
    let before = (users(&board), board.app("web").and_then(|app| app.pid));
    board.kill_supervisor();
    let pid = before.1.unwrap();
    board::kill(pid);
    disk.fill();
    board.start_supervisor();
    let app = wait_for("the app", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some_and(|new| new != pid))
    });
    assert_eq!(app.users, before.0, "{}", board.log());
    let layer = board.state().join("containers/web");
    let place = coracle_runtime::Place::new(layer.join("layer"), layer.join("layer.ext4"));
    assert_eq!(place.means().unwrap(), Some(coracle_runtime::Means::Image));
    drop(disk);
}
