//! Disk limits through the real supervisor where project quotas hold them: its state folder lies on `/quota`, an ext4, XFS
//! or f2fs with `prjquota` that virtual boards have (docs/boards.md). On a machine without one, each test says so.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction, Request, Verdict, VolumeAction, VolumeStatus};
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::{App, Image, NetworkMode, Restart, VolumeMount};
use coracle_protocol::report::{AppUsers, Phase};
use coracle_runtime::namespaces::{IdRange, try_range};
use coracle_runtime::{Means, Place};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Its apps have a fifth of an emulated processor, and other boards may run beside it.
const WAIT: Duration = Duration::from_secs(240);
const QUOTA: &str = "/quota";
/// The disk is small.
const SITE: &str = "[reserve]\ndisk_mib = 1\n[quotas]\nlog_mib = 1\n";

const TESTS: [(&str, fn()); 3] = [
    (
        "quotas_hold_a_release_through_restarts_changes_and_its_end",
        quotas_hold_a_release_through_restarts_changes_and_its_end,
    ),
    (
        "a_restore_past_the_quota_changes_nothing",
        a_restore_past_the_quota_changes_nothing,
    ),
    (
        "a_copy_counts_for_itself_and_is_held_as_before_when_it_is_back",
        a_copy_counts_for_itself_and_is_held_as_before_when_it_is_back,
    ),
];

fn main() -> ExitCode {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let held = |line: &str| line.contains(" /quota ") && line.contains("prjquota");
    let is_here = mounts.lines().any(held);
    let only = std::env::args().nth(1).unwrap_or_default();
    let mut code = ExitCode::SUCCESS;
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&only)) {
        let verdict = match is_here {
            false => "not here: no file system with project quotas is mounted on /quota",
            true if std::panic::catch_unwind(test).is_ok() => "ok",
            true => {
                code = ExitCode::FAILURE;
                "FAILED"
            }
        };
        println!("test {name} ... {verdict}");
    }
    code
}

/// A writer past its limit is told one or the other, by the file system.
const FULL: &str = "grep -c 'space left\\|quota exceeded'";

fn image(board: &Board) -> Image {
    let root = rootfs(board, "quota");
    for applet in ["dd", "touch", "grep", "wc", "ls", "rm", "seq"] {
        let place = root.join("bin").join(applet);
        if place.symlink_metadata().is_err() {
            symlink("busybox", place).unwrap();
        }
    }
    board.image(&root, RunConfig::default())
}

/// An app without a network that runs `script` and then sleeps.
fn quiet(image: &Image, name: &str, script: &str) -> App {
    let mut app = app(image, &format!("{script}; echo end; exec sleep 100000"));
    app.name = AppName::new(name).unwrap();
    app.network.mode = NetworkMode::None;
    app.limits.cpu_millis = 200;
    app.limits.disk_bytes = Some(MIB);
    app
}

fn volume(name: &str, size_bytes: u64, inodes: Option<u64>) -> VolumeMount {
    VolumeMount {
        name: VolumeName::new(name).unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: Some(size_bytes),
        inodes,
    }
}

/// What the app wrote, once it has come to its end so many times.
fn said(board: &Board, name: &str, times: usize) -> String {
    let file = board.state().join(format!("logs/{name}/json.log"));
    wait_for("the app's end", WAIT, || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["log"].as_str().unwrap().to_owned()
        });
        let text: String = lines.collect();
        (text.matches("end\n").count() == times).then_some(text)
    })
}

/// The number behind the last `word` at the beginning of a line.
#[track_caller]
fn number(text: &str, word: &str) -> u64 {
    let line = text.lines().rev().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no number of `{word}` in {text}"))
}

#[track_caller]
fn near(got: u64, limit: u64) {
    assert!(got <= limit && got > limit / 10 * 9, "{got} of {limit}");
}

#[track_caller]
fn volumes(board: &Board, action: VolumeAction) -> Vec<VolumeStatus> {
    match board.ask(Request::Volume { action, uid: 0 }) {
        Answer::Volumes { volumes } => volumes,
        other => panic!("{other:?}"),
    }
}

/// What the kernel holds and counts for a folder of the board's state.
#[track_caller]
fn limit_of(board: &Board, folder: &str) -> u64 {
    let folder = board.state().join(folder);
    let place = Place::new(&folder, folder.with_extension("ext4"));
    assert_eq!(place.means().unwrap(), Some(Means::Quota), "{folder:?}");
    place.usage().unwrap().limit.unwrap().bytes
}

fn free_bytes() -> u64 {
    let disk = rustix::fs::statvfs(QUOTA).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// As after power off and on: no process, no mount, and the file system mounted anew.
fn power_off_and_on(board: &mut Board) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(" /quota "));
    let mut words = line.unwrap().split(' ');
    let device = words.next().unwrap().trim_start_matches("/dev/");
    let kind = words.nth(1).unwrap();
    let backing = format!("/sys/block/{device}/loop/backing_file");
    let file = std::fs::read_to_string(backing).unwrap();
    board.stop_all();
    let busybox = |args: &[&str]| {
        let status = Command::new("/bin/busybox").args(args).status();
        status.unwrap().success().then_some(())
    };
    wait_for("nobody to use the disk", WAIT, || {
        busybox(&["umount", QUOTA])
    });
    let options = "loop,prjquota";
    let mount = ["mount", "-t", kind, "-o", options, file.trim_end(), QUOTA];
    busybox(&mount).expect("the disk comes back");
    board.start_supervisor();
}

