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

/// `compatible` of the root node as Linux's device trees have it; the files are cited in each profile.
const REAL_BOARDS: [(&str, &[&str]); 15] = [
    ("raspberrypi3", &["raspberrypi,3-model-b", "brcm,bcm2837"]),
    (
        "raspberrypi3",
        &["raspberrypi,3-model-b-plus", "brcm,bcm2837"],
    ),
    ("raspberrypi4", &["raspberrypi,4-model-b", "brcm,bcm2711"]),
    (
        "raspberrypi4",
        &["raspberrypi,4-compute-module", "brcm,bcm2711"],
    ),
    ("raspberrypi5", &["raspberrypi,5-model-b", "brcm,bcm2712"]),
    // The Compute Module 5 of the vendor's kernel: known by its processor.
    (
        "raspberrypi5",
        &["raspberrypi,5-compute-module", "brcm,bcm2712"],
    ),
    (
        "beaglebone-black",
        &["ti,am335x-bone-black", "ti,am335x-bone", "ti,am33xx"],
    ),
    ("imx8mm-evk", &["fsl,imx8mm-evk", "fsl,imx8mm"]),
    ("stm32mp157c-dk2", &["st,stm32mp157c-dk2", "st,stm32mp157"]),
    (
        "jetson-orin-nano",
        &[
            "nvidia,p3768-0000+p3767-0005",
            "nvidia,p3767-0005",
            "nvidia,tegra234",
        ],
    ),
    (
        "jetson-orin-nano",
        &[
            "nvidia,p3768-0000+p3767-0005-super",
            "nvidia,p3767-0005",
            "nvidia,tegra234",
        ],
    ),
    (
        "jetson-orin-nano",
        &["nvidia,p3767-0005", "nvidia,tegra234"],
    ),
    ("qemuarm64", &["linux,dummy-virt"]),
    ("qemuarm", &["linux,dummy-virt"]),
    // A board that nobody made a profile for.
    ("generic-arm64", &["pine64,pine64", "allwinner,sun50i-a64"]),
];

#[test]
fn each_real_board_gets_its_profile_by_the_list_that_its_device_tree_has() {
    for (name, compatible) in REAL_BOARDS {
        let mut seen = arm64(compatible);
        if ["beaglebone-black", "stm32mp157c-dk2", "qemuarm"].contains(&name) {
            seen.architecture = Architecture::Arm;
        }
        let chosen = choose(&config(&shipped(), "auto"), &seen).unwrap();
        assert_eq!(chosen.profile.name.as_str(), name, "{compatible:?}");
        assert_eq!(chosen.left_out, Vec::<String>::new());
    }
}

#[test]
fn every_shipped_profile_with_a_match_stands_in_the_list_of_real_boards() {
    let (profiles, _) = load_folder(&shipped().join("boards"));
    for profile in profiles {
        let name = profile.name.as_str();
        let by_tree = !profile.matches.device_tree_compatible.is_empty();
        assert!(
            !by_tree || REAL_BOARDS.iter().any(|(n, _)| *n == name),
            "{name}"
        );
    }
}

fn site(text: &str) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let boards = folder.path().join("boards");
    fs::create_dir(&boards).unwrap();
    let file = "boards/raspberrypi4.toml";
    fs::copy(shipped().join(file), folder.path().join(file)).unwrap();
    fs::write(folder.path().join("board.toml"), text).unwrap();
    let config = config(folder.path(), "auto");
    (folder, config)
}

