//! `exec`: one more process in a container.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use coracle_runtime::cgroup::Controller;
use coracle_runtime::{Cgroup, ExecSpec, exec_telling};
use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

use crate::args::Exec;
use crate::config::Config;
use crate::create::{Terminal, console, stdio, write_pid};
use crate::failure::{Doing, Failure, OnPath};
use crate::foreground::{self, Signals};
use crate::id::ContainerId;
use crate::journal::Journal;
use crate::state::Status;
use crate::store::Store;
use crate::{alive, filter, inside, plan};

mod affinity;

pub fn exec(
    store: &Store,
    id: &ContainerId,
    options: &Exec,
    journal: &Journal,
) -> Result<i32, Failure> {
    let entry = store.look(id)?;
    let (record, status) = alive::read(&entry)?;
    let fits = match status {
        Status::Running | Status::Created => true,
        Status::Paused => options.ignore_paused,
        Status::Creating | Status::Stopped => false,
    };
    if !fits {
        return Err(Failure::WrongStatus {
            action: "exec in",
            id: id.to_string(),
            status,
        });
    }
    let config = Config::kept(&entry, &record.bundle)?;
    let process = process(&config, options)?;
    config.check_process(&process)?;
    let linux = config.linux()?;
    if plan::namespaces::shares_mounts(linux)? {
        // It would find itself among the host's files.
        return Err(Failure::Unsupported(
            "exec in a container that has the host's mount namespace".into(),
        ));
    }
    let seccomp = filter::of_exec(&entry, linux, journal)?;
    let planned = plan::process::plan(&process)?;
    let cgroup = alive::cgroup(&record)?;
    let cgroup = match &options.cgroup {
        Some(wanted) => below(&cgroup, wanted)?,
        None => cgroup,
    };

    let (terminal, held) = match &options.console_socket {
        Some(path) => (Terminal::Socket(path), None),
        None if options.detach => (Terminal::None, None),
        None => {
            let (here, there) = UnixStream::pair().doing("making a socket pair")?;
            (Terminal::Held(there), Some(here))
        }
    };
    let mut settings = planned.settings;
    settings.console = console(&process, terminal)?;
    settings.preserved_fds = options.preserve_fds;
    settings.personality = plan::process::personality(linux)?;
    settings.memory_policy = plan::process::memory_policy(linux)?;
    let (initial, last) = affinity::planned(&process)?;
    if let Some(cpus) = &initial {
        affinity::move_there(cpus, journal)?;
    }
    // Entering a cgroup gives the process all of that one's CPUs.
    settings.cpu_affinity = last.or(initial);
    let shows = settings.console.is_some();
    if let Some(path) = plan::seccomp::listener(linux)? {
        settings.seccomp_listener = Some(UnixStream::connect(path).on(path)?.into());
    }
    let metadata = linux.seccomp().as_ref();
    let metadata = metadata.and_then(|profile| profile.listener_metadata().as_deref());

    let first = coracle_runtime::ProcessHandle::open(record.pid).doing("exec")?;
    if alive::start_time(record.pid) != Some(record.start_time) {
        return Err(Failure::WrongStatus {
            action: "exec in",
            id: id.to_string(),
            status: Status::Stopped,
        });
    }
    let signals = if options.detach {
        None
    } else {
        Some(Signals::hold()?)
    };
    let spec = ExecSpec {
        pid: record.pid,
        pidfd: first.as_fd(),
        cgroup: &cgroup,
        args: planned.args,
        env: planned.env,
        cwd: planned.cwd,
        uid: planned.uid,
        gid: planned.gid,
        additional_gids: planned.additional_gids,
        umask: planned.umask,
        capabilities: planned.capabilities,
        seccomp: seccomp.as_ref(),
        no_new_privs: planned.no_new_privs,
        rlimits: planned.rlimits,
        oom_score_adj: planned.oom_score_adj,
        stdio: stdio(settings.console.as_ref())?,
    };
    let executed = exec_telling(&spec, &settings, &|pid| {
        inside::listener_message(&record, pid, metadata)
    })?;
    drop((spec, settings));
    if let Some(path) = &options.pid_file {
        write_pid(path, executed.pid)?;
    }
    let Some(signals) = signals else { return Ok(0) };
    let master = match &held {
        Some(here) if shows => Some(foreground::receive_master(here)?),
        _ => None,
    };
    foreground::wait(executed.pid, &signals, master)
}

