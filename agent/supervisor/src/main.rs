//! The only process on the board that makes containers

fn main() {}
