//! What a container's profile comes to. The first `exec` keeps it beside the state, so that those that follow, health checks
//! above all, need not compile it; a `run` does not pay for that.

use coracle_runtime::SeccompProgram;
use oci_spec::runtime::Linux;

use crate::failure::Failure;
use crate::journal::Journal;
use crate::plan;
use crate::store::Entry;

/// What an older or newer program has compiled is not taken: it may have known fewer calls.
const HEAD: &str = concat!("coracle-runtime ", env!("CARGO_PKG_VERSION"), "\n");

/// None for a container without a profile.
pub fn of_exec(
    entry: &Entry,
    linux: &Linux,
    journal: &Journal,
) -> Result<Option<SeccompProgram>, Failure> {
    if linux.seccomp().is_none() {
        return Ok(None);
    }
    let kept = entry.read_filter()?;
    let kept = kept
        .as_deref()
        .and_then(|all| all.strip_prefix(HEAD.as_bytes()));
    if let Some(program) = kept.and_then(SeccompProgram::from_bytes) {
        return Ok(Some(program));
    }
    let compiled = plan::seccomp::compile(linux)?;
    if let Some(program) = &compiled {
        let written = entry.write_filter(&[HEAD.as_bytes(), &program.to_bytes()].concat());
        if let Err(failure) = written {
            journal.warn(&format!("keeping the seccomp filter: {failure}"));
        }
    }
    Ok(compiled)
}
