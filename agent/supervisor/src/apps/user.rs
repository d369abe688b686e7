//! Who an app runs as: the image's `User`, `name|uid[:group|gid]`, with names looked up in the image's
//! own `/etc/passwd` and `/etc/group`.
//!
//! The files are looked for in the layers, topmost first, one `openat(O_NOFOLLOW)` at a time: a link in
//! an image never leads the supervisor to a file of the board. Where a layer hides the file (a whiteout,
//! an opaque folder) the search ends there.

use coracle_runtime::namespaces::IdRange;
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a passwd or group file.
const FILE_BYTES: u64 = 256 * 1024;

/// Supplementary groups of one user (NGROUPS_MAX is 65536; images have a handful).
const GROUPS: usize = 64;

/// Why the user is not known.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such line.
    #[error("the image has no {what} `{name}` in {file}")]
    Unknown {
        what: &'static str,
        name: String,
        file: &'static str,
    },
    /// A link, a device, too large, or not to be read.
    #[error("{} cannot be read: {fault}", path.display())]
    File { path: PathBuf, fault: String },
}

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home folder, for `HOME`.
    pub home: Option<String>,
}

impl User {
    /// User and group as the board counts them, for an app with these ids of its own.
    pub fn on_board(&self, ids: Option<IdRange>) -> (u32, u32) {
        // A plan has no user beyond the range; nobody (-1) gets nothing.
        let outside = |id| ids.map_or(Some(id), |ids| ids.outside(id));
        (
            outside(self.uid).unwrap_or(u32::MAX),
            outside(self.gid).unwrap_or(u32::MAX),
        )
    }
}

/// Looks `wanted` up in `layers`, topmost first. An empty text is root.
pub fn look_up(wanted: &str, layers: &[PathBuf]) -> Result<User, UserError> {
    let (name, group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let passwd = read_etc(layers, "passwd")?;
    let line = lines(&passwd).find(|fields| {
        fields.first() == Some(&name) || (is_number(name) && fields.get(2) == Some(&name))
    });
    let mut user = match (&line, name.parse::<u32>()) {
        (Some(fields), _) => User {
            uid: number(fields, 2).unwrap_or(u32::MAX),
            gid: number(fields, 3).unwrap_or(u32::MAX),
            groups: Vec::new(),
            home: fields.get(5).map(|home| (*home).to_owned()),
        },
        // A number needs no line; Docker gives it group 0.
        (None, Ok(uid)) => User {
            uid,
            ..User::default()
        },
        (None, Err(_)) => return Err(unknown("user", name, "/etc/passwd")),
    };
    let groups = read_etc(layers, "group")?;
    if let Some(group) = group {
        let line = lines(&groups).find(|fields| fields.first() == Some(&group));
        let of_line = line.and_then(|fields| number(&fields, 2));
        user.gid = match of_line.or_else(|| group.parse().ok()) {
            Some(gid) => gid,
            None => return Err(unknown("group", group, "/etc/group")),
        };
    } else if let Some(fields) = line {
        let login = fields[0];
        user.groups = lines(&groups)
            .filter(|group| {
                let members = group.get(3).copied().unwrap_or_default();
                members.split(',').any(|member| member == login)
            })
            .filter_map(|group| number(&group, 2))
            .take(GROUPS)
            .collect();
    }
    // -1 means "leave as it is" to the kernel: a line without a number must not become root.
    if user.uid == u32::MAX || user.gid == u32::MAX {
        return Err(unknown("usable user", name, "/etc/passwd"));
    }
    Ok(user)
}

fn unknown(what: &'static str, name: &str, file: &'static str) -> UserError {
    UserError::Unknown {
        what,
        name: name.chars().take(64).collect(),
        file,
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn number(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

/// The text of `/etc/<name>` as the image shows it; empty when it has none.
fn read_etc(layers: &[PathBuf], name: &str) -> Result<String, UserError> {
    for layer in layers {
        let path = layer.join("etc").join(name);
        let fault = |fault: String| UserError::File {
            path: path.clone(),
            fault,
        };
        match open_etc(layer, name) {
            Ok(Found::File(file)) => return read(file).map_err(fault),
            Ok(Found::Hidden) => return Ok(String::new()),
            Ok(Found::NotHere) => {}
            Err(errno) => return Err(fault(errno.to_string())),
        }
    }
    Ok(String::new())
}

enum Found {
    File(File),
    Hidden,
    NotHere,
}

fn open_etc(layer: &Path, name: &str) -> Result<Found, Errno> {
    let base = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let folder = base | OFlags::DIRECTORY;
    let root = fs::open(layer, folder, Mode::empty())?;
    let etc = match fs::openat(&root, "etc", folder, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Found::NotHere),
        // `etc` is a link, a file or a whiteout: whatever lies below it in lower layers is hidden.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Found::Hidden),
        other => other?,
    };
    // O_PATH first: opening a device node can have effects, looking at it has none.
    let node = match fs::openat(
        &etc,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT) => {
            let mut value = [0; 1];
            let opaque = fs::fgetxattr(&etc, "trusted.overlay.opaque", &mut value);
            return Ok(match opaque {
                Ok(1) if value == *b"y" => Found::Hidden,
                _ => Found::NotHere,
            });
        }
        other => other?,
    };
    match FileType::from_raw_mode(fs::fstat(&node)?.st_mode) {
        FileType::RegularFile => {
            let flags = base | OFlags::RDONLY;
            Ok(Found::File(
                fs::openat(&etc, name, flags, Mode::empty())?.into(),
            ))
        }
        FileType::CharacterDevice => Ok(Found::Hidden),
        _ => Err(Errno::LOOP),
    }
}

fn read(file: File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!("it is larger than {FILE_BYTES} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(passwd: &str, group: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(folder.path().join("etc/group"), group).unwrap();
        folder
    }

    #[test]
    fn names_numbers_and_groups() {
        let folder = layer(
            "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv:/bin/false\nodd:x:x:1::/:/\n",
            "web:x:102:\naudio:x:29:other,web\nstaff:x:50:\n",
        );
        let layers = [folder.path().to_owned()];
        let web = look_up("web", &layers).unwrap();
        assert_eq!((web.uid, web.gid, &web.groups[..]), (101, 102, &[29][..]));
        assert_eq!(web.home.as_deref(), Some("/srv"));
        assert_eq!(look_up("web:staff", &layers).unwrap().gid, 50);
        assert_eq!(look_up("101", &layers).unwrap().gid, 102);
        let number = look_up("4000:4001", &layers).unwrap();
        assert_eq!((number.uid, number.gid), (4000, 4001));
        assert_eq!(look_up("", &layers).unwrap().uid, 0);
        assert!(look_up("nobody", &layers).is_err());
        assert!(look_up("web:nogroup", &layers).is_err());
        assert!(look_up("odd", &layers).is_err());
        assert!(look_up("4294967295", &layers).is_err());
    }

    #[test]
    fn an_upper_layer_wins_and_a_link_leads_nowhere() {
        let lower = layer("web:x:1:1::/:/\n", "");
        let upper = layer("web:x:2:2::/:/\n", "");
        let layers = [upper.path().to_owned(), lower.path().to_owned()];
        assert_eq!(look_up("web", &layers).unwrap().uid, 2);
        // To the board's own file: refused, not followed.
        std::fs::remove_file(upper.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", upper.path().join("etc/passwd")).unwrap();
        assert!(look_up("web", &layers).is_err());
        std::fs::remove_dir_all(upper.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc", upper.path().join("etc")).unwrap();
        assert!(look_up("daemon", &layers).is_err());
    }
}
