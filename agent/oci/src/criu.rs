//! CRIU, which writes the processes of a container to images and makes them again from there. The two commands are
//! `cold`: they lie apart in the program, so that no other command pages them in (docs/launch.md, Memory).
//!
//! | file | what it holds |
//! |---|---|
//! | [`worker`] | the program, and talking to it |
//! | [`messages`] | the words |
//! | [`outside`] | what of a container is not CRIU's to dump |
//! | [`mountinfo`] | mounts of a process |
//! | [`private`] | mounts that only CRIU sees |

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, fchown};

pub mod messages;
mod mountinfo;
pub mod outside;
pub mod private;
pub mod worker;

use messages::{Answer, Features, Kind, Options, Request};
use worker::Worker;

use crate::args::Images;
use crate::config::Config;
use crate::failure::{Failure, OnPath};

/// Which standard streams a container had, beside the images, as runc and crun write it.
pub const STREAMS: &str = "descriptors.json";

/// Of the whole machine.
const CONFIG: &str = "/etc/criu/runc.conf";

/// What CRIU logs: errors, warnings, information, and what it does.
const LOG_LEVEL: i32 = 4;

/// Of a log, the end is where it says why.
const LOG_END: u64 = 64 << 10;
const ERRORS: usize = 4;

/// The folders of one checkpoint, open.
pub struct Folders {
    images: OwnedFd,
    pub images_path: PathBuf,
    work: OwnedFd,
    work_path: PathBuf,
    log: &'static str,
}

impl Folders {
    /// `make` those that are missing, for root alone: all of the container's memory is in them.
    pub fn open(wanted: &Images, make: bool, log: &'static str) -> Result<Folders, Failure> {
        let folder = |path: &Path, make: bool| -> Result<OwnedFd, Failure> {
            if make {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)
                    .on(path)?;
            }
            let opened = File::open(path).on(path)?;
            if !opened.metadata().on(path)?.is_dir() {
                let path = path.display();
                return Err(Failure::Usage(format!("{path} is not a folder")));
            }
            Ok(opened.into())
        };
        let work_path = wanted.work.as_ref().unwrap_or(&wanted.images);
        Ok(Folders {
            images: folder(&wanted.images, make)?,
            images_path: wanted.images.clone(),
            work: folder(work_path, true)?,
            work_path: work_path.clone(),
            log,
        })
    }

    /// What dump and restore say alike.
    pub fn options(&self, wanted: &Images) -> Options {
        let yes = |is: bool| is.then_some(true);
        Options {
            images_dir_fd: self.images.as_raw_fd(),
            work_dir_fd: Some(self.work.as_raw_fd()),
            log_file: Some(self.log.into()),
            log_level: Some(LOG_LEVEL),
            tcp_established: yes(wanted.tcp_established),
            tcp_close: yes(wanted.tcp_close),
            tcp_skip_in_flight: yes(wanted.tcp_skip_in_flight),
            ext_unix_sk: yes(wanted.ext_unix_sk),
            shell_job: yes(wanted.shell_job),
            file_locks: yes(wanted.file_locks),
            link_remap: yes(wanted.link_remap),
            auto_dedup: yes(wanted.auto_dedup),
            orphan_pts_master: Some(true),
            manage_cgroups: Some(true),
            manage_cgroups_mode: Some(wanted.manage_cgroups as i32),
            network_lock: wanted.network_lock.map(|method| method as i32),
            empty_ns: wanted.empty_network.then_some(libc::CLONE_NEWNET as u32),
            lsm_profile: wanted.lsm_profile.clone(),
            lsm_mount_context: wanted.lsm_mount_context.clone(),
            ..Options::default()
        }
    }

    /// What went wrong, in CRIU's own words where it has left any.
    pub fn checked(&self, what: &str, answer: Answer) -> Result<Answer, Failure> {
        if answer.success {
            return Ok(answer);
        }
        let errno = answer.errno.filter(|errno| *errno != 0);
        let errno = errno.map(|errno| format!(" ({})", std::io::Error::from_raw_os_error(errno)));
        let said = answer.message.filter(|text| !text.is_empty());
        let log = self.work_path.join(self.log);
        Err(Failure::Criu(format!(
            "{what} failed{}: {}; its log is {}",
            errno.unwrap_or_default(),
            errors(&log)
                .or(said)
                .unwrap_or_else(|| "it does not say why".into())
                .trim(),
            log.display(),
        )))
    }
}

/// The images' folder, open to one more group until this is dropped.
#[must_use]
pub struct Opened<'a> {
    folder: &'a OwnedFd,
    before: (u32, Mode),
}

impl Folders {
    /// In a container with users of its own CRIU reads the last of the images as that container's root, who has no right to a
    /// folder of the host's.
    pub fn open_to(&self, group: u32) -> Result<Opened<'_>, Failure> {
        let folder = &self.images;
        let now = fstat(folder).on(&self.images_path)?;
        let mode = Mode::from_bits_truncate(now.st_mode & 0o7777);
        fchown(folder, None, Some(Gid::from_raw(group))).on(&self.images_path)?;
        let opened = Opened {
            folder,
            before: (now.st_gid, mode),
        };
        fchmod(folder, mode | Mode::S_IXGRP).on(&self.images_path)?;
        Ok(opened)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let (group, mode) = self.before;
        // The mode first: a change of group alone would open it to that one.
        let _ = fchmod(self.folder, mode);
        let _ = fchown(self.folder, None, Some(Gid::from_raw(group)));
    }
}

/// The first errors near the end of a log: what it tries and goes on without is among them, and what follows from an error
/// comes after it.
fn errors(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))
        .ok()?;
    let mut text = Vec::new();
    file.take(LOG_END).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once("Error ("))
        .map(|(_, error)| format!("({error}"))
        .filter(|error| !error.contains("RLIMIT_NOFILE"))
        .take(ERRORS)
        .collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// Options of CRIU's own (criu(8), CONFIGURATION FILES), where runc looks for them: the file that the container names, or the
/// machine's.
pub fn config_file(config: &Config) -> Result<Option<String>, Failure> {
    let annotations = config.spec.annotations().as_ref();
    if let Some(path) = annotations.and_then(|all| all.get("org.criu.config")) {
        if !Path::new(path).is_absolute() {
            let reason = format!("annotation org.criu.config {path:?} is not absolute");
            return Err(Failure::Config(reason));
        }
        return Ok(Some(path.clone()));
    }
    Ok(Path::new(CONFIG).exists().then(|| CONFIG.to_owned()))
}

/// Whether this kernel tells which memory was written, for dumps that build on an earlier one.
pub fn tracks_memory(program: &Path) -> Result<bool, Failure> {
    let request = Request {
        kind: Kind::FeatureCheck.into(),
        features: Some(Features {
            mem_track: Some(true),
        }),
        ..Request::default()
    };
    let answer = Worker::start(program, Vec::new())?.ask(&request, |_, _| Ok(()))?;
    let features = answer.features.filter(|_| answer.success);
    Ok(features.and_then(|features| features.mem_track) == Some(true))
}
