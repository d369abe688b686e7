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
        ("sys/class/rtc/rtc0/since_epoch", "1760000000\n"),
        ("sys/class/misc/hw_random/rng_current", "iproc-rng200\n"),
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
    let facts = KernelFacts::read(complete().path(), &[]);
    assert_eq!(facts.version, (6, 12));
    assert_eq!(facts.cgroup.layout, CgroupLayout::V2);
    let found = gaps(
        &facts,
        &Trials::default(),
        &Profile::generic(Architecture::Aarch64),
    );
    assert!(
        found.iter().all(|g| g.severity == Severity::Note),
        "{found:?}"
    );
    assert_eq!(subjects(&found), ["kernel memory limit"]);
}

#[test]
fn a_32_bit_kernel_that_could_set_rates_is_told_of_as_not_known() {
    let of = |architecture, root: &Path| {
        let facts = KernelFacts::read(root, &[]);
        let found = gaps(&facts, &Trials::default(), &Profile::generic(architecture));
        let row = found
            .into_iter()
            .find(|gap| gap.subject == "IO rate on 32 bits");
        row.map(|gap| (gap.severity, gap.certain, gap.cost, gap.remedy))
    };
    let root = complete();
    let (severity, certain, cost, remedy) = of(Architecture::Arm, root.path()).unwrap();
    assert_eq!((severity, certain), (Severity::Wanted, false));
    assert!(cost.contains("may stop the kernel"), "{cost}");
    assert!(remedy.contains("leave `io_*` out"), "{remedy}");
    assert_eq!(of(Architecture::Aarch64, root.path()), None);
    // No controller, no rate.
    fs::write(
        root.path().join("sys/fs/cgroup/cgroup.controllers"),
        "cpu memory pids\n",
    )
    .unwrap();
    assert_eq!(of(Architecture::Arm, root.path()), None);
}

#[test]
fn an_empty_root_lacks_everything_and_each_gap_tells_cost_and_remedy() {
    let empty = tempfile::tempdir().unwrap();
    let facts = KernelFacts::read(empty.path(), &[]);
    assert_eq!(facts.nf_tables, Presence::Unknown);
    let found = gaps(
        &facts,
        &Trials::default(),
        &Profile::generic(Architecture::Aarch64),
    );
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
            KernelFacts::read(root.path(), &[]).cgroup.layout,
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
    let facts = KernelFacts::read(root.path(), &[]);
    let found = gaps(
        &facts,
        &Trials::default(),
        &Profile::generic(Architecture::Aarch64),
    );
    let memory = found.iter().find(|g| g.subject == "cgroup memory").unwrap();
    assert_eq!(memory.severity, Severity::Needed);
    assert!(
        memory.remedy.contains("cgroup_enable=memory"),
        "{}",
        memory.remedy
    );
}

fn board(name: &str) -> Profile {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../config/boards")
        .join(format!("{name}.toml"));
    Profile::load(&file).unwrap()
}

fn gap<'a>(found: &'a [Gap], subject: &str) -> Option<&'a Gap> {
    found.iter().find(|gap| gap.subject == subject)
}

/// What the vendor's device tree for the Raspberry Pi puts before cmdline.txt.
const PI: &str =
    "coherent_pool=1M cgroup_disable=memory numa_policy=interleave root=/dev/mmcblk0p2";

#[test]
fn the_raspberry_pis_memory_controller_is_turned_on_in_cmdline_txt() {
    let root = complete();
    let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
    // No /proc/cgroups: the command line alone tells that it is off and not missing.
    write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids");
    write("proc/cmdline", PI);
    let pi = board("raspberrypi4");
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &pi,
    );
    let memory = gap(&found, "cgroup memory").unwrap();
    assert_eq!(memory.severity, Severity::Needed);
    for part in ["cgroup_enable=memory", "/boot/firmware/cmdline.txt"] {
        assert!(memory.remedy.contains(part), "{}", memory.remedy);
    }
    assert!(gap(&found, "command line cgroup_enable=memory").is_some());

    write("proc/cmdline", &format!("{PI} cgroup_enable=memory"));
    write(
        "sys/fs/cgroup/cgroup.controllers",
        "cpuset cpu io memory pids",
    );
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &pi,
    );
    assert_eq!(gap(&found, "cgroup memory"), None);
    assert_eq!(gap(&found, "command line cgroup_enable=memory"), None);
    // Another kernel has it on without being asked: nothing to complain about.
    write("proc/cmdline", "root=/dev/mmcblk0p2");
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &pi,
    );
    assert_eq!(gap(&found, "command line cgroup_enable=memory"), None);
}

