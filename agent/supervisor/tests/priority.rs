//! What an app's priority is good for, and limits beside the sums, through the real supervisor: the kernel's own files say so.

mod board;

use board::{Board, quiet, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(30);

/// Microseconds of CPU.
fn used(board: &Board, app: &str) -> f64 {
    if let Some(nanos) = board.cgroup_file(app, &["cpuacct.usage"]) {
        return nanos.parse::<f64>().unwrap() / 1000.0;
    }
    let text = board.cgroup_file(app, &["cpu.stat"]).unwrap();
    let mut lines = text.lines();
    let micros = lines.find_map(|line| line.strip_prefix("usage_usec "));
    micros.unwrap().parse().unwrap()
}

#[test]
fn two_hogs_on_one_cpu_share_it_by_their_priorities() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "hogs"), RunConfig::default());
    let hog = |name: &str, priority: u8| {
        let mut hog = quiet(&image, name, "while :; do :; done");
        (hog.priority, hog.limits.cpu_millis) = (priority, 850);
        hog
    };
    board.commit("1", vec![hog("less", 20), hog("more", 80)]);
    for (name, score) in [("less", "260"), ("more", "140")] {
        let pid = board.app(name).unwrap().pid.unwrap().to_string();
        let said = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert_eq!(said.trim(), score, "{name}");
        let pinned = Command::new("taskset")
            .args(["-p", "1", &pid])
            .output()
            .unwrap();
        assert!(pinned.status.success(), "{pinned:?}");
    }
    std::thread::sleep(Duration::from_millis(300));
    let both = || (used(&board, "less"), used(&board, "more"));
    let before = both();
    std::thread::sleep(Duration::from_secs(5));
    let after = both();
    let ratio = (after.1 - before.1) / (after.0 - before.0);
    assert!((3.0..5.0).contains(&ratio), "1 to 4 was to be: {ratio}");
}

/// KiB of the process of an app that holds memory.
fn held(board: &Board, app: &str) -> Option<u64> {
    let pids = board.cgroup_file(app, &["cgroup.procs"])?;
    pids.lines().find_map(|pid| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        // Not the shell, whose script has these words too.
        let is_holder = read("cmdline")?.starts_with("/bin/busybox\0dd\0");
        is_holder.then_some(())?;
        let status = read("status")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    })
}

/// The greater has taken more than the lesser when all apps together have no more: without their priorities it would be the
/// one that is ended.
#[test]
fn where_all_apps_together_run_out_of_memory_the_lesser_goes_first() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "room"), RunConfig::default());
    let holder = |name: &str, priority: u8, mib: u64| {
        // What writes into a pipe that nobody reads keeps what it has read.
        let take = format!("/bin/busybox dd if=/dev/zero bs={mib}M count=1 | sleep 1000 &");
        let script = format!("trap '{take}' USR1; while :; do sleep 0.1; done");
        let mut holder = quiet(&image, name, &script);
        (holder.priority, holder.limits.memory_bytes) = (priority, 64 * MIB);
        holder
    };
    let apps = vec![holder("less", 0, 26), holder("more", 100, 24)];
    board.commit("1", apps);
    let first = ["less", "more"].map(|app| board.app(app).unwrap().pid.unwrap());
    let together = (44 * MIB).to_string();
    for (file, limit) in [
        ("memory.limit_in_bytes", together.as_str()),
        ("memory.memsw.limit_in_bytes", together.as_str()),
        ("memory.max", together.as_str()),
        ("memory.swap.max", "0"),
    ] {
        let folders = board.cgroups().into_iter();
        let files = folders.map(|folder| folder.join(file));
        for path in files.filter(|path| path.exists()) {
            std::fs::write(&path, limit).unwrap();
        }
    }
    let take = |pid: u32| {
        let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::USR1).unwrap();
    };
    // Each looks for the signal once its shell has come so far.
    let listens = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught >> (rustix::process::Signal::USR1.as_raw() - 1) & 1 == 1).then_some(())
    };
    for pid in first {
        wait_for("its trap", WAIT, || listens(pid));
    }
    take(first[1]);
    wait_for("what the greater takes", WAIT, || {
        held(&board, "more").filter(|kib| *kib >= 24 * 1024)
    });
    take(first[0]);
    let killed = |app: &str| {
        let text = board.cgroup_file(app, &["memory.oom_control", "memory.events"]);
        let text = text.unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().parse::<u32>().unwrap()
    };
    wait_for("somebody's end", WAIT, || {
        (killed("less") + killed("more") > 0).then_some(())
    });
    assert_eq!((killed("less"), killed("more")), (1, 0));
    assert!(held(&board, "more").unwrap() >= 24 * 1024);
    wait_for("its end", WAIT, || {
        held(&board, "less").is_none().then_some(())
    });
    assert_eq!(board.app("more").unwrap().pid, Some(first[1]));
}

#[test]
fn swap_bursts_and_the_end_of_all_are_as_said_or_refused_by_name() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "more"), RunConfig::default());
    let mut saver = quiet(&image, "saver", "exec sleep 1000");
    board.commit("1", vec![saver.clone()]);
    let burst = ["cpu.cfs_burst_us", "cpu.max.burst"];
    let there = |board: &Board, names: &[&str]| board.cgroup_file("saver", names).is_some();
    let has_burst = there(&board, &burst);
    let has_group = there(&board, &["memory.oom.group"]);
    let has_swap = there(&board, &["memory.memsw.limit_in_bytes", "memory.swap.max"]);

    saver.limits.cpu_burst_micros = Some(20_000);
    let mut swaps = quiet(&image, "swaps", "exec sleep 1000");
    swaps.limits.memory_swap_bytes = Some(64 << 20);
    let mut whole = quiet(&image, "whole", "exec sleep 1000");
    whole.limits.oom_group = true;
    for (asks, limit, there) in [
        (&saver, "CPU burst", has_burst),
        (&swaps, "swap limit", has_swap),
        (&whole, "OOM group", has_group),
    ] {
        let (release, deploy) = board.documents("0", vec![asks.clone()]);
        match board.offer("0", &release, &deploy) {
            Answer::Needs(_) => assert!(there, "{limit}"),
            Answer::Refused { code, reason } => {
                assert!(!there, "{reason}");
                assert_eq!(code, "kernel-lacks");
                let words = format!("`{}`: this kernel cannot keep its {limit}: ", asks.name);
                assert!(reason.contains(&words), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    if has_burst {
        board.commit("2", vec![saver.clone()]);
        assert_eq!(board.cgroup_file("saver", &burst).as_deref(), Some("20000"));
        // Less quota than the burst was: both change while it runs.
        let pid = board.app("saver").unwrap().pid;
        (saver.limits.cpu_millis, saver.limits.cpu_burst_micros) = (100, Some(5_000));
        board.commit("3", vec![saver]);
        assert_eq!(board.cgroup_file("saver", &burst).as_deref(), Some("5000"));
        assert_eq!(board.app("saver").unwrap().pid, pid);
    }
    if has_group {
        board.commit("4", vec![whole]);
        assert_eq!(
            board.cgroup_file("whole", &["memory.oom.group"]).as_deref(),
            Some("1")
        );
    }
}
