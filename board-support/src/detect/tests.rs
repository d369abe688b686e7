use super::*;
use crate::config::WrittenConfig;
use proptest::prelude::*;
use std::fs;

fn root(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    root
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn config(folder: &Path, profile: &str) -> Config {
    let text = format!("[agent]\nboard_profile = \"{profile}\"");
    let written: WrittenConfig = toml::from_str(&text).unwrap();
    Config::from_written(written, folder)
}

/// As on an arm64 board, whatever this test was compiled for.
fn arm64(compatible: &[&str]) -> Detected {
    let mut blob = Vec::new();
    for text in compatible {
        blob.extend_from_slice(text.as_bytes());
        blob.push(0);
    }
    let root = root(&[("proc/device-tree/compatible", &blob)]);
    Detected {
        architecture: Architecture::Aarch64,
        ..Detected::read(root.path())
    }
}

#[test]
fn facts_are_read_from_the_given_root() {
    let root = root(&[
        (
            "proc/device-tree/compatible",
            b"raspberrypi,4-model-b\0brcm,bcm2711\0",
        ),
        (
            "proc/device-tree/model",
            b"Raspberry Pi 4 Model B Rev 1.4\0",
        ),
        ("sys/class/dmi/id/sys_vendor", b"QEMU\n"),
        (
            "sys/class/dmi/id/product_name",
            b"Standard PC (Q35 + ICH9, 2009)\n",
        ),
        ("proc/meminfo", b"MemTotal:        1000 kB\nMemFree: 1 kB\n"),
        ("sys/devices/system/cpu/online", b"0-2,5\n"),
        ("proc/sys/kernel/pid_max", b"4194304\n"),
        ("proc/sys/kernel/threads-max", b"7000\n"),
    ]);
    let seen = Detected::read(root.path());
    assert_eq!(seen.device_tree_compatible.len(), 2);
    assert_eq!(seen.model, "Raspberry Pi 4 Model B Rev 1.4");
    assert_eq!(seen.dmi_vendor, "QEMU");
    assert_eq!(seen.memory_bytes, Some(1_024_000));
    assert_eq!(seen.cpus, Some(4));
    assert_eq!(seen.pids, Some(7000));
}

#[test]
fn a_root_that_shows_nothing_is_no_error() {
    let empty = tempfile::tempdir().unwrap();
    let seen = Detected::read(empty.path());
    assert_eq!(
        (seen.memory_bytes, seen.cpus, seen.pids),
        (None, None, None)
    );
    let chosen = choose(&config(empty.path(), "auto"), &seen).unwrap();
    assert!(matches!(
        chosen.reason,
        Reason::Generic {
            compiled_in: true,
            ..
        }
    ));
}

#[test]
fn each_shipped_board_is_recognised_by_its_first_compatible_string() {
    let (profiles, _) = load_folder(&shipped().join("boards"));
    let mut recognised = 0;
    for profile in &profiles {
        for compatible in &profile.matches.device_tree_compatible {
            let mut seen = arm64(&[compatible, "vendor,some-soc"]);
            seen.architecture = profile.architecture;
            let chosen = choose(&config(&shipped(), "auto"), &seen).unwrap();
            assert_eq!(chosen.profile.name, profile.name);
            assert!(chosen.reason.to_string().contains(compatible.as_str()));
            recognised += 1;
        }
    }
    assert!(recognised >= 8, "{recognised}");
}

#[test]
fn the_more_specific_string_wins() {
    let folder = tempfile::tempdir().unwrap();
    let boards = folder.path().join("boards");
    fs::create_dir(&boards).unwrap();
    let base = fs::read_to_string(shipped().join("boards/generic-arm64.toml")).unwrap();
    for (name, compatible) in [("aaa-soc", "vendor,soc"), ("zzz-board", "vendor,board")] {
        let text = base.replace("name = \"generic-arm64\"", &format!("name = \"{name}\""))
            + &format!("\n[match]\ndevice_tree_compatible = [\"{compatible}\"]\n");
        fs::write(boards.join(format!("{name}.toml")), text).unwrap();
    }
    let chosen = choose(
        &config(folder.path(), "auto"),
        &arm64(&["vendor,board", "vendor,soc"]),
    )
    .unwrap();
    assert_eq!(chosen.profile.name.as_str(), "zzz-board");
}

#[test]
fn a_profile_of_another_architecture_is_not_taken() {
    let mut seen = arm64(&["raspberrypi,4-model-b"]);
    seen.architecture = Architecture::Arm;
    let chosen = choose(&config(&shipped(), "auto"), &seen).unwrap();
    assert_eq!(chosen.profile.name.as_str(), "generic-armv7");
    assert!(matches!(
        chosen.reason,
        Reason::Generic {
            compiled_in: false,
            ..
        }
    ));
}

#[test]
fn dmi_recognises_a_virtual_pc() {
    let mut seen = arm64(&[]);
    seen.architecture = Architecture::X86_64;
    seen.dmi_vendor = crate::text::cut("QEMU");
    seen.dmi_product = crate::text::cut("Standard PC (Q35 + ICH9, 2009)");
    let chosen = choose(&config(&shipped(), "auto"), &seen).unwrap();
    assert_eq!(chosen.profile.name.as_str(), "qemux86-64");
}

#[test]
fn a_person_wins_and_a_slip_of_theirs_is_told() {
    let seen = arm64(&["raspberrypi,4-model-b"]);
    let chosen = choose(&config(&shipped(), "beaglebone-black"), &seen).unwrap();
    assert_eq!(chosen.profile.name.as_str(), "beaglebone-black");
    assert_eq!(chosen.reason, Reason::Named);
    let message = choose(&config(&shipped(), "rapsberrypi4"), &seen)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("rapsberrypi4") && message.contains("raspberrypi4"),
        "{message}"
    );

    let folder = tempfile::tempdir().unwrap();
    let base = shipped().join("boards/generic-arm64.toml");
    fs::copy(base, folder.path().join("board.toml")).unwrap();
    let chosen = choose(&config(folder.path(), "auto"), &seen).unwrap();
    assert!(matches!(chosen.reason, Reason::Override { .. }));
}

