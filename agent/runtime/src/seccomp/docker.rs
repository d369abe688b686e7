//! The allow list of Docker's default profile (moby `profiles/seccomp/default_linux.go`), for the native architecture.
//!
//! Left out on purpose, as there: what loads code into the kernel, mounts, changes clocks or the host's name, reaches
//! other namespaces, keys, userfaultfd, io_uring and performance events.

use crate::capabilities::Capability;

/// On every architecture that we compile for.
#[rustfmt::skip]
pub(super) const ALLOWED: &[libc::c_long] = &[
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_adjtimex, libc::SYS_bind, libc::SYS_brk, libc::SYS_capget,
    libc::SYS_capset, libc::SYS_chdir, libc::SYS_clock_adjtime, libc::SYS_clock_getres,
    libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_close, libc::SYS_connect,
    libc::SYS_copy_file_range, libc::SYS_dup, libc::SYS_dup3, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_eventfd2, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_faccessat, libc::SYS_fallocate,
    libc::SYS_fanotify_mark, libc::SYS_fchdir, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
    libc::SYS_fchownat, libc::SYS_fcntl, libc::SYS_fdatasync, libc::SYS_fgetxattr, libc::SYS_flistxattr,
    libc::SYS_flock, libc::SYS_fremovexattr, libc::SYS_fsetxattr, libc::SYS_fstat, libc::SYS_fstatfs,
    libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_futex, libc::SYS_getcpu, libc::SYS_getcwd,
    libc::SYS_getdents64, libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getgroups,
    libc::SYS_getitimer, libc::SYS_getpeername, libc::SYS_getpgid, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_getpriority, libc::SYS_getrandom, libc::SYS_getresgid, libc::SYS_getresuid,
    libc::SYS_get_robust_list, libc::SYS_getrusage, libc::SYS_getsid, libc::SYS_getsockname,
    libc::SYS_getsockopt, libc::SYS_gettid, libc::SYS_gettimeofday, libc::SYS_getuid, libc::SYS_getxattr,
    libc::SYS_inotify_add_watch, libc::SYS_inotify_init1, libc::SYS_inotify_rm_watch, libc::SYS_io_cancel,
    libc::SYS_ioctl, libc::SYS_io_destroy, libc::SYS_io_getevents, libc::SYS_ioprio_get, libc::SYS_ioprio_set,
    libc::SYS_io_setup, libc::SYS_io_submit, libc::SYS_kill, libc::SYS_lgetxattr, libc::SYS_linkat,
    libc::SYS_listen, libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_lremovexattr, libc::SYS_lseek,
    libc::SYS_lsetxattr, libc::SYS_madvise, libc::SYS_membarrier, libc::SYS_memfd_create, libc::SYS_mincore,
    libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_mlockall,
    libc::SYS_mprotect, libc::SYS_mq_getsetattr, libc::SYS_mq_notify, libc::SYS_mq_open,
    libc::SYS_mq_timedreceive, libc::SYS_mq_timedsend, libc::SYS_mq_unlink, libc::SYS_mremap,
    libc::SYS_msgctl, libc::SYS_msgget, libc::SYS_msgrcv, libc::SYS_msgsnd, libc::SYS_msync,
    libc::SYS_munlock, libc::SYS_munlockall, libc::SYS_munmap, libc::SYS_name_to_handle_at,
    libc::SYS_nanosleep, libc::SYS_openat, libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal, libc::SYS_pipe2, libc::SYS_pkey_alloc, libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect, libc::SYS_ppoll, libc::SYS_prctl, libc::SYS_pread64, libc::SYS_preadv,
    libc::SYS_preadv2, libc::SYS_prlimit64, libc::SYS_process_mrelease, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_pselect6, libc::SYS_ptrace, libc::SYS_pwrite64, libc::SYS_pwritev,
    libc::SYS_pwritev2, libc::SYS_read, libc::SYS_readahead, libc::SYS_readlinkat, libc::SYS_readv,
    libc::SYS_recvfrom, libc::SYS_recvmmsg, libc::SYS_recvmsg, libc::SYS_remap_file_pages,
    libc::SYS_removexattr, libc::SYS_renameat2, libc::SYS_restart_syscall, libc::SYS_rseq,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigpending, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn, libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait, libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_getaffinity, libc::SYS_sched_getattr, libc::SYS_sched_getparam,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval, libc::SYS_sched_setaffinity, libc::SYS_sched_setattr,
    libc::SYS_sched_setparam, libc::SYS_sched_setscheduler, libc::SYS_sched_yield, libc::SYS_seccomp,
    libc::SYS_semctl, libc::SYS_semget, libc::SYS_semop, libc::SYS_semtimedop, libc::SYS_sendfile,
    libc::SYS_sendmmsg, libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_setfsgid, libc::SYS_setfsuid,
    libc::SYS_setgid, libc::SYS_setgroups, libc::SYS_setitimer, libc::SYS_setpgid, libc::SYS_setpriority,
    libc::SYS_setregid, libc::SYS_setresgid, libc::SYS_setresuid, libc::SYS_setreuid,
    libc::SYS_set_robust_list, libc::SYS_setsid, libc::SYS_setsockopt, libc::SYS_set_tid_address,
    libc::SYS_setuid, libc::SYS_setxattr, libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_shmdt,
    libc::SYS_shmget, libc::SYS_shutdown, libc::SYS_sigaltstack, libc::SYS_signalfd4, libc::SYS_socketpair,
    libc::SYS_splice, libc::SYS_statfs, libc::SYS_statx, libc::SYS_symlinkat, libc::SYS_sync,
    libc::SYS_syncfs, libc::SYS_sysinfo, libc::SYS_tee, libc::SYS_tgkill,
    libc::SYS_timer_create, libc::SYS_timer_delete, libc::SYS_timer_getoverrun, libc::SYS_timer_gettime,
    libc::SYS_timer_settime, libc::SYS_timerfd_create, libc::SYS_timerfd_gettime, libc::SYS_timerfd_settime,
    libc::SYS_times, libc::SYS_tkill, libc::SYS_truncate, libc::SYS_umask, libc::SYS_uname,
    libc::SYS_unlinkat, libc::SYS_utimensat, libc::SYS_vmsplice, libc::SYS_wait4, libc::SYS_waitid,
    libc::SYS_write, libc::SYS_writev,
];

