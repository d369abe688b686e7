use super::*;
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// A place to copy from and one to copy to, both with an empty `data`.
fn two() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for place in [&from, &to] {
        std::fs::create_dir_all(place.join("data")).unwrap();
    }
    (folder, from, to)
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; CHUNK];
    let Ok(length) = rustix::fs::llistxattr(path, names.as_mut_slice()) else {
        return BTreeMap::new();
    };
    let names = names[..length].split(|byte| *byte == 0);
    let value = |name: &[u8]| {
        let mut value = vec![0; CHUNK];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        value[..length].to_vec()
    };
    names
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_vec(), value(name)))
        .collect()
}

/// Everything that can be said of a tree but its files' numbers, which are told by the first name that has one.
fn told(top: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(
        top: &Path,
        path: &Path,
        first: &mut BTreeMap<u64, PathBuf>,
        all: &mut BTreeMap<PathBuf, String>,
    ) {
        let facts = path.symlink_metadata().unwrap();
        let own = path.strip_prefix(top).unwrap().to_owned();
        let mut names = Vec::new();
        let holds = if facts.is_dir() {
            names.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            names.sort();
            String::new()
        } else if facts.is_symlink() {
            format!("{:?}", std::fs::read_link(path).unwrap())
        } else if facts.is_file() {
            let bytes = std::fs::read(path).unwrap();
            coracle_digest::Sha256Digest::of(&bytes).hex()
        } else {
            String::new()
        };
        let one = match facts.is_dir() {
            true => &own,
            false => first.entry(facts.ino()).or_insert_with(|| own.clone()),
        };
        let times = (facts.mtime(), facts.mtime_nsec());
        let text = format!(
            "{:o} {}:{} {} {times:?} {} {holds} {one:?} {:?}",
            facts.mode(),
            facts.uid(),
            facts.gid(),
            facts.rdev(),
            if facts.is_dir() { 0 } else { facts.size() },
            xattrs(path)
        );
        all.insert(own, text);
        for name in names {
            walk(top, &name, first, all);
        }
    }
    let mut all = BTreeMap::new();
    walk(top, top, &mut BTreeMap::new(), &mut all);
    all
}

#[track_caller]
fn copies_all(from: &Path, to: &Path) {
    let before = told(&from.join("data"));
    tree(from, to).unwrap();
    assert_eq!(told(&to.join("data")), before);
    assert_eq!(
        told(&from.join("data")),
        before,
        "what is copied stays as it was"
    );
    let names: Vec<_> = std::fs::read_dir(to).unwrap().collect();
    assert_eq!(names.len(), 1, "something was left beside it");
}

