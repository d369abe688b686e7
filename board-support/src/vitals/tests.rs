use super::*;
use proptest::prelude::*;
use std::fs;

fn board(files: &[(&str, &str)]) -> tempfile::TempDir {
    let board = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = board.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    board
}

const MEMINFO: &str = "MemTotal:        1014052 kB\nMemFree:          120000 kB\nMemAvailable:     700004 kB\nBuffers: 1 kB\n";

#[test]
fn what_the_kernel_says_is_read() {
    let board = board(&[
        ("proc/meminfo", MEMINFO),
        ("proc/loadavg", "1.07 0.48 0.40 2/311 4711\n"),
        ("proc/uptime", "350735.47 234388.90\n"),
    ]);
    let expected = Memory {
        total: 1_014_052 << 10,
        available: 700_004 << 10,
    };
    assert_eq!(memory(board.path()), Some(expected));
    assert_eq!(load(board.path()), Some(107));
    assert_eq!(uptime(board.path()), Some(350_735));
}

#[test]
fn what_is_not_there_or_not_readable_is_nothing() {
    let empty = board(&[]);
    let nothing = |board: &Path| {
        (
            memory(board),
            load(board),
            uptime(board),
            default_link(board),
        )
    };
    assert_eq!(nothing(empty.path()), (None, None, None, None));
    let broken = board(&[
        // As before Linux 3.14.
        ("proc/meminfo", "MemTotal: 1014052 kB\nMemFree: 5 kB\n"),
        ("proc/loadavg", "high\n"),
        ("proc/uptime", "18446744073709551615.00 1.00\n"),
    ]);
    assert_eq!(nothing(broken.path()), (None, None, None, None));
    assert_eq!(room(Path::new("/nowhere")), None);
}

#[test]
fn this_machine_tells_all_of_it() {
    let root = Path::new("/");
    let memory = memory(root).unwrap();
    assert!(memory.available <= memory.total && memory.total > 1 << 20);
    assert!(load(root).is_some() && uptime(root).unwrap() > 0);
    let own = own_memory().unwrap();
    assert!((1 << 16..memory.total).contains(&own), "{own}");
    let room = room(root).unwrap();
    assert!(room.free <= room.total && room.total > 0);
    assert!(is_same_room(root, root));
    assert!(!is_same_room(root, Path::new("/proc")));
}

#[test]
fn a_link_is_of_the_kind_that_the_kernel_says() {
    // The default route, in the order of bytes of the kernel.
    let route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
        net0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
    let kind = |files: &[(&str, &str)]| {
        let board = board(&[("proc/net/route", route)]);
        let folder = board.path().join("sys/class/net/net0");
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), text).unwrap();
        }
        let (link, kind) = default_link(board.path()).unwrap();
        assert_eq!(link.as_str(), "net0");
        kind
    };
    let ethernet = [("type", "1\n"), ("device", "")];
    assert_eq!(kind(&ethernet), Link::Ethernet);
    assert_eq!(kind(&[("type", "1\n")]), Link::Other, "a bridge");
    assert_eq!(kind(&[("type", "65534\n"), ("device", "")]), Link::Other);
    let with = |uevent| [ethernet[0], ethernet[1], ("uevent", uevent)];
    assert_eq!(kind(&with("DEVTYPE=wlan\nINTERFACE=net0\n")), Link::Wifi);
    assert_eq!(
        kind(&with("DEVTYPE=wwan\nINTERFACE=net0\n")),
        Link::Cellular
    );
    let wireless = [ethernet[0], ethernet[1], ("wireless", "")];
    assert_eq!(kind(&wireless), Link::Wifi);
    assert_eq!(kind(&[]), Link::Other);
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "[ -~\n\t0-9.:é]{0,200}") {
        let _ = (kib(&text, "MemTotal:"), hundredths(&text));
        let _ = hundredths(&format!("1.{text}"));
    }
}
