//! The board's link to the world, without a capability

fn main() {}
