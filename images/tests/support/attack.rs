//! The corpus of hostile layers: `images/tests/data/hostile/<attack>/attack.json` says how each is made and what has to become of it.
//! The tests of the unpacker and those of the supervisor, whose jailed child it is for, read the same folders.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use coracle_digest::{Hasher, Sha256Digest};
use serde::Deserialize;
use tar::{EntryType, Header};

/// Where the attacks are.
const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../images/tests/data/hostile"
);
/// The same from the crate that they lie in.
const CORPUS_OF_IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hostile");

/// One folder of the corpus.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// The folder's.
    #[serde(skip)]
    pub name: String,
    /// What it tries, in words.
    pub why: String,
    layer: Vec<Member>,
    #[serde(default)]
    packed: Packed,
    /// zstd: the frame asks for a window of so many bits.
    window_log: Option<u32>,
    /// Each beginning of the tar with a multiple of so many bytes is an attack of its own.
    cut_every: Option<usize>,
    /// The release says so many bytes of the unpacked layer; otherwise it tells the truth.
    signed_bytes: Option<u64>,
    outcome: Outcome,
    /// The same for whoever unpacks with CAP_SYS_ADMIN, which the board's child has not.
    outcome_for_an_administrator: Option<Outcome>,
}

/// What has to become of it.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Outcome {
    /// No tree; the reason has each of these texts.
    Refused(Vec<String>),
    /// A tree, in which these paths are what is said; nothing else changed.
    Harmless(BTreeMap<String, Found>),
}

/// What a path of the tree is to be.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// File type and permissions, octal, as in `st_mode`.
    pub mode: String,
    /// A file's.
    pub contents: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Packed {
    #[default]
    Tar,
    Gzip,
    Zstd,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    kind: Kind,
    #[serde(default)]
    name: Text,
    #[serde(default)]
    link: Text,
    #[serde(default)]
    data: Text,
    /// PAX records, which are its data.
    #[serde(default)]
    records: Vec<(String, Text)>,
    #[serde(default)]
    device: (u32, u32),
    /// Octal.
    mode: Option<String>,
    #[serde(default)]
    uid: u64,
    /// Bytes that the header announces, whatever follows it.
    size: Option<u64>,
    /// Bytes of the header that are other ones in the end: offset, and what stands there.
    #[serde(default)]
    overwritten: Vec<(usize, Text)>,
    /// So many of it, one after the other; `{n}` in a text is its number, `{n/1000}` a thousandth of that.
    times: Option<u64>,
    /// A group's.
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    File,
    Folder,
    Symlink,
    Link,
    Char,
    Block,
    Fifo,
    Pax,
    PaxGlobal,
    GnuName,
    GnuLink,
    GnuSparse,
    Volume,
    /// No header at all: the data.
    Bytes,
    /// Others, one after the other.
    Group,
}

/// `{outside}` is the way from the layer's root to the folder that must stay as it is, `{absolute}` that folder's path.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Many(Vec<Text>),
    Times { of: String, times: u64 },
    Hex { hex: String },
}

impl Default for Text {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

/// Where the layer is unpacked, seen from there.
pub struct Places<'a> {
    pub outside: &'a str,
    pub absolute: &'a Path,
}

/// A layer that was made of an attack.
pub struct Made {
    /// With the place where it was cut.
    pub name: String,
    pub blob: PathBuf,
    pub blob_digest: Sha256Digest,
    pub blob_bytes: u64,
    pub media_type: &'static str,
    /// Of the tar that the release means: the whole one.
    pub diff_id: Sha256Digest,
    pub signed_bytes: u64,
    pub outcome: Outcome,
    pub outcome_for_an_administrator: Outcome,
}