/// The older calls, which newer architectures never had, and what libc names here only.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_getrlimit, libc::SYS_renameat, libc::SYS_setrlimit, libc::SYS_sync_file_range,
    libc::SYS_access, libc::SYS_alarm, libc::SYS_arch_prctl, libc::SYS_chmod, libc::SYS_chown,
    libc::SYS_creat, libc::SYS_dup2, libc::SYS_epoll_create, libc::SYS_epoll_ctl_old, libc::SYS_epoll_wait,
    libc::SYS_epoll_wait_old, libc::SYS_eventfd, libc::SYS_fork, libc::SYS_futimesat, libc::SYS_getdents,
    libc::SYS_getpgrp, libc::SYS_get_thread_area, libc::SYS_inotify_init, libc::SYS_lchown, libc::SYS_link,
    libc::SYS_lstat, libc::SYS_mkdir, libc::SYS_mknod, libc::SYS_modify_ldt, libc::SYS_open, libc::SYS_pause,
    libc::SYS_pipe, libc::SYS_poll, libc::SYS_readlink, libc::SYS_rename, libc::SYS_rmdir, libc::SYS_select,
    libc::SYS_set_thread_area, libc::SYS_signalfd, libc::SYS_stat, libc::SYS_symlink, libc::SYS_time,
    libc::SYS_unlink, libc::SYS_utime, libc::SYS_utimes, libc::SYS_vfork,
    libc::SYS_fadvise64, libc::SYS_mmap, libc::SYS_newfstatat,
];
/// With the calls that a 32-bit architecture has in a second, wider form, for file offsets, user numbers and times.
#[cfg(target_arch = "arm")]
#[rustfmt::skip]
pub(super) const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_renameat, libc::SYS_setrlimit, libc::SYS_access, libc::SYS_chmod,
    libc::SYS_chown, libc::SYS_creat, libc::SYS_dup2, libc::SYS_epoll_create, libc::SYS_epoll_wait,
    libc::SYS_eventfd, libc::SYS_fork, libc::SYS_futimesat, libc::SYS_getdents, libc::SYS_getpgrp,
    libc::SYS_inotify_init, libc::SYS_lchown, libc::SYS_link, libc::SYS_lstat, libc::SYS_mkdir, libc::SYS_mknod,
    libc::SYS_open, libc::SYS_pause, libc::SYS_pipe, libc::SYS_poll, libc::SYS_readlink, libc::SYS_rename,
    libc::SYS_rmdir, libc::SYS_signalfd, libc::SYS_stat, libc::SYS_symlink, libc::SYS_unlink, libc::SYS_utimes,
    libc::SYS_vfork, libc::SYS_recv, libc::SYS_send, libc::SYS_sigprocmask, libc::SYS_sigreturn,
    libc::SYS__llseek, libc::SYS__newselect, libc::SYS_chown32, libc::SYS_fchown32, libc::SYS_fcntl64,
    libc::SYS_fstat64, libc::SYS_fstatat64, libc::SYS_fstatfs64, libc::SYS_ftruncate64, libc::SYS_getegid32,
    libc::SYS_geteuid32, libc::SYS_getgid32, libc::SYS_getgroups32, libc::SYS_getresgid32, libc::SYS_getresuid32,
    libc::SYS_getuid32, libc::SYS_lchown32, libc::SYS_lstat64, libc::SYS_mmap2, libc::SYS_sendfile64,
    libc::SYS_setfsgid32, libc::SYS_setfsuid32, libc::SYS_setgid32, libc::SYS_setgroups32, libc::SYS_setregid32,
    libc::SYS_setresgid32, libc::SYS_setresuid32, libc::SYS_setreuid32, libc::SYS_setuid32, libc::SYS_stat64,
    libc::SYS_statfs64, libc::SYS_truncate64, libc::SYS_ugetrlimit,
    libc::SYS_arm_fadvise64_64, libc::SYS_arm_sync_file_range,
    // 64-bit times, which count alike on all 32-bit architectures: clock_gettime64; clock_adjtime64 to timerfd_settime64;
    // utimensat_time64 to sched_rr_get_interval_time64.
    403, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 416, 417, 418, 419, 420, 421, 422, 423,
    // The architecture's own (arch/arm/include/uapi/asm/unistd.h): breakpoint, cacheflush, set_tls, get_tls.
    0x0f_0001, 0x0f_0002, 0x0f_0005, 0x0f_0006,
];
/// By their numbers on aarch64 and riscv64 (asm-generic/unistd.h): the libc crate lacks some of their names there.
#[cfg(not(any(target_arch = "x86_64", target_arch = "arm")))]
pub(super) const ALLOWED_HERE: &[libc::c_long] = &[
    38,  // renameat
    79,  // newfstatat
    222, // mmap
    223, // fadvise64
    84,  // sync_file_range
    163, // getrlimit
    164, // setrlimit
];

