//! Programs that people run in apps: with the app's rights, within its limits, as long as the app and whoever asked are there.

mod board;

use board::orders::code;
use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, AppAction, Call, Exec, HEAD, Request, Stream};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{BindMount, NetworkMode};
use coracle_protocol::report::AppState;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);

/// A board on which `web` runs `sleep` as user 1000.
fn running() -> Board {
    let mut board = Board::start();
    let config = RunConfig {
        user: "web".into(),
        ..RunConfig::default()
    };
    let image = board.image(&rootfs(&board, "page"), config);
    let mut web = app(&image, "exec sleep 100000");
    web.stop_grace_seconds = 0;
    board.commit("1", vec![web]);
    board
}

fn exec(args: &[&str]) -> Exec {
    Exec {
        app: AppName::new("web").unwrap(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec![],
        user: None,
        cwd: None,
        stdin: false,
        tty: None,
    }
}

fn shell(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

fn ask(board: &Board, exec: Exec) -> Answer {
    board.ask(Request::Exec { exec, uid: 0 })
}

/// One that runs, by its socket and its process on the board.
struct Begun {
    socket: UnixStream,
    pid: u32,
}

fn connect(answer: Answer) -> UnixStream {
    let Answer::Transfer { socket } = answer else {
        panic!("{answer:?}");
    };
    let stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

fn piece(socket: &mut UnixStream) -> (Stream, Vec<u8>) {
    let mut head = [0; HEAD];
    socket.read_exact(&mut head).unwrap();
    let (stream, length) = Stream::of_head(head).unwrap();
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).unwrap();
    (stream, bytes)
}

fn begin(board: &Board, exec: Exec) -> Begun {
    let mut socket = connect(ask(board, exec));
    let (stream, bytes) = piece(&mut socket);
    let end = Stream::read_end(&bytes);
    assert_eq!(stream, Stream::Started, "{end:?}");
    let pid = i32::from_be_bytes(bytes.try_into().unwrap());
    Begun {
        socket,
        pid: pid.try_into().unwrap(),
    }
}

/// What it wrote, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Ended {
    stdout: String,
    stderr: String,
    code: i32,
    words: String,
}

impl Begun {
    fn send(&mut self, stream: Stream, bytes: &[u8]) {
        self.socket.write_all(&stream.piece(bytes)).unwrap();
    }

    fn end(mut self) -> Ended {
        end(&mut self.socket)
    }

    fn is_there(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

fn end(socket: &mut UnixStream) -> Ended {
    let mut ended = Ended::default();
    loop {
        let (stream, bytes) = piece(socket);
        let text = String::from_utf8_lossy(&bytes);
        match stream {
            Stream::Stdout => ended.stdout += &text,
            Stream::Stderr => ended.stderr += &text,
            Stream::End => {
                (ended.code, ended.words) = Stream::read_end(&bytes).unwrap();
                return ended;
            }
            Stream::Started => {}
            other => panic!("{other:?}"),
        }
    }
}

fn run(board: &Board, exec: Exec) -> Ended {
    end(&mut connect(ask(board, exec)))
}

fn lines(pid: u32, names: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().map(str::to_owned);
    lines
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .collect()
}

#[test]
fn an_exec_has_its_apps_place_and_no_more_rights() {
    let board = running();
    let of_app = board.app("web").unwrap().pid.unwrap();
    let begun = begin(
        &board,
        Exec {
            stdin: true,
            ..exec(&["cat"])
        },
    );
    let rights = [
        "Cap",
        "NoNewPrivs",
        "Seccomp:",
        "Uid",
        "Gid",
        "Groups",
        "Umask",
    ];
    assert_eq!(lines(begun.pid, &rights), lines(of_app, &rights));
    let of = |pid: u32, what: &str| std::fs::read_link(format!("/proc/{pid}/{what}")).unwrap();
    for kind in ["pid", "mnt", "net", "uts", "ipc", "user", "cgroup"] {
        let what = format!("ns/{kind}");
        assert_eq!(of(begun.pid, &what), of(of_app, &what), "{kind}");
    }
    assert_eq!(of(begun.pid, "cwd"), of(of_app, "cwd"));
    for file in ["cgroup", "limits", "oom_score_adj"] {
        let text = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        assert_eq!(text(begun.pid), text(of_app), "{file}");
    }
    // Nothing of the supervisor's is open in it: its three pipes and no more.
    let open = std::fs::read_dir(format!("/proc/{}/fd", begun.pid)).unwrap();
    assert_eq!(open.count(), 3);
    let log = board.log();
    let line = log.lines().find(|line| line.contains("exec app=web"));
    let line = line.unwrap_or_else(|| panic!("no line of it in {log}"));
    for part in [
        "audit",
        "cat",
        "uid=0",
        &format!("pid={}", std::process::id()),
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    drop(begun);

    // Root of the container is not more than it would be in the app's own process.
    let root = Exec {
        user: Some("root".into()),
        ..shell("id -u; cat /proc/self/status")
    };
    let ended = run(&board, root);
    assert!(ended.stdout.starts_with("0\n"), "{ended:?}");
    let bound = lines(of_app, &["CapBnd", "NoNewPrivs", "Seccomp:"]);
    for line in bound {
        assert!(ended.stdout.contains(&line), "{line}: {ended:?}");
    }
}

/// Whether whoever executes it reaches the board's socket.
const REACH: &str = "
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect('\\0board-service')
    print('reached', flush=True)
except PermissionError:
    print('refused', flush=True)
";

#[test]
fn an_app_in_the_boards_network_keeps_to_its_own_sockets_unless_its_release_says_otherwise() {
    let mut board = Board::start();
    let text = std::fs::read_to_string(board.config()).unwrap();
    std::fs::write(board.config(), text + "[volumes]\nbinds = [\"/usr\"]\n").unwrap();
    board.restart_supervisor();
    let _listener = board.listen_abstract("board-service");
    let root = rootfs(&board, "sockets");
    for folder in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{folder}"), root.join(folder)).unwrap();
    }
    let image = board.image(&root, RunConfig::default());
    let program = format!("python3 -c \"{REACH}\"");
    let in_network_of_board = |name: &str, abstract_sockets| {
        let mut app = app(&image, &format!("{program}; exec sleep 100000"));
        app.name = AppName::new(name).unwrap();
        app.stop_grace_seconds = 0;
        app.network.mode = NetworkMode::Host;
        app.network.abstract_sockets = abstract_sockets;
        app.binds = vec![BindMount {
            source: "/usr".into(),
            target: "/usr".into(),
            read_only: true,
        }];
        app
    };
    let apps = [("kept", false), ("open", true)];
    board.commit(
        "1",
        apps.map(|(name, open)| in_network_of_board(name, open))
            .to_vec(),
    );
    #[allow(unsafe_code, reason = "no crate here knows this call")]
    // SAFETY: landlock_create_ruleset with LANDLOCK_CREATE_RULESET_VERSION reads nothing.
    let version = unsafe { libc::syscall(444, std::ptr::null::<u8>(), 0, 1) };
    for (name, open) in apps {
        let expected = match open || version < 6 {
            true => "reached\n",
            false => "refused\n",
        };
        let log = board.state().join(format!("logs/{name}/json.log"));
        let said = wait_for("the app's word", WAIT, || {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.lines().next()?;
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["log"].as_str()?.to_owned())
        });
        assert_eq!(said, expected, "{name}");
        let in_it = Exec {
            app: AppName::new(name).unwrap(),
            ..shell(&program)
        };
        let ended = run(&board, in_it);
        assert_eq!(ended.stdout, expected, "{name}: {ended:?}");
    }
}

#[test]
fn streams_codes_and_words_come_back() {
    let board = running();
    let ended = run(&board, shell("echo out; echo err >&2; exit 7"));
    let expected = Ended {
        stdout: "out\n".into(),
        stderr: "err\n".into(),
        code: 7,
        words: String::new(),
    };
    assert_eq!(ended, expected);
    assert_eq!(run(&board, shell("kill -9 $$")).code, 128 + 9);

    let mut cat = begin(
        &board,
        Exec {
            stdin: true,
            ..exec(&["cat"])
        },
    );
    // More than the pipes hold, while it is read at the same time.
    let text = "0123456789abcdef".repeat(1 << 16);
    let (mut to, sent) = (cat.socket.try_clone().unwrap(), text.clone());
    let writer = std::thread::spawn(move || {
        for part in sent.as_bytes().chunks(Stream::PIECE) {
            to.write_all(&Stream::Stdin.piece(part)).unwrap();
        }
        to.write_all(&Stream::Stdin.piece(&[])).unwrap();
    });
    let ended = end(&mut cat.socket);
    writer.join().unwrap();
    assert!(ended.stdout == text && ended.code == 0, "{}", ended.code);

    let wanted = Exec {
        env: vec!["GREETING=other".into(), "MORE=a=b".into()],
        user: Some("1000:0".into()),
        cwd: Some("/www".into()),
        ..shell("echo $GREETING $MORE $PWD $(id -u) $(id -g); echo $HOSTNAME > /dev/stdout")
    };
    let ended = run(&board, wanted);
    assert_eq!(ended.stdout, "other a=b /www 1000 0\nweb\n", "{ended:?}");

    for (args, code, word) in [
        (&["nothing-of-that-name"][..], 127, "nothing-of-that-name"),
        (&["/etc/passwd"], 126, "/etc/passwd"),
    ] {
        let ended = run(&board, exec(args));
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.words.contains(word), "{ended:?}");
    }
    let folder = Exec {
        cwd: Some("/nowhere".into()),
        ..exec(&["id"])
    };
    let ended = run(&board, folder);
    assert!(
        ended.code == 125 && ended.words.contains("/nowhere"),
        "{ended:?}"
    );
    let nobody = Exec {
        user: Some("nobody-here".into()),
        ..exec(&["id"])
    };
    assert_eq!(code(ask(&board, nobody)), "bad-exec");
    assert_eq!(code(ask(&board, exec(&[]))), "bad-exec");
    let mut other = exec(&["id"]);
    other.app = AppName::new("other").unwrap();
    assert_eq!(code(ask(&board, other)), "no-app");
}

#[test]
fn an_exec_can_have_a_terminal() {
    let board = running();
    let mut begun = begin(
        &board,
        Exec {
            stdin: true,
            tty: Some((30, 100)),
            ..shell(
                "busybox stty size; echo $TERM; read a; busybox stty size; echo got $a; read b; echo end $?",
            )
        },
    );
    let mut text = String::new();
    let mut wait_for_text = |begun: &mut Begun, what: &str| {
        while !text.contains(what) {
            let (stream, bytes) = piece(&mut begun.socket);
            assert_eq!(stream, Stream::Stdout, "{text}");
            text += &String::from_utf8_lossy(&bytes);
        }
    };
    wait_for_text(&mut begun, "30 100\r\nxterm\r\n");
    begun.send(Stream::Size, &[0, 40, 0, 120]);
    begun.send(Stream::Stdin, b"this\n");
    wait_for_text(&mut begun, "40 120\r\ngot this\r\n");
    begun.send(Stream::Stdin, b"");
    let ended = begun.end();
    assert_eq!((ended.stdout.as_str(), ended.code), ("end 1\r\n", 0));
}

#[test]
fn a_hog_by_exec_is_held_by_its_apps_limits() {
    let board = running();
    let before = board.app("web").unwrap().pid;
    // It keeps what it reads, for want of an end of line: twice as much as the app may have.
    let ended = run(&board, shell("busybox tail -c 64m /dev/zero > /dev/null"));
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    let forks = "n=0; while [ $n -lt 60 ]; do sleep 100 & n=$((n + 1)); done; wait";
    let ended = run(&board, shell(forks));
    assert!(ended.stderr.contains("can't fork"), "{ended:?}");
    // Those that it has left are the app's as well.
    let pids = board.app("web").unwrap().pids.unwrap();
    assert!((15..=20).contains(&pids), "{pids}");
    let after = board.app("web").unwrap();
    assert_eq!((after.state, after.pid), (AppState::Running, before));
}

#[test]
fn an_exec_ends_with_its_app_and_with_whoever_asked() {
    let board = running();
    let first = board.app("web").unwrap().pid;
    let of_app = begin(&board, exec(&["sleep", "100000"]));
    let begun = Instant::now();
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    assert_eq!(of_app.end().code, 128 + 9);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    wait_for("the app", WAIT, || {
        let app = board.app("web")?;
        (app.state == AppState::Running && app.pid != first).then_some(())
    });

    for tty in [None, Some((24, 80))] {
        let wanted = Exec {
            tty,
            ..exec(&["sleep", "100000"])
        };
        let left = begin(&board, wanted);
        left.socket.shutdown(std::net::Shutdown::Both).unwrap();
        wait_for("its end", WAIT, || (!left.is_there()).then_some(()));
    }
    let mut talks = begin(&board, exec(&["sleep", "100000"]));
    talks.send(Stream::Stdout, b"which is not for us to send");
    wait_for("its end", WAIT, || (!talks.is_there()).then_some(()));

    // The way from it is full: the app's end does not wait for that.
    let full = begin(&board, shell("while true; do echo 0123456789; done"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for("the app's end", WAIT, || {
        (board.app("web")?.state == AppState::Exited).then_some(())
    });
    assert!(!full.is_there());
    assert_eq!(code(ask(&board, exec(&["id"]))), "not-running");
}

#[test]
fn an_exec_goes_on_while_the_supervisor_starts_anew() {
    let mut board = running();
    let mut begun = begin(
        &board,
        Exec {
            stdin: true,
            ..exec(&["cat"])
        },
    );
    board.restart_supervisor();
    begun.send(Stream::Stdin, b"still here");
    begun.send(Stream::Stdin, b"");
    let ended = begun.end();
    assert_eq!((ended.stdout.as_str(), ended.code), ("still here", 0));
}

#[test]
fn execs_are_so_many_and_no_more() {
    let board = running();
    let begin_one = || begin(&board, exec(&["sleep", "100000"]));
    let mut all: Vec<Begun> = (0..LIMITS.execs_per_app).map(|_| begin_one()).collect();
    let answer = ask(&board, exec(&["id"]));
    let words = format!("{answer:?}");
    assert_eq!(code(answer), "too-many");
    assert!(words.contains("4 programs run by exec"), "{words}");
    drop(all.pop());
    wait_for("room", WAIT, || match ask(&board, exec(&["id", "-u"])) {
        Answer::Failed { code, .. } if code == "too-many" => None,
        answer => Some(end(&mut connect(answer))),
    });
    // One that nobody comes for does not keep its place.
    wait_for("room", WAIT, || match ask(&board, exec(&["id"])) {
        Answer::Transfer { .. } => Some(()),
        _ => None,
    });
    assert_eq!(code(ask(&board, exec(&["id"]))), "too-many");
    let ended = wait_for("room", WAIT, || match ask(&board, exec(&["id", "-u"])) {
        Answer::Transfer { socket } => Some(end(&mut UnixStream::connect(socket).unwrap())),
        _ => None,
    });
    assert_eq!(ended.stdout, "1000\n");
}

/// Stands for an app that stops each new process of its own: nothing in its cgroup goes on.
fn hold(board: &Board, holds: bool) {
    let state = match holds {
        true => ["FROZEN", "1"],
        false => ["THAWED", "0"],
    };
    let files = board.cgroups().into_iter().flat_map(|folder| {
        ["freezer.state", "cgroup.freeze"].map(|name| folder.join("web").join(name))
    });
    let written = files
        .zip(state.into_iter().cycle())
        .filter(|(file, _)| file.exists());
    let count = written
        .map(|(file, state)| std::fs::write(file, state).unwrap())
        .count();
    assert!(count > 0, "{:?}", board.cgroups());
}

#[test]
fn an_exec_that_is_held_up_before_its_program_runs_leaves_its_place() {
    let board = running();
    hold(&board, true);
    let begun = Instant::now();
    let all = (0..LIMITS.execs_per_app).map(|_| connect(ask(&board, exec(&["id", "-u"]))));
    let all: Vec<UnixStream> = all.collect();
    assert_eq!(code(ask(&board, exec(&["id"]))), "too-many");
    for mut socket in all {
        let ended = end(&mut socket);
        assert_eq!(ended.code, 125, "{ended:?}");
        assert!(
            ended.words.contains("its app held it up for 10s"),
            "{ended:?}"
        );
    }
    let took = begun.elapsed();
    assert!(took < WAIT, "{took:?}");
    let again = wait_for("room", WAIT, || match ask(&board, exec(&["id", "-u"])) {
        Answer::Transfer { socket } => Some(UnixStream::connect(socket).unwrap()),
        _ => None,
    });
    hold(&board, false);
    assert_eq!(end(&mut { again }).stdout, "1000\n");
    wait_for("the app alone", WAIT, || {
        (board.app("web")?.pids == Some(1)).then_some(())
    });
}

/// What the daemon's user gets as an answer, whose own word is that `uid` asks.
fn asked_by_the_daemon(board: &Board, uid: u32) -> String {
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(board.dir.path(), all).unwrap();
    let script = "
import json, os, socket, struct, sys
os.setgroups([]); os.setgid(1); os.setuid(1)
to = socket.socket(socket.AF_UNIX)
to.connect(sys.argv[1])
call = sys.argv[2].encode()
to.sendall(struct.pack('>I', len(call)) + call)
length, = struct.unpack('>I', to.recv(4, socket.MSG_WAITALL))
answer = to.recv(length, socket.MSG_WAITALL).decode()
print(answer)
if '\"transfer\"' in answer:
    at = json.loads(answer)['reply']['answer']['transfer']['socket']
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(at)
    all = b''
    while (part := stream.recv(4096)):
        all += part
    print(all)
";
    let request = Request::Exec {
        exec: exec(&["id", "-u"]),
        uid,
    };
    let call = serde_json::to_string(&Call { id: 1, request }).unwrap();
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(board.socket())
        .arg(call)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_exec_is_roots_and_the_daemon_is_believed_only_where_the_board_says_so() {
    let mut board = running();
    // The daemon says that it is root who asks.
    let answer = asked_by_the_daemon(&board, 0);
    assert!(answer.contains("not-allowed"), "{answer}");
    assert!(
        answer.contains(r#"[local] allow of coracle.toml is \"signed\""#),
        "{answer}"
    );
    let by_another = Request::Exec {
        exec: exec(&["id"]),
        uid: 1000,
    };
    assert_eq!(code(board.ask(by_another)), "not-root");

    let config = std::fs::read_to_string(board.config()).unwrap();
    std::fs::write(board.config(), config + "[local]\nallow = \"owner\"\n").unwrap();
    board.restart_supervisor();
    let answer = asked_by_the_daemon(&board, 0);
    assert!(answer.contains(r"1000\n"), "{answer}");
    let answer = asked_by_the_daemon(&board, 1000);
    assert!(answer.contains("not-root"), "{answer}");
}
