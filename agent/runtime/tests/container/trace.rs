//! Looking into processes of the host by ptrace and its relatives, by a container that even sees their numbers.

use std::process::Command;

use coracle_runtime::LaunchSpec;
use coracle_runtime::namespaces::{Namespace, UserNs, try_range};
use nix::errno::Errno;

use crate::support::{Place, launch};
use crate::users;

/// Set, with the number of a process to look into, for this program in a container.
pub const INSIDE: &str = "CORACLE_TEST_TRACES";

/// In the container: what the kernel says to each way.
pub fn inside(victim: &str) {
    let victim: i32 = victim.parse().expect("a number");
    let mut byte = 0_u8;
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // Any address will do: the right is asked for first.
    let remote = libc::iovec {
        iov_base: std::ptr::dangling_mut(),
        iov_len: 1,
    };
    let ask = |request: libc::c_uint| {
        #[allow(unsafe_code, reason = "nix has ptrace for tests of the host only")]
        // SAFETY: attaching takes numbers only.
        Errno::result(unsafe { libc::ptrace(request as _, victim, 0, 0) }).map(drop)
    };
    #[allow(
        unsafe_code,
        reason = "nix has it behind a feature that nobody else wants"
    )]
    // SAFETY: both are one byte, and `byte` outlives the calls.
    let (read, written) = unsafe {
        (
            libc::process_vm_readv(victim, &raw const local, 1, &raw const remote, 1, 0),
            libc::process_vm_writev(victim, &raw const local, 1, &raw const remote, 1, 0),
        )
    };
    for (name, said) in [
        ("attach", ask(libc::PTRACE_ATTACH)),
        ("seize", ask(libc::PTRACE_SEIZE)),
        ("read", Errno::result(read).map(drop)),
        ("write", Errno::result(written).map(drop)),
    ] {
        let said = said.map_or_else(|errno| format!("{errno:?}"), |()| "allowed".to_owned());
        println!("{name} {said}");
    }
}

fn told(place: &Place, victim: u32, change: impl Fn(&mut LaunchSpec<'_>)) -> String {
    place.bring_own_program();
    let mut spec = place.spec("");
    spec.args = vec!["/bin/own".into()];
    spec.env = vec![format!("{INSIDE}={victim}")];
    change(&mut spec);
    launch(spec).expect("a launch").output
}

pub fn processes_of_the_host_are_not_looked_into() {
    let mut victim = Command::new("/bin/busybox")
        .args(["sleep", "60"])
        .spawn()
        .expect("a victim");
    let all = |errno: &str| {
        let lines = ["attach", "seize", "read", "write"].map(|way| format!("{way} {errno}\n"));
        lines.concat()
    };
    let place = Place::layered();
    // Its number means nothing inside.
    assert_eq!(told(&place, victim.id(), |_| {}), all("ESRCH"));
    // It does with the host's processes in view: root of the host's users, but not with all of its rights; without a filter.
    let in_view = |spec: &mut LaunchSpec<'_>| {
        spec.namespaces.pid = Namespace::Host;
        spec.seccomp = None;
    };
    assert_eq!(told(&place, victim.id(), in_view), all("EPERM"));
    if try_range(&place.path(""), false, users::FIRST).is_ok() {
        let stranger = |spec: &mut LaunchSpec<'_>| {
            in_view(spec);
            spec.namespaces.user = UserNs::Range(users::FIRST);
        };
        assert_eq!(told(&place, victim.id(), stranger), all("EPERM"));
    }
    victim.kill().expect("its end");
    victim.wait().expect("its end");
}
