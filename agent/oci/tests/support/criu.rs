//! CRIU, and whether it knows this kernel.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::{Bundle, said};

/// The program: `CORACLE_CRIU`, or PATH's.
pub fn criu() -> PathBuf {
    std::env::var_os("CORACLE_CRIU").map_or("criu".into(), PathBuf::from)
}

/// Why it makes no checkpoint here, as CRIU has it. No answer on a virtual board with `CORACLE_CRIU_WORKS`, which must.
pub fn cannot() -> Option<String> {
    let mut why = match Command::new(criu()).arg("check").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(said(output).err),
        Err(error) => Some(error.to_string()),
    };
    // Engines and the runtime look there too.
    if why.is_some() && !criu().is_absolute() {
        why = match Command::new("/usr/sbin/criu").arg("check").output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(said(output).err),
            Err(error) => Some(error.to_string()),
        };
    }
    assert!(
        why.is_none() || std::env::var_os("CORACLE_CRIU_WORKS").is_none(),
        "{why:?}"
    );
    why
}

/// A bundle whose program CRIU can write down: before Linux 5.13 none that glibc has registered restartable sequences for.
pub fn dumpable(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    let mut check = Command::new(criu());
    let known = check.args(["check", "--feature", "get_rseq_conf"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        let env = bundle.config["process"]["env"].as_array_mut();
        env.expect("variables")
            .push(json!("GLIBC_TUNABLES=glibc.pthread.rseq=0"));
    }
    bundle
}
