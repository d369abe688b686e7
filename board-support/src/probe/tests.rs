use super::*;
use crate::profile::{Architecture, Profile};
use proptest::prelude::*;
use std::fs;

fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    root
}

const V2_MOUNT: &str =
    "28 22 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const V1_MOUNTS: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
const NAMED: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";

/// A modern kernel with everything.
fn complete() -> tempfile::TempDir {
    let root = root(&[
        ("proc/sys/kernel/osrelease", "6.12.34\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        (
            "sys/fs/cgroup/cgroup.controllers",
            "cpuset cpu io memory hugetlb pids\n",
        ),
        ("proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n\text4\n"),
        (
            "proc/sys/kernel/seccomp/actions_avail",
            "kill_process errno log allow\n",
        ),
        (
            "lib/modules/6.12.34/modules.dep",
            "kernel/net/netfilter/nf_tables.ko: \nkernel/drivers/net/veth.ko.xz:\n",
        ),
        (
            "lib/modules/6.12.34/modules.builtin",
            "kernel/net/bridge/bridge.ko\n",
        ),
        ("sys/class/watchdog/watchdog0/identity", "Broadcom\n"),
        ("sys/class/rtc/rtc0/name", "x\n"),
    ]);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let file = root.path().join("proc/self/ns").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    root
}

fn subjects(gaps: &[Gap]) -> Vec<&str, 64> {
    gaps.iter().map(|gap| gap.subject.as_str()).collect()
}

#[test]
fn a_complete_kernel_has_only_notes() {
    let facts = KernelFacts::read(complete().path());
    assert_eq!(facts.version, (6, 12));
    assert_eq!(facts.cgroup.layout, CgroupLayout::V2);
    let found = gaps(&facts, &Profile::generic(Architecture::Aarch64));
    assert!(
        found.iter().all(|g| g.severity == Severity::Note),
        "{found:?}"
    );
    assert_eq!(subjects(&found), ["kernel memory limit"]);
}

#[test]
fn an_empty_root_lacks_everything_and_each_gap_tells_cost_and_remedy() {
    let empty = tempfile::tempdir().unwrap();
    let facts = KernelFacts::read(empty.path());
    assert_eq!(facts.nf_tables, Presence::Unknown);
    let found = gaps(&facts, &Profile::generic(Architecture::Aarch64));
    assert!(found.len() >= 15, "{found:?}");
    assert_eq!(found[0].severity, Severity::Needed);
    assert!(
        found
            .iter()
            .all(|g| !g.cost.is_empty() && !g.remedy.is_empty())
    );
    let nf_tables = found.iter().find(|g| g.subject == "nf_tables").unwrap();
    assert!(!nf_tables.certain);
}

#[test]
fn layouts_are_told_apart() {
    for (mounts, layout) in [
        ("", CgroupLayout::None),
        (NAMED, CgroupLayout::None),
        (V1_MOUNTS, CgroupLayout::V1),
        (V2_MOUNT, CgroupLayout::V2),
        (&format!("{NAMED}{V2_MOUNT}"), CgroupLayout::V2),
        (&format!("{V1_MOUNTS}{V2_MOUNT}"), CgroupLayout::Hybrid),
    ] {
        let root = root(&[("proc/self/mountinfo", mounts)]);
        assert_eq!(
            KernelFacts::read(root.path()).cgroup.layout,
            layout,
            "{mounts}"
        );
    }
}

#[test]
fn a_controller_that_the_firmware_turned_off_has_its_own_remedy() {
    let root = complete();
    fs::write(
        root.path().join("sys/fs/cgroup/cgroup.controllers"),
        "cpuset cpu io pids",
    )
    .unwrap();
    fs::write(
        root.path().join("proc/cgroups"),
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\n",
    )
    .unwrap();
    let facts = KernelFacts::read(root.path());
    let found = gaps(&facts, &Profile::generic(Architecture::Aarch64));
    let memory = found.iter().find(|g| g.subject == "cgroup memory").unwrap();
    assert_eq!(memory.severity, Severity::Needed);
    assert!(
        memory.remedy.contains("cgroup_enable=memory"),
        "{}",
        memory.remedy
    );
}

#[test]
fn symbols_tell_what_is_built_in_without_a_module_list() {
    let root = complete();
    fs::remove_dir_all(root.path().join("lib")).unwrap();
    fs::write(
        root.path().join("proc/kallsyms"),
        "0000000000000000 t nf_tables_newtable\n0000000000000000 t veth_setup\t[veth]\n",
    )
    .unwrap();
    let facts = KernelFacts::read(root.path());
    assert_eq!(facts.nf_tables, Presence::Present);
    assert_eq!(facts.veth, Presence::Present);
    assert_eq!(facts.bridge, Presence::Absent);
}

#[test]
fn a_plain_configuration_is_held_against_what_is_needed() {
    let root = complete();
    let all: String = CORACLE_OPTIONS
        .iter()
        .filter(|(option, _)| *option != "CONFIG_NFT_MASQ")
        .map(|(option, _)| format!("{option}=y\n"))
        .collect();
    fs::create_dir_all(root.path().join("boot")).unwrap();
    fs::write(root.path().join("boot/config-6.12.34"), all).unwrap();
    let found = gaps(
        &KernelFacts::read(root.path()),
        &Profile::generic(Architecture::Aarch64),
    );
    assert!(subjects(&found).contains(&"CONFIG_NFT_MASQ"), "{found:?}");
    assert!(!subjects(&found).contains(&"CONFIG_VETH"));
}

#[test]
fn an_old_kernel_is_told_what_it_lacks() {
    let root = complete();
    fs::write(
        root.path().join("proc/sys/kernel/osrelease"),
        "5.4.0-vendor+",
    )
    .unwrap();
    let found = gaps(
        &KernelFacts::read(root.path()),
        &Profile::generic(Architecture::Aarch64),
    );
    let subjects = subjects(&found);
    assert!(subjects.contains(&"openat2") && subjects.contains(&"clone3 into a cgroup"));
    assert!(!subjects.contains(&"clone3") && !subjects.contains(&"kernel memory limit"));
}

#[test]
fn the_layer_s_kernel_fragment_sets_each_option_that_the_probe_asks_for() {
    let fragment = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../yocto-layer/meta-coracle/recipes-kernel/linux/files/coracle.cfg");
    let text = fs::read_to_string(&fragment).unwrap();
    let set = KernelOptions::from_text(&text);
    for (option, _) in CORACLE_OPTIONS {
        assert_ne!(
            set.state(option),
            OptionState::Off,
            "{option} is not in coracle.cfg"
        );
    }
}

#[test]
fn facts_and_gaps_can_be_written_as_json() {
    let facts = KernelFacts::read(complete().path());
    let json = serde_json::to_value(&facts).unwrap();
    assert_eq!(json["cgroup"]["layout"], "v2");
    assert_eq!(json["overlayfs"], "present");
    let found = gaps(&facts, &Profile::generic(Architecture::Aarch64));
    assert_eq!(serde_json::to_value(&found).unwrap()[0]["severity"], "note");
}

proptest! {
    #[test]
    fn versions(text in any::<String>(), major in 1u16..99, minor in 0u16..99) {
        let _ = version(&text);
        prop_assert_eq!(version(&format!("{major}.{minor}.1-{text}")), (major, minor));
    }

    #[test]
    fn any_mountinfo_is_read_without_panic(text in any::<String>()) {
        let root = root(&[("proc/self/mountinfo", &text), ("proc/cgroups", &text)]);
        let facts = KernelFacts::read(root.path());
        prop_assert_eq!(facts.cgroup.controllers.len(), 8);
    }
}
