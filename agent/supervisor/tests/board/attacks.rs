//! Folders of attacks: bytes as an attacker would send them.

use super::Board;
use coracle_digest::Sha256Digest;
use coracle_protocol::release::{Blob, Image, Layer};
use std::path::{Path, PathBuf};

/// Where the folder of an attack is.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/attacks")
        .join(name)
}

/// A file of an attack's folder.
pub fn file(name: &str, file: &str) -> Vec<u8> {
    let path = folder(name).join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a release says of a layer: packed as `blob`, which is `tar`.
pub fn layer(blob: &[u8], tar: &[u8], compression: &str) -> Layer {
    Layer {
        media_type: format!("application/vnd.oci.image.layer.v1.tar{compression}"),
        digest: Sha256Digest::of(blob),
        size: blob.len() as u64,
        diff_id: Sha256Digest::of(tar),
        unpacked_size: tar.len() as u64,
        entries: Some(2),
    }
}

/// The image with that layer above its own. Its configuration is in the store, the layer is not.
pub fn with_layer(board: &Board, image: &Image, layer: Layer) -> Image {
    let config = std::fs::read(board.store_blob(image.config.digest)).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    diff_ids.push(serde_json::to_value(layer.diff_id).unwrap());
    let config = serde_json::to_vec(&config).unwrap();
    let mut image = image.clone();
    image.layers.push(layer);
    image.config = Blob {
        digest: Sha256Digest::of(&config),
        size: config.len() as u64,
    };
    std::fs::write(board.store_blob(image.config.digest), config).unwrap();
    image
}
