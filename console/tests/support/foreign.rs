//! A broker of a company's own: its CA, the lines of the page, and a deployment through it.

use super::{Board, Fleet, noise, wait_for};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::verify::VerifiedDeploy;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::json;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// The page whose lines are tried.
pub const PAGE: &str = include_str!("../../../docs/broker.md");

/// The lines of the page's block of this kind.
pub fn block(kind: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// The owner of the broker: a CA, and what it issues.
pub struct Company {
    ca: CertifiedIssuer<'static, KeyPair>,
    pub dir: PathBuf,
}

impl Company {
    pub fn new(dir: PathBuf) -> Self {
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

    pub fn issue(&self, file: &str, name: &str, usage: ExtendedKeyUsagePurpose) {
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

    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

/// Whole way of one deployment to `name`, as a board sees it and as REST shows it.
pub fn deploy(fleet: &Fleet, name: &str, version: u64) -> Vec<u8> {
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

/// A connection under a board's certificate. It never comes back by itself: what is seen of it is the broker's doing.
pub struct Held(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Held {
    /// MQTT 3.1.1 under a client identifier of its own choice; why it was not let in.
    pub fn open(board: &Board, client_id: &str, port: u16) -> std::io::Result<Self> {
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
    pub fn ends(&mut self, seconds: u64) -> bool {
        let timeout = Some(Duration::from_secs(seconds));
        self.0.sock.set_read_timeout(timeout).unwrap();
        match self.0.read(&mut [0; 64]) {
            Ok(0) => true,
            Ok(n) => panic!("{n} bytes came"),
            Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}
