//! Hard limits of the disk, and volumes, through the real supervisor. On this machine's file system an image holds the
//! limits; for project quotas there is `quota.rs`.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{
    Answer, AppAction, LayerSource, Request, Verdict, VolumeAction, VolumeStatus,
};
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::{
    App, BindMount, DiskOn, Image, NetworkMode, TmpfsMount, VolumeMount,
};
use coracle_protocol::report::Phase;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(20);

fn image(board: &Board) -> Image {
    let root = rootfs(board, "disk");
    for applet in ["dd", "touch", "grep", "wc", "ls", "rm"] {
        let link = root.join("bin").join(applet);
        if link.symlink_metadata().is_err() {
            symlink("busybox", link).unwrap();
        }
    }
    board.image(&root, RunConfig::default())
}

/// An app without a network that runs `script` and then sleeps.
fn quiet(image: &Image, script: &str) -> App {
    let mut app = app(image, &format!("{script}; echo end; exec sleep 1000"));
    app.network.mode = NetworkMode::None;
    app
}

fn volume(name: &str, target: &str, size: Option<u64>) -> VolumeMount {
    VolumeMount {
        name: VolumeName::new(name).unwrap(),
        target: target.into(),
        read_only: false,
        size_bytes: size,
        inodes: None,
    }
}

/// What the app wrote, once it says that it is at its end.
fn said(board: &Board, name: &str) -> String {
    let file = board.state().join(format!("logs/{name}/json.log"));
    wait_for("the app's end", WAIT, || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["log"].as_str().unwrap().to_owned()
        });
        let text: String = lines.collect();
        text.ends_with("end\n").then_some(text)
    })
}

fn loops_of(board: &Board) -> usize {
    std::fs::read_dir("/sys/block")
        .unwrap()
        .filter_map(|entry| {
            std::fs::read_to_string(entry.unwrap().path().join("loop/backing_file")).ok()
        })
        .filter(|file| Path::new(file.trim_end()).starts_with(board.state()))
        .count()
}

/// Whether a process of another mount namespace has something below `folder` mounted.
fn others_hold(folder: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("mountinfo")).ok())
        .any(|mounts| mounts.contains(folder.to_str().unwrap()))
}

fn action(board: &Board, uid: u32, action: VolumeAction) -> Answer {
    board.ask(Request::Volume { action, uid })
}

#[track_caller]
fn volumes(answer: Answer) -> Vec<VolumeStatus> {
    match answer {
        Answer::Volumes { volumes } => volumes,
        other => panic!("{other:?}"),
    }
}

fn list(board: &Board) -> Vec<VolumeStatus> {
    volumes(action(board, 1000, VolumeAction::List))
}

fn create(name: &str, size_bytes: Option<u64>) -> VolumeAction {
    VolumeAction::Create {
        name: VolumeName::new(name).unwrap(),
        size_bytes,
        inodes: None,
    }
}

fn remove(name: &str) -> VolumeAction {
    VolumeAction::Remove {
        name: VolumeName::new(name).unwrap(),
    }
}

#[track_caller]
fn failed(answer: Answer, code: &str) -> String {
    match answer {
        Answer::Failed { code: got, reason } => {
            assert_eq!(got, code, "{reason}");
            reason
        }
        other => panic!("{other:?} instead of {code}"),
    }
}

#[track_caller]
fn refused(answer: Answer, words: &[&str]) {
    let Answer::Refused { reason, .. } = answer else {
        panic!("{answer:?}");
    };
    for word in words {
        assert!(reason.contains(word), "no `{word}` in: {reason}");
    }
}

