//! What `make install` and `make deb` put on a board is complete: whatever a unit, an init script, a
//! folder rule or the documentation names is in the tree. The programs are stand-ins; what is tested
//! is the tree. Needs make, dpkg-deb and systemd-analyze, as Debian has them.

use coracle_board_support::config::Config;
use coracle_board_support::detect::load_folder;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 3] = ["coracle-agent", "coracle-console", "coracle-release"];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}\n{failed}");
    said
}

fn make(target: &str, variables: &[String]) {
    let mut command = Command::new("make");
    command.current_dir(project()).arg("--silent").arg(target);
    // The cargo that runs this test must not hand its job server on.
    run(command.args(variables).env_remove("MAKEFLAGS"));
}

/// A folder with a stand-in for each program of `names`.
fn programs(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(folder.path().join(name), "#!/bin/sh\nexit 0\n").unwrap();
    }
    folder
}

fn installed(parts: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let programs = programs(&PROGRAMS);
    make(
        "install",
        &[
            format!("DESTDIR={}", root.path().display()),
            format!("PROGRAMS={}", programs.path().display()),
            format!("PARTS={parts}"),
        ],
    );
    root
}

/// Every file below `root`, by its path on the board.
fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let inside = path.strip_prefix(root).unwrap();
                    found.insert(format!("/{}", inside.display()));
                }
            }
        }
    }
    found
}

fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file.trim_start_matches('/'))).unwrap()
}

fn mode(root: &Path, file: &str) -> u32 {
    let path = root.join(file.trim_start_matches('/'));
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn whatever_a_unit_or_a_script_names_is_installed() {
    let root = installed("agent cli");
    let root = root.path();
    let files = files(root);
    let mut named = 0;
    for file in &files {
        let text = read(root, file);
        for line in text.lines() {
            let words: Vec<&str> = match line.split_once('=') {
                Some(("ExecStart", command)) => command.split(' ').collect(),
                Some(("PROGRAM" | "CONFIG", path)) => vec![path],
                Some(("Documentation", uri)) => vec![uri.trim_start_matches("file:")],
                _ => continue,
            };
            for path in words
                .into_iter()
                .filter(|word| word.starts_with('/') && !word.starts_with("/dev/"))
            {
                assert!(
                    files.contains(path),
                    "{file} names {path}, which is not installed"
                );
                named += 1;
            }
        }
    }
    assert!(named >= 10, "only {named} paths were looked at");
    for file in &files {
        let program = ["/usr/bin/", "/usr/sbin/", "/etc/init.d/"]
            .iter()
            .any(|folder| file.starts_with(folder));
        let expected = if program { 0o755 } else { 0o644 };
        assert_eq!(mode(root, file), expected, "{file}");
    }
    for script in ["coracle-supervisor", "coracled"] {
        run(Command::new("sh")
            .arg("-n")
            .arg(root.join("etc/init.d").join(script)));
    }
}

#[test]
fn nothing_of_config_is_forgotten_and_what_is_installed_can_be_read() {
    let root = installed("agent cli");
    let files = files(root.path());
    let config = project().join("config");
    for (from, to) in [
        ("boards", "/etc/coracle/boards"),
        ("systemd", "/usr/lib/systemd/system"),
        ("sysvinit", "/etc/init.d"),
        ("sysusers.d", "/usr/lib/sysusers.d"),
        ("tmpfiles.d", "/usr/lib/tmpfiles.d"),
        ("udev", "/usr/lib/udev/rules.d"),
    ] {
        for entry in fs::read_dir(config.join(from)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                files.contains(&format!("{to}/{name}")),
                "{from}/{name} is not installed"
            );
        }
    }
    let settings = root.path().join("etc/coracle/coracle.toml");
    let settings = Config::load(&settings).unwrap();
    let (profiles, left_out) = load_folder(&settings.profiles_dir());
    assert_eq!(left_out, Vec::<String>::new());
    assert!(profiles.len() >= 12);
    // The user that runs coracled is the one that is made, and owns what it must own.
    let users = read(root.path(), "/usr/lib/sysusers.d/coracle.conf");
    let user = &settings.user;
    assert!(users.lines().any(|l| l.starts_with(&format!("u {user} "))));
    let folders = read(root.path(), "/usr/lib/tmpfiles.d/coracle.conf");
    for own in [
        settings.store_dir(),
        settings.identity_dir(),
        settings.spool_dir(),
    ] {
        let line = folders
            .lines()
            .find(|l| l.starts_with(&format!("d {} ", own.display())));
        let line = line.unwrap_or_else(|| panic!("nobody makes {}", own.display()));
        assert_eq!(
            line.split_whitespace().nth(3),
            Some(user.as_str()),
            "{line}"
        );
    }
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    let root = installed("agent cli");
    // Units of systemd's own that ours are ordered by do not lie in this tree.
    let units = root.path().join("usr/lib/systemd/system");
    for unit in [
        "local-fs",
        "network-online",
        "multi-user",
        "sysinit",
        "basic",
        "shutdown",
    ] {
        fs::write(
            units.join(format!("{unit}.target")),
            "[Unit]\nDescription=x\n",
        )
        .unwrap();
    }
    // So does not what each system has of its own.
    let bin = root.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy("/bin/kill", bin.join("kill")).unwrap();
    let mut command = Command::new("systemd-analyze");
    command
        .arg("verify")
        .arg("--man=no")
        .arg("--root")
        .arg(root.path());
    command
        .arg("coracle-supervisor.service")
        .arg("coracled.service")
        .arg("coracle-stick@sda1.service");
    let output = command.output().expect("systemd-analyze cannot be started");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|l| l.contains("coracle")).collect();
    // Keys that this systemd is too old for are passed over, and the unit says so.
    let newer = |line: &&&str| line.contains("RestartSteps") || line.contains("RestartMaxDelaySec");
    let faults: Vec<&&str> = ours.iter().filter(|line| !newer(line)).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{said}");
}

