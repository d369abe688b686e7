//! A deployment through brokers of another make, with the lines of `docs/broker.md`: NATS and RabbitMQ as Debian has them.
//! What they must know of the boards is what the console prints.

mod support;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::foreign::{Company, Held, block, deploy};
use support::{Board, Fleet, free_port, need, wait_for};

/// A program and what it starts, which end with their test.
struct Running(Child);

impl Running {
    fn start(program: Command, log: &Path) -> Self {
        // With a test that is interrupted too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(program.get_program()).args(program.get_args());
        let variables = program.get_envs();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        let log = fs::File::options().create(true).append(true).open(log);
        let log = log.unwrap();
        // Erlang ends with its input.
        command.stdin(Stdio::piped()).process_group(0);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.0.id());
        let kill = ["-s", signal, "--", &group];
        Command::new("kill").args(kill).status().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.0.wait();
    }
}

/// What the two have in common here.
struct Place {
    dir: PathBuf,
    port: u16,
}

impl Place {
    fn wait(&self, broker: &mut Running, seconds: u64) {
        wait_for("the broker listens", seconds, || {
            if let Some(status) = broker.0.try_wait().unwrap() {
                panic!("the broker ended ({status}):\n{}", self.log());
            }
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

trait Broker {
    const RIGHTS: &'static str;
    const FILE: &'static str;
    fn start(place: &Place) -> Self;
    /// Has it take in the file of rights anew.
    fn reload(&self, place: &Place);
}

struct Nats(Running);

impl Broker for Nats {
    const RIGHTS: &'static str = "nats";
    const FILE: &'static str = "boards.conf";

    fn start(place: &Place) -> Self {
        need(&[("nats-server", "nats-server")]);
        let dir = place.dir.to_str().unwrap();
        let conf = block("nats")
            .replace("/var/lib/nats/coracle", &format!("{dir}/kept"))
            .replace("/etc/nats/coracle", dir)
            .replace("127.0.0.1:4222", &format!("127.0.0.1:{}", free_port()))
            .replace("0.0.0.0:8883", &format!("127.0.0.1:{}", place.port));
        fs::write(place.dir.join("nats.conf"), conf).unwrap();
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(place.dir.join("nats.conf"));
        let mut broker = Running::start(command, &place.dir.join("log"));
        place.wait(&mut broker, 10);
        Self(broker)
    }

    fn reload(&self, _: &Place) {
        self.0.signal("HUP");
    }
}

/// In the order in which they end.
struct RabbitMq {
    _broker: Running,
    _names: Running,
    environment: Vec<(&'static str, String)>,
}

/// Where the package has its programs; those on the path change to another user.
fn rabbitmq(program: &str) -> PathBuf {
    need(&[
        ("rabbitmq-server", "rabbitmq-server"),
        ("epmd", "erlang-base"),
    ]);
    let folders = fs::read_dir("/usr/lib/rabbitmq/lib");
    let folders = folders
        .expect("/usr/lib/rabbitmq/lib, of Debian's package rabbitmq-server")
        .flatten();
    let mut programs = folders.map(|folder| folder.path().join("sbin").join(program));
    let found = programs.find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("no {program} in /usr/lib/rabbitmq/lib: apt install rabbitmq-server")
    })
}

impl Broker for RabbitMq {
    const RIGHTS: &'static str = "rabbitmq";
    const FILE: &'static str = "boards.json";

    fn start(place: &Place) -> Self {
        let server = rabbitmq("rabbitmq-server");
        let dir = place.dir.to_str().unwrap();
        let conf = block("rabbitmq")
            .replace("/etc/rabbitmq/coracle", dir)
            .replace(
                "ssl.default = 8883",
                &format!("ssl.default = 127.0.0.1:{}", place.port),
            );
        fs::write(place.dir.join("rabbitmq.conf"), conf).unwrap();
        let plugins = "[rabbitmq_mqtt,rabbitmq_auth_mechanism_ssl].";
        fs::write(place.dir.join("enabled_plugins"), plugins).unwrap();
        let at = |name: &str| format!("{dir}/{name}");
        // Erlang would start a daemon that names nodes, and leave it.
        let names = free_port();
        let environment = vec![
            ("HOME", dir.to_owned()),
            ("ERL_EPMD_PORT", names.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("coracle-{names}@localhost")),
            ("RABBITMQ_DIST_PORT", free_port().to_string()),
            ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", at("kept")),
            ("RABBITMQ_LOG_BASE", at("logs")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_PID_FILE", at("pid")),
            // Else its program would be the child of a shell.
            ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
        ];
        let mut command = Command::new("epmd");
        command.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        let names = Running::start(command, &place.dir.join("epmd.log"));
        let mut command = Command::new(server);
        command.envs(environment.iter().cloned());
        let mut broker = Running::start(command, &place.dir.join("log"));
        place.wait(&mut broker, 90);
        Self {
            _broker: broker,
            _names: names,
            environment,
        }
    }

    fn reload(&self, place: &Place) {
        let done = Command::new(rabbitmq("rabbitmqctl"))
            .envs(self.environment.iter().cloned())
            .arg("import_definitions")
            .arg(place.dir.join(Self::FILE))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

/// Writes what the broker must know of the boards; what the program says of it.
fn rights<B: Broker>(fleet: &Fleet, place: &Place) -> String {
    let state = fleet.path("state").display().to_string();
    let file = place.dir.join(B::FILE).display().to_string();
    let command = ["boards", "rights", "--state", &state, "--broker", B::RIGHTS];
    let (good, said) = fleet.run(&[&command[..], &["--output", &file]].concat());
    assert!(good, "{said}");
    said
}

/// A client under a board's certificate, which is killed after some seconds: a broker may end its connection for what it
/// asks, and a client of mosquitto then comes again and again.
fn briefly(board: &Board, seconds: u32, program: &str, arguments: &[&str]) -> Command {
    let client = board.mosquitto(program);
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", &seconds.to_string()]);
    command.arg(client.get_program()).args(client.get_args());
    command.args(["-q", "1"]).args(arguments);
    command
}

/// What a client of `board` hears first with these arguments, while the console's user says something to `spoken` five
/// times a second, and of what is retained.
fn hears(
    fleet: &Fleet,
    board: &Board,
    seconds: u32,
    arguments: &[&str],
    spoken: &Board,
) -> Vec<u8> {
    let arguments = [&["-C", "1"], arguments].concat();
    let mut client = briefly(board, seconds, "mosquitto_sub", &arguments);
    client.stdout(Stdio::piped()).stderr(Stdio::null());
    let client = client.spawn().unwrap();
    let [_, certificate, key] = fleet.console_certificates();
    let files = [board.dir.join("ca.crt"), certificate, key];
    let mut speaker = support::mosquitto("mosquitto_pub", fleet.mqtt, files);
    let [repeat, topic] = [(5 * seconds).to_string(), spoken.topic("command")];
    let mut speaker = speaker
        .args(["-i", "speaker", "-q", "1", "--repeat", &repeat])
        .args(["--repeat-delay", "0.2", "-t", &topic, "-m", "spoken"])
        .spawn()
        .unwrap();
    let heard = client.wait_with_output().unwrap().stdout;
    assert!(speaker.wait().unwrap().success());
    heard
}

/// In so many seconds the board's own word comes through in both ways, so that silence says something.
fn seconds_that_do(fleet: &Fleet, board: &Board) -> u32 {
    let own = ["-t", &board.topic("command")];
    let word = ["-t", &board.topic("telemetry"), "-m", "{}"];
    let does = |seconds: u32| {
        let mut publish = briefly(board, seconds, "mosquitto_pub", &word);
        hears(fleet, board, seconds, &own, board) == b"spoken\n"
            && publish.output().unwrap().status.success()
    };
    let seconds = [1, 2, 4, 8].into_iter().find(|seconds| does(*seconds));
    // With as much again for a machine that has more to do.
    2 * seconds.expect("a board's own messages come through")
}

/// What a board may not do.
fn is_kept_apart(fleet: &Fleet, board: &Board, other: &Board) {
    let seconds = seconds_that_do(fleet, board);
    let run = |program: &str, arguments: &[&str]| {
        let mut command = briefly(board, seconds, program, arguments);
        command.output().unwrap();
    };
    let own = board.topic("desired");
    let (theirs, theirs_in_full) = (other.id.as_str(), format!("CN={}", other.id));
    for topic in [
        &other.topic("desired"),
        &other.topic("command"),
        "coracle/v1/+/desired",
        "coracle/v1/+/command",
        "coracle/v1/#",
        "#",
        "$MQTT/sub/#",
        "$MQTT/#",
    ] {
        let heard = hears(fleet, board, seconds, &["-t", topic], other);
        assert!(heard.is_empty(), "{topic}: {heard:?}");
    }
    // The certificate counts, and neither a name nor an identifier that a client gives itself.
    for claim in [
        vec!["-u", theirs, "-P", ""],
        vec!["-u", &theirs_in_full, "-P", ""],
        vec!["-i", theirs],
        vec!["-i", theirs, "-c", "-u", theirs],
    ] {
        for topic in ["desired", "command"].map(|level| other.topic(level)) {
            let claim = [&claim[..], &["-t", &topic]].concat();
            let heard = hears(fleet, board, seconds, &claim, other);
            assert!(heard.is_empty(), "{claim:?}: {heard:?}");
        }
    }
    // Nor can it throw the console out, whose identifier it does not know.
    let lost = || fleet.log().matches("no broker").count();
    let before = lost();
    run("mosquitto_sub", &["-i", "console", "-t", &own]);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lost(), before, "the console was thrown out");
    let before = fleet.get(&format!("/api/v1/boards/{}", other.id));
    let desired = other.read(&other.topic("desired"), 5);
    assert!(desired.is_some());
    let gone = json!({"online": false, "session": 9}).to_string();
    let failed = json!({"activity": "x", "sequence": 1, "phase": "failed"}).to_string();
    for (topic, message) in [
        (other.topic("presence"), &gone),
        (other.topic("feedback"), &failed),
        (other.topic("desired"), &gone),
        (own, &gone),
    ] {
        run("mosquitto_pub", &["-r", "-t", &topic, "-m", message]);
    }
    // A will, by a client that is killed. Its own is heard.
    let own = board.topic("desired");
    for presence in [other.topic("presence"), board.topic("presence")] {
        let mut will = vec![
            "--will-retain",
            "--will-qos",
            "1",
            "--will-topic",
            &presence,
        ];
        will.extend(["--will-payload", &gone, "-t", &own]);
        run("mosquitto_sub", &will);
    }
    wait_for("its own will is heard", 10, || {
        let seen = fleet.get(&format!("/api/v1/boards/{}", board.id));
        (seen["presence"]["session"] == 9).then_some(())
    });
    // One after the other: when the last is heard, the others were.
    board.publish(
        &board.topic("feedback"),
        &json!({"activity": "y", "sequence": 1, "phase": "received"}),
    );
    wait_for("the board is heard", 10, || {
        let seen = fleet.get(&format!("/api/v1/boards/{}", board.id));
        (seen["feedback"]["activity"] == "y").then_some(())
    });
    let after = fleet.get(&format!("/api/v1/boards/{}", other.id));
    assert_eq!(
        (&after["presence"], &after["feedback"]),
        (&before["presence"], &before["feedback"])
    );
    assert_eq!(other.read(&other.topic("desired"), 5), desired);
    assert_eq!(board.read(&board.topic("desired"), 1), None);
}

/// How often the console has published what a board is to run.
fn published(fleet: &Fleet) -> usize {
    fleet.log().matches("desired published").count()
}

/// What boards said while the console was away and its session lost, and what the broker retains for them.
fn a_console_that_was_away<B: Broker>(fleet: &mut Fleet, board: &Board) {
    fleet.stop_console();
    let certificates = fleet.console_certificates();
    let ca = board.dir.join("ca.crt");
    let [_, certificate, key] = certificates;
    let mut cleared = support::mosquitto("mosquitto_pub", fleet.mqtt, [ca, certificate, key]);
    let identifier = fs::read_to_string(fleet.path("state/mqtt-identifier")).unwrap();
    cleared.args([
        "-i",
        &identifier,
        "-q",
        "1",
        "-t",
        "coracle/v1/console/x",
        "-m",
        "x",
    ]);
    assert!(cleared.status().unwrap().success());
    let gone = json!({"online": false, "session": 1}).to_string();
    board.publish_with(
        &board.topic("presence"),
        gone.as_bytes(),
        &["-q", "1", "-r"],
    );
    let before = published(fleet);
    fleet.start_console();
    wait_for("what was said meanwhile", 10, || {
        let seen = fleet.get(&format!("/api/v1/boards/{}", board.id));
        (seen["presence"]["online"] == false).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        published(fleet),
        before,
        "the broker has it, and the board was told twice"
    );
}

/// A board that the broker does not know yet, and one that it is to know no more.
fn a_board_comes_and_goes<B: Broker>(fleet: &Fleet, place: &Place, broker: &B) {
    let board = fleet.enrol("acme.b3");
    assert!(!board.is_let_in());
    rights::<B>(fleet, place);
    broker.reload(place);
    wait_for("it is let in", 20, || board.is_let_in().then_some(()));

    let mut held = Held::open(&board, &board.id, place.port).unwrap();
    let answer = fleet.post(
        "/api/v1/boards/acme.b3/revocation",
        &json!({"reason": "sold"}),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    rights::<B>(fleet, place);
    broker.reload(place);
    assert!(held.ends(20), "the connection stands");
    assert!(!board.is_let_in());
    wait_for("the console is content", 20, || {
        let log = fleet.log();
        (log.contains("revoked: its connection to the broker is ended")
            || log.contains("revoked: the broker lets nobody in under its name"))
        .then_some(())
    });

    // With a new certificate it would let the old one in too, which these brokers cannot tell from it.
    let mut old = board;
    let stolen = Board::at(fleet, &old.id, &old.dir, "stolen");
    old.dir = stolen.dir;
    let anew = fleet.enrol("acme.b3");
    let said = rights::<B>(fleet, place);
    assert!(
        said.contains("acme.b3") && said.contains("given no rights"),
        "{said}"
    );
    assert!(said.starts_with("unchanged\n"), "{said}");
    broker.reload(place);
    assert!(!old.is_let_in() && !anew.is_let_in());
}

fn a_deployment<B: Broker>() {
    need(&[("mosquitto", "mosquitto")]);
    let mut fleet = Fleet::start();
    for name in ["acme.b1", "acme.b2"] {
        fleet.enrolment(name);
    }
    fleet.stop_console();
    let company = Company::new(fleet.path("company"));
    company.issue("server", "broker", ExtendedKeyUsagePurpose::ServerAuth);
    let fleet_ca = fs::read_to_string(&fleet.console_certificates()[0]).unwrap();
    fs::write(company.dir.join("fleet-ca.crt"), fleet_ca).unwrap();
    let place = Place {
        dir: company.dir.clone(),
        port: free_port(),
    };
    let said = rights::<B>(&fleet, &place);
    assert!(said.starts_with("changed\n"), "{said}");
    let said = rights::<B>(&fleet, &place);
    assert!(said.starts_with("unchanged\n"), "{said}");
    let broker = B::start(&place);
    let options = [
        "--mqtt-ca",
        &company.file("company.crt"),
        "--mqtt-topic-separator",
        ":",
    ];
    fleet.use_broker(place.port, &options.map(str::to_owned));
    fleet.start_console();
    let desired = deploy(&fleet, "acme.b1", 1);

    let (board, other) = (fleet.enrol("acme.b1"), fleet.enrol("acme.b2"));
    assert_eq!(board.topic("desired"), "coracle/v1/acme:b1/desired");
    is_kept_apart(&fleet, &other, &board);
    a_console_that_was_away::<B>(&mut fleet, &board);

    // A broker that forgot everything gets it again.
    drop(broker);
    let _ = fs::remove_dir_all(place.dir.join("kept"));
    let broker = B::start(&place);
    // It takes connections before it knows its users, and ends those.
    wait_for("the board is let in again", 60, || {
        board.is_let_in().then_some(())
    });
    let again = wait_for("the assignment is back", 60, || {
        board.read(&board.topic("desired"), 2)
    });
    assert_eq!(again, desired);
    a_board_comes_and_goes(&fleet, &place, &broker);
}

#[test]
fn a_deployment_through_nats() {
    a_deployment::<Nats>();
}

#[test]
fn a_deployment_through_rabbitmq() {
    a_deployment::<RabbitMq>();
}
