//! Files that the old layer has already: shared, and never more than that. Needs root.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_images::layout::LayerType;
use coracle_images::unpack::{Applied, Beside, Linked, Source, apply_layer_beside, link_unchanged};
use coracle_images::{Limits, Sha256Digest};
use proptest::prelude::*;
use support::{facts, fd, require_root};
use tar::{EntryType, Header};

/// A tar: a member's mode is 0644, its owner root, its time 1.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Tar(tar::Builder::new(Vec::new())).folder("./")
    }

    fn with(
        mut self,
        kind: EntryType,
        name: &str,
        data: &[u8],
        facts: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(data.len() as u64);
        facts(&mut header);
        self.0.append_data(&mut header, name, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.with(EntryType::Regular, name, data, |_| {})
    }

    fn folder(self, name: &str) -> Self {
        self.with(EntryType::Directory, name, b"", |header| {
            header.set_mode(0o755)
        })
    }

    fn attribute(mut self, key: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(key, value)]).unwrap();
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Link);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn apply(tar: &[u8], old: Option<&Path>, dest: &Path) -> Applied {
    let mut blob = tempfile::tempfile().unwrap();
    blob.write_all(tar).unwrap();
    std::io::Seek::rewind(&mut blob).unwrap();
    let source = Source::Full {
        blob,
        layer: LayerType::Tar,
    };
    fs::create_dir(dest).unwrap();
    let beside = Beside {
        old: old.map(fd),
        ..Beside::default()
    };
    let applied = apply_layer_beside(source, fd(dest), beside, &Limits::default()).unwrap();
    assert_eq!(applied.diff_id, Sha256Digest::of(tar));
    applied
}

/// Two layers beside each other, the second one by the first one, and alone for comparison.
struct Pair {
    _dir: tempfile::TempDir,
    old: PathBuf,
    new: PathBuf,
    applied: Applied,
    linked: Linked,
}

impl Pair {
    fn of(old: &[u8], new: &[u8]) -> Self {
        Self::changed(old, new, |_| {})
    }

    /// The old one is changed by hand before.
    fn changed(old: &[u8], new: &[u8], change: impl FnOnce(&Path)) -> Self {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let [old_tree, new_tree, alone] = ["old", "new", "alone"].map(|name| dir.path().join(name));
        apply(old, None, &old_tree);
        change(&old_tree);
        let before = facts(&old_tree);
        let applied = apply(new, Some(&old_tree), &new_tree);
        let linked = link(&old_tree, &new_tree);
        assert_eq!(facts(&old_tree), before, "the old layer changed");
        let written = apply(new, None, &alone);
        assert_eq!(
            facts(&new_tree),
            facts(&alone),
            "another tree than without the old layer"
        );
        assert_eq!(names(&new_tree), names(&alone), "files with other names");
        assert_eq!(
            applied.bytes_written + applied.bytes_spared,
            written.bytes_written
        );
        assert_eq!(applied.xattrs_left_out, written.xattrs_left_out);
        Pair {
            _dir: dir,
            old: old_tree,
            new: new_tree,
            applied,
            linked,
        }
    }

    fn shares(&self, name: &str) -> bool {
        inode(&self.old.join(name)) == inode(&self.new.join(name))
    }
}

fn link(old: &Path, new: &Path) -> Linked {
    link_unchanged(fd(old).as_fd(), fd(new).as_fd(), &Limits::default()).unwrap()
}

fn inode(path: &Path) -> (u64, u64) {
    let facts = fs::symlink_metadata(path).unwrap();
    (facts.dev(), facts.ino())
}

/// Which names are of one file, within a tree.
fn names(root: &Path) -> Vec<Vec<String>> {
    let mut files = BTreeMap::<_, Vec<String>>::new();
    for name in facts(root).into_keys() {
        files
            .entry(inode(&root.join(&name)))
            .or_default()
            .push(name);
    }
    let mut names: Vec<_> = files.into_values().collect();
    names.sort();
    names
}

/// More than is compared at once.
fn large(seed: u8) -> Vec<u8> {
    (0..200_000_u32).map(|n| (n / 251) as u8 ^ seed).collect()
}

