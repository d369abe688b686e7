//! Links of the board under the real supervisor: networks that lie on one, links that an app has whole, and what follows when
//! they change.

mod board;

use board::{Board, app, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image, NetworkSpec};
use coracle_protocol::report::{AppState, Phase};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// Somebody else's network at the other end of a cable; gone with the test.
struct Outside(String);

impl Outside {
    /// A cable from `link` of the board to a machine at `address`.
    fn at(board: &Board, link: &str, address: &str) -> Self {
        let outside = Self(format!("{}-{link}", board.netns()));
        assert!(ip(&["netns", "add", &outside.0]));
        outside.plug(board, link);
        assert!(outside.ip(&["addr", "add", address, "dev", "far"]));
        outside
    }

    fn plug(&self, board: &Board, link: &str) {
        board.ip(&format!(
            "link add {link} type veth peer name far netns {}",
            self.0
        ));
        board.ip(&format!("link set {link} up"));
        assert!(self.ip(&["link", "set", "far", "up"]));
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        ip(&[&["-n", &self.0], arguments].concat())
    }

    /// The page of whom it reaches.
    fn page(&self, at: &str) -> Option<String> {
        let url = format!("http://{at}:8080/");
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.0,
                "curl",
                "-s",
                "--noproxy",
                "*",
                "--max-time",
                "2",
                &url,
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .status()
        .unwrap()
        .success()
}

fn image(board: &Board) -> Image {
    board.image(&rootfs(board, "here"), RunConfig::default())
}

fn server(image: &Image, name: &str, network: Value) -> App {
    let mut server = app(image, "exec httpd -f -p 8080 -h /www");
    server.name = AppName::new(name).unwrap();
    server.network = serde_json::from_value(network).unwrap();
    server
}

fn spec(json: Value) -> NetworkSpec {
    serde_json::from_value(json).unwrap()
}

fn plant() -> NetworkSpec {
    spec(json!({
        "name": "plant", "driver": "macvlan", "parent": "eth1", "subnet": "192.168.7.0/24",
        "ip_range": "192.168.7.64/26"
    }))
}

fn pid_of(board: &Board, app: &str) -> Option<u32> {
    board
        .app(app)
        .filter(|app| app.state == AppState::Running)?
        .pid
}

#[test]
fn an_app_is_a_station_of_a_wire_beside_its_other_networks() {
    let mut board = Board::start();
    let outside = Outside::at(&board, "eth1", "192.168.7.9/24");
    board.networks = vec![plant(), spec(json!({"name": "front"}))];
    let image = image(&board);
    let web = json!({
        "networks": [{"name": "plant", "mac": "02:42:00:00:00:40"}, {"name": "front"}],
        "ports": [{"host": 8095, "container": 8080}]
    });
    let other = json!({"networks": [{"name": "plant"}]});
    let apps = vec![server(&image, "web", web), server(&image, "other", other)];
    board.commit("1", apps.clone());
    let web = board.app("web").unwrap();
    let address = web.networks[0].ip.to_string();
    assert!(address.starts_with("192.168.7.6") || address.starts_with("192.168.7.7"));
    assert_eq!(web.networks[0].gateway.to_string(), "0.0.0.0");
    assert_eq!(outside.page(&address).as_deref(), Some("here"));
    // The way out is the bridge's, and so are the published ports.
    assert_eq!(board.get("http://127.0.0.1:8095/").as_deref(), Some("here"));
    let (_, routes) = board.run_in("web", &["ip", "route"]);
    assert!(
        routes.contains("default via") && routes.contains("dev eth1"),
        "{routes}"
    );
    // Neighbours of the wire know each other by name.
    let (found, text) = board.run_in("other", &["wget", "-q", "-O", "-", "http://web:8080/"]);
    assert!(found && text == "here", "{text}");
    let network = board
        .status()
        .networks
        .into_iter()
        .find(|n| n.name.as_str() == "plant");
    let network = network.unwrap();
    assert_eq!(
        (network.driver.as_str(), network.bridge.as_str()),
        ("macvlan", "eth1")
    );

    // Restarts, of the app with its hardware address, and of the supervisor.
    let first = pid_of(&board, "web");
    kill(first.unwrap());
    wait_for("web", WAIT, || {
        pid_of(&board, "web").filter(|pid| Some(*pid) != first)
    });
    wait_for("its page", WAIT, || outside.page(&address));
    let second = pid_of(&board, "web");
    board.restart_supervisor();
    assert_eq!(pid_of(&board, "web"), second);
    assert_eq!(outside.page(&address).as_deref(), Some("here"));

    // The adapter is pulled out, and plugged in again: only then the apps start anew.
    board.ip("link del eth1");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(pid_of(&board, "web"), second);
    outside.plug(&board, "eth1");
    assert!(outside.ip(&["addr", "add", "192.168.7.9/24", "dev", "far"]));
    wait_for("web on the new link", WAIT, || outside.page(&address));
    assert_ne!(pid_of(&board, "web"), second);

    board.stop_all();
    let links = board.links();
    assert!(links.contains("eth1") && !links.contains("cor"), "{links}");
}

#[test]
fn an_adapter_that_is_plugged_in_again_during_a_trial_restarts_its_app_after_it() {
    let mut board = Board::start();
    let outside = Outside::at(&board, "eth1", "192.168.7.9/24");
    board.networks = vec![plant()];
    let image = image(&board);
    let mut web = server(&image, "web", json!({"networks": [{"name": "plant"}]}));
    web.trial_seconds = 8;
    let (release, deploy) = board.documents("1", vec![web]);
    let needs = board.needs("1", &release, &deploy);
    board.stage_all("1", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("1"), Answer::Done);
    let first = wait_for("web", WAIT, || pid_of(&board, "web"));
    board.ip("link del eth1");
    std::thread::sleep(Duration::from_secs(1));
    outside.plug(&board, "eth1");
    wait_for("a word of it", WAIT, || {
        let log = board.log();
        log.contains("once the deployment has ended").then_some(())
    });
    assert_eq!(pid_of(&board, "web"), Some(first));
    assert_eq!(board.end_of(&mut events, "1").0, Phase::Committed);
    wait_for("web on the new link", WAIT, || {
        pid_of(&board, "web").filter(|pid| *pid != first)
    });
}

#[test]
fn an_app_starts_once_its_networks_link_is_there() {
    let mut board = Board::start();
    board.networks = vec![plant()];
    let image = image(&board);
    let outside = Outside::at(&board, "eth1", "192.168.7.9/24");
    let web = json!({"networks": [{"name": "plant"}]});
    board.commit("1", vec![server(&image, "web", web)]);
    let address = board.app("web").unwrap().networks[0].ip.to_string();
    // The board boots without it.
    board.stop_all();
    board.ip("link del eth1");
    board.start_supervisor();
    wait_for("why it does not run", WAIT, || {
        board
            .app("web")?
            .health_text?
            .contains("there is no network plant")
            .then_some(())
    });
    outside.plug(&board, "eth1");
    assert!(outside.ip(&["addr", "add", "192.168.7.9/24", "dev", "far"]));
    wait_for("its page", WAIT, || outside.page(&address));
}

/// What has gone with an app and come back, under every end that there is.
#[test]
fn a_link_of_the_board_is_an_apps_while_it_runs() {
    let mut board = Board::start();
    let outside = Outside::at(&board, "lan0", "192.168.8.9/24");
    let image = image(&board);
    let bus = json!({
        "mode": "none", "interfaces": [{"name": "lan0", "address": "192.168.8.1/24"}]
    });
    board.commit("1", vec![server(&image, "bus", bus.clone())]);
    let here = |board: &Board| board.links().contains("lan0");
    let page = |outside: &Outside| outside.page("192.168.8.1");
    assert!(!here(&board), "{}", board.links());
    assert_eq!(page(&outside).as_deref(), Some("here"));

    // A crash of the app.
    let first = pid_of(&board, "bus");
    kill(first.unwrap());
    wait_for("bus", WAIT, || {
        pid_of(&board, "bus").filter(|pid| Some(*pid) != first)
    });
    wait_for("its page", WAIT, || page(&outside));
    // A crash of the supervisor.
    let second = pid_of(&board, "bus");
    board.restart_supervisor();
    assert_eq!(pid_of(&board, "bus"), second);
    assert_eq!(page(&outside).as_deref(), Some("here"));
    // Both: the app ends while nobody is there to take the link back. This one is not hardware, so that the kernel would
    // destroy it with the app's network.
    board.kill_supervisor();
    kill(second.unwrap());
    std::thread::sleep(Duration::from_millis(500));
    board.start_supervisor();
    wait_for("bus", WAIT, || {
        pid_of(&board, "bus").filter(|pid| Some(*pid) != second)
    });
    wait_for("its page", WAIT, || page(&outside));

    // A person stops it.
    assert_eq!(board.control("bus", AppAction::Stop), Answer::Done);
    wait_for("the link", WAIT, || here(&board).then_some(()));
    assert_eq!(board.control("bus", AppAction::Start), Answer::Done);
    wait_for("its page", WAIT, || page(&outside));
    // An update: the link goes from one app to another.
    board.commit("2", vec![server(&image, "heir", bus)]);
    assert_eq!(page(&outside).as_deref(), Some("here"));
    // And to none.
    board.commit("3", vec![server(&image, "heir", json!({}))]);
    assert!(here(&board), "{}", board.links());
    board.stop_all();
    assert!(here(&board));
    let held = std::fs::read_dir(board.dir.path().join("run/supervisor/netns")).unwrap();
    assert_eq!(held.count(), 0);
}

/// A server of the outside; gone with the test.
struct Page(std::process::Child);

impl Page {
    fn of(board: &Board, outside: &Outside) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &outside.0, "busybox", "httpd", "-f"]);
        command.args(["-p", "8080", "-h"]);
        command.arg(rootfs(board, "outside").join("www"));
        Self(command.spawn().unwrap())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn links_that_get_other_names_restart_no_app_and_a_lent_one_comes_back_under_its_own() {
    let mut board = Board::start();
    let world = Outside::at(&board, "eth0", "203.0.113.9/24");
    board.ip("addr add 203.0.113.1/24 dev eth0");
    let wire = Outside::at(&board, "eth1", "192.168.7.9/24");
    let field = Outside::at(&board, "lan0", "192.168.8.9/24");
    let _page = Page::of(&board, &world);
    board.networks = vec![plant()];
    let image = image(&board);
    let apps = vec![
        server(
            &image,
            "web",
            json!({"ports": [{"host": 8080, "container": 8080}]}),
        ),
        server(&image, "station", json!({"networks": [{"name": "plant"}]})),
        server(
            &image,
            "bus",
            json!({"mode": "none", "interfaces": [{"name": "lan0", "address": "192.168.8.1/24"}]}),
        ),
    ];
    board.commit("1", apps);
    let station = board.app("station").unwrap().networks[0].ip.to_string();
    let pids = |board: &Board| ["web", "station", "bus"].map(|app| pid_of(board, app));
    let first = pids(&board);
    let work = |board: &Board| {
        let url = "http://203.0.113.9:8080/";
        wait_for("the way in", WAIT, || world.page("203.0.113.1"));
        wait_for("the way out", WAIT, || {
            let (found, text) =
                board.run_in("web", &["timeout", "2", "/bin/wget", "-q", "-O", "-", url]);
            (found && text == "outside").then_some(())
        });
        wait_for("the wire", WAIT, || wire.page(&station));
        wait_for("the lent link", WAIT, || field.page("192.168.8.1"));
    };
    work(&board);

    let rename = |board: &Board, from: &str, to: &str| {
        board.ip(&format!("link set {from} down"));
        board.ip(&format!("link set {from} name {to}"));
        board.ip(&format!("link set {to} up"));
    };
    rename(&board, "eth0", "enp1s0");
    rename(&board, "eth1", "enp2s0");
    let bus = first[2].unwrap().to_string();
    let inside = "ip link set lan0 down; ip link set lan0 name field0; ip link set field0 up";
    let done = Command::new("nsenter")
        .args(["-t", &bus, "--net", "--", "sh", "-ec", inside])
        .status();
    assert!(done.unwrap().success());
    // Longer than the supervisor waits for more changes.
    std::thread::sleep(Duration::from_secs(2));
    work(&board);
    assert_eq!(pids(&board), first);
    board.restart_supervisor();
    std::thread::sleep(Duration::from_secs(2));
    work(&board);
    assert_eq!(pids(&board), first);
    rename(&board, "enp1s0", "eth0");
    rename(&board, "enp2s0", "eth1");
    std::thread::sleep(Duration::from_secs(2));
    work(&board);
    assert_eq!(pids(&board), first);

    // The board's name of it is the one that the release says.
    assert_eq!(board.control("bus", AppAction::Stop), Answer::Done);
    wait_for("the link", WAIT, || {
        board.links().contains("lan0").then_some(())
    });
    assert_eq!(board.control("bus", AppAction::Start), Answer::Done);
    wait_for("its page", WAIT, || field.page("192.168.8.1"));
    board.stop_all();
    let links = board.ip("link show lan0");
    assert!(!links.contains("alias"), "{links}");
}

