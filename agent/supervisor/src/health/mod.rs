//! Whether an app works: probes in children without rights, and what their answers add up to.

mod exec;
pub mod probe;
mod tracker;

pub use tracker::{Tracker, Verdict};
