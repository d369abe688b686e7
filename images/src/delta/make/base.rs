//! The base layer as a board has it: regular files by path.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use coracle_digest::Sha256Digest;

use super::MakeError;
use super::samples::Samples;
use crate::beneath::components;
use crate::decompress::Measured;
use crate::limits::Limits;
use crate::unpack::{Kind, TarError, TarStream};

/// A regular file of the base tree.
pub(in crate::delta) struct BaseFile {
    /// Components joined with `/`.
    pub(in crate::delta) path: Vec<u8>,
    pub(in crate::delta) content: Arc<Vec<u8>>,
}

/// All of them, with ways to find one that is like a new file.
pub(in crate::delta) struct BaseFiles {
    files: BTreeMap<Vec<u8>, BaseFile>,
    by_content: HashMap<Sha256Digest, Vec<u8>>,
    by_name: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    by_stem: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    by_sample: Samples,
}

impl BaseFiles {
    /// Follows the tar stream as unpacking it would. Returns its digest too.
    pub(in crate::delta) fn read(base: impl Read) -> Result<(Self, Sha256Digest), MakeError> {
        let limits = Limits::default();
        let mut measured = Measured::new(base, u64::MAX);
        let mut stream = TarStream::new(&mut measured, &limits);
        let mut files: BTreeMap<Vec<u8>, BaseFile> = BTreeMap::new();
        while let Some(member) = stream.next_member().map_err(MakeError::Base)? {
            let Ok(parts) = components(&member.path, &limits) else {
                return Err(MakeError::Base(TarError::Header("path")));
            };
            let path = parts.join(&b'/');
            if parts.last().is_none_or(|name| name.starts_with(b".wh.")) {
                continue;
            }
            let content = match &member.kind {
                Kind::File => {
                    let mut content = Vec::new();
                    stream
                        .by_ref()
                        .take(member.size)
                        .read_to_end(&mut content)?;
                    Some(Arc::new(content))
                }
                Kind::HardLink(target) => {
                    let target = components(target, &limits).unwrap_or_default().join(&b'/');
                    files.get(&target).map(|file| file.content.clone())
                }
                _ => None,
            };
            // It replaces the file that was there.
            files.remove(&path);
            if member.kind != Kind::Folder {
                // And a folder with all below it, whose paths lie together.
                let below = [path.as_slice(), b"/"].concat();
                let others = files.range(below.clone()..).map(|(other, _)| other);
                let gone = others.take_while(|other| other.starts_with(&below));
                for other in gone.cloned().collect::<Vec<_>>() {
                    files.remove(&other);
                }
            }
            if let Some(content) = content {
                files.insert(path.clone(), BaseFile { path, content });
            }
        }
        stream.drain().map_err(MakeError::Base)?;
        let (digest, _) = measured.finish();
        Ok((Self::index(files), digest))
    }

    fn index(files: BTreeMap<Vec<u8>, BaseFile>) -> Self {
        let mut this = Self {
            by_content: HashMap::new(),
            by_name: HashMap::new(),
            by_stem: HashMap::new(),
            by_sample: Samples::default(),
            files: BTreeMap::new(),
        };
        for (path, file) in files.iter().filter(|(_, file)| !file.content.is_empty()) {
            this.by_content
                .entry(Sha256Digest::of(&file.content))
                .or_insert_with(|| path.clone());
            this.by_sample.add(path, &file.content);
            this.by_name
                .entry(name(path).to_vec())
                .or_default()
                .push(path.clone());
            this.by_stem
                .entry(stem(name(path)))
                .or_default()
                .push(path.clone());
        }
        this.files = files;
        this
    }

    /// All of them, in the order of their paths.
    pub(in crate::delta) fn files(&self) -> impl Iterator<Item = &BaseFile> {
        self.files.values()
    }

    /// The file at a path as a member has it.
    pub(in crate::delta) fn at(&self, path: &[u8]) -> Option<&BaseFile> {
        let parts = components(path, &Limits::default()).ok()?;
        self.files.get(&parts.join(&b'/'))
    }

    /// The file to make `content` from: the same content anywhere, then the same path, the same name, a
    /// name that differs in digits only (versions), of several the one whose size is nearest; at last the one that
    /// shares most samples.
    pub(in crate::delta) fn source_for(&self, path: &[u8], content: &[u8]) -> Option<&BaseFile> {
        if let Some(same) = self.by_content.get(&Sha256Digest::of(content)) {
            return self.files.get(same);
        }
        if let Some(file) = self.at(path).filter(|file| !file.content.is_empty()) {
            return Some(file);
        }
        let nearest = |paths: &Vec<Vec<u8>>| {
            let files = paths.iter().filter_map(|path| self.files.get(path));
            files.min_by_key(|file| file.content.len().abs_diff(content.len()))
        };
        let by_name = self.by_name.get(name(path)).and_then(nearest);
        by_name
            .or_else(|| self.by_stem.get(&stem(name(path))).and_then(nearest))
            .or_else(|| self.files.get(self.by_sample.likest(content)?))
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// A name without its digits.
fn stem(name: &[u8]) -> Vec<u8> {
    name.iter()
        .copied()
        .filter(|byte| !byte.is_ascii_digit())
        .collect()
}