#[test]
fn an_app_keeps_its_link_when_another_one_gets_its_name() {
    let mut board = Board::start();
    let outside = Outside::at(&board, "lan0", "192.168.8.9/24");
    let image = image(&board);
    let bus = json!({
        "mode": "none", "interfaces": [{"name": "lan0", "address": "192.168.8.1/24"}]
    });
    board.commit("1", vec![server(&image, "bus", bus)]);
    let page = || outside.page("192.168.8.1");
    assert_eq!(page().as_deref(), Some("here"));
    // An adapter is plugged in, and the kernel calls it as the first that is free.
    board.ip("link add lan0 type veth peer name stranger");
    let first = pid_of(&board, "bus");
    kill(first.unwrap());
    wait_for("bus", WAIT, || {
        pid_of(&board, "bus").filter(|pid| Some(*pid) != first)
    });
    wait_for("its page, by its own link", WAIT, page);
    assert_eq!(board.control("bus", AppAction::Stop), Answer::Done);
    let has = |name: &str| board.links().contains(name);
    wait_for("the link", WAIT, || has("dev").then_some(()));
    assert!(has("lan0") && page().is_none(), "{}", board.links());
    // It is pulled out again.
    board.ip("link del stranger");
    wait_for("its name", WAIT, || {
        (has("lan0") && !has("dev")).then_some(())
    });
    assert_eq!(board.control("bus", AppAction::Start), Answer::Done);
    wait_for("its page", WAIT, page);
}

