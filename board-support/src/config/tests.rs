use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let file = Path::new("/etc/coracle/coracle.toml");
    toml_file::parse(text, file).map(|w| Config::from_written(w, Path::new("/etc/coracle")))
}

fn fault(text: &str) -> String {
    parse(text).expect_err("must be refused").to_string()
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.instance, "coracle");
    assert_eq!(config.state_dir, Path::new("/var/lib/coracle"));
    assert_eq!(config.cgroup_parent, "coracle");
    assert_eq!(config.hardware_root, Path::new("/"));
    assert_eq!(config.bridge, "cor0");
    assert_eq!(config.local_allow, LocalPolicy::Signed);
    assert_eq!(config.log_level, LogLevel::Info);
    assert_eq!(config.board_profile, ProfileChoice::Auto);
    assert!(config.share_files);
    assert_eq!(config.subnet_or(None).to_string(), "172.30.0.0/16");
    assert_eq!(config.root_file(), Path::new("/etc/coracle/root.json"));
    assert_eq!(
        config.supervisor_socket(),
        Path::new("/run/coracle/supervisor.sock")
    );
}

#[test]
fn what_is_written_wins() {
    let config = parse(
        "[agent]\ninstance = \"two\"\nstate_dir = \"state\"\nrun_dir = \"/tmp/r\"\nshare_files = false\nboard_profile = \"raspberrypi4\"\n\
         [console]\nurl = \"https://fleet.example:8443/\"\nmqtt = \"mqtts://fleet.example:8883\"\n\
         [network]\nbridge = \"br-two\"\nsubnet = \"10.9.0.0/20\"\nmtu = 1400\n\
         [local]\nallow = \"owner\"\n[log]\nlevel = \"debug\"\n",
    )
    .unwrap();
    assert_eq!(config.state_dir, Path::new("/etc/coracle/state"));
    assert_eq!(config.run_dir, Path::new("/tmp/r"));
    assert!(!config.share_files);
    assert_eq!(config.cgroup_parent, "two");
    assert_eq!(
        config.console_url.unwrap().as_str(),
        "https://fleet.example:8443"
    );
    assert_eq!(config.mtu.unwrap().bytes(), 1400);
    assert_eq!(config.local_allow, LocalPolicy::Owner);
    assert!(
        matches!(config.board_profile, ProfileChoice::Named(n) if n.as_str() == "raspberrypi4")
    );
}

#[test]
fn the_file_wins_over_the_profile() {
    let profile: Subnet = "192.168.40.0/24".parse().unwrap();
    let silent = parse("").unwrap();
    assert_eq!(silent.subnet_or(Some(profile)), profile);
    let written = parse("[network]\nsubnet = \"10.9.0.0/20\"").unwrap();
    assert_eq!(written.subnet_or(Some(profile)).to_string(), "10.9.0.0/20");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
    let message = fault("[agent]\ninstance = \"a\"\nstate = \"/x\"\n");
    assert!(
        message.starts_with("/etc/coracle/coracle.toml:3: agent.state: "),
        "{message}"
    );
    assert!(message.contains("state_dir"), "{message}");
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_the_allowed_ones() {
    let message = fault("# a comment\n[local]\nallow = \"anyone\"\n");
    assert!(message.contains(":3: local.allow: "), "{message}");
    for allowed in ["signed", "owner", "none"] {
        assert!(message.contains(allowed), "{message}");
    }
    let message = fault("[network]\nsubnet = \"172.30.1.0/16\"\n");
    assert!(message.contains(":2: network.subnet: "), "{message}");
    assert!(message.contains("beyond its prefix"), "{message}");
    let message = fault("[network]\nmtu = 70000\n");
    assert!(message.contains("576 to 65535"), "{message}");
}

#[test]
fn values_that_would_leave_their_place_are_refused() {
    for text in [
        "[agent]\ninstance = \"../x\"",
        "[agent]\ninstance = \"\"",
        "[agent]\ncgroup_parent = \"a/b\"",
        "[network]\nbridge = \"a-name-of-16-char\"",
        "[network]\nbridge = \"lo\"",
        "[network]\nbridge = \"br%d\"",
        "[network]\nsubnet = \"127.0.0.0/8\"",
        "[network]\nsubnet = \"10.0.0.0/30\"",
        "[network]\nmtu = -1",
        "[console]\nurl = \"ftp://x\"",
        "[console]\nurl = \"https://\"",
        "[console]\nmqtt = \"https://x\"",
        "[agent]\nboard_profile = \"../../etc/shadow\"",
        "not toml",
    ] {
        fault(text);
    }
}

#[test]
fn a_file_that_is_too_large_or_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coracle.toml");
    let missing = Config::load(&file).unwrap_err().to_string();
    assert!(missing.contains("coracle.toml"), "{missing}");
    std::fs::write(&file, vec![b'#'; 70_000]).unwrap();
    assert!(matches!(
        Config::load(&file),
        Err(ConfigError::TooLarge { .. })
    ));
    std::fs::write(&file, "[agent]\nstate_dir = \"s\"").unwrap();
    assert_eq!(
        Config::load(&file).unwrap().state_dir,
        folder.path().join("s")
    );
}

