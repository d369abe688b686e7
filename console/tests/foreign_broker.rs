//! A deployment through a broker that is not the console's: a Mosquitto with the lines of
//! `docs/broker.md` and a certificate from a CA that the fleet did not make.

mod support;

use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::verify::VerifiedDeploy;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Board, Fleet, free_port, need, noise, wait_for};

const PAGE: &str = include_str!("../../docs/broker.md");

/// The lines of the page's block of this kind.
fn block(kind: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// The owner of the broker: a CA, and what it issues.
struct Company {
    ca: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Company {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "Company");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join("company.crt"), ca.pem()).unwrap();
        Self { ca, dir }
    }

    fn issue(&self, file: &str, name: &str, usage: ExtendedKeyUsagePurpose) {
        let names = match usage {
            ExtendedKeyUsagePurpose::ServerAuth => vec!["127.0.0.1".into()],
            _ => Vec::new(),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let at = |end: &str| self.dir.join(format!("{file}.{end}"));
        fs::write(at("crt"), certificate.pem()).unwrap();
        fs::write(at("key"), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

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

/// Whole way of one deployment to `name`, as a board sees it and as REST shows it.
fn deploy(fleet: &Fleet, name: &str, version: u64) -> Vec<u8> {
    let board = fleet.enrol(name);
    let seen = || fleet.get(&format!("/api/v1/boards/{name}"));
    let birth = json!({"online": true, "session": 1}).to_string();
    board.publish_with(
        &board.topic("presence"),
        birth.as_bytes(),
        &["-q", "1", "-r"],
    );
    board.say_current(1, &[]);
    wait_for("birth and facts", 10, || {
        let seen = seen();
        (seen["presence"]["online"] == true && seen["current"]["board"]["kernel"] == "6.1")
            .then_some(())
    });

    let (_, release) = fleet.release(version, &[("app", noise(version, 5000))]);
    let ordered = fleet.deploy(&release, &[name]);
    let message = board
        .read(&board.topic("desired"), 10)
        .expect("no assignment came");
    let desired: Desired = serde_json::from_slice(&message).unwrap();
    assert_eq!(ordered["boards"][0]["activity"], desired.activity);
    let Document::Inline(envelope) = desired.deploy else {
        panic!("a small document travels inline")
    };
    let signed = VerifiedDeploy::open(&envelope, &fleet.root).unwrap();
    assert_eq!(signed.document().seq, 1);

    let id = ordered["id"].as_str().unwrap();
    let line = || fleet.get(&format!("/api/v1/deployments/{id}"))["boards"][0].clone();
    assert_eq!(
        (&line()["phase"], &line()["end"]),
        (&json!(null), &json!(false))
    );
    for (sequence, phase) in ["received", "staging", "trial", "committed"]
        .iter()
        .enumerate()
    {
        let feedback = json!({"activity": desired.activity, "sequence": sequence + 1,
            "phase": phase, "fetched": {"wire_bytes": 7, "delta_bytes": 0, "full_bytes": 7}});
        board.publish(&board.topic("feedback"), &feedback);
        wait_for(phase, 10, || (line()["phase"] == *phase).then_some(()));
        assert_eq!(line()["end"], *phase == "committed");
    }
    assert_eq!(line()["fetched"]["wire_bytes"], 7);
    assert_eq!(seen()["feedback"]["phase"], "committed");
    message
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

/// A connection under a board's certificate. It never comes back by itself: what is seen of it is the broker's doing.
struct Held(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Held {
    /// MQTT 3.1.1 under a client identifier of its own choice; why it was not let in.
    fn open(board: &Board, client_id: &str, port: u16) -> std::io::Result<Self> {
        let read = |name: &str| fs::read_to_string(board.dir.join(name)).unwrap();
        let ca = board.dir.join("ca.crt");
        let tls = coracle_console::tls::client_of(&read("crt.pem"), &read("key.pem"), &ca);
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let tls = rustls::ClientConnection::new(tls.unwrap(), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = rustls::StreamOwned::new(tls, tcp);
        // Section 3.1: protocol name and level, clean session, keep alive of an hour.
        let mut packet = vec![0x10, 12 + client_id.len() as u8];
        packet.extend(b"\0\x04MQTT\x04\x02\x0e\x10\0");
        packet.push(client_id.len() as u8);
        packet.extend(client_id.as_bytes());
        stream.write_all(&packet)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, [0x20, 2, 0, 0], "CONNACK");
        Ok(Self(stream))
    }

    /// Whether the broker ends it within some seconds.
    fn ends(&mut self, seconds: u64) -> bool {
        let timeout = Some(Duration::from_secs(seconds));
        self.0.sock.set_read_timeout(timeout).unwrap();
        match self.0.read(&mut [0; 64]) {
            Ok(0) => true,
            Ok(n) => panic!("{n} bytes came"),
            Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
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