#[test]
fn a_link_that_came_back_under_another_name_has_its_own_after_everything_was_stopped() {
    let mut board = Board::start();
    let _outside = Outside::at(&board, "lan0", "192.168.8.9/24");
    let image = image(&board);
    let bus = json!({
        "mode": "none", "interfaces": [{"name": "lan0", "address": "192.168.8.1/24"}]
    });
    board.commit("1", vec![server(&image, "bus", bus)]);
    board.ip("link add lan0 type veth peer name stranger");
    assert_eq!(board.control("bus", AppAction::Stop), Answer::Done);
    let has = |board: &Board, name: &str| board.links().contains(name);
    wait_for("the link", WAIT, || has(&board, "dev").then_some(()));
    // What had its name goes while no supervisor is there to see it.
    board.kill_supervisor();
    board.ip("link del stranger");
    assert!(!has(&board, "lan0"));
    board.stop_all();
    let links = board.links();
    assert!(links.contains("lan0") && !links.contains("dev"), "{links}");
}

/// The one app of the next test, and why it does not run.
fn fault(board: &Board) -> Option<String> {
    let app = board.app("bus")?;
    app.health_text.filter(|_| app.state != AppState::Running)
}

#[test]
fn a_link_that_cannot_be_taken_back_or_is_not_given_any_more_is_lent_to_nobody() {
    let mut board = Board::start();
    let outside = Outside::at(&board, "lan0", "192.168.8.9/24");
    let image = image(&board);
    let bus = json!({
        "mode": "none", "interfaces": [{"name": "lan0", "address": "192.168.8.1/24"}]
    });
    board.commit("1", vec![server(&image, "bus", bus)]);
    let page = || outside.page("192.168.8.1");
    assert_eq!(page().as_deref(), Some("here"));

    // Which links are with it cannot be read: they are not given up with its network.
    let names = board.dir.path().join("run/supervisor/netns/bus.links");
    let text = std::fs::read(&names).unwrap();
    let pid = pid_of(&board, "bus").unwrap();
    board.kill_supervisor();
    kill(pid);
    std::fs::write(&names, "[").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    board.start_supervisor();
    let why = wait_for("why it does not run", WAIT, || fault(&board));
    assert!(why.contains("bus.links"), "{why}");
    std::fs::write(&names, text).unwrap();
    wait_for("its page", WAIT, page);

    // The site keeps it for itself from now on.
    board.stop_all();
    let site = board.config().with_file_name("board.toml");
    std::fs::write(site, "[network]\ninterfaces = [\"wan?\"]\n").unwrap();
    board.start_supervisor();
    let why = wait_for("why it does not run", WAIT, || fault(&board));
    assert!(why.contains("link `lan0`"), "{why}");
    assert!(board.links().contains("lan0"), "{}", board.links());
}

