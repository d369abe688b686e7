//! Devices of the board that apps ask for by name, under the real supervisor. The board's nodes stand in a folder of the
//! test, with numbers that this machine has: loop-control (10:237), which anybody may open to whom the rules allow it.

mod board;

use board::{Board, app, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, AppDevice, Image, NetworkMode, Restart};
use coracle_protocol::report::{AppState, AppUsers, DeviceStatus, Phase};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);
const LOOP_CONTROL: (u32, u32) = (10, 237);
const MISC_NONE: (u32, u32) = (10, 250);

/// A board whose profile names three devices, none of them there yet.
fn board() -> Board {
    let mut board = Board::start();
    board.kill_supervisor();
    let site = "\
        [[devices]]\nname = \"control\"\nkind = \"gpio\"\nnodes = [\"/dev/control?\", \"/dev/by-id/control-*\"]\n\
        [[devices]]\nname = \"sensor-2\"\nkind = \"i2c\"\nnodes = [\"/dev/sensor?\"]\n\
        [[devices]]\nname = \"can\"\nkind = \"can\"\nnodes = [\"can?\"]\n";
    fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    fs::create_dir_all(hardware(&board).join("dev")).unwrap();
    let text = fs::read_to_string(board.config()).unwrap();
    let root = format!(
        "[agent]\nhardware_root = \"{}\"\n",
        hardware(&board).display()
    );
    fs::write(board.config(), text.replacen("[agent]\n", &root, 1)).unwrap();
    board.start_supervisor();
    board
}

fn hardware(board: &Board) -> PathBuf {
    board.dir.path().join("hardware")
}

fn plug(board: &Board, name: &str, (major, minor): (u32, u32)) {
    let path = hardware(board).join("dev").join(name);
    let device = makedev(major, minor);
    mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, device).unwrap();
}

fn unplug(board: &Board, name: &str) {
    fs::remove_file(hardware(board).join("dev").join(name)).unwrap();
}

fn image(board: &Board, user: &str) -> Image {
    let root = rootfs(board, "devices");
    for applet in ["stat", "mknod", "env"] {
        let link = root.join("bin").join(applet);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("busybox", link).unwrap();
        }
    }
    let config = RunConfig {
        user: user.into(),
        ..RunConfig::default()
    };
    board.image(&root, config)
}

fn asks(image: &Image, name: &str, devices: &[&str], script: &str) -> App {
    let script = format!("exec 2>&1; {script}; echo end; exec sleep 1000");
    let mut app = app(image, &script);
    app.name = AppName::new(name).unwrap();
    app.network.mode = NetworkMode::None;
    let device = |text: &&str| -> AppDevice { serde_json::from_str(text).unwrap() };
    app.devices = devices.iter().map(device).collect();
    app
}

/// Everything that the app wrote.
fn words(board: &Board, name: &str) -> String {
    let file = board.state().join(format!("logs/{name}/json.log"));
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["log"].as_str().unwrap().to_owned()
    });
    lines.collect()
}

/// What the app wrote in its last run.
fn said(board: &Board, name: &str) -> String {
    wait_for("the app's words", WAIT, || {
        let text = words(board, name);
        let runs: Vec<&str> = text.strip_suffix("end\n")?.split("end\n").collect();
        runs.last().map(|run| (*run).to_owned())
    })
}

/// Waits for a run that says so.
fn says(board: &Board, name: &str, text: &str) {
    wait_for(text, WAIT, || (said(board, name) == text).then_some(()));
}

fn running(board: &Board, name: &str) -> Option<u32> {
    let app = board
        .app(name)
        .filter(|app| app.state == AppState::Running)?;
    app.pid
}

fn device(board: &Board, app: &str) -> Option<DeviceStatus> {
    board.app(app)?.devices.first().cloned()
}

const OPEN: &str = "(: < $CORACLE_DEVICE_CONTROL) && echo read; (: > $CORACLE_DEVICE_CONTROL) && echo written; \
    stat -c '%a %u %g' $CORACLE_DEVICE_CONTROL";