#[test]
fn a_site_file_is_merged_over_the_profile_and_each_value_says_where_it_is_from() {
    let (folder, config) = site(
        "memory_mib = 8192\n[network]\nmtu = 1400\nuplinks = [{ link = \"wwan0\", kind = \"lte\", cost = \"metered\" }]\n\
         [quotas]\npids = 32\n",
    );
    let chosen = choose(&config, &arm64(&["raspberrypi,4-model-b"])).unwrap();
    assert!(matches!(chosen.reason, Reason::DeviceTree { .. }));
    assert_eq!(chosen.site_file, Some(folder.path().join("board.toml")));
    let profile = &chosen.profile;
    assert_eq!(profile.name.as_str(), "raspberrypi4");
    assert_eq!(
        (profile.memory_mib.get(), profile.quotas.pids.get()),
        (8192, 32)
    );
    assert_eq!(
        profile.network.uplinks.len(),
        1,
        "a list is replaced, not added to"
    );
    assert_eq!(
        profile.quotas.memory_mib.get(),
        128,
        "what the site leaves alone stays"
    );
    let origin = |key: &str| {
        let setting = chosen.settings.iter().find(|s| s.key == key);
        setting
            .unwrap_or_else(|| panic!("{key} is not shown"))
            .origin
    };
    use crate::profile::Origin;
    assert_eq!(origin("network.mtu"), Origin::Site);
    assert_eq!(origin("quotas.pids"), Origin::Site);
    assert_eq!(origin("quotas.memory_mib"), Origin::Profile);
    assert_eq!(origin("thermal.zones"), Origin::Profile);
    assert_eq!(origin("watchdog.resets_per_day"), Origin::Default);
}

#[test]
fn a_slip_in_a_site_file_is_named_with_its_line() {
    for (text, place, what) in [
        (
            "cpus = 4\n[network]\nmtu_bytes = 1400\n",
            "board.toml:",
            "mtu_bytes",
        ),
        (
            "cpus = 4\n[network]\nmtu = 100\n",
            "board.toml:3: network.mtu: ",
            "576",
        ),
        (
            "[match]\ndmi = []\n",
            "board.toml:1: match: ",
            "cannot be changed",
        ),
        (
            "architecture = \"arm\"\n",
            "board.toml:1: architecture: ",
            "cannot be changed",
        ),
        (
            "[reserve]\nmemory_mib = 4096\n",
            "board.toml:2: reserve.memory_mib: ",
            "leave nothing",
        ),
        ("[network\n", "board.toml:1", ""),
    ] {
        let (_folder, config) = site(text);
        let message = choose(&config, &arm64(&["raspberrypi,4-model-b"]))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(place) && message.contains(what),
            "{text:?}: {message}"
        );
    }
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
    /// Whatever stands around them, a board's own strings are found and no other board's are.
    #[test]
    fn strings_around_a_boards_own_do_not_change_what_it_is(
        before in proptest::collection::vec("[a-z]{1,8},[a-z0-9-]{1,40}", 0..4),
        after in proptest::collection::vec(proptest::collection::vec(1u8..=255, 0..120), 0..4),
    ) {
        let (profiles, _) = load_folder(&shipped().join("boards"));
        let mut blob: Vec<u8> = Vec::new();
        for text in &before {
            blob.extend(text.bytes().chain([0]));
        }
        blob.extend(b"fsl,imx8mm-evk\0");
        for bytes in &after {
            blob.extend(bytes.iter().copied().chain([0]));
        }
        let root = root(&[("proc/device-tree/compatible", &blob)]);
        let seen = Detected { architecture: Architecture::Aarch64, ..Detected::read(root.path()) };
        let (profile, _) = recognise(profiles, &seen);
        prop_assert_eq!(profile.name.as_str(), "imx8mm-evk");
    }

    /// Any property, also one that is cut in the middle, ends at a profile that exists.
    #[test]
    fn any_device_tree_ends_at_a_profile(
        blob in proptest::collection::vec(any::<u8>(), 0..6000),
        board in 0usize..REAL_BOARDS.len(),
        at in 0usize..200,
    ) {
        let mut cut: Vec<u8> = REAL_BOARDS[board].1.iter().flat_map(|s| s.bytes().chain([0])).collect();
        cut.truncate(at);
        let (profiles, _) = load_folder(&shipped().join("boards"));
        for bytes in [&blob, &cut] {
            let root = root(&[("proc/device-tree/compatible", bytes)]);
            let seen = Detected { architecture: Architecture::Aarch64, ..Detected::read(root.path()) };
            let (profile, _) = recognise(profiles.clone(), &seen);
            prop_assert_eq!(profile.architecture, Architecture::Aarch64);
        }
    }

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
