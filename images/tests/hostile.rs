//! Layers that try to get out, to fill the board or to break the reader. Needs root.
//!
//! Each unpacks below `root/inside`; afterwards `root/outside` must be as it was, and nothing else may
//! have appeared in `root`.

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;

use coracle_images::Limits;
use coracle_images::Sha256Digest;
use coracle_images::layout::LayerType;
use coracle_images::unpack::{
    Applied, Source, TarError, UnpackError, apply_layer, mark_opaque, unpack_tar,
};
use support::{facts, fd, require_root};
use tar::{EntryType, Header};

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        require_root();
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(scene.inside()).unwrap();
        fs::create_dir(scene.outside()).unwrap();
        fs::write(scene.outside().join("victim"), "untouched").unwrap();
        scene
    }

    fn inside(&self) -> PathBuf {
        self.dir.path().join("inside")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn unpack(&self, tar: &[u8]) -> Result<Applied, UnpackError> {
        self.unpack_within(tar, &Limits::default())
    }

    fn unpack_within(&self, tar: &[u8], limits: &Limits) -> Result<Applied, UnpackError> {
        let before = facts(&self.outside());
        let result = unpack_tar(tar, fd(&self.inside()), limits);
        assert_eq!(facts(&self.outside()), before, "the world outside changed");
        let names = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(names, 2, "something appeared outside");
        result
    }
}

/// A tar of anything: names are written into the header as they are.
#[derive(Default)]
struct Hostile(Vec<u8>);

impl Hostile {
    fn member(mut self, kind: EntryType, name: &str, link: &str, data: &[u8]) -> Self {
        self.push(kind, name, link, data, (0, 0));
        self
    }

    fn push(&mut self, kind: EntryType, name: &str, link: &str, data: &[u8], device: (u32, u32)) {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(data.len() as u64);
        header.set_device_major(device.0).unwrap();
        header.set_device_minor(device.1).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(EntryType::Regular, name, "", data)
    }

    fn folder(self, name: &str) -> Self {
        self.member(EntryType::Directory, name, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, name, target, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Link, name, target, b"")
    }