#[test]
fn a_disk_filler_meets_its_limit_and_the_board_goes_on() {
    let mut board = Board::start();
    let image = image(&board);
    let mut filler = quiet(
        &image,
        "dd if=/dev/zero of=/big bs=64k 2>&1 | grep 'space left'; echo root $(wc -c < /big); \
         dd if=/dev/zero of=/data/big bs=64k 2>&1 | grep 'space left'; echo volume $(wc -c < /data/big); \
         rm /data/big; i=0; while touch /data/$i 2>/dev/null; do i=$((i+1)); done; echo files $i",
    );
    filler.limits.disk_bytes = Some(4 * MIB);
    filler.volumes = vec![volume("data", "/data", Some(2 * MIB))];
    filler.volumes[0].inodes = Some(64);
    filler.trial_seconds = 2;
    let mut other = quiet(&image, "echo x > /file && cat /file");
    other.name = coracle_protocol::names::AppName::new("other").unwrap();
    board.commit("1", vec![filler, other]);

    let text = said(&board, "web");
    assert_eq!(text.matches("No space left on device").count(), 2, "{text}");
    let number = |word: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("{text}"))
            .trim()
            .parse()
            .unwrap()
    };
    let near = |got: u64, limit: u64| got <= limit && got > limit / 10 * 8;
    assert!(near(number("root"), 4 * MIB), "{text}");
    assert!(near(number("volume"), 2 * MIB), "{text}");
    // Up to the end of the inode table's block.
    assert!((50..=80).contains(&number("files")), "{text}");
    // Others write on.
    assert_eq!(said(&board, "other"), "x\nend\n");

    let used = board.app("web").unwrap().disk.unwrap();
    assert_eq!(used.limit_bytes, Some(4 * MIB));
    assert!(near(used.bytes, 4 * MIB), "{used:?}");
    assert!(
        used.limit_inodes.unwrap() >= 256 && used.inodes > 0,
        "{used:?}"
    );
    let listed = &list(&board)[0];
    assert_eq!(listed.used.limit_bytes, Some(2 * MIB));
    assert!(listed.used.inodes >= 50, "{listed:?}");
    assert_eq!(listed.means.as_deref(), Some("image"));
    assert_eq!((listed.owner, listed.apps.len()), (None, 1));
    // All bytes of the images were taken when they were made: no filler takes more of the disk.
    for file in ["containers/web/layer.ext4", "volumes/data/room.ext4"] {
        let file = std::fs::metadata(board.state().join(file)).unwrap();
        assert!(file.blocks() * 512 >= file.len(), "{file:?}");
    }
    assert_eq!(loops_of(&board), 3);

    // What it wrote is there after a crash and a restart; a new set begins with nothing.
    let big = board.state().join("containers/web/layer/upper/big");
    board.restart_supervisor();
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    assert!(big.exists());
    let mut small = quiet(&image, "ls /");
    small.limits.disk_bytes = Some(MIB);
    board.commit("2", vec![small]);
    assert!(!big.exists());
    let used = board.app("web").unwrap().disk.unwrap();
    assert_eq!(used.limit_bytes, Some(MIB));
    // The app that is no more has left nothing.
    assert!(!board.state().join("containers/other").exists());
    // Nor has one of a set that was taken back.
    let mut sick = quiet(&image, "exit 1");
    sick.name = coracle_protocol::names::AppName::new("sick").unwrap();
    sick.restart = coracle_protocol::release::Restart::No;
    let well = quiet(&image, "true");
    let (phase, _) = board.deploy("3", vec![well, sick]);
    assert_eq!(phase, Phase::RolledBack);
    assert!(!board.state().join("containers/sick").exists());
    board.stop_all();
    // Here nothing is mounted any more; a copy of the mounts in somebody else's namespace keeps the device until it ends.
    let state = board.state();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(state.to_str().unwrap()), "{mounts}");
    wait_for("the loop devices' end", WAIT, || {
        (loops_of(&board) == 0 || others_hold(&state)).then_some(())
    });
}

#[test]
fn a_layer_in_memory_and_folders_in_memory_have_limits_too() {
    let mut board = Board::start();
    let image = image(&board);
    let mut app = quiet(
        &image,
        "dd if=/dev/zero of=/big bs=64k 2>/dev/null; echo root $(wc -c < /big); \
         dd if=/dev/zero of=/run/big bs=64k 2>/dev/null; echo run $(wc -c < /run/big)",
    );
    app.limits.disk_bytes = Some(2 * MIB);
    app.limits.disk_on = DiskOn::Memory;
    app.tmpfs = vec![TmpfsMount {
        target: "/run".into(),
        size_bytes: MIB,
    }];
    board.commit("1", vec![app]);
    let text = said(&board, "web");
    assert!(text.contains("run 1048576\n"), "{text}");
    let root: u64 = text.lines().next().unwrap()[5..].parse().unwrap();
    assert!(root <= 2 * MIB && root > MIB, "{text}");
    let used = board.app("web").unwrap().disk.unwrap();
    assert_eq!(used.limit_bytes, Some(2 * MIB));
    assert_eq!(loops_of(&board), 0);
}

