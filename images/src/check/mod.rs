//! Whether a layer's tree is still what was unpacked: its tar stream is made again from the record ([`crate::record`]) and the
//! files, and what the stream says of each member is held against the tree.
//!
//! This runs in a jailed child of the supervisor's, as unpacking does: it reads below `tree`, and the record, and changes
//! nothing. It needs CAP_DAC_READ_SEARCH. Modification times are not compared: not every file system keeps them whole.

mod compare;
mod names;
mod strays;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::beneath::{PathError, Walker, components};
use crate::limits::Limits;
use crate::record::Remade;
use crate::unpack::{Kind, OPAQUE, TarError, TarStream, WHITEOUT, lossy};

use compare::Tree;
use names::{Final, Names};

/// Faults of one layer that are named; more are counted.
pub const NAMED: usize = 16;

/// Something in a tree that is not as it was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Below the tree, shortened; empty: the tree's root.
    pub path: String,
    /// In words, after the path: "is missing".
    pub what: String,
}

/// What there is to say of a tree.
#[derive(Debug)]
pub struct Checked {
    /// Digest of the stream, as record and files make it.
    pub diff_id: Sha256Digest,
    /// The first of them.
    pub faults: Vec<Fault>,
    /// How many there are besides.
    pub more: u64,
    /// Folders that must be opaque, which only CAP_SYS_ADMIN sees: [`crate::unpack::not_opaque`].
    pub opaque: Vec<Vec<u8>>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The record.
    #[error("what was written down of it while it was unpacked cannot be read: {0}")]
    Record(#[from] TarError),
    /// The same.
    #[error("what was written down of it while it was unpacked cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The same: no layer that was unpacked has such a path.
    #[error("what was written down of it while it was unpacked cannot be read: {0}")]
    Path(#[from] PathError),
    /// What was replaced by a later member is nowhere any more.
    #[error("its tar has `{0}` twice, and of the first one nothing is kept")]
    Twice(String),
}

/// Faults as they are found.
#[derive(Default)]
struct Faults {
    named: Vec<Fault>,
    more: u64,
}

impl Faults {
    fn add(&mut self, path: &[u8], what: String) {
        if self.named.len() < NAMED {
            let path = lossy(path);
            self.named.push(Fault { path, what });
        } else {
            self.more += 1;
        }
    }
}

/// Reads the record twice and the tree once. Memory: some bytes for each member's name.
pub fn check_layer(tree: OwnedFd, record: &File, limits: &Limits) -> Result<Checked, CheckError> {
    let names = names(record, limits)?;
    let mut faults = Faults::default();
    let strays = rustix::fs::openat(
        &tree,
        c".",
        crate::beneath::FOLDER,
        rustix::fs::Mode::empty(),
    )
    .map_err(io::Error::from)?;
    let mut stream = TarStream::new(Remade::open(record)?, limits);
    let mut tree = Tree::new(Walker::reader(tree));
    let mut opaque = Vec::new();
    let mut index = 0;
    while let Some(member) = stream.next_member()? {
        index += 1;
        let parts = components(&member.path, limits)?;
        let path = parts.join(&b'/');
        if let Some((name, folder)) = parts.split_last()
            && let Some(hidden) = name.strip_prefix(WHITEOUT)
        {
            let mut hides = folder.to_vec();
            if hidden != OPAQUE {
                hides.push(hidden);
            }
            let path = hides.join(&b'/');
            match names.last(&path) {
                Some(Final::Whiteout) => tree.whiteout(&hides, &mut faults),
                Some(Final::Folder(_) | Final::Implied) => opaque.push(path),
                _ => {}
            }
            continue;
        }
        let is_last = match names.last(&path) {
            Some(Final::Folder(last)) => last == index,
            _ => true,
        };
        if !is_last {
            continue;
        }
        let file = tree.node(&member, &parts, limits, &mut faults);
        if member.kind == Kind::File && stream.inner_mut().file_follows()?.is_some() {
            let is_there = file.is_some();
            stream.inner_mut().read_from(file);
            io::copy(&mut (&mut stream).take(member.size), &mut io::sink())?;
            if is_there && let Some(what) = compare::contents(stream.inner_mut().found()) {
                faults.add(&path, what);
            }
        }
    }
    stream.drain()?;
    let diff_id = stream.into_inner().digest();
    strays::find(strays, &names, limits, &mut faults);
    opaque.sort_unstable();
    opaque.dedup();
    Ok(Checked {
        diff_id,
        faults: faults.named,
        more: faults.more,
        opaque,
    })
}

/// All that the tree has, in the end.
fn names(record: &File, limits: &Limits) -> Result<Names, CheckError> {
    let mut stream = TarStream::new(Remade::open(record)?, limits);
    let mut names = Names::default();
    let mut index = 0;
    while let Some(member) = stream.next_member()? {
        index += 1;
        let parts = components(&member.path, limits)?;
        match parts.split_last() {
            Some((name, folder)) if name.starts_with(WHITEOUT) => {
                let hidden = &name[WHITEOUT.len()..];
                names.above(folder);
                match hidden {
                    OPAQUE => names.implied(folder),
                    // Bookkeeping of aufs.
                    _ if hidden.starts_with(WHITEOUT) => {}
                    _ => names.whiteout(folder, hidden),
                }
            }
            Some((_, folder)) => {
                names.above(folder);
                names.node(&parts, index, member.kind == Kind::Folder);
            }
            None => names.node(&[], index, true),
        }
        if stream.inner_mut().file_follows()?.is_some() {
            stream.inner_mut().without_file();
            stream.without_data();
        }
    }
    names.settle().map_err(|at| twice(record, limits, at))
}

/// Names the member with that number.
fn twice(record: &File, limits: &Limits, at: u32) -> CheckError {
    let find = || -> Result<Option<String>, CheckError> {
        let mut stream = TarStream::new(Remade::open(record)?, limits);
        let mut index = 0;
        while let Some(member) = stream.next_member()? {
            index += 1;
            if index == at {
                return Ok(Some(lossy(&member.path)));
            }
            if stream.inner_mut().file_follows()?.is_some() {
                stream.inner_mut().without_file();
                stream.without_data();
            }
        }
        Ok(None)
    };
    find().map_or_else(
        |error| error,
        |path| CheckError::Twice(path.unwrap_or_default()),
    )
}
