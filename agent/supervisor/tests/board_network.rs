//! What a board's profile says of the board's own network, under the real supervisor: done, told where it cannot be done, and
//! given back.

mod board;

use board::{Board, app, rootfs};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image, NetworkSpec};
use serde_json::{Value, json};
use std::process::Command;

const SITE: &str = r#"
[network]
forwarding = "keep"
bridge_nf = "off"
offloads = [
  { links = "eth1", off = ["tx-checksum"] },
  { links = "tap*", on = ["rx-checksum"], off = ["gro"] },
]
[network.app_offloads]
off = ["tx-checksum"]
"#;

/// A shell in a network namespace: `--net=...` or `--target=...` of nsenter.
fn shell(space: &str, script: &str) -> String {
    let output = Command::new("nsenter")
        .args([space, "--net", "--", "sh", "-ec", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn on_board(board: &Board, script: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", board.netns(), "sh", "-ec", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `on` or `off`, of a link.
const CHECKSUM: &str = "sed -n 's/^tx-checksumming: //p'";

fn server(image: &Image, name: &str, network: Value) -> App {
    let mut server = app(image, "exec httpd -f -p 8080 -h /www");
    server.name = AppName::new(name).unwrap();
    server.network = serde_json::from_value(network).unwrap();
    server
}

fn spec(json: Value) -> NetworkSpec {
    serde_json::from_value(json).unwrap()
}

fn refusal(board: &mut Board, version: &str, apps: Vec<App>) -> (String, String) {
    let (release, deploy) = board.documents(version, apps);
    match board.offer(version, &release, &deploy) {
        Answer::Refused { code, reason, .. } => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_site_says_of_the_boards_network_is_done_told_and_given_back() {
    let mut board = Board::start();
    board.stop_all();
    std::fs::write(board.config().with_file_name("board.toml"), SITE).unwrap();
    on_board(
        &board,
        "ip link add eth1 type veth peer name far1; ip tuntap add dev tap0 mode tap\n\
         echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables",
    );
    let checksum = format!("ethtool -k eth1 | {CHECKSUM}");
    assert_eq!(on_board(&board, &checksum), "on");
    board.start_supervisor();
    assert_eq!(on_board(&board, &checksum), "off");
    assert_eq!(
        on_board(&board, "cat /proc/sys/net/bridge/bridge-nf-call-iptables"),
        "0"
    );
    // A driver that cannot is told, once, and held up nothing.
    assert_eq!(
        on_board(
            &board,
            "ethtool -k tap0 | sed -n 's/^generic-receive-offload: //p'"
        ),
        "off"
    );
    on_board(&board, "ip link set eth1 mtu 1400");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let log = board.log();
    let told = log.matches("it stays as the driver has it").count();
    assert_eq!(told, 1, "{log}");
    assert!(log.contains("net.ipv4.ip_forward = 1"), "{log}");

    // The board passes nothing on, and may not be made to.
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    let web = || {
        vec![server(
            &image,
            "web",
            json!({"ports": [{"host": 8090, "container": 8080}]}),
        )]
    };
    let (code, reason) = refusal(&mut board, "1", web());
    assert_eq!(code, "no-forwarding");
    assert!(
        reason.starts_with("app `web` is on network `bridge`:")
            && reason.contains("set net.ipv4.ip_forward = 1"),
        "{reason}"
    );
    board.networks = vec![spec(json!({"name": "front"}))];
    let on_front = vec![server(
        &image,
        "web",
        json!({"networks": [{"name": "front"}]}),
    )];
    let (_, reason) = refusal(&mut board, "2", on_front);
    assert!(reason.starts_with("network `front`:"), "{reason}");
    board.networks = vec![spec(json!({"name": "inner", "internal": true}))];
    let inside = vec![server(
        &image,
        "web",
        json!({"networks": [{"name": "inner"}]}),
    )];
    board.commit("3", inside);

    // Its administrator does it.
    on_board(&board, "echo 1 >/proc/sys/net/ipv4/ip_forward");
    board.networks.clear();
    board.commit("4", web());
    assert_eq!(board.get("http://127.0.0.1:8090/").as_deref(), Some("here"));
    let pid = board.app("web").unwrap().pid.unwrap();
    let checksum_inside = format!("ethtool -k eth0 | {CHECKSUM}");
    assert_eq!(
        shell(&format!("--target={pid}"), &checksum_inside).trim(),
        "off"
    );

    // A set that runs goes on, whatever becomes of the switch.
    on_board(&board, "echo 0 >/proc/sys/net/ipv4/ip_forward");
    board.restart_supervisor();
    assert_eq!(board.app("web").unwrap().pid, Some(pid));
    on_board(&board, "echo 1 >/proc/sys/net/ipv4/ip_forward");
    board.stop_all();
    assert_eq!(on_board(&board, &checksum), "on");
    assert_eq!(
        on_board(
            &board,
            "cat /proc/sys/net/bridge/bridge-nf-call-iptables /proc/sys/net/ipv4/ip_forward"
        ),
        "1\n1"
    );
}

/// As a kernel without nf_tables answers who asks for it.
#[test]
fn where_no_network_can_be_made_a_release_is_refused_with_the_apps_that_need_one() {
    let mut board = Board::start();
    board.without_protocols = vec![libc::NETLINK_NETFILTER];
    board.restart_supervisor();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    let alone = || server(&image, "alone", json!({"mode": "none"}));
    board.commit("1", vec![alone()]);
    let pid = board.app("alone").unwrap().pid.unwrap();

    let two = || {
        let web = server(&image, "web", json!({"mode": "bridge"}));
        let store = server(&image, "store", json!({"mode": "bridge"}));
        vec![alone(), web, store]
    };
    let (code, reason) = refusal(&mut board, "2", two());
    assert_eq!(code, "no-network");
    let lines: Vec<&str> = reason.lines().collect();
    assert_eq!(lines.len(), 2, "{reason}");
    for (line, app) in lines.iter().zip(["web", "store"]) {
        assert!(line.starts_with(&format!("app `{app}`: ")), "{line}");
        assert!(
            line.contains("netfilter socket: Function not implemented"),
            "{line}"
        );
        assert!(line.contains("`coracle board check`"), "{line}");
    }
    assert_eq!(board.app("alone").unwrap().pid, Some(pid));

    board.without_protocols.clear();
    board.restart_supervisor();
    board.commit("3", two());
}
