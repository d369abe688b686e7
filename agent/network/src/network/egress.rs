//! Containers with a list of places to go: the kernel's table follows who is attached and what names were resolved to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::egress::{Admission, EgressRule, names, stands_for};
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::nft::{Confined, EgressTable, Members};

use super::Network;

fn confined<'a>((app, endpoint): (&'a String, &'a Endpoint)) -> Option<Confined<'a>> {
    let rules: &[EgressRule] = endpoint.egress.as_deref()?;
    Some(Confined {
        app,
        endpoint,
        rules,
    })
}

fn members(attached: &BTreeMap<String, Endpoint>) -> Members<'_> {
    Members {
        confined: attached.iter().filter_map(confined).collect(),
        open: attached.values().filter(|e| e.egress.is_none()).collect(),
    }
}

impl Network {
    /// The table anew, with everyone's list; none where nobody has one.
    pub(super) fn rebuild_egress(&mut self) -> Result<(), NetworkError> {
        let all = members(&self.attached);
        let table = EgressTable::new(&self.config);
        if all.confined.is_empty() {
            return Ok(self.nft.commit(&table.remove())?);
        }
        self.nft.commit(&table.replace(&all))?;
        for one in &all.confined {
            self.nft.commit(&table.set(*one, &all, &self.learned))?;
        }
        Ok(())
    }

    /// An attached app's list is in force afterwards; without one it may go everywhere.
    pub(super) fn update_egress(&mut self, app: &str) -> Result<(), NetworkError> {
        let all = members(&self.attached);
        let table = EgressTable::new(&self.config);
        let one = all.confined.iter().find(|one| one.app == app);
        let messages = match (one, all.confined.len()) {
            (None, 0) => return Ok(()),
            (Some(_), 1) => return self.rebuild_egress(),
            (None, _) => table.replace_ways(&all),
            (Some(one), _) => table.set(*one, &all, &self.learned),
        };
        match self.nft.commit(&messages) {
            // Somebody removed our table.
            Err(e) if e.refused_with() == Some(libc::ENOENT) => self.rebuild_egress(),
            other => Ok(other?),
        }
    }

    /// The way and the list of an app that is attached no more go.
    pub(super) fn withdraw_egress(
        &mut self,
        app: &str,
        endpoint: &Endpoint,
    ) -> Result<(), NetworkError> {
        self.learned.forget(app);
        let rest = members(&self.attached);
        let table = EgressTable::new(&self.config);
        let messages = match &endpoint.egress {
            None if rest.confined.is_empty() => return Ok(()),
            None => table.replace_ways(&rest),
            Some(rules) => {
                let gone = Confined {
                    app,
                    endpoint,
                    rules,
                };
                table.withdraw(gone, &rest)
            }
        };
        match rest.confined.is_empty() || self.nft.commit(&messages).is_err() {
            true => self.rebuild_egress(),
            false => Ok(()),
        }
    }

    /// The app may go to these addresses where its list has the name, for a while. After an error nothing of it is known.
    pub(crate) fn learn(
        &mut self,
        app: &str,
        name: &str,
        addresses: &[IpAddr],
        ttl: (Duration, &Admission),
    ) -> Result<(), NetworkError> {
        let all = members(&self.attached);
        let Some(one) = all.confined.iter().find(|one| one.app == app) else {
            return Ok(());
        };
        let before = self.learned.all_of(app);
        let mut changed = BTreeSet::new();
        for (number, entry) in names(one.rules).iter().enumerate() {
            if stands_for(entry, name) {
                let now = Instant::now();
                changed.extend(self.learned.note(app, number, addresses, ttl, now));
            }
        }
        let table = EgressTable::new(&self.config);
        let set = |number| table.set_name(*one, number, &self.learned);
        let messages: Vec<_> = changed.into_iter().flat_map(set).collect();
        let told = match self.nft.commit(&messages) {
            Err(e) if e.refused_with() == Some(libc::ENOENT) => {
                tracing::warn!(
                    table = self.config.table,
                    "our nftables table of egress lists was gone; making it again"
                );
                self.rebuild_egress()
            }
            other => other.map_err(NetworkError::from),
        };
        if told.is_err() {
            self.learned.go_back(app, before);
        }
        told
    }
}
