use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::*;

fn store() -> (tempfile::TempDir, BlobStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn a_download_is_resumed_where_it_ended() {
    let (_dir, store) = store();
    let digest = Sha256Digest::of(b"hello world");
    let mut download = store.download(digest, 11).unwrap();
    download.write(b"hello").unwrap();
    assert!(matches!(
        store.download(digest, 11),
        Err(StoreError::Busy(_))
    ));
    assert!(matches!(
        download.finish(),
        Err(StoreError::TooShort { found: 5, .. })
    ));
    assert!(!store.has(&digest));
    assert_eq!(store.list().unwrap(), []);

    let mut download = store.download(digest, 11).unwrap();
    assert_eq!(download.length(), 5);
    io::copy(&mut &b" world"[..], &mut download).unwrap();
    assert_eq!(download.finish().unwrap(), digest);
    assert_eq!(store.list().unwrap(), [digest]);
    assert_eq!(store.size(&digest).unwrap(), 11);
    assert_eq!(
        io::read_to_string(store.open_blob(&digest).unwrap()).unwrap(),
        "hello world"
    );
    assert!(!store.path(&digest).with_extension("part").exists());
}

#[test]
fn wrong_bytes_never_get_the_name() {
    let (_dir, store) = store();
    let digest = Sha256Digest::of(b"right");
    let mut download = store.download(digest, 5).unwrap();
    download.write(b"wrong").unwrap();
    assert!(matches!(
        download.finish(),
        Err(StoreError::WrongDigest { .. })
    ));
    // It starts anew: resuming would only fail again.
    assert_eq!(store.download(digest, 5).unwrap().length(), 0);

    let mut download = store.download(digest, 5).unwrap();
    assert!(matches!(
        download.write(b"too long"),
        Err(StoreError::TooLong { limit: 5, .. })
    ));
    assert_eq!(download.length(), 0);
    // A part that is longer than the blob is rubbish.
    drop(download);
    fs::write(store.path(&digest).with_extension("part"), "far too long").unwrap();
    assert_eq!(store.download(digest, 5).unwrap().length(), 0);
}

#[test]
fn damage_is_set_aside() {
    let (_dir, store) = store();
    let digest = store.put(b"content").unwrap();
    store.verify(&digest).unwrap();
    fs::write(store.path(&digest), "c0ntent").unwrap();
    assert!(matches!(
        store.verify(&digest),
        Err(StoreError::WrongDigest { .. })
    ));
    assert!(!store.has(&digest));
    assert!(store.path(&digest).with_extension("bad").exists());
    assert!(matches!(
        store.open_blob(&digest),
        Err(StoreError::Missing(_))
    ));
}

#[test]
fn collection_keeps_what_is_reachable_and_what_is_not_ours() {
    let (_dir, store) = store();
    let kept = store.put(b"kept").unwrap();
    let lost = store.put(b"lost").unwrap();
    let coming = Sha256Digest::of(b"coming");
    let stale = Sha256Digest::of(b"stale");
    for digest in [coming, stale] {
        store.download(digest, 9).unwrap().write(b"abc").unwrap();
    }
    fs::write(store.blobs.join("README"), "mine").unwrap();
    fs::write(store.path(&kept).with_extension("bad"), "old damage").unwrap();
    let collected = store.collect(&BTreeSet::from([kept, coming])).unwrap();
    assert_eq!(
        collected,
        Collected {
            files: 3,
            bytes: 4 + 3 + 10
        }
    );
    assert!(store.has(&kept) && !store.has(&lost));
    assert_eq!(store.download(coming, 9).unwrap().length(), 3);
    assert!(store.blobs.join("README").exists());
    store.remove(&kept).unwrap();
    store.remove(&kept).unwrap();
    assert!(!store.has(&kept));
}

#[test]
fn what_is_built_gets_its_name_at_the_end() {
    let (_dir, store) = store();
    let mut incoming = store.incoming().unwrap();
    incoming.write_all(b"built").unwrap();
    assert_eq!(store.list().unwrap(), []);
    let (digest, size) = store.accept(incoming).unwrap();
    assert_eq!((digest, size), (Sha256Digest::of(b"built"), 5));
    drop(store.incoming().unwrap());
    assert_eq!(fs::read_dir(&store.blobs).unwrap().count(), 1);
}
