//! A layer's tree against what was unpacked. Needs root.

mod support;

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::check::{CheckError, Checked, NAMED, check_layer};
use coracle_images::layout::LayerType;
use coracle_images::unpack::{Applied, Beside, Source, apply_layer_beside, not_opaque};
use rustix::fs::XattrFlags;
use std::os::fd::AsFd;
use support::{fd, require_root};
use tar::{Builder, EntryType, Header};

struct Layer {
    dir: tempfile::TempDir,
    record: File,
    applied: Applied,
}

impl Layer {
    /// Unpacks.
    fn of(tar: &[u8]) -> Self {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let mut blob = tempfile::tempfile().unwrap();
        blob.write_all(tar).unwrap();
        blob.rewind().unwrap();
        let layer = LayerType::Tar;
        let options = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .to_owned();
        let record = options.open(dir.path().join("record")).unwrap();
        let dest = fd(&dir.path().join("tree"));
        let own = record.try_clone().unwrap();
        let limits = Limits::default();
        let beside = Beside {
            record: Some(own),
            ..Beside::default()
        };
        let source = Source::Full { blob, layer };
        let applied = apply_layer_beside(source, dest, beside, &limits).unwrap();
        assert_eq!(applied.diff_id, Sha256Digest::of(tar));
        Self {
            dir,
            record,
            applied,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("tree").join(name)
    }

    fn check(&self) -> Result<Checked, CheckError> {
        check_layer(fd(&self.path("")), &self.record, &Limits::default())
    }

    /// Faults, each as `path what`.
    #[track_caller]
    fn faults(&self) -> Vec<String> {
        let checked = self.check().unwrap();
        assert_eq!(checked.more, 0);
        let faults = checked.faults.iter();
        faults.map(|f| format!("{} {}", f.path, f.what)).collect()
    }

    #[track_caller]
    fn is_clean(&self) {
        let checked = self.check().unwrap();
        assert_eq!(checked.faults, []);
        assert_eq!(checked.diff_id, self.applied.diff_id);
        let open = not_opaque(
            fd(&self.path("")).as_fd(),
            checked.opaque,
            &Limits::default(),
        );
        assert_eq!(open, self.applied.opaque_pending);
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header
}

/// Something of everything that a layer may have.
fn tar() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let bytes: Vec<u8> = (0..70_001_u32)
        .map(|n| (n.wrapping_mul(n) / 7) as u8)
        .collect();
    let file = |tar: &mut Builder<Vec<u8>>, name: &str, mode, bytes: &[u8]| {
        let mut header = header(EntryType::Regular, mode, bytes.len());
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let folder = |tar: &mut Builder<Vec<u8>>, name: &str, mode| {
        let mut header = header(EntryType::Directory, mode, 0);
        tar.append_data(&mut header, name, &b""[..]).unwrap();
    };
    folder(&mut tar, "./", 0o755);
    folder(&mut tar, "bin/", 0o700);
    file(&mut tar, "bin/app", 0o4755, &bytes);
    let mut link = header(EntryType::Symlink, 0o777, 0);
    tar.append_link(&mut link, "bin/link", "app").unwrap();
    let mut hard = header(EntryType::Link, 0o644, 0);
    tar.append_link(&mut hard, "bin/hard", "bin/app").unwrap();
    file(&mut tar, "etc/implied/deep.conf", 0o000, b"deep");
    file(
        &mut tar,
        &format!("etc/{}", "long".repeat(50)),
        0o644,
        &[1; 512],
    );
    file(&mut tar, "etc/empty", 0o644, b"");
    let records = [
        ("SCHILY.xattr.user.note", &b"signed"[..]),
        ("comment", b"x"),
    ];
    tar.append_pax_extensions(records).unwrap();
    file(&mut tar, "etc/noted", 0o644, b"a note");
    let mut null = header(EntryType::Char, 0o666, 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    tar.append_data(&mut null, "null", &b""[..]).unwrap();
    tar.append_data(&mut header(EntryType::Fifo, 0o600, 0), "pipe", &b""[..])
        .unwrap();
    // Hides one file, one folder that is made anew, and all below another. What hides may have bytes of its own.
    file(&mut tar, ".wh.gone", 0, b"");
    file(&mut tar, ".wh.anew", 0, b"not a file");
    folder(&mut tar, "anew/", 0o755);
    folder(&mut tar, "data/", 0o755);
    file(&mut tar, "data/.wh..wh..opq", 0, b"");
    file(&mut tar, "data/mine", 0o644, b"mine");
    // Said once more, and otherwise.
    folder(&mut tar, "bin/", 0o755);
    tar.into_inner().unwrap()
}

#[test]
fn a_tree_that_nobody_touched_makes_its_tar_again() {
    let layer = Layer::of(&tar());
    assert!(layer.applied.recorded);
    layer.is_clean();
    let checked = layer.check().unwrap();
    assert_eq!(checked.opaque, [b"anew".to_vec(), b"data".to_vec()]);
    // What follows the end, and a tar of nothing.
    let mut longer = tar();
    longer.extend_from_slice(&[7; 3000]);
    Layer::of(&longer).is_clean();
    Layer::of(&[]).is_clean();
    Layer::of(&[0; 1024]).is_clean();
}

#[test]
fn a_record_is_small_beside_its_layer() {
    let mut tar = Builder::new(Vec::new());
    for number in 0..2000 {
        let bytes = vec![number as u8; number];
        let mut header = header(EntryType::Regular, 0o644, number);
        let name = format!(
            "usr/lib/python3/dist-packages/part{}/module{number}.py",
            number / 50
        );
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let layer = Layer::of(&tar.into_inner().unwrap());
    layer.is_clean();
    let bytes = layer.record.metadata().unwrap().len();
    assert!(bytes < 2000 * 60, "{bytes}");
}

#[track_caller]
fn damaged(damage: impl FnOnce(&Layer, &Path), expected: &[&str]) {
    let layer = Layer::of(&tar());
    damage(&layer, &layer.path(""));
    assert_eq!(layer.faults(), expected);
    assert_eq!(layer.applied.diff_id, Sha256Digest::of(&tar()));
}

#[test]
fn each_kind_of_damage_is_named() {
    damaged(
        |_, tree| {
            let path = tree.join("bin/app");
            let mut bytes = fs::read(&path).unwrap();
            bytes[69_999] ^= 0x10;
            // In place: a new file would have another mode.
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .write_all(&bytes)
                .unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
        },
        &["bin/app has other bytes"],
    );
    damaged(
        |_, tree| {
            let file = File::options()
                .write(true)
                .open(tree.join("data/mine"))
                .unwrap();
            file.set_len(3).unwrap();
        },
        &[
            "data/mine has 3 bytes instead of 4",
            "data/mine has other bytes",
        ],
    );
    damaged(
        |_, tree| fs::remove_file(tree.join("etc/noted")).unwrap(),
        &["etc/noted is missing"],
    );
    damaged(
        |_, tree| fs::write(tree.join("etc/.hidden"), "").unwrap(),
        &["etc/.hidden is not in the layer"],
    );
    damaged(
        |_, tree| {
            fs::set_permissions(tree.join("etc/empty"), Permissions::from_mode(0o666)).unwrap()
        },
        &["etc/empty has mode 0666 instead of 0644"],
    );
    damaged(
        |_, tree| fs::set_permissions(tree, Permissions::from_mode(0o777)).unwrap(),
        &[" has mode 0777 instead of 0755"],
    );
    damaged(
        |_, tree| chown(tree.join("etc/empty"), Some(9), None).unwrap(),
        &["etc/empty belongs to 9:8 instead of 7:8"],
    );
    damaged(
        |_, tree| {
            rustix::fs::setxattr(
                tree.join("etc/noted"),
                c"user.note",
                b"forged",
                XattrFlags::empty(),
            )
            .unwrap();
            rustix::fs::setxattr(
                tree.join("etc/empty"),
                c"user.more",
                b"x",
                XattrFlags::empty(),
            )
            .unwrap();
        },
        &[
            "etc/empty has an attribute `user.more`, which is not in the layer",
            "etc/noted has another attribute `user.note`",
        ],
    );
    damaged(
        |_, tree| rustix::fs::removexattr(tree.join("etc/noted"), c"user.note").unwrap(),
        &["etc/noted lacks its attribute `user.note`"],
    );
    damaged(
        |_, tree| {
            fs::remove_file(tree.join("bin/link")).unwrap();
            symlink("elsewhere", tree.join("bin/link")).unwrap();
            rustix::fs::chownat(
                rustix::fs::CWD,
                tree.join("bin/link"),
                rustix::fs::Uid::from_raw(7).into(),
                rustix::fs::Gid::from_raw(8).into(),
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
        },
        &["bin/link does not lead to `app`"],
    );
    damaged(
        |_, tree| {
            fs::remove_file(tree.join("bin/hard")).unwrap();
            fs::copy(tree.join("bin/app"), tree.join("bin/hard")).unwrap();
        },
        &["bin/hard is not the same file as `bin/app`"],
    );
    damaged(
        |_, tree| fs::remove_file(tree.join("gone")).unwrap(),
        &["gone is missing"],
    );
    damaged(
        |_, tree| {
            fs::remove_file(tree.join("gone")).unwrap();
            fs::write(tree.join("gone"), "").unwrap();
        },
        &["gone does not hide what is below it"],
    );
    damaged(
        |_, tree| {
            fs::remove_file(tree.join("pipe")).unwrap();
            fs::create_dir(tree.join("pipe")).unwrap();
            fs::write(tree.join("pipe/inner"), "").unwrap();
        },
        &[
            "pipe is a folder instead of a pipe",
            "pipe/inner is not in the layer",
        ],
    );
    damaged(
        |_, tree| fs::remove_dir_all(tree.join("etc/implied")).unwrap(),
        &["etc/implied/deep.conf is missing"],
    );
    // Nothing is followed out of the tree.
    damaged(
        |layer, tree| {
            fs::rename(tree.join("data"), layer.dir.path().join("data")).unwrap();
            symlink(layer.dir.path().join("data"), tree.join("data")).unwrap();
        },
        &["data is a link instead of a folder", "data/mine is missing"],
    );
}

/// Opaque folders are not for the jail to see.
#[test]
fn a_folder_that_shows_what_is_below_is_told_apart() {
    let layer = Layer::of(&tar());
    let tree = fd(&layer.path(""));
    rustix::fs::removexattr(layer.path("data"), c"trusted.overlay.opaque").unwrap();
    let opaque = layer.check().unwrap().opaque;
    let open = not_opaque(tree.as_fd(), opaque, &Limits::default());
    assert_eq!(open, [b"data".to_vec()]);
}

#[test]
fn many_faults_are_counted_and_few_named() {
    let layer = Layer::of(&tar());
    for number in 0..100 {
        fs::write(layer.path(&format!("stray{number}")), "").unwrap();
    }
    let checked = layer.check().unwrap();
    assert_eq!(
        (checked.faults.len(), checked.more),
        (NAMED, 100 - NAMED as u64)
    );
}

/// Whatever happens to a record, it is never taken for a good one: the digest says so, or it cannot be read.
#[test]
fn a_broken_record_is_no_proof() {
    let layer = Layer::of(&tar());
    let mut good = Vec::new();
    (&layer.record).rewind().unwrap();
    (&layer.record).read_to_end(&mut good).unwrap();
    let clean = |bytes: &[u8]| {
        let mut record = tempfile::tempfile().unwrap();
        record.write_all(bytes).unwrap();
        let checked = check_layer(fd(&layer.path("")), &record, &Limits::default());
        checked.is_ok_and(|c| c.faults.is_empty() && c.diff_id == layer.applied.diff_id)
    };
    assert!(clean(&good));
    for at in (0..good.len()).step_by(7) {
        assert!(!clean(&good[..at]), "cut at {at}");
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert!(!clean(&flipped), "flipped at {at}");
    }
}

/// What a later member replaced is nowhere; what fills a block with something else is not written down.
#[test]
fn what_cannot_be_told_is_said() {
    let twice = |tar: &mut Builder<Vec<u8>>| {
        for bytes in [b"first", b"other"] {
            let mut header = header(EntryType::Regular, 0o644, 5);
            tar.append_data(&mut header, "etc/twice", &bytes[..])
                .unwrap();
        }
    };
    let mut tar = Builder::new(Vec::new());
    twice(&mut tar);
    let layer = Layer::of(&tar.into_inner().unwrap());
    let error = layer.check().unwrap_err();
    assert!(
        matches!(&error, CheckError::Twice(path) if path == "etc/twice"),
        "{error}"
    );

    let mut odd = self::tar();
    let contents = odd.windows(5).position(|bytes| bytes == b"deep\0").unwrap();
    odd[contents + 5] = b'!';
    assert!(!Layer::of(&odd).applied.recorded);
}