#[test]
fn what_does_not_fit_is_refused_with_numbers_before_anything_changes() {
    let mut board = Board::start();
    let image = image(&board);
    let mut app = quiet(&image, "true");
    app.volumes = vec![volume("data", "/data", Some(4 * MIB))];
    board.commit("1", vec![app.clone()]);

    let mut offer = |app: App, words: &[&str]| {
        let (release, deploy) = board.documents("2", vec![app]);
        refused(board.offer("2", &release, &deploy), words);
    };
    let mut shrunk = app.clone();
    shrunk.volumes[0].size_bytes = Some(2 * MIB);
    offer(
        shrunk,
        &["volume `data`", "4194304", "2097152", "cannot shrink"],
    );
    let mut huge = app.clone();
    huge.limits.disk_bytes = Some(1 << 40);
    offer(
        huge,
        &[
            "disk: the apps ask for",
            "too much",
            "writable layers and volumes",
        ],
    );
    let mut huge = app.clone();
    huge.volumes[0].size_bytes = Some(1 << 40);
    offer(huge, &["disk: the apps ask for", "too much"]);
    let mut bind = app.clone();
    bind.binds = vec![BindMount {
        source: "/etc".into(),
        target: "/host".into(),
        read_only: true,
    }];
    offer(bind, &["app `web`", "`/etc`", "[volumes] binds"]);
    let current = board.status().current.unwrap();
    assert_eq!(current.version, "1");
    assert_eq!(list(&board)[0].used.limit_bytes, Some(4 * MIB));
}

/// A state folder with room for some thousand files, and a layer that has as many.
#[test]
fn a_shortage_of_inodes_is_refused_with_numbers_before_anything_changes() {
    let mut board = Board::start();
    let root = rootfs(&board, "many files");
    std::fs::create_dir(root.join("many")).unwrap();
    for number in 0..2000 {
        std::fs::write(root.join(format!("many/{number}")), "").unwrap();
    }
    let image = board.image(&root, RunConfig::default());
    let entries = image.layers[0].entries.unwrap();
    assert!((2000..2100).contains(&entries), "{entries}");
    board.kill_supervisor();
    let (state, aside) = (board.state(), board.dir.path().join("aside"));
    let (at, aside) = (state.display(), aside.display());
    let shell = |line: &str| {
        let status = Command::new("sh").args(["-ec", line]).status().unwrap();
        assert!(status.success(), "{line}");
    };
    shell(&format!(
        "cp -a {at} {aside}; mount -t tmpfs -o nr_inodes=3000,mode=755 tmpfs {at}; cp -a {aside}/. {at}/"
    ));
    // Nothing here panics before the folder is as it was.
    board.start_supervisor();
    let mut uncounted = quiet(&image, "true");
    uncounted.image.layers[0].entries = None;
    let mut fewer = quiet(&image, "true");
    fewer.image.layers[0].entries = Some(entries - 1);
    let mut documents = |app: App| board.documents("1", vec![app]);
    let (counted, uncounted, fewer) = (
        documents(quiet(&image, "true")),
        documents(uncounted),
        documents(fewer),
    );
    let refused_one = board.offer("1", &counted.0, &counted.1);
    let nothing = board.status().layers.is_empty();
    // As a release from before the count.
    let taken = board.offer("2", &uncounted.0, &uncounted.1);
    shell(&format!("mount -o remount,nr_inodes=6000 {at}"));
    let stage = |activity: &str| {
        let diff_id = image.layers[0].diff_id;
        board.stage(activity, diff_id, LayerSource::Full)
    };
    let less = board.offer("3", &fewer.0, &fewer.1);
    let more_than_signed = stage("3");
    let enough = board.offer("4", &counted.0, &counted.1);
    let done = stage("4");
    board.kill_supervisor();
    shell(&format!("umount -l {at}"));
    board.start_supervisor();

    assert!(nothing);
    let needed =
        format!("inodes: the layers that are not on the board need {entries}, and 1024 stay free");
    refused(refused_one, &[&needed, " are free on the state folder's"]);
    for answer in [taken, less, enough] {
        assert!(matches!(answer, Answer::Needs(_)), "{answer:?}");
    }
    let reason = failed(more_than_signed, "bad-layer");
    let wanted = format!("more than the allowed {} tar members", entries - 1);
    assert!(reason.contains(&wanted), "{reason}");
    assert_eq!(done, Answer::Done);
}

