use super::*;
use coracle_protocol::dsse::Envelope;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use std::io::{Seek, SeekFrom, Write};

fn index() -> Vec<u8> {
    let stick = Stick {
        stick_version: 1,
        deploy: Envelope::unsigned("d", b"deploy"),
        release: Envelope::unsigned("r", b"release"),
        deploys: vec![],
        roots: vec![],
    };
    serde_json::to_vec(&stick).unwrap()
}

fn blob(bytes: &[u8]) -> Blob {
    Blob {
        digest: Sha256Digest::of(bytes),
        size: bytes.len() as u64,
    }
}

/// Several clusters and no whole number of them.
fn long() -> Vec<u8> {
    (0..300_001u32).map(|n| (n % 251) as u8).collect()
}

fn image(kind: FatType, base: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(48 << 20).unwrap();
    fatfs::format_volume(
        file.as_file_mut(),
        FormatVolumeOptions::new().fat_type(kind),
    )
    .unwrap();
    let files = FileSystem::new(file.as_file_mut(), FsOptions::new()).unwrap();
    let mut folder = files.root_dir();
    for part in base.split('/').filter(|p| !p.is_empty()) {
        folder = folder.create_dir(part).unwrap();
    }
    folder
        .create_file(INDEX)
        .unwrap()
        .write_all(&index())
        .unwrap();
    let blobs = folder
        .create_dir("blobs")
        .unwrap()
        .create_dir("sha256")
        .unwrap();
    for bytes in [&long()[..], b"small"] {
        let mut file = blobs.create_file(&blob(bytes).digest.hex()).unwrap();
        file.write_all(bytes).unwrap();
    }
    blobs
        .create_file("README")
        .unwrap()
        .write_all(b"?")
        .unwrap();
    drop(blobs);
    drop(folder);
    files.unmount().unwrap();
    file
}

fn check(medium: &Medium) {
    assert_eq!(medium.documents().unwrap().0.stick_version, 1);
    for bytes in [&long()[..], b"small"] {
        let blob = blob(bytes);
        assert!(medium.has(&blob));
        let mut read = Vec::new();
        medium.read(&blob).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == bytes, "other bytes came back");
    }
    assert!(!medium.has(&blob(b"not there")));
    assert!(
        !medium.has(&Blob {
            size: 6,
            ..blob(b"small")
        }),
        "a blob of another size"
    );
}

fn must_fail(path: &Path) -> MediumError {
    match Medium::open(path) {
        Ok(_) => panic!("{} was taken for a stick", path.display()),
        Err(e) => e,
    }
}

#[test]
fn a_folder_and_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("coracle");
    let blobs = inner.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(inner.join(INDEX), index()).unwrap();
    for bytes in [&long()[..], b"small"] {
        std::fs::write(blobs.join(blob(bytes).digest.hex()), bytes).unwrap();
    }
    check(&Medium::open(folder.path()).unwrap());
    check(&Medium::open(&inner).unwrap());
}

#[test]
fn links_on_a_stick_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let target = folder.path().join("secret");
    std::fs::write(&target, b"secret").unwrap();
    let secret = blob(b"secret");
    std::os::unix::fs::symlink(&target, blobs.join(secret.digest.hex())).unwrap();
    std::fs::write(folder.path().join(INDEX), index()).unwrap();
    let medium = Medium::open(folder.path()).unwrap();
    assert!(!medium.has(&secret));
    assert!(medium.read(&secret).is_err());
}

#[test]
fn vfat_images() {
    for kind in [FatType::Fat16, FatType::Fat32] {
        for base in ["coracle", "CORACLE", ""] {
            check(&Medium::open(image(kind, base).path()).unwrap());
        }
    }
}

#[test]
fn an_image_is_never_written() {
    let file = image(FatType::Fat32, "coracle");
    let before = Sha256Digest::of(&std::fs::read(file.path()).unwrap());
    check(&Medium::open(file.path()).unwrap());
    assert_eq!(
        Sha256Digest::of(&std::fs::read(file.path()).unwrap()),
        before
    );
}