#[test]
fn downloads_have_hours_and_rates() {
    let config = parse("").unwrap().downloads;
    assert_eq!(config, Downloads::default());
    assert_eq!(config.metered, MeteredPolicy::Allow);
    let config = parse(
        "[downloads]\nmetered = \"wait\"\nbytes_per_second = 65536\nhours = [\"22:00-06:00\", \"12:30-13:00\"]",
    );
    let downloads = config.unwrap().downloads;
    assert_eq!(downloads.metered, MeteredPolicy::Wait);
    assert_eq!(downloads.metered_bytes_per_second, Some(65_536));
    let at = |hour: u64, minute: u64| {
        let time = 1_800_000_000 / 86_400 * 86_400 + hour * 3600 + minute * 60;
        downloads.hours.iter().any(|hours| hours.has_time(time))
    };
    for (hour, minute, within) in [
        (21, 59, false),
        (22, 0, true),
        (0, 0, true),
        (5, 59, true),
        (6, 0, false),
        (12, 45, true),
        (13, 0, false),
    ] {
        assert_eq!(at(hour, minute), within, "{hour}:{minute}");
    }
    let evening: Window = "18:00-24:00".to_owned().try_into().unwrap();
    assert!(evening.has_time(86_400 - 1) && !evening.has_time(86_400));
    assert_eq!(evening.to_string(), "18:00-24:00");
    for bad in [
        "22-6",
        "22:00-22:00",
        "24:00-01:00",
        "22:60-23:00",
        "+2:00-03:00",
        "22:00",
        "25:00-26:00",
    ] {
        let told = fault(&format!("[downloads]\nhours = [\"{bad}\"]"));
        assert!(
            told.contains(":2: downloads.hours: ") && told.contains("22:00-06:00"),
            "{told}"
        );
    }
    let told = fault("[downloads]\nbytes_per_second = 100");
    assert!(told.contains("1024 to"), "{told}");
    let told = fault("[downloads]\nmetered = \"never\"");
    assert!(told.contains("allow") && told.contains("wait"), "{told}");
}

#[test]
fn downloads_have_mirrors_and_a_proxy() {
    let config = parse(
        "[downloads]\nmirrors = [\"http://10.0.0.5:8000/coracle/\", \"https://m\"]\nproxy = \"http://p:3128\"",
    );
    let downloads = config.unwrap().downloads;
    let mirrors: Vec<&str> = downloads.mirrors.iter().map(|url| url.as_str()).collect();
    assert_eq!(mirrors, ["http://10.0.0.5:8000/coracle", "https://m"]);
    assert_eq!(downloads.proxy.unwrap().address(), "p:3128");
    let told = fault("[downloads]\nproxy = \"https://p\"");
    assert!(
        told.contains(":2: downloads.proxy: ") && told.contains("allowed are http://host"),
        "{told}"
    );
    for key in [
        "mirrors = [\"http://me:secret@m/c\"]",
        "proxy = \"http://me:secret@p\"",
    ] {
        let told = fault(&format!("[downloads]\n{key}"));
        assert!(
            told.contains(":2: downloads.") && !told.contains("secret"),
            "{told}"
        );
    }
    let told = fault("[downloads]\nmirrors = [\"ftp://m\"]");
    assert!(
        told.contains(":2: downloads.mirrors: ") && told.contains("http://host"),
        "{told}"
    );
    let five = ["\"http://m\""; 5].join(", ");
    let told = fault(&format!("[downloads]\nmirrors = [{five}]"));
    assert!(told.contains(":2: downloads.mirrors: "), "{told}");
}

#[test]
fn folders_for_apps_are_absolute() {
    let config = parse("[volumes]\nbinds = [\"/srv/media\"]").unwrap();
    assert_eq!(config.binds, [std::path::Path::new("/srv/media")]);
    for bad in ["media", "/srv/../etc", ""] {
        let told = fault(&format!("[volumes]\nbinds = [\"{bad}\"]"));
        assert!(
            told.contains("absolute path") && told.contains('2'),
            "{told}"
        );
    }
}

