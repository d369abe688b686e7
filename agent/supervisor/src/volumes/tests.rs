use super::*;

fn volumes(means: Option<Means>) -> (tempfile::TempDir, Volumes) {
    let state = tempfile::tempdir().unwrap();
    for name in ["volumes", "staging"] {
        std::fs::create_dir(state.path().join(name)).unwrap();
    }
    let folder = state.path().join("volumes");
    (
        state,
        Volumes {
            folder,
            means,
            not_now: None,
        },
    )
}

fn name(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

#[test]
fn folders_of_earlier_versions_keep_what_is_in_them() {
    let (state, volumes) = volumes(None);
    let old = state.path().join("volumes/data");
    std::fs::create_dir(&old).unwrap();
    std::fs::write(old.join("file"), "kept").unwrap();
    // Cut after the folder had moved.
    let moving = state.path().join("volumes/.moving-cut");
    std::fs::create_dir_all(moving.join("room/data")).unwrap();
    Record::now(None).write(&moving).unwrap();
    std::fs::write(moving.join("room/data/file"), "kept").unwrap();
    // And before: nothing of it is in there.
    let empty = state.path().join("volumes/.moving-data");
    std::fs::create_dir_all(&empty).unwrap();
    // Made and not finished.
    std::fs::create_dir_all(state.path().join("volumes/.new-half/room")).unwrap();

    for _ in 0..2 {
        volumes.recover().unwrap();
        assert_eq!(volumes.names(), [name("cut"), name("data")]);
        for volume in volumes.names() {
            let file = volumes.data(&volume).join("file");
            assert_eq!(std::fs::read(file).unwrap(), b"kept", "{volume}");
            assert_eq!(volumes.usage(&volume).unwrap().limit, None);
            assert_eq!(volumes.record(&volume).owner, None);
        }
        assert_eq!(volumes.entries().len(), 2);
    }
}

#[test]
fn a_damaged_record_gives_a_volume_to_root() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(None);
    let limit = DiskLimit::of_bytes(1 << 20);
    volumes
        .create(&name("data"), limit, Record::now(Some(1000)), (0, 0))
        .unwrap();
    assert_eq!(volumes.record(&name("data")).owner, Some(1000));
    std::fs::write(volumes.own("data").join("volume.json"), "{}").unwrap();
    assert_eq!(volumes.record(&name("data")).owner, Some(0));
    // Whether an app can read what is in it nobody knows: it is not started, and nothing is copied by a guess.
    let planned = PlannedVolume {
        name: name("data"),
        limit,
        is_declared: false,
        data_version: 7,
    };
    let refused = volumes.ensure(&planned, (0, 0)).unwrap_err().to_string();
    let not_copied = copied(&volumes, &[("data", 8)]).unwrap_err();
    for text in [refused, not_copied] {
        assert!(text.contains("volume `data`: what it holds"), "{text}");
        assert!(text.contains("coracle volume restore data"), "{text}");
    }
    volumes.begin_restore(&name("data")).unwrap();
    volumes.replace(&name("data")).unwrap();
    volumes.ensure(&planned, (0, 0)).unwrap();
}

#[test]
fn a_board_has_so_many_volumes_and_no_more() {
    let (_state, volumes) = volumes(None);
    let limit = DiskLimit::of_bytes(1 << 20);
    for number in 0..MOST {
        std::fs::create_dir(volumes.own(&format!("v{number}"))).unwrap();
    }
    let one_more = volumes.create(&name("more"), limit, Record::now(None), (0, 0));
    assert!(matches!(one_more, Err(VolumeError::TooMany)));
}

/// A trial grew it, and went back: the set before declares less than the volume can become again, and starts all the same.
#[test]
fn a_volume_that_a_trial_grew_keeps_its_size_on_the_way_back() {
    let (_state, volumes) = volumes(Some(Means::Image));
    let planned = |mib: u64| PlannedVolume {
        name: name("data"),
        limit: DiskLimit::of_bytes(mib << 20),
        is_declared: true,
        data_version: 1,
    };
    volumes.ensure(&planned(4), (0, 0)).unwrap();
    let file = volumes.data(&name("data")).join("file");
    std::fs::write(&file, vec![1; 3 << 20]).unwrap();
    let limit = || volumes.usage(&name("data")).unwrap().limit.unwrap().bytes;
    // An image cannot shrink, whether what is in it would fit or not.
    for before in [2, 3] {
        let outcome = volumes.ensure(&planned(before), (0, 0));
        let closed = volumes.close_all();
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(closed, Vec::<String>::new());
        volumes.ensure(&planned(before), (0, 0)).unwrap();
        assert_eq!(limit(), 4 << 20);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 3 << 20);
    }
    std::fs::remove_file(&file).unwrap();
    volumes.ensure(&planned(1), (0, 0)).unwrap();
    assert_eq!(limit(), 4 << 20);
    volumes.remove(&name("data")).unwrap();
    assert!(!volumes.exists(&name("data")));
}