#[test]
fn a_partition_of_a_whole_stick() {
    let inner = image(FatType::Fat32, "coracle");
    let bytes = std::fs::read(inner.path()).unwrap();
    let mut stick = tempfile::NamedTempFile::new().unwrap();
    let mut table = [0u8; 512];
    table[446 + 4] = 0x0c;
    table[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    let sectors = (bytes.len() / 512) as u32;
    table[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    stick.write_all(&table).unwrap();
    stick.seek(SeekFrom::Start(2048 * 512)).unwrap();
    stick.write_all(&bytes).unwrap();
    check(&Medium::open(stick.path()).unwrap());
    stick.as_file().set_len(4 << 20).unwrap();
    assert!(matches!(
        must_fail(stick.path()),
        MediumError::NotVfat { .. }
    ));
}

#[test]
fn what_is_no_stick_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        must_fail(empty.path()),
        MediumError::NoIndex { .. }
    ));
    let missing = empty.path().join("missing");
    assert!(matches!(must_fail(&missing), MediumError::Read { .. }));
    let file = empty.path().join("file");
    for bytes in [vec![], vec![7; 100], vec![0; 4096], vec![0x55; 1 << 20]] {
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(must_fail(&file), MediumError::NotVfat { .. }));
    }
    std::fs::write(empty.path().join(INDEX), vec![b' '; Stick::BYTES + 1000]).unwrap();
    let medium = Medium::open(empty.path()).unwrap();
    let error = medium.documents().unwrap_err();
    assert!(
        matches!(error, MediumError::Index(StickError::TooLarge { .. })),
        "{error}"
    );
}

/// The last cluster of a folder points back at its first: without a budget it would have no end.
#[test]
fn a_folder_that_bites_its_tail() {
    let file = image(FatType::Fat16, "coracle");
    let mut bytes = std::fs::read(file.path()).unwrap();
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let fat = word(14) * word(11);
    let cluster = usize::from(bytes[13]) * word(11);
    let root = fat + usize::from(bytes[16]) * word(22) * word(11);
    let data = root + word(17) * 32;
    // The root's first entry is the folder's long name, the second the folder; its first cluster
    // stands in bytes 26 and 27.
    let first = word(root + 32 + 26);
    bytes[fat + 2 * first..fat + 2 * first + 2].copy_from_slice(&(first as u16).to_le_bytes());
    let at = data + (first - 2) * cluster;
    // Deleted entries all over: the walk goes on to the next cluster, which is this one.
    for entry in bytes[at..at + cluster].chunks_exact_mut(32) {
        entry[0] = 0xe5;
    }
    std::fs::write(file.path(), bytes).unwrap();
    let error = must_fail(file.path());
    assert!(error.to_string().contains("has no end"), "{error}");
}

/// Bytes of a boot sector, of the table of clusters or of folders, changed by chance: read, or told, and never without an end. That
/// blobs are those that were signed is for the board to see, by their digests.
#[test]
fn a_stick_that_is_damaged_anywhere_ends_in_as_many_bytes_as_it_has_or_in_an_error() {
    use std::os::unix::fs::FileExt;
    let file = image(FatType::Fat16, "coracle");
    let bytes = std::fs::read(file.path()).unwrap();
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let table = word(14) * word(11);
    let root = table + usize::from(bytes[16]) * word(22) * word(11);
    let data = root + word(17) * 32;
    let parts = [(0, 64), (table, 64), (root, 128), (data, 16 << 10)];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let blobs = [long(), b"small".to_vec()];
    let (mut whole, mut failed) = (0, 0);
    for round in 0..400 {
        let (start, length) = parts[round % parts.len()];
        let changes: Vec<(usize, u8)> = (0..=next(3))
            .map(|_| {
                let at = start + next(length);
                let byte = [0, 0xff, next(256) as u8, bytes[at] ^ 1 << next(8)][next(4)];
                (at, byte)
            })
            .collect();
        let put = |at: usize, byte| file.as_file().write_all_at(&[byte], at as u64).unwrap();
        changes.iter().for_each(|(at, byte)| put(*at, *byte));
        let read = || -> Result<Vec<Vec<u8>>, MediumError> {
            let medium = Medium::open(file.path())?;
            medium.documents()?;
            let mut read = Vec::new();
            for blob in blobs.iter().map(|bytes| blob(bytes)) {
                let mut found = Vec::new();
                if medium.has(&blob) {
                    let most = medium.read(&blob)?.take(blob.size + 1);
                    let _ = { most }.read_to_end(&mut found);
                }
                read.push(found);
            }
            Ok(read)
        };
        let start = std::time::Instant::now();
        // A panic fails this test. These changes, the same ones each time, meet none; one in 4000 others has fatfs 0.3.6 compute the
        // number of a cluster below 2, an overflow that only a development build sees.
        match read() {
            Ok(read) => {
                for (read, blob) in read.iter().zip(&blobs) {
                    assert!(read.len() <= blob.len(), "more than it has: {changes:x?}");
                }
                match read == blobs {
                    true => whole += 1,
                    false => failed += 1,
                }
            }
            Err(_) => failed += 1,
        }
        let took = start.elapsed();
        assert!(took.as_secs() < 60, "{took:?} with {changes:x?}");
        changes.iter().for_each(|(at, _)| put(*at, bytes[*at]));
    }
    assert!(
        whole > 40 && failed > 40,
        "{whole} were read, {failed} were not"
    );
    check(&Medium::open(file.path()).unwrap());
}
