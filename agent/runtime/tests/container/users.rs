//! A container whose root is nobody on the host, and whose files keep the ids of inside on disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use coracle_runtime::namespaces::{IdRange, Namespace, UserNs, try_range};
use coracle_runtime::{ExecSpec, LaunchSpec, Limits, Mount, NetNs, Step, exec_in, prepare, reap};

use crate::support::{Output, Place, launch, not_here, output_pipe, read};

pub const FIRST: IdRange = IdRange {
    first: 0x7000_0000,
    count: 65_536,
};
const SECOND: IdRange = IdRange {
    first: 0x7001_0000,
    count: 65_536,
};

/// Where the kernel cannot do it, that must be what a launch says as well.
pub fn place() -> Place {
    let place = able(Place::layered());
    match try_range(&place.path(""), false, FIRST) {
        Ok(()) => place,
        Err(failure) => {
            let refused = launch(spec(&place, FIRST, "true"));
            assert_eq!(refused.err().expect("a refusal").step, failure.step);
            not_here("this kernel has no id-mapped layers");
        }
    }
}

/// A board's root is in memory, where owners can be mapped since Linux 6.3 only.
fn able(place: Place) -> Place {
    match try_range(&place.path(""), false, FIRST) {
        Ok(()) => place,
        Err(_) => place.on_ext4(),
    }
}

pub fn spec<'a>(place: &'a Place, range: IdRange, script: &str) -> LaunchSpec<'a> {
    let mut spec = place.spec(script);
    spec.namespaces.user = UserNs::Range(range);
    spec
}

fn shell(place: &Place, range: IdRange, script: &str) -> String {
    launch(spec(place, range, script)).expect("a launch").output
}

fn owner(path: &Path) -> (u32, u32) {
    let is = path.symlink_metadata().expect("a file");
    (is.uid(), is.gid())
}

/// Real, effective, saved and file user of a process, seen from here.
fn users_of(pid: i32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let numbers = line.expect("its users").split_whitespace();
    numbers.map(|n| n.parse().expect("a number")).collect()
}

pub fn root_inside_is_nobody_outside() {
    let place = place();
    let (volume, host) = (place.path("volume"), place.path("host"));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&host).unwrap();
    fs::write(host.join("open"), "read me\n").unwrap();
    fs::write(host.join("secret"), "secret\n").unwrap();
    fs::set_permissions(host.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut spec = spec(
        &place,
        FIRST,
        "id -u; cat /proc/self/uid_map; touch /made /data/made; chown 33:34 /data/made; mkdir /data/deep; \
         cat /host/open; cat /host/secret; echo x > /host/open; touch /host/new; mknod /x c 1 3; \
         chown 0 /host/open; rm /host/open; stat -c '%u %g' /dev/null /dev /dev/shm /dev/pts/ptmx / /made /run /cwd; \
         echo x > /dev/null && echo null; ls /sys/class/net; mount -t tmpfs x /tmp",
    );
    spec.cwd = "/cwd".into();
    let mut mapped = Mount::bind(&volume, "/data", false);
    mapped.owners_of_container = true;
    spec.mounts = vec![
        mapped,
        Mount::bind(&host, "/host", false),
        Mount::tmpfs("/run", Some(1 << 20)),
    ];
    let output = launch(spec).unwrap().output;
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("0"), "{output}");
    let map: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", "1879048192", "65536"]);
    assert!(output.contains("read me\n"), "{output}");
    assert!(!output.contains("secret\n"), "{output}");
    // cat, echo, touch, chown and rm of the host's; mknod and mount of anything.
    assert_eq!(output.matches("Permission denied").count(), 4, "{output}");
    assert_eq!(
        output.matches("Operation not permitted").count(),
        2,
        "{output}"
    );
    assert!(output.contains("permission denied"), "mount: {output}");
    // All of them are its root's, and terminals belong to the usual group.
    assert_eq!(output.matches("\n0 0").count(), 8, "{output}");
    assert!(output.contains("\nnull\nlo\n"), "{output}");

    assert_eq!(fs::read_to_string(host.join("open")).unwrap(), "read me\n");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 2);
    assert_eq!(owner(&volume.join("made")), (33, 34));
    assert_eq!(owner(&volume.join("deep")), (0, 0));
    assert_eq!(owner(&place.path("layer/upper/made")), (0, 0));
    assert_eq!(owner(&place.path("layer/upper/cwd")), (0, 0));

    let (running, mut output) = start(&place, FIRST, "echo up; exec sleep 60");
    assert_eq!(output.line(), "up\n");
    assert_eq!(users_of(running.pid), [FIRST.first; 4]);
    let seen = fs::metadata(format!("/proc/{}", running.pid))
        .unwrap()
        .uid();
    assert_eq!(seen, FIRST.first, "it cannot be looked at from inside");
    place.stop(running);
}

