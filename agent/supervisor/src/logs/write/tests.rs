use super::*;
use crate::logs::file::Rotation;
use crate::logs::hand_over::{Gift, Wait};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

fn copy(stdout: &[u8], rotation: Rotation) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (read_out, write_out) = rustix::pipe::pipe().unwrap();
    let (read_err, write_err) = rustix::pipe::pipe().unwrap();
    let listener = hand_over::listen(folder.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        give(folder.path(), rotation, &read_out, &read_err).unwrap();
        drop((read_out, read_err));
        File::from(write_out).write_all(stdout).unwrap();
        File::from(write_err).write_all(b"oops\n").unwrap();
    });
    let socket = hand_over::socket_name().unwrap();
    fs::remove_file(folder.path().join(socket)).unwrap();
    folder
}

fn give(folder: &Path, rotation: Rotation, out: &OwnedFd, err: &OwnedFd) -> Option<Gift> {
    let job = Job {
        folder: folder.to_owned(),
        group: None,
        rotation,
        drop_beyond: None,
        second: false,
    };
    hand_over::give(folder, &job, hand_over::both(out, err), Wait::First).unwrap()
}

#[test]
fn what_nobody_takes_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (read, _write) = rustix::pipe::pipe().unwrap();
    assert_eq!(give(folder.path(), ROOMY, &read, &read), None);
    // Somebody was there, and is no more.
    drop(hand_over::listen(folder.path()).unwrap());
    assert_eq!(give(folder.path(), ROOMY, &read, &read), None);
}

fn comes(log: &Path, count: usize) {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !log.exists() || lines(log).len() < count {
        assert!(std::time::Instant::now() < end, "line {count} stays out");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn job(folder: &Path) -> Job {
    Job {
        folder: folder.to_owned(),
        group: None,
        rotation: ROOMY,
        drop_beyond: None,
        second: false,
    }
}

#[test]
fn what_cannot_be_written_is_read_all_the_same_and_written_once_it_can_be() {
    let run_folder = tempfile::tempdir().unwrap();
    let folder = run_folder.path().join("later");
    let listener = hand_over::listen(run_folder.path()).unwrap();
    let (read, write) = rustix::pipe::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        let mut pipe = File::from(write);
        let ends = hand_over::both(&read, &read);
        let given = hand_over::give(run_folder.path(), &job(&folder), ends, Wait::First).unwrap();
        assert!(given.is_some_and(|gift| gift.told));
        // More than the pipe holds.
        for _ in 0..40 {
            pipe.write_all(&[b'\n'; 4096]).unwrap();
        }
        fs::create_dir(&folder).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        let log = folder.join("json.log");
        while !fs::read_to_string(&log).is_ok_and(|text| text.contains("now")) {
            pipe.write_all(b"now\n").unwrap();
            assert!(std::time::Instant::now() < end, "nothing is written");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_new_start_of_an_app_ends_what_an_earlier_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let listener = hand_over::listen(folder.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        // Another program has the older one's end.
        let (old_read, old_write) = rustix::pipe::pipe().unwrap();
        let (new_read, new_write) = rustix::pipe::pipe().unwrap();
        let (mut old, mut new) = (File::from(old_write), File::from(new_write));
        give(folder.path(), ROOMY, &old_read, &old_read).unwrap();
        drop(old_read);
        old.write_all(&[b'\n'; 30_000]).unwrap();
        give(folder.path(), ROOMY, &new_read, &new_read).unwrap();
        drop(new_read);
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while old
            .write_all(b"")
            .and_then(|()| old.write_all(b"x\n"))
            .is_ok()
        {
            assert!(std::time::Instant::now() < end, "it is read for ever");
            std::thread::sleep(Duration::from_millis(10));
        }
        new.write_all(b"new\n").unwrap();
        let is_new = |name: &str| {
            fs::read_to_string(folder.path().join(name)).is_ok_and(|text| text.contains("new"))
        };
        while !is_new("json.log") {
            assert!(std::time::Instant::now() < end, "the new one is not read");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nothing that was said before is lost.
        let all = ["json.log.2", "json.log.1", "json.log"].map(|name| folder.path().join(name));
        let count: usize = all
            .iter()
            .filter(|log| log.exists())
            .map(|log| lines(log).len())
            .sum();
        assert!(count > 30_000 || all[0].exists(), "{count}");
    });
}

#[test]
fn an_older_program_s_writer_is_asked_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(hand_over::socket_name().unwrap());
    let older = folder.path().join("logs-1-2");
    let _listener = hand_over::listen(folder.path()).unwrap();
    fs::rename(&own, &older).unwrap();
    let (read, _write) = rustix::pipe::pipe().unwrap();
    assert_eq!(give(folder.path(), ROOMY, &read, &read), None);
    let _newer = hand_over::listen(folder.path()).unwrap();
    assert!(own.exists() && !older.exists());
}

#[test]
fn many_lines_are_few_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let queues = Queues::new().unwrap();
    let ends = [read.try_clone().unwrap(), read];
    let mut app = AppLog::new(job(folder.path()), ends, &queues).unwrap();
    File::from(write).write_all(&[b'\n'; LINE_BYTES]).unwrap();
    // Of this thread alone.
    let writes = || -> u64 {
        let io = fs::read_to_string("/proc/thread-self/io").unwrap();
        let count = io.lines().find_map(|line| line.strip_prefix("syscw: "));
        count.unwrap().parse().unwrap()
    };
    let before = writes();
    app.read(0, &mut [0; LINE_BYTES], &queues);
    queues.write_what_waits();
    assert!(folder.path().join("json.log.1").exists());
    assert!(writes() - before < 100, "{}", writes() - before);
}

/// As while an app is handed over: both say what they have to say, each to its own end.
#[test]
fn two_containers_of_one_app_write_into_its_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let listener = hand_over::listen(folder.path()).unwrap();
    let log = folder.path().join("json.log");
    std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        let start = |second| {
            let (read, write) = rustix::pipe::pipe().unwrap();
            let job = Job {
                second,
                ..job(folder.path())
            };
            let ends = hand_over::both(&read, &read);
            let given = hand_over::give(folder.path(), &job, ends, Wait::First).unwrap();
            assert!(given.is_some_and(|gift| gift.told));
            File::from(write)
        };
        let mut old = start(true);
        old.write_all(b"old begins\n").unwrap();
        comes(&log, 1);
        let mut new = start(false);
        new.write_all(b"new be").unwrap();
        old.write_all(b"old goes on\n").unwrap();
        comes(&log, 2);
        new.write_all(b"gins\n").unwrap();
        comes(&log, 3);
        drop(old);
        new.write_all(b"new goes on\n").unwrap();
        comes(&log, 4);
    });
    let said: Vec<_> = lines(&log).iter().map(|line| line["log"].clone()).collect();
    let expected = [
        "old begins\n",
        "old goes on\n",
        "new begins\n",
        "new goes on\n",
    ];
    assert_eq!(said, expected);
}

