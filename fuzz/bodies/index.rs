//! An `index.json` of any bytes over the blobs of one small image. What is found by it is what it is called by, and has a
//! DiffID for each layer.

use coracle_images::layout::{Index, Layout, Platform, REF_NAME};
use coracle_images::{Limits, Sha256Digest};
use std::fs;
use std::sync::LazyLock;

const BLOBS: [&[u8]; 4] = [
    include_bytes!("../seeds/small.config"),
    include_bytes!("../seeds/small.manifest"),
    include_bytes!("../seeds/docker.manifest"),
    include_bytes!("../seeds/platforms.index"),
];

static LAYOUT: LazyLock<(tempfile::TempDir, Layout)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = Layout::create(dir.path(), &Limits::default()).expect("a layout");
    for blob in BLOBS {
        fs::write(layout.store().path(&Sha256Digest::of(blob)), blob).expect("a blob");
    }
    (dir, layout)
});

/// Images that were found.
pub fn run(bytes: &[u8]) -> usize {
    let (dir, layout) = &*LAYOUT;
    fs::write(dir.path().join("index.json"), bytes).expect("writing");
    let Ok(index) = layout.index() else {
        return 0;
    };
    let json = serde_json::to_vec(&index).expect("JSON");
    assert_eq!(
        serde_json::from_slice::<Index>(&json).expect("an index"),
        index
    );
    assert_eq!(layout.find(None).is_ok(), index.manifests.len() == 1);
    let mut found = 0;
    for entry in index.manifests {
        if let Some(tag) = entry.annotations.get(REF_NAME) {
            assert!(layout.find(Some(tag)).is_ok(), "{tag}");
        }
        for (architecture, variant) in [("arm64", None), ("arm", Some("v7"))] {
            let machine = Platform::linux(architecture, variant);
            let Ok(entry) = layout.resolve(entry.clone(), &machine) else {
                continue;
            };
            let Ok(image) = layout.image_of(entry) else {
                continue;
            };
            let manifest = layout
                .document_bytes(&image.descriptor)
                .expect("its manifest");
            assert_eq!(Sha256Digest::of(&manifest), image.descriptor.digest);
            assert_eq!(
                image.manifest.layers.len(),
                image.config.rootfs.diff_ids.len()
            );
            found += 1;
        }
    }
    found
}