#[test]
fn what_did_not_change_is_shared_and_nothing_else_is() {
    let mut late = large(0);
    *late.last_mut().unwrap() ^= 1;
    let mut early = large(0);
    early[0] ^= 1;
    let with = |late: &[u8], early: &[u8], extra: &[u8]| {
        Tar::new()
            .folder("a")
            .file("a/same", &large(0))
            .file("a/empty", b"")
            .file("a/late", late)
            .file("a/early", early)
            .file("longer", extra)
            .end()
    };
    let pair = Pair::of(
        &with(&large(0), &large(0), b"one"),
        &with(&late, &early, b"one more"),
    );
    assert!(pair.shares("a/same") && pair.shares("a/empty"));
    for name in ["a/late", "a/early", "longer", "a"] {
        assert!(!pair.shares(name), "{name}");
    }
    assert_eq!(
        pair.linked,
        Linked {
            links: 2,
            copies: 0
        }
    );
    assert_eq!(
        (pair.applied.links_pending, pair.applied.bytes_spared),
        (2, 200_000)
    );

    // The old one goes, and the new one stays whole.
    let before = facts(&pair.new);
    fs::remove_dir_all(&pair.old).unwrap();
    assert_eq!(facts(&pair.new), before);
    assert_eq!(fs::metadata(pair.new.join("a/same")).unwrap().nlink(), 1);
}

#[test]
fn one_changed_fact_and_a_file_is_written_anew() {
    type Change = fn(&mut Header);
    let changes: [(&str, Change); 4] = [
        ("mode", |header| header.set_mode(0o4644)),
        ("user", |header| header.set_uid(1)),
        ("group", |header| header.set_gid(1)),
        ("time", |header| header.set_mtime(2)),
    ];
    let old = Tar::new().file("f", b"same").end();
    for (what, change) in changes {
        let new = Tar::new()
            .with(EntryType::Regular, "f", b"same", change)
            .end();
        assert!(!Pair::of(&old, &new).shares("f"), "{what}");
        assert!(!Pair::of(&new, &old).shares("f"), "{what}");
    }

    // cap_net_bind_service=ep, as `setcap` writes it, and an attribute of the user.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let key = "SCHILY.xattr.security.capability";
    let capable = Tar::new()
        .attribute(key, &capability)
        .file("f", b"same")
        .end();
    assert!(!Pair::of(&old, &capable).shares("f"));
    assert!(!Pair::of(&capable, &old).shares("f"));
    assert!(Pair::of(&capable, &capable).shares("f"));
    let user = |value: &[u8]| {
        let tar = Tar::new().attribute("SCHILY.xattr.user.note", value);
        tar.file("f", b"same").end()
    };
    assert!(!Pair::of(&user(b"one"), &user(b"two")).shares("f"));
    assert!(!Pair::of(&user(b"one"), &old).shares("f"));

    // What this board does not take from images is none of a file's facts.
    let labelled = Tar::new().attribute("SCHILY.xattr.security.selinux", b"label");
    let labelled = labelled.file("f", b"same").end();
    let pair = Pair::of(&old, &labelled);
    assert!(pair.shares("f"));
    assert_eq!(pair.applied.xattrs_left_out, 1);
}

#[test]
fn nothing_but_a_file_of_the_old_layer_is_shared() {
    let new = Tar::new().folder("d").file("d/f", b"secret").end();
    let old = Tar::new().folder("d").file("d/f", b"secret").end();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("d")).unwrap();
    let victim = outside.path().join("d/f");
    fs::write(&victim, b"secret").unwrap();
    File::open(&victim)
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
        .unwrap();
    let facts_of = |path: &Path| (inode(path), fs::read(path).unwrap());
    let before = facts_of(&victim);
    type Change<'a> = Box<dyn Fn(&Path) + 'a>;
    let changes: [(&str, Change<'_>); 6] = [
        ("a symlink", Box::new(|f| symlink(&victim, f).unwrap())),
        (
            "a dangling symlink",
            Box::new(|f| symlink("gone", f).unwrap()),
        ),
        ("a folder", Box::new(|f| fs::create_dir(f).unwrap())),
        ("a pipe", Box::new(|f| node(f, "p", ""))),
        ("a device", Box::new(|f| node(f, "c", "1 3"))),
        ("nothing", Box::new(|_| {})),
    ];
    for (what, change) in &changes {
        let pair = Pair::changed(&old, &new, |tree| {
            fs::remove_file(tree.join("d/f")).unwrap();
            change(&tree.join("d/f"));
        });
        assert_eq!(pair.linked, Linked::default(), "{what}");
        assert_eq!(facts_of(&victim), before, "{what}");
    }
    // A symlink on the way.
    let pair = Pair::changed(&old, &new, |tree| {
        fs::remove_dir_all(tree.join("d")).unwrap();
        symlink(outside.path().join("d"), tree.join("d")).unwrap();
    });
    assert_eq!(pair.linked, Linked::default());
    assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1);
}