#[test]
fn the_tpm_is_a_groups_that_coracled_is_in_only_where_a_board_says_so() {
    let root = installed("agent cli");
    let settings = Config::load(&root.path().join("etc/coracle/coracle.toml")).unwrap();
    let rule = read(root.path(), "/usr/lib/udev/rules.d/90-coracle-tpm.rules");
    let (_, rest) = rule.split_once("GROUP=\"").unwrap();
    let (group, _) = rest.split_once('"').unwrap();
    let users = read(root.path(), "/usr/lib/sysusers.d/coracle.conf");
    assert!(users.lines().any(|line| line == format!("g {group} -")));
    assert!(!users.lines().any(|line| line.starts_with("m ")), "{users}");
    let unit = read(root.path(), "/usr/lib/systemd/system/coracled.service");
    assert!(unit.lines().any(|line| line == "PrivateDevices=yes"));
    let opened = read(root.path(), "/usr/share/doc/coracle/coracled-tpm.conf");
    for line in [
        "PrivateDevices=no",
        "DevicePolicy=closed",
        "DeviceAllow=char-tpm rw",
        &format!("SupplementaryGroups={group}"),
    ] {
        assert!(opened.lines().any(|opened| opened == line), "{opened}");
    }
    assert!(settings.tpm.starts_with("/dev"));
}

/// udevadm of Debian 12 has no `verify`, and refuses nothing: each line of the rules is taken apart here.
#[test]
fn the_rules_for_sticks_name_what_is_installed_and_jump_to_what_is_there() {
    let root = installed("agent cli");
    let rules = read(root.path(), "/usr/lib/udev/rules.d/90-coracle-stick.rules");
    // udev goes by name, and ID_BUS and ID_FS_TYPE are found out in systemd's own.
    assert!("90-coracle-stick.rules" > "60-persistent-storage.rules");
    let units = root.path().join("usr/lib/systemd/system");
    let (mut jumps, mut wanted) = (0, 0);
    for line in rules
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        if let Some((_, label)) = line.split_once("GOTO=") {
            assert!(rules.contains(&format!("LABEL={label}")), "{line}");
            jumps += 1;
        }
        if let Some((_, unit)) = line.split_once("SYSTEMD_WANTS}+=\"") {
            let unit = unit.trim_end_matches('"').replace("%k", "");
            assert!(units.join(&unit).exists(), "{unit}");
            wanted += 1;
        }
    }
    assert_eq!((jumps, wanted), (4, 1));
    assert!(rules.contains("/usr/bin/coracle usb plugged $devnode"));
    assert!(files(root.path()).contains("/usr/bin/coracle"));
}

#[test]
fn settings_of_the_site_are_not_touched_by_another_install() {
    let root = installed("agent cli");
    let settings = root.path().join("etc/coracle/coracle.toml");
    fs::write(&settings, "[log]\nlevel = \"debug\"\n").unwrap();
    let programs = programs(&PROGRAMS);
    make(
        "install",
        &[
            format!("DESTDIR={}", root.path().display()),
            format!("PROGRAMS={}", programs.path().display()),
        ],
    );
    assert_eq!(
        fs::read_to_string(&settings).unwrap(),
        "[log]\nlevel = \"debug\"\n"
    );
}

