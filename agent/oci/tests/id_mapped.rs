//! Bind mounts whose files belong to others than on disk. Needs root, busybox-static, and a file system for /tmp that can
//! (ext4, xfs, btrfs; tmpfs since Linux 6.3).

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use serde_json::{Value, json};
use support::Bundle;

/// A volume with a file of user 7 and group 8.
fn with_volume(script: &str, mount: Value) -> Bundle {
    let mut bundle = Bundle::new(script);
    let volume = bundle.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "").unwrap();
    chown(volume.join("file"), Some(7), Some(8)).unwrap();
    chown(&volume, Some(7), Some(8)).unwrap();
    // The container's root may not make one in an image that is the host's root's.
    fs::create_dir(bundle.root().join("volume")).unwrap();
    let mut mount = mount;
    mount["destination"] = json!("/volume");
    mount["type"] = json!("bind");
    mount["source"] = json!(volume);
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    bundle
}

fn users_of_its_own(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
}

const SHOW: &str = "stat -c %u:%g /volume/file";

#[test]
fn listed_owners_are_shown_and_the_disk_keeps_its_own() {
    let map = |from: u32, to: u32| json!([{"containerID": from, "hostID": to, "size": 1}]);
    let bundle = with_volume(
        SHOW,
        json!({"options": ["bind", "idmap"], "uidMappings": map(7, 70), "gidMappings": map(8, 80)}),
    );
    let said = bundle.run();
    assert_eq!(said.out, "70:80\n", "{said:?}");
    let file = fs::metadata(bundle.path("volume/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (7, 8));
}

#[test]
fn the_containers_own_users_own_what_is_on_disk() {
    for option in ["idmap", "ridmap"] {
        let mut bundle = with_volume(
            &format!("{SHOW}; touch /volume/new; stat -c %u /volume/new"),
            json!({"options": ["rbind", option]}),
        );
        users_of_its_own(&mut bundle);
        fs::set_permissions(
            bundle.path("volume"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let said = bundle.run();
        assert_eq!(said.out, "7:8\n0\n", "{option}: {said:?}");
        let new = fs::metadata(bundle.path("volume/new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (0, 0), "{option}");
    }
}

/// Read-only stays read-only, and flags of the mount hold.
#[test]
fn flags_hold_beside_it() {
    let mut bundle = with_volume(
        "touch /volume/file || echo refused",
        json!({"options": ["bind", "idmap", "ro", "nosuid"]}),
    );
    users_of_its_own(&mut bundle);
    let said = bundle.run();
    assert_eq!(said.out, "refused\n", "{said:?}");
}

#[test]
fn without_users_to_map_to_it_is_refused() {
    let said = with_volume(SHOW, json!({"options": ["bind", "idmap"]})).run();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("no user namespace"), "{said:?}");
}

/// The kernel's own file systems have no owners to map.
#[test]
fn a_file_system_that_cannot_is_named() {
    let map = json!([{"containerID": 0, "hostID": 70, "size": 1}]);
    let mut bundle = Bundle::new("true");
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/volume", "type": "bind", "source": "/sys/kernel",
        "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map,
    }));
    let said = bundle.run();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("/sys/kernel cannot show other owners"),
        "{said:?}"
    );
}