fn node(path: &Path, kind: &str, device: &str) {
    let made = Command::new("mknod")
        .arg(path)
        .arg(kind)
        .args(device.split_whitespace())
        .status();
    assert!(made.unwrap().success());
}

/// As a child that was taken over could leave them.
#[test]
fn what_waits_by_somebody_elses_hand_gets_a_file_of_the_old_layer_or_nothing() {
    require_root();
    let dir = tempfile::tempdir().unwrap();
    let [old, new, outside] = ["old", "new", "outside"].map(|name| dir.path().join(name));
    for folder in [&old, &new, &outside] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(outside.join("f"), b"untouched").unwrap();
    let socket = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    let refused =
        || link_unchanged(fd(&old).as_fd(), fd(&new).as_fd(), &Limits::default()).is_err();
    socket(&new.join("f"));
    assert!(refused(), "nothing is there");
    for (kind, device) in [("c", "10 130"), ("b", "7 0"), ("p", "")] {
        node(&old.join("f"), kind, device);
        assert!(refused(), "{kind}");
        fs::remove_file(old.join("f")).unwrap();
    }
    symlink("../outside/f", old.join("f")).unwrap();
    assert!(refused(), "a symlink");
    fs::remove_file(new.join("f")).unwrap();

    // Folders that are links are not entered, on either side.
    symlink("../outside", old.join("way")).unwrap();
    fs::create_dir(new.join("way")).unwrap();
    socket(&new.join("way/f"));
    assert!(refused(), "a symlink on the way in the old layer");
    fs::remove_dir_all(new.join("way")).unwrap();
    fs::remove_file(old.join("way")).unwrap();
    fs::create_dir(old.join("way")).unwrap();
    fs::write(old.join("way/s"), b"old").unwrap();
    socket(&outside.join("s"));
    symlink("../outside", new.join("way")).unwrap();
    assert!(!refused());
    let there = fs::symlink_metadata(outside.join("s")).unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(fs::metadata(outside.join("f")).unwrap().nlink(), 1);
}

#[test]
fn names_of_one_file_are_those_that_the_layer_says() {
    let two = Tar::new()
        .file("a", b"x")
        .link("b", "a")
        .file("c", b"y")
        .end();
    let apart = Tar::new()
        .file("a", b"x")
        .file("b", b"x")
        .file("c", b"y")
        .end();
    // One name of the old file is as good as the other, but not both.
    let pair = Pair::of(&two, &apart);
    assert_eq!(
        pair.linked,
        Linked {
            links: 2,
            copies: 1
        }
    );
    assert_ne!(pair.shares("a"), pair.shares("b"));
    let pair = Pair::of(&apart, &two);
    assert!(pair.shares("c") && !pair.shares("a"));
    assert_eq!(inode(&pair.new.join("a")), inode(&pair.new.join("b")));
    let pair = Pair::of(&two, &two);
    assert!(pair.shares("c") && !pair.shares("a"));

    // The third version: each file has several names by now.
    let third = pair._dir.path().join("third");
    apply(&two, Some(&pair.new), &third);
    link(&pair.new, &third);
    assert_eq!(facts(&third), facts(&pair.new));
    assert_eq!(names(&third), names(&pair.new));
    assert_eq!(fs::metadata(third.join("c")).unwrap().nlink(), 3);
}