#[test]
fn one_that_says_without_end_leaves_the_others_their_turn() {
    let (loud, quiet) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = hand_over::listen(loud.path()).unwrap();
    let job = |folder: &Path| Job {
        folder: folder.to_owned(),
        group: None,
        rotation: Rotation {
            file_bytes: 1 << 16,
            files: 2,
        },
        drop_beyond: None,
        second: false,
    };
    let (loud_read, loud_write) = rustix::pipe::pipe().unwrap();
    let (quiet_read, quiet_write) = rustix::pipe::pipe().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stop = &stop;
    std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        for (folder, end) in [(&loud, loud_read), (&quiet, quiet_read)] {
            let ends = hand_over::both(&end, &end);
            let given =
                hand_over::give(loud.path(), &job(folder.path()), ends, Wait::First).unwrap();
            assert!(given.is_some());
        }
        scope.spawn(move || {
            let mut pipe = File::from(loud_write);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                pipe.write_all(&[b'\n'; 4096]).unwrap();
            }
        });
        let mut pipe = File::from(quiet_write);
        let log = quiet.path().join("json.log");
        for number in 0..20 {
            pipe.write_all(format!("{number}\n").as_bytes()).unwrap();
            comes(&log, number + 1);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn one_whose_words_another_reads_first_holds_up_nobody() {
    let (greedy, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = hand_over::listen(greedy.path()).unwrap();
    // Twice the same pipe, as an app can open its own output to read it: of two that look, one finds nothing.
    let (greedy_read, greedy_write) = rustix::pipe::pipe().unwrap();
    let (other_read, other_write) = rustix::pipe::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        let (mut greedy_pipe, mut pipe) = (File::from(greedy_write), File::from(other_write));
        for (folder, end) in [(&greedy, greedy_read), (&other, other_read)] {
            let ends = hand_over::both(&end, &end);
            let given =
                hand_over::give(greedy.path(), &job(folder.path()), ends, Wait::First).unwrap();
            assert!(given.is_some());
        }
        for count in 1..=20 {
            greedy_pipe.write_all(b"x\n").unwrap();
            comes(&greedy.path().join("json.log"), count);
            pipe.write_all(b"tick\n").unwrap();
            comes(&other.path().join("json.log"), count);
        }
    });
}

