use super::*;

fn volumes(means: Option<Means>) -> (tempfile::TempDir, Volumes) {
    let state = tempfile::tempdir().unwrap();
    for name in ["volumes", "staging"] {
        std::fs::create_dir(state.path().join(name)).unwrap();
    }
    let folder = state.path().join("volumes");
    (state, Volumes { folder, means })
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
    let (_state, volumes) = volumes(None);
    let limit = DiskLimit::of_bytes(1 << 20);
    volumes
        .create(&name("data"), limit, Some(1000), (0, 0))
        .unwrap();
    assert_eq!(volumes.record(&name("data")).owner, Some(1000));
    std::fs::write(volumes.own("data").join("volume.json"), "{}").unwrap();
    assert_eq!(volumes.record(&name("data")).owner, Some(0));
}

#[test]
fn a_board_has_so_many_volumes_and_no_more() {
    let (_state, volumes) = volumes(None);
    let limit = DiskLimit::of_bytes(1 << 20);
    for number in 0..MOST {
        std::fs::create_dir(volumes.own(&format!("v{number}"))).unwrap();
    }
    let one_more = volumes.create(&name("more"), limit, None, (0, 0));
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
