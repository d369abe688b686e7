//! Any two layers: members of every kind, as different programs write them, and what a later build makes of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::LazyLock;

use coracle_images::Limits;
use coracle_images::unpack::unpack_tar;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tar::{EntryType, Header};

#[path = "programs.rs"]
pub mod programs;

use programs::{arm_program, framed, program};

/// A member of a layer.
#[derive(Clone, Debug)]
pub struct Member {
    name: String,
    what: What,
    mode: u32,
    /// Above 2^21 it has no room as octal digits.
    owner: (u64, u64),
    mtime: u64,
    xattr: Option<Vec<u8>>,
    style: Style,
}

#[derive(Clone, Debug)]
enum What {
    File(Vec<u8>),
    Folder,
    Symlink(String),
    /// Another name of a file before it, if there is one.
    Link(Index),
    Char,
    Block,
    Fifo,
}

/// How a program writes what has no room in a header.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    Gnu,
    /// Records; the header's own name is the beginning of the path.
    Pax,
    /// Every member has records, and its header the name of some other member.
    PaxAlone,
    /// The path's first part in a field of its own, where it can be.
    Ustar,
}

/// A later build's change to a member.
#[derive(Clone, Debug)]
enum Change {
    None,
    Name(String),
    Mode(u32),
    Owner(u64, u64),
    Time(u64),
    Xattr(Vec<u8>),
    Style(Style),
    What(What),
    /// Bytes that were put into a file.
    Insert(Index),
}

fn names() -> impl Strategy<Value = String> {
    let part = || "[a-c]{1,2}|lib[0-9]\\.so|n{90}|m{120}";
    let depth = proptest::collection::vec(part(), 0..3);
    // Folders' names too, and what hides files of other layers.
    (depth, "[a-f]{1,2}|l{101}|[.]wh[.][a-f]").prop_map(|(folders, last)| {
        folders
            .iter()
            .map(|folder| format!("{folder}/"))
            .collect::<String>()
            + &last
    })
}

/// What the program gzip packs, of which the board packs levels 4 to 9 again.
static PACKED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let all = [("-9", 400), ("-6", 60), ("-4", 10), ("-1", 60)];
    let versions = all.map(|(level, lines)| [1, 2].map(|one| gzipped(&manual(one, lines), level)));
    versions.concat()
});

pub fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..3000),
        proptest::collection::vec(0u8..4, 500..1500),
        (0u32..3, 0usize..200).prop_map(|(seed, insert)| program(3000, seed, insert)),
        (any::<bool>(), 0u32..2, 0usize..40).prop_map(|(wide, seed, insert)| {
            arm_program(if wide { 183 } else { 40 }, 3000, seed, insert)
        }),
        (1u32..60).prop_map(|turn| framed(60, (0..60).map(|one| one * turn % 60))),
        any::<Index>().prop_map(|which| which.get(&PACKED).clone()),
        // One that is damaged, or has more behind it.
        (any::<Index>(), any::<Index>()).prop_map(|(which, at)| {
            let mut packed = which.get(&PACKED).clone();
            packed.insert(at.index(packed.len() + 1), 7);
            packed
        }),
    ]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => contents().prop_map(What::File),
        1 => Just(What::Folder),
        1 => names().prop_map(What::Symlink),
        2 => any::<Index>().prop_map(What::Link),
        1 => select(vec![What::Char, What::Block, What::Fifo]),
    ]
}

fn modes() -> impl Strategy<Value = u32> {
    select(vec![0o644, 0o755, 0o4755, 0o1777, 0, 0o100_644])
}

fn owners() -> impl Strategy<Value = (u64, u64)> {
    select(vec![
        (0, 0),
        (1000, 2000),
        (0, 42),
        (1 << 21, 0),
        (5, 0xFFFF_FFFE),
    ])
}

fn times() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_700_000_000..1_700_000_099u64, 0..1u64 << 34]
}

fn xattrs() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn styles() -> impl Strategy<Value = Style> {
    select(vec![Style::Gnu, Style::Pax, Style::PaxAlone, Style::Ustar])
}

