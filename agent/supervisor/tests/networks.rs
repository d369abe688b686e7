//! Networks of a release, with real containers under the real supervisor.

mod board;

use board::{Board, app, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image, Network, NetworkSpec};
use coracle_protocol::report::{AppState, Phase};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

fn image(board: &Board) -> Image {
    board.image(&rootfs(board, "here"), RunConfig::default())
}

fn spec(json: serde_json::Value) -> NetworkSpec {
    serde_json::from_value(json).unwrap()
}

/// An app that serves its page on port 8080.
fn server(image: &Image, name: &str, network: serde_json::Value) -> App {
    let mut server = app(image, "exec httpd -f -p 8080 -h /www");
    server.name = AppName::new(name).unwrap();
    server.network = serde_json::from_value::<Network>(network).unwrap();
    server
}

/// A board with `web` on `front` and `back`, `db` on `back`, `other` on `front`.
fn three(board: &mut Board) {
    board.networks = vec![
        spec(serde_json::json!({"name": "front"})),
        spec(serde_json::json!({"name": "back", "subnet": "10.77.0.0/24", "internal": true})),
    ];
    let image = image(board);
    let apps = vec![
        server(
            &image,
            "web",
            serde_json::json!({
                "networks": [{"name": "back"}, {"name": "front", "aliases": ["www"]}],
                "ports": [{"host": 8091, "container": 8080}, {"host": 8092, "container": 8080}]
            }),
        ),
        server(
            &image,
            "db",
            serde_json::json!({"networks": [
                {"name": "back", "ip": "10.77.0.10", "mac": "02:42:00:00:00:0a", "aliases": ["store"]}
            ]}),
        ),
        server(
            &image,
            "other",
            serde_json::json!({"networks": [{"name": "front"}]}),
        ),
    ];
    board.commit("1", apps);
}

/// What the resolver that an app is sent to says.
fn asked(board: &Board, app: &str, name: &str) -> Option<String> {
    let (found, text) = board.run_in(app, &["nslookup", "-type=a", name]);
    found.then_some(text)
}

fn page(board: &Board, app: &str, at: &str) -> Option<String> {
    let url = format!("http://{at}:8080/");
    let (found, text) = board.run_in(app, &["timeout", "2", "/bin/wget", "-q", "-O", "-", &url]);
    if !found {
        eprintln!("{app} at {url}: {text}");
    }
    found.then_some(text)
}

/// Processes of the supervisor that bear the resolvers' user.
fn resolvers(board: &Board) -> Vec<u32> {
    let pid = board.supervisor_pid();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap();
    let is = |pid: &u32| status_of(*pid).contains("Uid:\t65533\t65533\t65533\t65533");
    let all = children.split_whitespace().map(|pid| pid.parse().unwrap());
    all.filter(is).collect()
}

fn status_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

#[test]
fn apps_find_each_other_by_name_on_their_networks_alone() {
    let mut board = Board::start();
    three(&mut board);
    let web = board.app("web").unwrap();
    let places: Vec<_> = web
        .networks
        .iter()
        .map(|place| (place.network.as_str(), place.interface.as_str()))
        .collect();
    assert_eq!(places, [("back", "eth0"), ("front", "eth1")]);
    let db = board.app("db").unwrap().networks[0].clone();
    assert_eq!(
        (db.ip.to_string(), db.mac.to_string()),
        ("10.77.0.10".into(), "02:42:00:00:00:0a".into())
    );

    // The resolver of the network that leads out knows the names of the other one for who is on both.
    let gateway = web.networks[1].gateway;
    let (_, resolv) = board.run_in("web", &["cat", "/etc/resolv.conf"]);
    assert!(
        resolv.contains(&format!("nameserver {gateway}\n")),
        "{resolv}"
    );
    for name in ["db", "store"] {
        let said = asked(&board, "web", name).unwrap_or_else(|| panic!("{name}: {}", board.log()));
        assert!(said.contains("10.77.0.10"), "{name}: {said}");
        assert_eq!(page(&board, "web", name).as_deref(), Some("here"));
    }
    let said = asked(&board, "other", "www").unwrap();
    assert!(said.contains(&web.networks[1].ip.to_string()), "{said}");
    assert_eq!(page(&board, "other", "web").as_deref(), Some("here"));
    assert!(asked(&board, "other", "db").is_none_or(|said| !said.contains("10.77.0.10")));
    assert_eq!(page(&board, "other", "10.77.0.10"), None);
    // An internal network leads nowhere, and its resolver asks nobody.
    let (_, routes) = board.run_in("db", &["ip", "route"]);
    assert!(!routes.contains("default"), "{routes}");
    assert_eq!(asked(&board, "db", "example.org"), None);
    assert!(
        asked(&board, "db", "web")
            .unwrap()
            .contains(&web.networks[0].ip.to_string())
    );
    // Published through the network that leads out.
    for port in [8091, 8092] {
        assert_eq!(
            board.get(&format!("http://127.0.0.1:{port}/")).as_deref(),
            Some("here")
        );
    }
    let traffic = board.app("other").unwrap().networks[0].traffic.unwrap();
    assert!(
        traffic.sent_packets > 0 && traffic.received_bytes > 0,
        "{traffic:?}"
    );
    let names: Vec<_> = board
        .status()
        .networks
        .into_iter()
        .map(|n| n.name.to_string())
        .collect();
    assert_eq!(names, ["bridge", "front", "back"]);
}