#[test]
fn the_packages_hold_what_install_installs_and_are_the_same_twice() {
    let stand_ins = programs(&PROGRAMS);
    let build = |architecture: &str| {
        let output = tempfile::tempdir().unwrap();
        make(
            "deb",
            &[
                format!("PROGRAMS={}", stand_ins.path().display()),
                format!("DEB_ARCH={architecture}"),
                format!("OUTPUT={}", output.path().display()),
            ],
        );
        output
    };
    for architecture in ["amd64", "arm64", "armhf"] {
        let output = build(architecture);
        let package = |name: &str| {
            let version = env!("CARGO_PKG_VERSION");
            output
                .path()
                .join(format!("{name}_{version}_{architecture}.deb"))
        };
        let field = |name: &str, field: &str| {
            let mut command = Command::new("dpkg-deb");
            run(command.arg("--field").arg(package(name)).arg(field))
                .trim()
                .to_owned()
        };
        assert_eq!(field("coracle-agent", "Architecture"), architecture);
        assert_eq!(
            field("coracle-console", "Depends"),
            "mosquitto, ca-certificates"
        );
        let unpacked = tempfile::tempdir().unwrap();
        let mut command = Command::new("dpkg-deb");
        run(command
            .arg("--extract")
            .arg(package("coracle-agent"))
            .arg(unpacked.path()));
        let mut held = files(unpacked.path());
        assert!(held.remove("/usr/share/doc/coracle-agent/copyright"));
        assert_eq!(held, files(installed("agent cli").path()));

        let control = tempfile::tempdir().unwrap();
        let mut command = Command::new("dpkg-deb");
        run(command
            .arg("--control")
            .arg(package("coracle-agent"))
            .arg(control.path()));
        let conffiles = fs::read_to_string(control.path().join("conffiles")).unwrap();
        let settings: BTreeSet<String> = held
            .iter()
            .filter(|f| f.starts_with("/etc/"))
            .cloned()
            .collect();
        assert_eq!(
            conffiles
                .lines()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>(),
            settings
        );
        for script in ["postinst", "prerm", "postrm"] {
            run(Command::new("sh")
                .arg("-n")
                .arg(control.path().join(script)));
        }
        if architecture == "armhf" {
            let again = build(architecture);
            for name in ["coracle-agent", "coracle-console", "coracle-release"] {
                let first = package(name);
                let second = again.path().join(first.file_name().unwrap());
                assert!(
                    fs::read(&first).unwrap() == fs::read(second).unwrap(),
                    "{name} differs"
                );
            }
        }
    }
}

#[test]
fn a_package_without_its_programs_is_left_out() {
    let some = programs(&["coracle-agent"]);
    let output = tempfile::tempdir().unwrap();
    make(
        "deb",
        &[
            format!("PROGRAMS={}", some.path().display()),
            "DEB_ARCH=arm64".to_owned(),
            format!("OUTPUT={}", output.path().display()),
        ],
    );
    let names: Vec<String> = files(output.path()).into_iter().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("/coracle-agent_"), "{names:?}");
}

/// The loader refuses a program that asks for `GLIBC_ABI_DT_RELR`, a version without a number. The linker that makes packed
/// relocations on every Debian that this is run on is that of x86-64.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_package_of_packed_relocations_is_not_for_a_c_library_that_does_not_know_them() {
    // With addresses that the loader has to add to.
    let source =
        "static int one; int *const many[] = {&one, &one}; int main(void) { return !many[0]; }\n";
    let depends = |flag: &str| {
        let (folder, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = folder.path().join("one.c");
        fs::write(&file, source).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-fPIE", "-pie", flag, "-o"]);
        run(cc.arg(folder.path().join("coracle-agent")).arg(file));
        make(
            "deb",
            &[
                format!("PROGRAMS={}", folder.path().display()),
                "DEB_ARCH=amd64".to_owned(),
                format!("OUTPUT={}", output.path().display()),
            ],
        );
        let package = files(output.path()).pop_first().unwrap();
        let mut field = Command::new("dpkg-deb");
        field.arg("--field");
        field.arg(output.path().join(package.trim_start_matches('/')));
        run(field.arg("Depends"))
    };
    let packed = depends("-Wl,-z,pack-relative-relocs");
    assert!(packed.contains("libc6 (>= 2.36)"), "{packed}");
    let plain = depends("-Wl,-z,nopack-relative-relocs");
    assert!(
        plain.contains("libc6 (>= 2.") && !plain.contains("2.36"),
        "{plain}"
    );
}