/// Copying clones the process, as the supervisor may, which has one thread. Here another test's thread may hold what the clone then waits for without
/// end, the allocator's lock: such tests run once more in a process of their own, where they are told that they are alone.
fn alone() -> bool {
    const ALONE: &str = "CORACLE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    let me = std::env::current_exe().unwrap();
    let ended = std::process::Command::new(me)
        .args([test, "--exact", "--test-threads=1"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    false
}

/// Copied by the child, as before a trial.
fn copied(volumes: &Volumes, of: &[(&str, u32)]) -> Result<(), String> {
    volumes.make_way().map_err(|error| error.to_string())?;
    let wanted = of.iter().map(|(of, version)| (name(of), *version));
    let copying = volumes.begin_copies(wanted.collect())?;
    let exit = coracle_runtime::reap::wait(copying.child.pid).unwrap();
    volumes.finish_copies(copying, exit)
}

fn planned(of: &str, data_version: u32) -> PlannedVolume {
    PlannedVolume {
        name: name(of),
        limit: DiskLimit::of_bytes(4 << 20),
        is_declared: true,
        data_version,
    }
}

fn made(volumes: &Volumes, of: &str) -> PathBuf {
    volumes.ensure(&planned(of, 1), (0, 0)).unwrap();
    let file = volumes.data(&name(of)).join("file");
    std::fs::write(&file, "old").unwrap();
    file
}

/// With an image, and with nothing that holds a limit.
#[test]
fn a_volume_is_put_back_as_it_was_copied_however_often_that_is_cut() {
    if !alone() {
        return;
    }
    for means in [None, Some(Means::Image)] {
        let (_state, volumes) = volumes(means);
        let (file, other) = (made(&volumes, "data"), made(&volumes, "other"));
        // What an earlier way back has left says nothing of the next one.
        let mut stale = volumes.record(&name("data"));
        stale.copied_at = Some(1);
        stale.write(&volumes.own("data")).unwrap();
        assert_eq!(volumes.close_all(), [""; 0]);
        copied(&volumes, &[("data", 2), ("other", 3)]).unwrap();
        let versions = || ["data", "other"].map(|of| volumes.record(&name(of)).data_version);
        assert_eq!(versions(), [2, 3]);
        assert!(volumes.has_copy(&name("data")));
        assert_eq!(volumes.names().len(), 2, "a copy is no volume");
        if means.is_some() {
            assert!(volumes.copies_held() > 8 << 20);
        }
        let planned = |version| PlannedVolume {
            name: name("data"),
            limit: DiskLimit::of_bytes(4 << 20),
            is_declared: true,
            data_version: version,
        };
        volumes.ensure(&planned(2), (0, 0)).unwrap();
        std::fs::write(&file, "new").unwrap();
        std::fs::write(file.with_file_name("more"), "new").unwrap();
        // The app of before finds nothing of it, whatever else goes wrong.
        let refused = volumes.ensure(&planned(1), (0, 0)).unwrap_err().to_string();
        let words = [
            "`data` holds data of data_version 2",
            "data_version = 1",
            "data_version = 3",
        ];
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        assert_eq!(volumes.close_all(), [""; 0]);

        // Cut where the volume has gone and the copy has not got its name yet.
        volumes.give_up(&volumes.own("data")).unwrap();
        volumes.recover().unwrap();
        for _ in 0..2 {
            volumes.put_back().unwrap();
            assert_eq!(versions(), [1, 1]);
            let record = volumes.record(&name("data"));
            assert!(record.copied_at > Some(1), "{record:?}");
            volumes.ensure(&planned(1), (0, 0)).unwrap();
            volumes.place(&name("other")).open().unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
            assert_eq!(std::fs::read_to_string(&other).unwrap(), "old");
            assert!(!file.with_file_name("more").exists());
            assert_eq!(volumes.entries().len(), 2);
            assert_eq!(volumes.close_all(), [""; 0]);
        }
    }
}

/// The trial before was kept and its copy stayed: the next one's way back finds nothing of it, and tells no time of it, whether it
/// comes to copying or not.
#[test]
fn a_copy_of_an_earlier_trial_is_not_put_back_by_a_later_one() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(None);
    let file = made(&volumes, "data");
    copied(&volumes, &[("data", 2)]).unwrap();
    std::fs::write(&file, "kept").unwrap();
    let mut told = volumes.record(&name("data"));
    told.copied_at = Some(1);
    told.write(&volumes.own("data")).unwrap();

    volumes.make_way().unwrap();
    assert_eq!(volumes.record(&name("data")).copied_at, None);
    volumes.put_back().unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    assert_eq!(volumes.record(&name("data")).data_version, 2);
}

/// The note of a trial was lost, or its way back was cut: what the set that runs can read decides.
#[test]
fn without_a_trial_a_copy_goes_only_where_the_set_that_runs_can_do_without_it() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(None);
    let all = ["read", "unread", "gone", "damaged", "missing"];
    let files = all.map(|of| made(&volumes, of));
    copied(&volumes, &all.map(|of| (of, 2))).unwrap();
    for file in &files {
        std::fs::write(file, "new").unwrap();
    }
    volumes.give_up(&volumes.own("gone")).unwrap();
    volumes.give_up(&volumes.own("missing")).unwrap();
    std::fs::write(volumes.own("damaged").join("volume.json"), "{}").unwrap();
    // An app that comes before it is put back does not begin with an empty one.
    volumes.ensure(&planned("missing", 1), (0, 0)).unwrap();

    let reads = |name: &str, holds| name == "read" && holds == 2;
    volumes.settle_copies(reads).unwrap();
    let found = files.map(|file| std::fs::read_to_string(file).unwrap());
    assert_eq!(found, ["new", "old", "old", "old", "old"]);
    assert_eq!(volumes.entries().len(), all.len());
}