    fn device(mut self, name: &str, device: (u32, u32)) -> Self {
        self.push(EntryType::Char, name, "", b"", device);
        self
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            length = rest + length.to_string().len();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.member(EntryType::XHeader, "pax", "", &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

#[test]
fn climbing_paths_are_refused() {
    for name in [
        "../outside/victim",
        "a/../../outside/victim",
        "..",
        "a/b/..",
    ] {
        let scene = Scene::new();
        let error = scene
            .unpack(&Hostile::default().file(name, b"x").end())
            .unwrap_err();
        assert!(
            matches!(error, UnpackError::Path { .. }),
            "{name}: {error:?}"
        );
    }
}

#[test]
fn absolute_paths_land_inside() {
    let scene = Scene::new();
    let victim = scene.outside().join("victim");
    let name = victim.to_str().unwrap();
    scene
        .unpack(&Hostile::default().file(name, b"x").end())
        .unwrap();
    assert_eq!(fs::read(scene.inside().join(&name[1..])).unwrap(), b"x");
}

#[test]
fn nothing_is_written_through_a_symlink() {
    for target in ["../outside", "/", ".", "inner"] {
        let scene = Scene::new();
        let tar = Hostile::default()
            .folder("inner")
            .symlink("door", target)
            .file("door/victim", b"x");
        let error = scene.unpack(&tar.end()).unwrap_err();
        assert!(
            matches!(error, UnpackError::Io { .. }),
            "{target}: {error:?}"
        );
        assert!(!scene.inside().join("inner/victim").exists());
    }
}

#[test]
fn a_file_replaces_a_symlink_and_not_what_it_points_to() {
    let scene = Scene::new();
    let tar = Hostile::default()
        .symlink("door", "../outside/victim")
        .file("door", b"x");
    scene.unpack(&tar.end()).unwrap();
    assert!(
        fs::symlink_metadata(scene.inside().join("door"))
            .unwrap()
            .is_file()
    );
}

#[test]
fn a_symlink_that_takes_the_place_of_an_open_folder_is_not_followed() {
    let scene = Scene::new();
    let tar = Hostile::default()
        .folder("a")
        .file("a/b/file", b"1")
        .symlink("a/b", "../../outside")
        .file("a/b/victim", b"x");
    assert!(matches!(
        scene.unpack(&tar.end()).unwrap_err(),
        UnpackError::Io { .. }
    ));
}

#[test]
fn links_that_were_there_before_are_not_followed_either() {
    let scene = Scene::new();
    symlink("../outside", scene.inside().join("door")).unwrap();
    assert!(
        scene
            .unpack(&Hostile::default().file("door/victim", b"x").end())
            .is_err()
    );
    assert!(
        scene
            .unpack(&Hostile::default().link("copy", "door/victim").end())
            .is_err()
    );
}

#[test]
fn hard_links_stay_inside() {
    let targets = [
        "../outside/victim",
        "/etc/passwd",
        "door/victim",
        ".",
        "",
        "folder",
        "gone",
    ];
    for target in targets {
        let scene = Scene::new();
        let tar = Hostile::default()
            .folder("folder")
            .file(".wh.gone", b"")
            .symlink("door", "../outside")
            .link("copy", target);
        scene.unpack(&tar.end()).unwrap_err();
        assert!(!scene.inside().join("copy").exists(), "{target}");
        assert_eq!(
            fs::metadata(scene.outside().join("victim"))
                .unwrap()
                .nlink(),
            1
        );
    }
    let scene = Scene::new();
    let tar = Hostile::default()
        .file("a", b"x")
        .link("b", "/a")
        .link("a", "b");
    scene.unpack(&tar.end()).unwrap();
    assert_eq!(fs::metadata(scene.inside().join("a")).unwrap().nlink(), 2);
}

#[test]
fn devices_and_pipes_are_made_and_never_opened() {
    let scene = Scene::new();
    let tar = Hostile::default()
        .device("null", (1, 3))
        .member(EntryType::Fifo, "pipe", "", b"");
    // Writing to these names replaces them; opening the pipe would hang.
    let tar = tar
        .device("twice", (1, 3))
        .file("twice", b"a file now")
        .file("pipe", b"x")
        .end();
    scene.unpack(&tar).unwrap();
    assert!(
        fs::symlink_metadata(scene.inside().join("null"))
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert_eq!(
        fs::read(scene.inside().join("twice")).unwrap(),
        b"a file now"
    );
    assert_eq!(fs::read(scene.inside().join("pipe")).unwrap(), b"x");

    let scene = Scene::new();
    let limits = Limits {
        devices: false,
        ..Limits::default()
    };
    let error = scene.unpack_within(&Hostile::default().device("null", (1, 3)).end(), &limits);
    assert!(matches!(error.unwrap_err(), UnpackError::Device(_)));
    // 0/0 would hide a file of a lower layer under a name that nobody sees in the tar.
    let error = scene.unpack(&Hostile::default().device("hidden", (0, 0)).end());
    assert!(matches!(error.unwrap_err(), UnpackError::Device(_)));
}

#[test]
fn whiteouts_of_the_parent_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"] {
        let scene = Scene::new();
        let error = scene
            .unpack(&Hostile::default().file(name, b"").end())
            .unwrap_err();
        assert!(
            matches!(error, UnpackError::Whiteout(_)),
            "{name}: {error:?}"
        );
    }
}

#[test]
fn whiteouts_become_what_overlayfs_knows() {
    let scene = Scene::new();
    let tar = Hostile::default()
        .file(".wh.old", b"")
        .folder("kept")
        .file("kept/.wh..wh..opq", b"")
        .file("kept/new", b"x")
        .file(".wh.replaced", b"")
        .folder("replaced")
        .file("mine", b"x")
        .file(".wh.mine", b"")
        .file(".wh..wh.plnk", b"");
    let applied = scene.unpack(&tar.end()).unwrap();
    let meta = |name: &str| fs::symlink_metadata(scene.inside().join(name)).unwrap();
    assert!(meta("old").file_type().is_char_device() && meta("old").rdev() == 0);
    // A whiteout is for lower layers: what the layer itself brings stays.
    assert!(meta("mine").is_file());
    assert!(meta("replaced").is_dir());
    assert!(!scene.inside().join(".wh..wh.plnk").exists());
    mark_opaque(
        File::open(scene.inside()).unwrap().as_fd(),
        &applied.opaque_pending,
        &Limits::default(),
    )
    .unwrap();
    for folder in ["kept", "replaced"] {
        let mut value = [0; 4];
        let path = scene.inside().join(folder);
        let length = rustix::fs::getxattr(path, c"trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y", "{folder}");
    }
}

use std::os::fd::AsFd;

#[test]
fn attributes_that_steer_overlayfs_are_refused() {
    for name in ["trusted.overlay.redirect", "user.overlay.opaque"] {
        let scene = Scene::new();
        let key = format!("SCHILY.xattr.{name}");
        let tar = Hostile::default().pax(&[(&key, b"/etc")]).file("a", b"");
        let error = scene.unpack(&tar.end()).unwrap_err();
        assert!(matches!(error, UnpackError::Attribute { .. }), "{error:?}");
    }
    let scene = Scene::new();
    let tar = Hostile::default()
        .pax(&[("SCHILY.xattr.security.selinux", b"label")])
        .file("a", b"");
    assert_eq!(scene.unpack(&tar.end()).unwrap().xattrs_left_out, 1);
    // Many small ones, in one header and in several.
    let names: Vec<String> = (0..1600)
        .map(|n| format!("SCHILY.xattr.user.{n:040}"))
        .collect();
    let records: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (&name[..], &b"value"[..]))
        .collect();
    let (front, back) = records.split_at(1000);
    let whole = Hostile::default().pax(&records).file("c", b"");
    let parts = Hostile::default().pax(front).pax(back).pax(front);
    for tar in [whole, parts.file("c", b"")] {
        let error = Scene::new().unpack(&tar.end()).unwrap_err();
        let told = matches!(error, UnpackError::Tar(TarError::Limit { .. }));
        assert!(told, "{error:?}");
    }
    let huge = vec![b'x'; 70 << 10];
    let tar = Hostile::default()
        .pax(&[("SCHILY.xattr.user.huge", &huge)])
        .file("b", b"");
    assert!(matches!(
        scene.unpack(&tar.end()).unwrap_err(),
        UnpackError::Tar(_)
    ));
}

#[test]
fn capabilities_survive_the_change_of_owner() {
    let scene = Scene::new();
    // VFS_CAP_REVISION_2, permitted: CAP_NET_BIND_SERVICE (linux/capability.h).
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Hostile::default().pax(&[
        ("SCHILY.xattr.security.capability", capability),
        ("uid", b"7"),
    ]);
    scene.unpack(&tar.file("a", b"").end()).unwrap();
    let mut value = [0; 64];
    let path = scene.inside().join("a");
    let length = rustix::fs::getxattr(&path, c"security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], capability);
    assert_eq!(fs::metadata(path).unwrap().uid(), 7);
}

#[test]
fn truncation_is_noticed() {
    let whole = Hostile::default()
        .file("first", &[1; 700])
        .file("second", &[2; 700])
        .end();
    // Not the ends between members: there the DiffID tells.
    for length in [100, 511, 513, 1000, 1500, 2000, 2100] {
        let scene = Scene::new();
        let error = scene.unpack(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, UnpackError::Tar(_) | UnpackError::Stream { .. }),
            "{length}: {error:?}"
        );
    }
}

/// Cut at every 512 bytes, and packed here and there: an error, or a tree whose digest says that it is not the layer.
#[test]
fn no_cut_makes_the_layer() {
    let long = "long/".repeat(60) + "name\0";
    let whole = Hostile::default()
        .folder("bin")
        .file("bin/first", &[1; 700])
        .member(EntryType::GNULongName, "././@LongLink", "", long.as_bytes())
        .file("cut", &[2; 1500])
        .pax(&[("path", b"bin/pax"), ("SCHILY.xattr.user.a", b"b")])
        .file("cut", &[3; 512])
        .symlink("bin/link", "first")
        .link("bin/second", "bin/first")
        .file("bin/.wh.old", b"")
        .device("null", (1, 3))
        .end();
    let signed = Sha256Digest::of(&whole);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&whole[..], 3).unwrap();
    for (blob, layer, step) in [
        (&whole, LayerType::Tar, 512),
        (&gzip, LayerType::TarGzip, 29),
        (&zstd, LayerType::TarZstd, 29),
    ] {
        let whole = apply(&Scene::new(), blob, layer, &Limits::default());
        assert_eq!(whole.unwrap().diff_id, signed);
        for length in (0..blob.len()).step_by(step) {
            let scene = Scene::new();
            let before = facts(&scene.outside());
            if let Ok(applied) = apply(&scene, &blob[..length], layer, &Limits::default()) {
                assert_ne!(applied.diff_id, signed, "{layer:?} of {length} bytes");
            }
            assert_eq!(facts(&scene.outside()), before);
        }
    }
}

