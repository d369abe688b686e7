//! Which app has which address, remembered across restarts.
//!
//! The file says who was *last given* an address; who uses one now is told by the supervisor (`reconcile`), because only
//! it knows which containers live. So starting an app again writes nothing: no fsync stands in the way of a launch.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::config::NetworkConfig;

use file::{Lease, Stored, VERSION};

pub(crate) mod file;

/// Addresses remembered for apps that are gone. Beyond it the oldest is forgotten.
const MAX_REMEMBERED: usize = 1024;

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

/// The addresses of one network. The gateway's and the subnet's first and last are not handed out.
#[derive(Debug)]
pub struct Pool {
    path: PathBuf,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    range: Ipv4Net,
    leases: Vec<Lease>,
    in_use: BTreeSet<Ipv4Addr>,
    /// Somebody else's, though of the subnet.
    reserved: Vec<Ipv4Addr>,
    /// On a wire the first address is often a router's, said or not: only who asks for it gets it.
    on_request: Option<Ipv4Addr>,
    forwarding_was_off: bool,
    forwarding6_was_off: Option<Vec<String>>,
}

impl Pool {
    /// Reads the pool, or starts an empty one. One for another subnet is started over, since its addresses mean nothing
    /// here.
    pub fn open(path: &Path, config: &NetworkConfig) -> Result<Self, PoolError> {
        let mut pool = Self {
            path: path.to_owned(),
            subnet: config.subnet.trunc(),
            gateway: config.gateway(),
            range: config.range.unwrap_or(config.subnet),
            leases: Vec::new(),
            in_use: BTreeSet::new(),
            reserved: Vec::new(),
            on_request: config.underlay.as_ref().and(config.subnet.hosts().next()),
            forwarding_was_off: false,
            forwarding6_was_off: None,
        };
        if let Some(stored) = Stored::read(path)? {
            pool.forwarding_was_off = stored.forwarding_was_off;
            pool.forwarding6_was_off = stored.forwarding6_was_off;
            if stored.subnet == pool.subnet {
                pool.leases = stored.leases;
            }
        }
        Ok(pool)
    }

    /// The app's address: its last one where nobody else has it, else one never given, else the one given longest ago.
    /// `may_reuse` is false while it isn't known who lives: then a remembered address goes to its app only.
    pub fn allocate(&mut self, app: &str, may_reuse: bool) -> Result<Ipv4Addr, PoolError> {
        if let Some(lease) = self.leases.iter().find(|l| l.app == app)
            && self.is_usable(lease.ip)
        {
            let ip = lease.ip;
            self.in_use.insert(ip);
            return Ok(ip);
        }
        let mut given = BTreeSet::new();
        given.extend(self.leases.iter().map(|l| l.ip));
        let fresh = self
            .usable()
            .find(|ip| !given.contains(ip) && !self.in_use.contains(ip));
        let ip = match fresh {
            Some(ip) => ip,
            None => {
                let oldest = self
                    .leases
                    .iter()
                    .position(|l| may_reuse && self.is_free(l.ip));
                let Some(oldest) = oldest else {
                    return Err(PoolError::Exhausted {
                        subnet: self.range,
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

    /// The address that somebody asked for. `may_reuse` as for `allocate`.
    pub fn take(&mut self, app: &str, ip: Ipv4Addr, may_reuse: bool) -> Result<(), PoolError> {
        let holder = self.leases.iter().find(|l| l.ip == ip && l.app != app);
        match holder {
            Some(holder) if !may_reuse => Err(PoolError::Claim {
                app: app.to_owned(),
                ip,
                reason: format!("{} had it, and may still run", holder.app),
            }),
            _ => self.claim(app, ip),
        }
    }

    /// The address may be given again; the app that had it gets it back first.
    pub fn release(&mut self, ip: Ipv4Addr) {
        self.in_use.remove(&ip);
    }

    /// Nobody uses an address: the state before the live apps are claimed.
    pub fn release_all(&mut self) {
        self.in_use.clear();
    }

    /// These addresses are not given away.
    pub(crate) fn reserve(&mut self, addresses: Vec<Ipv4Addr>) {
        self.reserved = addresses;
    }

    pub(crate) fn forwarding_was_off(&self) -> bool {
        self.forwarding_was_off
    }

    pub(crate) fn note_forwarding_was_off(&mut self) -> Result<(), PoolError> {
        self.forwarding_was_off = true;
        self.save()
    }

    /// The interfaces that listened to routers when we switched on IPv6 forwarding.
    pub(crate) fn forwarding6_was_off(&self) -> Option<&[String]> {
        self.forwarding6_was_off.as_deref()
    }

    /// A second note adds to the first, which an interrupted start may have left half done.
    pub(crate) fn note_forwarding6_was_off(
        &mut self,
        listening: &[String],
    ) -> Result<(), PoolError> {
        let noted = self.forwarding6_was_off.get_or_insert_default();
        for interface in listening {
            if !noted.contains(interface) {
                noted.push(interface.clone());
            }
        }
        self.save()
    }

    /// Nothing was switched on, as far as we are asked.
    pub(crate) fn forget_forwarding(&mut self) -> Result<(), PoolError> {
        if !self.forwarding_was_off && self.forwarding6_was_off.is_none() {
            return Ok(());
        }
        self.forwarding_was_off = false;
        self.forwarding6_was_off = None;
        self.save()
    }

    /// Forgets everything, the file too.
    pub fn destroy(&mut self) -> Result<(), PoolError> {
        self.leases.clear();
        self.in_use.clear();
        self.forwarding_was_off = false;
        self.forwarding6_was_off = None;
        file::remove(&self.path).map_err(|e| file::error(&self.path, "remove it", e))
    }

    fn usable(&self) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = (self.range.network(), self.range.broadcast());
        let all = (u32::from(first)..=u32::from(last)).map(Ipv4Addr::from);
        all.filter(|ip| self.is_usable(*ip) && Some(*ip) != self.on_request)
    }

    fn is_usable(&self, ip: Ipv4Addr) -> bool {
        let edge = ip == self.subnet.network() || ip == self.subnet.broadcast();
        self.subnet.contains(&ip) && !edge && ip != self.gateway && !self.reserved.contains(&ip)
    }

    /// One of the range that no live app has.
    fn is_free(&self, ip: Ipv4Addr) -> bool {
        self.range.contains(&ip) && self.is_usable(ip) && !self.in_use.contains(&ip)
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
        Stored {
            version: VERSION,
            subnet: self.subnet,
            forwarding_was_off: self.forwarding_was_off,
            forwarding6_was_off: self.forwarding6_was_off.clone(),
            leases: self.leases.clone(),
        }
        .write(&self.path)
    }
}

#[cfg(test)]
mod tests;
