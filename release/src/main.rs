//! Keys, images, releases, pushes and sticks, on the engineer's machine

fn main() {}
