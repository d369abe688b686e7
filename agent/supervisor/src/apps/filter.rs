//! The filter of system calls.

use coracle_runtime::seccomp::SeccompError;
use coracle_runtime::{Capabilities, SeccompProgram};
use std::sync::OnceLock;

/// All apps have the same capabilities and so the same filter, compiled with the first launch.
pub fn of_all_apps() -> Result<&'static SeccompProgram, SeccompError> {
    static FILTER: OnceLock<SeccompProgram> = OnceLock::new();
    if let Some(filter) = FILTER.get() {
        return Ok(filter);
    }
    let filter = SeccompProgram::docker(Capabilities::docker())?;
    Ok(FILTER.get_or_init(|| filter))
}