#[test]
fn links_that_the_board_does_not_give_are_refused_all_at_once() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![server(&image, "web", json!({}))]);
    board.ip("link add eth0 type veth peer name wan");
    board.networks = vec![
        spec(
            json!({"name": "a", "driver": "macvlan", "parent": "wlp2s0", "subnet": "10.1.0.0/24"}),
        ),
        spec(json!({"name": "back", "subnet": "172.31.5.0/24"})),
        spec(
            json!({"name": "late", "driver": "macvlan", "parent": "eth5", "subnet": "10.5.0.0/24"}),
        ),
    ];
    let takes = |name: &str, links: Value| {
        server(&image, name, json!({"mode": "none", "interfaces": links}))
    };
    let apps = vec![
        takes("router", json!([{"name": "eth0"}])),
        takes("spy", json!([{"name": "cor0"}])),
        takes("bus", json!([{"name": "lan7"}])),
        server(&image, "web", json!({"networks": [{"name": "a"}]})),
    ];
    let (release, deploy) = board.documents("2", apps);
    let Answer::Refused { reason, .. } = board.offer("2", &release, &deploy) else {
        panic!("accepted");
    };
    for words in [
        "network `a`: `wlp2s0` carries no networks on this board; allowed: eth?",
        "app `router`: `eth0` is an uplink of this board",
        "app `spy`: `cor0` is not given away on this board; allowed: lan?, can*",
        "network `back`: subnet 172.31.5.0/24 overlaps 172.31.0.0/16 of network bridge",
        "app `bus`: link `lan7` is not on this board",
        "network `late`: parent `eth5` is not on this board",
    ] {
        assert!(reason.contains(words), "{words}:\n{reason}");
    }
    assert!(board.links().contains("eth0"));
}

