//! What people type on the board

fn main() {}
