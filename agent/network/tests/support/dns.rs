//! DNS as far as tests speak it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Code and addresses of an answer to `query(name, ..)`.
pub fn read(answer: &[u8], asked: &[u8]) -> (u8, Vec<IpAddr>) {
    assert_eq!(answer[..2], asked[..2]);
    assert_eq!(
        answer[12..asked.len()].to_ascii_lowercase(),
        asked[12..].to_ascii_lowercase()
    );
    let mut found = Vec::new();
    let mut at = asked.len();
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        let length = usize::from(answer[at + 11]);
        let bytes = &answer[at + 12..at + 12 + length];
        found.push(match length {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
        });
        at += 12 + length;
    }
    (answer[3] & 15, found)
}

pub fn look_up(at: Ipv4Addr, name: &str, kind: u16) -> Option<(u8, Vec<IpAddr>)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(4)))
        .unwrap();
    let asked = query(name, kind);
    socket.send_to(&asked, (at, 53)).unwrap();
    let mut buffer = [0; 512];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(read(&buffer[..length], &asked))
}

pub fn look_up_tcp(at: Ipv4Addr, name: &str) -> (u8, Vec<IpAddr>) {
    let mut stream = TcpStream::connect((at, 53)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(4)))
        .unwrap();
    let asked = query(name, A);
    stream
        .write_all(&(asked.len() as u16).to_be_bytes())
        .unwrap();
    stream.write_all(&asked).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    read(&answer, &asked)
}

/// Answers one question of each connection.
pub fn serve_tcp(tcp: TcpListener, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut head = [0; 2];
            let Ok(()) = stream.read_exact(&mut head) else {
                continue;
            };
            let mut query = vec![0; usize::from(u16::from_be_bytes(head))];
            stream.read_exact(&mut query).unwrap();
            let answer = answer(&query);
            let length = (answer.len() as u16).to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).unwrap();
        }
    });
}
