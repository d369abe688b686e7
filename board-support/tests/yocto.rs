//! meta-coracle is in step with what else ships: it installs all of `config/`, its layout has the partition that the units wait for,
//! and its description names each board that has a profile. Whether bitbake takes it is shown by `make yocto`.

use coracle_board_support::config::Config;
use coracle_board_support::detect::load_folder;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn layer(file: &str) -> String {
    let path = project().join("yocto-layer/meta-coracle").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the recipe installs of `config/`, as it spells it, and where to.
fn installed() -> Vec<(String, String)> {
    let recipe = layer("recipes-coracle/coracle-agent/coracle-agent.inc");
    let mut found = Vec::new();
    for line in recipe.lines().map(str::trim) {
        let Some(words) = line.strip_prefix("install -m ") else {
            continue;
        };
        let words: Vec<&str> = words.split(' ').skip(1).collect();
        let (to, from) = words.split_last().unwrap();
        for file in from {
            let file = file.strip_prefix("${S}/config/").unwrap_or_else(|| {
                panic!("{file} is none of config/, which is what the tree ships")
            });
            found.push((file.to_owned(), (*to).to_owned()));
        }
    }
    found
}

fn takes(pattern: &str, file: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => {
            file.len() >= pattern.len() - 1 && file.starts_with(before) && file.ends_with(after)
        }
        None => pattern == file,
    }
}

#[test]
fn the_recipe_installs_all_of_config_where_install_does() {
    let installed = installed();
    for (folder, to) in [
        ("boards", "${D}${sysconfdir}/coracle/boards/"),
        ("systemd", "${D}${systemd_system_unitdir}/"),
        ("sysvinit", "${D}${sysconfdir}/init.d/"),
        ("sysusers.d", "${D}${nonarch_libdir}/sysusers.d/"),
        ("tmpfiles.d", "${D}${nonarch_libdir}/tmpfiles.d/"),
        ("udev", "${D}${nonarch_base_libdir}/udev/rules.d/"),
    ] {
        for entry in fs::read_dir(project().join("config").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let file = format!("{folder}/{name}");
            let places: Vec<&String> = installed
                .iter()
                .filter(|(pattern, _)| takes(pattern, &file))
                .map(|(_, place)| place)
                .collect();
            assert_eq!(places, [to], "config/{file}");
        }
    }
    for (pattern, _) in &installed {
        let named = project().join("config").join(pattern);
        assert!(
            pattern.contains('*') || named.exists(),
            "{pattern} is not there"
        );
    }
}

#[test]
fn the_recipes_user_is_the_one_of_sysusers() {
    let recipe = layer("recipes-coracle/coracle-agent/coracle-agent.inc");
    let added = recipe
        .lines()
        .find_map(|line| line.strip_prefix("USERADD_PARAM:coracle-config = "))
        .unwrap();
    let users = fs::read_to_string(project().join("config/sysusers.d/coracle.conf")).unwrap();
    let line = users.lines().find(|line| line.starts_with("u ")).unwrap();
    let mut words = line.split_whitespace();
    let user = words.nth(1).unwrap();
    let mut last = words.rev();
    let (shell, home) = (last.next().unwrap(), last.next().unwrap());
    assert!(added.trim_end_matches('"').ends_with(&format!(" {user}")));
    // ${base_sbindir} is /usr/sbin with systemd, which is where sysusers.d is installed.
    let shell = shell.replace("/usr/sbin", "${base_sbindir}");
    assert!(added.contains(&format!("--shell {shell} ")), "{added}");
    let home = home.replace("/var", "${localstatedir}");
    assert!(added.contains(&format!("--home-dir {home} ")), "{added}");
}

#[test]
fn the_layout_has_a_partition_for_the_state_with_quotas() {
    let layout = layer("recipes-coracle/images/coracle-image.wks");
    let parts: Vec<&str> = layout
        .lines()
        .filter_map(|line| line.strip_prefix("part "))
        .collect();
    assert_eq!(parts.len(), 2, "{parts:?}");
    assert!(parts[0].starts_with("/ --source rootfs "));
    let state = Config::load(&project().join("config/coracle.toml"))
        .unwrap()
        .state_dir;
    let (place, options) = parts[1].split_once(' ').unwrap();
    assert_eq!(Path::new(place), state);
    // By its label: which disk it is, is the board's affair.
    for option in [
        "--use-label",
        "quota,project",
        "quotatype=prjquota",
        ",prjquota\"",
    ] {
        assert!(options.contains(option), "{option}: {options}");
    }
}

/// What yocto-check-layer asks of a layer's description, and what the layer promises by itself.
#[test]
fn the_layer_tells_who_keeps_it_and_each_board_by_its_machine() {
    let text = layer("README.md");
    let spoken = text.to_lowercase();
    for word in ["maintainer", "patch", "@"] {
        assert!(spoken.contains(word), "{word}");
    }
    // It looks no further where another file of that name is mentioned.
    assert!(!spoken.contains("readme"));
    assert!(!layer("SECURITY.md").is_empty());
    let licence = fs::read_to_string(project().join("LICENSE")).unwrap();
    assert_eq!(layer("LICENSE"), licence);

    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 5)
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let (profiles, left_out) = load_folder(&project().join("config/boards"));
    assert_eq!(left_out, Vec::<String>::new());
    for row in &rows {
        let known = |p: &&_| format!("`{}`", name(p)) == row[3];
        assert!(profiles.iter().any(|p| known(&p)), "{row:?}");
    }
    for profile in &profiles {
        let quoted = format!("`{}`", name(profile));
        let row = rows.iter().position(|row| row[3] == quoted);
        if name(profile).starts_with("generic-") {
            continue;
        }
        let row = row.unwrap_or_else(|| panic!("{quoted} has no machine"));
        // `the same` speaks of the row above.
        let said = rows[..=row].iter().rev();
        let said = said.map(|row| row[4]).find(|said| *said != "the same");
        for word in &profile.kernel.command_line {
            assert!(said.unwrap().contains(word.as_str()), "{quoted}: {word}");
        }
    }
}

fn name(profile: &coracle_board_support::profile::Profile) -> &str {
    profile.name.as_str()
}

#[test]
fn the_crates_of_the_recipes_are_those_of_cargo_lock() {
    let check = project().join("yocto-layer/crates-inc.sh");
    let ended = Command::new(check).arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
}

/// On a machine that has all else: what was not looked at is no success.
#[test]
fn a_layer_that_nobody_linted_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let program = |path: &str, text: &str| {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("oe/oe-init-build-env", "");
    program("oe/bitbake/bin/bitbake", "echo parsed");
    for tool in [
        "chrpath", "diffstat", "gawk", "lz4c", "zstd", "rpcgen", "file", "cpio", "python3",
    ] {
        program(&format!("bin/{tool}"), "");
    }
    program("bin/locale", "echo en_US.utf8");
    // And of this machine's own nothing but what the script needs so far.
    for tool in ["dirname", "grep"] {
        let own = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
        let own = own.into_iter().find(|file| file.exists()).unwrap();
        std::os::unix::fs::symlink(own, folder.path().join("bin").join(tool)).unwrap();
    }
    let mut check = Command::new(project().join("yocto-layer/check.sh"));
    check.arg(folder.path().join("oe")).env_clear();
    check.env("PATH", folder.path().join("bin"));
    let ended = check.output().unwrap();
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("oelint-adv is not on this machine"), "{said}");
    assert!(
        said.contains("pip install oelint-adv, or say LINT=no"),
        "{said}"
    );
    assert!(!said.contains("holds"), "{said}");
}
