//! Project quotas and loop devices.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{fstat, major, minor};

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
/// What is made in the folder belongs to its project too.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// The project that a folder belongs to; 0 is none.
pub(crate) fn project(folder: BorrowedFd<'_>) -> nix::Result<u32> {
    Ok(attributes(folder)?.project)
}

/// Gives a folder, and what will be made in it, to a project.
pub(crate) fn set_project(folder: BorrowedFd<'_>, project: u32) -> nix::Result<()> {
    let mut attributes = attributes(folder)?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the kernel reads one struct of the size in the request's number; it outlives the call.
    Errno::result(unsafe {
        libc::ioctl(
            folder.as_raw_fd(),
            FS_IOC_FSSETXATTR as _,
            &raw const attributes,
        )
    })?;
    Ok(())
}

fn attributes(folder: BorrowedFd<'_>) -> nix::Result<FsXattr> {
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel writes one struct of the size in the request's number; it outlives the call.
    Errno::result(unsafe {
        libc::ioctl(
            folder.as_raw_fd(),
            FS_IOC_FSGETXATTR as _,
            &raw mut attributes,
        )
    })?;
    Ok(attributes)
}

/// `struct if_dqblk` (linux/quota.h): what a project may use and uses. Blocks are of 1 KiB, `bytes` are bytes.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) hard_blocks: u64,
    pub(crate) soft_blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) hard_inodes: u64,
    pub(crate) soft_inodes: u64,
    pub(crate) inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// linux/quota.h, linux/dqblk_xfs.h. The generic commands serve ext4, f2fs and XFS alike (fs/quota/quota.c).
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTATV: u32 = 0x5808;
const PRJQUOTA: u32 = 2;
const QIF_LIMITS: u32 = 1 | 4;
/// Project quotas are counted, and they are held.
const PROJECT_ON: u16 = (1 << 4) | (1 << 5);

/// Whether the file system of `on` counts and holds project quotas now.
pub(crate) fn holds_project_quotas(on: BorrowedFd<'_>) -> nix::Result<bool> {
    // `struct fs_quota_statv` has some 160 bytes: version, a pad, 16 bits of flags, …
    let mut state = [0_u64; 40];
    state[0] = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]);
    quotactl(on, Q_XGETQSTATV, 0, state.as_mut_ptr().cast())?;
    let [_, _, low, high, ..] = state[0].to_ne_bytes();
    Ok(u16::from_ne_bytes([low, high]) & PROJECT_ON == PROJECT_ON)
}

pub(crate) fn quota(on: BorrowedFd<'_>, project: u32) -> nix::Result<Quota> {
    let mut quota = Quota::default();
    quotactl(on, Q_GETQUOTA, project, (&raw mut quota).cast())?;
    Ok(quota)
}

/// Hard limits alone; 0 is none.
pub(crate) fn set_quota(
    on: BorrowedFd<'_>,
    project: u32,
    hard_blocks: u64,
    hard_inodes: u64,
) -> nix::Result<()> {
    let limits = Quota {
        hard_blocks,
        hard_inodes,
        ..Quota::default()
    };
    set_limits(on, project, limits)
}

/// Hard and soft limits.
pub(crate) fn set_limits(on: BorrowedFd<'_>, project: u32, limits: Quota) -> nix::Result<()> {
    let mut quota = Quota {
        valid: QIF_LIMITS,
        ..limits
    };
    quotactl(on, Q_SETQUOTA, project, (&raw mut quota).cast())
}

/// `data` points to what `command` reads or writes, which outlives the call: promised by those above.
fn quotactl(
    on: BorrowedFd<'_>,
    command: u32,
    project: u32,
    data: *mut libc::c_void,
) -> nix::Result<()> {
    /// Since 5.14, by the same number on every architecture.
    const SYS_QUOTACTL_FD: libc::c_long = 443;
    let command = (command << 8) | PRJQUOTA;
    // SAFETY: `data` is valid for the command.
    let answer = Errno::result(unsafe {
        libc::syscall(SYS_QUOTACTL_FD, on.as_raw_fd(), command, project, data)
    });
    match answer {
        Err(Errno::ENOSYS) => {}
        answer => return answer.map(drop),
    }
    let device = device_of(on)?;
    // SAFETY: `device` is a C string, and `data` is valid for the command.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_quotactl, command, device.as_ptr(), project, data)
    })?;
    Ok(())
}