fn start(
    place: &Place,
    range: IdRange,
    script: &str,
) -> (coracle_runtime::launch::Running, Output) {
    let (output, stdio) = output_pipe();
    let mut spec = spec(place, range, script);
    spec.stdio = stdio;
    let running = prepare(&spec, &|| Ok(())).unwrap().start().unwrap();
    (running, Output::of(output))
}

pub fn a_layer_is_taken_over_both_ways() {
    let place = place();
    let image = place.path("image");
    fs::create_dir(image.join("home")).unwrap();
    fs::write(image.join("home/mine"), "old\n").unwrap();
    fs::write(image.join("home/gone"), "").unwrap();
    fs::create_dir(image.join("home/folder")).unwrap();
    fs::write(image.join("home/folder/hidden"), "").unwrap();
    for name in ["home", "home/mine"] {
        std::os::unix::fs::chown(image.join(name), Some(1000), Some(1000)).unwrap();
    }
    // Without a map, as every layer was once written.
    let before = place.shell(
        "rm /home/gone; rm -r /home/folder; mkdir /home/folder; echo kept > /home/kept; chown 1000:1000 /home/kept; \
         mkdir /var; echo deep > /var/deep",
    );
    assert!(before.exit.success(), "{}", before.output);
    let look = "ls /home; ls /home/folder; cat /home/kept /var/deep; stat -c %u /home /home/mine /home/kept /var/deep";
    let seen = "folder\nkept\nmine\nkept\ndeep\n1000\n1000\n1000\n0\n";
    assert_eq!(shell(&place, FIRST, look), seen);
    // A file of the image is copied up with its owner, which changes it like any other.
    let mut own = spec(
        &place,
        FIRST,
        "echo new >> /home/mine; echo new >> /home/kept; touch /home/x; touch /var/x",
    );
    (own.uid, own.gid) = (1000, 1000);
    let output = launch(own).unwrap().output;
    assert_eq!(output, "touch: /var/x: Permission denied\n");
    assert_eq!(owner(&place.path("layer/upper/home/mine")), (1000, 1000));
    // Another range, and none at all, find the same.
    let look = "cat /home/mine; stat -c %u /home/mine /home/x";
    let seen = "old\nnew\n1000\n1000\n";
    assert_eq!(shell(&place, SECOND, look), seen);
    assert_eq!(place.shell(look).output, seen);
}

pub fn containers_with_two_ranges_are_strangers() {
    let one = place();
    let other = able(Place::layered_beside(&one, "other", &Limits::default()));
    let (running, mut output) = start(&one, FIRST, "echo up; exec sleep 60");
    assert_eq!(output.line(), "up\n");
    // One that sees all processes of the host, and so their numbers.
    let own = std::process::id();
    let script = format!(
        "kill -0 {0}; kill -9 {0}; kill -9 {own}; cat /proc/{0}/environ; ls /proc/{0}/root/; echo x > /proc/{0}/mem; \
         kill -0 $$ && echo self",
        running.pid
    );
    let mut spec = spec(&other, SECOND, &script);
    spec.namespaces.pid = Namespace::Host;
    let said = launch(spec).unwrap().output;
    assert_eq!(said.matches("Operation not permitted").count(), 3, "{said}");
    assert_eq!(said.matches("ermission denied").count(), 3, "{said}");
    assert!(said.ends_with("self\n"), "{said}");
    assert_eq!(users_of(running.pid), [FIRST.first; 4]);
    one.stop(running);
}