/// The old set names it too, under a lower number: with what the trial has made it could never start.
#[test]
fn a_volume_that_a_trial_makes_first_goes_with_it_where_the_old_set_has_it_too() {
    let (_state, volumes) = volumes(None);
    for kept in [false, true] {
        volumes.make_way().unwrap();
        volumes.note_missing(&name("data")).unwrap();
        volumes.ensure(&planned("data", 2), (0, 0)).unwrap();
        match kept {
            true => volumes.settle_copies(|_, _| true).unwrap(),
            false => volumes.put_back().unwrap(),
        }
        assert_eq!(volumes.exists(&name("data")), kept);
        assert_eq!(volumes.entries().len(), usize::from(kept));
    }
    volumes.remove(&name("data")).unwrap();
    volumes.ensure(&planned("data", 1), (0, 0)).unwrap();
}

/// What failed is to be written down on the same disk.
#[test]
fn a_copy_that_does_not_fit_gives_back_what_it_took() {
    if !alone() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let run = |program: &str, more: &[&str]| {
        let mut run = std::process::Command::new(program);
        let run = run.args(more).arg(state.path());
        assert!(run.status().unwrap().success());
    };
    run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    let folder = state.path().join("volumes");
    std::fs::create_dir(&folder).unwrap();
    std::fs::create_dir(state.path().join("staging")).unwrap();
    let volumes = Volumes {
        folder,
        means: None,
        not_now: None,
    };
    let free = || rustix::fs::statvfs(state.path()).unwrap().f_bfree;
    // Of the second one nothing is left but what is spared.
    let mut told = Vec::new();
    for length in [1_000_000, 1_900_000] {
        let file = made(&volumes, "data");
        std::fs::write(file, vec![1; length]).unwrap();
        let before = free();
        let outcome = copied(&volumes, &[("data", 2)]);
        told.push((outcome, before == free(), volumes.entries().len()));
        volumes.put_back().unwrap();
        std::fs::remove_dir_all(state.path().join("staging")).unwrap();
        std::fs::create_dir(state.path().join("staging")).unwrap();
    }
    run("umount", &[]);
    assert_eq!(told[0].0, Ok(()));
    let (failed, is_back, entries) = &told[1];
    let words = failed.clone().unwrap_err();
    assert!(words.contains("volume `data` cannot be copied"), "{words}");
    assert!(words.contains("No space left"), "{words}");
    assert_eq!((*is_back, *entries), (true, 1));
}

/// Neither apps nor the way back wait for a disk that answers no more.
#[test]
fn a_copy_that_takes_too_long_is_ended() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(None);
    made(&volumes, "data");
    let mut copying = volumes.begin_copies(vec![(name("data"), 2)]).unwrap();
    let due = copying.due().unwrap();
    assert!(due > std::time::Instant::now() + copies::MOST / 2);
    copying.end_overdue(due - std::time::Duration::from_secs(1));
    assert_eq!(copying.due(), Some(due));
    copying.end_overdue(due);
    assert_eq!(copying.due(), None, "once");
    let exit = coracle_runtime::reap::wait(copying.child.pid).unwrap();
    let error = volumes.finish_copies(copying, exit).unwrap_err();
    assert_eq!(error, "volumes were not copied within 6 hours");
    volumes.put_back().unwrap();
    assert_eq!(volumes.record(&name("data")).data_version, 1);
    assert_eq!(volumes.entries(), ["data"]);
}

