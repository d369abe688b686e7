//! A manifest of any bytes whose configuration is good, or a configuration of any bytes whose manifest is.

use coracle_images::layout::{
    CONFIG, Descriptor, ImageConfig, LayerType, Layout, MANIFEST, Manifest, is_manifest,
};
use coracle_images::{Limits, Sha256Digest};
use std::fs;
use std::sync::LazyLock;

const CONFIGURATION: &[u8] = include_bytes!("../seeds/small.config");

static LAYOUT: LazyLock<(tempfile::TempDir, Layout)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = Layout::create(dir.path(), &Limits::default()).expect("a layout");
    fs::write(
        layout.store().path(&Sha256Digest::of(CONFIGURATION)),
        CONFIGURATION,
    )
    .expect("a blob");
    (dir, layout)
});

/// What the first byte says: 0 a manifest, 1 a configuration. Whether it is an image.
pub fn run(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else {
        return false;
    };
    let layout = &LAYOUT.1;
    let made;
    let manifest = if kind % 2 == 0 {
        bytes
    } else {
        put(layout, bytes);
        let mut manifest: Manifest =
            serde_json::from_slice(include_bytes!("../seeds/small.manifest")).expect("a manifest");
        manifest.config = descriptor(CONFIG, bytes);
        made = serde_json::to_vec(&manifest).expect("JSON");
        &made
    };
    put(layout, manifest);
    let image = layout.image_of(descriptor(MANIFEST, manifest));
    // Nothing else may have been written by reading.
    for written in [manifest, bytes]
        .into_iter()
        .filter(|bytes| *bytes != CONFIGURATION)
    {
        let _ = fs::remove_file(layout.store().path(&Sha256Digest::of(written)));
    }
    assert_eq!(layout.store().list().expect("the blobs").len(), 1);
    let Ok(image) = image else { return false };
    assert_eq!(
        image.manifest.layers.len(),
        image.config.rootfs.diff_ids.len()
    );
    for layer in &image.manifest.layers {
        let kind = LayerType::from_media_type(&layer.media_type);
        assert!(kind.is_none() || !is_manifest(&layer.media_type));
    }
    let json = serde_json::to_vec(&image.manifest).expect("JSON");
    assert_eq!(
        serde_json::from_slice::<Manifest>(&json).expect("a manifest"),
        image.manifest
    );
    let json = serde_json::to_vec(&image.config).expect("JSON");
    assert_eq!(
        serde_json::from_slice::<ImageConfig>(&json).expect("a config"),
        image.config
    );
    true
}

fn put(layout: &Layout, bytes: &[u8]) {
    fs::write(layout.store().path(&Sha256Digest::of(bytes)), bytes).expect("a blob");
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Sha256Digest::of(bytes), bytes.len() as u64)
}
