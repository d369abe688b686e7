//! Abstract sockets of the host, by a container that has the host's network.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use coracle_runtime::spec::{NetNs, ProcessSettings};
use coracle_runtime::{ExecSpec, Exit, LaunchSpec, exec_with, prepare, reap};

use crate::support::{Place, launch, output_pipe, read};

/// Set, with what the host's sockets are called, for this program in a container.
pub const INSIDE: &str = "CORACLE_TEST_CONNECTS";
const KINDS: [&str; 2] = ["stream", "datagram"];

fn address(name: &str, kind: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("{name}-{kind}")).expect("an address")
}

/// In the container: whether the host's are reached, and one of its own, also by its child; what processes are looked into.
pub fn inside(name: &str) {
    let [stream, datagram] = KINDS.map(|kind| address(name, kind));
    let own = address(&format!("{name}-{}", std::process::id()), "own");
    let _listener = UnixListener::bind_addr(&own).expect("a socket of its own");
    let said = |what: &str, result: io::Result<()>| match result {
        Ok(()) => println!("{what} reached"),
        Err(error) => println!("{what} {:?}", error.kind()),
    };
    said("stream", UnixStream::connect_addr(&stream).map(drop));
    let socket = UnixDatagram::unbound().expect("a socket");
    let sent = socket.send_to_addr(b"x", &datagram).map(drop);
    said("datagram", sent);
    said("own", UnixStream::connect_addr(&own).map(drop));
    said("first", fs::read_link("/proc/1/exe").map(drop));
}

fn lines(host: &str) -> String {
    format!("stream {host}\ndatagram {host}\nown reached\nfirst reached\n")
}

pub fn a_container_in_the_hosts_network_keeps_to_its_own_sockets() {
    // The same number on every architecture: landlock_create_ruleset, LANDLOCK_CREATE_RULESET_VERSION.
    #[allow(unsafe_code, reason = "no crate here knows this call")]
    // SAFETY: with this flag the kernel reads nothing.
    let version = unsafe { libc::syscall(444, std::ptr::null::<u8>(), 0, 1) };
    let name = format!("coracle-test-{}", std::process::id());
    let [stream, datagram] = KINDS.map(|kind| address(&name, kind));
    let _listener = UnixListener::bind_addr(&stream).expect("a socket");
    let _receiver = UnixDatagram::bind_addr(&datagram).expect("a socket");
    let place = Place::layered();
    place.bring_own_program();
    let spec = |own_sockets| {
        let mut spec = place.spec("");
        spec.args = vec!["/bin/own".into()];
        spec.env = vec![format!("{INSIDE}={name}")];
        spec.netns = NetNs::Host;
        spec.hostname = None;
        spec.settings.own_sockets = own_sockets;
        spec
    };
    let told = |spec: LaunchSpec<'_>| launch(spec).expect("a launch").output;
    assert_eq!(told(spec(false)), lines("reached"));
    let kept = match version >= 6 {
        true => "PermissionDenied",
        false => "reached",
    };
    assert_eq!(told(spec(true)), lines(kept));
    let mut unconfined = spec(true);
    unconfined.seccomp = None;
    unconfined.no_new_privs = false;
    assert_eq!(told(unconfined), lines(kept));

    let mut first = spec(true);
    first.args = ["/bin/sh", "-c", "exec sleep 60"].map(Into::into).to_vec();
    let running = prepare(&first, &|| Ok(())).unwrap().start().unwrap();
    let (output, stdio) = output_pipe();
    let args = vec!["/bin/own".into()];
    let mut more = ExecSpec::like(&first, running.pid, running.pidfd.as_fd(), args, stdio);
    more.env = spec(true).env;
    let settings = ProcessSettings {
        own_sockets: true,
        ..ProcessSettings::default()
    };
    let executed = exec_with(&more, &settings).unwrap();
    drop(more);
    // It is a stranger to the container's first process.
    let expected = lines(kept).replace("first reached", &format!("first {kept}"));
    assert_eq!(read(output), expected);
    assert_eq!(reap::wait(executed.pid), Some(Exit::Code(0)));
    place.stop(running);
}
