//! What a health check of a real container decides.

mod board;

use board::{Board, app, http_health, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::release::{App, Health, Image, Probe};
use coracle_protocol::report::Phase;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

fn tcp(port: u16) -> Option<Health> {
    let mut health = http_health(port);
    health.probe = Probe::Tcp { port };
    Some(health)
}

/// Serves on port 8080 as long as `/tmp/serve` is there.
fn server(image: &Image, probed: u16) -> App {
    let script = ": > /tmp/serve; httpd -f -p 8080 -h /www & server=$!; \
                  while test -f /tmp/serve; do sleep 1; done; kill $server; exec sleep 1000";
    let mut server = app(image, script);
    server.health = tcp(probed);
    server.trial_seconds = 3;
    server
}

#[test]
fn a_tcp_probe_keeps_what_listens_and_sends_back_what_does_not() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "x"), RunConfig::default());
    board.commit("1", vec![server(&image, 8080)]);
    assert_eq!(board.app("web").unwrap().healthy, Some(true));

    let (phase, reason) = board.deploy("2", vec![server(&image, 9090)]);
    let reason = reason.unwrap();
    assert_eq!(phase, Phase::RolledBack, "{reason}");
    assert!(reason.contains("port 9090: Connection refused"), "{reason}");

    // One that listens no more, long after its trial, gets another chance.
    wait_for("the old set", WAIT, || {
        board.app("web").filter(|app| app.healthy == Some(true))
    });
    let restarts = board.app("web").unwrap().restarts;
    assert!(board.run_in("web", &["rm", "/tmp/serve"]).0);
    wait_for("a restart and a port that is open again", WAIT, || {
        board
            .app("web")
            .filter(|app| app.restarts > restarts && app.healthy == Some(true))
    });
}
