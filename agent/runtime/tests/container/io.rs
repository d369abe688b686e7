//! Rates of a disk: a loop device over a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coracle_runtime::cgroup::{CgroupError, DeviceRule, Devices, IoLimit};
use coracle_runtime::spec::{DeviceKind, DeviceNode};
use coracle_runtime::{Limits, prepare};

use crate::support::{self, Place, launch};

const MIB: u64 = 1 << 20;
const DISK_MIB: u64 = 32;

/// A loop device that goes away with its value, or a disk that stays.
struct Disk {
    device: PathBuf,
    major: u32,
    minor: u32,
}

impl Disk {
    fn new(place: &Place) -> Disk {
        // Another program may take the free one first.
        Disk::on(place, &["-f"; 5])
    }

    /// On the last device that is free: no test before has written to that.
    fn on_an_unused_one(place: &Place) -> Disk {
        Disk::on(place, &["/dev/loop7", "/dev/loop6", "/dev/loop5"])
    }

    fn on(place: &Place, devices: &[&str]) -> Disk {
        let file = place.path("disk");
        File::create(&file)
            .unwrap()
            .set_len(DISK_MIB * MIB)
            .unwrap();
        for device in devices {
            let mut losetup = Command::new("/bin/busybox");
            let losetup = losetup.args(["losetup", device]).arg(&file);
            if losetup.status().unwrap().success() {
                return Disk::over(&file);
            }
        }
        panic!("no loop device is free");
    }

    fn over(file: &Path) -> Disk {
        for entry in fs::read_dir("/sys/block").unwrap().flatten() {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file"));
            if backing.is_ok_and(|backing| Path::new(backing.trim()) == file) {
                return Disk::named(&Path::new("/dev").join(entry.file_name()));
            }
        }
        panic!("no loop device is over {}", file.display());
    }

    fn named(device: &Path) -> Disk {
        let facts = Path::new("/sys/block").join(device.file_name().unwrap());
        let numbers = fs::read_to_string(facts.join("dev")).unwrap();
        let (major, minor) = numbers.trim().split_once(':').unwrap();
        Disk {
            device: device.to_owned(),
            major: major.parse().unwrap(),
            minor: minor.parse().unwrap(),
        }
    }

    fn limits(&self, rates: IoLimit) -> Limits {
        let rule = DeviceRule {
            block: true,
            ..DeviceRule::char(self.major, Some(self.minor))
        };
        let mut rules = DeviceRule::DEFAULTS.to_vec();
        rules.push(rule);
        Limits {
            // v2 charges buffered writes to the one whose memory they are in.
            memory_bytes: Some(64 * MIB),
            devices: Devices::Only(rules),
            io: vec![IoLimit {
                major: self.major,
                minor: self.minor,
                ..rates
            }],
            ..Limits::default()
        }
    }

    /// As /dev/disk.
    fn node(&self) -> DeviceNode {
        DeviceNode {
            path: "/dev/disk".into(),
            kind: DeviceKind::Block,
            major: self.major,
            minor: self.minor,
            mode: 0o600,
            uid: 0,
            gid: 0,
        }
    }

    /// What says who orders its work, and lets another.
    fn scheduler(&self) -> PathBuf {
        let name = self.device.file_name().unwrap();
        Path::new("/sys/block").join(name).join("queue/scheduler")
    }

    /// What a cgroup has read of it: `MAJ:MIN rbytes=N …` on v2, `MAJ:MIN Read N` on v1.
    fn bytes_read(&self, cgroup: &str) -> u64 {
        let files = ["io.stat", "blkio.bfq.io_service_bytes"];
        let mut texts = files.iter().map(|file| format!("{cgroup}/{file}"));
        let text = texts.find_map(|file| support::parent_file(&file)).unwrap();
        let of_disk = format!("{}:{} ", self.major, self.minor);
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(&of_disk)?.split(['=', ' ']).nth(1));
        lines
            .next()
            .unwrap_or_else(|| panic!("{text}"))
            .parse()
            .unwrap()
    }

    /// How long a container takes to run `dd` with the disk as /dev/disk.
    fn timed(&self, place: &Place, dd: &str) -> Duration {
        let mut spec = place.spec(&format!("dd {dd} 2>&1 || echo failed"));
        spec.devices.push(self.node());
        let started = Instant::now();
        let outcome = launch(spec).unwrap();
        assert!(!outcome.output.contains("failed"), "{}", outcome.output);
        started.elapsed()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.device.to_string_lossy().starts_with("/dev/loop") {
            return;
        }
        let _ = Command::new("/bin/busybox")
            .arg("losetup")
            .arg("-d")
            .arg(&self.device)
            .status();
    }
}

