//! A board that nobody enrols: its maker gave it a certificate, its image says where the fleet is, and an operator
//! expects it. The maker works with openssl, the board is the real daemon, the console the real one.

mod fleet;

use coracle_tests::service::run;
use fleet::{Board, Fleet, Supervisor, program, until};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const NAME: &str = "acme.sn-0017";

fn openssl(dir: &Path, arguments: &str) {
    run(Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir))
    .unwrap();
}

/// A CA as a maker has it, and one board's certificate and key of it.
fn make(dir: &Path) {
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        dir,
        &format!("req -x509 {curve} -keyout maker.key -out maker.crt -days 9999 -subj /CN=Maker"),
    );
    openssl(
        dir,
        &format!(
            "req {curve} -addext basicConstraints=CA:FALSE -keyout manufacturing.key -out board.csr -subj /serialNumber=SN-0017/CN=G2"
        ),
    );
    openssl(
        dir,
        "x509 -req -copy_extensions copy -in board.csr -CA maker.crt -CAkey maker.key -CAcreateserial -days 9999 -out manufacturing.crt",
    );
}

#[test]
fn a_board_enrols_by_itself_once_an_operator_expects_it() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let maker = at("maker.crt");
    let options = [
        "--manufacturing-ca",
        &maker,
        "--manufacturing-tenant",
        "acme",
    ];
    let fleet = Fleet::start(dir.path(), &options);
    let board = Board::in_folder(dir.path());
    let file = board.dir.join("fleet.json");
    run(program("coracle-release")
        .args([
            "fleet-file",
            "--console",
            &format!("http://127.0.0.1:{}", fleet.http),
        ])
        .args(["--token-file", &at("console/admin.token"), "--output"])
        .arg(&file))
    .unwrap();
    for name in ["manufacturing.crt", "manufacturing.key"] {
        std::fs::copy(dir.path().join(name), board.dir.join(name)).unwrap();
    }
    let key = board.dir.join("manufacturing.key");
    let mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
    let says = |words: &str| {
        board.status().is_ok_and(|status| {
            let error = status["certificate"]["error"].as_str();
            error.is_some_and(|error| error.contains(words))
        })
    };

    // Whoever may use docker.sock is in coracled's group, and is not the board.
    mode(0o640);
    let daemon = board.start();
    until("the board says that its key is open to others", || {
        says("chmod 400")
    });
    drop(daemon);
    mode(0o400);
    let _daemon = board.start();
    until("the board says that nobody expects it", || {
        says("board acme.sn-0017 is not expected here")
    });
    run(program("coracle-console").args(["boards", "add", "--state", &at("console"), NAME]))
        .unwrap();
    until("the board is online", || fleet.online(NAME));
    assert_eq!(fleet.history(NAME), ["manufacturing"]);
    let status = board.status().unwrap();
    assert_eq!(
        status["certificate"]["error"],
        serde_json::Value::Null,
        "{status}"
    );
}

/// A fleet that takes every board of the maker, and one of them.
fn fleet_and_board(dir: &Path) -> (Fleet, Board) {
    make(dir);
    let maker = dir.join("maker.crt").display().to_string();
    let options = [
        "--manufacturing-ca",
        &maker,
        "--manufacturing-tenant",
        "acme",
        "--manufacturing-any",
    ];
    let fleet = Fleet::start(dir, &options);
    let board = Board::in_folder(dir);
    for name in ["manufacturing.crt", "manufacturing.key"] {
        std::fs::copy(dir.join(name), board.dir.join(name)).unwrap();
    }
    (fleet, board)
}

fn give_fleet_file(fleet: &Fleet, board: &Board) {
    let text = fleet.ask("/fleet", None).to_string();
    std::fs::write(board.dir.join("fleet.json"), text).unwrap();
}

/// What an identity's files became unreadable by, power or age: the board has to come back, and what is left is kept.
/// What a person set wrong, or what may pass, is no such damage.
#[test]
fn a_board_whose_identity_is_damaged_enrols_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (fleet, board) = fleet_and_board(dir.path());
    give_fleet_file(&fleet, &board);
    let daemon = board.start();
    until("the board is online", || {
        board.status().is_ok() && fleet.is_known(NAME) && fleet.online(NAME)
    });
    drop(daemon);
    let (key, config) = (
        board.dir.join("state/identity/board.key"),
        board.dir.join("coracle.toml"),
    );
    let (good, settings) = (
        std::fs::read(&key).unwrap(),
        std::fs::read_to_string(&config).unwrap(),
    );
    let wrong = format!("{settings}[console]\nmqtt = \"mqtt://127.0.0.1:1\"\n");
    std::fs::write(&config, wrong).unwrap();
    let daemon = board.start();
    until("it is up", || board.status().is_ok());
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(std::fs::read(&key).unwrap(), good);
    drop(daemon);
    std::fs::write(&config, settings).unwrap();

    std::fs::write(&key, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let _daemon = board.start();
    until("it has a second certificate, and uses it", || {
        fleet.history(NAME) == ["manufacturing", "manufacturing"] && fleet.online(NAME)
    });
    assert!(key.with_extension("key.bad").exists());
}

#[test]
fn a_board_that_people_gave_another_name_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let (fleet, board) = fleet_and_board(dir.path());
    let _supervisor = Supervisor::start(&board);
    let daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = serde_json::json!({"board": "acme.kitchen"});
    let file = fleet.ask("/enrolments", Some(file));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online("acme.kitchen"));
    drop(daemon);
    let identity = board.dir.join("state/identity");
    std::fs::write(identity.join("board.key"), "damaged").unwrap();
    std::fs::remove_file(identity.join("board.crt")).unwrap();
    give_fleet_file(&fleet, &board);
    let _daemon = board.start();
    until("the board says who it is", || {
        board.status().is_ok_and(|status| {
            let error = status["certificate"]["error"].as_str().unwrap_or_default();
            [NAME, "it is acme.kitchen", "coracle enrol FILE"]
                .iter()
                .all(|part| error.contains(part))
        })
    });
    let kept = std::fs::read_to_string(identity.join("enrolment.json")).unwrap();
    assert!(kept.contains("acme.kitchen"), "{kept}");
    assert_eq!(
        std::fs::read(identity.join("board.key")).unwrap(),
        b"damaged"
    );
}
