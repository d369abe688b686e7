//! The resolver of one network: a child of an unprivileged user, without files or capabilities, that has a network's
//! questions and their answers to read so that root has not. It is given two bound sockets and a stream on which it is told
//! who is on the network, and ends with that stream.

use coracle_board_support::memory;
use coracle_network::NetworkConfig;
use coracle_network::resolver::{Told, serve};
use coracle_runtime::seccomp::{Action, Argument, Compare, Rule};
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{Child, JailSpec, NetNs, SeccompProgram, spawn_jailed};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use words::Reader;

mod words;

pub use words::{Word, Words};

/// A user of its own: systemd's table of user ids leaves 65520 to 65533 to nobody, and probes have 65534.
pub const RESOLVER_ID: u32 = 65_533;
const DNS: u16 = 53;
/// Address space in bytes: the supervisor's own few MiB, and 128 queries with 16 connections.
const MEMORY: u64 = 256 << 20;
/// Descriptors: a socket for each of 128 queries, two for each of 16 connections, and four.
const FILES: u64 = 192;
/// Bytes of a zone that still fit a socket's buffer as Linux makes it (net.core.wmem_default).
const ZONE_BYTES: usize = 160 * 1024;

/// A resolver that runs.
#[derive(Debug)]
pub struct Resolver {
    child: Child,
    control: UnixStream,
    _reader: Reader,
}

/// Starts one on the network's gateway. What it says goes to `words`.
///
/// # Errors
/// In words; nothing of it remains.
pub fn start(network: &NetworkConfig, empty_root: &Path, words: Words) -> Result<Resolver, String> {
    let at = (network.gateway(), DNS);
    let taken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "port {DNS} of {} is taken: a name server of the board listens on every address; let it leave {} out, \
             with dnsmasq by bind-dynamic and except-interface={}",
            at.0, network.bridge, network.bridge
        ),
        _ => format!("port {DNS} of {}: {error}", at.0),
    };
    let udp = UdpSocket::bind(at).map_err(taken)?;
    let tcp = TcpListener::bind(at).map_err(taken)?;
    let text = |error: &dyn std::error::Error| error.to_string();
    let (control, its_end) = UnixStream::pair().map_err(|e| text(&e))?;
    control.set_nonblocking(true).map_err(|e| text(&e))?;
    let listening = control.try_clone().map_err(|e| text(&e))?;
    let listening = tokio::net::UnixStream::from_std(listening).map_err(|e| text(&e))?;
    let seccomp = questions_only().map_err(|e| text(&e))?;
    let jail = JailSpec {
        root_readonly: true,
        files: vec![udp.into(), tcp.into(), its_end.into()],
        // Where the board's own resolvers are reached from.
        netns: NetNs::Host,
        uid: RESOLVER_ID,
        gid: RESOLVER_ID,
        rlimits: limits(),
        oom_score_adj: Some(500),
        seccomp: Some(&seccomp),
        ..JailSpec::new(empty_root)
    };
    let clients = network.subnet;
    let child = spawn_jailed(jail, move |mut fds| {
        let (Some(control), Some(tcp), Some(udp)) =
            (fds.files.pop(), fds.files.pop(), fds.files.pop())
        else {
            return 1;
        };
        // It begins in the middle of a deployment, with a copy of what that takes.
        memory::rest();
        u8::from(serve(clients, udp.into(), tcp.into(), control.into()).is_err())
    })
    .map_err(|e| text(&e))?;
    let reader = Reader::of(listening, child.pid, words);
    Ok(Resolver {
        child,
        control,
        _reader: reader,
    })
}

fn limits() -> Vec<Rlimit> {
    let all = [
        (libc::RLIMIT_AS, MEMORY),
        (libc::RLIMIT_NOFILE, FILES),
        (libc::RLIMIT_NPROC, 0),
    ];
    all.map(|(resource, most)| Rlimit {
        resource: resource as _,
        soft: most,
        hard: most,
    })
    .to_vec()
}

impl Resolver {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Tells it all that it is to know, or what it may tell; whether it was told. Never waits: one that does not listen, or
    /// has more to know than fits, is ended: what it knew before is not true any more.
    pub fn tell(&mut self, told: &Told) -> bool {
        let line = match line_of(told) {
            Ok(line) => line,
            Err(bytes) => {
                tracing::error!(
                    pid = self.pid(),
                    bytes,
                    most = ZONE_BYTES,
                    "too many names on a network for its resolver, which is ended: fewer apps, aliases or egress names fit"
                );
                self.kill();
                return false;
            }
        };
        if let Err(error) = self.control.write_all(&line) {
            tracing::warn!(pid = self.pid(), %error, "a resolver does not listen and is ended");
            self.kill();
            return false;
        }
        true
    }

    /// Ends it, and is back when its port is free.
    pub fn end(self) {
        self.kill();
        let _ = self.child.wait();
    }

    /// Its end comes as any child's.
    pub fn kill(&self) {
        let _ = self.child.kill();
    }
}

/// The line, or its bytes where it is too long.
fn line_of(told: &Told) -> Result<Vec<u8>, usize> {
    let mut line = serde_json::to_vec(told).unwrap_or_default();
    line.push(b'\n');
    match line.len() {
        0..=ZONE_BYTES => Ok(line),
        bytes => Err(bytes),
    }
}

/// Sockets of the internet and what is open already; no file, no program, no process, nothing that reaches into the kernel.
fn questions_only() -> Result<SeccompProgram, coracle_runtime::seccomp::SeccompError> {
    const DENIED: [libc::c_long; 30] = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_open_by_handle_at,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_memfd_create,
        libc::SYS_mknodat,
    ];
    let rule = |calls: &[libc::c_long], arguments, action| Rule {
        calls: calls.iter().map(|call| *call as u32).collect(),
        arguments,
        action,
    };
    let family = |family: libc::c_int| Argument {
        index: 0,
        compare: Compare::Masked {
            mask: 0xffff_ffff,
            value: family as u64,
        },
    };
    let internet = |of| rule(&[libc::SYS_socket], vec![family(of)], Action::Allow);
    let rules = [
        rule(&DENIED, Vec::new(), Action::Errno(libc::EPERM as u16)),
        internet(libc::AF_INET),
        internet(libc::AF_INET6),
    ];
    SeccompProgram::from_rules(&rules, Action::Allow, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_network::resolver::Zone;

    #[test]
    fn a_zone_that_is_too_long_is_not_told() {
        let mut zone = Zone::new(std::iter::empty(), &[]);
        assert!(line_of(&Told::Zone(zone.clone())).is_ok());
        let name = "a".repeat(200);
        for client in 0..16u8 {
            zone.allow_only([10, 0, 0, client].into(), &[name.as_str(); 64]);
        }
        let bytes = line_of(&Told::Zone(zone)).unwrap_err();
        assert!(bytes > ZONE_BYTES, "{bytes}");
    }
}