#[test]
fn a_broken_profile_of_another_board_is_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let boards = folder.path().join("boards");
    fs::create_dir(&boards).unwrap();
    fs::write(boards.join("broken.toml"), "name = 3").unwrap();
    fs::copy(
        shipped().join("boards/raspberrypi4.toml"),
        boards.join("raspberrypi4.toml"),
    )
    .unwrap();
    let chosen = choose(
        &config(folder.path(), "auto"),
        &arm64(&["raspberrypi,4-model-b"]),
    )
    .unwrap();
    assert_eq!(chosen.profile.name.as_str(), "raspberrypi4");
    assert_eq!(chosen.left_out.len(), 1);
    assert!(chosen.left_out[0].contains("broken.toml"));
}

proptest! {
    #[test]
    fn any_compatible_property_is_read_within_bounds(blob in proptest::collection::vec(any::<u8>(), 0..6000)) {
        let found = facts::compatible(&blob);
        prop_assert!(found.len() <= 16);
        prop_assert!(found.iter().all(|t| !t.is_empty() && t.len() <= 96 && !t.contains('\0')));
    }

    #[test]
    fn strings_of_a_property_come_out_in_order(strings in proptest::collection::vec("[a-z,0-9-]{1,60}", 0..16)) {
        let blob: Vec<u8> = strings.iter().flat_map(|s| s.bytes().chain([0])).collect();
        let found = facts::compatible(&blob);
        let found: Vec<&str> = found.iter().map(|t| t.as_str()).collect();
        prop_assert_eq!(found, strings);
    }

    #[test]
    fn any_meminfo_and_cpu_list_is_read_without_panic(text in any::<String>()) {
        let _ = facts::memory(&text);
        let _ = facts::memory(&format!("MemTotal: {text} kB"));
        let _ = facts::cpus(&text);
    }
}

#[test]
fn numbers_that_overflow_are_no_facts() {
    assert_eq!(facts::memory("MemTotal: 18446744073709551615 kB"), None);
    assert_eq!(facts::cpus("0-4294967295"), None);
    assert_eq!(facts::cpus("3-1"), None);
    assert_eq!(facts::cpus(""), None);
}
