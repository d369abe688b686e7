//! What stands on docs/benchmarks.md: `make bench` prints it under these names, and a test holds the page to them.

/// Parts of the bench, by the word that asks for one, and their titles in the order of the page.
pub const PARTS: [(&str, &str); 9] = [
    ("sizes", "Sizes"),
    ("launch", "Launch"),
    ("oci", "OCI command line"),
    ("idle", "Idle containers"),
    ("inside", "Inside a container"),
    ("network", "Network"),
    ("delta", "Delta"),
    ("writes", "Written to the block device"),
    ("memory", "Memory"),
];

/// Rows of the launch.
pub const LAUNCH: [&str; 13] = [
    FLOOR,
    FLOOR_LAYERED,
    "coracle-supervisor",
    "coracle-supervisor, the board's users",
    "coracle-supervisor, bridge and a published port",
    "coracle-supervisor, bridge and a published port, the board's users",
    CRUN,
    RUNC,
    OTHERS[0],
    OTHERS[1],
    OTHERS[2],
    OTHERS[3],
    OTHERS[4],
];
/// The system calls of a container and nothing else.
pub const FLOOR: &str = "floor";
/// With what a launch of ours has.
pub const FLOOR_LAYERED: &str = "floor with overlay and seccomp";
/// What all are compared with.
pub const CRUN: &str = "crun run";
/// The other peer.
pub const RUNC: &str = "runc run";
/// Those that are no OCI runtimes, by their programs' names.
pub const OTHERS: [&str; 5] = ["bwrap", "lxc-execute", "systemd-nspawn", "podman", "docker"];
