//! Tables that somebody removed, by `nft flush ruleset` for one: without them no app is held.

use crate::error::{NetworkError, all_of};
use crate::nft::{EgressTable, Ruleset, table_of_limits};

use super::Network;

impl Network {
    /// Removes veths that could not be removed before, and makes those of the tables again that are not there and should be; whether there were any. What is inside of one that
    /// is there is not looked at. Goes on after an error and tells all of them.
    pub async fn mend(&mut self) -> Result<bool, NetworkError> {
        if self.config.underlay.is_some() || !self.reconciled {
            return Ok(false);
        }
        let mut errors = Vec::new();
        for app in self.half_gone.clone() {
            errors.extend(self.detach(&app).await.err());
        }
        let (mut walls, mut lists, mut limits) = (false, false, false);
        let tables = Ruleset::new(&self.config).tables();
        match self.any_gone(&tables) {
            Ok(gone) => walls = gone,
            Err(e) => errors.push(e),
        }
        if self.has_lists() {
            let table = EgressTable::new(&self.config).name();
            match self.any_gone(&[table]) {
                Ok(gone) => lists = gone,
                Err(e) => errors.push(e),
            }
        }
        if self.has_limits() {
            match self.any_gone(&[table_of_limits(&self.config)]) {
                Ok(gone) => limits = gone,
                Err(e) => errors.push(e),
            }
        }
        if lists {
            errors.extend(self.rebuild_egress().err());
        }
        if limits {
            errors.extend(self.update_limits().await.err());
        }
        if walls {
            let forwards = self.forwards();
            let messages = Ruleset::new(&self.config).replace(&forwards);
            let made = self.nft.commit(&messages);
            errors.extend(made.err().map(NetworkError::from));
        }
        all_of(errors)?;
        Ok(walls || lists || limits)
    }

    fn any_gone(&mut self, tables: &[(u8, String)]) -> Result<bool, NetworkError> {
        for (family, name) in tables {
            if !self.nft.has_table(*family, name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