#[test]
fn a_kernel_without_memcg_v1_is_told_from_one_without_memory_limits() {
    const CPU: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
    let root = complete();
    let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
    write("proc/self/mountinfo", CPU);
    let remedy = || {
        let found = gaps(
            &KernelFacts::read(root.path(), &[]),
            &Trials::default(),
            &board("generic-arm64"),
        );
        gap(&found, "cgroup memory").unwrap().remedy.clone()
    };
    assert!(remedy().contains("CONFIG_MEMCG_V1"), "{}", remedy());
    write("proc/sys/kernel/osrelease", "6.6.31-v8+");
    assert!(!remedy().contains("CONFIG_MEMCG_V1"), "{}", remedy());
    write("proc/sys/kernel/osrelease", "6.12.34");
    write("proc/cmdline", PI);
    assert!(remedy().contains("cgroup_enable=memory"), "{}", remedy());
}

#[test]
fn what_was_tried_wins_over_what_was_read() {
    let facts = KernelFacts::read(complete().path(), &[]);
    assert_eq!(facts.overlayfs, Presence::Present);
    let mut trials = Trials::default();
    trials.note("overlayfs", Outcome::Fails(cut("Invalid argument")));
    trials.note("CPU quota", Outcome::Fails(cut("cpu.max is not there")));
    trials.note("IO limit", Outcome::Fails(cut("io.max is not there")));
    trials.note(
        "memory guarantee",
        Outcome::Fails(cut("memory.min is not there")),
    );
    trials.note(
        "IO weight",
        Outcome::Fails(cut("vda runs `[none]`, and iocost is off")),
    );
    trials.note("veth", Outcome::Works);
    trials.note("bridge", Outcome::NotTried(cut("it needs root")));
    let found = gaps(&facts, &trials, &board("generic-arm64"));
    let overlay = gap(&found, "overlayfs").unwrap();
    assert_eq!(overlay.seen.as_deref(), Some("Invalid argument"));
    assert!(overlay.certain);
    let quota = gap(&found, "CPU quota").unwrap();
    assert_eq!(quota.severity, Severity::Needed);
    assert!(quota.remedy.contains("CONFIG_CFS_BANDWIDTH"));
    assert!(
        gap(&found, "IO limit")
            .unwrap()
            .remedy
            .contains("CONFIG_BLK_DEV_THROTTLING")
    );
    let guarantee = gap(&found, "memory guarantee").unwrap();
    assert_eq!(guarantee.severity, Severity::Note);
    assert!(guarantee.cost.contains("memory_min") && guarantee.remedy.contains("cgroup v2"));
    let weight = gap(&found, "IO weight").unwrap();
    assert!(weight.remedy.contains("CONFIG_IOSCHED_BFQ") && weight.remedy.contains("IOCOST"));
    for none in ["veth", "bridge", "memory limit"] {
        assert_eq!(gap(&found, none), None, "{none}");
    }
    // Nobody could read that veth is there; it was tried, and is.
    let root = complete();
    fs::remove_dir_all(root.path().join("lib")).unwrap();
    let facts = KernelFacts::read(root.path(), &[]);
    assert_eq!(facts.veth, Presence::Unknown);
    assert_eq!(
        gap(&gaps(&facts, &trials, &board("generic-arm64")), "veth"),
        None
    );
}

