use super::*;

fn parsed(arguments: &[&str]) -> Result<(Global, Command), Failure> {
    parse(lexopt::Parser::from_args(arguments))
}

#[test]
fn options_stand_before_and_after_the_id() {
    for line in [
        &["--root", "/r", "create", "--bundle", "/b", "x"][..],
        &["--root=/r", "create", "x", "--bundle", "/b"],
        &["--root", "/r", "create", "x", "-b", "/b", "--no-pivot"],
    ] {
        let (global, command) = parsed(line).unwrap();
        assert_eq!(global.root, PathBuf::from("/r"));
        let Command::Create(id, create) = command else {
            panic!("{command:?}")
        };
        assert_eq!((id.as_str(), create.bundle), ("x", Some("/b".into())));
    }
}

#[test]
fn the_program_of_exec_keeps_its_options() {
    let (_, command) = parsed(&[
        "exec", "-u", "1:2", "x", "--cwd", "/", "ls", "-l", "--", "-d",
    ])
    .unwrap();
    let Command::Exec(_, exec) = command else {
        panic!("{command:?}")
    };
    assert_eq!(exec.args, ["ls", "-l", "--", "-d"]);
    assert_eq!(
        (exec.user.as_deref(), exec.cwd.as_deref()),
        (Some("1:2"), Some("/"))
    );
    assert!(!exec.detach);
}

#[test]
fn kill_takes_a_signal_in_either_form() {
    for (line, wanted) in [
        (&["kill", "x"][..], "TERM"),
        (&["kill", "x", "KILL"], "KILL"),
        (&["kill", "--signal", "9", "x"], "9"),
        (&["kill", "--all", "x", "SIGUSR1"], "SIGUSR1"),
    ] {
        let (_, command) = parsed(line).unwrap();
        let Command::Kill { signal, .. } = command else {
            panic!("{command:?}")
        };
        assert_eq!(signal, wanted);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for line in [
        &["create"][..],
        &["create", "../x"],
        &["create", "a", "b"],
        &["start", "--force", "a"],
        &["--log-format", "xml", "list"],
        &["--systemd-cgroup", "list"],
        &["checkpoint", "a"],
        &["fly"],
    ] {
        assert!(parsed(line).is_err(), "{line:?}");
    }
}

#[test]
fn bytes_have_suffixes() {
    for (text, wanted) in [
        ("-1", -1),
        ("4096", 4096),
        ("64M", 64 << 20),
        ("1gb", 1 << 30),
        ("2KiB", 2048),
    ] {
        assert_eq!(update::bytes(text).unwrap(), wanted);
    }
    for text in ["", "M", "1x", "99999999999T"] {
        assert!(update::bytes(text).is_err(), "{text}");
    }
}
