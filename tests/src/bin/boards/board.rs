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

pub const BOARDS: [Board; 14] = [
    Board {
        name: "x86-64",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: None,
        tests: Tests::AndOci,
        kernel: None,
        devices: &[],
        supervisor: true,
        resets: 0,
        layout: Layout::V2,
        not_here: &["cgroup::a_tree_without_controllers_holds_no_limit"],
        without: &[],
        time_limit: Duration::from_secs(1800),
    },
    Board {
        name: "x86-64-v1",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: None,
        tests: Tests::AndOci,
        kernel: None,
        devices: &[],
        supervisor: true,
        resets: 0,
        layout: Layout::V1,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "io::buffered_writes_keep_to_the_rate",
            "cgroup::version_two_starts_inside_filters_devices_and_kills",
            "devices::version_two_lets_rules_go_and_come",
            "cgroup::a_tree_without_controllers_holds_no_limit",
        ],
        without: &[],
        time_limit: Duration::from_secs(1800),
    },
    Board {
        name: "x86-64-hybrid",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: None,
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::Hybrid,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "io::buffered_writes_keep_to_the_rate",
        ],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "x86-64-bullseye",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: Some("bullseye"),
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: true,
        resets: 0,
        layout: Layout::V2,
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
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "x86-64-bullseye-hybrid",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: Some("bullseye"),
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
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
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "x86-64-trixie",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: Some("trixie"),
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::V2,
        not_here: &["cgroup::a_tree_without_controllers_holds_no_limit"],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "x86-64-forky",
        links: CLOUD,
        arch: Arch::X86_64,
        suite: Some("forky"),
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::V2,
        not_here: &["cgroup::a_tree_without_controllers_holds_no_limit"],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "x86-64-can",
        links: "macvlan ipvlan vlan sctp can controllers",
        arch: Arch::X86_64,
        suite: None,
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
        supervisor: false,
        resets: 0,
        layout: Layout::V2,
        not_here: &[],
        without: &[],
        time_limit: Duration::from_secs(300),
    },
    Board {
        name: "x86-64-watchdog",
        links: FULL,
        arch: Arch::X86_64,
        suite: None,
        tests: Tests::Watchdog,
        kernel: Some("linux-image-amd64"),
        devices: &["-device", "i6300esb", "-action", "watchdog=reset"],
        supervisor: false,
        resets: 3,
        layout: Layout::V2,
        not_here: &[],
        without: &[],
        time_limit: Duration::from_secs(600),
    },
    Board {
        name: "arm64",
        links: FULL,
        arch: Arch::Arm64,
        suite: None,
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::V2,
        not_here: &["cgroup::a_tree_without_controllers_holds_no_limit"],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "arm64-hybrid",
        links: FULL,
        arch: Arch::Arm64,
        suite: None,
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::Hybrid,
        not_here: &[
            "memory::memory_that_is_promised_is_not_taken_back",
            "stats::waiting_for_cpu_is_told_of_who_waits",
            "io::buffered_writes_keep_to_the_rate",
        ],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "armhf",
        links: FULL,
        arch: Arch::Armhf,
        suite: Arch::Armhf.suite(),
        tests: Tests::Usual,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::V2,
        not_here: &[
            "io::direct_io_keeps_to_the_rates",
            "io::buffered_writes_keep_to_the_rate",
            "cgroup::a_tree_without_controllers_holds_no_limit",
        ],
        // BUG in block/blk-throttle.c (throtl_trim_slice), Linux 6.1.176 on 32 bits, when a rate was set soon after boot.
        without: &[
            "io::direct_io_keeps_to_the_rates",
            "io::buffered_writes_keep_to_the_rate",
        ],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "arm64-oci",
        links: FULL,
        arch: Arch::Arm64,
        suite: None,
        tests: Tests::Oci,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::V2,
        not_here: &[],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
    Board {
        name: "armhf-oci",
        links: FULL,
        arch: Arch::Armhf,
        suite: Arch::Armhf.suite(),
        tests: Tests::Oci,
        kernel: None,
        devices: &[],
        supervisor: false,
        resets: 0,
        layout: Layout::Hybrid,
        not_here: &[],
        without: &[],
        time_limit: Duration::from_secs(900),
    },
];

impl Board {
    /// Whether the tests of the OCI command line run there.
    pub fn has_oci(&self) -> bool {
        matches!(self.tests, Tests::AndOci | Tests::Oci)
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
