//! The supervisor where the newer system calls answer ENOSYS, as on Linux 4.19 and older.

mod board;

use board::{Board, app, http_health, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::release::{Hook, Port, Probe};
use coracle_runtime::SeccompProgram;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// What came with 5.1 and later, of what the supervisor, the runtime, std, tokio or nix would call.
const NEWER: [libc::c_long; 14] = [
    libc::SYS_pidfd_send_signal,
    libc::SYS_io_uring_setup,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_pidfd_open,
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_openat2,
    libc::SYS_pidfd_getfd,
    libc::SYS_faccessat2,
    libc::SYS_epoll_pwait2,
    libc::SYS_mount_setattr,
    libc::SYS_statx,
];

/// The filter is this thread's, and of all that it starts.
fn believe_to_be_old() {
    let old = SeccompProgram::deny(&NEWER, libc::ENOSYS).unwrap();
    coracle_runtime::jail::confine_self(&old).unwrap();
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(String::from).into()
}

#[test]
fn apps_live_end_and_are_adopted_on_old_kernels() {
    believe_to_be_old();
    let mut board = Board::start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", board.supervisor_pid()));
    assert!(status.unwrap().contains("Seccomp:\t2"));

    let image = board.image(&rootfs(&board, "page one"), RunConfig::default());
    let mut web = app(&image, "exec httpd -f -p 8080 -h /www");
    web.network.ports = vec![Port {
        host: 8081,
        container: 8080,
        protocol: Default::default(),
        host_ip: None,
    }];
    let mut health = http_health(8080);
    health.probe = Probe::Exec {
        argv: shell("wget -q -O - http://127.0.0.1:8080/ | grep -q page"),
    };
    web.health = Some(health);
    web.hooks.pre_start = Some(Hook {
        argv: shell("sleep 0.2; echo prepared"),
        timeout_seconds: Some(10),
    });
    board.commit("1", vec![web]);
    let log = board.state().join("logs/web/json.log");
    let log = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(log().contains("prepared"), "{}", log());
    let page = || board.get("http://127.0.0.1:8081/");
    assert_eq!(page().as_deref(), Some("page one"));
    let before = board.app("web").unwrap();
    assert_eq!(before.healthy, Some(true));

    // A child's end.
    kill(before.pid.unwrap());
    let again = wait_for("a new process", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some() && app.pid != before.pid && app.healthy == Some(true))
    });

    // An adopted process's.
    board.kill_supervisor();
    board.start_supervisor();
    let adopted = board.app("web").unwrap();
    assert_eq!(adopted.pid, again.pid);
    wait_for("its health", WAIT, || {
        board.app("web").filter(|app| app.healthy == Some(true))
    });
    kill(adopted.pid.unwrap());
    wait_for("a new process", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some() && app.pid != adopted.pid && app.healthy == Some(true))
    });
    assert_eq!(
        board.get("http://127.0.0.1:8081/").as_deref(),
        Some("page one")
    );
    let said = board.log();
    assert!(!said.contains("panicked"), "{said}");
}
