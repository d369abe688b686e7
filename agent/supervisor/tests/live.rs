//! Limits that change while an app runs: a release in which nothing but numbers of limits is another keeps its processes, and a
//! roll-back gives the old limits back to the same ones.

mod board;

use board::{Board, Client, quiet, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, Event};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Condition, Image, Restart, Strategy, TmpfsMount};
use coracle_protocol::report::Phase;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(60);
const MEMORY: [&str; 2] = ["memory.max", "memory.limit_in_bytes"];

/// It takes all the CPU that it gets, after it has written in an empty writable layer when that was.
fn hog(image: &Image, cpu_millis: u32, memory_mib: u64, pids: u32) -> App {
    let mut hog = quiet(
        image,
        "hog",
        "[ -e /mark ] || cat /proc/uptime > /mark; while :; do :; done",
    );
    hog.limits.cpu_millis = cpu_millis;
    hog.limits.memory_bytes = memory_mib * MIB;
    hog.limits.pids = pids;
    hog
}

fn limits(board: &Board) -> (String, String) {
    (
        board.cgroup_file("hog", &MEMORY).unwrap(),
        board.cgroup_file("hog", &["pids.max"]).unwrap(),
    )
}

fn said(memory_mib: u64, pids: u32) -> (String, String) {
    ((memory_mib * MIB).to_string(), pids.to_string())
}

/// The hog with memory that is left to it, and so many bytes and operations in a second, read and written.
fn bounded(mut hog: App, reservation_mib: u64, rates: [u64; 4]) -> App {
    let limits = &mut hog.limits;
    limits.memory_reservation_bytes = Some(reservation_mib * MIB);
    limits.io_read_bytes_per_second = Some(rates[0]);
    limits.io_write_bytes_per_second = Some(rates[1]);
    limits.io_read_operations_per_second = Some(rates[2]);
    limits.io_write_operations_per_second = Some(rates[3]);
    hog
}

/// Both, as its cgroup has them: in MiB, and on the first disk that has rates.
fn bounds(board: &Board) -> (u64, [u64; 4]) {
    let file = |names: &[&str]| board.cgroup_file("hog", names);
    let reservation = file(&["memory.low", "memory.soft_limit_in_bytes"]).unwrap();
    let rate = |v1: &str, v2: &str| {
        let v1 = format!("blkio.throttle.{v1}_device");
        let text = file(&["io.max", &v1]).expect("cgroups that keep rates");
        let line = text.lines().next().expect("a disk with rates");
        // `8:0 400` or `8:0 rbps=max wbps=max riops=max wiops=400`
        let mut words = line.split(' ').skip(1);
        let found = words.find_map(|word| match word.split_once('=') {
            None => Some(word),
            Some((key, value)) => (key == v2).then_some(value),
        });
        found.unwrap().parse().unwrap()
    };
    let rates = [
        rate("read_bps", "rbps"),
        rate("write_bps", "wbps"),
        rate("read_iops", "riops"),
        rate("write_iops", "wiops"),
    ];
    (reservation.parse::<u64>().unwrap() / MIB, rates)
}