#[test]
fn copies_that_are_not_needed_or_not_whole_go() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(None);
    let file = made(&volumes, "data");
    copied(&volumes, &[("data", 2)]).unwrap();
    std::fs::write(&file, "new").unwrap();
    std::fs::create_dir_all(volumes.own(".new-.before-data/room/data")).unwrap();
    volumes.drop_copies().unwrap();
    volumes.put_back().unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    assert_eq!(volumes.record(&name("data")).data_version, 2);
    // One of which only a half was written when the power went.
    std::fs::create_dir_all(volumes.own(".new-.before-data/room/data")).unwrap();
    volumes.recover().unwrap();
    assert_eq!(volumes.entries(), ["data"]);
}

/// A shell in the volume of an app that does not stay.
#[test]
fn somebody_who_looks_into_a_volume_keeps_it_from_nobody_on_the_way_back() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(Some(Means::Image));
    let file = made(&volumes, "data");
    assert_eq!(volumes.close_all(), [""; 0]);
    copied(&volumes, &[("data", 2)]).unwrap();
    volumes.place(&name("data")).open().unwrap();
    std::fs::write(&file, "new").unwrap();
    let held = std::fs::File::open(&file).unwrap();
    let refused = volumes.remove(&name("data"));
    assert!(refused.is_err(), "a person who removes it is told");
    volumes.put_back().unwrap();
    assert_eq!(std::io::read_to_string(held).unwrap(), "new");
    volumes.place(&name("data")).open().unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(volumes.close_all(), [""; 0]);
}

/// Nothing to put back and nothing to drop is said only of a folder that was looked into.
#[test]
fn copies_that_cannot_be_listed_are_an_error() {
    let (state, mut volumes) = volumes(None);
    volumes.folder = state.path().join("file");
    std::fs::write(&volumes.folder, "").unwrap();
    assert!(volumes.put_back().is_err() && volumes.drop_copies().is_err());
    std::fs::remove_file(&volumes.folder).unwrap();
    volumes.put_back().unwrap();
}

/// Where a mount is on one, it cannot go; the others do.
#[test]
fn one_copy_that_stays_keeps_no_other() {
    let (_state, volumes) = volumes(None);
    let copies = ["a", "b", "c"].map(|of| volumes.before(&name(of)));
    for copy in &copies {
        std::fs::create_dir(copy).unwrap();
    }
    let run = |program: &str, more: &[&Path]| {
        let mut run = std::process::Command::new(program);
        assert!(run.args(more).status().unwrap().success());
    };
    run("mount", &[Path::new("--bind"), &copies[1], &copies[1]]);
    let dropped = volumes.drop_copies();
    run("umount", &[&copies[1]]);
    let error = dropped.unwrap_err().to_string();
    assert!(error.contains(".before-b"), "{error}");
    assert_eq!(volumes.entries(), [".before-b"]);
    volumes.drop_copies().unwrap();
    assert_eq!(volumes.entries(), [""; 0]);
}

/// What the child says is the reason, and the volume is what it was.
#[test]
fn a_volume_that_cannot_be_copied_is_told_by_its_name() {
    if !alone() {
        return;
    }
    let (_state, volumes) = volumes(Some(Means::Image));
    made(&volumes, "data");
    // Somebody else has it mounted: what is copied could be half of a change.
    let place = volumes.place(&name("data"));
    let held = std::fs::File::open(place.folder()).unwrap();
    let error = copied(&volumes, &[("data", 2)]).unwrap_err();
    assert!(error.contains("volume `data` cannot be copied"), "{error}");
    drop(held);
    assert_eq!(volumes.record(&name("data")).data_version, 1);
    volumes.put_back().unwrap();
    assert_eq!(volumes.entries(), ["data"]);
    assert_eq!(volumes.close_all(), [""; 0]);
}

#[test]
fn a_record_from_before_is_of_the_first_version_and_is_written_as_it_was() {
    let (_state, volumes) = volumes(None);
    made(&volumes, "data");
    let path = volumes.own("data").join("volume.json");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        !text.contains("data_version") && !text.contains("copied_at"),
        "{text}"
    );
    assert_eq!(volumes.record(&name("data")).data_version, 1);
}
