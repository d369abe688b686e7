//! `--systemd-cgroup` with a real systemd, which is the first process of namespaces of its own. Needs root, busybox-static,
//! systemd and dbus.

mod support;

use std::fs;

use serde_json::json;
use support::Bundle;
use support::systemd::{By, Systemd};

/// A container's name, and the unit that it is.
fn scope(bundle: &mut Bundle) -> (String, String) {
    let id = bundle.id();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("coracle.slice:test:{id}"));
    let unit = format!("test-{id}.scope");
    (id, unit)
}

/// Limits in the kernel's files: hierarchy of v1, its file, v2's file.
const FILES: [(&str, &str, &str); 4] = [
    ("memory", "memory.limit_in_bytes", "memory.max"),
    ("pids", "pids.max", "pids.max"),
    ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    ("cpu", "cpu.shares", "cpu.weight"),
];

fn is_v1() -> bool {
    !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn limits(systemd: &Systemd, unit: &str) -> Vec<String> {
    let read = |(hierarchy, v1, v2): (&str, &str, &str)| {
        let file = if is_v1() { v1 } else { v2 };
        let path = systemd.file(hierarchy, &format!("coracle.slice/{unit}/{file}"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim_end().to_owned()
    };
    FILES.into_iter().map(read).collect()
}

fn lives_as_a_scope(by: By) {
    let systemd = Systemd::start(by);
    let mut bundle = Bundle::new("sleep 300");
    let (id, unit) = scope(&mut bundle);
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864}, "pids": {"limit": 64},
        "cpu": {"quota": 25_000, "period": 50_000, "shares": 512},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    // A node that is there and may not be opened.
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    bundle.save();
    systemd.ok(&bundle, &["create", &id]);
    systemd.ok(&bundle, &["start", &id]);

    let memory = if is_v1() { "MemoryLimit" } else { "MemoryMax" };
    for (property, value) in [
        ("ActiveState", "active"),
        ("Slice", "coracle.slice"),
        ("Delegate", "yes"),
        (memory, "67108864"),
        ("TasksMax", "64"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("CPUQuotaPeriodUSec", "50ms"),
        ("DevicePolicy", "strict"),
    ] {
        assert_eq!(systemd.shown(&unit, property), value, "{property}");
    }
    let quota = if is_v1() { "25000" } else { "25000 50000" };
    let weight = if is_v1() { "512" } else { "59" };
    let expected = ["67108864", "64", quota, weight];
    assert_eq!(limits(&systemd, &unit), expected);

    let devices = |when: &str| {
        let exec = |args: &[&str]| systemd.runtime(&bundle, &[&["exec", &id][..], args].concat());
        let open = exec(&["/bin/dd", "if=/dev/null", "of=/dev/null"]);
        assert_eq!(open.code, 0, "{when}: {open:?}");
        let shut = exec(&["/bin/dd", "if=/dev/kmsg", "of=/dev/null", "count=1"]);
        assert_ne!(shut.code, 0, "{when}: {shut:?}");
        assert!(shut.err.contains("not permitted"), "{when}: {shut:?}");
    };
    devices("at first");
    systemd.reload();
    assert_eq!(limits(&systemd, &unit), expected, "after a reload");
    devices("after a reload");

    let changed = [
        "update",
        "--memory",
        "33554432",
        "--pids-limit",
        "32",
        "--cpu-quota",
        "10000",
        &id,
    ];
    systemd.ok(&bundle, &changed);
    assert_eq!(systemd.shown(&unit, memory), "33554432");
    assert_eq!(systemd.shown(&unit, "TasksMax"), "32");
    let quota = if is_v1() { "10000" } else { "10000 50000" };
    let expected = ["33554432", "32", quota, weight];
    assert_eq!(limits(&systemd, &unit), expected);
    systemd.reload();
    assert_eq!(
        limits(&systemd, &unit),
        expected,
        "after an update and a reload"
    );

    let status = || {
        let state: serde_json::Value =
            serde_json::from_str(&systemd.ok(&bundle, &["state", &id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    systemd.ok(&bundle, &["pause", &id]);
    assert_eq!(status(), "paused");
    systemd.ok(&bundle, &["resume", &id]);
    assert_eq!(status(), "running");
    let pids = systemd.ok(&bundle, &["ps", "-f", "json", &id]);
    let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
    assert_eq!(pids.len(), 1, "what held the scope has ended");

    // Nor is it lost to systemd, which would take an empty scope away.
    assert_eq!(systemd.shown(&unit, "ActiveState"), "active");
    systemd.ok(&bundle, &["kill", &id, "KILL"]);
    support::wait_until("the end", || status() == "stopped");
    systemd.ok(&bundle, &["delete", &id]);
    assert_eq!(systemd.shown(&unit, "LoadState"), "not-found");
    for (hierarchy, ..) in FILES.into_iter().chain([
        ("freezer", "", ""),
        ("systemd", "", ""),
        ("unified", "", ""),
    ]) {
        let folder = systemd.file(hierarchy, &format!("coracle.slice/{unit}"));
        assert!(!folder.exists(), "{}", folder.display());
    }
}

#[test]
fn a_scope_keeps_its_limits_when_systemd_is_reloaded() {
    lives_as_a_scope(By::Bus);
}

#[test]
fn a_board_without_a_bus_has_scopes_too() {
    lives_as_a_scope(By::Itself);
}

#[test]
fn a_unit_that_is_there_is_left_alone_and_a_failed_start_leaves_none() {
    let systemd = Systemd::start(By::Itself);
    let mut bundle = Bundle::new("sleep 300");
    let (id, unit) = scope(&mut bundle);
    bundle.save();
    systemd.ok(&bundle, &["run", "--detach", &id]);
    let second = bundle.id();
    let refused = systemd.runtime(&bundle, &["create", &second]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains(&unit) && refused.err.contains("UnitExists"),
        "{refused:?}"
    );
    assert_eq!(systemd.shown(&unit, "ActiveState"), "active");
    assert_eq!(systemd.ok(&bundle, &["list", "-q"]).trim_end(), id);
    systemd.ok(&bundle, &["delete", "--force", &id]);
    assert_eq!(systemd.shown(&unit, "LoadState"), "not-found");

    bundle.config["process"]["args"] = json!(["/nothing"]);
    bundle.save();
    let refused = systemd.runtime(&bundle, &["create", &second]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("no such file"), "{refused:?}");
    assert_eq!(systemd.shown(&unit, "LoadState"), "not-found");
    assert_eq!(systemd.ok(&bundle, &["list", "-q"]), "");
}

#[test]
fn without_systemd_it_says_what_to_do() {
    let mut bundle = Bundle::new("true");
    let (id, unit) = scope(&mut bundle);
    bundle.save();
    let nowhere = format!("unix:path={}", bundle.path("no-bus").display());
    let output = bundle
        .command(&["--systemd-cgroup", "run", &id])
        .env("DBUS_SYSTEM_BUS_ADDRESS", nowhere)
        .output();
    let said = support::said(output.unwrap());
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("no-bus") && said.err.contains("cgroupfs"),
        "{said:?}"
    );
    assert_eq!(bundle.ok(&["list", "-q"]), "");

    let plain = bundle.run();
    assert_eq!(plain.code, 1, "{plain:?}");
    assert!(plain.err.contains("--systemd-cgroup"), "{plain:?}");
    bundle.config["linux"]["cgroupsPath"] = json!("/a/b");
    bundle.save();
    let path = bundle.refused(&["--systemd-cgroup", "run", &id]);
    assert!(path.contains("slice:prefix:name"), "{path}");
    assert!(!support::cgroup(&unit).exists());
}