#[test]
fn folders_of_the_board_are_given_where_its_file_says_so() {
    let mut board = Board::start();
    let image = image(&board);
    let given = board.dir.path().join("given");
    std::fs::create_dir(&given).unwrap();
    std::fs::write(given.join("file"), "from the board\n").unwrap();
    let config = std::fs::read_to_string(board.config()).unwrap();
    let more = format!(
        "[volumes]\nbinds = [\"{}\"]\n[local]\nallow = \"none\"\n",
        given.display()
    );
    std::fs::write(board.config(), config + &more).unwrap();
    board.restart_supervisor();
    let mut app = quiet(
        &image,
        "cat /host/file; touch /host/x 2>&1 | grep -c Read-only",
    );
    let bind = |source: &Path| BindMount {
        source: source.to_str().unwrap().into(),
        target: "/host".into(),
        read_only: true,
    };
    app.binds = vec![bind(&given)];
    board.commit("1", vec![app.clone()]);
    assert_eq!(said(&board, "web"), "from the board\n1\nend\n");

    failed(action(&board, 1000, create("mine", None)), "not-allowed");
    volumes(action(&board, 0, create("mine", None)));
    people_may_control_no_app(&board);

    // Not what is below it: an app that writes there could have made it lead anywhere.
    symlink("/etc", given.join("below")).unwrap();
    app.binds = vec![bind(&given.join("below"))];
    let (release, deploy) = board.documents("2", vec![app]);
    refused(
        board.offer("2", &release, &deploy),
        &["below", "[volumes] binds"],
    );
}

/// Where the board's file allows nothing, and root's orders hold; that somebody asked is in the log.
fn people_may_control_no_app(board: &Board) {
    let control = |action, uid| {
        let app = AppName::new("web").unwrap();
        board.ask(Request::Control { app, action, uid })
    };
    let before = board.app("web").unwrap();
    use AppAction::{Pause, Restart, Resume, Start, Stop};
    for action in [Stop, Restart, Start, Pause, Resume] {
        let answer = control(action, 1001);
        assert!(
            matches!(&answer, Answer::Refused { code, reason } if code == "not-allowed" && reason.contains("[local] allow")),
            "{answer:?}"
        );
        let line = format!("action={action:?} uid=1001");
        assert!(board.log().contains(&line), "no line with {line:?}");
    }
    let hangs_up = board.ask(Request::Signal {
        app: AppName::new("web").unwrap(),
        signal: "HUP".into(),
        uid: 1001,
    });
    assert!(matches!(&hangs_up, Answer::Refused { code, .. } if code == "not-allowed"));
    assert!(board.log().contains("signal=\"HUP\" uid=1001"));
    let after = board.app("web").unwrap();
    assert_eq!((after.pid, after.state), (before.pid, before.state));
    assert_eq!(control(AppAction::Stop, 0), Answer::Done);
    assert_eq!(control(AppAction::Start, 0), Answer::Done);
}

