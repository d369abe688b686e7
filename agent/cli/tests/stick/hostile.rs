//! Sticks whose file system is made to hurt whoever reads it: a good image of FAT16 or FAT32 in which some bytes are others.
//! The documents on it stay those that were signed. Microsoft's FAT specification has the offsets.

/// What is done, and what the board says of such a stick.
pub struct Attack {
    pub name: &'static str,
    pub spoil: fn(&mut Fat),
    pub says: &'static str,
}

const fn attack(name: &'static str, spoil: fn(&mut Fat), says: &'static str) -> Attack {
    Attack { name, spoil, says }
}

const NO_LAYER: &str = "the stick holds neither layer";
const NO_VFAT: &str = "is no vfat image that can be read";

pub const ATTACKS: [Attack; 11] = [
    // Loops.
    attack(
        "a folder that bites its tail",
        |fat| {
            let folder = fat.find("coracle");
            fat.fill(folder, &[0xe5; 32]);
            fat.bite(folder);
        },
        "has no end",
    ),
    attack(
        "names without an end",
        |fat| {
            let folder = fat.find("coracle/blobs/sha256");
            // A part of a long name, and no file that it is the name of.
            let mut part = [b'a'; 32];
            (part[0], part[11], part[12]) = (0x01, 0x0f, 0);
            fat.fill(folder, &part);
            fat.bite(folder);
        },
        "has no end",
    ),
    attack(
        "an index that bites its tail, of 4 GiB",
        |fat| {
            let index = fat.find("coracle/stick.json");
            fat.bite(index);
            fat.bytes[index + 28..index + 32].fill(0xff);
        },
        "stick.json",
    ),
    attack(
        "the folder above as the folder of blobs",
        |fat| {
            let (above, blobs) = (fat.find("coracle"), fat.find("coracle/blobs"));
            let first = fat.first(above);
            fat.set_first(blobs, first);
        },
        NO_LAYER,
    ),
    // Names that lead elsewhere.
    attack(
        "blobs whose names climb",
        |fat| fat.rename_blobs("../"),
        NO_LAYER,
    ),
    attack(
        "blobs with names from the root",
        |fat| fat.rename_blobs("/etc/"),
        NO_LAYER,
    ),
    attack(
        "names of no characters",
        // Halves of pairs of UTF-16.
        |fat| fat.rename_blobs("\u{1}"),
        NO_LAYER,
    ),
    // Files that are none.
    attack(
        "an index that is a folder",
        |fat| {
            let index = fat.find("coracle/stick.json");
            fat.bytes[index + 11] |= 0x10;
        },
        NO_VFAT,
    ),
    attack(
        "a folder that is a file",
        |fat| {
            let folder = fat.find("coracle");
            fat.bytes[folder + 11] &= !0x10;
        },
        NO_VFAT,
    ),
    // Places that are none.
    attack(
        "a folder beyond the end",
        |fat| {
            let folder = fat.find("coracle");
            fat.set_first(folder, 0xfff0);
        },
        NO_VFAT,
    ),
    attack(
        "blobs that are the table of clusters",
        |fat| {
            let folder = fat.find("coracle/blobs/sha256");
            for entry in fat.entries(folder) {
                fat.set_first(entry, 1);
            }
        },
        "cannot be read",
    ),
];

/// An image, and where its parts are.
pub struct Fat<'a> {
    pub bytes: &'a mut [u8],
    table: usize,
    tables: usize,
    table_bytes: usize,
    /// Of an entry of the table.
    width: usize,
    root: Root,
    data: usize,
    cluster: usize,
}

#[derive(Clone, Copy)]
enum Root {
    At(usize, usize),
    Cluster(usize),
}

impl<'a> Fat<'a> {
    /// `bytes`: the file system, from its boot sector.
    pub fn of(bytes: &'a mut [u8]) -> Self {
        let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let long = |at: usize| word(at) | word(at + 2) << 16;
        let (sector, tables) = (word(11), usize::from(bytes[16]));
        let table = word(14) * sector;
        let (sectors, width) = match word(22) {
            0 => (long(36), 4),
            sectors => (sectors, 2),
        };
        let table_bytes = sectors * sector;
        let after = table + tables * table_bytes;
        let root_bytes = word(17) * 32;
        let root = match width {
            4 => Root::Cluster(long(44)),
            _ => Root::At(after, root_bytes),
        };
        Self {
            table,
            tables,
            table_bytes,
            width,
            root,
            data: after + root_bytes,
            cluster: usize::from(bytes[13]) * sector,
            bytes,
        }
    }

