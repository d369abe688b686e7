//! Why a launch failed, in a form that crosses the pipe from the child to the supervisor.

use std::io;

/// The step at which a launch, an exec or a jail stopped. The numbers are the wire format of the status pipe, which
/// both ends of the same binary speak, so they may change freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Step {
    Clone = 1,
    Pipe,
    Namespace,
    Cgroup,
    OomScore,
    Rootfs,
    Overlay,
    Proc,
    Sys,
    Dev,
    Mount,
    Network,
    Sysctl,
    Pivot,
    Mask,
    Hostname,
    Rlimit,
    Stdio,
    User,
    Capabilities,
    NoNewPrivs,
    Seccomp,
    WorkingDir,
    Exec,
    Panic,
    IdMap,
    Keyring,
    Console,
    Hook,
    Scheduling,
    Label,
    Init,
}

impl Step {
    const ALL: [Step; 32] = [
        Step::Clone,
        Step::Pipe,
        Step::Namespace,
        Step::Cgroup,
        Step::OomScore,
        Step::Rootfs,
        Step::Overlay,
        Step::Proc,
        Step::Sys,
        Step::Dev,
        Step::Mount,
        Step::Network,
        Step::Sysctl,
        Step::Pivot,
        Step::Mask,
        Step::Hostname,
        Step::Rlimit,
        Step::Stdio,
        Step::User,
        Step::Capabilities,
        Step::NoNewPrivs,
        Step::Seccomp,
        Step::WorkingDir,
        Step::Exec,
        Step::Panic,
        Step::IdMap,
        Step::Keyring,
        Step::Console,
        Step::Hook,
        Step::Scheduling,
        Step::Label,
        Step::Init,
    ];

    /// What was being done, for people.
    pub fn name(self) -> &'static str {
        match self {
            Step::Clone => "create the process",
            Step::Pipe => "talk to the child",
            Step::Namespace => "enter a namespace",
            Step::Cgroup => "enter the cgroup",
            Step::OomScore => "set oom_score_adj",
            Step::Rootfs => "open the root file system",
            Step::Overlay => "mount the overlay",
            Step::Proc => "mount /proc",
            Step::Sys => "mount /sys",
            Step::Dev => "make /dev",
            Step::Mount => "mount a volume",
            Step::Network => "set up the network",
            Step::Sysctl => "set a sysctl",
            Step::Pivot => "change the root",
            Step::Mask => "hide a path",
            Step::Hostname => "set the host name",
            Step::Rlimit => "set a resource limit",
            Step::Stdio => "connect standard input and output",
            Step::User => "become the user",
            Step::Capabilities => "set capabilities",
            Step::NoNewPrivs => "set no_new_privs",
            Step::Seccomp => "load the seccomp filter",
            Step::WorkingDir => "change to the working directory",
            Step::Exec => "execute the program",
            Step::Panic => "run the child (it panicked)",
            Step::IdMap => "map users and groups",
            Step::Keyring => "make a session keyring",
            Step::Console => "make the terminal",
            Step::Hook => "run a hook",
            Step::Scheduling => "set scheduling, priority or personality",
            Step::Label => "set the security label",
            Step::Init => "start the init",
        }
    }
}

/// One failed step: which, on what (a path, a name), and the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {}: {subject}{}", step.name(), describe(*errno))]
pub struct Failure {
    pub step: Step,
    /// The path, name or sentence that the step was about; at most [`Failure::MAX_SUBJECT`] bytes survive the pipe.
    pub subject: String,
    /// 0 when the reason is in `subject` and no system call failed.
    pub errno: i32,
}

fn describe(errno: i32) -> String {
    if errno == 0 {
        return String::new();
    }
    format!(": {}", io::Error::from_raw_os_error(errno))
}

impl Failure {
    /// A pipe write of up to PIPE_BUF (4096) bytes is atomic; this stays far below it.
    pub const MAX_SUBJECT: usize = 1024;

    /// A step that was refused by rules of the caller or of ours, with the reason in words.
    pub fn refused(step: Step, reason: impl Into<String>) -> Failure {
        Failure {
            step,
            subject: reason.into(),
            errno: 0,
        }
    }

    /// A step that the kernel refused.
    pub fn new(step: Step, subject: impl Into<String>, errno: i32) -> Failure {
        Failure {
            step,
            subject: subject.into(),
            errno,
        }
    }

    /// `[step u8][errno i32 LE][subject utf-8]`
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut end = self.subject.len().min(Self::MAX_SUBJECT);
        while !self.subject.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = vec![self.step as u8];
        bytes.extend_from_slice(&self.errno.to_le_bytes());
        bytes.extend_from_slice(&self.subject.as_bytes()[..end]);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Failure {
        let (Some((&step, rest)), Some(errno)) = (bytes.split_first(), bytes.get(1..5)) else {
            return Failure::refused(Step::Pipe, "the child's report was cut short");
        };
        let Some(step) = Step::ALL.into_iter().find(|known| *known as u8 == step) else {
            return Failure::refused(
                Step::Pipe,
                format!("the child reported an unknown step {step}"),
            );
        };
        let errno = i32::from_le_bytes([errno[0], errno[1], errno[2], errno[3]]);
        Failure::new(step, String::from_utf8_lossy(&rest[4..]), errno)
    }
}

/// Turns a kernel's answer into a [`Failure`] of a step.
pub(crate) trait At<T> {
    fn at(self, step: Step, subject: impl AsRef<std::path::Path>) -> Result<T, Failure>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: Step, subject: impl AsRef<std::path::Path>) -> Result<T, Failure> {
        self.map_err(|errno| {
            Failure::new(step, subject.as_ref().display().to_string(), errno as i32)
        })
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: Step, subject: impl AsRef<std::path::Path>) -> Result<T, Failure> {
        self.map_err(|error| {
            let subject = subject.as_ref().display().to_string();
            match error.raw_os_error() {
                Some(errno) => Failure::new(step, subject, errno),
                None => Failure::refused(step, format!("{subject}: {error}")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        for step in Step::ALL {
            let sent = Failure::new(step, "/bin/nothing", libc::ENOENT);
            assert_eq!(Failure::decode(&sent.encode()), sent);
        }
    }

    #[test]
    fn a_long_subject_is_cut_at_a_character() {
        let sent = Failure::refused(Step::Network, "é".repeat(2000) + "x");
        let got = Failure::decode(&sent.encode());
        assert_eq!(got.subject.len(), Failure::MAX_SUBJECT);
        assert!(got.subject.chars().all(|c| c == 'é'));
    }

    #[test]
    fn garbage_is_a_failure_too() {
        assert_eq!(Failure::decode(&[]).step, Step::Pipe);
        assert_eq!(Failure::decode(&[1, 2]).step, Step::Pipe);
        assert_eq!(Failure::decode(&[200, 0, 0, 0, 0]).step, Step::Pipe);
    }

    #[test]
    fn the_text_names_step_subject_and_reason() {
        let text = Failure::new(Step::Exec, "/bin/nothing", libc::ENOENT).to_string();
        assert_eq!(
            text,
            "cannot execute the program: /bin/nothing: No such file or directory (os error 2)"
        );
    }
}