#[test]
fn a_resolver_has_no_rights_and_comes_back_when_it_dies() {
    let mut board = Board::start();
    three(&mut board);
    let running = resolvers(&board);
    assert_eq!(running.len(), 2, "one for each network");
    for pid in &running {
        let status = status_of(*pid);
        for line in [
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        // Nothing to open: its root is an empty folder.
        let root = std::fs::read_dir(format!("/proc/{pid}/root")).unwrap();
        assert_eq!(root.count(), 0);
    }
    running.iter().for_each(|pid| kill(*pid));
    wait_for("new resolvers", WAIT, || {
        let now = resolvers(&board);
        (now.len() == 2 && now.iter().all(|pid| !running.contains(pid))).then_some(())
    });
    wait_for("an answer", WAIT, || asked(&board, "web", "db"));
    assert_eq!(board.app("web").unwrap().restarts, 0);
}

#[test]
fn a_killed_supervisor_finds_its_networks_again_and_an_update_takes_them_away() {
    let mut board = Board::start();
    three(&mut board);
    let before = board.app("web").unwrap();
    board.restart_supervisor();
    let after = board.app("web").unwrap();
    let addresses = |app: &coracle_protocol::report::AppStatus| -> Vec<_> {
        app.networks.iter().map(|place| place.ip).collect()
    };
    assert_eq!(
        (before.pid, addresses(&before)),
        (after.pid, addresses(&after))
    );
    assert!(asked(&board, "web", "db").unwrap().contains("10.77.0.10"));
    // Who starts anew gets its address again, and nobody else's.
    assert_eq!(board.control("other", AppAction::Restart), Answer::Done);
    let other = wait_for("other", WAIT, || {
        let app = board.app("other")?;
        (app.state == AppState::Running && app.started_at >= after.started_at).then_some(app)
    });
    assert!(!addresses(&after).contains(&other.networks[0].ip));

    // `back` is elsewhere now, and `front` is gone.
    board.networks = vec![spec(
        serde_json::json!({"name": "back", "subnet": "10.78.0.0/24"}),
    )];
    let image = image(&board);
    let apps = vec![server(
        &image,
        "db",
        serde_json::json!({"networks": [{"name": "back"}]}),
    )];
    board.commit("2", apps);
    let db = board.app("db").unwrap();
    assert_eq!(db.networks[0].gateway.to_string(), "10.78.0.1");
    let links = board.links();
    assert_eq!(links.matches("cor-n").count(), 1, "{links}");
    assert_eq!(resolvers(&board).len(), 1);

    board.stop_all();
    let (links, tables) = (board.links(), board.tables());
    assert!(!links.contains("cor") && !links.contains("vn0"), "{links}");
    assert!(!tables.contains("coracle"), "{tables}");
}

#[test]
fn names_and_rates_are_as_asked() {
    let mut board = Board::start();
    board.networks = vec![spec(serde_json::json!({"name": "front"}))];
    let image = image(&board);
    let own = serde_json::json!({
        "networks": [{"name": "bridge"}],
        "dns": ["192.0.2.53"], "dns_search": ["a.example", "b.example"],
        "extra_hosts": {"printer": "192.0.2.9", "board": "host-gateway"},
        "rates": {"ingress_bytes_per_second": 1_000_000, "egress_bytes_per_second": 2_000_000}
    });
    let front = serde_json::json!({"networks": [{"name": "front"}], "dns": ["192.0.2.53"]});
    board.commit(
        "1",
        vec![server(&image, "web", own), server(&image, "db", front)],
    );
    let (_, resolv) = board.run_in("web", &["cat", "/etc/resolv.conf"]);
    assert!(
        resolv.starts_with("search a.example b.example\nnameserver 172.31.0.1\n"),
        "{resolv}"
    );
    assert_eq!(resolv.matches("nameserver").count(), 1);
    let (_, hosts) = board.run_in("web", &["cat", "/etc/hosts"]);
    assert!(
        hosts.contains("192.0.2.9\tprinter\n") && hosts.contains("172.31.0.1\tboard\n"),
        "{hosts}"
    );
    // It asks the resolver of its network, which asks for it.
    let (_, resolv) = board.run_in("db", &["cat", "/etc/resolv.conf"]);
    let gateway = board.app("db").unwrap().networks[0].gateway;
    assert!(
        resolv.contains(&format!("nameserver {gateway}\n")),
        "{resolv}"
    );

    let place = board.app("web").unwrap().networks[0].clone();
    assert_eq!(place.rates.ingress_bytes_per_second, Some(1_000_000));
    assert!(board.queues().contains("tbf"), "{}", board.queues());
    assert!(
        board.tables().contains("table netdev coracle-cor0"),
        "{}",
        board.tables()
    );
}

#[test]
fn an_app_uses_anothers_network_and_goes_where_it_goes() {
    let mut board = Board::start();
    let image = image(&board);
    let web = server(&image, "web", serde_json::json!({}));
    let guest = serde_json::json!({"mode": "container", "container": "web"});
    let mut guest = server(&image, "guest", guest);
    guest.args = vec!["/bin/sleep".into(), "1000".into()];
    // Named first, and started second all the same.
    board.commit("1", vec![guest, web]);
    let netns = |board: &Board, app: &str| {
        let app = board.app(app)?;
        std::fs::read_link(format!("/proc/{}/ns/net", app.pid?)).ok()
    };
    let first = netns(&board, "web").unwrap();
    assert_eq!(netns(&board, "guest").unwrap(), first);
    assert_eq!(page(&board, "guest", "127.0.0.1").as_deref(), Some("here"));
    let (_, hosts) = board.run_in("guest", &["cat", "/etc/hosts"]);
    assert!(hosts.contains("\tweb\n"), "{hosts}");
    let guest = board.app("guest").unwrap();
    assert_eq!(guest.network_of.unwrap().as_str(), "web");
    assert!(guest.networks.is_empty() && guest.ip.is_none());

    // A next supervisor finds both where they are, and the guest alone comes back to where it was.
    let pids = |board: &Board| ["web", "guest"].map(|app| board.app(app).unwrap().pid);
    let before = pids(&board);
    board.restart_supervisor();
    assert_eq!(pids(&board), before);
    kill(before[1].unwrap());
    wait_for("the guest again", WAIT, || {
        let now = pids(&board);
        (now[1].is_some() && now[1] != before[1]).then_some(())
    });
    assert_eq!(pids(&board)[0], before[0]);
    assert_eq!(netns(&board, "guest").unwrap(), first);
    assert_eq!(page(&board, "guest", "127.0.0.1").as_deref(), Some("here"));

    kill(before[0].unwrap());
    wait_for("both in a new network", WAIT, || {
        let (web, guest) = (netns(&board, "web")?, netns(&board, "guest")?);
        (web == guest && web != first).then_some(())
    });
    assert_eq!(page(&board, "guest", "127.0.0.1").as_deref(), Some("here"));
    // Without the one there is no other.
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for("the guest's end", WAIT, || {
        let guest = board.app("guest")?;
        (guest.pid.is_none()
            && guest
                .health_text?
                .contains("`web`, whose network it uses, does not run"))
        .then_some(())
    });
}

/// A program of the board that listens; gone with the test.
struct Program(std::process::Child);

impl Program {
    fn listening(board: &Board, at: (&str, u16)) -> Self {
        let script = format!(
            "import socket\ns = socket.socket()\ns.bind(('{}', {}))\ns.listen()\nprint('here', flush=True)\ninput()",
            at.0, at.1
        );
        let mut child = std::process::Command::new("ip")
            .args(["netns", "exec", board.netns(), "python3", "-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        Self(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_port_of_a_program_of_the_board_is_refused_with_its_name() {
    let mut board = Board::start();
    let image = image(&board);
    let mut host = server(&image, "web", serde_json::json!({"mode": "host"}));
    host.args = vec![
        "/bin/sh".into(),
        "-c".into(),
        "exec httpd -f -p 8096 -h /www".into(),
    ];
    board.commit("1", vec![host]);
    let _tcp = Program::listening(&board, ("127.0.0.9", 8097));
    let _udp = board.listen_udp("0.0.0.0:7053");
    let with =
        |ports: serde_json::Value| vec![server(&image, "web", serde_json::json!({"ports": ports}))];
    let mut refusal = |version: &str, ports: serde_json::Value| {
        let (release, deploy) = board.documents(version, with(ports));
        match board.offer(version, &release, &deploy) {
            Answer::Refused { code, reason } => {
                assert_eq!(code, "port-taken");
                Some(reason)
            }
            _ => None,
        }
    };
    let both = serde_json::json!([
        {"host": 8097, "container": 8080},
        {"host": 7053, "container": 53, "protocol": "udp"},
        {"host": 7053, "container": 53}
    ]);
    let reason = refusal("2", both).unwrap();
    let lines: Vec<&str> = reason.lines().collect();
    assert_eq!(lines.len(), 2, "{reason}");
    assert!(
        lines[0].starts_with("app `web`: port 8097/tcp is that of `python3` (process ")
            && lines[0].contains("listens on 127.0.0.9:8097"),
        "{reason}"
    );
    assert!(lines[1].contains("port 7053/udp"), "{reason}");
    let at = |ip: &str| serde_json::json!([{"host": 8097, "container": 8080, "host_ip": ip}]);
    assert!(refusal("3", at("127.0.0.9")).is_some());
    assert_eq!(refusal("4", at("127.0.0.1")), None);
    // That of an app goes with it.
    board.commit(
        "5",
        with(serde_json::json!([{"host": 8096, "container": 8080}])),
    );
    assert_eq!(board.get("http://127.0.0.1:8096/").as_deref(), Some("here"));
    // What is published already stays so, whoever came to listen there meanwhile.
    let _late = Program::listening(&board, ("0.0.0.0", 8096));
    board.commit(
        "6",
        with(serde_json::json!([{"host": 8096, "container": 8080}])),
    );
}

#[test]
fn what_the_board_cannot_give_is_said_before_anything_changes() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![server(&image, "web", serde_json::json!({}))]);
    let pid = board.app("web").unwrap().pid;
    board.networks = vec![spec(
        serde_json::json!({"name": "back", "subnet": "172.31.5.0/24"}),
    )];
    let on_back = serde_json::json!({"networks": [{"name": "back"}]});
    let (release, deploy) = board.documents("2", vec![server(&image, "web", on_back.clone())]);
    match board.offer("2", &release, &deploy) {
        Answer::Refused { code, reason } => {
            assert_eq!(code, "subnet-taken");
            assert_eq!(
                reason,
                "network `back`: subnet 172.31.5.0/24 overlaps 172.31.0.0/16 of network bridge"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(board.app("web").unwrap().pid, pid);

    board.ip("-6 addr add fd00:99:0:1::1/64 dev lo");
    board.networks = vec![spec(
        serde_json::json!({"name": "back", "ipv6_subnet": "fd00:99:0:1::/64"}),
    )];
    let (release, deploy) = board.documents("2b", vec![server(&image, "web", on_back.clone())]);
    match board.offer("2b", &release, &deploy) {
        Answer::Refused { code, reason } => {
            assert_eq!(code, "subnet-taken");
            assert!(
                reason.contains("overlaps the route fd00:99:0:1::"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }

    // A network that fails later takes the whole set back.
    board.networks = vec![spec(
        serde_json::json!({"name": "back", "subnet": "10.79.0.0/24"}),
    )];
    let (release, deploy) = board.documents("3", vec![server(&image, "web", on_back)]);
    let needs = board.needs("3", &release, &deploy);
    board.stage_all("3", &needs);
    board.route("10.79.0.0/16");
    let mut events = board.watch();
    assert_eq!(board.activate("3"), Answer::Done);
    let (phase, reason) = board.end_of(&mut events, "3");
    let reason = reason.unwrap();
    assert!(
        phase == Phase::Failed || phase == Phase::RolledBack,
        "{phase}"
    );
    assert!(
        reason.contains("network `back`")
            && reason.contains("overlaps the route 10.79.0.0/16 of lo"),
        "{reason}"
    );
    wait_for("the old set", WAIT, || {
        board
            .app("web")
            .filter(|app| app.state == AppState::Running)
    });
    assert_eq!(
        board.app("web").unwrap().networks[0].network.as_str(),
        "bridge"
    );
}

/// A name server of the board that says 192.0.2.N to every question.
fn name_server(board: &Board, address: &str, n: u8) {
    let socket = board.listen_udp(address);
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let mut answer = query[..length].to_vec();
            // Response, recursion available, one answer and nothing beside it (RFC 1035 4.1.1).
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            // The question's name, A, IN, 0 seconds, 4 bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, n]);
            let _ = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn resolvers_follow_the_boards_own_and_an_apps_own_ones_are_asked_instead() {
    let mut board = Board::start();
    for (address, n) in [
        ("127.0.0.53:53", 1),
        ("127.0.0.54:53", 2),
        ("127.0.0.55:53", 3),
    ] {
        name_server(&board, address, n);
    }
    board.set_resolv_conf("nameserver 127.0.0.53\n");
    board.restart_supervisor();
    board.networks = vec![spec(serde_json::json!({"name": "front"}))];
    let image = image(&board);
    let web = serde_json::json!({"networks": [{"name": "front"}]});
    let own = serde_json::json!({"networks": [{"name": "front"}], "dns": ["127.0.0.55"]});
    let plain = serde_json::json!({});
    board.commit(
        "1",
        vec![
            server(&image, "web", web),
            server(&image, "own", own),
            server(&image, "plain", plain),
        ],
    );
    let says =
        |app: &str, ip: &str| asked(&board, app, "example.org").filter(|said| said.contains(ip));
    assert!(
        says("web", "192.0.2.1").is_some(),
        "{:?}",
        asked(&board, "web", "example.org")
    );
    assert!(
        says("own", "192.0.2.3").is_some(),
        "{:?}",
        asked(&board, "own", "example.org")
    );
    assert!(
        says("plain", "192.0.2.1").is_some(),
        "on the board's own network"
    );
    // DHCP gave another one.
    board.set_resolv_conf("nameserver 127.0.0.54\n");
    for app in ["web", "plain"] {
        wait_for("the other resolver", WAIT, || says(app, "192.0.2.2"));
    }
    // The uplink is gone, and with it whom to ask: the others are found all the same.
    board.set_resolv_conf("");
    wait_for("no answer", WAIT, || {
        asked(&board, "web", "example.org").is_none().then_some(())
    });
    assert!(asked(&board, "web", "own").is_some());
}

#[test]
fn where_the_boards_name_server_has_the_port_apps_ask_the_boards_resolvers() {
    let mut board = Board::start();
    let taken = board.listen_udp("0.0.0.0:53");
    board.set_resolv_conf("nameserver 192.0.2.53\n");
    board.restart_supervisor();
    board.networks = vec![spec(serde_json::json!({"name": "front"}))];
    let image = image(&board);
    let on_front = serde_json::json!({"networks": [{"name": "front"}]});
    let apps = vec![
        server(&image, "web", on_front.clone()),
        server(&image, "db", on_front),
    ];
    board.commit("1", apps);
    let (_, resolv) = board.run_in("web", &["cat", "/etc/resolv.conf"]);
    assert_eq!(resolv, "nameserver 192.0.2.53\n");
    assert_eq!(
        page(&board, "web", "db").as_deref(),
        Some("here"),
        "by /etc/hosts"
    );
    assert!(
        board
            .log()
            .contains("a name server of the board listens on every address")
    );
    assert!(resolvers(&board).is_empty());
    // Once it is gone, the next start asks ours.
    drop(taken);
    wait_for("a resolver", WAIT, || resolvers(&board).first().copied());
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    wait_for("the gateway", WAIT, || {
        let gateway = board.app("web")?.networks.first()?.gateway;
        let (_, resolv) = board.run_in("web", &["cat", "/etc/resolv.conf"]);
        resolv
            .contains(&format!("nameserver {gateway}"))
            .then_some(())
    });
}

#[test]
fn the_end_of_everything_goes_on_after_a_failure_and_tells_it() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![server(&image, "web", serde_json::json!({}))]);
    board.kill_supervisor();
    // Which links are with an app cannot be read.
    let names = board.dir.path().join("run/supervisor/netns/bus.links");
    std::fs::create_dir_all(names.parent().unwrap()).unwrap();
    std::fs::write(&names, "[").unwrap();
    // Not by `ip netns exec`, which hides the cgroups.
    let output = std::process::Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", board.netns()))
        .arg(env!("CARGO_BIN_EXE_coracle-supervisor"))
        .args(["stop-all", "--config"])
        .arg(board.config())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("bus.links"), "{told}");
    assert!(!board.links().contains("cor0"), "{}", board.links());
    assert!(!board.tables().contains("coracle"), "{}", board.tables());
    assert_eq!(board.cgroups(), Vec::<std::path::PathBuf>::new());
    std::fs::remove_file(&names).unwrap();
    board.stop_all();
}
