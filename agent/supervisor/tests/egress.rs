//! Where apps of a release may go, with real containers under the real supervisor and a world outside of the board.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image, Network};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);
/// Names of the world, and where its name server says that they are.
const NAMES: [(&[u8], [u8; 4]); 3] = [
    (b"\x04mqtt\x07example", [198, 51, 100, 2]),
    (b"\x06second\x07example", [198, 51, 100, 3]),
    // The board itself.
    (b"\x04lies\x07example", [198, 51, 100, 1]),
];

/// Whether `mqtt.example` is where `second.example` is.
static MOVED: AtomicBool = AtomicBool::new(false);

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.unwrap().success(), "ip {arguments}");
}

/// What is beyond the board's uplink: two servers, one of them a name server. Ends with the test.
struct World(String);

impl World {
    fn of(board: &Board) -> Self {
        let name = format!("{}-w", board.name);
        ip(&format!("netns add {name}"));
        let world = Self(name);
        let (of_board, name) = (&board.name, &world.0);
        ip(&format!(
            "link add wan0 netns {of_board} type veth peer name out0 netns {name}"
        ));
        ip(&format!("-n {of_board} addr add 198.51.100.1/24 dev wan0"));
        ip(&format!("-n {of_board} link set wan0 up"));
        for host in [2, 3] {
            ip(&format!("-n {name} addr add 198.51.100.{host}/24 dev out0"));
        }
        ip(&format!("-n {name} link set out0 up"));
        for port in [7000, 7001, 7002] {
            serve(world.inside(move || TcpListener::bind(("0.0.0.0", port)).unwrap()));
        }
        answer(world.inside(|| UdpSocket::bind("198.51.100.2:53").unwrap()));
        world
    }

    fn inside<T: Send + 'static>(&self, make: impl FnOnce() -> T + Send + 'static) -> T {
        inside(&self.0, make)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn inside<T: Send + 'static>(netns: &str, make: impl FnOnce() -> T + Send + 'static) -> T {
    let path = format!("/run/netns/{netns}");
    let made = std::thread::spawn(move || {
        let netns = std::fs::File::open(path).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
        make()
    });
    made.join().unwrap()
}

fn serve(listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nhere");
        }
    });
}

fn answer(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let mut answer = query[..length].to_vec();
            let known = NAMES
                .iter()
                .find(|(name, _)| answer[12..].starts_with(name));
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            match known {
                // One answer for A, none for AAAA.
                Some((name, ip)) if answer[length - 3] == 1 => {
                    let moved = name.starts_with(b"\x04mqtt") && MOVED.load(Ordering::Relaxed);
                    let ip = if moved { &NAMES[1].1 } else { ip };
                    answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
                    answer.extend(ip);
                }
                Some(_) => {}
                None => answer[3] |= 3,
            }
            let _ = socket.send_to(&answer, from);
        }
    });
}

fn server(image: &Image, name: &str, network: serde_json::Value) -> App {
    let mut server = app(image, "exec httpd -f -p 8080 -h /www");
    server.name = AppName::new(name).unwrap();
    server.network = serde_json::from_value::<Network>(network).unwrap();
    server
}

fn fetches(board: &Board, app: &str, at: &str) -> bool {
    let url = format!("http://{at}/");
    let wget = ["timeout", "2", "/bin/wget", "-q", "-O", "-", &url];
    board.run_in(app, &wget) == (true, "here".to_owned())
}

#[test]
fn an_app_goes_where_its_list_says_by_name_and_nowhere_else() {
    let mut board = Board::start();
    let world = World::of(&board);
    serve(inside(&board.name, || {
        TcpListener::bind("0.0.0.0:7000").unwrap()
    }));
    board.set_resolv_conf("nameserver 198.51.100.2\n");
    board.restart_supervisor();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    let listed = serde_json::json!({
        "egress": ["tcp://mqtt.example:7000", "198.51.100.3:7001", "lies.example", "printer:7002"],
        "extra_hosts": {"printer": "198.51.100.2"}
    });
    let apps = |listed: &serde_json::Value| {
        vec![
            server(&image, "web", listed.clone()),
            server(&image, "closed", serde_json::json!({"egress": []})),
            server(&image, "free", serde_json::json!({})),
        ]
    };
    board.commit("1", apps(&listed));
    let holds = |board: &Board| {
        for (at, open) in [
            ("mqtt.example:7000", true),
            ("mqtt.example:7001", false),
            ("198.51.100.3:7001", true),
            ("198.51.100.3:7000", false),
            ("second.example:7001", false),
            ("lies.example:7000", false),
            ("198.51.100.1:7000", false),
            ("printer:7002", true),
            ("free:8080", true),
        ] {
            assert_eq!(fetches(board, "web", at), open, "{at}: {}", board.log());
        }
        for at in [
            "mqtt.example:7000",
            "198.51.100.2:7000",
            "198.51.100.3:7001",
        ] {
            assert!(!fetches(board, "closed", at), "{at}");
        }
        assert!(fetches(board, "closed", "web:8080"));
        for at in ["mqtt.example:7001", "second.example:7000"] {
            assert!(fetches(board, "free", at), "{at}: {}", board.log());
        }
    };
    holds(&board);
    // No other resolver is asked.
    let (_, resolv) = board.run_in("web", &["cat", "/etc/resolv.conf"]);
    assert_eq!(resolv, "nameserver 172.31.0.1\n");
    let elsewhere = [
        "timeout",
        "3",
        "/bin/nslookup",
        "mqtt.example",
        "198.51.100.2",
    ];
    assert!(!board.run_in("web", &elsewhere).0);
    assert!(board.run_in("free", &elsewhere).0);
    let log = board.log();
    for words in [
        "an app asks for a name that is not on its egress list",
        "a name server says an address that is the board's own",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }

    // After a kill all of it holds again, for the same processes.
    let pid = board.app("web").unwrap().pid;
    board.restart_supervisor();
    wait_for("a resolver", WAIT, || {
        fetches(&board, "web", "mqtt.example:7000").then_some(())
    });
    assert_eq!(board.app("web").unwrap().pid, pid);
    holds(&board);

    // Somebody flushes nftables: it holds again soon.
    inside(&board.name, || {
        let flushed = Command::new("nft").args(["flush", "ruleset"]).status();
        assert!(flushed.unwrap().success());
    });
    wait_for("the walls", WAIT, || {
        board.tables().contains("-egress").then_some(())
    });
    holds(&board);

    // The name is somewhere else now: it is found there, and where it was stays open for the time that was told.
    MOVED.store(true, Ordering::Relaxed);
    wait_for("where it is now", WAIT, || {
        fetches(&board, "web", "mqtt.example:7000");
        fetches(&board, "web", "198.51.100.3:7000").then_some(())
    });
    assert!(fetches(&board, "web", "198.51.100.2:7000"));
    MOVED.store(false, Ordering::Relaxed);

    // The next release says something else.
    board.commit(
        "2",
        apps(&serde_json::json!({"egress": ["*.example:7000"]})),
    );
    for (at, open) in [
        ("second.example:7000", true),
        ("mqtt.example:7000", true),
        ("mqtt.example:7001", false),
        ("198.51.100.3:7001", false),
    ] {
        assert_eq!(fetches(&board, "web", at), open, "{at}: {}", board.log());
    }
    board.stop_all();
    assert!(!board.tables().contains("coracle"), "{}", board.tables());
    drop(world);
}