#[test]
fn whatever_fails_when_it_is_tried_is_a_gap_with_its_cost_and_its_remedy() {
    let mut failed = Trials::default();
    for trial in Trials::run(Path::new("/"), None).iter() {
        failed.note(&trial.subject, Outcome::Fails(cut("refused")));
    }
    let root = complete();
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &failed,
        &board("raspberrypi4"),
    );
    assert!(failed.iter().count() > 20);
    for trial in failed.iter() {
        let subject = trial.subject.as_str();
        let gap = gap(&found, subject).unwrap_or_else(|| panic!("{subject} is not told"));
        assert!(gap.certain && !gap.cost.is_empty() && !gap.remedy.is_empty());
        assert_eq!(gap.seen.as_deref(), Some("refused"), "{subject}");
    }
}

#[test]
fn a_board_that_wants_one_hierarchy_says_so_on_another() {
    let root = complete();
    let layout = |board_name: &str| {
        let facts = KernelFacts::read(root.path(), &[]);
        let found = gaps(&facts, &Trials::default(), &board(board_name));
        gap(&found, "cgroup layout").cloned()
    };
    assert_eq!(layout("jetson-orin-nano"), None);
    fs::write(root.path().join("proc/self/mountinfo"), V1_MOUNTS).unwrap();
    let told = layout("jetson-orin-nano").unwrap();
    assert!(told.cost.contains("run with v2"), "{}", told.cost);
    assert_eq!(layout("beaglebone-black"), None);
}

#[test]
fn watchdog_clock_and_noise_are_looked_at() {
    let root = complete();
    let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
    write("sys/class/watchdog/watchdog0/max_timeout", "10\n");
    write("sys/class/watchdog/watchdog0/state", "active\n");
    write("sys/class/rtc/rtc0/since_epoch", "86400\n");
    write("sys/class/misc/hw_random/rng_current", "none\n");
    let facts = KernelFacts::read(root.path(), &[]);
    assert!(facts.watchdogs[0].active);
    assert_eq!(facts.watchdogs[0].identity, "Broadcom");
    let found = gaps(&facts, &Trials::default(), &board("raspberrypi4"));
    let timeout = gap(&found, "watchdog timeout").unwrap();
    assert!(timeout.cost.contains("10 s at most"), "{}", timeout.cost);
    assert!(gap(&found, "real-time clock is set").is_some());
    assert!(gap(&found, "hardware noise").is_some());
    write("sys/class/watchdog/watchdog0/max_timeout", "0\n");
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &board("raspberrypi4"),
    );
    assert_eq!(gap(&found, "watchdog timeout"), None);
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
    let facts = KernelFacts::read(root.path(), &[]);
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
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &Profile::generic(Architecture::Aarch64),
    );
    assert!(subjects(&found).contains(&"CONFIG_NFT_MASQ"), "{found:?}");
    assert!(!subjects(&found).contains(&"CONFIG_VETH"));
    // Those of networks say what an app then does not get.
    let tbf = found
        .iter()
        .find(|gap| gap.subject == "CONFIG_NET_SCH_TBF")
        .unwrap();
    assert_eq!(tbf.severity, Severity::Wanted);
    assert!(
        tbf.cost.contains("with an `ingress_rate` is refused"),
        "{tbf:?}"
    );
    // What was tried is told once, under its own name, whatever the configuration says.
    let mut trials = Trials::default();
    trials.note("ingress rates", Outcome::Fails(cut("refused")));
    trials.note("macvlan links", Outcome::Works);
    let tried = gaps(
        &KernelFacts::read(root.path(), &[]),
        &trials,
        &Profile::generic(Architecture::Aarch64),
    );
    let rates = gap(&tried, "ingress rates").unwrap();
    assert!(rates.cost.contains("`ingress_rate` is refused") && rates.seen.is_some());
    assert!(rates.remedy.contains("CONFIG_NET_SCH_TBF"), "{rates:?}");
    for silent in [
        "CONFIG_NET_SCH_TBF",
        "CONFIG_NET_SCHED",
        "CONFIG_MACVLAN",
        "macvlan links",
    ] {
        assert!(!subjects(&tried).contains(&silent), "{silent}");
    }
    assert!(subjects(&tried).contains(&"CONFIG_IPVLAN"));
    let text = NETWORK_OPTIONS
        .map(|(option, _)| format!("{option}=m\n"))
        .concat();
    fs::write(root.path().join("boot/config-6.12.34"), text).unwrap();
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &Profile::generic(Architecture::Aarch64),
    );
    assert!(!subjects(&found).contains(&"CONFIG_NET_SCH_TBF"));
}