fn members() -> impl Strategy<Value = Member> {
    let xattr = proptest::option::weighted(0.2, xattrs());
    let all = (names(), what(), modes(), owners(), times(), xattr, styles());
    all.prop_map(|(name, what, mode, owner, mtime, xattr, style)| Member {
        name,
        what,
        mode,
        owner,
        mtime,
        xattr,
        style,
    })
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::None),
        1 => names().prop_map(Change::Name),
        1 => modes().prop_map(Change::Mode),
        1 => owners().prop_map(|(user, group)| Change::Owner(user, group)),
        1 => times().prop_map(Change::Time),
        1 => xattrs().prop_map(Change::Xattr),
        1 => styles().prop_map(Change::Style),
        1 => what().prop_map(Change::What),
        3 => any::<Index>().prop_map(Change::Insert),
    ]
}

fn changed(mut member: Member, change: Change) -> Member {
    match change {
        Change::None => {}
        Change::Name(name) => member.name = name,
        Change::Mode(mode) => member.mode = mode,
        Change::Owner(user, group) => member.owner = (user, group),
        Change::Time(time) => member.mtime = time,
        Change::Xattr(value) => member.xattr = Some(value),
        Change::Style(style) => member.style = style,
        Change::What(what) => member.what = what,
        Change::Insert(at) => {
            if let What::File(content) = &mut member.what {
                let at = at.index(content.len() + 1);
                content.splice(at..at, *b"changed");
            }
        }
    }
    member
}

/// The tars of two layers; the first one can be unpacked, the second one has some of its members.
pub fn pairs() -> impl Strategy<Value = [Vec<u8>; 2]> {
    let kept = proptest::collection::vec((any::<Index>(), changes()), 0..8);
    let fresh = proptest::collection::vec(members(), 0..4);
    let old = proptest::collection::vec(members(), 0..10);
    let all = (old, kept, fresh, any::<bool>(), [0usize..3, 0..3]);
    all.prop_map(|(mut old, kept, fresh, sorted, ends)| {
        let mut new = fresh;
        for (index, change) in kept {
            if !old.is_empty() {
                new.push(changed(index.get(&old).clone(), change));
            }
        }
        if sorted {
            old.sort_by(|one, two| one.name.cmp(&two.name));
            new.sort_by(|one, two| one.name.cmp(&two.name));
        }
        let old = unpackable(old);
        [tar_of(&old, ends[0]), tar_of(&new, ends[1])]
    })
}

/// Without what would lie below a file, a link or the like: no board unpacks that.
fn unpackable(mut members: Vec<Member>) -> Vec<Member> {
    let mut others = BTreeSet::new();
    members.retain(|member| {
        let path = member.name.replace(".wh.", "");
        let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let fits = above.all(|folder| !others.contains(folder));
        if fits && matches!(member.what, What::Folder) && path == member.name {
            others.remove(&path);
        } else if fits {
            others.insert(path);
        }
        fits
    });
    members
}

/// Whether it replaces what has this path.
fn replaces(member: &Member, path: &str) -> bool {
    let rest = path.strip_prefix(member.name.as_str());
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('/') && !matches!(member.what, What::Folder)
    })
}

fn tar_of(members: &[Member], end: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut files: Vec<&str> = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let other = &members[(number + 1) % members.len()].name;
        let below = |file: &&str| *file != member.name && replaces(member, file);
        let link = match &member.what {
            What::Symlink(target) => target.as_str(),
            What::Link(_) if files.is_empty() => continue,
            What::Link(target) => match *target.get(&files) {
                // It would take the place of the folder that has its file.
                file if below(&file) => continue,
                file => file,
            },
            _ => "",
        };
        member.put(link, other, &mut out);
        if member.name.contains(".wh.") {
            continue;
        }
        files.retain(|file| !replaces(member, file));
        if matches!(member.what, What::File(_) | What::Link(_)) {
            files.push(&member.name);
        }
    }
    match end {
        // Not even the two blocks that end it.
        0 => {}
        1 => out.extend([0; 1024]),
        _ => out.resize((out.len() + 1024).next_multiple_of(10 << 10), 0),
    }
    out
}

