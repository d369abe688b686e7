use super::*;
use crate::archive::{Format, export};
use crate::build::{Build, build};
use crate::layout::RunConfig;
use std::fs;

struct Place {
    dir: tempfile::TempDir,
    into: Layout,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let into = Layout::create(dir.path().join("into"), &Limits::default()).unwrap();
    Place { dir, into }
}

impl Place {
    /// An OCI layout in a tar, of an image whose only file has `text`.
    fn archive(&self, text: &str) -> Vec<u8> {
        let rootfs = self.dir.path().join("rootfs");
        fs::create_dir_all(&rootfs).unwrap();
        fs::write(rootfs.join("file"), text).unwrap();
        let layout = Layout::create(self.dir.path().join("from"), &Limits::default()).unwrap();
        let machine = Platform::linux("amd64", None);
        let mut image = Build::new(&rootfs, RunConfig::default(), machine.clone());
        image.compression = Compression::None;
        image.clamp_mtime = Some(0);
        let built = build(&image, &layout).unwrap();
        layout.tag(built.manifest, "web:1").unwrap();
        let (limits, mut out) = (Limits::default(), Vec::new());
        export(&layout, "web:1", &machine, Format::Oci, &limits, &mut out).unwrap();
        out
    }

    fn import(&self, archive: impl Read, limits: Limits) -> Result<Vec<Imported>, ArchiveError> {
        let wanted = Import {
            tag: None,
            compression: Compression::None,
            limits,
        };
        import(archive, &self.into, &wanted)
    }
}

/// An archive, and somebody else who uses the layout while it is read.
struct Meanwhile<'a>(&'a [u8], &'a Layout);

impl Read for Meanwhile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.store().put(b"of somebody else").unwrap();
        self.0.read(buffer)
    }
}

#[test]
fn blobs_that_others_bring_meanwhile_stay() {
    let place = place();
    let archive = place.archive("one");
    let others = Sha256Digest::of(b"of somebody else");
    let half = Meanwhile(&archive[..archive.len() / 2], &place.into);
    place.import(half, Limits::default()).unwrap_err();
    assert_eq!(place.into.store().list().unwrap(), [others]);
    let whole = Meanwhile(&archive, &place.into);
    place.import(whole, Limits::default()).unwrap();
    assert!(place.into.store().has(&others));
}

#[test]
fn an_archive_is_bounded_by_its_sum() {
    let place = place();
    let archive = place.archive("one");
    let mut tar = tar::Archive::new(&archive[..]);
    let sizes = tar.entries().unwrap().map(|entry| entry.unwrap().size());
    let sum: u64 = sizes.sum();
    let bounded = |unpacked_bytes| Limits {
        unpacked_bytes,
        ..Limits::default()
    };
    let error = place.import(&archive[..], bounded(sum - 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("more than {} bytes", sum - 1)),
        "{error}"
    );
    assert_eq!(place.into.store().list().unwrap(), []);
    place.import(&archive[..], bounded(sum)).unwrap();
}

#[test]
fn a_blob_that_is_a_link_has_its_digest() {
    let place = place();
    let archive = place.archive("one");
    let mut out = tar::Builder::new(Vec::new());
    let mut tar = tar::Archive::new(&archive[..]);
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        // The layer: as many bytes, others, under another name.
        if bytes.starts_with(b"./") {
            bytes[0] = b'x';
            out.append_data(&mut header, "elsewhere", &bytes[..])
                .unwrap();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            out.append_link(&mut header, path, "../../elsewhere")
                .unwrap();
        } else {
            out.append_data(&mut header, path, &bytes[..]).unwrap();
        }
    }
    let archive = out.into_inner().unwrap();
    let error = place.import(&archive[..], Limits::default()).unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    assert_eq!(place.into.store().list().unwrap(), []);
}

#[test]
fn an_image_that_loses_its_name_is_told() {
    let place = place();
    let mut replaced = Vec::new();
    for text in ["one", "one", "two"] {
        let archive = place.archive(text);
        let mut imported = place.import(&archive[..], Limits::default()).unwrap();
        let imported = imported.remove(0);
        replaced.push(imported.replaced);
        replaced.push(Some(imported.entry.digest));
    }
    assert_eq!(replaced[..4], [None, replaced[1], None, replaced[1]]);
    assert_eq!(replaced[4], replaced[1]);
    assert_ne!(replaced[5], replaced[1]);
}

#[test]
fn a_name_has_its_bound() {
    let place = place();
    let mut out = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    let name = vec![b'n'; 2 << 20];
    header.set_size(name.len() as u64);
    header.set_cksum();
    out.append(&header, &name[..]).unwrap();
    let mut archive = out.into_inner().unwrap();
    let whole = place.archive("one");
    archive.truncate(archive.len() - 1024);
    archive.extend(whole);
    match place.import(&archive[..], Limits::default()).unwrap_err() {
        ArchiveError::Read(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                text += &inner.to_string();
                source = inner.source();
            }
            assert!(text.contains("1048576 bytes"), "{text}");
        }
        error => panic!("{error}"),
    }
}
