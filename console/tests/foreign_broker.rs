//! A deployment through a broker that is not the console's: a Mosquitto with the lines of
//! `docs/broker.md` and a certificate from a CA that the fleet did not make.

mod support;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::foreign::{Company, Held, PAGE, block, deploy};
use support::{Fleet, free_port, need, wait_for};

/// A running Mosquitto; it ends with its test.
struct Broker(Child);

impl Broker {
    /// `clients`: PEM of the CAs whose client certificates it takes.
    fn start(dir: &Path, port: u16, clients: &str) -> Self {
        Self::start_with(dir, port, clients, "")
    }

    /// With further lines in its configuration.
    fn start_with(dir: &Path, port: u16, clients: &str, more: &str) -> Self {
        fs::write(dir.join("fleet-ca.crt"), clients).unwrap();
        fs::write(dir.join("acl"), block("acl")).unwrap();
        let lines = block("conf")
            .replace("/etc/mosquitto/coracle", dir.to_str().unwrap())
            .replace("listener 8883", &format!("listener {port} 127.0.0.1"));
        let conf = dir.join("mosquitto.conf");
        // Its files are this user's alone; a broker that root starts would give up root first.
        fs::write(
            &conf,
            format!("user root\nlog_dest stderr\n{lines}{more}\n"),
        )
        .unwrap();
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|p| Path::new(p).exists())
            .unwrap_or("mosquitto");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut broker = Self(child);
        wait_for("the broker listens", 10, || {
            if let Some(status) = broker.0.try_wait().unwrap() {
                panic!(
                    "the broker ended ({status}):\n{}",
                    fs::read_to_string(dir.join("log")).unwrap()
                );
            }
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        broker
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_deployment_through_a_broker_of_another_ca() {
    need(&[("mosquitto", "mosquitto")]);
    // The fleet's CA comes from a console's first start.
    let mut fleet = Fleet::start();
    let early = fleet.enrol("acme.early");
    fleet.stop_console();
    let company = Company::new(fleet.path("company"));
    company.issue("server", "broker", ExtendedKeyUsagePurpose::ServerAuth);
    let fleet_ca = fs::read_to_string(&fleet.console_certificates()[0]).unwrap();
    let port = free_port();
    let broker = Broker::start(&company.dir, port, &fleet_ca);
    fleet.use_broker(port, &["--mqtt-ca".into(), company.file("company.crt")]);
    fleet.start_console();

    let told = fleet.enrolment("acme.told");
    assert_eq!(told.mqtt, format!("127.0.0.1:{port}"));
    assert_eq!(told.ca_pem.matches("BEGIN CERTIFICATE").count(), 2);
    let desired = deploy(&fleet, "acme.b1", 1);

    // Boards are kept apart by the page's ACL.
    let other = fleet.enrol("acme.b2");
    assert_eq!(other.read("coracle/v1/acme.b1/desired", 2), None);
    let known = fleet.get("/api/v1/boards/acme.early");
    assert_eq!(known["board"], early.id);

    // A broker that forgot everything gets it again.
    drop(broker);
    let broker = Broker::start(&company.dir, port, &fleet_ca);
    let board = fleet.get("/api/v1/boards/acme.b1");
    assert_eq!(board["feedback"]["phase"], "committed");
    let again = wait_for("the assignment is back", 30, || {
        let certificates = ["ca.crt", "crt.pem", "key.pem"].map(|f| fleet.path("acme.b1").join(f));
        let client = support::mosquitto("mosquitto_sub", port, certificates);
        support::read(client, "coracle/v1/acme.b1/desired", 2)
    });
    assert_eq!(again, desired);
    // With the broker gone the console still stops well, and in time.
    drop(broker);
    let took = fleet.stop_console();
    assert!(took.as_secs() < 8, "stopping took {took:?}");
}

#[test]
fn the_console_shows_a_certificate_that_the_broker_s_owner_issued() {
    need(&[("mosquitto", "mosquitto")]);
    let mut fleet = Fleet::start();
    fleet.stop_console();
    let company = Company::new(fleet.path("company"));
    company.issue("server", "broker", ExtendedKeyUsagePurpose::ServerAuth);
    company.issue("console", "console", ExtendedKeyUsagePurpose::ClientAuth);
    let both = fs::read_to_string(&fleet.console_certificates()[0]).unwrap()
        + &fs::read_to_string(company.file("company.crt")).unwrap();
    let port = free_port();
    let _broker = Broker::start(&company.dir, port, &both);
    let options = [
        ("--mqtt-ca", "company.crt"),
        ("--mqtt-cert", "console.crt"),
        ("--mqtt-key", "console.key"),
    ];
    let extra: Vec<String> = options
        .iter()
        .flat_map(|(option, file)| [(*option).to_owned(), company.file(file)])
        .collect();
    fleet.use_broker(port, &extra);
    fleet.start_console();
    deploy(&fleet, "acme.b1", 1);
    let boards: Value = fleet.get("/api/v1/boards");
    assert_eq!(boards.as_array().map(Vec::len), Some(1));
}

#[test]
fn the_console_s_own_broker_is_for_topics_with_a_dot() {
    let fleet = Fleet::prepare(&[]);
    let at = |name: &str| fleet.path(name).display().to_string();
    let mut arguments = ["serve", "--advertise", "127.0.0.1"]
        .map(String::from)
        .to_vec();
    for (option, value) in [
        ("--state", at("state")),
        ("--root", at("root.json")),
        ("--deploy-key", at("deploy.pk8")),
        ("--mqtt-topic-separator", ":".into()),
    ] {
        arguments.extend([option.into(), value]);
    }
    let run =
        |arguments: &[String]| fleet.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (good, said) = run(&arguments);
    assert!(
        !good && said.contains("the console's own keeps boards apart"),
        "{said}"
    );
    assert!(!fleet.path("state").exists(), "it began all the same");
    *arguments.last_mut().unwrap() = "/".into();
    let (good, said) = run(&arguments);
    assert!(!good && said.contains("is `.` or `:`"), "{said}");
}

/// A console with a company's broker, which has the lines of the page about the list.
struct Watched {
    fleet: Fleet,
    list: PathBuf,
    port: u16,
    broker: Broker,
}

impl Watched {
    fn start() -> Self {
        need(&[("mosquitto", "mosquitto")]);
        let mut fleet = Fleet::start();
        let [ca, ..] = fleet.console_certificates();
        let fleet_ca = fs::read_to_string(ca).unwrap();
        fleet.stop_console();
        let dir = fleet.path("company");
        let company = Company::new(dir.clone());
        company.issue("server", "broker", ExtendedKeyUsagePurpose::ServerAuth);
        let list = dir.join("fleet.crl");
        fs::copy(fleet.path("state/pki/fleet.crl"), &list).unwrap();
        let port = free_port();
        let more = PAGE
            .lines()
            .find(|line| line.starts_with("crlfile "))
            .unwrap();
        let more = more.replace("/etc/mosquitto/coracle", dir.to_str().unwrap());
        let broker = Broker::start_with(&dir, port, &fleet_ca, &more);
        fleet.use_broker(port, &["--mqtt-ca".into(), company.file("company.crt")]);
        fleet.start_console();
        Self {
            fleet,
            list,
            port,
            broker,
        }
    }
}

#[test]
fn a_broker_of_ones_own_takes_the_list_of_revoked_boards() {
    let with = Watched::start();
    let fleet = &with.fleet;
    let (board, other) = (fleet.enrol("acme.b1"), fleet.enrol("acme.b2"));
    // A client identifier that is not the board's name hides nobody.
    let mut first = Held::open(&board, "somebody", with.port).unwrap();
    let mut stays = Held::open(&other, "acme.b1", with.port).unwrap();
    assert!(!first.ends(1), "another board put it out");
    let revoked = fleet.post(
        "/api/v1/boards/acme.b1/revocation",
        &json!({"reason": "sold"}),
    );
    assert_eq!(revoked.status, 200, "{revoked:?}");

    // The broker has no new list yet: the connection ends, and the board may come again. What it says is not heard.
    assert!(first.ends(10), "the connection stands");
    assert!(!stays.ends(1), "another board's connection ended");
    drop(stays);
    assert!(board.is_let_in(), "the old list still holds");
    let word = json!({"activity": "x", "sequence": 1, "phase": "received"});
    for speaker in [&board, &other] {
        speaker.publish(&speaker.topic("feedback"), &word);
    }
    // One after the other: when the second is heard, the first was.
    wait_for("the other board is heard", 10, || {
        let seen = fleet.get("/api/v1/boards/acme.b2");
        (seen["feedback"]["phase"] == "received").then_some(())
    });
    let seen = fleet.get("/api/v1/boards/acme.b1");
    assert_eq!(seen["feedback"], json!(null));

    // As the page says: fetched from the console, and the broker told.
    let url = format!("https://127.0.0.1:{}/crl", fleet.boards);
    let ca = board.dir.join("ca.crt").display().to_string();
    fs::write(&with.list, support::curl(&["--cacert", &ca, &url]).body).unwrap();
    let pid = with.broker.0.id().to_string();
    Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    wait_for("the broker refuses it for what it is", 10, || {
        let refused = Held::open(&board, "acme.b1", with.port).err()?;
        refused
            .to_string()
            .contains("CertificateRevoked")
            .then_some(())
    });
    assert!(!board.is_let_in());
    assert!(fleet.enrol("acme.b3").is_let_in());
}

#[test]
fn what_was_revoked_while_the_console_was_down_is_thrown_out_when_it_is_back() {
    let mut with = Watched::start();
    let board = with.fleet.enrol("acme.b1");
    let mut held = Held::open(&board, "acme.b1", with.port).unwrap();
    with.fleet.stop_console();
    let output = Command::new(env!("CARGO_BIN_EXE_coracle-console"))
        .args(["boards", "revoke", "acme.b1", "--state"])
        .arg(with.fleet.path("state"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!held.ends(1), "it is not the console's doing");
    with.fleet.start_console();
    assert!(held.ends(10), "the connection stands");
}
