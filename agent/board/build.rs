//! What the linker leaves out of the program that ships: the tables for unwinding, a tenth of it, which a program that aborts at
//! a panic never reads; each relocation's 24 bytes where the linker and the C library know the packed form (glibc 2.36); and all
//! but one of functions that came out the same, where the linker can tell (LLVM's, which Rust brings along for x86-64).

use std::path::Path;
use std::process::{Command, Stdio};

const FOLD: &str = "-Wl,--icf=all";

fn main() {
    for script in ["no-unwind-tables.ld", "no-unwind-tables-arm.ld"] {
        println!("cargo::rerun-if-changed={script}");
    }
    // The development build unwinds.
    if of("PROFILE") != "release" || of("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let folder = of("CARGO_MANIFEST_DIR");
    // 32-bit ARM has tables of its own.
    let script = match of("CARGO_CFG_TARGET_ARCH").as_str() {
        "arm" => "no-unwind-tables-arm.ld",
        _ => "no-unwind-tables.ld",
    };
    let mut flags = vec![
        "-Wl,-z,pack-relative-relocs".to_owned(),
        format!("-Wl,-T,{folder}/{script}"),
    ];
    if script == "no-unwind-tables.ld" {
        flags.push("-Wl,--no-eh-frame-hdr".to_owned());
    }
    if links_with(FOLD) {
        flags.push(FOLD.to_owned());
    }
    for flag in flags {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}

/// Asks the linker by a program of one line: which linker it is depends on who built the compiler.
fn links_with(flag: &str) -> bool {
    let folder = of("OUT_DIR");
    let source = Path::new(&folder).join("one.rs");
    if std::fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let mut rustc = Command::new(of("RUSTC"));
    rustc.arg(&source).args(["--target", &of("TARGET")]);
    rustc.args(["--out-dir", &folder, "-C", &format!("link-arg={flag}")]);
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let given = of("CARGO_ENCODED_RUSTFLAGS");
    rustc.args(given.split('\x1f').filter(|one| !one.is_empty()));
    rustc.stdout(Stdio::null()).stderr(Stdio::null());
    rustc.status().is_ok_and(|status| status.success())
}

fn of(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