/// What a board says of its own firewall: apps whose release says nothing go nowhere, and nothing of the board is opened.
#[test]
fn a_board_says_where_apps_go_that_say_nothing_and_that_its_services_stay_closed() {
    let mut board = Board::start();
    let world = World::of(&board);
    board.set_resolv_conf("nameserver 198.51.100.2\n");
    let site = "[network]\nmodes = [\"bridge\"]\nparents = [\"eth1\"]\negress = \"none\"\nhost_access = \"never\"\n";
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.restart_supervisor();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    let listed = serde_json::json!({"egress": ["tcp://mqtt.example:7000"]});
    let silent = serde_json::json!({"ports": [{"host": 8095, "container": 8080}]});
    let apps = || {
        vec![
            server(&image, "web", listed.clone()),
            server(&image, "silent", silent.clone()),
        ]
    };
    board.networks = vec![
        serde_json::from_value(serde_json::json!({"name": "front", "host_access": true})).unwrap(),
    ];
    let mut more = apps();
    more.push(server(&image, "bold", serde_json::json!({"mode": "host"})));
    let (release, deploy) = board.documents("1", more);
    let Answer::Refused { code, reason } = board.offer("1", &release, &deploy) else {
        panic!("a network opens the board's services");
    };
    assert_eq!(code, "over-budget");
    for told in [
        "network `front`: host_access is given to no network on this board",
        "`bold`: network mode `host` is not allowed on this board; allowed: bridge",
    ] {
        assert!(
            reason.lines().any(|line| line.starts_with(told)),
            "{told}: {reason}"
        );
    }

    // One that is on a wire as well, which has no rules of ours.
    board.ip("link add eth1 type veth peer name far1");
    board.ip("link set far1 up");
    let plant = serde_json::json!({"name": "plant", "driver": "macvlan", "parent": "eth1", "subnet": "192.168.9.0/24"});
    board.networks = vec![serde_json::from_value(plant).unwrap()];
    let both = serde_json::json!({"networks": [{"name": "bridge"}, {"name": "plant"}]});
    let mut all = apps();
    all.push(server(&image, "both", both));
    board.commit("2", all);
    assert_eq!(board.app("both").unwrap().networks.len(), 2);
    assert!(!fetches(&board, "both", "198.51.100.2:7000"));
    assert!(fetches(&board, "both", "web:8080"));
    assert!(
        fetches(&board, "web", "mqtt.example:7000"),
        "{}",
        board.log()
    );
    for at in ["mqtt.example:7000", "198.51.100.2:7000"] {
        assert!(!fetches(&board, "silent", at), "{at}");
    }
    // Its neighbour, and who comes in by its port.
    assert!(fetches(&board, "silent", "web:8080"));
    assert_eq!(board.get("http://127.0.0.1:8095/").as_deref(), Some("here"));

    // The board says otherwise: from the next start of an app on.
    std::fs::remove_file(board.config().with_file_name("board.toml")).unwrap();
    board.restart_supervisor();
    assert!(!fetches(&board, "silent", "198.51.100.2:7000"));
    let pid = board.app("silent").unwrap().pid;
    assert_eq!(board.control("silent", AppAction::Restart), Answer::Done);
    wait_for("another start", WAIT, || {
        let app = board.app("silent")?;
        (app.pid.is_some() && app.pid != pid).then_some(())
    });
    wait_for("the way out", WAIT, || {
        fetches(&board, "silent", "mqtt.example:7000").then_some(())
    });
    board.stop_all();
    drop(world);
}