#[test]
fn an_app_has_the_devices_that_it_names_as_its_own_user_and_no_others() {
    let mut board = board();
    plug(&board, "control0", LOOP_CONTROL);
    plug(&board, "sensor0", MISC_NONE);
    let image_of_root = image(&board, "");
    let image_of_web = image(&board, "web");
    let all = r#"{"name":"control"}"#;
    let mut boards = asks(
        &image_of_root,
        "boards",
        &[all],
        &format!(
            "{OPEN}; mknod /tmp/sensor c 10 250; (: < /tmp/sensor); echo $CORACLE_DEVICE_SENSOR_2"
        ),
    );
    boards.user_namespace = Some(false);
    let mut own = asks(&image_of_web, "own", &[all], OPEN);
    own.user_namespace = Some(true);
    let reads = r#"{"name":"control","access":"read"}"#;
    let reader = asks(
        &image_of_root,
        "reader",
        &[reads, r#"{"name":"sensor-2"}"#],
        OPEN,
    );
    let mut none = asks(
        &image_of_root,
        "none",
        &[],
        "mknod /tmp/control c 10 237 && echo made; (: < /tmp/control) && echo read; \
         test -e /dev/control0 || echo nothing",
    );
    // With the board's users, so that it can make the node, and the rule alone is in its way.
    none.user_namespace = Some(false);
    board.commit("1", vec![boards, own, reader, none]);

    let text = said(&board, "boards");
    assert!(text.starts_with("read\nwritten\n660 0 0\n"), "{text}");
    assert!(
        text.contains("/tmp/sensor: Operation not permitted"),
        "{text}"
    );
    assert_eq!(said(&board, "own"), "read\nwritten\n660 1000 1000\n");
    assert!(matches!(
        board.app("own").unwrap().users,
        Some(AppUsers::Own { .. })
    ));
    let text = said(&board, "reader");
    assert!(
        text.starts_with("read\n") && text.contains("Operation not permitted"),
        "{text}"
    );
    assert!(!text.contains("written") && text.contains("440 "), "{text}");
    let text = said(&board, "none");
    assert!(text.starts_with("made\n"), "{text}");
    assert!(
        text.contains("/tmp/control: Operation not permitted"),
        "{text}"
    );
    assert!(text.ends_with("nothing\n"), "{text}");

    let given = &board.app("reader").unwrap().devices;
    let nodes: Vec<&str> = given
        .iter()
        .map(|device| device.nodes[0].as_str())
        .collect();
    assert_eq!(nodes, ["/dev/control0", "/dev/sensor0"]);
    let before = running(&board, "own");
    board.restart_supervisor();
    assert_eq!(running(&board, "own"), before);
    assert_eq!(device(&board, "own").unwrap().nodes, ["/dev/control0"]);
}

#[test]
fn devices_that_the_board_does_not_give_are_refused_all_at_once() {
    let mut board = board();
    plug(&board, "sensor0", MISC_NONE);
    let image = image(&board, "");
    let unknown = asks(&image, "lidar", &[r#"{"name":"lidar"}"#], "true");
    let link = asks(&image, "bus", &[r#"{"name":"can"}"#], "true");
    let missing = asks(
        &image,
        "web",
        &[r#"{"name":"sensor-2"}"#, r#"{"name":"control"}"#],
        "true",
    );
    let (release, deploy) = board.documents("1", vec![unknown, link, missing.clone()]);
    let Answer::Refused { code, reason } = board.offer("1", &release, &deploy) else {
        panic!("it was taken");
    };
    assert_eq!(code, "over-budget");
    for part in [
        "app `lidar`: device `lidar` is not among those of profile `",
        "control, sensor-2 ([[devices]]",
        "app `bus`: device `can` of profile",
        "network.interfaces",
        "app `web`: device `control`: nothing on this board is /dev/control? or /dev/by-id/control-*",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert!(!reason.contains("`sensor-2`:"), "{reason}");
    assert_eq!(board.status().current, None);

    // Known and not plugged in: by its own word, and taken once it is.
    let (release, deploy) = board.documents("2", vec![missing.clone()]);
    match board.offer("2", &release, &deploy) {
        Answer::Refused { code, .. } => assert_eq!(code, "no-such-device"),
        other => panic!("{other:?}"),
    }
    plug(&board, "control7", LOOP_CONTROL);
    board.commit("3", vec![missing]);
}

#[test]
fn a_device_is_pulled_out_and_plugged_in_again() {
    let mut board = board();
    plug(&board, "control0", LOOP_CONTROL);
    let image = image(&board, "");
    let needs = asks(
        &image,
        "needs",
        &[r#"{"name":"control"}"#],
        "echo $CORACLE_DEVICE_CONTROL",
    );
    let optional = r#"{"name":"sensor-2","optional":true}"#;
    let can = asks(
        &image,
        "can",
        &[optional],
        "echo ${CORACLE_DEVICE_SENSOR_2:-nothing}",
    );
    board.commit("1", vec![needs, can]);
    says(&board, "needs", "/dev/control0\n");
    says(&board, "can", "nothing\n");
    assert_eq!(device(&board, "can").unwrap().nodes, [""; 0]);
    let first = running(&board, "needs");

    // Gone and back as it was: told, and nobody is disturbed.
    unplug(&board, "control0");
    wait_for("the news", WAIT, || {
        (device(&board, "needs")?.gone == ["/dev/control0"]).then_some(())
    });
    plug(&board, "control0", LOOP_CONTROL);
    wait_for("the good news", WAIT, || {
        board
            .log()
            .contains("device `control` is back")
            .then_some(())
    });
    assert!(device(&board, "needs").unwrap().gone.is_empty());
    assert_eq!(running(&board, "needs"), first);

    // Back under another name: the app has nothing of it, and is started again.
    unplug(&board, "control0");
    wait_for("the news", WAIT, || {
        (!device(&board, "needs")?.gone.is_empty()).then_some(())
    });
    assert_eq!(running(&board, "needs"), first);
    plug(&board, "control1", LOOP_CONTROL);
    wait_for("the new device", WAIT, || {
        let status = device(&board, "needs")?;
        (status.nodes == ["/dev/control1"] && status.gone.is_empty()).then_some(())
    });
    assert_ne!(running(&board, "needs"), first);
    says(&board, "needs", "/dev/control1\n");
    assert_eq!(
        board.app("needs").unwrap().restarts,
        0,
        "no mark against it"
    );

    // An app that can do without starts again once it need not.
    plug(&board, "sensor3", MISC_NONE);
    wait_for("the sensor", WAIT, || {
        (device(&board, "can")?.nodes == ["/dev/sensor3"]).then_some(())
    });
    says(&board, "can", "/dev/sensor3\n");

    // One that cannot start says why, and starts as soon as it can; also where the folder came later.
    unplug(&board, "control1");
    kill(running(&board, "needs").unwrap());
    wait_for("the reason", WAIT, || {
        let app = board.app("needs")?;
        let text = app.health_text?;
        (app.state == AppState::Restarting && text.contains("device `control`")).then_some(())
    });
    fs::create_dir(hardware(&board).join("dev/by-id")).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    plug(&board, "by-id/control-acme", LOOP_CONTROL);
    wait_for("it to run", WAIT, || running(&board, "needs"));
    says(&board, "needs", "/dev/by-id/control-acme\n");
}

fn hears(board: &Board, name: &str, text: &str) {
    wait_for(text, WAIT, || (words(board, name) == text).then_some(()));
}

/// Says whenever the device can be opened, or cannot any more.
const TRIES: &str = "last=; while :; do if (: < $CORACLE_DEVICE_CONTROL) 2>/dev/null; then now=open; else now=shut; fi; \
    [ $now = \"$last\" ] || echo $now; last=$now; sleep 0.1; done";

#[test]
fn what_gets_the_number_of_a_device_that_went_is_not_the_apps() {
    let mut board = board();
    fs::create_dir(hardware(&board).join("dev/by-id")).unwrap();
    plug(&board, "by-id/control-a", LOOP_CONTROL);
    let image = image(&board, "");
    let app = asks(&image, "gps", &[r#"{"name":"control"}"#], TRIES);
    board.commit("1", vec![app]);
    hears(&board, "gps", "open\n");
    let first = running(&board, "gps");

    // Something else, which neither release nor profile give, takes its number.
    unplug(&board, "by-id/control-a");
    plug(&board, "other", LOOP_CONTROL);
    hears(&board, "gps", "open\nshut\n");
    // It stays so under another supervisor, which opens it again once the device is back.
    board.restart_supervisor();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(words(&board, "gps"), "open\nshut\n");
    plug(&board, "by-id/control-a", LOOP_CONTROL);
    hears(&board, "gps", "open\nshut\nopen\n");
    assert_eq!(running(&board, "gps"), first);
}

#[test]
fn an_app_whose_device_keeps_changing_is_started_again_at_growing_distances() {
    let mut board = board();
    plug(&board, "control0", LOOP_CONTROL);
    let image = image(&board, "");
    let app = asks(&image, "needs", &[r#"{"name":"control"}"#], "true");
    board.commit("1", vec![app]);
    let nodes = |board: &Board| device(board, "needs").map(|device| device.nodes);
    for next in 1..=2 {
        unplug(&board, &format!("control{}", next - 1));
        plug(&board, &format!("control{next}"), LOOP_CONTROL);
        if next == 1 {
            let came = || (nodes(&board)? == ["/dev/control1"]).then_some(());
            wait_for("the first", WAIT, came);
        }
    }
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(nodes(&board).unwrap(), ["/dev/control1"]);
    let log = board.log();
    let said = log.matches("since its devices keep changing").count();
    assert_eq!(said, 1, "{log}");
    wait_for("the second", WAIT, || {
        (nodes(&board)? == ["/dev/control2"]).then_some(())
    });
    assert_eq!(board.app("needs").unwrap().restarts, 0);
}

#[test]
fn a_device_that_comes_during_a_trial_waits_for_its_end() {
    let mut board = board();
    let image = image(&board, "");
    let sensor = r#"{"name":"sensor-2","optional":true}"#;
    let mut app = asks(&image, "can", &[sensor], "");
    app.args[2] = "trap : TERM; while :; do sleep 0.1; done".into();
    (app.trial_seconds, app.stop_grace_seconds) = (3, 6);
    let (release, deploy) = board.documents("1", vec![app]);
    let needs = board.needs("1", &release, &deploy);
    board.stage_all("1", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("1"), Answer::Done);
    plug(&board, "sensor0", MISC_NONE);
    assert_eq!(board.end_of(&mut events, "1"), (Phase::Committed, None));
    wait_for("the sensor", WAIT, || {
        (device(&board, "can")?.nodes == ["/dev/sensor0"]).then_some(())
    });
}

#[test]
fn an_app_that_is_started_once_is_started_when_its_device_comes_late() {
    let mut board = board();
    plug(&board, "control0", LOOP_CONTROL);
    let image = image(&board, "");
    let mut app = asks(&image, "once", &[r#"{"name":"control"}"#], "true");
    app.restart = Restart::No;
    board.commit("1", vec![app]);
    // As after a boot at which the bus is slow.
    let first = running(&board, "once").unwrap();
    board.kill_supervisor();
    kill(first);
    unplug(&board, "control0");
    board.start_supervisor();
    wait_for("its end", WAIT, || {
        (board.app("once")?.state == AppState::Exited).then_some(())
    });
    let app = board.app("once").unwrap();
    assert!(app.health_text.unwrap().contains("device `control`"));
    // A next supervisor knows what it waits for, too: this one writes down all that it knows.
    let pid = rustix::process::Pid::from_raw(board.supervisor_pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for("the supervisor's end", WAIT, || {
        board
            .log()
            .contains("the apps stay as they are")
            .then_some(())
    });
    board.restart_supervisor();
    wait_for("its end again", WAIT, || {
        (board.app("once")?.state == AppState::Exited).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    plug(&board, "control0", LOOP_CONTROL);
    wait_for("it to run", WAIT, || running(&board, "once"));
}

#[test]
fn a_board_without_apps_that_ask_watches_no_device() {
    let mut board = board();
    let image = image(&board, "");
    board.commit("1", vec![asks(&image, "web", &[], "true")]);
    let pid = board.supervisor_pid();
    let watches = || {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets
            .filter(|to| to.to_string_lossy().contains("inotify"))
            .count()
    };
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(watches(), 0);
    plug(&board, "control0", LOOP_CONTROL);
    board.commit(
        "2",
        vec![asks(&image, "web", &[r#"{"name":"control"}"#], "true")],
    );
    wait_for("a watch", WAIT, || (watches() == 1).then_some(()));
}
