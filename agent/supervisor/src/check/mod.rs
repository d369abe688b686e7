//! Layers and blobs that are read again, one at a time, in a jailed child with the lowest priorities: what a hostile image has
//! in its files meets nothing that could be harmed, and an app that wants disk or processor has them first.
//!
//! A layer's child has its tree, its record and a place for its report; it makes the layer's tar again, whose digest has to be
//! the one that was signed ([`coracle_images::check`]). A blob's child has the blob.

use crate::kernel;
use crate::stage::{self, open_blob, open_folder};
use coracle_board_support::config::Config;
use coracle_digest::{Hasher, Sha256Digest};
use coracle_images::Limits;
use coracle_images::check::{CheckError, Fault, check_layer};
use coracle_images::unpack::not_opaque;
use coracle_protocol::local::{FileFault, StoreKind};
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{
    Capabilities, Capability, Child, Exit, JailSpec, SeccompProgram, spawn_jailed,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Address space of the child, in bytes: the supervisor's own few MiB, and some ten bytes for each name of a layer.
const CHILD_MEMORY: u64 = 256 << 20;

/// Seconds of CPU: the largest layer on the slowest board.
const CHILD_SECONDS: u64 = 3600;

/// Bytes of the child's report: it may name some thousand opaque folders.
const REPORT_BYTES: u64 = 32 << 20;

/// Something to read again.
pub type Thing = (StoreKind, Sha256Digest);

#[derive(Serialize, Deserialize)]
enum Report {
    Layer {
        diff_id: Sha256Digest,
        faults: Vec<Fault>,
        more: u64,
        opaque: Vec<Vec<u8>>,
    },
    Blob(Sha256Digest),
    Broken(String),
    Unknown(String),
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// As it was signed.
    Clean,
    /// It went meanwhile, as nobody needs it any more.
    Gone,
    /// Another than was signed, with what is wrong, and how much more.
    Broken(Vec<FileFault>, u64),
    /// It cannot be looked at, with the reason.
    Unknown(String),
    /// Nor at any other time: nothing was written down of it.
    Unrecorded,
}

impl Outcome {
    fn broken(what: String) -> Self {
        let path = String::new();
        Self::Broken(vec![FileFault { path, what }], 0)
    }
}

/// One that is being read.
#[derive(Debug)]
pub struct Checking {
    thing: Thing,
    /// Where it is, and which one, should another come there.
    place: PathBuf,
    id: Option<(u64, u64)>,
    report: File,
    child: Child,
}

/// Beside a layer's tree: what was recorded while it was unpacked.
pub fn record_of(place: &Path) -> PathBuf {
    place.with_extension("record")
}

/// Begins to read. An outcome instead: there is nothing to read.
pub fn start(config: &Config, empty_root: &Path, thing: Thing) -> Result<Checking, Outcome> {
    let (kind, digest) = thing;
    let absent = |what: &str, errno: Errno| match errno {
        Errno::NOENT => Outcome::Gone,
        errno => Outcome::broken(format!("{what} cannot be opened: {errno}")),
    };
    let mut jail = JailSpec::new(empty_root);
    let place = match kind {
        StoreKind::Layer => {
            let place = stage::layer_dir(config, digest);
            let tree = open_folder(&place).map_err(|errno| absent("its folder", errno))?;
            let record = File::open(record_of(&place)).map_err(|error| {
                let why = "what was written down of it cannot be opened";
                match error.kind() {
                    io::ErrorKind::NotFound => Outcome::Unrecorded,
                    _ => Outcome::Unknown(format!("{why}: {error}")),
                }
            })?;
            jail.read_dirs.push(tree);
            jail.files.push(record.into());
            place
        }
        StoreKind::Blob => {
            let blob = open_blob(&config.store_dir(), digest);
            jail.files
                .push(blob.map_err(|errno| absent("it", errno))?.into());
            stage::blobs_dir(config).join(digest.hex())
        }
    };
    let unknown = |why: &dyn std::fmt::Display| Outcome::Unknown(format!("no jail: {why}"));
    let report = rustix::fs::memfd_create("check", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| unknown(&errno))?;
    jail.files
        .push(report.try_clone().map_err(|e| unknown(&e))?);
    let seccomp = SeccompProgram::files_only().map_err(|error| unknown(&error))?;
    let limits = [
        (libc::RLIMIT_AS, CHILD_MEMORY),
        (libc::RLIMIT_CPU, CHILD_SECONDS),
    ];
    let limits = limits.map(|(resource, most)| Rlimit {
        resource: resource as _,
        soft: most,
        hard: most,
    });
    let jail = JailSpec {
        root_readonly: true,
        capabilities: Capabilities::none().with(Capability::DAC_READ_SEARCH),
        rlimits: limits.to_vec(),
        oom_score_adj: Some(900),
        seccomp: Some(&seccomp),
        ..jail
    };
    let child = spawn_jailed(jail, |mut fds| {
        kernel::lowest_priority();
        let (Some(report), Some(file)) = (fds.files.pop(), fds.files.pop()) else {
            return 1;
        };
        let file = File::from(file);
        let said = match fds.read_dirs.pop() {
            Some(tree) => match check_layer(tree, &file, &Limits::default()) {
                Ok(checked) => Report::Layer {
                    diff_id: checked.diff_id,
                    faults: checked.faults,
                    more: checked.more,
                    opaque: checked.opaque,
                },
                Err(error @ CheckError::Twice(_)) => Report::Unknown(error.to_string()),
                Err(error) => Report::Broken(error.to_string()),
            },
            None => digest_of(&file),
        };
        let json = serde_json::to_vec(&said).unwrap_or_default();
        u8::from(File::from(report).write_all(&json).is_err())
    })
    .map_err(|failure| unknown(&failure))?;
    Ok(Checking {
        thing,
        id: id_of(&place),
        place,
        report: report.into(),
        child,
    })
}

fn digest_of(mut blob: &File) -> Report {
    let mut hasher = Hasher::new();
    match io::copy(&mut blob, &mut hasher) {
        Ok(_) => Report::Blob(hasher.finish()),
        Err(error) => Report::Broken(format!("cannot be read: {error}")),
    }
}

fn id_of(place: &Path) -> Option<(u64, u64)> {
    let facts = rustix::fs::lstat(place).ok()?;
    Some((facts.st_dev as _, facts.st_ino as _))
}

impl Checking {
    /// The child's process id.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// What is read.
    pub fn thing(&self) -> Thing {
        self.thing
    }

    /// The child has ended.
    pub fn finish(mut self, exit: Exit) -> Outcome {
        if self.id.is_none() || id_of(&self.place) != self.id {
            return Outcome::Gone;
        }
        let mut json = Vec::new();
        let read = self.report.rewind();
        let read = read.and_then(|()| (&self.report).take(REPORT_BYTES).read_to_end(&mut json));
        let report = match (read, serde_json::from_slice(&json)) {
            (Ok(_), Ok(report)) if exit.success() => report,
            _ => return Outcome::Unknown(format!("the child that reads it died: {exit:?}")),
        };
        let digest = self.thing.1;
        match report {
            Report::Broken(why) => Outcome::broken(why),
            Report::Unknown(why) => Outcome::Unknown(why),
            Report::Blob(found) if found == digest => Outcome::Clean,
            Report::Blob(found) => Outcome::broken(format!("has other bytes, those of {found}")),
            Report::Layer {
                diff_id,
                faults,
                more,
                opaque,
            } => {
                let fault = |Fault { path, what }| FileFault { path, what };
                let mut faults: Vec<FileFault> = faults.into_iter().map(fault).collect();
                faults.extend(self.shown(opaque));
                match faults.is_empty() {
                    true if diff_id == digest => Outcome::Clean,
                    true => Outcome::broken(format!("its tar is made again as {diff_id}")),
                    false => Outcome::Broken(faults, more),
                }
            }
        }
    }

    /// Folders that show what they should hide, which a jail without CAP_SYS_ADMIN cannot see.
    fn shown(&self, opaque: Vec<Vec<u8>>) -> Vec<FileFault> {
        let limits = Limits::default();
        let open = match open_folder(&self.place) {
            Ok(tree) => not_opaque(tree.as_fd(), opaque, &limits),
            Err(_) => opaque,
        };
        let named = open.iter().take(coracle_images::check::NAMED);
        let fault = |path: &Vec<u8>| FileFault {
            path: String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned(),
            what: "does not hide what is below it".to_owned(),
        };
        named.map(fault).collect()
    }
}
