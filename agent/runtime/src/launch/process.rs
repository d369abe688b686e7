//! The last steps before a program runs, the same for a container's first process and for an exec.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};

use super::console;
use crate::capabilities::Capabilities;
use crate::failure::{At, Failure, Step};
use crate::init::Init;
use crate::kernel::{self, confine, landlock, sched};
use crate::namespaces::Users;
use crate::seccomp::SeccompProgram;
use crate::spec::{LaunchSpec, ProcessSettings, Rlimit, Stdio};

mod home;
mod null;

/// A program and what it may do.
pub(crate) struct Process<'a> {
    pub(crate) args: &'a [String],
    pub(crate) init: bool,
    pub(crate) env: &'a [String],
    pub(crate) cwd: &'a Path,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: &'a [u32],
    pub(crate) umask: u32,
    pub(crate) capabilities: Capabilities,
    pub(crate) seccomp: Option<&'a SeccompProgram>,
    pub(crate) no_new_privs: bool,
    pub(crate) rlimits: &'a [Rlimit],
    pub(crate) stdio: &'a Stdio,
    pub(crate) settings: &'a ProcessSettings,
    /// Takes the place of `stdio`.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) listener_message: Vec<u8>,
    /// See [`Process::open_own_files`].
    pub(crate) labels: Vec<(File, String)>,
    /// See [`Process::open_own_files`].
    pub(crate) listing: Option<OwnedFd>,
    /// To be entered.
    pub(crate) users: Option<&'a Users>,
    /// See [`ends_with`].
    pub(crate) keeper: Option<OwnedFd>,
}