fn dated(path: &Path, seconds: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(seconds, nanos);
    let file = File::open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn owners_modes_times_attributes_links_and_special_files_are_kept() {
    let (_folder, from, to) = two();
    let data = from.join("data");
    let at = |name: &str| data.join(name);
    std::fs::create_dir_all(at("a/b")).unwrap();
    std::fs::write(at("a/tool"), "#!").unwrap();
    lchown(at("a/tool"), Some(1000), Some(1001)).unwrap();
    std::fs::set_permissions(at("a/tool"), std::fs::Permissions::from_mode(0o6751)).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::hard_link(at("a/tool"), at("a/b/same")).unwrap();
    std::fs::hard_link(at("a/tool"), at("same")).unwrap();
    symlink("/etc/passwd", at("a/out")).unwrap();
    symlink("nowhere", at("a/b/dangling")).unwrap();
    std::fs::hard_link(at("a/out"), at("out")).unwrap();
    lchown(at("a/out"), Some(7), Some(8)).unwrap();
    drop(UnixListener::bind(at("a/socket")).unwrap());
    mknodat(
        CWD,
        at("a/fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o622),
        0,
    )
    .unwrap();
    std::fs::write(at("a/b/large"), vec![7; 3 * CHUNK + 5]).unwrap();
    for (path, name, value) in [
        ("a/tool", "user.word", &b"said"[..]),
        ("a", "user.folder", b""),
        // CAP_NET_BIND_SERVICE, which a change of owner takes away.
        (
            "a/tool",
            "security.capability",
            &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
    ] {
        let path = at(path);
        rustix::fs::setxattr(&path, name, value, XattrFlags::empty()).unwrap();
    }
    lchown(at("a/b"), Some(5), Some(6)).unwrap();
    std::fs::set_permissions(at("a/b"), std::fs::Permissions::from_mode(0o2700)).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o1777)).unwrap();
    for (number, name) in ["a/tool", "empty", "a/b/large", "a/b", "a"]
        .iter()
        .enumerate()
    {
        dated(&at(name), 1_000_000_000 + number as u64, 123_456_789);
    }
    dated(&data, 7, 9);
    copies_all(&from, &to);
    assert!(
        to.join("data/a/socket")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_socket()
    );
}

#[test]
fn holes_stay_holes() {
    let (_folder, from, to) = two();
    let path = from.join("data/sparse");
    let file = File::create(&path).unwrap();
    let length = 1 << 40;
    file.set_len(length).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 5 << 30).unwrap();
    file.write_all_at(b"end", length - 3).unwrap();
    let only = File::create(from.join("data/only")).unwrap();
    only.set_len(1 << 30).unwrap();
    drop((file, only));
    tree(&from, &to).unwrap();
    let copy = File::open(to.join("data/sparse")).unwrap();
    let facts = copy.metadata().unwrap();
    assert_eq!(facts.len(), length);
    assert!(facts.blocks() * 512 < 1 << 20, "{} blocks", facts.blocks());
    for (at, word) in [
        (0, &b"begin"[..]),
        (5 << 30, b"middle"),
        (length - 3, b"end"),
    ] {
        let mut read = vec![0; word.len()];
        copy.read_exact_at(&mut read, at).unwrap();
        assert_eq!(read, word);
    }
    let only = to.join("data/only").metadata().unwrap();
    assert_eq!((only.len(), only.blocks()), (1 << 30, 0));
}

/// Deeper than a path may be long, and than files may be open.
#[test]
fn a_folder_may_be_as_deep_as_an_app_likes() {
    const DEEP: usize = 3000;
    let (folder, from, to) = two();
    let mut at = super::folder(CWD, from.join("data")).unwrap();
    for _ in 0..DEEP {
        mkdirat(&at, "deep", Mode::RWXU).unwrap();
        at = super::folder(&at, "deep").unwrap();
    }
    mknodat(&at, "bottom", FileType::RegularFile, Mode::RUSR, 0).unwrap();
    tree(&from, &to).unwrap();
    let mut at = super::folder(CWD, to.join("data")).unwrap();
    for _ in 0..DEEP {
        at = super::folder(&at, "deep").unwrap();
    }
    statat(&at, "bottom", AtFlags::SYMLINK_NOFOLLOW).unwrap();
    erase(&from).unwrap();
    erase(&to).unwrap();
    drop(folder);
}

/// Trees that nobody thought of, by a number that says which.
#[test]
fn whatever_is_in_a_volume_its_copy_is_the_same() {
    for seed in 0..40 {
        let (_folder, from, to) = two();
        let mut random = Random(seed);
        let (mut folders, mut files) = (vec![from.join("data")], Vec::<PathBuf>::new());
        for number in 0..60 {
            let parent = folders[random.below(folders.len())].clone();
            let path = parent.join(format!("{number}-{}", "ü \n".repeat(random.below(3))));
            match random.below(6) {
                0 => {
                    std::fs::create_dir(&path).unwrap();
                    folders.push(path.clone());
                }
                1 => symlink(format!("../{number}"), &path).unwrap(),
                2 if !files.is_empty() => {
                    std::fs::hard_link(&files[random.below(files.len())], &path).unwrap();
                }
                _ => {
                    let file = File::create(&path).unwrap();
                    for _ in 0..random.below(4) {
                        let bytes = vec![number as u8; random.below(9000)];
                        file.write_all_at(&bytes, random.below(1 << 20) as u64)
                            .unwrap();
                    }
                    files.push(path.clone());
                }
            }
            lchown(
                &path,
                Some(random.below(3) as u32),
                Some(random.below(3) as u32),
            )
            .unwrap();
            if !path.is_symlink() {
                let mode = random.below(0o10000) as u32 | 0o400;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                dated(
                    &path,
                    random.below(1 << 30) as u64,
                    random.below(1_000_000_000) as u32,
                );
            }
        }
        copies_all(&from, &to);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}
