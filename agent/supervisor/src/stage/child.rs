//! The jailed child that unpacks: what it is given, what it may, and what it says at its end.

use super::{StageError, fault};
use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::layout::LayerType;
use coracle_images::unpack::{self, Beside, Source, UnpackError};
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{Capabilities, Capability, Child, JailSpec, SeccompProgram, spawn_jailed};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Address space of the child, in bytes: the supervisor's own few MiB, a zstd window of 8, and buffers.
const CHILD_MEMORY: u64 = 512 << 20;
/// Bytes that it may write to: of that, what does not lie in files.
const CHILD_DATA: u64 = 64 << 20;

/// Seconds of CPU that the child may take, and a second more for so many bytes of the signed tar: some ten times what the
/// slowest board needs. A blob that would keep it busy for ever ends with SIGXCPU.
const CHILD_SECONDS: u64 = 60;
const CHILD_BYTES_PER_SECOND: u64 = 256 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Applied {
        diff_id: Sha256Digest,
        tar_bytes: u64,
        entries: u64,
        recorded: bool,
        opaque: Vec<Vec<u8>>,
        /// Bytes of unchanged files, and how many of those wait for their links.
        spared: u64,
        links: u64,
    },
    /// They have them.
    Linked {
        links: u64,
        copies: u64,
    },
    Failed {
        code: String,
        reason: String,
    },
}

/// What the child is given.
pub(super) struct Unpacking {
    pub(super) blob: File,
    pub(super) layer_type: LayerType,
    /// A delta's base tree.
    pub(super) base: Option<OwnedFd>,
    /// The tree of the layer whose unchanged files are not written again.
    pub(super) old: Option<OwnedFd>,
    pub(super) dest: OwnedFd,
    /// For what the tree does not say of its tar.
    pub(super) record: File,
    pub(super) report: OwnedFd,
    pub(super) limits: Limits,
}

impl Unpacking {
    pub(super) fn spawn(self, empty_root: &Path) -> Result<Child, StageError> {
        let (limits, layer_type) = (self.limits, self.layer_type);
        let (from_delta, shares) = (self.base.is_some(), self.old.is_some());
        let seccomp = SeccompProgram::files_only().map_err(|error| fault("jail", error))?;
        let jail = JailSpec {
            root_readonly: true,
            read_dirs: self.base.into_iter().chain(self.old).collect(),
            write_dirs: vec![self.dest],
            files: vec![self.blob.into(), self.record.into(), self.report],
            capabilities: unpacking(),
            rlimits: most(limits.unpacked_bytes),
            oom_score_adj: Some(500),
            seccomp: Some(&seccomp),
            ..JailSpec::new(empty_root)
        };
        spawn_jailed(jail, |mut fds| {
            let mut file = || fds.files.pop();
            let (Some(report), Some(record), Some(blob)) = (file(), file(), file()) else {
                return 1;
            };
            let Some(dest) = fds.write_dirs.pop() else {
                return 1;
            };
            let old = shares.then(|| fds.read_dirs.pop()).flatten();
            let base = fds.read_dirs.pop();
            let blob = File::from(blob);
            let source = match base {
                Some(base) => Source::Delta { blob, base },
                None => Source::Full {
                    blob,
                    layer: layer_type,
                },
            };
            let beside = Beside {
                old,
                record: Some(record.into()),
            };
            let said = match unpack::apply_layer_beside(source, dest, beside, &limits) {
                Ok(applied) => Report::Applied {
                    diff_id: applied.diff_id,
                    tar_bytes: applied.tar_bytes,
                    entries: applied.entries,
                    recorded: applied.recorded,
                    opaque: applied.opaque_pending,
                    spared: applied.bytes_spared,
                    links: applied.links_pending,
                },
                Err(error) => failed(&error, from_delta),
            };
            said.tell(report)
        })
        .map_err(|failure| fault("jail", failure))
    }
}

impl Report {
    /// The child's exit code.
    pub(super) fn tell(&self, to: OwnedFd) -> u8 {
        let json = serde_json::to_vec(self).unwrap_or_default();
        match File::from(to).write_all(&json) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    }
}

/// For a layer with so many bytes.
pub(super) fn most(unpacked_size: u64) -> Vec<Rlimit> {
    let seconds = CHILD_SECONDS + unpacked_size / CHILD_BYTES_PER_SECOND;
    [
        (libc::RLIMIT_AS, CHILD_MEMORY),
        (libc::RLIMIT_DATA, CHILD_DATA),
        (libc::RLIMIT_CPU, seconds),
    ]
    .map(|(resource, most)| Rlimit {
        resource: resource as _,
        soft: most,
        hard: most,
    })
    .to_vec()
}

/// What unpacking needs of root: owners, modes, devices and file capabilities that the layer names.
fn unpacking() -> Capabilities {
    [
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::MKNOD,
        Capability::SETFCAP,
    ]
    .into_iter()
    .fold(Capabilities::none(), Capabilities::with)
}

pub(super) fn failed(error: &UnpackError, from_delta: bool) -> Report {
    let mut reason = error.to_string();
    let mut no_space = false;
    let mut below: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = below {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            no_space |= matches!(io.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
        }
        below = cause.source();
        if let Some(next) = below {
            reason = format!("{reason}: {next}");
        }
    }
    let code = match (no_space, from_delta) {
        (true, _) => "no-space",
        (_, true) => "bad-delta",
        (_, false) => "bad-layer",
    };
    Report::Failed {
        code: code.to_owned(),
        reason,
    }
}
