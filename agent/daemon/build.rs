//! Puts the time of the build into the program: the least that the time on any board can be.
//! SOURCE_DATE_EPOCH wins, so that the same source gives the same program.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs())
    };
    let built_at = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(now);
    println!("cargo:rustc-env=CORACLE_BUILT_AT={built_at}");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=src");
}
