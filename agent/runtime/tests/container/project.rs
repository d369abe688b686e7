//! The kernel lets whoever owns a folder give it to another project, or take what is made in it out of its own: past the
//! quota. A container can do neither.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use coracle_runtime::namespaces::UserNs;
use coracle_runtime::{LaunchSpec, Means, Rootfs};
use nix::errno::Errno;

use crate::disk::{LIMIT, Limited, with_quotas};
use crate::support::{Place, launch};
use crate::users;

/// Set for this program in a container.
pub const INSIDE: &str = "CORACLE_TEST_LEAVES_ITS_PROJECT";

/// More than the limit.
const WANTED: u64 = 6 << 20;

/// `struct fsxattr` (linux/fs.h) as words: flags, extent size, extents, project, cow extent size, pad.
type Attributes = [u32; 7];
const FLAGS: usize = 0;
const PROJECT: usize = 3;
const GET_ATTRIBUTES: u64 = 0x801c_581f;
const SET_ATTRIBUTES: u64 = 0x401c_5820;
const INHERIT: u32 = 0x200;
/// `_IOR('f', 1, long)` and `_IOW('f', 2, long)`; the kernel reads and writes an int.
const LONG: u64 = (size_of::<libc::c_long>() as u64) << 16;
const GET_FLAGS: u64 = 0x8000_6601 | LONG;
const SET_FLAGS: u64 = 0x4000_6602 | LONG;
const INHERIT_FLAG: u32 = 0x2000_0000;

fn ioctl<const N: usize>(folder: &File, request: u64, words: &mut [u32; N]) -> Result<(), Errno> {
    #[allow(unsafe_code, reason = "no crate here knows these requests")]
    // SAFETY: the kernel reads or writes what the request says, which is no longer than `words`, or an int.
    let answer = unsafe { libc::ioctl(folder.as_raw_fd(), request as _, words.as_mut_ptr()) };
    Errno::result(answer).map(drop)
}

type WayOut = fn(&File) -> Result<(), Errno>;
const WAYS_OUT: [(&str, WayOut); 3] = [
    ("project", |folder| change(folder, |all| all[PROJECT] = 0)),
    ("inherit", |folder| {
        change(folder, |all| all[FLAGS] &= !INHERIT)
    }),
    ("flags", |folder| {
        let mut flags = [0, 0];
        ioctl(folder, GET_FLAGS, &mut flags)?;
        flags[0] &= !INHERIT_FLAG;
        ioctl(folder, SET_FLAGS, &mut flags)
    }),
];

fn change(folder: &File, what: fn(&mut Attributes)) -> Result<(), Errno> {
    let mut attributes = Attributes::default();
    ioctl(folder, GET_ATTRIBUTES, &mut attributes)?;
    what(&mut attributes);
    ioctl(folder, SET_ATTRIBUTES, &mut attributes)
}

/// In the container: tries each way out in the volume and in the writable layer, and how much can be written then.
pub fn inside() {
    for above in ["/data", ""] {
        for (name, way_out) in WAYS_OUT {
            let path = format!("{above}/{name}");
            fs::create_dir(&path).expect("a folder");
            let folder = File::open(&path).expect("a folder");
            let said = match way_out(&folder) {
                Ok(()) => "allowed".to_owned(),
                Err(errno) => format!("{errno:?}"),
            };
            println!("{path} {said} {}", filled(Path::new(&path)));
        }
    }
}

fn filled(folder: &Path) -> u64 {
    let path = folder.join("big");
    let mut file = File::create(&path).expect("a file");
    let mut written = 0;
    while written < WANTED {
        match file.write(&[0; 64 << 10]) {
            Ok(count) => written += count as u64,
            Err(_) => break,
        }
    }
    drop(file);
    fs::remove_file(&path).expect("its end");
    written
}