#[test]
fn older_names_are_asked_for_where_the_kernel_has_them() {
    let root = complete();
    fs::create_dir_all(root.path().join("boot")).unwrap();
    let path = root.path().join("boot/config-6.12.34");
    let told = |text: &str| {
        fs::write(&path, text).unwrap();
        let facts = KernelFacts::read(root.path(), &[]);
        let profile = Profile::generic(Architecture::Aarch64);
        gaps(&facts, &Trials::default(), &profile)
    };
    let found =
        told("CONFIG_NF_TABLES=y\n# CONFIG_NF_TABLES_SET is not set\nCONFIG_NFT_COUNTER=m\n");
    let set = gap(&found, "CONFIG_NF_TABLES_SET").unwrap();
    assert!(set.cost.contains("networks with a bridge"), "{set:?}");
    assert!(gap(&found, "CONFIG_NFT_COUNTER").is_none());
    assert!(gap(&found, "CONFIG_NFT_SET_HASH").is_none());
    // A fragment of nothing that is set says nothing.
    let found = told("# CONFIG_NF_TABLES_SET is not set\n");
    assert!(gap(&found, "CONFIG_NF_TABLES_SET").is_none());
}

#[test]
fn of_a_configuration_that_is_kept_which_is_asked_for_and_a_profiles_own_is_told() {
    let root = complete();
    fs::create_dir_all(root.path().join("boot")).unwrap();
    let others: String = (0..20_000)
        .map(|n| format!("CONFIG_OTHER_{n}=m\n"))
        .collect();
    let text = format!("{others}CONFIG_BRIDGE=m\nCONFIG_BCM2835_WDT=y\nCONFIG_MMC_BCM2835=7\n");
    fs::write(root.path().join("boot/config-6.12.34"), text).unwrap();
    let pi = board("raspberrypi3");
    let facts = KernelFacts::read(root.path(), &pi.kernel.required_options);
    let kept = serde_json::to_value(&facts.options).unwrap();
    let expected =
        serde_json::json!({ "CONFIG_BRIDGE": "module", "CONFIG_BCM2835_WDT": "built_in" });
    assert_eq!(kept, expected);
    let found = gaps(&facts, &Trials::default(), &pi);
    let own = gap(&found, "CONFIG_MMC_BCM2835").unwrap();
    assert_eq!((own.severity, own.certain), (Severity::Wanted, true));
    assert!(gap(&found, "CONFIG_BCM2835_WDT").is_none());
    assert!(gap(&found, "CONFIG_VETH").is_some());
    // No configuration is no finding.
    fs::write(root.path().join("boot/config-6.12.34"), "# nothing\n").unwrap();
    let facts = KernelFacts::read(root.path(), &pi.kernel.required_options);
    assert_eq!(facts.options.state("CONFIG_VETH"), OptionState::Unknown);
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
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
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
    let set = KernelOptions::from_text(&text, &[]);
    for (option, _) in CORACLE_OPTIONS.iter().chain(&NETWORK_OPTIONS) {
        assert_ne!(
            set.state(option),
            OptionState::Off,
            "{option} is not in coracle.cfg"
        );
    }
}