fn quotas_hold_a_release_through_restarts_changes_and_its_end() {
    let mut board = Board::start_on(Path::new(QUOTA), SITE);
    let image = image(&board);
    // The layer, which is the board's from here on, is no app's.
    let holder = quiet(&image, "holder", "true");
    board.commit("0", vec![holder.clone()]);
    let free = free_bytes();

    // Each start makes a file more of what is left, and counts all of them.
    let fill = |at: &str, word: &str| {
        format!(
            "dd if=/dev/zero of={at}/big$(ls {at}/ | grep -c ^big) bs=64k 2>&1 | {FULL}; \
             echo {word} $(cat {at}/big* | wc -c)"
        )
    };
    let script = format!(
        "{}; {}; rm /data/big*; i=0; while touch /data/$i 2>/dev/null; do i=$((i+1)); done; echo files $i; rm /data/*; {}",
        fill("", "root"),
        fill("/data", "volume"),
        fill("/data", "volume"),
    );
    let mut filler = quiet(&image, "filler", &script);
    filler.limits.disk_bytes = Some(3 * MIB);
    filler.volumes = vec![volume("data", 2 * MIB, Some(64))];
    filler.trial_seconds = 2;
    // Root of the board's users: what the kernel lets it do is another matter.
    let mut plain = quiet(&image, "plain", &fill("", "root"));
    plain.user_namespace = Some(false);
    let talker = quiet(
        &image,
        "talker",
        "seq 1 60000; echo x > /written && cat /written",
    );
    board.commit("1", vec![filler.clone(), plain, talker]);

    let held = |board: &Board, starts: usize| {
        let text = said(board, "filler", starts);
        near(number(&text, "root "), 3 * MIB);
        near(number(&text, "volume "), 2 * MIB);
        assert!((60..=64).contains(&number(&text, "files ")), "{text}");
        assert_eq!(limit_of(board, "containers/filler/layer"), 3 * MIB);
        assert_eq!(limit_of(board, "volumes/data/room"), 2 * MIB);
        let used = board.app("filler").unwrap().disk.unwrap();
        assert_eq!(used.limit_bytes, Some(3 * MIB));
        let list = volumes(board, VolumeAction::List);
        assert_eq!(list[0].means.as_deref(), Some("project quota"));
        assert_eq!(list[0].used.limit_bytes, Some(2 * MIB));
        assert_eq!(list[0].used.limit_inodes, Some(64));
    };
    held(&board, 1);
    // One app has users of its own where the kernel can do it, the other never.
    let has_own = |name: &str| match board.app(name).unwrap().users {
        Some(AppUsers::Own { .. }) => true,
        Some(AppUsers::Board { .. }) => false,
        None => panic!("{name} does not run"),
    };
    let range = IdRange {
        first: 0x7000_0000,
        count: 65_536,
    };
    let can = try_range(board.dir.path(), false, range).is_ok();
    assert_eq!((has_own("filler"), has_own("plain")), (can, false));
    near(number(&said(&board, "plain", 1), "root "), MIB);
    // Who says a lot keeps the end of it, and nobody else is the poorer for it.
    let logs = board.state().join("logs/talker");
    wait_for("the app's last word", WAIT, || {
        let text = std::fs::read_to_string(logs.join("json.log")).ok()?;
        text.contains("\"x\\n\"").then_some(())
    });
    let sizes = std::fs::read_dir(&logs).unwrap();
    let bytes: u64 = sizes
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= MIB, "{bytes}");

    board.restart_supervisor();
    assert_eq!(board.control("filler", AppAction::Restart), Answer::Done);
    held(&board, 2);
    power_off_and_on(&mut board);
    held(&board, 3);

    // More for the volume, while it is full; then as little as is in it.
    filler.args[2] = format!("{}; echo end; exec sleep 100000", fill("/data", "volume"));
    filler.volumes[0].size_bytes = Some(5 * MIB);
    filler.limits.disk_bytes = Some(2 * MIB);
    let before = said(&board, "filler", 3).len();
    board.commit("2", vec![filler.clone()]);
    let text = said(&board, "filler", 4).split_off(before);
    near(number(&text, "volume "), 5 * MIB);
    assert_eq!(limit_of(&board, "volumes/data/room"), 5 * MIB);
    assert_eq!(limit_of(&board, "containers/filler/layer"), 2 * MIB);
    assert!(!board.state().join("containers/plain").exists());
    filler.volumes[0].size_bytes = Some(4 * MIB);
    let (release, deploy) = board.documents("3", vec![filler.clone()]);
    match board.offer("3", &release, &deploy) {
        Answer::Refused { reason, .. } => assert!(
            reason.contains("volume `data` holds") && reason.contains("4194304"),
            "{reason}"
        ),
        other => panic!("{other:?}"),
    }
    filler.args[2] = "rm /data/big*; echo end; exec sleep 100000".into();
    filler.volumes[0].size_bytes = Some(5 * MIB);
    board.commit("4", vec![filler.clone()]);
    said(&board, "filler", 5);
    filler.args[2] = format!("{}; echo end; exec sleep 100000", fill("/data", "volume"));
    filler.volumes[0].size_bytes = Some(MIB);
    board.commit("5", vec![filler]);
    near(number(&said(&board, "filler", 6), "volume "), MIB);

    // The end of all of it: nothing is kept back, and no number stands in the way of the next one.
    board.commit("6", vec![holder.clone()]);
    board.commit("7", vec![holder]);
    let removed = VolumeAction::Remove {
        name: VolumeName::new("data").unwrap(),
    };
    volumes(&board, removed);
    assert!(!board.state().join("containers/filler").exists());
    wait_for("the disk to be as free as it was", WAIT, || {
        (free_bytes() + 2 * MIB > free).then_some(())
    });
    let again = VolumeAction::Create {
        name: VolumeName::new("data").unwrap(),
        size_bytes: Some(MIB),
        inodes: None,
    };
    let made = volumes(&board, again);
    assert_eq!(made[0].used.limit_bytes, Some(MIB));
    assert!(made[0].used.bytes < 64 << 10, "{made:?}");
    board.stop_all();
}