/// The node of the block device that a file lies on.
fn device_of(on: BorrowedFd<'_>) -> nix::Result<CString> {
    let device = fstat(on)?.st_dev;
    let facts = format!("/sys/dev/block/{}:{}/uevent", major(device), minor(device));
    let facts = std::fs::read_to_string(facts).map_err(|_| Errno::ENOTBLK)?;
    let name = facts
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))
        .ok_or(Errno::ENOTBLK)?;
    CString::new(format!("/dev/{name}")).map_err(|_| Errno::EINVAL)
}

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const NONE: LoopInfo = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_SET_STATUS64: libc::c_ulong = 0x4c04;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4c05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4c07;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
/// The device lets go of its file by itself when nobody has it open or mounted.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The number of a loop device that has no file; made when all have.
pub(crate) fn free_loop(control: BorrowedFd<'_>) -> nix::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })
}

/// Puts a file behind a loop device. EBUSY when it got one meanwhile.
pub(crate) fn attach_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> nix::Result<()> {
    let info = LoopInfo {
        flags: LO_FLAGS_AUTOCLEAR,
        ..LoopInfo::NONE
    };
    let config = LoopConfig {
        fd: file.as_raw_fd() as u32,
        block_size: 0,
        info,
        reserved: [0; 8],
    };
    let device = device.as_raw_fd();
    // SAFETY: the kernel reads one `loop_config`, which outlives the call.
    match Errno::result(unsafe { libc::ioctl(device, LOOP_CONFIGURE as _, &raw const config) }) {
        // Before 5.8.
        Err(Errno::EINVAL | Errno::ENOTTY) => {}
        answer => return answer.map(drop),
    }
    // SAFETY: LOOP_SET_FD takes a descriptor.
    Errno::result(unsafe { libc::ioctl(device, LOOP_SET_FD as _, file.as_raw_fd()) })?;
    // SAFETY: the kernel reads one `loop_info64`, which outlives the call.
    let set =
        Errno::result(unsafe { libc::ioctl(device, LOOP_SET_STATUS64 as _, &raw const info) });
    if set.is_err() {
        // SAFETY: LOOP_CLR_FD takes no argument.
        unsafe { libc::ioctl(device, LOOP_CLR_FD as _, 0) };
    }
    set.map(drop)
}

/// Inode number of the file behind a loop device. ENXIO when there is none.
pub(crate) fn loop_inode(device: BorrowedFd<'_>) -> nix::Result<u64> {
    Ok(loop_info(device)?.inode)
}

/// Before Linux 5.8 it takes two calls to attach a file so that the device lets go of it by itself: whoever was killed between
/// them has left one that never would.
pub(crate) fn let_loop_go(device: BorrowedFd<'_>) -> nix::Result<()> {
    let mut info = loop_info(device)?;
    if info.flags & LO_FLAGS_AUTOCLEAR != 0 {
        return Ok(());
    }
    info.flags |= LO_FLAGS_AUTOCLEAR;
    let device = device.as_raw_fd();
    // SAFETY: the kernel reads one `loop_info64`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(device, LOOP_SET_STATUS64 as _, &raw const info) }).map(drop)
}

fn loop_info(device: BorrowedFd<'_>) -> nix::Result<LoopInfo> {
    let mut info = LoopInfo::NONE;
    // SAFETY: the kernel writes one `loop_info64`, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, &raw mut info)
    })?;
    Ok(info)
}

/// A loop device takes the size that its file has by now.
pub(crate) fn refresh_loop_size(device: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_CAPACITY as _, 0) })?;
    Ok(())
}

/// Makes a mounted ext4 as long as `blocks`: `EXT4_IOC_RESIZE_FS`, `_IOW('f', 16, __u64)`. Asks for CAP_SYS_RESOURCE.
pub(crate) fn resize_ext4(mounted: BorrowedFd<'_>, blocks: u64) -> nix::Result<()> {
    const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
    // SAFETY: the kernel reads one u64, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(
            mounted.as_raw_fd(),
            EXT4_IOC_RESIZE_FS as _,
            &raw const blocks,
        )
    })?;
    Ok(())
}

/// fallocate(2) with 64 bits everywhere: off_t has 32 on 32-bit ARM.
pub(crate) fn allocate(file: BorrowedFd<'_>, from: u64, bytes: u64) -> nix::Result<()> {
    let number = |n: u64| i64::try_from(n).map_err(|_| Errno::EFBIG);
    let (from, bytes) = (number(from)?, number(bytes)?);
    // SAFETY: the descriptor is open for the call, and nothing else is passed but numbers.
    Errno::result(unsafe { libc::fallocate64(file.as_raw_fd(), 0, from, bytes) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_kernels() {
        assert_eq!(size_of::<FsXattr>(), 28);
        assert_eq!(size_of::<Quota>(), 72);
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