/// A whiteout has no contents, but its header may announce some.
#[test]
fn sizes_that_no_layer_can_have_are_errors() {
    let most = u64::MAX.to_string();
    for name in [".wh.old", "a", "folder/.wh..wh..opq"] {
        let tar = Hostile::default()
            .pax(&[("size", most.as_bytes())])
            .file(name, b"")
            .file("b", b"x");
        let error = Scene::new().unpack(&tar.end()).unwrap_err();
        let noticed = matches!(error, UnpackError::Tar(_) | UnpackError::Stream { .. });
        assert!(noticed, "{name}: {error:?}");
    }
    // The same in the header itself, as GNU writes what octal digits cannot hold.
    let mut header = Header::new_gnu();
    header.set_path("a").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(1 << 62);
    header.set_cksum();
    let error = Scene::new().unpack(header.as_bytes()).unwrap_err();
    assert!(matches!(error, UnpackError::Stream { .. }), "{error:?}");
}

/// Sparse files could hold more than any disk: neither GNU's kind nor PAX's is taken.
#[test]
fn sparse_files_are_refused() {
    let old = Hostile::default().member(EntryType::GNUSparse, "a", "", b"");
    let new = Hostile::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"a"),
            ("GNU.sparse.realsize", b"1099511627776"),
        ])
        .file("GNUSparseFile.0/a", &[0; 512]);
    for tar in [old, new] {
        let scene = Scene::new();
        let error = scene.unpack(&tar.end()).unwrap_err();
        let refused = matches!(error, UnpackError::Tar(TarError::Type('S')));
        assert!(refused, "{error:?}");
        assert_eq!(fs::read_dir(scene.inside()).unwrap().count(), 0);
    }
}

