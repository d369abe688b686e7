//! `restore`: a new container whose processes CRIU makes from images.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::alive::{self, start_time};
use crate::args::{Global, Images, ManageCgroups, Restore};
use crate::config::Config;
use crate::create::{self, write_pid};
use crate::criu::messages::{CgroupRoot, Kind, Notify, Options, Request};
use crate::criu::worker::{self, Worker};
use crate::criu::{self, Folders, STREAMS, outside, private};
use crate::failure::{Doing, Failure, OnPath};
use crate::foreground::{self, Signals};
use crate::hooks::{self, Moment};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::state::{Record, Status};
use crate::store::{Entry, Store};
use crate::{delete, place, plan};

const LOG: &str = "restore.log";

/// Three names.
const STREAMS_ROOM: u64 = 64 << 10;

#[cold]
pub fn restore(
    global: &Global,
    store: &Store,
    id: &ContainerId,
    wanted: &Restore,
    journal: &Journal,
) -> Result<i32, Failure> {
    let config = Config::load(wanted.create.bundle.as_deref())?;
    let program = worker::find(&global.criu)?;
    let signals = match wanted.create.detach {
        true => None,
        // Before there is a child whose end could be missed.
        false => Some(Signals::hold()?),
    };
    let entry = store.create(id)?;
    let mut master = Master {
        socket: wanted.create.console_socket.as_deref(),
        held: None,
    };
    let restored = restore_in(&entry, &config, &program, wanted, &mut master, journal);
    let pid = match restored {
        Ok(pid) => pid,
        Err(failure) => {
            if let Err(second) = create::undo(entry) {
                journal.warn(&format!("cleaning up: {second}"));
            }
            return Err(failure);
        }
    };
    drop(entry);
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::wait(pid, &signals, master.held)?;
    delete::delete(store, id, true, journal)?;
    Ok(code)
}

fn restore_in(
    entry: &Entry,
    config: &Config,
    program: &Path,
    wanted: &Restore,
    master: &mut Master<'_>,
    journal: &Journal,
) -> Result<i32, Failure> {
    let linux = config.linux()?;
    if plan::namespaces::shares_mounts(linux)? {
        return Err(Failure::Unsupported(
            "restore of a container that has the host's mount namespace".into(),
        ));
    }
    let place = place::of_container(&config.spec, entry.id(), wanted.create.systemd)?;
    let mut record = Record::of_new(entry.id(), config, &place)?;
    let file_systems = plan::mounts::plan(&config.spec, &config.bundle)?;
    coracle_runtime::make_mount_points(&record.rootfs, &file_systems)?;

    create::refuse_used(&alive::cgroup(&record)?, &record)?;
    entry.write_config(&config.text)?;
    // Held until the end of this: the processes that CRIU makes are in it by then.
    let resources = linux.resources().as_ref();
    let made = place::make(entry, &mut record, &place, resources, journal)?;
    let cgroup = &made.cgroup;

    let streams = read_streams(&wanted.images.images.join(STREAMS))?;
    record.streams = create::streams();
    let on = entry.mount_point()?;
    // CRIU must be in the namespace that the folders were opened in.
    let (folders, options, worker) = private::with_root(&record.rootfs, &on, || {
        let folders = Folders::open(&wanted.images, false, LOG)?;
        let mut options = Options {
            root: Some(on.to_string_lossy().into_owned()),
            rst_sibling: Some(true),
            notify_scripts: Some(true),
            cg_root: cgroup_roots(&record, cgroup, &wanted.images),
            ..folders.options(&wanted.images)
        };
        options.config_file = criu::config_file(config)?;
        let inherited = outside::provide(&mut options, config, &record, cgroup, &streams)?;
        let worker = Worker::start(program, inherited)?;
        Ok((folders, options, worker))
    })?;
    if wanted.images.manage_cgroups == ManageCgroups::Ignore {
        // What it makes stays where it is itself.
        for folder in cgroup.folders() {
            let path = folder.join("cgroup.procs");
            std::fs::write(&path, worker.pid().to_string()).on(&path)?;
        }
    }
    let request = Request {
        kind: Kind::Restore.into(),
        options: Some(options),
        ..Request::default()
    };
    let opened = match plan::namespaces::root_group(linux)? {
        Some(group) => Some(folders.open_to(group)?),
        None => None,
    };
    let answer = worker.ask(&request, |notify, descriptor| {
        at(notify, descriptor, &record, master)
    })?;
    drop(opened);
    let answer = folders.checked("the restore", answer)?;
    let pid = answer.restored.map_or(0, |restored| restored.pid);
    let Some(started) = start_time(pid) else {
        return Err(Failure::Criu("the restored process has ended".into()));
    };
    (record.pid, record.start_time) = (pid, started);
    entry.write(&record)?;
    if let Some(path) = &wanted.create.pid_file {
        write_pid(path, pid)?;
    }
    Ok(pid)
}

/// Where the dumped cgroups go: below the container's, in each hierarchy that has one.
fn cgroup_roots(
    record: &Record,
    cgroup: &coracle_runtime::Cgroup,
    wanted: &Images,
) -> Vec<CgroupRoot> {
    if wanted.manage_cgroups == ManageCgroups::Ignore {
        return Vec::new();
    }
    let path = Path::new("/")
        .join(&record.cgroup_parent)
        .join(&record.cgroup_name);
    let path = path.to_string_lossy().into_owned();
    let root = |controller: Option<&str>| CgroupRoot {
        controller: controller.map(Into::into),
        path: path.clone(),
    };
    if cgroup.is_unified() {
        return vec![root(None)];
    }
    cgroup
        .controllers()
        .into_iter()
        .map(|name| root(Some(name)))
        .collect()
}

/// A moment that CRIU waits at.
fn at(
    notify: &Notify,
    descriptor: Option<OwnedFd>,
    record: &Record,
    master: &mut Master<'_>,
) -> Result<(), Failure> {
    match notify.script.as_deref() {
        // The namespaces are there and empty; engines give the network its links now.
        Some("setup-namespaces") => {
            let record = Record {
                pid: notify.pid.unwrap_or(0),
                ..record.clone()
            };
            let state = record.shown(Status::Created);
            let hooks = record.hooks.as_ref();
            hooks::run(hooks, Moment::Prestart, &state)?;
            hooks::run(hooks, Moment::CreateRuntime, &state)
        }
        Some("orphan-pts-master") => match descriptor {
            Some(descriptor) => master.take(descriptor),
            None => Err(Failure::Criu("it told of a terminal and sent none".into())),
        },
        _ => Ok(()),
    }
}

/// The other end of the container's terminal.
struct Master<'a> {
    socket: Option<&'a Path>,
    held: Option<OwnedFd>,
}

impl Master<'_> {
    fn take(&mut self, descriptor: OwnedFd) -> Result<(), Failure> {
        let Some(path) = self.socket else {
            self.held = Some(descriptor);
            return Ok(());
        };
        let socket = UnixStream::connect(path).on(path)?;
        let fds = [descriptor.as_fd().as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let text = [std::io::IoSlice::new(b"/dev/console")];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(socket.as_raw_fd(), &text, &rights, flags, None)
            .doing("sending the terminal")?;
        Ok(())
    }
}

/// None where the images have none: those of a container without streams of the host.
fn read_streams(path: &Path) -> Result<Vec<String>, Failure> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on(path)?,
    };
    let mut text = Vec::new();
    file.take(STREAMS_ROOM).read_to_end(&mut text).on(path)?;
    serde_json::from_slice(&text).map_err(|source| Failure::Json {
        path: path.into(),
        source,
    })
}