/// Thousandths of a CPU that it used in two seconds.
fn uses(board: &Board, app: &str) -> u128 {
    let used = || {
        let text = board
            .cgroup_file(app, &["cpu.stat", "cpuacct.usage"])
            .unwrap();
        match text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
        {
            Some(micros) => micros.parse::<u128>().unwrap(),
            None => {
                board
                    .cgroup_file(app, &["cpuacct.usage"])
                    .unwrap()
                    .parse::<u128>()
                    .unwrap()
                    / 1000
            }
        }
    };
    let (before, since) = (used(), std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    (used() - before) * 1000 / since.elapsed().as_micros()
}

fn pid(board: &Board, app: &str) -> u32 {
    wait_for("its process", WAIT, || board.app(app)?.pid)
}

/// A set of which one app fails, up to its trial.
fn begin(board: &mut Board, version: &str, apps: Vec<App>) -> Client {
    let (release, deploy) = board.documents(version, apps);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    let mut events = board.watch();
    assert_eq!(board.activate(version), Answer::Done);
    loop {
        match events.event().expect("its events") {
            Event::Deployment {
                phase: Phase::Trial,
                ..
            } => return events,
            Event::Deployment { phase, reason, .. } if phase.is_end() => {
                panic!("{reason:?}\n{}", board.log())
            }
            _ => {}
        }
    }
}

#[test]
fn an_app_goes_on_with_new_limits_and_a_failed_trial_gives_the_old_ones_back() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "live"), RunConfig::default());
    let other = || quiet(&image, "other", "exec sleep 1000");
    let rates = [
        [5_000_000, 4_000_000, 500, 400],
        [3_000_000, 6_000_000, 300, 600],
    ];
    let hog = |cpu_millis, memory_mib, pids, reservation_mib, rates| {
        let hog = hog(&image, cpu_millis, memory_mib, pids);
        bounded(hog, reservation_mib, rates)
    };
    board.commit("1", vec![hog(800, 32, 20, 8, rates[0]), other()]);
    assert_eq!(bounds(&board), (8, rates[0]));
    let first = (pid(&board, "hog"), pid(&board, "other"));
    let at = board.app("hog").unwrap().started_at;
    let before = uses(&board, "hog");

    board.commit("2", vec![hog(100, 48, 30, 12, rates[1]), other()]);
    assert_eq!((pid(&board, "hog"), pid(&board, "other")), first);
    assert_eq!(board.app("hog").unwrap().started_at, at);
    assert_eq!(limits(&board), said(48, 30));
    assert_eq!(bounds(&board), (12, rates[1]));
    let held = uses(&board, "hog");
    assert!(held <= 130 && held < before, "{before} and then {held}");

    // Another app of the next release does not stay up.
    let mut bad = quiet(&image, "bad", "sleep 1; exit 3");
    bad.restart = Restart::No;
    bad.trial_seconds = 3;
    let mut events = begin(
        &mut board,
        "3",
        vec![hog(500, 24, 40, 6, rates[0]), other(), bad],
    );
    assert_eq!(limits(&board), said(24, 40));
    assert_eq!(bounds(&board), (6, rates[0]));
    assert_eq!(pid(&board, "hog"), first.0);
    let (phase, reason) = board.end_of(&mut events, "3");
    assert_eq!(phase, Phase::RolledBack, "{reason:?}");
    assert_eq!(limits(&board), said(48, 30));
    assert_eq!(bounds(&board), (12, rates[1]));
    assert_eq!((pid(&board, "hog"), pid(&board, "other")), first);
    assert!(uses(&board, "hog") <= 130);

    // A supervisor that takes it over gives it its limits, whatever the one before had done.
    let folders = board.cgroups().into_iter();
    let files = folders.map(|folder| folder.join("hog/pids.max"));
    let file = files.into_iter().find(|file| file.exists()).unwrap();
    std::fs::write(file, "7").unwrap();
    board.restart_supervisor();
    wait_for("its limits", WAIT, || {
        (limits(&board) == said(48, 30)).then_some(())
    });
    assert_eq!((pid(&board, "hog"), pid(&board, "other")), first);

    // With no limit that is another, all start anew, as ever.
    board.commit("4", vec![hog(100, 48, 30, 12, rates[1]), other()]);
    let anew = (pid(&board, "hog"), pid(&board, "other"));
    assert!(anew.0 != first.0 && anew.1 != first.1);
    assert_eq!(limits(&board), said(48, 30));
}

