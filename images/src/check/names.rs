//! The names of a layer, in few bytes each: whatever is in the tree must be one of them.

use std::hash::{DefaultHasher, Hasher};

/// What a name is once all members were unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Final {
    /// It hides what is below, and nothing else has the name.
    Whiteout,
    /// On the way to a member; nobody says how it is.
    Implied,
    /// As its last member says, whose number it is, from 1.
    Folder(u32),
    /// Something else, by this member.
    Node(u32),
}

/// In the making until [`Names::settle`].
#[derive(Default)]
pub(super) struct Names {
    all: Vec<(u64, Final)>,
    /// The folder of the last member: its own are there already.
    before: Vec<u64>,
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path);
    hasher.finish()
}

impl Names {
    /// All folders on the way to a folder, and itself.
    pub(super) fn above(&mut self, folder: &[&[u8]]) {
        let mut path = Vec::new();
        for (depth, part) in folder.iter().enumerate() {
            if depth > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            let hash = hash(&path);
            if self.before.get(depth) != Some(&hash) {
                self.before.truncate(depth);
                self.before.push(hash);
                self.all.push((hash, Final::Implied));
            }
        }
    }

    pub(super) fn implied(&mut self, parts: &[&[u8]]) {
        self.all.push((hash(&parts.join(&b'/')), Final::Implied));
    }

    pub(super) fn whiteout(&mut self, folder: &[&[u8]], hidden: &[u8]) {
        let mut parts = folder.to_vec();
        parts.push(hidden);
        self.all.push((hash(&parts.join(&b'/')), Final::Whiteout));
    }

    pub(super) fn node(&mut self, parts: &[&[u8]], index: u32, is_folder: bool) {
        let kind = match is_folder {
            true => Final::Folder(index),
            false => Final::Node(index),
        };
        self.all.push((hash(&parts.join(&b'/')), kind));
    }

    /// Of each name what counts. The number of a member whose name something else had before: what that was cannot be known.
    pub(super) fn settle(mut self) -> Result<Self, u32> {
        self.before = Vec::new();
        // The last of each name is the one that counts.
        self.all.sort_unstable();
        for two in self.all.windows(2) {
            if let [(one, before), (other, Final::Node(index))] = two
                && one == other
                && *before != Final::Whiteout
            {
                return Err(*index);
            }
        }
        self.all.reverse();
        self.all.dedup_by_key(|name| name.0);
        self.all.reverse();
        self.all.shrink_to_fit();
        Ok(self)
    }

    pub(super) fn last(&self, path: &[u8]) -> Option<Final> {
        let hash = hash(path);
        let at = self.all.binary_search_by_key(&hash, |name| name.0).ok()?;
        Some(self.all[at].1)
    }
}