/// A cgroup that the container has made below its own.
fn below(cgroup: &Cgroup, wanted: &str) -> Result<Cgroup, Failure> {
    let (names, path) = match wanted.split_once(':') {
        Some((names, path)) => (names.split(',').collect(), path),
        None => (Vec::new(), wanted),
    };
    let known = |name: &&str| {
        Controller::from_name(name)
            .ok_or_else(|| Failure::Usage(format!("--cgroup: no controller {name:?}")))
    };
    let controllers: Vec<Controller> = names.iter().map(known).collect::<Result<_, _>>()?;
    Ok(cgroup.below(path.trim_matches('/').as_ref(), &controllers)?)
}

/// The one that `--process` names, or the container's own with what the options change.
fn process(config: &Config, options: &Exec) -> Result<Process, Failure> {
    if let Some(path) = &options.process {
        let file = File::open(path).on(path)?;
        return serde_json::from_reader(std::io::BufReader::new(file)).map_err(|source| {
            Failure::Json {
                path: path.clone(),
                source,
            }
        });
    }
    let mut process = config
        .process()
        .cloned()
        .unwrap_or_else(plan::process::none);
    if options.args.is_empty() {
        return Err(Failure::Usage("exec needs a program".into()));
    }
    process.set_args(Some(options.args.clone()));
    process.set_terminal(Some(options.tty));
    if !options.tty {
        process.set_console_size(None);
    }
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for variable in &options.env {
        if !variable.contains('=') {
            return Err(Failure::Usage(format!("--env {variable:?} has no value")));
        }
        // A later one takes the place of an earlier.
        let name = variable.split('=').next().unwrap_or_default();
        env.retain(|other| other.split('=').next() != Some(name));
        env.push(variable.clone());
    }
    process.set_env(Some(env));
    if let Some(user) = &options.user {
        let (uid, gid) = parse_user(user)?;
        let mut changed = process.user().clone();
        changed.set_uid(uid);
        changed.set_gid(gid.unwrap_or(changed.gid()));
        process.set_user(changed);
    }
    if !options.additional_gids.is_empty() {
        let gids = options
            .additional_gids
            .iter()
            .map(|gid| id_number(gid))
            .collect::<Result<_, _>>()?;
        let mut changed = process.user().clone();
        changed.set_additional_gids(Some(gids));
        process.set_user(changed);
    }
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    if options.process_label.is_some() {
        process.set_selinux_label(options.process_label.clone());
    }
    add_capabilities(&mut process, &options.capabilities)?;
    Ok(process)
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Vec::new();
    for name in names {
        let name = name.to_ascii_uppercase();
        let plain = name.strip_prefix("CAP_").unwrap_or(&name);
        let capability: Capability = plain
            .parse()
            .map_err(|_| Failure::Usage(format!("--cap {name:?} is no capability")))?;
        added.push(capability);
    }
    let own = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let mut changed = LinuxCapabilities::default();
    changed.set_bounding(with(own.bounding()));
    changed.set_effective(with(own.effective()));
    changed.set_permitted(with(own.permitted()));
    changed.set_inheritable(own.inheritable().clone());
    changed.set_ambient(own.ambient().clone());
    process.set_capabilities(Some(changed));
    Ok(())
}

/// `uid` or `uid:gid`, numbers and nothing else: what a name means only the engine knows. A part that is no number must
/// not become 0 (CVE-2026-30892).
fn parse_user(text: &str) -> Result<(u32, Option<u32>), Failure> {
    match text.split_once(':') {
        None => Ok((id_number(text)?, None)),
        Some((uid, gid)) => Ok((id_number(uid)?, Some(id_number(gid)?))),
    }
}

fn id_number(text: &str) -> Result<u32, Failure> {
    // Not parse alone, which takes a sign. The last number means "leave as it is" to the kernel.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if digits && number != u32::MAX => Ok(number),
        _ => Err(Failure::Usage(format!(
            "{text:?} is no user or group number"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1000").unwrap(), (1000, None));
        assert_eq!(parse_user("0:5").unwrap(), (0, Some(5)));
        for wrong in [
            "",
            ":",
            "1000:",
            ":1000",
            "1000:x",
            "x",
            "-1",
            "+1",
            "1:2:3",
            "4294967295",
            "4294967296",
            "1 ",
        ] {
            assert!(parse_user(wrong).is_err(), "{wrong:?}");
        }
    }
}
