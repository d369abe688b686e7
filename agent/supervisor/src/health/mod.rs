//! Whether an app works: probes in children without rights, and what their answers add up to.

pub(crate) mod exec;
pub mod probe;
mod tracker;

pub use tracker::{Tracker, Verdict};