    fn number(&self, at: usize, width: usize) -> usize {
        let bytes = self.bytes[at..at + width].iter().rev();
        bytes.fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    /// The first cluster of what an entry names.
    fn first(&self, entry: usize) -> usize {
        self.number(entry + 26, 2) | self.number(entry + 20, 2) << 16
    }

    fn set_first(&mut self, entry: usize, cluster: usize) {
        let [a, b, c, d] = (cluster as u32).to_le_bytes();
        self.bytes[entry + 26..entry + 28].copy_from_slice(&[a, b]);
        self.bytes[entry + 20..entry + 22].copy_from_slice(&[c, d]);
    }

    /// Clusters from `first` to the end of their chain.
    fn chain(&self, first: usize) -> Vec<usize> {
        let end = 0x0fff_fff8_usize & ((1 << (8 * self.width)) - 1);
        let mut chain = vec![first];
        loop {
            let next = self.number(self.table + self.width * chain[chain.len() - 1], self.width);
            if !(2..end).contains(&next) {
                return chain;
            }
            chain.push(next);
        }
    }

    /// The last cluster is followed by the first.
    fn bite(&mut self, entry: usize) {
        let first = self.first(entry);
        let chain = self.chain(first);
        let number = (first as u32).to_le_bytes();
        for table in 0..self.tables {
            let at = self.table + table * self.table_bytes + self.width * chain[chain.len() - 1];
            self.bytes[at..at + self.width].copy_from_slice(&number[..self.width]);
        }
    }

    /// Where the entries of a folder are, 32 bytes each: those of its clusters.
    fn places(&self, first: usize) -> Vec<usize> {
        let clusters = self.chain(first).into_iter();
        clusters
            .flat_map(|cluster| {
                let at = self.data + (cluster - 2) * self.cluster;
                (at..at + self.cluster).step_by(32)
            })
            .collect()
    }

    fn in_root(&self) -> Vec<usize> {
        match self.root {
            Root::At(at, bytes) => (at..at + bytes).step_by(32).collect(),
            Root::Cluster(first) => self.places(first),
        }
    }

    fn is_part_of_a_name(&self, place: usize) -> bool {
        self.bytes[place + 11] == 0x0f
    }

    /// Files and folders of a folder, but for itself and the one above.
    fn entries(&self, folder: usize) -> Vec<usize> {
        let places = self.places(self.first(folder)).into_iter();
        let ended = places.take_while(|place| self.bytes[*place] != 0);
        ended
            .filter(|place| !self.is_part_of_a_name(*place) && self.bytes[*place] != b'.')
            .collect()
    }

    /// The entry of that path.
    fn find(&self, path: &str) -> usize {
        let mut places = self.in_root();
        let mut found = 0;
        for name in path.split('/') {
            found = self.named(&places, name);
            places = self.places(self.first(found));
        }
        found
    }

    fn named(&self, places: &[usize], name: &str) -> usize {
        let mut long = String::new();
        for place in places {
            if self.is_part_of_a_name(*place) {
                let part = Self::characters(*place).map(|at| self.bytes[at]);
                let part: String = part.filter(u8::is_ascii).map(char::from).collect();
                long = part.trim_end_matches('\0').to_owned() + &long;
                continue;
            }
            // The name of the stick itself.
            if self.bytes[place + 11] & 0x08 != 0 {
                continue;
            }
            let short = String::from_utf8_lossy(&self.bytes[*place..place + 11]).to_lowercase();
            if std::mem::take(&mut long) == name || short.trim_end() == name {
                return *place;
            }
        }
        panic!("the image has no `{name}`");
    }

    /// Where the low bytes of a part's thirteen characters are.
    fn characters(place: usize) -> impl Iterator<Item = usize> {
        let runs = [(1, 5), (14, 6), (28, 2)];
        runs.into_iter()
            .flat_map(move |(at, count)| (0..count).map(move |n| place + at + 2 * n))
    }

    /// Each entry of a folder is this one.
    fn fill(&mut self, folder: usize, entry: &[u8; 32]) {
        for place in self.places(self.first(folder)) {
            self.bytes[place..place + 32].copy_from_slice(entry);
        }
    }

    /// The characters of all blobs' long names are these, again and again.
    fn rename_blobs(&mut self, text: &str) {
        let folder = self.find("coracle/blobs/sha256");
        for place in self.places(self.first(folder)) {
            if !self.is_part_of_a_name(place) {
                continue;
            }
            for (at, character) in Self::characters(place).zip(text.bytes().cycle()) {
                // Only where a name goes on: 0 and ffff end and fill it.
                if self.bytes[at + 1] == 0 && self.bytes[at] != 0 {
                    self.bytes[at] = character;
                    // U+DC01 is the second half of a pair whose first is not there.
                    self.bytes[at + 1] = if character == 1 { 0xdc } else { 0 };
                }
            }
        }
    }
}
