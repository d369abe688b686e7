//! Which app has which address, remembered across restarts.
//!
//! The file says who was *last given* an address; who uses one now is told by the supervisor (`reconcile`), because only
//! it knows which containers live. So starting an app again writes nothing: no fsync stands in the way of a launch.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Larger than any pool we write: a /8 is never filled by one board.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Addresses remembered for apps that are gone. Beyond it the oldest is forgotten.
const MAX_REMEMBERED: usize = 1024;
const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("address pool {path}: cannot {action}")]
    File {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error("no address is left in {subnet}: {in_use} apps use one")]
    Exhausted { subnet: Ipv4Net, in_use: usize },
    #[error("{app} cannot take {ip}: {reason}")]
    Claim {
        app: String,
        ip: Ipv4Addr,
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    app: String,
    ip: Ipv4Addr,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    subnet: Ipv4Net,
    /// Whether we switched on forwarding, so that `destroy` knows to switch it off.
    #[serde(default)]
    forwarding_was_off: bool,
    /// Oldest first.
    leases: Vec<Lease>,
}

/// The addresses of one subnet. The first is the gateway's, the last the broadcast's; neither is handed out.
#[derive(Debug)]
pub struct Pool {
    path: PathBuf,
    subnet: Ipv4Net,
    leases: Vec<Lease>,
    in_use: BTreeSet<Ipv4Addr>,
    forwarding_was_off: bool,
}

impl Pool {
    /// Reads the pool, or starts an empty one. A file that can't be understood is set aside as `.bad`; one for another
    /// subnet is started over, since its addresses mean nothing here.
    pub fn open(path: &Path, subnet: Ipv4Net) -> Result<Self, PoolError> {
        let file_error = |action| {
            move |source| PoolError::File {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let mut pool = Self {
            path: path.to_owned(),
            subnet: subnet.trunc(),
            leases: Vec::new(),
            in_use: BTreeSet::new(),
            forwarding_was_off: false,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(pool),
            Err(e) => return Err(file_error("open it")(e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(file_error("read it"))?;
        match understand(&bytes) {
            Ok(stored) => {
                pool.forwarding_was_off = stored.forwarding_was_off;
                if stored.subnet == pool.subnet {
                    pool.leases = stored.leases;
                }
            }
            Err(reason) => {
                let aside = path.with_extension("json.bad");
                tracing::warn!(path = %path.display(), reason, aside = %aside.display(), "address pool set aside");
                fs::rename(path, &aside).map_err(file_error("set it aside"))?;
            }
        }
        Ok(pool)
    }

    /// The app's address: its last one where nobody else has it, else one never given, else the one given longest ago.
    /// `may_reuse` is false while it isn't known who lives: then a remembered address goes to its app only.
    pub fn allocate(&mut self, app: &str, may_reuse: bool) -> Result<Ipv4Addr, PoolError> {
        if let Some(lease) = self.leases.iter().find(|l| l.app == app) {
            let ip = lease.ip;
            self.in_use.insert(ip);
            return Ok(ip);
        }
        let given: BTreeSet<Ipv4Addr> = self.leases.iter().map(|l| l.ip).collect();
        let fresh = self
            .usable()
            .find(|ip| !given.contains(ip) && !self.in_use.contains(ip));
        let ip = match fresh {
            Some(ip) => ip,
            None => {
                let oldest = self
                    .leases
                    .iter()
                    .position(|l| may_reuse && !self.in_use.contains(&l.ip));
                let Some(oldest) = oldest else {
                    return Err(PoolError::Exhausted {
                        subnet: self.subnet,
                        in_use: self.in_use.len(),
                    });
                };
                self.leases.remove(oldest).ip
            }
        };
        self.remember(app, ip)?;
        self.in_use.insert(ip);
        Ok(ip)
    }

    /// Takes note that a live app has this address, whatever the file says.
    ///
    /// # Errors
    /// When the address isn't one of this subnet, or another live app has it.
    pub fn claim(&mut self, app: &str, ip: Ipv4Addr) -> Result<(), PoolError> {
        let claim = |reason: String| PoolError::Claim {
            app: app.to_owned(),
            ip,
            reason,
        };
        if !self.is_usable(ip) {
            return Err(claim(format!(
                "it is no container address of {}",
                self.subnet
            )));
        }
        let holder = self.leases.iter().find(|l| l.ip == ip);
        if let Some(holder) = holder
            && holder.app != app
            && self.in_use.contains(&ip)
        {
            return Err(claim(format!("{} has it", holder.app)));
        }
        if holder.is_none_or(|h| h.app != app) {
            self.remember(app, ip)?;
        }
        self.in_use.insert(ip);
        Ok(())
    }

    /// The address may be given again; the app that had it gets it back first.
    pub fn release(&mut self, ip: Ipv4Addr) {
        self.in_use.remove(&ip);
    }

    /// Nobody uses an address: the state before the live apps are claimed.
    pub fn release_all(&mut self) {
        self.in_use.clear();
    }

    pub(crate) fn forwarding_was_off(&self) -> bool {
        self.forwarding_was_off
    }

    pub(crate) fn note_forwarding_was_off(&mut self) -> Result<(), PoolError> {
        self.forwarding_was_off = true;
        self.save()
    }

    /// Forgets everything, the file too.
    pub fn destroy(&mut self) -> Result<(), PoolError> {
        self.leases.clear();
        self.in_use.clear();
        self.forwarding_was_off = false;
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.file("remove it", e)),
            _ => Ok(()),
        }
    }

    fn usable(&self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.subnet.network()) + 2;
        let last = u32::from(self.subnet.broadcast()) - 1;
        (first..=last).map(Ipv4Addr::from)
    }

    fn is_usable(&self, ip: Ipv4Addr) -> bool {
        let host = u32::from(ip);
        self.subnet.contains(&ip)
            && host > u32::from(self.subnet.network()) + 1
            && host < u32::from(self.subnet.broadcast())
    }

    fn remember(&mut self, app: &str, ip: Ipv4Addr) -> Result<(), PoolError> {
        self.leases.retain(|l| l.app != app && l.ip != ip);
        while self.leases.len() >= MAX_REMEMBERED {
            let Some(oldest) = self
                .leases
                .iter()
                .position(|l| !self.in_use.contains(&l.ip))
            else {
                break;
            };
            self.leases.remove(oldest);
        }
        self.leases.push(Lease {
            app: app.to_owned(),
            ip,
        });
        self.save()
    }

    fn save(&self) -> Result<(), PoolError> {
        let stored = Stored {
            version: VERSION,
            subnet: self.subnet,
            forwarding_was_off: self.forwarding_was_off,
            leases: self.leases.clone(),
        };
        let bytes =
            serde_json::to_vec(&stored).map_err(|e| self.file("encode it", io::Error::other(e)))?;
        let temporary = self.path.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|e| self.file("write it", e))
    }

    fn file(&self, action: &'static str, source: io::Error) -> PoolError {
        PoolError::File {
            path: self.path.clone(),
            action,
            source,
        }
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

    fn subnet(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn an_app_finds_its_address_again_and_no_address_is_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.json");
        let mut pool = Pool::open(&path, subnet("10.9.0.0/24")).unwrap();
        let web = pool.allocate("web", true).unwrap();
        let db = pool.allocate("db", true).unwrap();
        assert_eq!(
            (web, db),
            ("10.9.0.2".parse().unwrap(), "10.9.0.3".parse().unwrap())
        );
        pool.release(web);
        let other = pool.allocate("other", true).unwrap();
        assert_ne!(other, web, "a remembered address is given last");
        drop(pool);
        let mut pool = Pool::open(&path, subnet("10.9.0.0/24")).unwrap();
        assert_eq!(pool.allocate("db", true).unwrap(), db);
        assert_eq!(pool.allocate("web", true).unwrap(), web);
    }

    #[test]
    fn a_full_pool_takes_the_longest_released_and_then_says_no() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Pool::open(&dir.path().join("p.json"), subnet("10.9.0.0/29")).unwrap();
        let ips: Vec<_> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|app| pool.allocate(app, true).unwrap())
            .collect();
        assert!(matches!(
            pool.allocate("f", true),
            Err(PoolError::Exhausted { in_use: 5, .. })
        ));
        pool.release(ips[3]);
        assert_eq!(pool.allocate("f", true).unwrap(), ips[3]);
    }