/// Of a volume that is full, whose next version takes what is in it for something else, and does not stay.
fn a_copy_counts_for_itself_and_is_held_as_before_when_it_is_back() {
    let mut board = Board::start_on(Path::new(QUOTA), SITE);
    let image = image(&board);
    let fill = |word: &str| {
        format!(
            "dd if=/dev/zero of=/data/big bs=64k 2>&1 | {FULL}; echo {word} $(cat /data/big | wc -c)"
        )
    };
    let mut keeper = quiet(&image, "keeper", &fill("old"));
    keeper.volumes = vec![volume("data", 2 * MIB, None)];
    board.commit("1", vec![keeper.clone()]);
    near(number(&said(&board, "keeper", 1), "old "), 2 * MIB);
    let mut next = keeper.clone();
    next.args[2] = format!("rm /data/big; {}; echo end; exit 3", fill("new"));
    next.data_version = 2;
    next.volumes[0].size_bytes = Some(3 * MIB);
    next.trial_seconds = 30;
    next.restart = Restart::No;
    let (phase, reason) = board.deploy("2", vec![next]);
    assert_eq!(phase, Phase::RolledBack);
    let reason = reason.unwrap();
    assert!(reason.contains("put back as of"), "{reason}");
    let text = said(&board, "keeper", 3);
    // The copy of 2 MiB was none of its 3.
    near(number(&text, "new "), 3 * MIB);
    near(number(&text, "old "), 2 * MIB);
    assert_eq!(limit_of(&board, "volumes/data/room"), 2 * MIB);
    board.stop_all();
}

fn transfer(board: &Board, action: VolumeAction) -> UnixStream {
    match board.ask(Request::Volume { action, uid: 0 }) {
        Answer::Transfer { socket } => UnixStream::connect(socket).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn restore(board: &Board, name: &VolumeName, tar: &[u8]) -> Verdict {
    let mut stream = transfer(board, VolumeAction::Restore { name: name.clone() });
    // What does not fit is not read to its end.
    let _ = stream.write_all(tar);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn tar_of(name: &str, bytes: usize) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(bytes as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(512 + bytes.next_multiple_of(512) + 1024, 0);
    tar
}

/// The child that unpacks is root's, which the kernel would let pass a quota if it had the right to resources.
fn a_restore_past_the_quota_changes_nothing() {
    let board = Board::start_on(Path::new(QUOTA), SITE);
    let name = VolumeName::new("data").unwrap();
    let create = VolumeAction::Create {
        name: name.clone(),
        size_bytes: Some(2 * MIB),
        inodes: None,
    };
    volumes(&board, create);
    assert_eq!(
        restore(&board, &name, &tar_of("file", 1 << 20)),
        Verdict::Done
    );
    let data: PathBuf = board.state().join("volumes/data/room/data");
    let Verdict::Failed { code, reason } = restore(&board, &name, &tar_of("big", 3 << 20)) else {
        panic!("more than the volume holds was taken");
    };
    assert!(
        ["no-space", "bad-tar"].contains(&code.as_str()),
        "{code}: {reason}"
    );
    assert_eq!(std::fs::metadata(data.join("file")).unwrap().len(), MIB);
    assert!(!data.join("big").exists());
    assert_eq!(limit_of(&board, "volumes/data/room"), 2 * MIB);
    let used = volumes(&board, VolumeAction::List)[0].used.bytes;
    near(used, MIB + MIB / 16);
}
