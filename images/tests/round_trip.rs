//! Folder → image → unpacked tree, and deltas between two. Needs root: owners, devices and capabilities.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use coracle_images::Limits;
use coracle_images::build::{Build, Compression, Owner, build};
use coracle_images::delta::{MEDIA_TYPE, make};
use coracle_images::layout::{Descriptor, LayerType, Layout, Platform, RunConfig};
use coracle_images::unpack::{Source, apply_layer};
use support::{facts, fd, require_root};

/// A small root file system with one of everything.
fn sample(root: &Path, version: &str) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("etc/empty")).unwrap();
    let deep = root
        .join("usr/share")
        .join("long".repeat(30))
        .join("name".repeat(20));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "far down").unwrap();
    fs::write(root.join("etc/version"), version).unwrap();
    fs::write(root.join("etc/nothing"), "").unwrap();
    let mut program: Vec<u8> = (0..300_000u32)
        .flat_map(|n| (n.wrapping_mul(n) / 7).to_le_bytes())
        .collect();
    program[70_000..70_004].copy_from_slice(&version.as_bytes()[..4]);
    fs::write(root.join("usr/bin/program"), &program).unwrap();
    fs::set_permissions(
        root.join("usr/bin/program"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    fs::hard_link(root.join("usr/bin/program"), root.join("usr/bin/second")).unwrap();
    symlink("../../etc/version", root.join("usr/bin/link")).unwrap();
    std::os::unix::fs::chown(root.join("etc/version"), Some(1000), Some(2000)).unwrap();
    for (name, kind) in [("pipe", "p"), ("null", "c 1 3"), ("gone", "c 0 0")] {
        let path = root.join(name);
        let made = Command::new("mknod")
            .arg(&path)
            .args(kind.split(' '))
            .status()
            .unwrap();
        assert!(made.success());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("etc/version"), c"user.note", b"hello", flags).unwrap();
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
}

fn build_one(
    dir: &Path,
    layout: &Layout,
    compression: Compression,
) -> coracle_images::build::Built {
    let config = RunConfig {
        entrypoint: vec!["/usr/bin/program".into()],
        ..RunConfig::default()
    };
    let mut what = Build::new(dir, config, Platform::linux("amd64", None));
    what.compression = compression;
    what.clamp_mtime = Some(1_700_000_000);
    what.owner = Owner::Kept;
    build(&what, layout).unwrap()
}

#[test]
fn what_was_packed_comes_out_again() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    sample(&root, "1.00");
    let layout = Layout::create(scratch.path().join("oci"), &Limits::default()).unwrap();
    let mut seen = Vec::new();
    for compression in [
        Compression::None,
        Compression::Gzip(6),
        Compression::Zstd(3),
    ] {
        let built = build_one(&root, &layout, compression);
        let again = build_one(&root, &layout, compression);
        assert_eq!(built, again, "a build is reproducible");
        layout.tag(built.manifest.clone(), "app").unwrap();
        let image = layout
            .image(Some("app"), &Platform::linux("amd64", None))
            .unwrap();
        let layer = &image.manifest.layers[0];
        let dest = scratch.path().join(format!("out{}", seen.len()));
        fs::create_dir(&dest).unwrap();
        let source = Source::Full {
            blob: layout.store().open_blob(&layer.digest).unwrap(),
            layer: LayerType::from_media_type(&layer.media_type).unwrap(),
        };
        let applied = apply_layer(source, fd(&dest), &Limits::default()).unwrap();
        assert_eq!(applied.diff_id, image.config.rootfs.diff_ids[0]);
        assert_eq!(applied.tar_bytes, built.layers[0].tar_bytes);
        // The other name of a file is a link, so its bytes count once on both sides.
        assert_eq!(applied.bytes_written, built.layers[0].unpacked_bytes);
        seen.push((applied.diff_id, facts(&dest)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    let dest = scratch.path().join("out0");
    let meta = |name: &str| fs::symlink_metadata(dest.join(name)).unwrap();
    assert_eq!(meta("usr/bin/program").mode() & 0o7777, 0o4755);
    assert_eq!(meta("usr/bin/program").ino(), meta("usr/bin/second").ino());
    assert_eq!(
        (meta("etc/version").uid(), meta("etc/version").gid()),
        (1000, 2000)
    );
    assert_eq!(meta("etc").mtime(), 1_700_000_000);
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta("gone").rdev(), 0);
    let mut note = [0; 16];
    let length =
        rustix::fs::getxattr(dest.join("etc/version"), c"user.note", &mut note[..]).unwrap();
    assert_eq!(&note[..length], b"hello");
    assert_eq!(facts(&root).len(), seen[0].1.len());
}

#[test]
fn skopeo_reads_the_layout() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    sample(&root, "1.00");
    let dir = scratch.path().join("oci");
    let layout = Layout::create(&dir, &Limits::default()).unwrap();
    let built = build_one(&root, &layout, Compression::Gzip(6));
    layout.tag(built.manifest.clone(), "v1").unwrap();
    let output = Command::new("skopeo")
        .arg("inspect")
        .arg(format!("oci:{}:v1", dir.display()))
        .output();
    let output = output.expect("this test needs skopeo");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains(&built.manifest.digest.to_string()), "{text}");
    assert!(
        text.contains(&built.layers[0].descriptor.digest.to_string()),
        "{text}"
    );
    // And the other way round: what skopeo writes, we read.
    let copy = scratch.path().join("copy");
    let copied = Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy"])
        .arg(format!("oci:{}:v1", dir.display()))
        .arg(format!("oci:{}:v1", copy.display()))
        .status();
    assert!(copied.unwrap().success());
    let image = Layout::open(&copy, &Limits::default()).unwrap();
    let image = image
        .image(Some("v1"), &Platform::linux("amd64", None))
        .unwrap();
    assert_eq!(image.config.rootfs.diff_ids[0], built.layers[0].diff_id);
}

