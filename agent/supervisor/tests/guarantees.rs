//! What a release promises its apps, through the real supervisor: the kernel's own files say so.

mod board;

use board::{Board, quiet, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use coracle_protocol::report::Phase;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const WAITS: &str = "exec sleep 1000";
const WAIT: Duration = Duration::from_secs(30);

#[test]
fn memory_is_promised_where_the_kernel_can_and_refused_where_it_cannot() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "promised"), RunConfig::default());
    let mut reserved = quiet(&image, "reserved", WAITS);
    reserved.limits.memory_reservation_bytes = Some(8 * MIB);
    board.commit("1", vec![reserved.clone()]);
    let soft = ["memory.low", "memory.soft_limit_in_bytes"];
    let as_said = || board.cgroup_file("reserved", &soft);
    assert_eq!(as_said(), Some((8 * MIB).to_string()));

    // A supervisor that takes the app over sees to it again.
    let pid = board.app("reserved").unwrap().pid;
    let folders = board.cgroups();
    let files = folders
        .iter()
        .flat_map(|folder| soft.map(|name| folder.join("reserved").join(name)));
    let changed = files.into_iter().find(|file| file.exists()).unwrap();
    std::fs::write(changed, (4 * MIB).to_string()).unwrap();
    board.restart_supervisor();
    wait_for("the promise", WAIT, || {
        (board.cgroup_file("reserved", &soft)? == (8 * MIB).to_string()).then_some(())
    });
    assert_eq!(board.app("reserved").unwrap().pid, pid);

    let mut promised = quiet(&image, "promised", WAITS);
    promised.limits.memory_min_bytes = Some(4 * MIB);
    if board.cgroup_file("reserved", &["memory.min"]).is_none() {
        let (release, deploy) = board.documents("2", vec![reserved, promised]);
        let Answer::Refused { code, reason } = board.offer("2", &release, &deploy) else {
            panic!("it was to be refused");
        };
        assert_eq!(code, "kernel-lacks");
        for part in ["`promised`", "memory guarantee", "memory.min is not there"] {
            assert!(reason.contains(part), "{reason}");
        }
        return;
    }
    let ended = board.deploy("2", vec![reserved, promised]);
    assert_eq!(ended, (Phase::Committed, None));
    let promise = Some((4 * MIB).to_string());
    assert_eq!(board.cgroup_file("promised", &["memory.min"]), promise);
    assert_eq!(
        board.cgroup_file("", &["memory.min"]),
        promise,
        "or it counts for nothing"
    );
}

/// Of the first process of an app.
fn allowed_cpus(board: &Board, app: &str) -> Option<String> {
    let pid = board.app(app)?.pid?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}

#[test]
fn cpus_of_its_own_are_no_other_apps() {
    let mut board = Board::start();
    let all = std::thread::available_parallelism().unwrap().get() as u32;
    assert!(all > 1, "this test needs two CPUs");
    let image = board.image(&rootfs(&board, "cpus"), RunConfig::default());
    let mut own = quiet(&image, "own", WAITS);
    own.limits.cpus_exclusive = Some(all);
    let (release, deploy) = board.documents("1", vec![quiet(&image, "other", WAITS), own.clone()]);
    let Answer::Refused { code, reason } = board.offer("1", &release, &deploy) else {
        panic!("none would be left for the board");
    };
    assert_eq!(code, "over-budget");
    assert!(
        reason.contains("exclusive CPUs: the apps ask for"),
        "{reason}"
    );

    own.limits.cpus_exclusive = Some(all - 1);
    board.commit("2", vec![quiet(&image, "other", WAITS), own]);
    let lists = |board: &Board| (allowed_cpus(board, "own"), allowed_cpus(board, "other"));
    let (Some(own), Some(other)) = lists(&board) else {
        panic!("both run");
    };
    assert_eq!(other, "0");
    assert!(!own.starts_with('0'), "{own}");
    assert_eq!(board.app("other").unwrap().cpus.as_deref(), Some("0"));

    // A supervisor that takes them over sees to it again.
    let files = board.cgroups().into_iter();
    let files = files.map(|folder| folder.join("other/cpuset.cpus"));
    let file = files.into_iter().find(|file| file.exists()).unwrap();
    std::fs::write(file, own.clone()).unwrap();
    assert_eq!(lists(&board), (Some(own.clone()), Some(own.clone())));
    board.restart_supervisor();
    wait_for("CPUs of its own", WAIT, || {
        (lists(&board) == (Some(own.clone()), Some("0".into()))).then_some(())
    });

    // With nobody who asks, all are everybody's.
    board.commit("3", vec![quiet(&image, "other", WAITS)]);
    assert_ne!(allowed_cpus(&board, "other").as_deref(), Some("0"));
    assert_eq!(board.app("other").unwrap().cpus, None);
}