/// All of them, by name.
pub fn corpus() -> Vec<Attack> {
    let folder = [CORPUS_OF_IMAGES, CORPUS]
        .into_iter()
        .find(|folder| Path::new(folder).is_dir())
        .expect("images/tests/data/hostile is there");
    let mut all: Vec<Attack> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(path.join("attack.json"))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut attack: Attack = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            attack.name = path.file_name().unwrap().to_str().unwrap().to_owned();
            attack
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

impl Attack {
    /// Makes its layer, or those of its cuts, below `folder`.
    pub fn make(&self, places: &Places, folder: &Path) -> Vec<Made> {
        let mut whole = Vec::new();
        let Some(every) = self.cut_every else {
            return vec![self.pack(None, places, folder)];
        };
        self.write(places, &mut whole);
        let ends = (0..whole.len()).step_by(every);
        let cut = |end| self.pack(Some((&whole, end)), places, folder);
        ends.map(cut).collect()
    }

    fn pack(&self, cut: Option<(&[u8], usize)>, places: &Places, folder: &Path) -> Made {
        let name = match cut {
            Some((_, end)) => format!("{}-{end}", self.name),
            None => self.name.clone(),
        };
        let blob = folder.join(&name);
        let mut out = Summed::new(File::create(&blob).unwrap());
        let mut tar = Summed::new(Packing::new(&mut out, self.packed, self.window_log));
        let (mut diff_id, mut tar_bytes) = (None, 0);
        match cut {
            Some((whole, end)) => {
                tar.write_all(&whole[..end]).unwrap();
                (diff_id, tar_bytes) = (Some(Sha256Digest::of(whole)), whole.len() as u64);
            }
            None => self.write(places, &mut tar),
        }
        let (packing, written, bytes) = tar.end();
        packing.end();
        let (file, blob_digest, blob_bytes) = out.end();
        file.sync_all().unwrap();
        Made {
            name,
            blob,
            blob_digest,
            blob_bytes,
            media_type: match self.packed {
                Packed::Tar => "application/vnd.oci.image.layer.v1.tar",
                Packed::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
                Packed::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            },
            diff_id: diff_id.unwrap_or(written),
            signed_bytes: self.signed_bytes.unwrap_or(tar_bytes.max(bytes)),
            outcome: self.outcome.clone(),
            outcome_for_an_administrator: self
                .outcome_for_an_administrator
                .as_ref()
                .unwrap_or(&self.outcome)
                .clone(),
        }
    }

    fn write(&self, places: &Places, out: &mut impl Write) {
        for member in &self.layer {
            for number in 0..member.times.unwrap_or(1) {
                member.write(places, number, out);
            }
        }
        out.write_all(&[0; 1024]).unwrap();
    }
}

impl Member {
    fn write(&self, places: &Places, number: u64, out: &mut impl Write) {
        let mut records = Vec::new();
        for (key, value) in &self.records {
            let mut record = format!(" {key}=").into_bytes();
            value.write(places, number, &mut record);
            record.push(b'\n');
            let mut length = record.len() + record.len().to_string().len();
            length = record.len() + length.to_string().len();
            records.extend_from_slice(length.to_string().as_bytes());
            records.extend(record);
        }
        let data_bytes = records.len() as u64 + self.data.length(places, number);
        if let Some(kind) = self.kind.entry_type() {
            let header = self.header(kind, self.size.unwrap_or(data_bytes), places, number);
            out.write_all(&header).unwrap();
        }
        out.write_all(&records).unwrap();
        self.data.write(places, number, out);
        for member in &self.members {
            member.write(places, number, out);
        }
        if self.kind.entry_type().is_some() {
            let padding = data_bytes.next_multiple_of(512) - data_bytes;
            out.write_all(&[0; 512][..padding as usize]).unwrap();
        }
    }

    fn header(&self, kind: EntryType, size: u64, places: &Places, number: u64) -> Vec<u8> {
        let text = |text: &Text| {
            let mut bytes = Vec::new();
            text.write(places, number, &mut bytes);
            bytes
        };
        let mut header = Header::new_gnu();
        let bytes = header.as_mut_bytes();
        for (at, text) in [(0, text(&self.name)), (157, text(&self.link))] {
            assert!(text.len() <= 100, "a header has no room for {text:?}");
            bytes[at..at + text.len()].copy_from_slice(&text);
        }
        header.set_entry_type(kind);
        let mode = self.mode.as_deref().unwrap_or("644");
        header.set_mode(u32::from_str_radix(mode, 8).unwrap());
        header.set_uid(self.uid);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(size);
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        // A wrong sum is an attack of its own.
        let (sum, other): (Vec<_>, Vec<_>) = self
            .overwritten
            .iter()
            .partition(|(at, _)| (148..156).contains(at));
        for (at, bytes) in other {
            let bytes = text(bytes);
            header.as_mut_bytes()[*at..*at + bytes.len()].copy_from_slice(&bytes);
        }
        header.set_cksum();
        for (at, bytes) in sum {
            let bytes = text(bytes);
            header.as_mut_bytes()[*at..*at + bytes.len()].copy_from_slice(&bytes);
        }
        header.as_bytes().to_vec()
    }
}

impl Kind {
    fn entry_type(&self) -> Option<EntryType> {
        Some(match self {
            Self::File => EntryType::Regular,
            Self::Folder => EntryType::Directory,
            Self::Symlink => EntryType::Symlink,
            Self::Link => EntryType::Link,
            Self::Char => EntryType::Char,
            Self::Block => EntryType::Block,
            Self::Fifo => EntryType::Fifo,
            Self::Pax => EntryType::XHeader,
            Self::PaxGlobal => EntryType::XGlobalHeader,
            Self::GnuName => EntryType::GNULongName,
            Self::GnuLink => EntryType::GNULongLink,
            Self::GnuSparse => EntryType::GNUSparse,
            Self::Volume => EntryType::new(b'V'),
            Self::Bytes | Self::Group => return None,
        })
    }
}

impl Text {
    fn write(&self, places: &Places, number: u64, out: &mut impl Write) {
        let plain = |text: &str| {
            text.replace("{outside}", places.outside)
                .replace("{absolute}", places.absolute.to_str().unwrap())
                .replace("{n}", &number.to_string())
                .replace("{n/1000}", &(number / 1000).to_string())
                .into_bytes()
        };
        match self {
            Self::Plain(text) => out.write_all(&plain(text)).unwrap(),
            Self::Many(all) => all.iter().for_each(|one| one.write(places, number, out)),
            Self::Times { of, times } => {
                let of = plain(of);
                // Many at once: there may be 2^30 of them.
                let at_once = (64 << 10) / of.len() as u64;
                let many = of.repeat(at_once.min(*times) as usize);
                for _ in 0..times / at_once {
                    out.write_all(&many).unwrap();
                }
                let rest = times % at_once;
                out.write_all(&of.repeat(rest as usize)).unwrap();
            }
            Self::Hex { hex } => {
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
                out.write_all(&bytes).unwrap();
            }
        }
    }

    fn length(&self, places: &Places, number: u64) -> u64 {
        match self {
            Self::Times { of, times } => of.len() as u64 * times,
            other => {
                let mut bytes = Vec::new();
                other.write(places, number, &mut bytes);
                bytes.len() as u64
            }
        }
    }
}

/// Digest and number of the bytes that went through.
struct Summed<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Summed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
            bytes: 0,
        }
    }

    fn end(self) -> (W, Sha256Digest, u64) {
        (self.inner, self.hasher.finish(), self.bytes)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

enum Packing<W: Write> {
    Tar(io::BufWriter<W>),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Packing<W> {
    fn new(out: W, packed: Packed, window_log: Option<u32>) -> Self {
        match packed {
            Packed::Tar => Self::Tar(io::BufWriter::new(out)),
            Packed::Gzip => {
                let level = flate2::Compression::fast();
                Self::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            Packed::Zstd => {
                let mut encoder = zstd::Encoder::new(out, 1).unwrap();
                if let Some(log) = window_log {
                    encoder.window_log(log).unwrap();
                }
                Self::Zstd(encoder)
            }
        }
    }

    fn end(self) {
        match self {
            Self::Tar(mut out) => out.flush().unwrap(),
            Self::Gzip(out) => drop(out.finish().unwrap()),
            Self::Zstd(out) => drop(out.finish().unwrap()),
        }
    }
}

impl<W: Write> Write for Packing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tar(out) => out.write(bytes),
            Self::Gzip(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tar(out) => out.flush(),
            Self::Gzip(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
        }
    }
}

/// What is at a path of the tree is what was said.
pub fn assert_found(attack: &str, tree: &Path, path: &str, wanted: &Found) {
    use std::os::unix::fs::MetadataExt;
    let path = tree.join(path.trim_start_matches('/'));
    let facts = path
        .symlink_metadata()
        .unwrap_or_else(|error| panic!("{attack}: {}: {error}", path.display()));
    let mode = format!("{:o}", facts.mode());
    assert_eq!(mode, wanted.mode, "{attack}: {}", path.display());
    if let Some(contents) = &wanted.contents {
        let found = std::fs::read_to_string(&path).unwrap();
        assert_eq!(found, *contents, "{attack}: {}", path.display());
    }
}

/// Nobody made a program of a file that was none of the layer's.
pub fn assert_without_capabilities(attack: &str, file: &Path) {
    let mut value = [0; 64];
    let found = rustix::fs::getxattr(file, "security.capability", &mut value[..]);
    assert_eq!(found, Err(rustix::io::Errno::NODATA), "{attack}");
}

/// The blob, at its start.
pub fn open(made: &Made) -> File {
    let mut file = File::open(&made.blob).unwrap();
    file.rewind().unwrap();
    file
}