/// Calls newer than the C libraries that we build against; from number 424 on all architectures count alike
/// (linux/arch/*/syscall.tbl).
pub(super) const ALLOWED_NEW: &[libc::c_long] = &[
    436, // close_range
    437, // openat2: musl and glibc fall back, systemd and Go's os.Root do not
    438, // pidfd_getfd: bounded by the ptrace rules
    439, // faccessat2: glibc's access() since 2.33
    441, // epoll_pwait2
    444, // landlock_create_ruleset: a program may confine itself
    445, // landlock_add_rule
    446, // landlock_restrict_self
    449, // futex_waitv: Wine, game and audio servers
    450, // set_mempolicy_home_node: answers only where NUMA is
    451, // cachestat
    452, // fchmodat2: musl's fchmodat
    453, // map_shadow_stack
    454, // futex_wake
    455, // futex_wait
    456, // futex_requeue
    462, // mseal: glibc's loader from 2.41
    463, // setxattrat
    464, // getxattrat
    465, // listxattrat
    466, // removexattrat
];

/// Allowed to a container that was given the capability, which then guards them.
pub(super) const BY_CAPABILITY: &[(Capability, &[libc::c_long])] = &[
    (Capability::DAC_READ_SEARCH, &[libc::SYS_open_by_handle_at]),
    (
        Capability::SYS_ADMIN,
        &[
            libc::SYS_bpf,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
            libc::SYS_mount,
            libc::SYS_perf_event_open,
            libc::SYS_quotactl,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
            // The newer mount calls: open_tree to fspick, mount_setattr, quotactl_fd.
            428,
            429,
            430,
            431,
            432,
            433,
            442,
            443,
        ],
    ),
    (Capability::SYS_BOOT, &[libc::SYS_reboot]),
    (Capability::SYS_CHROOT, &[libc::SYS_chroot]),
    (
        Capability::SYS_MODULE,
        &[
            libc::SYS_delete_module,
            libc::SYS_init_module,
            libc::SYS_finit_module,
        ],
    ),
    (Capability::SYS_PACCT, &[libc::SYS_acct]),
    // process_madvise is 440; kcmp tells whether two processes share an object.
    (Capability::SYS_PTRACE, &[libc::SYS_kcmp, 440]),
    (
        Capability::SYS_TIME,
        &[
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            CLOCK_SETTIME_64,
        ],
    ),
    (Capability::SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (
        Capability::SYS_NICE,
        &[
            libc::SYS_get_mempolicy,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
        ],
    ),
    (Capability::SYSLOG, &[libc::SYS_syslog]),
    (Capability::BPF, &[libc::SYS_bpf]),
    (Capability::PERFMON, &[libc::SYS_perf_event_open]),
];

/// The same call with a 64-bit time, which only 32-bit architectures have; elsewhere the number is unused.
const CLOCK_SETTIME_64: libc::c_long = 404;
