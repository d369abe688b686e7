//! Work that a link takes off the processor, switched on or off.

use std::io;

use serde::{Deserialize, Serialize};

use crate::ethtool;

/// One kind of it, as `ethtool -K` knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    Tso,
    Gso,
    Gro,
    TxChecksum,
    RxChecksum,
}

/// What became of a wish.
#[derive(Debug)]
pub(crate) enum Switched {
    /// It was so already.
    AsWanted,
    Now,
    /// The driver left it as it was, or has no such thing.
    Refused(String),
    /// There is no such link any more.
    Gone,
}

impl Offload {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tso => "tso",
            Self::Gso => "gso",
            Self::Gro => "gro",
            Self::TxChecksum => "tx-checksum",
            Self::RxChecksum => "rx-checksum",
        }
    }

    /// To read and to set it: ETHTOOL_GTSO, ETHTOOL_STSO and so on.
    fn commands(self) -> (u32, u32) {
        match self {
            Self::Tso => (0x1e, 0x1f),
            Self::Gso => (0x23, 0x24),
            Self::Gro => (0x2b, 0x2c),
            Self::TxChecksum => (0x16, 0x17),
            Self::RxChecksum => (0x14, 0x15),
        }
    }

    fn is_on(self, link: &str) -> io::Result<bool> {
        Ok(ethtool::get(link, self.commands().0)? != 0)
    }

    /// Whether it is otherwise than wanted; an error is what there is to say of it instead.
    pub(crate) fn differs(self, link: &str, on: bool) -> Result<bool, Switched> {
        self.is_on(link).map(|was| was != on).map_err(refused)
    }

    /// As it is wanted afterwards, unless the driver will not.
    pub(crate) fn switch(self, link: &str, on: bool) -> Switched {
        match self.differs(link, on) {
            Ok(false) => return Switched::AsWanted,
            Ok(true) => {}
            Err(why) => return why,
        }
        let set = ethtool::set(link, self.commands().1, on.into());
        // What it is now counts: drivers leave out what they have to, without an error.
        match set.and_then(|()| self.is_on(link)) {
            Ok(now) if now == on => Switched::Now,
            Ok(_) => Switched::Refused("the driver leaves it as it is".to_owned()),
            Err(error) => refused(error),
        }
    }
}

fn refused(error: io::Error) -> Switched {
    match error.raw_os_error() {
        Some(libc::ENODEV) => Switched::Gone,
        _ => Switched::Refused(error.to_string()),
    }
}
