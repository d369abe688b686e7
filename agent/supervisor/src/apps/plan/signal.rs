//! Names of signals.

/// Of 1 to 31, as they are on x86, ARM and RISC-V (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `SIGTERM`, `term` or a number, as image-spec `config.md` and Docker have it; `RTMIN+3`: how systemd in a container is
/// stopped.
pub fn number(name: &str) -> Option<i32> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match NAMES.iter().position(|known| *known == name) {
        Some(at) => i32::try_from(at).ok()? + 1,
        None => match name.strip_prefix("RTMIN+") {
            Some(offset) => libc::SIGRTMIN().checked_add(offset.parse().ok()?)?,
            None => name.parse().ok()?,
        },
    };
    (1..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, known) in [
            ("SIGINT", libc::SIGINT),
            ("QUIT", libc::SIGQUIT),
            ("hup", libc::SIGHUP),
            ("sigusr2", libc::SIGUSR2),
            ("CONT", libc::SIGCONT),
            ("SIGSTOP", libc::SIGSTOP),
            ("WINCH", libc::SIGWINCH),
            ("SYS", libc::SIGSYS),
            ("9", libc::SIGKILL),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
        ] {
            assert_eq!(number(name), Some(known), "{name}");
        }
        for bad in ["", "0", "65", "-1", "SIGNOPE", "SIG", "RTMIN+2147483647"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
