//! Programs that the configuration names for moments of a container's life (runtime-spec config.md, POSIX-platform Hooks).

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};

use crate::failure::Failure;
use crate::state::Shown;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Moment {
    pub const ALL: [Moment; 6] = [
        Moment::Prestart,
        Moment::CreateRuntime,
        Moment::CreateContainer,
        Moment::StartContainer,
        Moment::Poststart,
        Moment::Poststop,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Moment::Prestart => "prestart",
            Moment::CreateRuntime => "createRuntime",
            Moment::CreateContainer => "createContainer",
            Moment::StartContainer => "startContainer",
            Moment::Poststart => "poststart",
            Moment::Poststop => "poststop",
        }
    }

    #[allow(
        deprecated,
        reason = "prestart is deprecated in the specification, and must still be run"
    )]
    fn of(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Moment::Prestart => hooks.prestart(),
            Moment::CreateRuntime => hooks.create_runtime(),
            Moment::CreateContainer => hooks.create_container(),
            Moment::StartContainer => hooks.start_container(),
            Moment::Poststart => hooks.poststart(),
            Moment::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or(&[])
    }
}

/// In order; the first that fails ends it.
///
/// One that says nothing of variables has those of this process.
pub fn run(hooks: Option<&Hooks>, moment: Moment, state: &Shown<'_>) -> Result<(), Failure> {
    run_with(hooks, moment, state, None)
}

/// The same with other variables than this process's: the container's, for what is run inside it.
pub fn run_with(
    hooks: Option<&Hooks>,
    moment: Moment,
    state: &Shown<'_>,
    env: Option<&[String]>,
) -> Result<(), Failure> {
    let Some(hooks) = hooks else { return Ok(()) };
    moment
        .of(hooks)
        .iter()
        .try_for_each(|hook| run_one(hook, moment, state, env))
}

/// All of them, with what failed: for moments at which nothing can be taken back.
pub fn run_all(hooks: Option<&Hooks>, moment: Moment, state: &Shown<'_>) -> Vec<Failure> {
    let list = hooks.map_or(&[][..], |hooks| moment.of(hooks));
    list.iter()
        .filter_map(|hook| run_one(hook, moment, state, None).err())
        .collect()
}

/// How often a hook with a timeout is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn run_one(
    hook: &Hook,
    moment: Moment,
    state: &Shown<'_>,
    env: Option<&[String]>,
) -> Result<(), Failure> {
    let failed = |reason: String| Failure::Hook {
        kind: moment.name(),
        path: hook.path().clone(),
        reason,
    };
    if !hook.path().is_absolute() {
        return Err(failed("the path is not absolute".into()));
    }
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    let env = hook.env().as_deref().or(env);
    if env.is_some() {
        command.env_clear();
    }
    for variable in env.into_iter().flatten() {
        let (name, value) = variable
            .split_once('=')
            .ok_or_else(|| failed(format!("the variable {variable:?} has no value")))?;
        command.env(name, value);
    }
    let text = serde_json::to_vec(state).map_err(|error| failed(error.to_string()))?;
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it.
        let _ = stdin.write_all(&text);
    }
    let timeout = hook.timeout().filter(|seconds| *seconds > 0);
    let status = match timeout {
        None => child.wait().map_err(|error| failed(error.to_string()))?,
        Some(seconds) => {
            let end = Instant::now() + Duration::from_secs(seconds.unsigned_abs());
            loop {
                if let Some(status) = child
                    .try_wait()
                    .map_err(|error| failed(error.to_string()))?
                {
                    break status;
                }
                if Instant::now() >= end {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(failed(format!("did not end within {seconds} s")));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
    };
    if status.success() {
        Ok(())
    } else {
        Err(failed(status.to_string()))
    }
}
