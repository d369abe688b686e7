use super::*;

fn parsed(arguments: &[&str]) -> Result<(Global, Command), Failure> {
    let (global, command) = parse(lexopt::Parser::from_args(arguments));
    Ok((global, command?))
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
        &["--cgroup-manager", "disabled", "list"],
        &["checkpoint", "a", "--image-paht", "x"],
        &["fly"],
    ] {
        assert!(parsed(line).is_err(), "{line:?}");
    }
}

#[test]
fn a_new_container_is_systemds_when_that_is_asked_for() {
    for (line, wanted) in [
        (&["create", "x"][..], false),
        (&["--systemd-cgroup", "create", "x"], true),
        (&["--cgroup-manager", "systemd", "run", "x"], true),
        (&["--cgroup-manager", "cgroupfs", "run", "x"], false),
        (&["--systemd-cgroup", "restore", "x"], true),
    ] {
        let (_, command) = parsed(line).unwrap();
        let create = match command {
            Command::Create(_, create) | Command::Run(_, create) => create,
            Command::Restore(_, restore) => restore.create,
            other => panic!("{other:?}"),
        };
        assert_eq!(create.systemd, wanted, "{line:?}");
    }
    // What is done to a container that is there goes by what it is.
    assert!(parsed(&["--systemd-cgroup", "list"]).is_ok());
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

#[test]
fn checkpoints_are_asked_for_as_of_runc() {
    let (global, command) = parsed(&[
        "--criu",
        "/opt/criu",
        "checkpoint",
        "--image-path",
        "/i",
        "--work-path",
        "/w",
        "--leave-running",
        "--tcp-established",
        "--manage-cgroups-mode",
        "ignore",
        "x",
    ])
    .unwrap();
    assert_eq!(global.criu, PathBuf::from("/opt/criu"));
    let Command::Checkpoint(id, checkpoint) = command else {
        panic!("{command:?}")
    };
    let wanted = Checkpoint {
        images: Images {
            images: "/i".into(),
            work: Some("/w".into()),
            tcp_established: true,
            manage_cgroups: ManageCgroups::Ignore,
            ..Images::default()
        },
        leave_running: true,
        ..Checkpoint::default()
    };
    assert_eq!((id.as_str(), checkpoint), ("x", wanted));

    let (_, command) = parsed(&[
        "restore",
        "-d",
        "-no-subreaper",
        "--bundle",
        "/b",
        "--no-pivot",
        "x",
        "--pid-file",
        "p",
    ])
    .unwrap();
    let Command::Restore(_, restore) = command else {
        panic!("{command:?}")
    };
    assert!(restore.create.detach);
    assert_eq!(restore.create.pid_file, Some("p".into()));
    assert_eq!(restore.images, Images::default());
    // Podman asks so.
    for name in ["checkpoint", "restore"] {
        let (_, command) = parsed(&[name, "--help"]).unwrap();
        assert!(matches!(command, Command::Help), "{command:?}");
    }
}

#[test]
fn what_a_checkpoint_cannot_do_is_refused_by_name() {
    for (line, named) in [
        (&["checkpoint", "x", "--lazy-pages"][..], "--lazy-pages"),
        (&["restore", "--page-server", "a:1", "x"], "--page-server"),
        (
            &["checkpoint", "x", "--manage-cgroups-mode", "all"],
            "\"all\"",
        ),
        (
            &["restore", "--lsm-mount-context"],
            "flag needs an argument: --lsm-mount-context",
        ),
    ] {
        let refused = parsed(line).unwrap_err().to_string();
        assert!(refused.contains(named), "{refused}");
    }
}