#[test]
fn a_board_that_does_not_know_the_time_waits_a_day_or_as_it_is_told() {
    let hours = |text: &str| {
        let config = parse(&format!("[deploy]\n{text}")).unwrap();
        config.without_clock.map(|time| time.as_secs() / 3600)
    };
    assert_eq!(hours(""), Some(24));
    assert_eq!(hours("time_unknown_hours = 720"), Some(720));
    assert_eq!(
        hours("when_time_unknown = \"apply\"\ntime_unknown_hours = 1"),
        Some(1)
    );
    assert_eq!(hours("when_time_unknown = \"wait\""), None);
    for wrong in ["0", "721", "-1", "65537"] {
        let message = fault(&format!("[deploy]\ntime_unknown_hours = {wrong}\n"));
        assert!(
            message.contains(":2: deploy.time_unknown_hours: "),
            "{message}"
        );
        assert!(message.contains("1 to 720 hours"), "{message}");
    }
    let message = fault("[deploy]\nwhen_time_unknown = \"never\"\n");
    assert!(
        message.contains("`apply`") && message.contains("`wait`"),
        "{message}"
    );
}

/// An agent that goes back finds what the newer one's package wrote.
#[test]
fn a_file_of_a_newer_version_is_read_as_far_as_it_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coracle.toml");
    let newer = "config_version = 2\nmotto = \"x\"\n\
        [agent]\ninstance = \"two\"\nshape = { wide = true, names = [\"a b\", \"c\\\"d\"] }\n\
        [usb]\nplugged = \"ask\"\n[deploy]\nwindow = [\"02:00-04:00\"]\nconsent = true\n\
        [radio]\nband = 868\n[log]\nlevel = \"debug\"\n";
    std::fs::write(&file, newer).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.instance, "two");
    assert_eq!(config.windows.len(), 1);
    assert!(config.consent);
    assert_eq!(config.log_level, LogLevel::Debug);
    // In doubt the strict one.
    assert_eq!(config.plugged, StickPolicy::Ignore);
    assert_eq!(config.file, file);
    let mut passed_over = config.passed_over;
    passed_over.sort();
    assert_eq!(
        passed_over,
        ["agent.shape", "motto", "radio.band", "usb.plugged"]
    );

    for (section, key) in [
        ("local", "allow = \"root-only\""),
        ("deploy", "window = [\"daily 02:00\"]"),
        ("deploy", "consent = \"two\""),
    ] {
        std::fs::write(&file, format!("config_version = 2\n[{section}]\n{key}\n")).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.consent, section == "deploy", "{key}");
        assert_eq!(config.local_allow == LocalPolicy::None, section == "local");
    }

    // One of this version has slips, and no text at all is none of any.
    for text in [
        newer.replace("config_version = 2", "config_version = 1"),
        newer.replace("config_version = 2\n", ""),
        newer.replace("= 2", "= \"2\""),
        newer.replace("config_version = 2", "config_version = 0"),
        "config_version = 0\n".to_owned(),
        newer.replace("[log]", "[log"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let fault = Config::load(&file).unwrap_err().to_string();
        assert!(fault.contains("coracle.toml:"), "{fault}");
    }
    std::fs::write(&file, "config_version = 9\n[log]\nlevel = \"warn\"\n").unwrap();
    let config = Config::load(&file).unwrap();
    assert!(config.passed_over.is_empty());
    assert_eq!(config.log_level, LogLevel::Warn);
}

#[test]
fn what_others_look_for_cannot_change_under_a_program_that_runs() {
    let config = parse("").unwrap();
    assert_eq!(config.fixed_key_that_differs(&config), None);
    let other = parse("[deploy]\nconsent = true\n[log]\nlevel = \"debug\"\n").unwrap();
    assert_eq!(config.fixed_key_that_differs(&other), None);
    for (key, line) in [
        ("agent.instance", "instance = \"two\""),
        ("agent.state_dir", "state_dir = \"/data\""),
        ("agent.run_dir", "run_dir = \"/tmp/r\""),
        ("agent.user", "user = \"nobody\""),
        ("agent.cgroup_parent", "cgroup_parent = \"x\""),
    ] {
        let other = parse(&format!("[agent]\n{line}\n")).unwrap();
        assert_eq!(config.fixed_key_that_differs(&other), Some(key));
    }
    for (key, line) in [
        ("network.bridge", "bridge = \"x0\""),
        ("network.subnet", "subnet = \"10.9.0.0/16\""),
    ] {
        let other = parse(&format!("[network]\n{line}\n")).unwrap();
        assert_eq!(config.fixed_key_that_differs(&other), Some(key));
    }
}