#[test]
fn a_route_that_leads_to_a_networks_addresses_is_told() {
    let mut board = Board::start();
    board.networks = vec![spec(json!({"name": "front", "subnet": "10.80.0.0/24"}))];
    let image = image(&board);
    let web = json!({"networks": [{"name": "front"}]});
    board.commit("1", vec![server(&image, "web", web)]);
    let told = |board: &Board| {
        let networks = board.status().networks;
        let front = networks.into_iter().find(|n| n.name.as_str() == "front");
        front?.overlaps
    };
    assert_eq!(told(&board), None);
    let pid = pid_of(&board, "web");
    board.route("10.80.0.0/16");
    let text = wait_for("the overlap", WAIT, || told(&board));
    assert_eq!(text, "route 10.80.0.0/16 of lo");
    board.ip("route del 10.80.0.0/16 dev lo");
    wait_for("no overlap", WAIT, || told(&board).is_none().then_some(()));
    assert_eq!(pid_of(&board, "web"), pid);
}

#[test]
fn the_bridge_takes_the_uplinks_packet_size() {
    let mut board = Board::start();
    board.stop_all();
    board.ip("link add eth0 mtu 1400 type veth peer name wan");
    board.start_supervisor();
    let image = image(&board);
    board.commit("1", vec![server(&image, "web", json!({}))]);
    let (_, link) = board.run_in("web", &["ip", "link", "show", "eth0"]);
    assert!(link.contains("mtu 1400"), "{link}");
}
