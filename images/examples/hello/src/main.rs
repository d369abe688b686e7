//! A tiny HTTP app: `/` says its version, `/healthz` says `ok`.
//!
//! Environment: `PORT` (9000), `APP_VERSION`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let stop_at_once = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(
        signal_hook::consts::SIGTERM,
        0,
        stop_at_once,
    )?;
    let setting =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (port, version) = (setting("PORT", "9000"), setting("APP_VERSION", "unknown"));
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("hello {version} listens on port {port}");
    for stream in listener.incoming().flatten() {
        if let Err(error) = answer(stream, &version) {
            eprintln!("a request ended early: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, version: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut line = String::new();
    std::io::Read::take(BufReader::new(&stream), 4096).read_line(&mut line)?;
    let (status, body) = match line.split(' ').nth(1) {
        Some("/") => ("200 OK", format!("hello from version {version}\n")),
        Some("/healthz") => ("200 OK", "ok\n".to_owned()),
        _ => ("404 Not Found", "not found\n".to_owned()),
    };
    println!("{} {status}", line.trim_end());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
