//! nf_tables spoken over netlink, as far as one container network needs it.
//!
//! `message` and `expression` turn words into bytes, `ruleset` says what our tables hold, `transaction` hands a batch to the
//! kernel, which takes all of it or nothing. Building is pure, so that each byte is tested without a kernel.
//! Source: include/uapi/linux/netfilter/nf_tables.h, and what `nft --debug=netlink` prints.

mod expression;
mod message;
mod ruleset;
mod sets;
mod transaction;
mod uapi;

#[cfg(test)]
mod tests;

/// How netlink messages are written, for what else speaks nfnetlink.
pub(crate) mod wire {
    pub(crate) use super::message::{Attributes, encode};
}

pub(crate) use ruleset::{
    Confined, EgressTable, Forward, Limit, Members, Ruleset, replace_limits, table_of_limits,
};
pub use transaction::NftError;
pub(crate) use transaction::NftSocket;