/// Whatever a remedy tells people to set is set by the fragment, but for v1's halves of controllers:
/// an image of ours mounts v2.
#[test]
fn the_layer_s_kernel_fragment_sets_each_option_that_a_remedy_names() {
    let empty = tempfile::tempdir().unwrap();
    let mut trials = Trials::default();
    let mut asked = std::collections::BTreeSet::new();
    let subjects = [
        "memory limit",
        "memory guarantee",
        "memory reservation",
        "CPU quota",
        "CPU weight",
        "process limit",
        "fixed cores",
    ];
    for subject in subjects.into_iter().chain([
        "IO limit",
        "IO weight",
        "entropy",
        "disk quota",
        "disk image",
        "writable state folder",
    ]) {
        trials.note(subject, Outcome::Fails(cut("no")));
    }
    for need in Need::OF_NETWORKS {
        trials.note(need.subject(), Outcome::Fails(cut("no")));
    }
    for root in [empty.path(), complete().path()] {
        for gap in gaps(
            &KernelFacts::read(root, &[]),
            &trials,
            &board("generic-arm64"),
        ) {
            let words = gap
                .remedy
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            asked.extend(
                words
                    .filter(|w| w.starts_with("CONFIG_"))
                    .map(str::to_owned),
            );
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    let fragment = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../yocto-layer/meta-coracle/recipes-kernel/linux/files/coracle.cfg");
    let text = fs::read_to_string(&fragment).unwrap();
    for option in asked {
        let v1_only = ["CONFIG_MEMCG_V1", "CONFIG_CPUSETS_V1"].contains(&option.as_str());
        let as_asked = |line: &str| {
            ["y", "m"]
                .map(|set| format!("{option}={set}"))
                .iter()
                .any(|set| set == line)
        };
        assert_ne!(text.lines().any(as_asked), v1_only, "{option}");
    }
}

#[test]
fn facts_and_gaps_can_be_written_as_json() {
    let facts = KernelFacts::read(complete().path(), &[]);
    let json = serde_json::to_value(&facts).unwrap();
    assert_eq!(json["cgroup"]["layout"], "v2");
    assert_eq!(json["overlayfs"], "present");
    let found = gaps(
        &facts,
        &Trials::default(),
        &Profile::generic(Architecture::Aarch64),
    );
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
        let facts = KernelFacts::read(root.path(), &[]);
        prop_assert_eq!(facts.cgroup.controllers.len(), 8);
    }
}

#[test]
fn switches_that_may_not_be_touched_are_told_with_the_sysctl() {
    let text = include_str!("../../../config/boards/generic-x86-64.toml");
    let with = |lines: &str| {
        let text = text.replacen("[network]\n", &format!("[network]\n{lines}\n"), 1);
        Profile::parse(&text, Path::new("x.toml")).unwrap()
    };
    let told = |files: &[(&str, &str)], lines: &str| {
        let root = root(files);
        let facts = KernelFacts::read(root.path(), &[]);
        let found = gaps(&facts, &Trials::default(), &with(lines));
        let own = found
            .into_iter()
            .filter(|gap| gap.subject.starts_with("net."));
        own.collect::<std::vec::Vec<_>>()
    };
    let off = [
        ("proc/sys/net/ipv4/ip_forward", "0\n"),
        ("proc/sys/net/ipv6/conf/all/forwarding", "0\n"),
        ("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
    ];
    let on = [
        ("proc/sys/net/ipv4/ip_forward", "1\n"),
        ("proc/sys/net/ipv6/conf/all/forwarding", "2\n"),
        ("proc/sys/net/bridge/bridge-nf-call-iptables", "0\n"),
    ];
    let found = told(&off, "forwarding = \"keep\"");
    let subjects: std::vec::Vec<&str> = found.iter().map(|gap| gap.subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "net.ipv4.ip_forward",
            "net.ipv6.conf.all.forwarding",
            "net.bridge.bridge-nf-call-iptables"
        ]
    );
    assert!(found[0].remedy.contains("sysctl -w net.ipv4.ip_forward=1"));
    assert_eq!(found[0].severity, Severity::Wanted);
    // What Coracle may do itself is no gap.
    assert_eq!(told(&off, "bridge_nf = \"off\""), []);
    assert_eq!(told(&on, "forwarding = \"keep\""), []);
    // Nothing is said of what a kernel does not have.
    assert_eq!(told(&[], "forwarding = \"keep\""), []);
}

/// A board with the profile's `eth0`, free, before a metered `wwan0`, and default routes with these metrics.
fn order_of_uplinks(routes: &[(&str, u32)], up: &[&str]) -> Option<Gap> {
    let list = routes.iter().map(|(link, metric)| {
        format!("{link}\t00000000\t00000000\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n")
    });
    let root = complete();
    let write = |path: &str, text: &str| {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("proc/net/route", &list.collect::<String>());
    for link in ["eth0", "wwan0"] {
        write(&format!("sys/class/net/{link}/device/vendor"), "0x1af4\n");
        let state = if up.contains(&link) { "up" } else { "down" };
        write(&format!("sys/class/net/{link}/operstate"), state);
    }
    let mut profile = Profile::generic(Architecture::Aarch64);
    profile.network = toml::from_str(
        "modes = [\"bridge\"]\nuplinks = [{ link = \"eth0\", kind = \"ethernet\", cost = \"free\" }, \
         { link = \"wwan0\", kind = \"lte\", cost = \"metered\" }]",
    )
    .unwrap();
    let found = gaps(
        &KernelFacts::read(root.path(), &[]),
        &Trials::default(),
        &profile,
    );
    gap(&found, "order of uplinks").cloned()
}

#[test]
fn routes_that_do_not_follow_the_order_of_uplinks_are_told_with_what_they_cost() {
    let both = ["eth0", "wwan0"];
    let against = order_of_uplinks(&[("wwan0", 100), ("eth0", 700)], &both).unwrap();
    assert_eq!(
        (against.severity, against.certain),
        (Severity::Wanted, true)
    );
    let seen = against.seen.unwrap();
    for part in [
        "eth0 has a default route with metric 700",
        "wwan0 has one with metric 100",
    ] {
        assert!(seen.contains(part), "{seen}");
    }
    assert!(against.cost.contains("by wwan0, and each byte costs money"));
    for part in [
        "below wwan0's",
        "ipv4.route-metric",
        "ipv6.route-metric",
        "RouteMetric=",
        "uplinks under [network]",
    ] {
        assert!(against.remedy.contains(part), "{}", against.remedy);
    }
    // A tie is no order of the profile's.
    assert!(order_of_uplinks(&[("eth0", 100), ("wwan0", 100)], &both).is_some());
    // A way that the profile does not name, and that is not taken either, makes it no better.
    for routes in [&[("wwan0", 700)][..], &[("wwan0", 700), ("br0", 800)]] {
        let without = order_of_uplinks(routes, &both).unwrap();
        let seen = without.seen.unwrap();
        assert!(
            seen.contains("eth0 is up and has no default route"),
            "{seen}"
        );
    }
    // It is down, and its route is there still: the kernel takes neither it nor the order.
    assert!(order_of_uplinks(&[("wwan0", 100), ("eth0", 700)], &["wwan0"]).is_some());
}

#[test]
fn routes_in_the_order_of_uplinks_or_without_the_preferred_one_are_no_gap() {
    let both = ["eth0", "wwan0"];
    for (routes, up) in [
        (&[("eth0", 100), ("wwan0", 700)][..], &both[..]),
        (&[("eth0", 100)], &both),
        // The cable is out: that is what the other one is for.
        (&[("wwan0", 700)], &["wwan0"]),
        // A way that the profile does not name is none of its order.
        (&[("wg0", 50), ("eth0", 100), ("wwan0", 700)], &both),
        (&[("wg0", 50)], &both),
        // The cable is in a bridge, which has the way out.
        (&[("br0", 100), ("wwan0", 700)], &both),
        (&[("br0", 700), ("wwan0", 700)], &both),
        (&[], &both),
    ] {
        assert_eq!(order_of_uplinks(routes, up), None, "{routes:?} {up:?}");
    }
}