/// The image has links where volumes are to go, to the board's own folders.
#[test]
fn symlinked_volume_targets_lead_nowhere() {
    let mut board = Board::start();
    let treasure = board.dir.path().join("treasure");
    std::fs::create_dir(&treasure).unwrap();
    std::fs::write(treasure.join("gold"), "gold").unwrap();
    let root = rootfs(&board, "links");
    std::fs::create_dir(root.join("inside")).unwrap();
    symlink(&treasure, root.join("absolute")).unwrap();
    symlink("../../../../../../../../../../../..", root.join("up")).unwrap();
    symlink("/inside", root.join("good")).unwrap();
    symlink("/proc/self", root.join("proclink")).unwrap();
    let image = board.image(&root, RunConfig::default());

    for (target, runs) in [
        ("/good/data", true),
        ("/up/data", true),
        ("/absolute/data", false),
        ("/absolute", false),
        ("/proclink/fd", false),
    ] {
        let mut app = quiet(
            &image,
            &format!("echo x > {target}/mark && cat {target}/mark"),
        );
        app.volumes = vec![volume("data", target, None)];
        let (phase, reason) = board.deploy(target, vec![app]);
        let expected = if runs {
            Phase::Committed
        } else {
            Phase::Failed
        };
        assert_eq!(phase, expected, "{target}: {reason:?}");
        let names: Vec<PathBuf> = std::fs::read_dir(&treasure)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names, [treasure.join("gold")], "{target}");
    }
    assert!(!Path::new("/data/mark").exists());
    let mark = board.state().join("volumes/data/room/data/mark");
    // The app that came back writes it once more.
    wait_for("the app's mark", WAIT, || {
        (std::fs::read(&mark).unwrap() == b"x\n").then_some(())
    });
}

#[test]
fn volumes_of_people_are_theirs_and_those_of_sets_stay() {
    let mut board = Board::start();
    let image = image(&board);
    let mut app = quiet(&image, "true");
    app.volumes = vec![volume("first", "/data", Some(MIB))];
    board.commit("1", vec![app.clone()]);
    app.volumes = vec![volume("second", "/data", Some(MIB))];
    board.commit("2", vec![app.clone()]);

    let made = volumes(action(&board, 1000, create("mine", Some(2 * MIB))));
    assert_eq!(made[0].owner, Some(1000));
    assert_eq!(made[0].used.limit_bytes, Some(2 * MIB));
    assert!(made[0].held_bytes > 2 * MIB, "{made:?}");
    let data = board.state().join("volumes/mine/room/data");
    volumes(action(&board, 1001, create("other", None)));
    failed(action(&board, 1000, create("mine", None)), "volume-exists");
    failed(action(&board, 1000, create("tiny", Some(1))), "bad-size");
    let reason = failed(
        action(&board, 1000, create("huge", Some(1 << 40))),
        "no-space",
    );
    assert!(
        reason.contains("takes 1") && reason.contains("are left"),
        "{reason}"
    );
    failed(action(&board, 1000, remove("none")), "no-volume");
    failed(action(&board, 1001, remove("mine")), "not-owner");
    failed(action(&board, 1001, remove("second")), "not-owner");
    // The running set's, and what a roll-back would need.
    for name in ["first", "second"] {
        failed(action(&board, 0, remove(name)), "volume-in-use");
    }
    let listed = list(&board);
    let names: Vec<&str> = listed.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["first", "mine", "other", "second"]);
    assert_eq!((listed[0].in_previous, listed[0].apps.len()), (true, 0));
    assert_eq!((listed[3].in_previous, listed[3].apps.len()), (false, 1));

    // A release does not get a person's volume.
    app.volumes = vec![volume("mine", "/data", None)];
    let (release, deploy) = board.documents("3", vec![app.clone()]);
    refused(
        board.offer("3", &release, &deploy),
        &["`mine`", "user 1000"],
    );

    // Each prunes what is theirs, root all; what sets need stays.
    let pruned = |board: &Board, uid| -> Vec<String> {
        let gone = volumes(action(board, uid, VolumeAction::Prune));
        gone.iter().map(|v| v.name.to_string()).collect()
    };
    assert_eq!(pruned(&board, 1001), ["other"]);
    assert_eq!(pruned(&board, 1001), Vec::<String>::new());
    assert!(data.parent().unwrap().exists());
    assert_eq!(pruned(&board, 0), ["mine"]);
    assert_eq!(list(&board).len(), 2);
    // A third set makes the first one's volume free.
    app.volumes = vec![volume("second", "/data", Some(MIB))];
    board.commit("3", vec![app]);
    assert_eq!(pruned(&board, 0), ["first"]);
    let audit = board.log();
    assert!(
        audit.contains("a person asks") && audit.contains("uid=1001"),
        "{audit}"
    );
}

