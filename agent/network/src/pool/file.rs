//! The pool as a file: written whole, synced, renamed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::PoolError;

/// Larger than any pool we write: a /8 is never filled by one board.
const MAX_FILE_BYTES: u64 = 1 << 20;

pub(super) const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    pub app: String,
    pub ip: Ipv4Addr,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub version: u32,
    pub subnet: Ipv4Net,
    /// Whether we switched on forwarding, so that `destroy` knows to switch it off.
    #[serde(default)]
    pub forwarding_was_off: bool,
    /// The same for IPv6: the interfaces that listened to routers then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding6_was_off: Option<Vec<String>>,
    /// Oldest first.
    pub leases: Vec<Lease>,
}

impl Stored {
    /// What the file says; nothing when there is none. A file that can't be understood is set aside as `.bad`.
    pub fn read(path: &Path) -> Result<Option<Self>, PoolError> {
        let failed = |action| move |source| error(path, action, source);
        remove_half_written(path).map_err(failed("clear what was half written beside it"))?;
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("open it")(e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed("read it"))?;
        match understand(&bytes) {
            Ok(stored) => Ok(Some(stored)),
            Err(reason) => {
                let aside = path.with_extension("json.bad");
                tracing::warn!(path = %path.display(), reason, aside = %aside.display(), "address pool set aside");
                fs::rename(path, &aside).map_err(failed("set it aside"))?;
                Ok(None)
            }
        }
    }

    /// Old or new, never half: a new file is synced and takes the old one's name.
    pub fn write(&self, path: &Path) -> Result<(), PoolError> {
        let failed = |action| move |source| error(path, action, source);
        let bytes = serde_json::to_vec(self)
            .map_err(io::Error::other)
            .map_err(failed("encode it"))?;
        replace(path, &bytes).map_err(failed("write it"))
    }
}

/// Writes the whole file beside the old one and renames it over.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Nothing remains of it, of a half-written one either.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    remove_half_written(path)
}

/// By a process that was killed there: the next write would take its place, and may never come.
pub(crate) fn remove_half_written(path: &Path) -> io::Result<()> {
    remove_if_there(&path.with_extension("json.new"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn error(path: &Path, action: &'static str, source: io::Error) -> PoolError {
    PoolError::File {
        path: path.to_owned(),
        action,
        source,
    }
}

/// The stored pool, or why the bytes are none.
fn understand(bytes: &[u8]) -> Result<Stored, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if stored.version != VERSION {
        return Err(format!("version {} is not {VERSION}", stored.version));
    }
    let mut ips = BTreeSet::new();
    let mut apps = BTreeSet::new();
    for lease in &stored.leases {
        if !ips.insert(lease.ip) || !apps.insert(&lease.app) {
            return Err(format!("{} or {} appears twice", lease.app, lease.ip));
        }
        if !stored.subnet.contains(&lease.ip) {
            return Err(format!("{} is not in {}", lease.ip, stored.subnet));
        }
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_when_the_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network-cor0.json");
        fs::write(path.with_extension("json.new"), "{").unwrap();
        assert!(Stored::read(&path).unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
