//! The boards there are.

use crate::arch::Arch;
use anyhow::{Context, Result};
use std::time::Duration;

/// How the board's init mounts cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One tree with all controllers, as current distributions have it.
    V2,
    /// A hierarchy for each controller, as older board support packages have it.
    V1,
    /// As V1, and a v2 tree without controllers beside it.
    Hybrid,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Layout::V2 => "v2",
            Layout::V1 => "v1",
            Layout::Hybrid => "hybrid",
        }
    }
}

/// Which tests a board is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tests {
    /// The runtime's and the network's.
    Usual,
    /// Those of the OCI command line too.
    AndOci,
    /// Those of the OCI command line alone.
    Oci,
    /// The network's alone.
    Network,
    /// What the supervisor makes of the board's watchdog, alone.
    Watchdog,
    /// The OCI command line in the hands of programs of others: engines, systemd. Debian is on its disk.
    Engines,
    /// None of ours: a suite of others', with the same disk.
    Suite,
}

/// What is at `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The initramfs's files, in a tmpfs.
    Memory,
    /// A small Debian on a disk that forgets.
    Disk,
}

impl Root {
    pub fn name(self) -> &'static str {
        match self {
            Root::Memory => "memory",
            Root::Disk => "disk",
        }
    }
}

/// What `/quota` is, with project quotas in force: what a board's state partition would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaDisk {
    Ext4,
    Xfs,
    /// Debian's kernels for machines in a cloud have none.
    F2fs,
}

impl QuotaDisk {
    /// As mount(8) calls it.
    pub fn name(self) -> &'static str {
        match self {
            QuotaDisk::Ext4 => "ext4",
            QuotaDisk::Xfs => "xfs",
            QuotaDisk::F2fs => "f2fs",
        }
    }
}

pub struct Board {
    pub name: &'static str,
    pub arch: Arch,
    /// Debian's, whose kernel it has; None is this machine's own.
    pub suite: Option<&'static str>,
    pub layout: Layout,
    /// What its kernel knows of links, of those that `agent/network/tests/wire.rs` is about.
    pub links: &'static str,
    /// What runs there.
    pub tests: Tests,
    /// Another kernel than the architecture's: Debian's package.
    pub kernel: Option<&'static str>,
    /// Further arguments of QEMU: devices.
    pub devices: &'static [&'static str],
    /// How often its watchdog resets it before it comes to its end; then it has a disk that outlives that.
    pub resets: usize,
    pub quota_disk: QuotaDisk,
    /// Whether those of the supervisor that need a disk with project quotas run there too.
    pub supervisor: bool,
    /// Tests that make no sense on this board and say so, in the order they run; any other that says so is a failure.
    pub not_here: &'static [&'static str],
    /// Tests that this kernel does not survive; they are also among those that are not here.
    pub without: &'static [&'static str],
    /// From power on to power off.
    pub time_limit: Duration,
}

/// Debian's kernels for machines in a cloud have no CAN.
const CLOUD: &str = "macvlan ipvlan vlan sctp";
const FULL: &str = "macvlan ipvlan vlan sctp can";

/// A disk that does some 400 things in a second, of nothing but zeros: as slow as an SD card, so that two may want more of it
/// than there is.
const SLOW_DISK: &[&str] = &[
    "-object",
    "throttle-group,id=slow,x-iops-total=400",
    "-blockdev",
    "throttle,node-name=disk,throttle-group=slow,file.driver=null-co,file.size=67108864,file.read-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=disk",
];

/// Those of the OCI command line that limit a disk.
const OF_A_DISK: &[&str] = &[
    "rates_of_a_disk_are_in_its_cgroup",
    "weight_of_a_disk_is_in_its_cgroup_or_refused_by_name",
];

/// What most boards are.
pub const USUAL: Board = Board {
    name: "",
    arch: Arch::X86_64,
    suite: None,
    layout: Layout::V2,
    links: CLOUD,
    tests: Tests::Usual,
    kernel: None,
    devices: SLOW_DISK,
    resets: 0,
    quota_disk: QuotaDisk::Ext4,
    supervisor: false,
    not_here: &["cgroup::a_tree_without_controllers_holds_no_limit"],
    without: &[],
    time_limit: Duration::from_secs(1800),
};