/// When `PATH` is not among the variables.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl<'a> Process<'a> {
    pub(crate) fn of_container(spec: &'a LaunchSpec<'_>) -> Process<'a> {
        Process {
            args: &spec.args,
            init: spec.init,
            env: &spec.env,
            cwd: &spec.cwd,
            uid: spec.uid,
            gid: spec.gid,
            additional_gids: &spec.additional_gids,
            umask: spec.umask,
            capabilities: spec.capabilities,
            seccomp: spec.seccomp,
            no_new_privs: spec.no_new_privs,
            rlimits: &spec.rlimits,
            stdio: &spec.stdio,
            settings: &spec.settings,
            terminal: None,
            listener_message: Vec::new(),
            labels: Vec::new(),
            listing: None,
            users: None,
            keeper: None,
        }
    }

    pub(crate) fn descriptors(&self) -> Vec<i32> {
        let mut all = [&self.stdio.stdin, &self.stdio.stdout, &self.stdio.stderr]
            .map(|fd| fd.as_raw_fd())
            .to_vec();
        all.extend(self.preserved());
        all.extend(
            self.settings
                .seccomp_listener
                .as_ref()
                .map(AsRawFd::as_raw_fd),
        );
        all.extend(
            self.settings
                .console
                .as_ref()
                .map(|console| console.receiver.as_raw_fd()),
        );
        all
    }

    fn preserved(&self) -> std::ops::Range<i32> {
        3..3 + self.settings.preserved_fds as i32
    }

    /// The host's /proc, before the container's is in view, which could lead anywhere (CVE-2025-52881): where there is a label to
    /// set, or the kernel has to be asked which descriptors there are.
    pub(crate) fn proc_of_host(&self) -> Result<Option<OwnedFd>, Failure> {
        let labels = self.settings.apparmor.is_some() || self.settings.selinux.is_some();
        if !labels && kernel::closes_on_exec_by_range() {
            return Ok(None);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).at(Step::Stdio, "/proc")?;
        Ok(Some(proc))
    }

    /// Of the process itself, which alone the kernel takes them from: the files that set a security label
    /// (`proc_pid_attr_write`), and the folder of its descriptors.
    pub(crate) fn open_own_files(&mut self, proc: Option<OwnedFd>) -> Result<(), Failure> {
        let Some(proc) = proc else { return Ok(()) };
        if !kernel::closes_on_exec_by_range() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let listing = openat(&proc, "self/fd", flags, Mode::empty());
            self.listing = Some(listing.at(Step::Stdio, "/proc/self/fd")?);
        }
        let labels = [
            ("self/attr/apparmor/exec", "exec ", &self.settings.apparmor),
            ("self/attr/exec", "", &self.settings.selinux),
        ];
        for (path, prefix, label) in labels {
            let Some(label) = label else { continue };
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let file = match openat(&proc, path, flags, Mode::empty()) {
                // Before Linux 5.8 all modules share one.
                Err(Errno::ENOENT) => openat(&proc, "self/attr/exec", flags, Mode::empty()),
                other => other,
            };
            let file = file.at(Step::Label, path)?;
            self.labels.push((file.into(), format!("{prefix}{label}")));
        }
        Ok(())
    }

    /// The working directory, made by root when the image lacks it, as Docker does.
    pub(crate) fn make_cwd(&self) -> Result<(), Failure> {
        if !self.cwd.is_absolute() {
            return Err(Failure::refused(
                Step::WorkingDir,
                format!("{} is not absolute", self.cwd.display()),
            ));
        }
        if self.cwd.is_dir() {
            return Ok(());
        }
        umask(Mode::from_bits_truncate(0o022));
        std::fs::create_dir_all(self.cwd).at(Step::WorkingDir, self.cwd)
    }

    /// A session of its own, in which no signal of the caller's terminal arrives, and the standard streams.
    pub(crate) fn connect(&self) -> Result<(), Failure> {
        nix::unistd::setsid().at(Step::Stdio, "session")?;
        // What may be refused, before the wait for the start. The rest could be too little for the wait.
        for limit in self.rlimits {
            raise_rlimit(limit)?;
        }
        self.connect_stdio().at(Step::Stdio, "standard streams")
    }

    /// After [`Process::connect`]. Never comes back, except with what went wrong.
    pub(crate) fn execute(self) -> Result<i32, Failure> {
        self.execute_after(&|| Ok(()))
    }

    /// The same with `last` in between, which can do what the program can do.
    pub(crate) fn execute_after(
        mut self,
        last: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<i32, Failure> {
        let args = c_strings(self.args)?;
        let mut env = c_strings(self.env)?;
        if self.settings.home_from_passwd && !self.env.iter().any(|one| one.starts_with("HOME=")) {
            env.push(home::of(self.uid));
        }
        let init = self.init.then(Init::make).transpose()?;
        kernel::close_on_exec_from(self.preserved().end, self.listing.take())
            .at(Step::Stdio, "descriptors")?;
        self.schedule()?;
        for limit in self.rlimits {
            set_rlimit(limit)?;
        }
        if let Some(users) = self.users {
            users.enter()?;
        }

        if self.no_new_privs {
            nix::sys::prctl::set_no_new_privs().at(Step::NoNewPrivs, "")?;
        }
        if let Some(terminal) = &self.terminal {
            console::give_to(terminal, self.uid)?;
        }
        self.capabilities.bound()?;
        confine::become_user(self.uid, self.gid, self.additional_gids)
            .at(Step::User, format!("{}:{}", self.uid, self.gid))?;
        // Which took it back.
        ends_with(self.keeper.as_ref())?;
        let mut is_there = false;
        if !self.no_new_privs {
            // Without it only CAP_SYS_ADMIN may load a filter, which then sees all that follows: so whatever can be done
            // comes before. A folder that is open only by a capability is entered when the user has those, below.
            is_there = self.enter_cwd().is_ok();
            confine::raise_effective().at(Step::Capabilities, "effective set")?;
            self.restrict()?;
        }
        self.capabilities.apply(self.uid)?;
        for (mut file, label) in std::mem::take(&mut self.labels) {
            file.write_all(label.as_bytes()).at(Step::Label, label)?;
        }
        if !is_there {
            self.enter_cwd()?;
        }
        umask(Mode::from_bits_truncate(self.umask));
        if self.no_new_privs {
            self.restrict()?;
        }
        last()?;
        if let Some(init) = init {
            init.take_over(
                self.stdio.terminal || self.terminal.is_some(),
                self.preserved(),
            )?;
        }
        Err(self.exec(&args, &env))
    }

    fn restrict(&self) -> Result<(), Failure> {
        if self.settings.own_sockets {
            landlock::keep_to_own_sockets().at(Step::Seccomp, "landlock")?;
        }
        let Some(program) = self.seccomp else {
            return Ok(());
        };
        let (filter, flags) = (program.instructions(), program.flags());
        let Some(socket) = &self.settings.seccomp_listener else {
            return confine::load_seccomp(filter, flags).at(Step::Seccomp, "");
        };
        let answers =
            confine::load_seccomp_listening(filter, flags).at(Step::Seccomp, "listener")?;
        kernel::send_descriptor(socket, &self.listener_message, answers.as_fd())
            .at(Step::Seccomp, "listener")
    }

    /// While the rights to it are there.
    fn schedule(&self) -> Result<(), Failure> {
        let settings = self.settings;
        if let Some(scheduler) = &settings.scheduler {
            sched::set_scheduler(scheduler).at(Step::Scheduling, "scheduler")?;
        }
        if let Some(priority) = settings.io_priority {
            sched::set_io_priority(priority).at(Step::Scheduling, "I/O priority")?;
        }
        if let Some(cpus) = &settings.cpu_affinity {
            sched::set_affinity(cpus).at(Step::Scheduling, "CPU affinity")?;
        }
        if let Some(policy) = &settings.memory_policy {
            sched::set_memory_policy(policy).at(Step::Scheduling, "memory policy")?;
        }
        if let Some(personality) = settings.personality {
            sched::set_personality(personality).at(Step::Scheduling, "personality")?;
        }
        Ok(())
    }

    fn connect_stdio(&self) -> nix::Result<()> {
        // The three may be any of 0 to 2 themselves, in any order: first all out of the way.
        let away = |fd: &OwnedFd| fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3));
        let Stdio {
            stdin,
            stdout,
            stderr,
            ..
        } = self.stdio;
        let streams = match &self.terminal {
            Some(terminal) => [terminal; 3],
            None => [stdin, stdout, stderr],
        };
        let [stdin, stdout, stderr] = streams;
        kernel::become_stdio([away(stdin)?, away(stdout)?, away(stderr)?])?;
        if self.stdio.terminal || self.terminal.is_some() {
            kernel::set_controlling_terminal(std::io::stdin().as_fd())?;
        } else {
            null::own();
        }
        Ok(())
    }

    /// As the user, so that a folder it may not enter is refused here.
    fn enter_cwd(&self) -> Result<(), Failure> {
        nix::unistd::chdir(self.cwd).at(Step::WorkingDir, self.cwd)?;
        // A descriptor to the host's files would show as `(unreachable)` (CVE-2024-21626).
        let here = nix::unistd::getcwd().at(Step::WorkingDir, self.cwd)?;
        if !here.is_absolute() {
            return Err(Failure::refused(
                Step::WorkingDir,
                format!("{} is outside the root", self.cwd.display()),
            ));
        }
        Ok(())
    }

    /// The search of execvp(3), with the container's PATH.
    fn exec(&self, args: &[CString], env: &[CString]) -> Failure {
        let Some(program) = args.first() else {
            return Failure::refused(Step::Exec, "no program is named");
        };
        let name = OsStr::from_bytes(program.to_bytes());
        let failed = |errno: Errno| Failure::new(Step::Exec, name.to_string_lossy(), errno as i32);
        if name.is_empty() {
            return failed(Errno::ENOENT);
        }
        if name.as_bytes().contains(&b'/') {
            return failed(execve(program, args, env));
        }
        let path = self
            .env
            .iter()
            .find_map(|variable| variable.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH);
        let mut answer = Errno::ENOENT;
        for folder in path
            .split(':')
            .map(|folder| if folder.is_empty() { "." } else { folder })
        {
            let Ok(candidate) =
                CString::new(Path::new(folder).join(name).into_os_string().as_bytes())
            else {
                continue;
            };
            match execve(&candidate, args, env) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                // One that may not be executed is remembered, and the search goes on.
                Errno::EACCES => answer = Errno::EACCES,
                errno => return failed(errno),
            }
        }
        failed(answer)
    }
}

