//! Makes the folders whose bytes are layers and deltas: small ones, of a page each, with fixed owners and times.

use flate2::{Compression, GzBuilder};
use std::io::Write;

/// Files of a folder, by name.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A layer of one page; a mode of its own for it.
fn layer(page: &str, mode: u32) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    add("www/", tar::EntryType::Directory, 0o755, b"");
    add(
        "www/index.html",
        tar::EntryType::Regular,
        mode,
        page.as_bytes(),
    );
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn delta(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    coracle_images::delta::make(old, new, &mut delta).unwrap();
    delta
}

/// What is signed in each compression, and the same with a whole layer more behind it: after a tar's end, a second member
/// of gzip, a second frame of zstd. Programs that read on take it for a part of the first.
fn bytes_after() -> Files {
    let (signed, more) = (layer("signed", 0o644), layer("owned", 0o644));
    let both = |pack: fn(&[u8]) -> Vec<u8>| (pack(&signed), [pack(&signed), pack(&more)].concat());
    let (tar, tar_more) = both(<[u8]>::to_vec);
    let (gz, gz_more) = both(gzip);
    let (zst, zst_more) = both(zstd);
    vec![
        ("layer.tar", tar),
        ("layer.tar.more", tar_more),
        ("layer.tar.gz", gz),
        ("layer.tar.gz.more", gz_more),
        ("layer.tar.zst", zst),
        ("layer.tar.zst.more", zst_more),
    ]
}

/// All of one length: what is left to tell them apart is what is in them.
fn other_bytes() -> Files {
    let signed = layer("hello", 0o644);
    let mut no_layer = b"no layer at all".to_vec();
    no_layer.resize(signed.len(), b' ');
    vec![
        ("another.tar", layer("owned", 0o644)),
        ("no-layer", no_layer),
        ("set-user-id.tar", layer("hello", 0o4755)),
        ("signed.tar", signed),
    ]
}

/// Deltas that are offered as being from `old.tar` to `new.tar`.
fn deltas() -> Files {
    let page = |text: &str| layer(&text.repeat(40), 0o644);
    let (old, new) = (page("page one "), page("page two "));
    let (another_base, owned) = (page("page nil "), page("page own "));
    let good = delta(&old, &new);
    let mut bit = good.clone();
    let last = bit.len() - 1;
    bit[last] ^= 1;
    vec![
        ("bit.delta", bit),
        ("cut.delta", good[..good.len() - 4].to_vec()),
        ("makes-another.delta", delta(&old, &owned)),
        ("nonsense.delta", b"nonsense".to_vec()),
        ("of-another-base.delta", delta(&another_base, &new)),
        ("good.delta", good),
        ("new.tar", new),
        ("old.tar", old),
    ]
}

/// Each folder and what is in it.
pub fn all() -> [(&'static str, Files); 3] {
    [
        ("bytes_after_a_layer_are_refused", bytes_after()),
        ("a_layer_with_other_bytes_gets_no_name", other_bytes()),
        ("a_delta_makes_the_layer_and_a_bad_one_does_not", deltas()),
    ]
}