impl Member {
    fn put(&self, link: &str, other: &str, out: &mut Vec<u8>) {
        let (name, style) = (self.name.as_bytes(), self.style);
        let pax = matches!(style, Style::Pax | Style::PaxAlone);
        let mut header = match style {
            Style::Gnu => Header::new_gnu(),
            _ => Header::new_ustar(),
        };
        let mut records = Vec::new();
        let in_prefix = style == Style::Ustar && header.set_path(&self.name).is_ok();
        let in_field = |at: usize, text: &[u8], header: &mut Header| {
            let room = &mut header.as_mut_bytes()[at..at + 100];
            room[..text.len().min(100)].copy_from_slice(&text[..text.len().min(100)]);
        };
        if !in_prefix {
            let shown = if style == Style::PaxAlone {
                other.as_bytes()
            } else {
                name
            };
            in_field(0, shown, &mut header);
        }
        in_field(157, link.as_bytes(), &mut header);
        let name_apart = !in_prefix && (name.len() > 100 || style == Style::PaxAlone);
        for (apart, kind, key, text) in [
            (name_apart, b'L', "path", name),
            (link.len() > 100, b'K', "linkpath", link.as_bytes()),
        ] {
            if !apart {
                continue;
            }
            match style {
                Style::Gnu => extension(kind, &[text, b"\0"].concat(), out),
                _ => record(key, text, &mut records),
            }
        }
        if let Some(value) = &self.xattr
            && pax
            && matches!(self.what, What::File(_) | What::Folder)
        {
            record("SCHILY.xattr.user.note", value, &mut records);
        }
        let (data, kind) = match &self.what {
            What::File(content) => (&content[..], EntryType::Regular),
            What::Folder => (&[][..], EntryType::Directory),
            What::Symlink(_) => (&[][..], EntryType::Symlink),
            What::Link(_) => (&[][..], EntryType::Link),
            What::Char => (&[][..], EntryType::Char),
            What::Block => (&[][..], EntryType::Block),
            What::Fifo => (&[][..], EntryType::Fifo),
        };
        header.set_entry_type(kind);
        header.set_mode(self.mode);
        header.set_size(data.len() as u64);
        header.set_mtime(self.mtime);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        if pax {
            record(
                "mtime",
                format!("{}.25", self.mtime).as_bytes(),
                &mut records,
            );
            record("uid", self.owner.0.to_string().as_bytes(), &mut records);
        }
        header.set_cksum();
        if !records.is_empty() {
            extension(b'x', &records, out);
        }
        out.extend(header.as_bytes());
        padded(data, out);
    }
}

fn record(key: &str, value: &[u8], records: &mut Vec<u8>) {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    records.extend(length.to_string().bytes());
    records.extend(rest);
}

fn extension(kind: u8, data: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    out.extend(header.as_bytes());
    padded(data, out);
}

fn padded(data: &[u8], out: &mut Vec<u8>) {
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// Unpacks a layer as a board does.
pub fn unpack(tar: &[u8], dir: &Path) {
    let dest = fs::File::open(dir).unwrap().into();
    unpack_tar(tar, dest, &Limits::default()).unwrap();
}

/// What the program gzip makes of a text.
pub fn gzipped(text: &[u8], level: &str) -> Vec<u8> {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(text).unwrap();
    input.rewind().unwrap();
    let out = std::process::Command::new("gzip")
        .args(["-nc", level])
        .stdin(input)
        .output()
        .unwrap();
    assert!(out.status.success());
    out.stdout
}

/// A text that differs from version to version.
pub fn manual(version: u32, lines: u32) -> Vec<u8> {
    let mut state = 5u32;
    let mut text = format!("version {version}\n").into_bytes();
    for line in 0..lines {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = state >> 20;
        text.extend(format!("{line}: {word:x} and {:x}\n", word.rotate_left(7)).bytes());
        if line % 1000 == 500 {
            text.extend(format!("since {version}\n").bytes());
        }
    }
    text
}
