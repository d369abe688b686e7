//! What a container sees of files, and that a hostile image reaches nothing outside.

use std::fs;
use std::os::unix::fs::symlink;

use coracle_runtime::{Mount, Rootfs, Step, reap};

use crate::support::{Place, launch};

pub fn processes_and_mounts_are_its_own() {
    let place = Place::new();
    let outcome = place.shell("echo $(ls /proc | grep -c '^[0-9]'); grep -c . /proc/self/mountinfo; cat /proc/self/mountinfo");
    let mut lines = outcome.output.lines();
    let processes: usize = lines.next().unwrap().parse().unwrap();
    assert!(processes <= 5, "{}", outcome.output);
    assert!(!outcome.output.contains(" shared:"), "{}", outcome.output);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !host.contains(place.path("merged").to_str().unwrap()),
        "the overlay must not be seen outside"
    );

    // The cgroup namespace begins at the container's own cgroup.
    let cgroups = place.shell("cat /proc/self/cgroup").output;
    assert!(
        cgroups
            .lines()
            .any(|line| line.ends_with(":memory:/") || line == "0::/"),
        "{cgroups}"
    );
    assert!(!cgroups.contains("coracle-test-runtime"), "{cgroups}");
    // All of them are there, and none takes a new one.
    let tried = place
        .shell(
            "cd /sys/fs/cgroup; ls cgroup.procs memory/cgroup.procs 2>/dev/null | wc -l; \
             for folder in */; do mkdir $folder/x 2>/dev/null && echo made; done; mkdir x",
        )
        .output;
    assert_eq!(
        tried,
        "1\nmkdir: can't create directory 'x': Read-only file system\n"
    );
}

pub fn paths_are_masked_and_readonly() {
    let place = Place::new();
    let output = place.shell(
        "cat /proc/keys | wc -c; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
         echo 1 > /proc/sys/kernel/panic; touch /sys/x; touch /proc/x",
    );
    let lines: Vec<&str> = output.output.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "0"], "{}", output.output);
    assert_eq!(
        output.output.matches("Read-only file system").count(),
        2,
        "{}",
        output.output
    );
}

pub fn a_readonly_root_is_readonly_and_volumes_are_not() {
    let place = Place::new();
    let volume = place.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(place.path("file"), "one file\n").unwrap();
    let mut spec = place.spec(
        "touch /x; touch /data/written; touch /fixed/x; cat /etc/deep/file; touch /run/t && echo tmpfs; \
         echo hi > /dev/null && echo null; ls -l /dev/ptmx /dev/fd >/dev/null && echo links",
    );
    spec.rootfs_readonly = true;
    spec.mounts = vec![
        Mount::bind(&volume, "/data", false),
        Mount::bind(&volume, "/fixed", true),
        Mount::bind(place.path("file"), "/etc/deep/file", true),
        Mount::tmpfs("/run", Some(1 << 20)),
    ];
    let output = launch(spec).unwrap().output;
    assert_eq!(
        output.matches("Read-only file system").count(),
        2,
        "{output}"
    );
    assert!(
        output.ends_with("one file\ntmpfs\nnull\nlinks\n"),
        "{output}"
    );
    assert!(volume.join("written").exists());
}

pub fn volumes_follow_links_only_inside() {
    let place = Place::new();
    let (outside, volume) = (place.path("outside"), place.path("volume"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("here"), "").unwrap();
    let image = place.path("image");
    fs::create_dir_all(image.join("var/lib")).unwrap();
    symlink("/var/lib", image.join("good")).unwrap();
    symlink(&outside, image.join("bad")).unwrap();
    symlink("../../../../../../../../../../..", image.join("up")).unwrap();

    let mut spec = place.spec("ls /var/lib/data");
    spec.mounts = vec![Mount::bind(&volume, "/good/data", false)];
    assert_eq!(launch(spec).unwrap().output, "here\n");

    let mut spec = place.spec("true");
    spec.mounts = vec![Mount::bind(&volume, "/bad/data", false)];
    assert_eq!(
        launch(spec)
            .err()
            .expect("a dangling link is no target")
            .step,
        Step::Mount
    );
    let mut spec = place.spec("ls /tmp/data");
    spec.mounts = vec![Mount::bind(&volume, "/up/tmp/data", false)];
    assert_eq!(launch(spec).unwrap().output, "here\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

pub fn proc_cannot_be_mounted_on() {
    let place = Place::new();
    symlink("/proc/self", place.path("image/innocent")).unwrap();
    for target in ["/proc", "/proc/self/attr", "/innocent/fd", "/"] {
        let mut spec = place.spec("true");
        spec.mounts = vec![Mount::bind(place.path("upper"), target, false)];
        let failure = launch(spec)
            .err()
            .unwrap_or_else(|| panic!("{target} must be refused"));
        assert_eq!(failure.step, Step::Mount, "{failure}");
    }
}

pub fn hostile_images_reach_nothing_outside() {
    for name in ["proc", "sys", "dev"] {
        let place = Place::new();
        let outside = place.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("null"), "untouched").unwrap();
        for link in [outside.to_str().unwrap(), "../outside", "/tmp", "."] {
            let _ = fs::remove_file(place.path("image").join(name));
            symlink(link, place.path("image").join(name)).unwrap();
            let failure = launch(place.spec("true"))
                .err()
                .unwrap_or_else(|| panic!("/{name} -> {link} must be refused"));
            assert!(
                matches!(failure.step, Step::Proc | Step::Sys | Step::Dev),
                "{failure}"
            );
            let mut spec = place.spec("true");
            spec.rootfs = Rootfs::Directory(place.path("image"));
            assert!(launch(spec).is_err());
        }
        assert_eq!(
            fs::read_to_string(outside.join("null")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_dir(place.path("image/tmp")).unwrap().count(), 0);
        assert_eq!(reap::reap_all(), [], "failures leave no child to reap");
    }

    // /dev/shm, pts and the like as links lie in our own tmpfs and have no effect.
    let place = Place::new();
    fs::create_dir_all(place.path("image/dev")).unwrap();
    symlink("/etc", place.path("image/dev/shm")).unwrap();
    assert_eq!(
        place
            .shell("touch /dev/shm/x; ls /etc 2>/dev/null | wc -l")
            .output,
        "0\n"
    );
}