#[test]
fn a_delta_makes_the_same_layer() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let layout = Layout::create(scratch.path().join("oci"), &Limits::default()).unwrap();
    let mut layers = Vec::new();
    for version in ["1.00", "2.00"] {
        let root = scratch.path().join(version);
        sample(&root, version);
        layers.push(
            build_one(&root, &layout, Compression::None)
                .layers
                .remove(0),
        );
    }
    let blob = |layer: &coracle_images::build::BuiltLayer| {
        layout.store().open_blob(&layer.descriptor.digest).unwrap()
    };
    let base = scratch.path().join("base");
    fs::create_dir(&base).unwrap();
    let source = Source::Full {
        blob: blob(&layers[0]),
        layer: LayerType::Tar,
    };
    apply_layer(source, fd(&base), &Limits::default()).unwrap();

    let mut delta = Vec::new();
    let made = make(blob(&layers[0]), blob(&layers[1]), &mut delta).unwrap();
    assert_eq!(made.header.base, layers[0].diff_id);
    assert_eq!(made.header.target, layers[1].diff_id);
    assert!(
        delta.len() < 1500,
        "four bytes changed, the delta has {}",
        delta.len()
    );
    let delta: Descriptor = layout.put(MEDIA_TYPE, &delta).unwrap();

    let dest = scratch.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let source = Source::Delta {
        blob: layout.store().open_blob(&delta.digest).unwrap(),
        base: File::open(&base).unwrap().into(),
    };
    let applied = apply_layer(source, fd(&dest), &Limits::default()).unwrap();
    assert_eq!(applied.diff_id, layers[1].diff_id);
    assert_eq!(
        fs::read_to_string(dest.join("etc/version")).unwrap(),
        "2.00"
    );
    assert_eq!(
        fs::read(dest.join("usr/bin/program")).unwrap()[70_000..70_004],
        *b"2.00"
    );

    // On another tree the delta fails or makes another digest; it never makes the signed one.
    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    let source = Source::Delta {
        blob: layout.store().open_blob(&delta.digest).unwrap(),
        base: File::open(scratch.path().join("2.00")).unwrap().into(),
    };
    let applied = apply_layer(source, fd(&other), &Limits::default());
    assert!(applied.is_err() || applied.unwrap().diff_id != layers[1].diff_id);
}
