//! What the linker leaves out of the program that ships: the tables for unwinding, a tenth of it, which a program that aborts at
//! a panic never reads; each relocation's 24 bytes where the linker and the C library know the packed form (glibc 2.36), but on
//! 64-bit ARM, where a program that loads its C library shall do with an older one and ours, at a fixed address, has none; all
//! but one of functions that came out the same, where the linker can tell (LLVM's, which Rust brings along); and on 64-bit ARM
//! up to 64 KiB of nothing in the file.

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
    let arch = of("CARGO_CFG_TARGET_ARCH");
    // 32-bit ARM has tables of its own.
    let script = match arch.as_str() {
        "arm" => "no-unwind-tables-arm.ld",
        _ => "no-unwind-tables.ld",
    };
    let mut flags = vec![format!("-Wl,-T,{folder}/{script}")];
    if script == "no-unwind-tables.ld" {
        flags.push("-Wl,--no-eh-frame-hdr".to_owned());
    }
    let lld = lld();
    let mut linker: &[String] = &[];
    if arch != "aarch64" {
        flags.push("-Wl,-z,pack-relative-relocs".to_owned());
    } else if links_with(&lld) {
        linker = &lld;
    } else {
        println!(
            "cargo::warning=neither rustc nor the C compiler has LLVM's linker (ld.lld): the program's file grows by 64 KiB at once"
        );
    }
    flags.extend_from_slice(linker);
    let fold = [linker, &[FOLD.to_owned()]].concat();
    if links_with(&fold) {
        flags.push(FOLD.to_owned());
    }
    for flag in flags {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}

/// The C compiler's words for LLVM's linker: rustc's own, or else the machine's, which a C compiler for another
/// architecture does not find. Pages of 64-bit ARM may be as large as 64 KiB. So
/// that data which is read-only after the start ends with one, GNU's leaves room in the file too; LLVM's does in memory alone.
fn lld() -> [String; 4] {
    let mut rustc = Command::new(of("RUSTC"));
    let told = rustc.args(["--print", "sysroot"]).output();
    let sysroot = told.map_or(String::new(), |told| {
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    });
    let own = format!("{sysroot}/lib/rustlib/{}/bin/gcc-ld", of("HOST"));
    [
        format!("-B{own}"),
        "-fuse-ld=lld".to_owned(),
        "-Wl,-z,max-page-size=65536".to_owned(),
        "-Wl,-z,common-page-size=65536".to_owned(),
    ]
}

/// Asks the linker by a program of one line: which linker it is depends on who built the compiler.
fn links_with(flags: &[String]) -> bool {
    let folder = of("OUT_DIR");
    let source = Path::new(&folder).join("one.rs");
    if std::fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let mut rustc = Command::new(of("RUSTC"));
    rustc.arg(&source).args(["--target", &of("TARGET")]);
    rustc.args(["--out-dir", &folder]);
    for flag in flags {
        rustc.arg("-C").arg(format!("link-arg={flag}"));
    }
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