/// A tar without an end: files of no bytes, each made when it is read.
struct TinyFiles {
    made: u64,
    block: Vec<u8>,
    read: usize,
}

impl Read for TinyFiles {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.block.len() {
            let name = format!("{}/{}", self.made / 1000, self.made);
            self.block = Hostile::default().file(&name, b"").0;
            (self.made, self.read) = (self.made + 1, 0);
        }
        let read = (&self.block[self.read..]).read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

#[test]
fn a_million_tiny_files_stop_at_the_limit() {
    assert!(Limits::default().entries < 1_000_000);
    let limits = Limits {
        entries: 5000,
        ..Limits::default()
    };
    let scene = Scene::new();
    let mut files = TinyFiles {
        made: 0,
        block: Vec::new(),
        read: 0,
    };
    let error = unpack_tar(&mut files, fd(&scene.inside()), &limits).unwrap_err();
    let told = matches!(
        error,
        UnpackError::Tar(TarError::Limit {
            what: "tar members",
            limit: 5000
        })
    );
    assert!(told, "{error:?}");
    assert_eq!(files.made, 5001, "read no further than the limit");
    let folders = fs::read_dir(scene.inside()).unwrap();
    let files = folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count());
    assert_eq!(files.sum::<usize>(), 5000);
}

#[test]
fn nonsense_is_an_error() {
    let mut numbers = Hostile::default().file("a", b"x").end();
    numbers[124..136].copy_from_slice(b"99999999999\0");
    let mut checksum = Hostile::default().file("a", b"x").end();
    checksum[0] ^= 1;
    let negative = Hostile::default()
        .pax(&[("size", b"-1")])
        .file("a", b"x")
        .end();
    let record = Hostile::default()
        .member(EntryType::XHeader, "pax", "", b"999 path=x\n")
        .end();
    let sparse = Hostile::default()
        .member(EntryType::GNUSparse, "a", "", b"")
        .end();
    let kind = Hostile::default()
        .member(EntryType::new(b'V'), "a", "", b"")
        .end();
    let nul = Hostile::default()
        .pax(&[("path", b"a\0b")])
        .file("a", b"")
        .end();
    let root = Hostile::default().symlink("./", "/").end();
    for tar in [
        numbers,
        checksum,
        negative,
        record,
        sparse,
        kind,
        nul,
        root,
        vec![b'x'; 4096],
    ] {
        Scene::new().unpack(&tar).unwrap_err();
    }
}

#[test]
fn paths_have_limits() {
    let long = "a/".repeat(3000);
    let longer = "a".repeat(64 << 10);
    let many = "a/".repeat(200);
    let name = "n".repeat(300);
    for path in [long.as_str(), &longer, &many, &name] {
        let scene = Scene::new();
        assert!(
            scene
                .unpack(
                    &Hostile::default()
                        .pax(&[("path", path.as_bytes())])
                        .file("a", b"")
                        .end()
                )
                .is_err()
        );
        let tar =
            Hostile::default().member(EntryType::GNULongName, "././@LongLink", "", path.as_bytes());
        assert!(scene.unpack(&tar.file("a", b"").end()).is_err());
    }
    // A long name that announces a gigabyte must not be allocated.
    let mut tar = Hostile::default().member(EntryType::GNULongName, "././@LongLink", "", b"x");
    tar.0[124..136].copy_from_slice(b"07777777777\0");
    let sum: u32 = tar.0[..148]
        .iter()
        .chain(&tar.0[156..512])
        .map(|&byte| u32::from(byte))
        .sum::<u32>()
        + 256;
    tar.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(matches!(
        Scene::new().unpack(&tar.end()).unwrap_err(),
        UnpackError::Tar(_)
    ));
}

