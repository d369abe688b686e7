//! The probes themselves: children without rights. An app that answers with poison reaches a process of
//! an unprivileged user, without files, in the app's own network, and not the supervisor.

use super::exec;
use crate::apps::plan::Plan;
use coracle_protocol::release::Probe;
use coracle_runtime::{Cgroup, Child, JailSpec, NetNs, SeccompProgram, spawn_jailed};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// `nobody`.
const PROBE_ID: u32 = 65_534;

/// Bytes of an answer's first line that are read.
const LINE_BYTES: usize = 1024;

/// Bytes of a probe's report.
const REPORT_BYTES: u64 = 512;

/// The app that is asked.
#[derive(Debug)]
pub struct Target<'a> {
    /// What it is.
    pub plan: &'a Plan,
    /// Its first process.
    pub running: &'a coracle_runtime::launch::Running,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
}

/// A probe that runs.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub child: Child,
    /// When it has taken too long.
    pub deadline: Instant,
    report: File,
    what: String,
    timeout: Duration,
}

/// Starts a probe.
///
/// # Errors
/// In words; it counts as a failed probe.
pub fn start(
    probe: &Probe,
    timeout: Duration,
    target: &Target<'_>,
    empty_root: &Path,
) -> Result<Running, String> {
    // The parent's own limit comes a little later, so that the child can say what happened.
    let deadline = Instant::now() + timeout + Duration::from_millis(250);
    let (child, report, what) = match probe {
        Probe::Exec { argv } => {
            let (child, report) = exec::start(argv, timeout, target)?;
            (child, report, format!("`{}`", argv.join(" ")))
        }
        Probe::Http { port, path } => {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: coracle\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            );
            let ask = move |stream: TcpStream| http(stream, &request);
            let (child, report) = connect(*port, timeout, target, empty_root, ask)?;
            (child, report, format!("GET :{port}{path}"))
        }
        Probe::Tcp { port } => {
            let (child, report) = connect(*port, timeout, target, empty_root, |_| Ok(()))?;
            (child, report, format!("port {port}"))
        }
    };
    Ok(Running {
        child,
        deadline,
        report,
        what,
        timeout,
    })
}

impl Running {
    /// What it says, now that it has ended.
    pub fn result(self, success: bool, code: i32) -> Result<(), String> {
        if success {
            return Ok(());
        }
        let mut report = self.report;
        let mut bytes = Vec::new();
        // A report that cannot be read leaves the exit code to tell.
        let _ = report
            .rewind()
            .and_then(|()| report.take(REPORT_BYTES).read_to_end(&mut bytes));
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if Instant::now() >= self.deadline {
            text = format!("no answer within {:?}", self.timeout);
        } else if text.is_empty() {
            text = format!("exited with {code}");
        }
        Err(format!("{}: {text}", self.what))
    }
}

fn connect(
    port: u16,
    timeout: Duration,
    target: &Target<'_>,
    empty_root: &Path,
    ask: impl FnOnce(TcpStream) -> io::Result<()>,
) -> Result<(Child, File), String> {
    let (report, of_child) = report_file()?;
    let seccomp = no_programs()?;
    let jail = JailSpec {
        root_readonly: true,
        files: vec![of_child],
        netns: netns(target)?,
        uid: PROBE_ID,
        gid: PROBE_ID,
        oom_score_adj: Some(500),
        seccomp: Some(&seccomp),
        ..JailSpec::new(empty_root)
    };
    let child = spawn_jailed(jail, move |mut fds| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let asked = TcpStream::connect_timeout(&address, timeout).and_then(|stream| {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            ask(stream)
        });
        match asked {
            Ok(()) => 0,
            Err(error) => {
                if let Some(report) = fds.files.pop() {
                    // Without a report the exit code tells.
                    let _ = File::from(report).write_all(error.to_string().as_bytes());
                }
                1
            }
        }
    })
    .map_err(|e| e.to_string())?;
    Ok((child, report))
}

/// Where a child says what went wrong: the supervisor's descriptor and the child's.
pub(crate) fn report_file() -> Result<(File, OwnedFd), String> {
    let report = rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| e.to_string())?;
    let of_child = report
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| e.to_string())?;
    Ok((File::from(report), of_child))
}

/// The app's network, by its process: the board's own for an app that has that.
fn netns(target: &Target<'_>) -> Result<NetNs, String> {
    let path = format!("/proc/{}/ns/net", target.running.pid);
    let file = File::open(&path).map_err(|e| format!("{path}: {e}"))?;
    Ok(NetNs::Join(OwnedFd::from(file)))
}

/// No new program, no namespaces, no tracing, no signals to others: it connects, reads and ends.
fn no_programs() -> Result<SeccompProgram, String> {
    const DENIED: [libc::c_long; 12] = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_mount,
        libc::SYS_bpf,
        libc::SYS_kill,
    ];
    SeccompProgram::deny(&DENIED, libc::EPERM).map_err(|e| e.to_string())
}

/// 200 to 399 is well (as Kubernetes reads it); the rest of the answer is not read.
fn http(mut stream: TcpStream, request: &str) -> io::Result<()> {
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while !line.contains(&b'\n') && line.len() < LINE_BYTES {
        match stream.read(&mut buffer)? {
            0 => break,
            count => line.extend_from_slice(&buffer[..count]),
        }
    }
    match status(&line) {
        Some(status) if (200..400).contains(&status) => Ok(()),
        Some(status) => Err(io::Error::other(format!("answered {status}"))),
        None => Err(io::Error::other("the answer is not HTTP")),
    }
}

/// The status of `HTTP/1.x nnn …`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.get(..12)?).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.get(2..5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503 x"), Some(503));
        for bad in [
            &b""[..],
            b"HTTP/2 200 OK\r\n",
            b"SSH-2.0-OpenSSH_9",
            b"HTTP/1.1 \xff\xff\xff",
        ] {
            assert_eq!(status(bad), None);
        }
    }

    #[test]
    fn an_answer_decides() {
        let answer = |text: &'static str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]);
                stream.write_all(text.as_bytes()).unwrap();
            });
            let result = http(
                TcpStream::connect(address).unwrap(),
                "GET / HTTP/1.1\r\n\r\n",
            );
            server.join().unwrap();
            result.map_err(|e| e.to_string())
        };
        assert_eq!(answer("HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(
            answer("HTTP/1.1 500 Oh\r\n\r\n"),
            Err("answered 500".into())
        );
        assert_eq!(answer("hello"), Err("the answer is not HTTP".into()));
        assert!(answer("").is_err());
    }
}