/// The calling process is killed when its parent ends, which reads the other end of this pipe alone.
pub(crate) fn ends_with(keeper: Option<&OwnedFd>) -> Result<(), Failure> {
    let Some(keeper) = keeper else { return Ok(()) };
    set_pdeathsig(Signal::SIGKILL).at(Step::Pipe, "parent's death")?;
    // Of an end before that the kernel says nothing.
    match kernel::comes(keeper, libc::POLLERR, Duration::ZERO) {
        false => Ok(()),
        true => Err(Failure::refused(Step::Pipe, "nobody waits for it")),
    }
}

fn execve(program: &CString, args: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execve(program, args, env) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, Failure> {
    texts
        .iter()
        .map(|text| {
            CString::new(text.as_str())
                .map_err(|_| Failure::refused(Step::Exec, "an argument holds a zero byte"))
        })
        .collect()
}

/// Only a hard limit that is above the one that is there.
fn raise_rlimit(limit: &Rlimit) -> Result<(), Failure> {
    let (_, hard) =
        kernel::rlimit(limit.resource).at(Step::Rlimit, format!("number {}", limit.resource))?;
    if limit.hard > hard {
        set_rlimit(limit)?;
    }
    Ok(())
}

pub(crate) fn set_rlimit(limit: &Rlimit) -> Result<(), Failure> {
    kernel::set_rlimit(limit.resource, limit.soft, limit.hard)
        .at(Step::Rlimit, format!("number {}", limit.resource))
}