#[test]
fn members_have_a_limit_and_the_last_of_a_name_wins() {
    let mut tar = Hostile::default();
    for number in 0..100u8 {
        tar = tar.file("same", &[number]);
    }
    let tar = tar
        .folder("same")
        .file("same/below", b"x")
        .file("same", b"last")
        .end();
    let scene = Scene::new();
    scene.unpack(&tar).unwrap();
    assert_eq!(fs::read(scene.inside().join("same")).unwrap(), b"last");
    let limits = Limits {
        entries: 50,
        ..Limits::default()
    };
    assert!(matches!(
        Scene::new().unpack_within(&tar, &limits).unwrap_err(),
        UnpackError::Tar(_)
    ));
}

/// Long names and PAX headers are no members, and are bounded with them.
#[test]
fn what_extends_a_member_takes_no_inode_and_is_bounded_too() {
    let mut tar = Hostile::default();
    for number in 0..20u8 {
        let name = format!("{number}");
        tar = tar.pax(&[("mtime", b"1.5")]).file(&name, b"x");
    }
    let tar = tar.end();
    let exactly = Limits {
        members: 20,
        entries: 40,
        ..Limits::default()
    };
    let applied = Scene::new().unpack_within(&tar, &exactly).unwrap();
    assert_eq!(applied.entries, 20);
    for (members, entries, told) in [(19, 40, 19), (20, 39, 39)] {
        let limits = Limits {
            members,
            entries,
            ..exactly
        };
        let error = Scene::new().unpack_within(&tar, &limits).unwrap_err();
        assert!(
            matches!(error, UnpackError::Tar(TarError::Limit { limit, .. }) if limit == told),
            "{error:?}"
        );
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    require_root();
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        ..Limits::default()
    };
    let mut header = Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(1 << 30);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let bomb = || {
        header
            .as_bytes()
            .as_slice()
            .chain(io::repeat(0).take(64 << 20))
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut bomb(), &mut gzip).unwrap();
    let zstd = zstd::encode_all(bomb(), 3).unwrap();
    for (blob, layer) in [
        (gzip.finish().unwrap(), LayerType::TarGzip),
        (zstd, LayerType::TarZstd),
    ] {
        assert!(blob.len() < 1 << 20);
        let scene = Scene::new();
        let error = apply(&scene, &blob, layer, &limits).unwrap_err();
        assert!(matches!(error, UnpackError::Stream { .. }), "{error:?}");
        let written = fs::metadata(scene.inside().join("bomb")).unwrap().len();
        assert!(written <= 1 << 20, "{written} bytes were written");
    }
    // A zstd window of more than the limit is refused before it is allocated.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&[7; 4096]).unwrap();
    let blob = encoder.finish().unwrap();
    assert!(apply(&Scene::new(), &blob, LayerType::TarZstd, &limits).is_err());
}

fn apply(
    scene: &Scene,
    blob: &[u8],
    layer: LayerType,
    limits: &Limits,
) -> Result<Applied, UnpackError> {
    let blob = file_of(blob);
    apply_layer(Source::Full { blob, layer }, fd(&scene.inside()), limits)
}

/// A file with these bytes and no name.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn several_frames_and_members_are_one_stream() {
    let tar = Hostile::default().file("a", &[5; 5000]).end();
    let (front, back) = tar.split_at(700);
    let skippable = b"\x50\x2A\x4D\x18\x03\0\0\0abc";
    let zstd = [
        &zstd::encode_all(front, 3).unwrap()[..],
        skippable,
        &zstd::encode_all(back, 3).unwrap(),
    ];
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = [gzip(front), gzip(back)].concat();
    for (blob, layer) in [
        (zstd.concat(), LayerType::TarZstd),
        (gzip, LayerType::TarGzip),
    ] {
        let scene = Scene::new();
        let applied = apply(&scene, &blob, layer, &Limits::default()).unwrap();
        assert_eq!(applied.diff_id, coracle_digest::Sha256Digest::of(&tar));
        assert_eq!(fs::read(scene.inside().join("a")).unwrap(), [5; 5000]);
    }
}
