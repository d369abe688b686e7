//! The fleet console: registry, rollouts, live status

fn main() {}
