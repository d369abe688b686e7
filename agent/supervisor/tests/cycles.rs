//! An app is started again and again, with all that an app has, by restart, by stop and start, and with a set in place of
//! another: nothing may pile up in the supervisor, nor on the board. `CORACLE_CYCLES=10000` for the long form.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::{Port, TmpfsMount, VolumeMount};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// A set takes the place of another once in so many cycles.
const SET: u32 = 25;
const WAIT: Duration = Duration::from_secs(20);
/// What a process gets from the allocator and does not give back at once, in KiB.
const SOME_PAGES: u64 = 256;

#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// Of the supervisor.
    descriptors: usize,
    /// The supervisor's children: the app and its log writer, and none that was not waited for.
    children: usize,
    /// In the supervisor's mount namespace, on the board's folders.
    mounts: usize,
    /// Of the board's network.
    links: usize,
    /// Of networks: those that its processes are in, and those that a mount keeps. What a descriptor keeps counts above.
    namespaces: usize,
    cgroups: usize,
}

fn held(board: &Board) -> Held {
    let pid = board.supervisor_pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let place = board.dir.path().to_str().unwrap().to_owned();
    let folders = |path| fs::read_dir(path).unwrap().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.path().is_dir();
    let own = pid.to_string();
    let all = children.split_whitespace().chain([own.as_str()]);
    let networks: BTreeSet<_> = all
        .filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok())
        .collect();
    let kept = mounts.lines().filter(|line| line.contains(" - nsfs "));
    Held {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        children: children.split_whitespace().count(),
        mounts: mounts.lines().filter(|line| line.contains(&place)).count(),
        links: board.links().lines().count(),
        namespaces: networks.len() + kept.count(),
        cgroups: board
            .cgroups()
            .into_iter()
            .map(|cgroup| folders(cgroup).filter(is_folder).count())
            .sum(),
    }
}

fn pss_kib(board: &Board) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", board.supervisor_pid());
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

#[test]
fn nothing_piles_up_over_many_restarts_of_an_app() {
    let cycles: u32 = std::env::var("CORACLE_CYCLES").map_or(100, |text| {
        text.parse().expect("CORACLE_CYCLES is a number")
    });
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "cycles"), RunConfig::default());
    let mut web = app(
        &image,
        "trap 'exit 0' TERM; echo up; sleep 1000 & wait; wait",
    );
    web.network.ports = vec![Port {
        host: 8093,
        container: 8080,
        protocol: Default::default(),
        host_ip: None,
    }];
    web.volumes = vec![VolumeMount {
        name: VolumeName::new("data").unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: Some(1 << 20),
        inodes: None,
    }];
    web.tmpfs = vec![TmpfsMount {
        target: "/run".into(),
        size_bytes: 1 << 20,
    }];
    web.limits.disk_bytes = Some(1 << 20);
    let mut sets = 0;
    let mut next_set = |board: &mut Board| {
        sets += 1;
        let name = sets.to_string();
        web.env = [("SET".to_owned(), name.clone())].into();
        board.commit(&name, vec![web.clone()]);
    };
    let restart = |board: &Board, cycle: u32| {
        let before = board.app("web").unwrap().pid.unwrap();
        match cycle % 2 {
            0 => assert_eq!(board.control("web", AppAction::Restart), Answer::Done),
            _ => {
                assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
                wait_for("the app's end", WAIT, || {
                    board.app("web")?.pid.is_none().then_some(())
                });
                assert_eq!(board.control("web", AppAction::Start), Answer::Done);
            }
        }
        wait_for("the app to run again", WAIT, || {
            let pid = board.app("web")?.pid?;
            (pid != before).then_some(())
        });
    };
    // What is made once is made by then.
    (0..3).for_each(|_| next_set(&mut board));
    (0..10).for_each(|cycle| restart(&board, cycle));
    // The connections that asked are closed a moment later.
    let mut before = held(&board);
    wait_for("the board to come to rest", WAIT, || {
        std::thread::sleep(Duration::from_millis(300));
        let last = std::mem::replace(&mut before, held(&board));
        (last == before).then_some(())
    });
    let memory = pss_kib(&board);
    let mut most = 0;
    for cycle in 0..cycles {
        restart(&board, cycle);
        if cycle % SET == SET - 1 {
            next_set(&mut board);
        }
        if cycle % 50 == 0 {
            most = most.max(pss_kib(&board));
        }
    }
    most = most.max(pss_kib(&board));
    // The old app's log writer and network may take a moment to go.
    let end = Instant::now() + WAIT;
    while held(&board) != before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(held(&board), before);
    assert!(
        most <= memory + SOME_PAGES,
        "{memory} KiB have become {most} in {cycles} cycles"
    );
    assert_eq!(board.app("web").unwrap().restarts, 0);
}