#[test]
fn the_last_member_of_a_name_counts() {
    let old = Tar::new()
        .folder("d")
        .file("d/f", b"x")
        .file("g", b"y")
        .end();
    for new in [
        // Another file, a link, a whiteout that comes too late, a folder, a file in the place of the folder.
        Tar::new()
            .folder("d")
            .file("d/f", b"x")
            .file("d/f", b"z")
            .file("g", b"y"),
        Tar::new()
            .file("g", b"y")
            .folder("d")
            .file("d/f", b"x")
            .link("d/f", "g"),
        Tar::new()
            .folder("d")
            .file("d/f", b"x")
            .file("d/.wh.f", b"")
            .file("g", b"y"),
        Tar::new()
            .folder("d")
            .file("d/f", b"x")
            .folder("d/f")
            .file("d/f/h", b"x"),
        Tar::new()
            .folder("d")
            .file("d/f", b"x")
            .file("d", b"no folder")
            .folder("d")
            .file("g", b"y"),
        Tar::new().file("g", b"y").link("g", "g").file("d/f", b"x"),
    ] {
        Pair::of(&old, &new.end());
    }
}

/// An empty file system on a loop device.
struct Disk {
    place: tempfile::TempDir,
    _image: tempfile::NamedTempFile,
}

impl Disk {
    fn new(kind: &str, megabytes: u64) -> Self {
        require_root();
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(megabytes << 20).unwrap();
        let mkfs = format!("mkfs.{kind}");
        let made = Command::new(&mkfs).arg("-q").arg(image.path()).status();
        assert!(made.expect(&mkfs).success());
        let place = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", kind, "-o", "loop"])
            .arg(image.path())
            .arg(place.path());
        assert!(mount.status().unwrap().success());
        Disk {
            place,
            _image: image,
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever looks through all of the machine's files at this moment keeps it busy.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.place.path())
            .status();
    }
}

impl Disk {
    /// Both layers on it; what `change` does to the old one, and what became of the files.
    fn update(&self, old: &[u8], new: &[u8], change: impl FnOnce(&Path)) -> (Applied, Linked) {
        let [old_tree, new_tree] = ["old", "new"].map(|name| self.place.path().join(name));
        apply(old, None, &old_tree);
        change(&old_tree);
        let applied = apply(new, Some(&old_tree), &new_tree);
        let linked = link(&old_tree, &new_tree);
        let alone = self.place.path().join("alone");
        apply(new, None, &alone);
        assert_eq!(facts(&new_tree), facts(&alone));
        (applied, linked)
    }
}

#[test]
fn a_file_with_all_the_names_that_it_may_have_is_copied() {
    let disk = Disk::new("ext4", 24);
    let layer = Tar::new().file("full", b"x").file("free", b"y").end();
    let (_, linked) = disk.update(&layer, &layer, |old| {
        // EXT4_LINK_MAX is 65000.
        let names = disk.place.path().join("names");
        fs::create_dir(&names).unwrap();
        for n in 1..65_000 {
            fs::hard_link(old.join("full"), names.join(n.to_string())).unwrap();
        }
    });
    assert_eq!(
        linked,
        Linked {
            links: 1,
            copies: 1
        }
    );
}

#[test]
fn files_of_another_file_system_are_copied() {
    let disk = Disk::new("ext4", 24);
    let here = tempfile::tempdir().unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Tar::new()
        .file("plain", &large(3))
        .attribute("SCHILY.xattr.security.capability", &capability)
        .with(EntryType::Regular, "capable", b"x", |header| {
            header.set_mode(0o6755);
            header.set_uid(33);
        })
        .end();
    let (old, new) = (disk.place.path().join("old"), here.path().join("new"));
    apply(&layer, None, &old);
    let applied = apply(&layer, Some(&old), &new);
    assert_eq!(applied.links_pending, 2);
    assert_eq!(
        link(&old, &new),
        Linked {
            links: 0,
            copies: 2
        }
    );
    assert_eq!(facts(&new), facts(&old));
    let mut value = [0; 32];
    let length = rustix::fs::getxattr(new.join("capable"), "security.capability", &mut value);
    assert_eq!(value[..length.unwrap()], capability);
}

#[test]
fn reflinks_share_whatever_the_facts_are_and_are_files_of_their_own() {
    let disk = Disk::new("btrfs", 128);
    let layer = |time| {
        let tar = Tar::new().file("same", &large(1));
        let later = |header: &mut Header| header.set_mtime(time);
        tar.with(EntryType::Regular, "later", &large(2), later)
            .end()
    };
    let (applied, linked) = disk.update(&layer(1), &layer(2), |_| {});
    assert_eq!(linked, Linked::default());
    assert_eq!((applied.links_pending, applied.bytes_spared), (0, 400_000));
    let [old, new] = ["old", "new"].map(|name| disk.place.path().join(name).join("same"));
    assert_ne!(inode(&old), inode(&new));
    fs::write(&old, b"changed").unwrap();
    assert_eq!(fs::read(&new).unwrap(), large(1));
}

/// Bytes that were written to the disk below a folder (Linux, admin-guide/iostats.rst: the seventh field, in sectors).
fn written(folder: &Path) -> u64 {
    rustix::fs::syncfs(fd(folder)).unwrap();
    let device = fs::metadata(folder).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap();
    let sectors: u64 = stat.split_whitespace().nth(6).unwrap().parse().unwrap();
    sectors * 512
}

/// The figures of docs/delta-format.md: one file of 1000 is another one, of 4 to 40 KiB each.
#[test]
fn an_update_of_one_file_writes_little_to_the_disk() {
    let disk = Disk::new("ext4", 128);
    let layer = |version: u8| {
        let mut tar = Tar::new();
        for folder in 0..20_u32 {
            tar = tar.folder(&format!("{folder}"));
            for file in 0..50_u32 {
                let size = 4096 + (folder * 50 + file) as usize * 7919 % 36_864;
                let seed = if (folder, file) == (7, 7) { version } else { 0 };
                tar = tar.file(&format!("{folder}/{file}"), &vec![seed ^ file as u8; size]);
            }
        }
        tar.end()
    };
    let [first, shared, alone] =
        ["first", "shared", "alone"].map(|name| disk.place.path().join(name));
    apply(&layer(1), None, &first);
    let mut before = written(&first);
    let mut since = |folder: &Path| {
        let now = written(folder);
        now - std::mem::replace(&mut before, now)
    };
    apply(&layer(2), Some(&first), &shared);
    assert_eq!(link(&first, &shared).links, 999);
    let with = since(&shared);
    apply(&layer(2), None, &alone);
    let without = since(&alone);
    println!("{with} bytes written where files are shared, {without} where they are not");
    assert!(with * 10 < without, "{with} and {without}");
}

fn tree() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    // Name, contents, and what else is said of it.
    proptest::collection::vec((0..12_u8, 0..3_u8, 0..12_u8), 0..16)
}

