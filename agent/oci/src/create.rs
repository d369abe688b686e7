//! `create`: a container whose first process waits for its start.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use coracle_runtime::spec::Console;
use coracle_runtime::{Cgroup, NetNs, Starting, Stdio, prepare_with};
use oci_spec::runtime::Process;

use crate::alive::{self, start_time};
use crate::args::Create;
use crate::config::Config;
use crate::failure::{Doing, Failure, OnPath};
use crate::hooks::{self, Moment};
use crate::id::ContainerId;
use crate::inside::{FirstProcess, MOUNTED, READY};
use crate::journal::Journal;
use crate::state::{Record, Status};
use crate::store::{Entry, Store};
use crate::{net_devices, place, plan, terminal};

/// What `run` goes on with.
pub struct Created {
    pub pid: i32,
}

/// Where a terminal's other end goes.
pub enum Terminal<'a> {
    None,
    Socket(&'a Path),
    /// Stays in this process.
    Held(UnixStream),
}

/// The process reads and writes what this one does, or a terminal of its own.
pub fn console(process: &Process, terminal: Terminal<'_>) -> Result<Option<Console>, Failure> {
    let wants_one = process.terminal().unwrap_or(false);
    // The caller's own terminal shows it, whose size it has from its first word on.
    let shown = match (&terminal, wants_one) {
        (Terminal::Held(_), true) => terminal::size(std::io::stdin().as_fd()),
        _ => None,
    };
    let receiver = match (wants_one, terminal) {
        (false, Terminal::None | Terminal::Held(_)) => return Ok(None),
        (false, Terminal::Socket(_)) => {
            return Err(Failure::Usage(
                "--console-socket without process.terminal".into(),
            ));
        }
        (true, Terminal::None) => {
            return Err(Failure::Usage(
                "process.terminal needs --console-socket".into(),
            ));
        }
        (true, Terminal::Socket(path)) => UnixStream::connect(path).on(path)?,
        (true, Terminal::Held(socket)) => socket,
    };
    let size = process.console_size().as_ref().map(|size| {
        let cells = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        (cells(size.height()), cells(size.width()))
    });
    Ok(Some(Console {
        receiver: receiver.into(),
        size: shown.or(size),
    }))
}

/// This process's own streams, of which one with a terminal holds none.
pub fn stdio(console: Option<&Console>) -> Result<Stdio, Failure> {
    if console.is_some() {
        return Stdio::null().doing("opening /dev/null");
    }
    let copy = || -> std::io::Result<Stdio> {
        Ok(Stdio {
            stdin: std::io::stdin().as_fd().try_clone_to_owned()?,
            stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
            stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
            terminal: false,
        })
    };
    copy().doing("duplicating the standard streams")
}

/// What the kernel calls the pipes among them; a checkpoint must know which they were.
pub fn streams() -> Vec<String> {
    (0..3)
        .map(|stream| std::fs::read_link(format!("/proc/self/fd/{stream}")))
        .map(|name| name.unwrap_or_default().to_string_lossy().into_owned())
        .map(|name| {
            if name.starts_with("pipe:[") {
                name
            } else {
                String::new()
            }
        })
        .collect()
}

pub fn create(
    store: &Store,
    id: &ContainerId,
    config: &Config,
    options: &Create,
    terminal: Terminal<'_>,
    journal: &Journal,
) -> Result<Created, Failure> {
    let entry = store.create(id)?;
    match create_in(&entry, config, options, terminal, journal) {
        Ok(created) => Ok(created),
        Err(failure) => {
            // The first failure is the one to tell.
            if let Err(second) = undo(entry) {
                journal.warn(&format!("cleaning up: {second}"));
            }
            Err(failure)
        }
    }
}

pub fn undo(entry: Entry) -> Result<(), Failure> {
    if let Some(record) = entry.read()? {
        place::remove(&record)?;
        let state = record.shown(Status::Stopped);
        hooks::run_all(record.hooks.as_ref(), Moment::Poststop, &state);
    }
    entry.remove()
}