const ROOMY: Rotation = Rotation {
    file_bytes: 1 << 20,
    files: 3,
};

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn lines_of_both_streams_as_docker_writes_them() {
    let folder = copy(b"one\n\"two\" \xff\nno newline", ROOMY);
    let lines = lines(&folder.path().join("json.log"));
    let of = |stream: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line["stream"] == stream);
        lines.map(|line| line["log"].as_str().unwrap()).collect()
    };
    assert_eq!(of("stdout"), ["one\n", "\"two\" \u{fffd}\n", "no newline"]);
    assert_eq!(of("stderr"), ["oops\n"]);
}

#[test]
fn a_long_line_is_cut_and_loses_nothing() {
    let long = vec![b'x'; 3 * LINE_BYTES + 5];
    let folder = copy(&long, ROOMY);
    let lines = lines(&folder.path().join("json.log"));
    let logs = lines.iter().filter(|line| line["stream"] == "stdout");
    let total: usize = logs.map(|line| line["log"].as_str().unwrap().len()).sum();
    assert_eq!(total, long.len());
}

#[test]
fn rotation_keeps_the_newest_and_bounds_the_rest() {
    let rotation = Rotation {
        file_bytes: 1000,
        files: 3,
    };
    let text: String = (0..200).map(|n| format!("line {n}\n")).collect();
    let folder = copy(text.as_bytes(), rotation);
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["json.log", "json.log.1", "json.log.2"]);
    for name in &names {
        assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= 1000);
    }
    let newest = fs::read_to_string(folder.path().join("json.log")).unwrap();
    assert!(newest.contains("line 199"));
}

/// A log whose disk is stalled: a write to it waits until somebody reads from `json.log`.
fn stalled(folder: &Path) -> std::path::PathBuf {
    let log = folder.join("json.log");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &log,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    log
}

fn stops_or_goes_on(drop_beyond: Option<u64>) {
    let (slow, fast) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = stalled(slow.path());
    let listener = hand_over::listen(slow.path()).unwrap();
    let (slow_read, slow_write) = rustix::pipe::pipe().unwrap();
    let (other_read, other_write) = rustix::pipe::pipe().unwrap();
    let nothing = File::open("/dev/null").unwrap();
    let said = std::sync::atomic::AtomicU64::new(0);
    let said = &said;
    const LINES: u64 = 40_000;
    let text = std::thread::scope(|scope| {
        scope.spawn(|| run(&listener).unwrap());
        // Both while the disk is stalled already: one that starts then is not held up either.
        for (folder, end) in [(&slow, slow_read), (&fast, other_read)] {
            let job = Job {
                drop_beyond,
                rotation: Rotation {
                    file_bytes: 1 << 30,
                    files: 2,
                },
                ..job(folder.path())
            };
            let ends = hand_over::both(&end, &nothing);
            let given = hand_over::give(slow.path(), &job, ends, Wait::First).unwrap();
            assert!(given.is_some_and(|gift| gift.told));
        }
        for write in [slow_write, other_write] {
            scope.spawn(move || {
                let mut pipe = File::from(write);
                for number in 0..LINES / 2 {
                    pipe.write_all(format!("line {number} of many\n").as_bytes())
                        .unwrap();
                    said.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        let all_said = || said.load(std::sync::atomic::Ordering::Relaxed) == LINES;
        let end = std::time::Instant::now() + Duration::from_secs(20);
        match drop_beyond {
            Some(_) => {
                while !all_said() {
                    assert!(std::time::Instant::now() < end, "{said:?}: they wait");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            None => {
                std::thread::sleep(Duration::from_millis(500));
                assert!(!all_said(), "nobody waited");
            }
        }
        // The disk is there again.
        let mut text = String::new();
        File::open(&log).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    let (mut next, mut dropped) = (0, 0);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let log = line["log"].as_str().unwrap();
        if let Some(missed) = log.strip_prefix("coracle: ") {
            assert_eq!(line["stream"], "stderr");
            let count: u64 = missed.split_once(" lines, ").unwrap().0.parse().unwrap();
            (next, dropped) = (next + count, dropped + count);
        } else if log.ends_with('\n') {
            assert_eq!(log, format!("line {next} of many\n"));
            next += 1;
        }
    }
    assert_eq!(next, LINES / 2, "{dropped} dropped");
    assert_eq!(dropped > 0, drop_beyond.is_some(), "{dropped}");
}

#[test]
fn an_app_that_does_not_wait_goes_on_while_the_disk_stalls_and_the_log_says_what_it_lacks() {
    stops_or_goes_on(Some(1 << 16));
}

#[test]
fn an_app_that_waits_loses_nothing_while_the_disk_stalls() {
    stops_or_goes_on(None);
}
