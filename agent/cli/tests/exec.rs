//! `coracle exec` against a supervisor that says what it is told to: what is asked, what comes out, and the terminal after it.

mod supervisor;

use coracle_protocol::local::{Answer, Exec, HEAD, Request, Stream};
use coracle_protocol::names::AppName;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use supervisor::{asked_once, folder};

const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// Answers once, and is at the other end of the socket of a transfer.
fn one_exec(
    folder: &Path,
    answer: Option<Answer>,
    program: impl FnOnce(&mut UnixStream) + Send + 'static,
) -> JoinHandle<Request> {
    let at = folder.join("exec.sock");
    let execs = UnixListener::bind(&at).unwrap();
    let carries = answer.is_none();
    let socket = at.to_str().unwrap().to_owned();
    let answer = answer.unwrap_or(Answer::Transfer { socket });
    asked_once(folder, answer, move || {
        if carries {
            let (mut stream, _) = execs.accept().unwrap();
            program(&mut stream);
        }
    })
}

fn piece(from: &mut UnixStream) -> (Stream, Vec<u8>) {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).unwrap();
    let (stream, length) = Stream::of_head(head).unwrap();
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).unwrap();
    (stream, bytes)
}

fn say(to: &mut UnixStream, pieces: &[(Stream, &[u8])]) {
    for (stream, bytes) in pieces {
        to.write_all(&stream.piece(bytes)).unwrap();
    }
}

const STARTED: (Stream, &[u8]) = (Stream::Started, &[0, 0, 0, 9]);

fn coracle(folder: &Path, line: &str, input: &str) -> Output {
    let mut child = Command::new(CORACLE)
        .arg("--config")
        .arg(folder.join("coracle.toml"))
        .args(line.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that reads nothing may be gone.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The same in a terminal of its own, into which `typed` is typed once it shows `ready`: a shell's script, with `$coracle` for the
/// program and `$folder` for its folder.
fn in_a_terminal(folder: &Path, script: &str, typed: &str) -> String {
    let config = folder.join("coracle.toml");
    let coracle = format!("{CORACLE} --config {}", config.display());
    let script = script.replace("$coracle", &coracle);
    let script = script.replace("$folder", folder.to_str().unwrap());
    let mut child = Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs `script` (bsdutils)");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut shown, mut buffer) = (String::new(), [0; 1024]);
    let mut is_typed = false;
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        shown += &String::from_utf8_lossy(&buffer[..count]);
        if shown.contains("ready") && !is_typed {
            is_typed = true;
            stdin.write_all(typed.as_bytes()).unwrap();
        }
    }
    child.wait().unwrap();
    shown
}

#[test]
fn streams_and_exit_code_are_the_programs() {
    let folder = folder();
    let supervisor = one_exec(folder.path(), None, |program| {
        say(program, &[STARTED, (Stream::Stdout, b"out\n")]);
        say(program, &[(Stream::Stderr, b"err\n")]);
        let mut typed = Vec::new();
        loop {
            let (stream, bytes) = piece(program);
            assert_eq!(stream, Stream::Stdin);
            if bytes.is_empty() {
                break;
            }
            typed.extend(bytes);
        }
        say(program, &[(Stream::Stdout, &typed)]);
        program.write_all(&Stream::end(7, "")).unwrap();
    });
    let line = "exec -i -u web -e A=b -w /tmp web -- cat -n";
    let output = coracle(folder.path(), line, "typed\n");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"out\ntyped\n");
    assert_eq!(output.stderr, b"err\n");
    let expected = Request::Exec {
        exec: Exec {
            app: AppName::new("web").unwrap(),
            args: vec!["cat".into(), "-n".into()],
            env: vec!["A=b".into()],
            user: Some("web".into()),
            cwd: Some("/tmp".into()),
            stdin: true,
            tty: None,
        },
        uid: nix::unistd::getuid().as_raw(),
    };
    assert_eq!(supervisor.join().unwrap(), expected);
}

#[test]
fn what_was_not_run_is_told_and_has_a_code_of_its_own() {
    let refused = Answer::Refused {
        code: "not-root".into(),
        reason: "only root".into(),
    };
    let nothing: fn(&mut UnixStream) = |_| {};
    let not_there: fn(&mut UnixStream) = |program| {
        program
            .write_all(&Stream::end(127, "no such file: nix"))
            .unwrap()
    };
    let goes: fn(&mut UnixStream) = |program| say(program, &[STARTED]);
    for (answer, program, code, words) in [
        (Some(refused), nothing, 125, "nothing was run: only root"),
        (None, not_there, 127, "no such file: nix"),
        (None, goes, 125, "the connection to the program broke"),
    ] {
        let folder = folder();
        let supervisor = one_exec(folder.path(), answer, program);
        let output = coracle(folder.path(), "exec web nix", "");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{said}");
        supervisor.join().unwrap();
    }
    let nobody = folder();
    let output = coracle(nobody.path(), "exec web ps", "");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("supervisor.sock"), "{said}");
}

#[test]
fn a_terminal_is_raw_while_the_program_has_it_and_as_before_afterwards() {
    let folder = folder();
    let go = folder.path().join("go");
    let supervisor = one_exec(folder.path(), None, move |program| {
        say(program, &[STARTED, (Stream::Stdout, b"ready\r\n")]);
        // A key without an end of line, and one that would be a signal.
        let mut typed = Vec::new();
        while typed.len() < 2 {
            let (stream, bytes) = piece(program);
            assert_eq!(stream, Stream::Stdin);
            typed.extend(bytes);
        }
        assert_eq!(typed, b"x\x03");
        std::fs::write(go, "").unwrap();
        // `stty` sets one after the other.
        let mut size = vec![];
        while size != [0, 40, 0, 120] {
            let (stream, bytes) = piece(program);
            assert_eq!(stream, Stream::Size);
            size = bytes;
        }
        program.write_all(&Stream::end(3, "")).unwrap();
    });
    let script = "stty rows 30 cols 100; stty -g > $folder/before
        (until [ -e $folder/go ]; do sleep 0.1; done; stty rows 40 cols 120 < /dev/tty) &
        $coracle exec -it web sh; echo code $?; stty -g > $folder/after";
    let said = in_a_terminal(folder.path(), script, "x\x03");
    assert!(
        said.contains("ready\r\n") && said.contains("code 3"),
        "{said}"
    );
    let Request::Exec { exec, .. } = supervisor.join().unwrap() else {
        panic!("another request");
    };
    assert_eq!((exec.stdin, exec.tty), (true, Some((30, 100))));
    let text = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("before"), text("after"));
}

#[test]
fn a_terminal_is_as_before_when_the_command_is_ended() {
    let folder = folder();
    let supervisor = one_exec(folder.path(), None, |program| {
        say(program, &[STARTED]);
        // Until it is gone.
        let _ = program.read_to_end(&mut Vec::new());
    });
    let script = "stty -g > $folder/before
        timeout --foreground 1 $coracle exec -it web sh; stty -g > $folder/after";
    in_a_terminal(folder.path(), script, "");
    supervisor.join().unwrap();
    let text = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("before"), text("after"));
}
