//! What the linker leaves out of the program that ships: the tables for unwinding, a tenth of it, which a program that aborts at
//! a panic never reads; and each relocation's 24 bytes where the linker and the C library know the packed form (glibc 2.36).

fn main() {
    println!("cargo::rerun-if-changed=no-unwind-tables.ld");
    let of = |name| std::env::var(name).unwrap_or_default();
    // The development build unwinds. 32-bit ARM has other tables (.ARM.exidx), which its linker wants.
    if of("PROFILE") != "release" || of("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let folder = of("CARGO_MANIFEST_DIR");
    let mut flags = vec!["-Wl,-z,pack-relative-relocs".to_owned()];
    if of("CARGO_CFG_TARGET_ARCH") != "arm" {
        flags.push(format!("-Wl,-T,{folder}/no-unwind-tables.ld"));
        flags.push("-Wl,--no-eh-frame-hdr".to_owned());
    }
    for flag in flags {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}