#[test]
fn a_supervisor_that_dies_in_the_trial_gives_the_old_limits_back_to_the_same_process() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "cut"), RunConfig::default());
    board.commit("1", vec![hog(&image, 200, 32, 20)]);
    let first = pid(&board, "hog");
    let mark = |pid: u32| {
        let read = || std::fs::read_to_string(format!("/proc/{pid}/root/mark")).ok();
        wait_for("its mark", WAIT, || {
            read().filter(|text| text.ends_with('\n'))
        })
    };
    let written = mark(first);
    let same = hog(&image, 200, 32, 20);
    // A trial's length is no limit: another app has the long one.
    let mut slow = quiet(&image, "slow", "exec sleep 1000");
    slow.trial_seconds = 600;
    let _events = begin(&mut board, "2", vec![hog(&image, 100, 48, 30), slow]);
    assert_eq!(limits(&board), said(48, 30));
    assert_eq!(pid(&board, "hog"), first);
    board.restart_supervisor();
    let (phase, reason) = board.end_of(&mut board.watch(), "2");
    assert_eq!(phase, Phase::RolledBack, "{reason:?}");
    assert_eq!(limits(&board), said(32, 20));
    assert_eq!(pid(&board, "hog"), first);
    // Its writable layer is the old set's again, and outlives a restart.
    board.control("hog", coracle_protocol::local::AppAction::Restart);
    let second = wait_for("another process", WAIT, || {
        board.app("hog")?.pid.filter(|pid| *pid != first)
    });
    assert_eq!(mark(second), written);
    assert_eq!(limits(&board), said(32, 20));

    // And the new set's once that is kept.
    let mut less = same;
    less.limits.pids = 12;
    board.commit("3", vec![less]);
    assert_eq!(pid(&board, "hog"), second);
    board.control("hog", coracle_protocol::local::AppAction::Restart);
    let third = wait_for("another process", WAIT, || {
        board.app("hog")?.pid.filter(|pid| *pid != second)
    });
    assert_eq!(mark(third), written);
}

/// Takes 26 MiB when it is told to, and not by itself.
fn holder(image: &Image, memory_mib: u64) -> App {
    let script = "trap 'for at in /one /two; do /bin/busybox dd if=/dev/zero of=$at/x bs=1M count=13; done; echo > /one/done' USR1; while :; do sleep 0.1; done";
    let mut holder = quiet(image, "holder", script);
    holder.limits.memory_bytes = memory_mib * MIB;
    holder.tmpfs = ["/one", "/two"]
        .map(|target| TmpfsMount {
            target: target.into(),
            size_bytes: 14 * MIB,
        })
        .to_vec();
    holder
}

/// Memory that an app has more than its limit, and a rate that its release does not name: as another supervisor may have left it.
#[test]
fn what_an_app_that_is_taken_over_has_too_much_is_taken_back_when_that_can_be() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "late"), RunConfig::default());
    let mut app = holder(&image, 16);
    let fill = app.args.pop().unwrap();
    app.args
        .push(format!("trap '/bin/busybox rm /one/x /two/x' USR2; {fill}"));
    board.commit("1", vec![app]);
    let file = |names: &[&str]| {
        let folders = board.cgroups().into_iter();
        let mut files = folders.flat_map(|folder| {
            names
                .iter()
                .map(move |name| folder.join("holder").join(name))
        });
        files.find(|file| file.exists()).unwrap()
    };
    let (memory, rates) = (
        file(&MEMORY),
        file(&["io.max", "blkio.throttle.write_iops_device"]),
    );
    std::fs::write(&memory, (64 * MIB).to_string()).unwrap();
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let mut disks = disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok());
    let word = if rates.ends_with("io.max") {
        "wiops="
    } else {
        ""
    };
    let disk =
        disks.find(|disk| std::fs::write(&rates, format!("{} {word}100000", disk.trim())).is_ok());
    let disk = disk.expect("a disk whose operations can be bounded");
    let bounded = || {
        let text = std::fs::read_to_string(&rates).unwrap();
        let line = text.lines().find(|line| line.starts_with(disk.trim()));
        line.is_some_and(|line| line.contains("100000"))
    };
    assert!(bounded());
    let first = filled(&board);
    board.restart_supervisor();
    let limit = || std::fs::read_to_string(&memory).unwrap().trim().to_owned();
    assert_eq!(limit(), (64 * MIB).to_string());
    assert!(!bounded());
    let waits = board.app("holder").unwrap().waiting_for.unwrap();
    assert!(
        waits.contains("more memory than its limit of 16777216 bytes"),
        "{waits}"
    );
    let process = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::USR2).unwrap();
    wait_for("its limit", WAIT, || {
        (limit() == (16 * MIB).to_string()).then_some(())
    });
    assert_eq!(pid(&board, "holder"), first);
    wait_for("the word", WAIT, || {
        board.app("holder")?.waiting_for.is_none().then_some(())
    });
}