/// The daemon's side of a transfer.
fn transfer(board: &Board, uid: u32, wanted: VolumeAction) -> UnixStream {
    match action(board, uid, wanted) {
        Answer::Transfer { socket } => UnixStream::connect(socket).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn backup(board: &Board, name: &str) -> Vec<u8> {
    let name = VolumeName::new(name).unwrap();
    let mut stream = transfer(board, 0, VolumeAction::Backup { name });
    let mut tar = Vec::new();
    stream.read_to_end(&mut tar).unwrap();
    tar
}

fn restore(board: &Board, name: &str, tar: &[u8]) -> Verdict {
    let name = VolumeName::new(name).unwrap();
    let mut stream = transfer(board, 0, VolumeAction::Restore { name });
    // A tar that is refused early is not read to its end.
    let _ = stream.write_all(tar);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}\n{}", board.log()))
}

/// A tar of one member whose head is made by hand, so that no tool sets the name right.
fn tar_of(name: &str, kind: tar::EntryType, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend([0; 1024]);
    tar
}

#[test]
fn nobody_makes_the_volume_of_an_accepted_release_first() {
    let mut board = Board::start();
    let image = image(&board);
    let mut app = quiet(&image, "true");
    app.volumes = vec![volume("next", "/data", Some(MIB))];
    let (release, deploy) = board.documents("1", vec![app]);
    let needs = board.needs("1", &release, &deploy);
    for uid in [1000, 0] {
        let reason = failed(action(&board, uid, create("next", None)), "volume-in-use");
        assert!(reason.contains("`next`"), "{reason}");
    }
    board.stage_all("1", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("1"), Answer::Done);
    assert_eq!(board.end_of(&mut events, "1").0, Phase::Committed);
    assert_eq!(list(&board)[0].owner, None);
}

#[test]
fn a_backup_restores_and_a_hostile_tar_changes_nothing() {
    let mut board = Board::start();
    let image = image(&board);
    let mut keeper = quiet(
        &image,
        "echo kept > /data/file; touch /data/.wh.name; test -e /data/link || busybox ln -s /etc/passwd /data/link",
    );
    keeper.args[2] = format!(
        "PATH=/bin; busybox ln -sf busybox /bin/ln; {}",
        keeper.args[2]
    );
    keeper.volumes = vec![volume("data", "/data", Some(4 * MIB))];
    keeper.trial_seconds = 1;
    board.commit("1", vec![keeper]);
    said(&board, "web");
    let data = board.state().join("volumes/data/room/data");
    let socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
    drop(socket);
    std::os::unix::fs::chown(data.join("file"), Some(1234), Some(4321)).unwrap();

    let saved = backup(&board, "data");
    assert!(saved.ends_with(&[0; 1024]), "a whole tar has its end");
    let listing = Command::new("tar")
        .args(["-tvf", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().unwrap().write_all(&saved)?;
            child.wait_with_output()
        })
        .unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(
        listing.contains("1234/4321") && listing.contains("link -> /etc/passwd"),
        "{listing}"
    );
    assert!(!listing.contains("socket"), "{listing}");

    // Not while an app has it, and not by anybody.
    let name = VolumeName::new("data").unwrap();
    let wanted = VolumeAction::Restore { name: name.clone() };
    let reason = failed(action(&board, 0, wanted.clone()), "volume-in-use");
    assert!(reason.contains("stop web first"), "{reason}");
    failed(action(&board, 1000, wanted), "not-owner");
    failed(
        action(&board, 1000, VolumeAction::Backup { name }),
        "not-owner",
    );

    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for("the app's end", WAIT, || {
        board.app("web").unwrap().pid.is_none().then_some(())
    });
    std::fs::write(data.join("file"), "changed\n").unwrap();
    std::fs::write(data.join("more"), "more").unwrap();
    let hostile = [
        ("../../escape", tar::EntryType::Regular, ""),
        ("a/../../escape", tar::EntryType::Regular, ""),
        ("disk", tar::EntryType::Block, ""),
        ("null", tar::EntryType::Char, ""),
        ("hard", tar::EntryType::Link, "../../volume.json"),
    ];
    for (name, kind, link) in hostile {
        let verdict = restore(&board, "data", &tar_of(name, kind, link));
        let Verdict::Failed { code, reason } = verdict else {
            panic!("{name} was taken");
        };
        assert_eq!(code, "bad-tar", "{name}: {reason}");
        assert!(!reason.contains("malformed"), "{name}: {reason}");
    }
    // Through a link that it brings itself.
    let mut through = tar_of(
        "out",
        tar::EntryType::Symlink,
        board.dir.path().to_str().unwrap(),
    );
    through.truncate(512);
    through.extend(tar_of("out/escape", tar::EntryType::Regular, ""));
    assert!(matches!(
        restore(&board, "data", &through),
        Verdict::Failed { .. }
    ));
    assert!(!board.dir.path().join("escape").exists());
    // Cut off, empty, and larger than the volume.
    let cut = restore(&board, "data", &saved[..saved.len() - 1024 - 512]);
    assert!(matches!(cut, Verdict::Failed { .. }), "{cut:?}");
    assert!(matches!(
        restore(&board, "data", b""),
        Verdict::Failed { .. }
    ));
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(6 * MIB);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut big = header.as_bytes().to_vec();
    big.resize(512 + 6 * MIB as usize + 1024, 0);
    let Verdict::Failed { code, .. } = restore(&board, "data", &big) else {
        panic!("more than the volume holds was taken");
    };
    assert!(["no-space", "bad-tar"].contains(&code.as_str()), "{code}");
    assert_eq!(std::fs::read(data.join("file")).unwrap(), b"changed\n");
    assert!(data.join("more").exists());

    assert_eq!(restore(&board, "data", &saved), Verdict::Done);
    // Closed by the change of places; the app opens it.
    assert_eq!(board.control("web", AppAction::Start), Answer::Done);
    wait_for("the app's start", WAIT, || board.app("web").unwrap().pid);
    wait_for("the restored file", WAIT, || {
        data.join("file").exists().then_some(())
    });
    assert!(!data.join("more").exists());
    assert!(data.join(".wh.name").exists(), "a name is a name");
    assert_eq!(
        std::fs::read_link(data.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(data.join("file").metadata().unwrap().uid(), 1234);
    assert_eq!(list(&board)[0].used.limit_bytes, Some(4 * MIB));
    let left = std::fs::read_dir(board.dir.path().join("run/transfers")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A shell as the daemon's user; whether it ended well, and what it said.
fn as_daemon(script: &str) -> (bool, String) {
    let output = std::process::Command::new("setpriv")
        .args([
            "--reuid=daemon",
            "--regid=daemon",
            "--clear-groups",
            "sh",
            "-c",
            script,
        ])
        .output()
        .expect("this test needs `setpriv`: apt install util-linux");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn a_daemon_cannot_put_anything_in_the_way_of_a_transfer() {
    let board = Board::start();
    volumes(action(&board, 0, create("data", None)));
    let run = board.dir.path().join("run");
    let at = run.display();
    // What it puts beside the folder of sockets is nobody's business, whatever it is called.
    let (good, said) = as_daemon(&format!(
        "cd {at} && mkdir -p transfer-1.sock/deep && touch transfer-1.sock/deep/file"
    ));
    assert!(
        good,
        "the daemon does not even reach its run folder: {said}"
    );
    for attack in [
        "mkdir transfers/1.sock",
        "touch transfers/1.sock",
        "mv transfers away",
        "rmdir transfers",
        "mkdir mine && mv -T mine transfers",
        "ls transfers",
    ] {
        let (good, said) = as_daemon(&format!("cd {at} && {attack}"));
        assert!(!good && said.contains("ermi"), "{attack}: {said}");
    }
    assert!(!backup(&board, "data").is_empty());
    assert!(
        run.join("transfer-1.sock/deep/file").exists(),
        "root cleared the daemon's things away"
    );

    // And the daemon itself comes to the socket.
    let name = VolumeName::new("data").unwrap();
    let Answer::Transfer { socket } = action(&board, 0, VolumeAction::Backup { name }) else {
        panic!("no transfer");
    };
    let (good, said) = as_daemon(&format!(
        "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{socket}\"); print(len(s.recv(512)))'"
    ));
    assert!(good && said.trim() == "512", "{said}");
}

/// Old and new contents are on the disk together for a while.
#[test]
fn a_restore_is_held_to_what_is_left_of_the_board() {
    let mut board = Board::start();
    let disk = rustix::fs::statvfs(board.dir.path()).unwrap();
    let mib = disk.f_blocks * disk.f_frsize / MIB;
    let site = board.config().with_file_name("board.toml");
    let leave = |left: u64| {
        let text = format!("[reserve]\ndisk_mib = {}\n", mib - left);
        std::fs::write(&site, text).unwrap();
    };
    leave(64);
    board.restart_supervisor();
    let created = action(&board, 0, create("data", Some(40 * MIB)));
    assert_eq!(volumes(created).len(), 1);
    let saved = backup(&board, "data");
    let Verdict::Failed { code, reason } = restore(&board, "data", &saved) else {
        panic!("two of them are more than the board has");
    };
    assert_eq!(code, "no-space", "{reason}");
    assert!(reason.contains("are left: of"), "{reason}");
    assert_eq!(list(&board)[0].used.limit_bytes, Some(40 * MIB));
    // No trace of the second one.
    let names = std::fs::read_dir(board.state().join("volumes")).unwrap();
    assert_eq!(names.count(), 1);
    leave(128);
    board.restart_supervisor();
    assert_eq!(restore(&board, "data", &saved), Verdict::Done);
}

/// A kernel or file system that cannot let two names change places gets them moved one by one.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_restore_needs_no_exchange_of_names() {
    let mut board = Board::start();
    board.without_calls = vec![libc::SYS_renameat2 as u32];
    board.restart_supervisor();
    volumes(action(&board, 0, create("data", Some(4 * MIB))));
    let tar = tar_of("file", tar::EntryType::Regular, "");
    assert_eq!(restore(&board, "data", &tar), Verdict::Done);
    let saved = backup(&board, "data");
    // With the root's time in it, unlike the first one.
    assert_eq!(restore(&board, "data", &saved), Verdict::Done);
    assert_eq!(backup(&board, "data"), saved);
    let names = std::fs::read_dir(board.state().join("volumes")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data"]);
}

/// SIGKILL while a restore is under way: the volume is as it was.
#[test]
fn a_restore_that_is_cut_leaves_the_old_volume() {
    let mut board = Board::start();
    volumes(action(&board, 0, create("data", Some(4 * MIB))));
    let tar = tar_of("file", tar::EntryType::Regular, "");
    assert_eq!(restore(&board, "data", &tar), Verdict::Done);
    let before = backup(&board, "data");

    let name = VolumeName::new("data").unwrap();
    let mut stream = transfer(&board, 0, VolumeAction::Restore { name });
    stream.write_all(&tar[..512]).unwrap();
    let new = board.state().join("volumes/.new-data");
    wait_for("the new volume", WAIT, || {
        new.join("room/data").exists().then_some(())
    });
    board.kill_supervisor();
    assert!(new.exists());
    board.start_supervisor();
    wait_for("the half volume's end", WAIT, || {
        (!new.exists()).then_some(())
    });
    assert_eq!(backup(&board, "data"), before);
    // One at a time, and nobody holds the place by not coming.
    let name = VolumeName::new("data").unwrap();
    let first = action(&board, 0, VolumeAction::Backup { name: name.clone() });
    assert!(matches!(first, Answer::Transfer { .. }));
    failed(
        action(&board, 0, VolumeAction::Backup { name: name.clone() }),
        "busy",
    );
    failed(action(&board, 0, remove("data")), "busy");
    wait_for("the place", WAIT, || {
        let again = action(&board, 0, VolumeAction::Backup { name: name.clone() });
        matches!(again, Answer::Transfer { .. }).then_some(())
    });
}

/// A supervisor may be cut between keeping a set and taking away what the apps of the one before left.
#[test]
fn what_apps_left_that_are_no_more_goes_at_the_next_start() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![quiet(&image, "echo mine > /own")]);
    said(&board, "web");
    board.kill_supervisor();
    let containers = board.state().join("containers");
    let (gone, own) = (containers.join("gone"), containers.join("web"));
    std::fs::create_dir_all(gone.join("layer/upper")).unwrap();
    std::fs::write(gone.join("layer/upper/file"), "left").unwrap();
    board.start_supervisor();
    wait_for("the end of what is left", WAIT, || {
        (!gone.exists()).then_some(())
    });
    assert!(own.join("layer").exists());
    let (_, text) = board.run_in("web", &["cat", "/own"]);
    assert_eq!(text.trim(), "mine");
}
