//! The resolver of one network: a child of an unprivileged user, without files or capabilities, that has a network's
//! questions and their answers to read so that root has not. It is given two bound sockets and a stream on which it is told
//! who is on the network, and ends with that stream.

use coracle_network::NetworkConfig;
use coracle_network::resolver::{MAX_SAID_BYTES, Said, Told, serve};
use coracle_runtime::seccomp::{Action, Argument, Compare, Rule};
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{Child, JailSpec, NetNs, SeccompProgram, spawn_jailed};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A user of its own: systemd's table of user ids leaves 65520 to 65533 to nobody, and probes have 65534.
pub const RESOLVER_ID: u32 = 65_533;
const DNS: u16 = 53;
/// Address space in bytes: the supervisor's own few MiB, and 128 queries with 16 connections.
const MEMORY: u64 = 256 << 20;
/// Descriptors: a socket for each of 128 queries, two for each of 16 connections, and four.
const FILES: u64 = 192;
/// Bytes of a zone that still fit a socket's buffer as Linux makes it (net.core.wmem_default).
const ZONE_BYTES: usize = 160 * 1024;

/// Lines of a resolver that the supervisor reads at once, and how long it takes before each further one: each can mean a
/// word with the kernel.
const BURST: u32 = 64;
const EACH: Duration = Duration::from_millis(10);

/// A resolver that runs.
#[derive(Debug)]
pub struct Resolver {
    child: Child,
    control: UnixStream,
    _reader: Reader,
}

/// What a resolver says.
#[derive(Debug)]
pub struct Word {
    /// Its process id.
    pub pid: i32,
    /// What it says; none: it has said something else, and is not to go on.
    pub said: Option<Said>,
}

/// Ends with the resolver that it listens to.
#[derive(Debug)]
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts one on the network's gateway. What it says goes to `words`.
///
/// # Errors
/// In words; nothing of it remains.
pub fn start(
    network: &NetworkConfig,
    empty_root: &Path,
    words: mpsc::Sender<Word>,
) -> Result<Resolver, String> {
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
        u8::from(serve(clients, udp.into(), tcp.into(), control.into()).is_err())
    })
    .map_err(|e| text(&e))?;
    let reader = Reader(tokio::spawn(listen(listening, child.pid, words)));
    Ok(Resolver {
        child,
        control,
        _reader: reader,
    })
}

/// Reads line by line, none longer than one may be, and no faster than it is good for the supervisor.
async fn listen(stream: tokio::net::UnixStream, pid: i32, words: mpsc::Sender<Word>) {
    let mut reader = BufReader::with_capacity(MAX_SAID_BYTES, stream);
    let (mut left, mut since) = (BURST, Instant::now());
    loop {
        let mut line = Vec::new();
        let most = MAX_SAID_BYTES as u64 + 1;
        match (&mut reader).take(most).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let said = match line.last() {
            Some(b'\n') => serde_json::from_slice(&line).ok(),
            _ => None,
        };
        let more = said.is_some();
        if words.send(Word { pid, said }).await.is_err() || !more {
            return;
        }
        let earned = since.elapsed().as_millis() / EACH.as_millis();
        if earned > 0 {
            left = left
                .saturating_add(earned.min(BURST.into()) as u32)
                .min(BURST);
            since = Instant::now();
        }
        match left {
            0 => {
                tokio::time::sleep(EACH).await;
                since = Instant::now();
            }
            _ => left -= 1,
        }
    }
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

    /// Tells it all that it is to know, or what it may tell. Never waits: one that does not listen is ended, and a new one
    /// told.
    pub fn tell(&mut self, told: &Told) {
        let mut line = serde_json::to_vec(told).unwrap_or_default();
        line.push(b'\n');
        if line.len() > ZONE_BYTES {
            let bytes = line.len();
            tracing::error!(
                bytes,
                "too many names for a resolver; it keeps those that it knows"
            );
            return;
        }
        if let Err(error) = self.control.write_all(&line) {
            tracing::warn!(pid = self.pid(), %error, "a resolver does not listen and is ended");
            self.kill();
        }
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
    use std::net::Ipv4Addr;

    /// Words that come of what a resolver writes, and the time that it takes.
    fn heard(bytes: Vec<u8>) -> (Vec<Option<Said>>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut its_end, ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let stream = tokio::net::UnixStream::from_std(ours).unwrap();
            let writer = std::thread::spawn(move || {
                // Nobody reads what comes after nonsense.
                let _ = its_end.write_all(&bytes);
            });
            let (words, mut all) = mpsc::channel(8);
            let begun = Instant::now();
            let listening = tokio::spawn(listen(stream, 7, words));
            let mut said = Vec::new();
            while let Some(word) = all.recv().await {
                assert_eq!(word.pid, 7);
                said.push(word.said);
            }
            listening.await.unwrap();
            writer.join().unwrap();
            (said, begun.elapsed())
        })
    }

    fn line(name: &str) -> Vec<u8> {
        let said = Said::Forbidden {
            client: Ipv4Addr::LOCALHOST,
            name: name.to_owned(),
        };
        let mut line = serde_json::to_vec(&said).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn a_resolver_is_heard_line_by_line_until_it_talks_nonsense() {
        let (said, _) = heard([line("a"), line("b")].concat());
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(Option::is_some));
        let long = line(&"x".repeat(MAX_SAID_BYTES));
        for nonsense in [
            b"\n".to_vec(),
            b"{}\n".to_vec(),
            b"\xff\n".to_vec(),
            b"{\"found\":{\"id\":-1}}\n".to_vec(),
            long.clone(),
            long[..MAX_SAID_BYTES + 9].to_vec(),
            b"cut short".to_vec(),
        ] {
            let (said, _) = heard([line("a"), nonsense.clone(), line("b")].concat());
            let text = String::from_utf8_lossy(&nonsense[..nonsense.len().min(40)]).into_owned();
            assert_eq!(said.len(), 2, "{text}");
            assert!(said[0].is_some() && said[1].is_none(), "{text}");
        }
    }

    #[test]
    fn a_resolver_that_talks_much_is_heard_at_a_pace() {
        let (said, took) = heard(line("a").repeat(BURST as usize + 50));
        assert_eq!(said.len(), BURST as usize + 50);
        assert!(took >= EACH * 40, "{took:?}");
    }
}
