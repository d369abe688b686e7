use super::*;
use crate::budget::IoRates;
use proptest::prelude::*;

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/boards")
}

fn text_of(name: &str) -> String {
    std::fs::read_to_string(shipped().join(format!("{name}.toml"))).unwrap()
}

fn fault(text: &str) -> String {
    Profile::parse(text, Path::new("x.toml"))
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn each_shipped_profile_parses_and_makes_sense() {
    let (profiles, left_out) = crate::detect::load_folder(&shipped());
    assert_eq!(left_out, Vec::<String, 1>::new().as_slice());
    assert!(profiles.len() >= 12, "only {} profiles", profiles.len());
    for profile in &profiles {
        let name = profile.name.as_str();
        let reserve = &profile.reserve;
        assert!(profile.memory_mib.get() > reserve.memory_mib * 2, "{name}");
        assert!(profile.disk_mib.get() > reserve.disk_mib, "{name}");
        assert!(profile.cpus.get() * 1000 > reserve.cpu_millis, "{name}");
        assert!(!profile.network.modes.is_empty(), "{name}");
        assert!(!profile.storage.state.is_empty(), "{name}");
        let matches = &profile.matches;
        let rules = matches.device_tree_compatible.len() + matches.dmi.len();
        assert_eq!(rules == 0, name.starts_with("generic-"), "{name}");
    }
}

#[test]
fn no_two_shipped_profiles_claim_one_board() {
    let (profiles, _) = crate::detect::load_folder(&shipped());
    let mut seen = std::collections::BTreeMap::new();
    for profile in &profiles {
        for compatible in &profile.matches.device_tree_compatible {
            // What runs tells 32 bits from 64.
            let claim = (profile.architecture.as_str(), compatible.clone());
            let earlier = seen.insert(claim, profile.name.as_str().to_owned());
            assert_eq!(earlier, None, "{compatible} is claimed twice");
        }
    }
}

#[test]
fn the_compiled_in_profiles_parse() {
    for architecture in [
        Architecture::X86_64,
        Architecture::Aarch64,
        Architecture::Arm,
    ] {
        assert_eq!(Profile::generic(architecture).architecture, architecture);
    }
}

#[test]
fn an_unknown_key_a_wrong_unit_and_a_zero_are_refused_with_their_line() {
    let good = text_of("generic-arm64");
    assert!(Profile::parse(&good, Path::new("x.toml")).is_ok());
    let message = fault(&good.replace("memory_mib = ", "memory_mb = "));
    assert!(message.contains("memory_mb"), "{message}");
    assert!(message.starts_with("x.toml:"), "{message}");
    let message = fault(&good.replace("architecture = \"aarch64\"", "architecture = \"mips\""));
    for allowed in ["mips", "x86_64", "aarch64", "arm"] {
        assert!(message.contains(allowed), "{message}");
    }
    let message = fault(&good.replacen("cpus = ", "cpus = 0 # ", 1));
    assert!(message.contains("cpus"), "{message}");
}

#[test]
fn ids_of_apps_are_whole_ranges_below_what_is_signed() {
    let good = text_of("generic-arm64");
    let with = |text: &str| format!("{good}\n[isolation]\n{text}\n");
    let parsed = |text: &str| Profile::parse(&with(text), Path::new("x.toml")).unwrap();
    let silent = Profile::parse(&good, Path::new("x.toml"))
        .unwrap()
        .isolation;
    assert_eq!(silent.user_namespaces, UserNamespaces::Auto);
    assert_eq!(silent.first_id.get(), 0x7000_0000);
    assert!(
        silent
            .first_id
            .get()
            .checked_add(MOST_ID_RANGES * IDS_PER_APP)
            .unwrap()
            < 1 << 31
    );
    for (text, first) in [("65536", 65_536), ("2130706432", 2_130_706_432)] {
        assert_eq!(
            parsed(&format!("first_id = {text}"))
                .isolation
                .first_id
                .get(),
            first
        );
    }
    for wrong in ["0", "1000000", "2130771968", "-65536", "4294901760"] {
        let message = fault(&with(&format!("first_id = {wrong}")));
        assert!(
            message.contains("multiples of 65536 from 65536 to 2130706432"),
            "{message}"
        );
    }
    let message = fault(&with("user_namespaces = \"on\""));
    for allowed in ["auto", "off", "required"] {
        assert!(message.contains(allowed), "{message}");
    }
}

#[test]
fn what_links_do_for_the_processor_is_named_once_and_the_first_pattern_counts() {
    let good = text_of("generic-arm64");
    let with = |text: &str| format!("{good}\n{text}\n");
    let silent = Profile::parse(&good, Path::new("x.toml")).unwrap().network;
    assert_eq!(
        (silent.forwarding, silent.bridge_nf),
        (Forwarding::Set, BridgeNf::Keep)
    );
    assert_eq!(
        (silent.egress, silent.host_access),
        (DefaultEgress::Any, HostAccess::Asked)
    );
    let text = with(
        "[[network.offloads]]\nlinks = \"end0\"\noff = [\"tx-checksum\", \"tso\"]\non = [\"gro\"]\n\
         [[network.offloads]]\nlinks = \"end?\"\noff = [\"gso\"]\n\
         [network.app_offloads]\noff = [\"rx-checksum\"]",
    );
    let network = Profile::parse(&text, Path::new("x.toml")).unwrap().network;
    let meant = |link: &str| network.offloads.iter().find(|entry| entry.means(link));
    let first: std::vec::Vec<_> = meant("end0").unwrap().wanted().collect();
    assert_eq!(
        first,
        [
            (Offload::Gro, true),
            (Offload::TxChecksum, false),
            (Offload::Tso, false)
        ]
    );
    let second: std::vec::Vec<_> = meant("end1").unwrap().wanted().collect();
    assert_eq!(second, [(Offload::Gso, false)]);
    assert_eq!(meant("wlan0"), None);
    let apps: std::vec::Vec<_> = network.app_offloads.wanted().collect();
    assert_eq!(apps, [(Offload::RxChecksum, false)]);

    let message = fault(&text.replace("off = [\"gso\"]", "off = [\"gso\"]\non = [\"gso\"]"));
    assert!(
        message.contains("network.offloads: `gso` is named twice"),
        "{message}"
    );
    let message = fault(&text.replace("off = [\"gso\"]", "off = [\"lro\"]"));
    for allowed in ["lro", "tso", "gso", "gro", "tx-checksum", "rx-checksum"] {
        assert!(message.contains(allowed), "{message}");
    }
    let message = fault(&with("[network.app_offloads]\nof = [\"gso\"]"));
    assert!(message.contains("`of`"), "{message}");
    let message = fault(&good.replacen("[network]\n", "[network]\nforwarding = \"off\"\n", 1));
    assert!(
        message.contains("set") && message.contains("keep"),
        "{message}"
    );
    let firewall = "[network]\negress = \"none\"\nhost_access = \"never\"\n";
    let text = good.replacen("[network]\n", firewall, 1);
    let network = Profile::parse(&text, Path::new("x.toml")).unwrap().network;
    assert_eq!(
        (network.egress, network.host_access),
        (DefaultEgress::None, HostAccess::Never)
    );
    let message = fault(&text.replace("egress = \"none\"", "egress = \"deny\""));
    assert!(
        message.contains("any") && message.contains("none"),
        "{message}"
    );
    let message = fault(&good.replacen("[network]\n", "[network]\nbridge_nf = \"on\"\n", 1));
    assert!(
        message.contains("keep") && message.contains("off"),
        "{message}"
    );
}

#[test]
fn lists_are_bounded() {
    let good = text_of("generic-armv7");
    let line = good.lines().find(|l| l.starts_with("state = ")).unwrap();
    let disks = |count: usize, device: &str| {
        let disk = format!("{{ device = \"{device}\", medium = \"sd\" }}");
        good.replace(line, &format!("state = [{}]", vec![disk; count].join(", ")))
    };
    assert!(Profile::parse(&disks(4, "/dev/x"), Path::new("x.toml")).is_ok());
    fault(&disks(5, "/dev/x"));
    assert!(Profile::parse(&disks(1, &"x".repeat(96)), Path::new("x.toml")).is_ok());
    fault(&disks(1, &"x".repeat(97)));
}

#[test]
fn what_no_single_value_shows_is_refused_with_its_line() {
    let good = text_of("raspberrypi4");
    let message = fault(&good.replace("name = \"spi\"", "name = \"gpio\""));
    assert!(
        message.contains("devices: `gpio` is named twice"),
        "{message}"
    );
    let message = fault(&good.replace("nodes = [\"/dev/i2c-1\"]", "nodes = []"));
    assert!(message.contains("`i2c` has no nodes"), "{message}");
    for outside in [
        "/etc/shadow",
        "/dev/../etc/shadow",
        "i2c-1",
        "/dev/",
        "/dev//x",
        "/dev/i2c 1",
    ] {
        let message = fault(&good.replace("/dev/i2c-1", outside));
        assert!(
            message.contains("`i2c`: node `") && message.contains("below /dev/"),
            "{message}"
        );
    }
    let can = fault(&text_of("beaglebone-black").replace("can?", "/dev/can?"));
    assert!(can.contains("names of links"), "{can}");
    let message = fault(&good.replace("link = \"end0\"", "link = \"eth0\""));
    assert!(
        message.contains("network.uplinks: `eth0` is named twice"),
        "{message}"
    );
    let message = fault(&good.replace("restore_celsius = 68", "restore_celsius = 75"));
    assert!(message.contains("restore < throttle"), "{message}");
    let message = fault(&good.replace("name = \"ACT\"", "name = \"../ACT\""));
    assert!(message.contains("leds: `../ACT` is no name"), "{message}");
    let message = fault(&good.replace("interval_seconds = 5", "interval_seconds = 1"));
    assert!(
        message.contains("thermal.interval_seconds: 1 is not allowed; allowed are 2 to 3600"),
        "{message}"
    );
    let reserve = good.find("[reserve]").unwrap();
    let at = good[reserve..].find("memory_mib = 128").unwrap() + reserve;
    let mut greedy = good.clone();
    greedy.replace_range(at..at + "memory_mib = 128".len(), "memory_mib = 1024");
    let line = greedy[..at].lines().count() + 1;
    let message = fault(&greedy);
    assert!(
        message.starts_with(&format!("x.toml:{line}: reserve.memory_mib: ")),
        "{message}"
    );
}

#[test]
fn a_board_says_what_its_state_folder_lies_on() {
    let black = Profile::parse(&text_of("beaglebone-black"), Path::new("x.toml")).unwrap();
    assert_eq!(black.storage.medium("/dev/mmcblk1"), Some(Medium::Emmc));
    assert_eq!(black.storage.medium("/dev/mmcblk0"), Some(Medium::Sd));
    assert_eq!(black.storage.medium("/dev/sda"), None);
    assert!(black.storage.plays(StorageRole::Removable, "/dev/sda"));
}

#[test]
fn thermal_thresholds_lie_below_the_kernels_own_and_watchdogs_within_the_hardwares() {
    // (profile, where the kernel itself acts in °C by the device tree, the longest timeout in seconds)
    for (name, kernel_acts, longest) in [
        ("raspberrypi3", 90, 15),
        ("raspberrypi4", 90, 15),
        ("raspberrypi5", 85, 15),
        ("imx8mm-evk", 85, 128),
        ("stm32mp157c-dk2", 85, 32),
        ("jetson-orin-nano", 95, 255),
    ] {
        let profile = Profile::parse(&text_of(name), Path::new("x.toml")).unwrap();
        let thermal = profile.thermal.expect(name);
        assert!(
            thermal
                .zones
                .iter()
                .all(|z| z.throttle_celsius < kernel_acts),
            "{name}"
        );
        assert!(
            profile.watchdog.expect(name).timeout_seconds.get() <= longest,
            "{name}"
        );
    }
}

#[test]
fn an_app_gets_the_links_that_are_named_and_never_an_uplink() {
    let text = text_of("beaglebone-black");
    let profile = Profile::parse(&text, Path::new("x.toml")).unwrap();
    assert!(profile.gives_away("can1") && !profile.gives_away("can10"));
    assert!(!profile.gives_away("eth1") && !profile.network.is_parent("eth1"));
    let more = text.replacen(
        "[network]\n",
        "[network]\nparents = [\"eth?\"]\ninterfaces = [\"eth*\"]\n",
        1,
    );
    let profile = Profile::parse(&more, Path::new("x.toml")).unwrap();
    assert!(profile.gives_away("eth1") && profile.network.is_parent("eth0"));
    assert!(profile.network.is_uplink("eth0") && !profile.gives_away("eth0"));
    let message = fault(&more.replace("interfaces = [\"eth*\"]", "interfaces = [\"eth0\"]"));
    assert!(
        message.contains("network.interfaces: `eth0` is an uplink"),
        "{message}"
    );
}

#[test]
fn a_light_that_says_little_tells_the_rest_by_that() {
    let text = text_of("raspberrypi4");
    let led = |text: &str| Profile::parse(text, Path::new("x.toml")).unwrap().leds[0].clone();
    let plain = led(&text);
    for (state, pattern) in [
        (LedState::Running, LedPattern::Heartbeat),
        (LedState::Trial, LedPattern::FastBlink),
        (LedState::StickReading, LedPattern::FastBlink),
        (LedState::StickDone, LedPattern::Heartbeat),
        (LedState::StickRefused, LedPattern::SlowBlink),
    ] {
        assert_eq!(plain.pattern(state), pattern, "{state:?}");
    }
    let more = text.replace(
        "name = \"ACT\"",
        "name = \"ACT\"\ntrial = \"on\"\nstick_done = \"off\"",
    );
    let more = led(&more);
    assert_eq!(more.pattern(LedState::Trial), LedPattern::On);
    assert_eq!(more.pattern(LedState::StickDone), LedPattern::Off);
}

#[test]
fn the_serial_number_is_the_first_that_is_there() {
    let profile = Profile::parse(&text_of("imx8mm-evk"), Path::new("x.toml")).unwrap();
    let root = tempfile::tempdir().unwrap();
    assert_eq!(profile.identity.read(root.path()), None);
    let tree = root.path().join("proc/device-tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("serial-number"), b"10000000abc\0").unwrap();
    assert_eq!(profile.identity.read(root.path()).unwrap(), "10000000abc");
    let soc = root.path().join("sys/devices/soc0");
    std::fs::create_dir_all(&soc).unwrap();
    std::fs::write(soc.join("serial_number"), b"\n").unwrap();
    assert_eq!(profile.identity.read(root.path()).unwrap(), "10000000abc");
    std::fs::write(soc.join("serial_number"), b"1A2B\n").unwrap();
    assert_eq!(profile.identity.read(root.path()).unwrap(), "1A2B");
}

#[test]
fn each_profile_cites_its_sources() {
    for entry in std::fs::read_dir(shipped()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let sources = text.split_once("# Sources\n").expect("no `# Sources`").1;
        assert!(sources.starts_with("# - "), "{}", path.display());
        if text.contains("device_tree_compatible") && !text.contains("linux,dummy-virt") {
            let cited = sources.split("\n\n").next().unwrap();
            assert!(cited.contains("/boot/dts/"), "{}", path.display());
        }
    }
}

/// A figure, or a line that says that there is none, for each disk that may hold the state folder.
#[test]
fn each_profile_says_what_each_medium_carries_or_that_nobody_knows() {
    let (profiles, _) = crate::detect::load_folder(&shipped());
    for profile in &profiles {
        let name = profile.name.as_str();
        let text = text_of(name);
        let not_known = text
            .lines()
            .filter_map(|line| line.strip_prefix("# Not known: "));
        let not_known: std::vec::Vec<&str> = not_known.collect();
        for disk in &profile.storage.state {
            let carried = profile.storage.carried_by(&disk.device);
            let medium = disk.medium.as_str();
            for (key, known) in [
                (
                    "read_bytes_per_second",
                    carried.read_bytes_per_second.is_some(),
                ),
                (
                    "write_bytes_per_second",
                    carried.write_bytes_per_second.is_some(),
                ),
                (
                    "read_operations_per_second",
                    carried.read_operations_per_second.is_some(),
                ),
                (
                    "write_operations_per_second",
                    carried.write_operations_per_second.is_some(),
                ),
            ] {
                let line =
                    |line: &&str| line.starts_with(&format!("{medium} ")) && line.contains(key);
                assert_eq!(
                    not_known.iter().any(line),
                    !known,
                    "{name}: {medium}: {key}"
                );
            }
        }
    }
}

#[test]
fn no_32_bit_profile_sets_a_rate_by_itself() {
    let (profiles, _) = crate::detect::load_folder(&shipped());
    let of = |profile: &Profile| {
        let carried = profile.storage.state.iter();
        let carried = carried.map(|disk| IoRates::from(&profile.storage.carried_by(&disk.device)));
        let rates = carried.map(|all| IoRates::default_of(profile, all, &[IoRates::default()]));
        rates.into_iter().any(|rates| rates.is_any())
    };
    let arm = |profile: &&Profile| profile.architecture == Architecture::Arm;
    let mut seen = 0;
    for profile in profiles.iter().filter(arm) {
        seen += 1;
        assert!(!of(profile), "{}", profile.name.as_str());
        let quotas = IoRates::from(&profile.quotas);
        assert!(!quotas.is_any(), "{}: [quotas]", profile.name.as_str());
    }
    assert!(seen >= 4, "only {seen} profiles of 32-bit ARM");
    let pi = profiles
        .iter()
        .find(|profile| profile.name.as_str() == "raspberrypi4");
    assert!(of(pi.unwrap()), "others do");
    // Nor where a site says so.
    let mut site = Profile::generic(Architecture::Arm);
    site.quotas.io_write_bytes_per_second = Some(4_000_000);
    assert!(!of(&site));
}

#[test]
fn a_profile_under_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.toml");
    std::fs::write(&file, text_of("generic-arm64")).unwrap();
    let message = Profile::load(&file).unwrap_err().to_string();
    assert!(
        message.contains("generic-arm64") && message.contains("other"),
        "{message}"
    );
}

#[test]
fn the_shipped_coracle_toml_parses_and_every_key_in_it_is_explained() {
    let file = shipped().join("../coracle.toml");
    let config = crate::config::Config::load(&file).unwrap();
    assert_eq!(config.instance, "coracle");
    // The defaults that the comments tell are the ones in force: with each comment sign taken away
    // from `#key = value`, the file still says the same.
    let text = std::fs::read_to_string(&file).unwrap();
    let spoken: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|l| l.contains(" = ") && !l.starts_with(' '))
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let written: crate::config::WrittenConfig = toml::from_str(&spoken).unwrap();
    let spoken = crate::config::Config::from_written(written, &config.config_dir);
    assert_eq!(spoken.subnet_or(None), config.subnet_or(None));
    assert_eq!(
        crate::config::Config {
            subnet: None,
            console_url: None,
            mqtt_url: None,
            mtu: None,
            ..spoken
        },
        config
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = Profile::parse(&text, Path::new("x.toml"));
    }

    #[test]
    fn a_damaged_profile_never_panics(at in 0usize..1500, with in "\\PC{0,4}") {
        let mut text = text_of("raspberrypi4");
        let at = (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        text.insert_str(at, &with);
        let _ = Profile::parse(&text, Path::new("x.toml"));
    }
}