pub fn a_network_belongs_to_the_container_that_it_was_made_for() {
    let one = place();
    let other = able(Place::layered_beside(&one, "other", &Limits::default()));
    let (output, stdio) = output_pipe();
    // A port below 1024 and a raw socket are for the root of the network's namespace.
    let mut first = spec(
        &one,
        FIRST,
        "nc -l -p 80 & ping -c 1 127.0.0.1 2>&1 | tail -n 1; sleep 0.1; \
         cat /proc/net/tcp /proc/net/tcp6 | grep -c ':0050 '; exec sleep 60",
    );
    first.stdio = stdio;
    let created = prepare(&first, &|| {
        // As a network is set up: in the network, and with the host's files.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|error| error.to_string())
    })
    .unwrap();
    let network = created.netns().unwrap();
    let running = created.start().unwrap();
    drop(first);
    let mut said = Output::of(output);
    // The socket was made, and lo is down.
    assert_eq!(said.line(), "ping: sendto: Network is unreachable\n");
    assert_eq!(said.line(), "1\n");
    let joined = fs::metadata(format!("/proc/{}/ns/net", running.pid)).unwrap();
    let held = fs::File::from(network.try_clone().unwrap())
        .metadata()
        .unwrap();
    assert_eq!(
        joined.ino(),
        held.ino(),
        "the caller was told of another network"
    );

    let mut guest = spec(
        &other,
        SECOND,
        "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward; nc -l -p 81",
    );
    guest.netns = NetNs::Join(network);
    let said = launch(guest).unwrap().output;
    assert!(said.starts_with("lo\n1\n"), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    one.stop(running);
}

pub fn exec_enters_its_users() {
    let place = place();
    let (running, mut output) = start(&place, FIRST, "echo up; exec sleep 60");
    assert_eq!(output.line(), "up\n");
    let (said, stdio) = output_pipe();
    let spec = spec(&place, FIRST, "");
    let script = "id -u; stat -c %u /bin/sh; cat /proc/self/uid_map; kill -0 1 && echo one; echo x >> /proc/1/mem";
    let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let exec = ExecSpec::like(
        &spec,
        running.pid,
        std::os::fd::AsFd::as_fd(&running.pidfd),
        args,
        stdio,
    );
    let executed = exec_in(&exec).unwrap();
    drop(exec);
    let said = read(said);
    assert!(reap::wait(executed.pid).is_some());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{said}");
    assert!(lines[2].contains("1879048192"), "{said}");
    assert_eq!(lines[3], "one", "{said}");
    place.stop(running);
}

pub fn what_has_no_id_in_the_range_is_refused() {
    let place = place();
    let mut beyond = spec(&place, FIRST, "true");
    beyond.uid = FIRST.count;
    assert_eq!(launch(beyond).err().expect("a refusal").step, Step::User);
    let empty = IdRange { count: 0, ..FIRST };
    let failure = launch(spec(&place, empty, "true"))
        .err()
        .expect("a refusal");
    assert_eq!(failure.step, Step::IdMap);
    assert!(failure.subject.contains("no range"), "{failure}");
    assert_eq!(reap::reap_all(), []);
}

pub fn ranges_are_found_by_trying() {
    let folder = tempfile::tempdir().unwrap();
    for in_memory in [false, true] {
        // Whatever the answer, nothing stays of the question.
        let _ = try_range(folder.path(), in_memory, FIRST);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    assert_eq!(reap::reap_all(), []);
}

/// As on a kernel without id-mapped mounts: said by the trial and by a launch, and nothing is left of either.
pub fn without_id_mapped_mounts() {
    let place = Place::layered();
    let tried = try_range(&place.path(""), false, FIRST).unwrap_err();
    assert_eq!((tried.step, tried.errno), (Step::IdMap, libc::ENOSYS));
    let failure = launch(spec(&place, FIRST, "true"))
        .err()
        .expect("a refusal");
    assert_eq!((failure.step, failure.errno), (Step::IdMap, libc::ENOSYS));
    assert!(launch(place.spec("true")).unwrap().exit.success());
}