/// Three seconds' worth takes three, and what the work itself took without a limit on a machine that may be busy. The
/// throttle lets a slice of a tenth of a second through at once.
fn assert_three_seconds(took: Duration, by_itself: Duration, what: &str) {
    let longest = 4.5 + by_itself.as_secs_f64();
    assert!(
        (2.6..longest).contains(&took.as_secs_f64()),
        "{what}: {took:?}, and {by_itself:?} without a limit"
    );
}

/// The best of some: another program may have had the machine.
fn unthrottled(disk: &Disk, place: &Place, dd: &str) -> Duration {
    let best = (0..4)
        .map(|_| disk.timed(place, dd))
        .find(|took| *took < Duration::from_millis(1500));
    best.unwrap_or_else(|| panic!("{dd}: over 1.5 s without a limit, four times"))
}

pub fn direct_io_keeps_to_the_rates() {
    let place = Place::new();
    let disk = Disk::new(&place);
    let (bytes, operations) = (Some(2 * MIB), Some(20));
    let write_bytes = "if=/dev/zero of=/dev/disk bs=64k count=96 oflag=direct";
    let read_bytes = "if=/dev/disk of=/dev/null bs=64k count=96 iflag=direct";
    let write_operations = "if=/dev/zero of=/dev/disk bs=4k count=60 oflag=direct";
    let read_operations = "if=/dev/disk of=/dev/null bs=4k count=60 iflag=direct";
    place
        .cgroup
        .set_limits(&disk.limits(IoLimit::default()))
        .unwrap();
    let by_itself = [write_bytes, read_bytes, write_operations, read_operations]
        .map(|dd| unthrottled(&disk, &place, dd));
    // Each comes on top of those before it, in a cgroup that is in use.
    let steps = [
        (
            write_bytes,
            IoLimit {
                write_bytes_per_second: bytes,
                ..IoLimit::default()
            },
        ),
        (
            read_bytes,
            IoLimit {
                read_bytes_per_second: bytes,
                ..IoLimit::default()
            },
        ),
        (
            write_operations,
            IoLimit {
                write_operations_per_second: operations,
                ..IoLimit::default()
            },
        ),
        (
            read_operations,
            IoLimit {
                read_operations_per_second: operations,
                ..IoLimit::default()
            },
        ),
    ];
    for ((dd, rates), by_itself) in steps.into_iter().zip(by_itself) {
        place.cgroup.set_limits(&disk.limits(rates)).unwrap();
        assert_three_seconds(disk.timed(&place, dd), by_itself, dd);
    }
}

pub fn buffered_writes_keep_to_the_rate() {
    let place = Place::new();
    if !support::version_two() {
        support::not_here(
            "on v1 the kernel's own threads write buffers out, and nobody is charged (blkio-controller.rst)",
        );
    }
    // The kernel goes on charging who wrote to a device's pages first, and tells only by and by that another does now.
    let disk = Disk::on_an_unused_one(&place);
    let dd = "if=/dev/zero of=/dev/disk bs=64k count=96 conv=fsync";
    place
        .cgroup
        .set_limits(&disk.limits(IoLimit::default()))
        .unwrap();
    let by_itself = unthrottled(&disk, &place, dd);
    let rates = IoLimit {
        write_bytes_per_second: Some(2 * MIB),
        ..IoLimit::default()
    };
    place.cgroup.set_limits(&disk.limits(rates)).unwrap();
    assert_three_seconds(disk.timed(&place, dd), by_itself, dd);
}

/// Told at all, or it says that it can't be; what comes of it: `a_busy_disk_is_shared_by_weight`.
pub fn weights_are_set_where_the_kernel_has_them() {
    let place = Place::new();
    let weight = Limits {
        io_weight: Some(300),
        ..Limits::default()
    };
    let files = ["io.bfq.weight", "io.weight", "blkio.bfq.weight"];
    let found: Vec<String> = files
        .iter()
        .filter_map(|file| place.cgroup_file(file))
        .collect();
    let set = place.cgroup.set_limits(&weight);
    if found.is_empty() {
        assert!(
            matches!(
                set,
                Err(CgroupError::Unsupported {
                    limit: "io weight",
                    ..
                })
            ),
            "{set:?}"
        );
        return;
    }
    set.unwrap();
    let now: Vec<String> = files
        .iter()
        .filter_map(|file| place.cgroup_file(file))
        .collect();
    assert!(now.iter().any(|text| text.contains("300")), "{now:?}");
}