/// Its process, which has taken them.
fn filled(board: &Board) -> u32 {
    let first = pid(board, "holder");
    let process = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::USR1).unwrap();
    let done = format!("/proc/{first}/root/one/done");
    wait_for("26 MiB in memory", WAIT, || {
        std::path::Path::new(&done).exists().then_some(())
    });
    first
}

#[test]
fn a_hand_over_that_is_taken_back_leaves_the_process_that_served_on_and_no_other() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "beside"), RunConfig::default());
    let beside = |memory_mib| {
        let mut holder = holder(&image, memory_mib);
        holder.strategy = Strategy::StartThenKill;
        holder
    };
    board.commit("1", vec![beside(64)]);
    let first = filled(&board);
    // The kernel refuses the lower limit, so a new process begins beside; before it takes over another app ends.
    let mut bad = quiet(&image, "bad", "sleep 0.3; exit 3");
    bad.restart = Restart::No;
    let (release, deploy) = board.documents("2", vec![beside(16), bad]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    let second = wait_for("the one beside", WAIT, || {
        let folders = board.cgroups().into_iter();
        let mut files = folders.map(|folder| folder.join("holder~/cgroup.procs"));
        let text = files.find_map(|file| std::fs::read_to_string(file).ok())?;
        text.lines().next().map(str::to_owned)
    });
    let (phase, reason) = board.end_of(&mut events, "2");
    assert_eq!(phase, Phase::RolledBack, "{reason:?}");
    assert!(board.log().contains("cannot be set while it runs"));
    assert_eq!(pid(&board, "holder"), first);
    assert_eq!(
        board.cgroup_file("holder", &MEMORY).unwrap(),
        (64 * MIB).to_string()
    );
    wait_for("the one beside to be gone", WAIT, || {
        (!std::path::Path::new(&format!("/proc/{second}")).exists()).then_some(())
    });
    let folders = board.cgroups();
    let left = folders.iter().any(|folder| folder.join("holder~").exists());
    assert!(!left, "{}", board.log());
}

#[test]
fn what_the_kernel_refuses_or_an_app_is_not_alone_with_is_a_start_anew() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "busy"), RunConfig::default());
    let holder = |memory_mib| holder(&image, memory_mib);
    board.commit("1", vec![holder(64)]);
    let first = filled(&board);
    // More than the new limit is in use: the kernel says EBUSY, and the app begins anew with less.
    board.commit("2", vec![holder(16)]);
    let second = pid(&board, "holder");
    assert_ne!(second, first);
    assert_eq!(
        board.cgroup_file("holder", &MEMORY).unwrap(),
        (16 * MIB).to_string()
    );
    assert!(board.log().contains("cannot be set while it runs"));

    // One that needs an app which starts anew does too, and its own limits are no reason to stay.
    let base = |greeting: &str| {
        let mut base = quiet(&image, "base", "exec sleep 1000");
        base.env.insert("GREETING".into(), greeting.into());
        base
    };
    let needs = |pids: u32| {
        let mut needs = quiet(&image, "needs", "exec sleep 1000");
        needs.limits.pids = pids;
        needs
            .depends_on
            .insert(AppName::new("base").unwrap(), Condition::Started);
        needs
    };
    let alone = |pids: u32| {
        let mut alone = quiet(&image, "alone", "exec sleep 1000");
        alone.limits.pids = pids;
        alone
    };
    board.commit("3", vec![base("one"), needs(10), alone(10)]);
    let pids = |board: &Board| ["base", "needs", "alone"].map(|app| pid(board, app));
    let before = pids(&board);
    board.commit("4", vec![base("two"), needs(11), alone(11)]);
    let after = pids(&board);
    assert!(before[0] != after[0] && before[1] != after[1]);
    assert_eq!(before[2], after[2]);
    // With all that it needs it stays.
    board.commit("5", vec![base("two"), needs(12), alone(12)]);
    assert_eq!(pids(&board), after);
}