fn create_in(
    entry: &Entry,
    config: &Config,
    options: &Create,
    terminal: Terminal<'_>,
    journal: &Journal,
) -> Result<Created, Failure> {
    let id = entry.id();
    let linux = config.linux()?;
    let seccomp = plan::seccomp::compile(linux)?;
    let place = place::of_container(&config.spec, id, options.systemd)?;
    let mut record = Record::of_new(id, config, &place)?;
    let handle = alive::cgroup(&record)?;
    refuse_used(&handle, &record)?;
    let mut made;

    record.streams = streams();
    let console = console(config.process().unwrap_or(&plan::process::none()), terminal)?;
    let mut launch = plan::launch(
        config,
        id,
        &handle,
        seccomp.as_ref(),
        stdio(console.as_ref())?,
    )?;
    launch.settings.console = console;
    launch.settings.preserved_fds = options.preserve_fds;
    if let Some(path) = plan::seccomp::listener(linux)? {
        launch.settings.seccomp_listener = Some(UnixStream::connect(path).on(path)?.into());
    }

    let devices = net_devices::find(linux)?;
    if !devices.is_empty() && matches!(launch.netns, NetNs::Host) {
        return Err(Failure::Config(
            "linux.netDevices without a network namespace".into(),
        ));
    }

    entry.write_config(&config.text)?;
    let resources = linux.resources().as_ref();
    made = place::make(entry, &mut record, &place, resources, journal)?;
    let cgroup = made.cgroup.clone();
    launch.cgroup = &cgroup;

    let listener = entry.listen()?;
    let (outside, inside) = UnixStream::pair().doing("making a socket pair")?;
    let first = FirstProcess {
        outside: inside,
        listener,
        listener_metadata: linux
            .seccomp()
            .as_ref()
            .and_then(|profile| profile.listener_metadata().as_deref()),
        record: record.clone(),
        net_devices: &devices,
        pid: std::cell::Cell::new(0),
        args: &launch.args,
        env: &launch.env,
        cwd: &launch.cwd,
    };
    let starting = prepare_with(&launch, &first)?;
    // Its end must be the child's alone, so that its death is seen.
    drop(first);
    record.pid = starting.pid();
    record.start_time = start_time(record.pid).unwrap_or(0);
    if !devices.is_empty() {
        // The first process waits; dropping it lets it end.
        let namespace = net_devices::namespace(&launch.netns, record.pid)?;
        if let Err(failure) = net_devices::move_to(&devices, &namespace) {
            starting.kill_and_reap();
            return Err(failure);
        }
    }
    let starting = starting.release()?;
    entry.write(&record)?;

    let starting = wait_for(&outside, MOUNTED, starting)?;
    made.entered();
    // The environment is there, which is what the word says (runtime.md, Lifecycle).
    let state = record.shown(Status::Created);
    let hooks = record.hooks.as_ref();
    hooks::run(hooks, Moment::Prestart, &state)?;
    hooks::run(hooks, Moment::CreateRuntime, &state)?;
    (&outside)
        .write_all(&record.pid.to_le_bytes())
        .doing("telling the first process")?;
    wait_for(&outside, READY, starting)?;

    if let Some(path) = &options.pid_file {
        write_pid(path, record.pid)?;
    }
    Ok(Created { pid: record.pid })
}

/// Two containers in one cgroup would be stopped together. An empty one may have been made for us.
/// Of a scope systemd knows.
pub fn refuse_used(cgroup: &Cgroup, record: &Record) -> Result<(), Failure> {
    if record.scope.is_some() {
        return Ok(());
    }
    let folders = cgroup.folders();
    let used = folders.iter().any(|folder| {
        std::fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty())
    });
    if used {
        let path = record.cgroup_parent.join(&record.cgroup_name);
        return Err(Failure::Config(format!(
            "cgroup {} has processes in it",
            path.display()
        )));
    }
    Ok(())
}

/// The next word of the first process, or why it has none.
fn wait_for(mut outside: &UnixStream, word: u8, starting: Starting) -> Result<Starting, Failure> {
    let mut heard = [0];
    match outside.read(&mut heard) {
        Ok(1) if heard[0] == word => Ok(starting),
        _ => {
            starting.finish()?;
            Err(Failure::System {
                what: "the first process",
                source: std::io::Error::other("it died without a word"),
            })
        }
    }
}

/// Whoever waits for the file finds the whole number in it.
pub fn write_pid(path: &Path, pid: i32) -> Result<(), Failure> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, pid.to_string()).on(&new)?;
    std::fs::rename(&new, path).on(path)
}