    #[test]
    fn a_damaged_file_is_set_aside_not_wiped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.json");
        for bad in [
            "{\"version\":1",
            r#"{"version":2,"subnet":"10.9.0.0/24","leases":[]}"#,
            r#"{"version":1,"subnet":"10.9.0.0/24","leases":[{"app":"a","ip":"10.9.0.2"},{"app":"b","ip":"10.9.0.2"}]}"#,
        ] {
            fs::write(&path, bad).unwrap();
            let mut pool = Pool::open(&path, subnet("10.9.0.0/24")).unwrap();
            let aside = dir.path().join("pool.json.bad");
            assert_eq!(fs::read_to_string(aside).unwrap(), bad);
            pool.allocate("a", true).unwrap();
        }
    }

    #[test]
    fn a_claim_of_anothers_or_a_foreign_address_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Pool::open(&dir.path().join("p.json"), subnet("10.9.0.0/24")).unwrap();
        let ip = pool.allocate("a", true).unwrap();
        assert!(
            pool.claim("b", ip)
                .unwrap_err()
                .to_string()
                .contains("a has it")
        );
        assert!(pool.claim("b", "10.9.0.1".parse().unwrap()).is_err());
        assert!(pool.claim("b", "10.8.0.9".parse().unwrap()).is_err());
        pool.claim("b", "10.9.0.77".parse().unwrap()).unwrap();
        assert_eq!(
            pool.allocate("b", true).unwrap(),
            Ipv4Addr::new(10, 9, 0, 77)
        );
    }

    #[test]
    fn the_stored_form_is_what_a_later_version_must_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.json");
        Pool::open(&path, subnet("10.9.0.0/24"))
            .unwrap()
            .allocate("web", true)
            .unwrap();
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            r#"{"version":1,"subnet":"10.9.0.0/24","forwarding_was_off":false,"leases":[{"app":"web","ip":"10.9.0.2"}]}"#
        );
    }
}