/// As above, of the disk alone.
pub fn a_weight_is_set_for_one_device_where_the_kernel_has_them() {
    let place = Place::new();
    let disk = Disk::new(&place);
    let weight = |weight| {
        disk.limits(IoLimit {
            weight: Some(weight),
            ..IoLimit::default()
        })
    };
    let files = ["io.weight", "io.bfq.weight", "blkio.bfq.weight_device"];
    let there = files.iter().any(|file| place.cgroup_file(file).is_some());
    let device = format!("{}:{} ", disk.major, disk.minor);
    // A disk counts weights when BFQ orders its work, and on v2 also once it has a model of what that costs.
    let scheduler = disk.scheduler();
    let before = fs::read_to_string(&scheduler).unwrap();
    let before = before.split(['[', ']']).nth(1).unwrap_or("none");
    if there && fs::read_to_string(&scheduler).unwrap().contains("bfq") {
        fs::write(&scheduler, "bfq").unwrap();
    }
    let costs = Path::new("/sys/fs/cgroup/io.cost.qos");
    if costs.exists() {
        fs::write(costs, format!("{device}enable=1")).unwrap();
    }
    let set = place.cgroup.set_limits(&weight(300));
    if !there {
        // CFQ's file is there for disks that CFQ orders; BFQ got its own with Linux 5.4.
        let refused = match &set {
            Err(CgroupError::Unsupported { limit, .. }) => *limit == "io weight",
            Err(CgroupError::Write { source, .. }) => {
                source.raw_os_error() == Some(libc::EOPNOTSUPP)
            }
            _ => false,
        };
        assert!(refused, "{set:?}");
        return;
    }
    for wanted in [300, 30] {
        place.cgroup.set_limits(&weight(wanted)).unwrap();
        let now: Vec<String> = files
            .iter()
            .filter_map(|file| place.cgroup_file(file))
            .collect();
        let line = format!("{device}{wanted}");
        assert!(
            now.iter().any(|text| text.contains(&line)),
            "{line}: {now:?}"
        );
    }
    fs::write(&scheduler, before).unwrap();
    if costs.exists() {
        fs::write(costs, format!("{device}enable=0")).unwrap();
    }
}

/// Two that read a disk without a pause share it by their weights where BFQ orders its work; live ones too. The disk must be
/// what both wait for: a virtual board has one that is slow.
pub fn a_busy_disk_is_shared_by_weight() {
    let Some(device) = std::env::var_os("CORACLE_SLOW_DISK") else {
        support::not_here("no disk here is known to be slower than its readers");
    };
    let disk = Disk::named(Path::new(&device));
    let scheduler = disk.scheduler();
    fs::write(&scheduler, "bfq").unwrap();
    // Who begins to read is favoured for a while whatever its weight is (bfq-iosched.rst).
    // And who is slow with the next request, as all are on a busy machine, loses its turn (ms).
    for (name, value) in [("low_latency", "0"), ("slice_idle", "100")] {
        fs::write(scheduler.with_file_name("iosched").join(name), value).unwrap();
    }
    let weight = |weight| Limits {
        io_weight: Some(weight),
        ..disk.limits(IoLimit::default())
    };
    let light = Place::with(&weight(100));
    let heavy = Place::beside(&light, "heavy", &weight(100));
    let places = [&light, &heavy];
    // Who has never read has no figures.
    for place in places {
        disk.timed(
            place,
            "if=/dev/disk of=/dev/null bs=4k count=10 iflag=direct",
        );
    }
    let [first, second] = places.map(|place| {
        let read = "while dd if=/dev/disk of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done";
        let mut spec = place.spec(&format!("{read} & {read} & {read} & {read}"));
        spec.devices.push(disk.node());
        prepare(&spec, &|| Ok(())).unwrap().start().unwrap()
    });
    for weights in [[100, 500], [500, 100]] {
        for (place, of) in places.iter().zip(weights) {
            place.cgroup.set_limits(&weight(of)).unwrap();
        }
        // BFQ goes by a new weight when it comes to the container anew.
        let mut seen = Vec::new();
        while seen
            .last()
            .is_none_or(|ratio: &f64| ratio.is_nan() || *ratio < 2.0)
        {
            assert!(seen.len() < 4, "{seen:?} times as much, with {weights:?}");
            std::thread::sleep(Duration::from_secs(1));
            let read = || ["container", "heavy"].map(|name| disk.bytes_read(name));
            let before = read();
            std::thread::sleep(Duration::from_secs(3));
            let after = read();
            let [light, heavy] = [0, 1].map(|at| (after[at] - before[at]) as f64);
            seen.push(match weights {
                [100, _] => heavy / light,
                _ => light / heavy,
            });
        }
        println!("weights {weights:?}: {seen:.1?} times as much");
    }
    light.stop(first);
    heavy.stop(second);
    fs::write(&scheduler, "none").unwrap();
}