/// Path, answer of the kernel or the filter, and bytes that could be written.
fn told(place: &Place, change: impl Fn(&mut LaunchSpec<'_>)) -> Vec<(String, String, u64)> {
    let limited = Limited::new(Means::Quota);
    place.bring_own_program();
    let mut spec = limited.spec(place, "");
    // A folder whose owners are mapped for the layer cannot be mapped once more for the volume in it.
    let (upper, work) = (limited.inside("layer/upper"), limited.inside("layer/work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).expect("a folder");
    }
    spec.rootfs = Rootfs::Overlay {
        lower: vec![place.path("image")],
        upper,
        work,
        merged: place.path("merged"),
    };
    spec.args = vec!["/bin/own".into()];
    spec.env = vec![format!("{INSIDE}=1")];
    change(&mut spec);
    let output = launch(spec).expect("a launch").output;
    let words = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_else(|| panic!("{output}"));
        let (path, said, bytes) = (next(), next(), next());
        (
            path,
            said,
            bytes.parse().unwrap_or_else(|_| panic!("{output}")),
        )
    };
    let all: Vec<_> = output.lines().map(words).collect();
    assert_eq!(all.len(), 2 * WAYS_OUT.len(), "{output}");
    all
}

fn assert_held(all: &[(String, String, u64)], answer: Errno) {
    for (path, said, bytes) in all {
        assert_eq!(*said, format!("{answer:?}"), "{path}");
        assert!(*bytes <= LIMIT.bytes, "{path}: {bytes}");
    }
}

/// As root of the host's users, which the kernel would let change any of it: the filter does not.
pub fn a_container_does_not_leave_its_quota() {
    let mut held = told(&Place::new(), |_| {});
    let open = told(&Place::new(), |spec| spec.seccomp = None);
    // Before Linux 5.8 an overlay knows no such request, whoever asks.
    for ((_, said, _), (_, without, _)) in held.iter_mut().zip(&open) {
        if [&*said, without] == ["ENOTTY"; 2] {
            *said = "EPERM".into();
        }
    }
    assert_held(&held, Errno::EPERM);
    for (path, said, bytes) in open.iter().filter(|(path, ..)| path.starts_with("/data")) {
        let free = (said.as_str(), *bytes) == ("allowed", WANTED);
        assert!(
            free,
            "{path}: {said}, {bytes}: it is the filter that forbids it"
        );
    }
}

/// A start that was killed in the moment for which more was lent to a full layer (XFS, see `disk`'s `quota`) has left the limit
/// as the soft one.
pub fn what_a_killed_start_has_borrowed_is_taken_back() {
    let limited = Limited::new(Means::Quota);
    let folder = File::open(limited.inside("")).expect("a folder");
    let mut attributes = Attributes::default();
    ioctl(&folder, GET_ATTRIBUTES, &mut attributes).expect("attributes");
    let project = attributes[PROJECT] as i32;
    let mut quota = [0_u64; 9];
    quotactl(GET_QUOTA, project, &mut quota);
    quota[SOFT_BLOCKS] = quota[HARD_BLOCKS];
    quota[HARD_BLOCKS] += 512;
    quota[VALID] = BOTH_LIMITS;
    quotactl(SET_QUOTA, project, &mut quota);
    assert_eq!(limited.limit(), LIMIT.bytes + (512 << 10));
    limited.open();
    assert_eq!(limited.limit(), LIMIT.bytes);
    quotactl(GET_QUOTA, project, &mut quota);
    assert_eq!(quota[SOFT_BLOCKS], 0);
}

/// `struct if_dqblk` (linux/quota.h) as words.
const HARD_BLOCKS: usize = 0;
const SOFT_BLOCKS: usize = 1;
const VALID: usize = 8;
/// QIF_BLIMITS | QIF_ILIMITS, in the first half of its word.
const BOTH_LIMITS: u64 = if cfg!(target_endian = "little") {
    5
} else {
    5 << 32
};
const GET_QUOTA: i32 = 0x80_0007;
const SET_QUOTA: i32 = 0x80_0008;
const PROJECTS: i32 = 2;

fn quotactl(command: i32, project: i32, quota: &mut [u64; 9]) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let line = mounts.lines().find(|line| line.contains(" /quota "));
    let device = line.and_then(|line| line.split(' ').next());
    let device = CString::new(device.expect("a device")).expect("a name");
    let command = (command << 8) | PROJECTS;
    #[allow(unsafe_code, reason = "no crate here knows project quotas")]
    // SAFETY: the kernel reads or writes one `if_dqblk`, which is as long as `quota`.
    let answer =
        unsafe { libc::quotactl(command, device.as_ptr(), project, quota.as_mut_ptr().cast()) };
    Errno::result(answer).expect("a quota");
}

/// Since 5.13 the kernel lets nobody change a project from a user namespace, by whatever call.
pub fn users_of_its_own_have_no_say_over_projects() {
    with_quotas();
    let place = users::place();
    let of_its_own = |spec: &mut LaunchSpec<'_>| {
        spec.namespaces.user = UserNs::Range(users::FIRST);
        spec.seccomp = None;
    };
    assert_held(&told(&place, of_its_own), Errno::EINVAL);
}