pub const BOARDS: [Board; 17] = [
    Board {
        name: "x86-64",
        tests: Tests::AndOci,
        supervisor: true,
        ..USUAL
    },
    Board {
        name: "x86-64-v1",
        tests: Tests::AndOci,
        supervisor: true,
        layout: Layout::V1,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "io::buffered_writes_keep_to_the_rate",
            "cgroup::version_two_starts_inside_filters_devices_and_kills",
            "devices::version_two_lets_rules_go_and_come",
            "cgroup::a_tree_without_controllers_holds_no_limit",
        ],
        ..USUAL
    },
    Board {
        name: "x86-64-hybrid",
        layout: Layout::Hybrid,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "io::buffered_writes_keep_to_the_rate",
        ],
        ..USUAL
    },
    Board {
        name: "x86-64-bullseye",
        suite: Some("bullseye"),
        supervisor: true,
        // 5.10 has no id-mapped mounts.
        not_here: &[
            "project::users_of_its_own_have_no_say_over_projects",
            "users::root_inside_is_nobody_outside",
            "users::a_layer_is_taken_over_both_ways",
            "users::containers_with_two_ranges_are_strangers",
            "users::a_network_belongs_to_the_container_that_it_was_made_for",
            "users::exec_enters_its_users",
            "users::what_has_no_id_in_the_range_is_refused",
            "cgroup::a_tree_without_controllers_holds_no_limit",
        ],
        ..USUAL
    },
    Board {
        name: "x86-64-bullseye-hybrid",
        suite: Some("bullseye"),
        layout: Layout::Hybrid,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "project::users_of_its_own_have_no_say_over_projects",
            "users::root_inside_is_nobody_outside",
            "users::a_layer_is_taken_over_both_ways",
            "users::containers_with_two_ranges_are_strangers",
            "users::a_network_belongs_to_the_container_that_it_was_made_for",
            "users::exec_enters_its_users",
            "users::what_has_no_id_in_the_range_is_refused",
            "io::buffered_writes_keep_to_the_rate",
        ],
        ..USUAL
    },
    Board {
        name: "x86-64-trixie",
        suite: Some("trixie"),
        ..USUAL
    },
    Board {
        name: "x86-64-forky",
        suite: Some("forky"),
        ..USUAL
    },
    Board {
        name: "x86-64-xfs",
        quota_disk: QuotaDisk::Xfs,
        supervisor: true,
        ..USUAL
    },
    Board {
        name: "x86-64-f2fs",
        links: FULL,
        kernel: Some("linux-image-amd64"),
        quota_disk: QuotaDisk::F2fs,
        supervisor: true,
        ..USUAL
    },
    Board {
        name: "x86-64-can",
        links: "macvlan ipvlan vlan sctp can controllers",
        tests: Tests::Network,
        kernel: Some("linux-image-amd64"),
        // Two controllers on one bus.
        devices: &[
            "-object",
            "can-bus,id=bus",
            "-device",
            "kvaser_pci,canbus=bus",
            "-device",
            "kvaser_pci,canbus=bus",
        ],
        not_here: &[],
        time_limit: Duration::from_secs(300),
        ..USUAL
    },
    Board {
        name: "x86-64-watchdog",
        links: FULL,
        tests: Tests::Watchdog,
        kernel: Some("linux-image-amd64"),
        devices: &["-device", "i6300esb", "-action", "watchdog=reset"],
        resets: 3,
        not_here: &[],
        time_limit: Duration::from_secs(600),
        ..USUAL
    },
    Board {
        name: "x86-64-engines",
        tests: Tests::Engines,
        devices: &[],
        not_here: &[],
        ..USUAL
    },
    Board {
        name: "arm64",
        links: FULL,
        arch: Arch::Arm64,
        ..USUAL
    },
    Board {
        name: "arm64-hybrid",
        links: FULL,
        arch: Arch::Arm64,
        layout: Layout::Hybrid,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "io::buffered_writes_keep_to_the_rate",
        ],
        ..USUAL
    },
    Board {
        name: "armhf",
        links: FULL,
        arch: Arch::Armhf,
        suite: Arch::Armhf.suite(),
        devices: &[],
        not_here: &[
            "io::a_busy_disk_is_shared_by_weight",
            "io::direct_io_keeps_to_the_rates",
            "io::buffered_writes_keep_to_the_rate",
            "cgroup::a_tree_without_controllers_holds_no_limit",
        ],
        // BUG in block/blk-throttle.c (throtl_trim_slice), Linux 6.1.176 on 32 bits, when a rate was set soon after boot.
        without: &[
            "io::direct_io_keeps_to_the_rates",
            "io::buffered_writes_keep_to_the_rate",
        ],
        ..USUAL
    },
    Board {
        name: "arm64-oci",
        links: FULL,
        arch: Arch::Arm64,
        tests: Tests::Oci,
        devices: &[],
        not_here: OF_A_DISK,
        ..USUAL
    },
    Board {
        name: "armhf-oci",
        links: FULL,
        arch: Arch::Armhf,
        suite: Arch::Armhf.suite(),
        tests: Tests::Oci,
        devices: &[],
        layout: Layout::Hybrid,
        not_here: OF_A_DISK,
        ..USUAL
    },
];

impl Board {
    /// Whether the tests of the OCI command line run there.
    pub fn has_oci(&self) -> bool {
        matches!(self.tests, Tests::AndOci | Tests::Oci)
    }

    /// Whether it has a disk that `/dev/vda` is.
    pub fn has_disk(&self) -> bool {
        self.resets > 0 || self.devices == SLOW_DISK || self.root() == Root::Disk
    }

    pub fn root(&self) -> Root {
        match self.tests {
            Tests::Engines | Tests::Suite => Root::Disk,
            _ => Root::Memory,
        }
    }

    /// For the initramfs, its copy in a tmpfs, and the tests' containers; of engines too, which are many times as large.
    pub fn memory_mib(&self) -> u32 {
        match self.root() {
            Root::Memory => 768,
            Root::Disk => 1280,
        }
    }

    /// Whether its kernel survives a rate of reading or writing.
    pub fn bears_io_rates(&self) -> bool {
        !self.without.contains(&"io::direct_io_keeps_to_the_rates")
    }

    pub fn named(name: &str) -> Result<&'static Board> {
        let names = || BOARDS.map(|board| board.name).join(", ");
        BOARDS
            .iter()
            .find(|board| board.name == name)
            .with_context(|| format!("no board is called {name}; there are: {}", names()))
    }
}
