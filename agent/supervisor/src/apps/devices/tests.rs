use super::*;
use coracle_board_support::profile::Architecture;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

fn wanted(json: &str) -> AppDevice {
    serde_json::from_str(json).unwrap()
}

/// The generic PC, with a serial line by USB and with a node of the container's own in a pattern.
fn planned(json: &str) -> Result<PlannedDevice, DeviceFault> {
    PlannedDevice::of(&wanted(json), &Profile::generic(Architecture::X86_64))
}

fn make(root: &Path, name: &str, major: u32, minor: u32) {
    let path = root.join("dev").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let kind = FileType::CharacterDevice;
    mknodat(CWD, &path, kind, Mode::RUSR, makedev(major, minor)).unwrap();
}

#[test]
fn a_name_that_the_profile_has_not_is_refused_with_those_that_it_has() {
    let fault = planned(r#"{"name":"lidar"}"#).unwrap_err().to_string();
    for part in [
        "`lidar`",
        "`generic-x86-64`",
        "gpio, i2c, spi, serial",
        "board.toml",
    ] {
        assert!(fault.contains(part), "{fault}");
    }
    assert!(!fault.contains("can,"), "{fault}");
    let fault = planned(r#"{"name":"can"}"#).unwrap_err().to_string();
    assert!(fault.contains("network.interfaces"), "{fault}");
}

#[test]
fn what_is_there_becomes_nodes_of_the_apps_user_and_rules() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let user = User {
        uid: 1000,
        gid: 100,
        ..User::default()
    };
    let serial = planned(r#"{"name":"serial"}"#).unwrap();
    let fault = give(std::slice::from_ref(&serial), &user, root).unwrap_err();
    let fault = fault.to_string();
    for part in ["`serial`", "/dev/ttyUSB*", "generic-x86-64", "optional"] {
        assert!(fault.contains(part), "{fault}");
    }
    let camera = planned(r#"{"name":"camera","access":"read","optional":true}"#).unwrap();
    make(root, "ttyUSB0", 188, 0);
    let gift = give(&[serial.clone(), camera.clone()], &user, root).unwrap();
    assert_eq!(gift.env, ["CORACLE_DEVICE_SERIAL=/dev/ttyUSB0"]);
    assert_eq!(gift.nodes.len(), 1);
    let node = &gift.nodes[0];
    assert_eq!((node.major, node.minor, node.mode), (188, 0, 0o660));
    assert_eq!((node.uid, node.gid), (1000, 100));
    assert!(gift.rules[0].read && gift.rules[0].write && !gift.rules[0].mknod);
    assert_eq!(gift.given[1].nodes, []);

    make(root, "video0", 81, 0);
    make(root, "ttyACM3", 166, 3);
    let gift = give(&[serial, camera], &user, root).unwrap();
    assert_eq!(
        gift.env,
        [
            "CORACLE_DEVICE_SERIAL=/dev/ttyACM3 /dev/ttyUSB0",
            "CORACLE_DEVICE_CAMERA=/dev/video0"
        ]
    );
    let video = gift
        .rules
        .iter()
        .find(|rule| rule.major == Some(81))
        .unwrap();
    assert!(video.read && !video.write);
    assert_eq!(gift.nodes.last().unwrap().mode, 0o440);
}

#[test]
fn nodes_that_every_container_has_stay_the_containers() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/boards/generic-x86-64.toml"),
    )
    .unwrap();
    let text = text.replace("\"/dev/ttyUSB*\"", "\"/dev/*\", \"/dev/pts/*\"");
    let profile = Profile::parse(&text, Path::new("generic-x86-64.toml")).unwrap();
    for (name, major, minor) in [
        ("tty", 5, 0),
        ("ptmx", 5, 2),
        ("console", 5, 1),
        ("null", 1, 3),
        ("mem", 1, 1),
        ("pts/0", 136, 0),
        ("ttyS0", 4, 64),
    ] {
        make(root, name, major, minor);
    }
    let device = PlannedDevice::of(&wanted(r#"{"name":"serial"}"#), &profile).unwrap();
    let paths: Vec<String> = device.nodes(root).into_iter().map(|n| n.path).collect();
    assert_eq!(paths, ["/dev/ttyS0"]);
}

#[test]
fn a_serial_line_that_is_the_boards_console_is_no_apps() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    make(root, "ttyUSB0", 188, 0);
    let active = root.join("sys/class/tty/console/active");
    std::fs::create_dir_all(active.parent().unwrap()).unwrap();
    std::fs::write(active, "tty0 ttyUSB0\n").unwrap();
    let serial = planned(r#"{"name":"serial"}"#).unwrap();
    let fault = serial.find(root).unwrap_err().to_string();
    for part in ["`serial`", "/dev/ttyUSB0", "console=", "board.toml"] {
        assert!(fault.contains(part), "{fault}");
    }
    let optional = planned(r#"{"name":"serial","optional":true}"#).unwrap();
    assert_eq!(optional.find(root), Ok(vec![]));
    // Another line beside it is one.
    make(root, "ttyUSB1", 188, 1);
    assert_eq!(serial.find(root).unwrap()[0].path, "/dev/ttyUSB1");
}

#[test]
fn more_nodes_than_an_app_gets_are_cut_at_its_start_and_not_when_it_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for minor in 0..=devices::NODE_LIMIT as u32 {
        make(root, &format!("ttyUSB{minor}"), 188, minor);
    }
    let serial = planned(r#"{"name":"serial"}"#).unwrap();
    let given = serial.find(root).unwrap();
    assert_eq!(given.len(), devices::NODE_LIMIT);
    // One more that comes before them pushes none out of what is there.
    make(root, "ttyACM0", 166, 0);
    let now = serial.nodes(root);
    assert!(given.iter().all(|node| now.contains(node)));
}
