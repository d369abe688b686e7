//! `checkpoint`: a container's processes, written to images by CRIU.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use coracle_runtime::Cgroup;

use crate::args::{Checkpoint, Global};
use crate::config::Config;
use crate::criu::messages::{Kind, Options, Request};
use crate::criu::worker::{self, Worker};
use crate::criu::{self, Folders, STREAMS, outside};
use crate::failure::{Failure, OnPath};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::state::Status;
use crate::store::Store;
use crate::{alive, delete, plan};

const LOG: &str = "dump.log";

/// For a parent that has other things to do.
const REAPED: Duration = Duration::from_millis(500);

#[cold]
pub fn checkpoint(
    global: &Global,
    store: &Store,
    id: &ContainerId,
    wanted: &Checkpoint,
    journal: &Journal,
) -> Result<(), Failure> {
    let entry = store.lock(id)?;
    let (record, status) = alive::read(&entry)?;
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Failure::WrongStatus {
            action: "checkpoint",
            id: id.to_string(),
            status,
        });
    }
    let config = Config::kept(&entry, &record.bundle)?;
    if plan::namespaces::shares_mounts(config.linux()?)? {
        return Err(Failure::Unsupported(
            "checkpoint of a container that has the host's mount namespace".into(),
        ));
    }
    let program = worker::find(&global.criu)?;
    let folders = Folders::open(&wanted.images, true, LOG)?;
    if wanted.pre_dump || wanted.parent.is_some() {
        check_parent(&wanted.images.images, wanted.parent.as_deref())?;
        if !criu::tracks_memory(&program)? {
            return Err(Failure::Unsupported(
                "--pre-dump and --parent-path: this kernel does not tell which memory was written (CONFIG_MEM_SOFT_DIRTY)"
                    .into(),
            ));
        }
    }

    let cgroup = alive::cgroup(&record)?;
    let mut options = Options {
        pid: Some(record.pid),
        root: Some(record.rootfs.to_string_lossy().into_owned()),
        leave_running: Some(wanted.leave_running),
        freeze_cgroup: Some(cgroup.freezer().to_string_lossy().into_owned()),
        track_mem: (wanted.pre_dump || wanted.parent.is_some()).then_some(true),
        parent_img: wanted
            .parent
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        ..folders.options(&wanted.images)
    };
    options.config_file = criu::config_file(&config)?;
    outside::name(&mut options, &config, &record)?;
    if !wanted.pre_dump {
        let path = folders.images_path.join(STREAMS);
        let streams =
            serde_json::to_vec(&outside::streams(&record)?).map_err(|source| Failure::Json {
                path: path.clone(),
                source,
            })?;
        fs::write(&path, streams).on(&path)?;
    }

    let kind = if wanted.pre_dump {
        Kind::PreDump
    } else {
        Kind::Dump
    };
    let request = Request {
        kind: kind.into(),
        options: Some(options),
        ..Request::default()
    };
    let dumped = Worker::start(&program, Vec::new())
        .and_then(|worker| worker.ask(&request, |_, _| Ok(())))
        .and_then(|answer| folders.checked("the dump", answer));
    if dumped.is_err() || wanted.pre_dump || wanted.leave_running {
        let still = as_it_was(&cgroup, status);
        return dumped.map(drop).and(still);
    }
    // As in runc and crun: what is restored later is a new container.
    delete::end(&record)?;
    wait_until_reaped(record.pid);
    delete::remove(entry, &record, journal)
}

/// CRIU freezes the cgroup, and one that is killed meanwhile leaves it so.
fn as_it_was(cgroup: &Cgroup, status: Status) -> Result<(), Failure> {
    let set = match status {
        Status::Paused => cgroup.freeze(),
        _ => cgroup.thaw(),
    };
    set.map_err(Failure::from)
}

/// By its parent, whoever that is: one who looks for the process right afterwards is to find none. It need not come to that.
fn wait_until_reaped(pid: i32) {
    let (process, end) = (format!("/proc/{pid}"), Instant::now() + REAPED);
    while Path::new(&process).exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// CRIU keeps it as it is written, and finds it from the images.
fn check_parent(images: &Path, parent: Option<&Path>) -> Result<(), Failure> {
    let Some(parent) = parent else { return Ok(()) };
    if parent.is_absolute() {
        return Err(Failure::Usage(format!(
            "--parent-path {} must be relative to the images",
            parent.display()
        )));
    }
    let path = images.join(parent);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(()),
        _ => Err(Failure::Usage(format!(
            "--parent-path {}: {} is not a folder",
            parent.display(),
            path.display()
        ))),
    }
}