fn tar_of(tree: &[(u8, u8, u8)]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut names = Vec::<String>::new();
    for (name, contents, facts) in tree {
        // Some are below the name of another.
        let path = match name {
            0..8 => format!("{name}"),
            _ => format!("{}/{name}", name % 2),
        };
        let data = vec![*contents; usize::from(*contents) * 50_000];
        tar = match (facts, names.last()) {
            (0, _) => tar.with(EntryType::Regular, &path, &data, |header| {
                header.set_mode(0o755)
            }),
            (1, Some(target)) => tar.link(&path, target),
            (2, _) => tar.with(EntryType::Fifo, &path, b"", |_| {}),
            (3, _) => tar.folder(&path),
            _ => tar.file(&path, &data),
        };
        names.push(path);
    }
    tar.end()
}

/// Whether it is a layer at all: no file is where a folder has to be, no link leads nowhere.
fn is_layer(tar: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let tree = fd(dir.path());
    coracle_images::unpack::unpack_tar(tar, tree, &Limits::default()).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_layer_beside_any_other_is_what_it_is_alone(old in tree(), new in tree(), keep in 0usize..16) {
        // Mostly alike.
        let mut next = old.clone();
        next.truncate(keep);
        next.extend(new);
        let (old, new) = (tar_of(&old), tar_of(&next));
        prop_assume!(is_layer(&old) && is_layer(&new));
        Pair::of(&old, &new);
    }
}
