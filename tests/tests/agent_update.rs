//! A release that brings the board's own program, all the way: `coracle-release`, the real console with its broker, the real
//! daemon, which finds to the program that took over, and the real supervisor.

mod fleet;

use coracle_digest::Sha256Digest;
use fleet::{Board, Fleet, Supervisor, engineer, program, until};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const NAME: &str = "acme.b1";

/// Two supervisors of one name would end each other's apps.
static ONE_BOARD: Mutex<()> = Mutex::new(());

struct Engineer<'a>(engineer::Engineer<'a>);

impl Engineer<'_> {
    /// The program that the tests run, as small as one is that ships and with `tail` behind it, as an image: its digest.
    fn agent(&self, tail: &str) -> Sha256Digest {
        let folder = self.0.dir.join(format!("agent-{tail}"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("coracle-agent");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&path);
        strip.arg(program("coracle-agent").get_program());
        assert!(strip.status().unwrap().success());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(tail.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        self.image(tail);
        Sha256Digest::of(&bytes)
    }

    /// A program that is the shipped supervisor, and as coracled ends at once.
    fn no_daemon(&self, tail: &str) {
        let folder = self.0.dir.join(format!("agent-{tail}"));
        std::fs::create_dir(&folder).unwrap();
        let source = self.0.dir.join("no-daemon.c");
        let text = "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
            int main(int count, char **words) {\n\
            if (!strstr(words[0], \"coracle-supervisor\")) return 3;\n\
            execv(getenv(\"CORACLE_SHIPPED\"), words);\nreturn 4; }\n";
        std::fs::write(&source, text).unwrap();
        let mut cc = Command::new("cc");
        cc.arg("-o").arg(folder.join("coracle-agent")).arg(&source);
        assert!(cc.status().unwrap().success());
        self.image(tail);
    }

    fn image(&self, tail: &str) {
        self.0.done(&format!(
            "image build --rootfs agent-{tail} --owner 0:0 --platform linux/amd64 --entrypoint /coracle-agent \
             --output images --tag coracle/agent:{tail}"
        ));
    }

    /// A signed and pushed release of `product` with one app, and the agent `tail` under `counter`.
    fn bring(&self, product: &str, tail: &str, counter: u64) {
        let agent = format!(
            "[agent]\nversion = \"{tail}\"\ncounter = {counter}\nimage = \"coracle/agent:{tail}\"\n"
        );
        self.0.bring(product, (product, tail, 1), 1000, &agent);
    }
}

#[test]
fn a_new_agent_goes_from_the_engineer_to_the_board_and_an_older_one_does_not() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let _board = ONE_BOARD.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    let supervisor = Supervisor::start(&board);
    let _daemon = board.start();
    let engineer = Engineer(engineer::Engineer::of(dir.path(), &fleet, &board, NAME));

    let two = engineer.agent("two");
    let executed = || std::fs::read_link(format!("/proc/{}/exe", supervisor.pid())).unwrap();
    let brought = board.dir.join("state/agent").join(two.hex());
    engineer.bring("shop", "two", 2);
    assert_ne!(executed(), brought);
    engineer.0.done("deploy --board acme.b1 --wait shop.json");
    assert_eq!(executed(), brought);
    until("the board says what it runs", || {
        let told = fleet.ask("/boards/acme.b1", None);
        told.to_string().contains("\"two\"")
    });

    // The console may assign whatever the developers signed. Not this: the other product was left behind.
    engineer.agent("one");
    engineer.bring("kiosk", "one", 1);
    let (done, said) = engineer
        .0
        .release("deploy --board acme.b1 --wait kiosk.json");
    assert!(
        !done && said.contains("old-agent") && said.contains("agent.counter"),
        "{said}"
    );
    assert_eq!(executed(), brought);
}

/// Daemon and supervisor as they are on a board: the one is a user's, comes again whenever it ends, and is what the other is.
#[test]
fn the_daemon_is_the_new_agent_too_and_goes_back_with_it() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let _board = ONE_BOARD.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::with_user(dir.path());
    let mut supervisor = Supervisor::start(&board);
    let mut daemon = board.keep_running();
    let engineer = Engineer(engineer::Engineer::of(dir.path(), &fleet, &board, NAME));
    let process = || std::fs::read_to_string(board.dir.join("daemon.pid")).unwrap();
    let executed = || {
        let link = format!("/proc/{}/exe", process().trim());
        std::fs::read_link(link).unwrap_or_default()
    };
    // The console has it from the daemon, which is what it says, and serves docker.sock.
    let runs = |what: &str, path: &Path, version: &str| {
        until(what, || {
            executed() == path
                && board
                    .status()
                    .is_ok_and(|s| s["daemon_program"] == s["program"])
        });
        until(what, || {
            let told = fleet.ask("/boards/acme.b1", None);
            let is = |of: &str| told["current"][of]["version"] == version;
            fleet.online(NAME) && is("supervisor") && is("daemon")
        });
    };
    let shipped = program("coracled").get_program().to_owned();
    let own = env!("CARGO_PKG_VERSION");
    runs("the root file system's", Path::new(&shipped), own);

    let two = engineer.agent("two");
    let brought = board.dir.join("state/agent").join(two.hex());
    engineer.bring("shop", "two", 2);
    let before = process();
    engineer.0.done("deploy --board acme.b1 --wait shop.json");
    runs("the new one", &brought, "two");
    assert_eq!(process(), before, "the same process");
    let status = std::fs::read_to_string(format!("/proc/{}/status", before.trim())).unwrap();
    assert!(status.contains("Name:\tcoracled\n"), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    assert!(!status.contains("Uid:\t0"), "{status}");

    // A crash of the one, of the other, and of the board.
    let kill = || {
        let pid = process().trim().parse().unwrap();
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    let before = process();
    kill();
    until("the next daemon", || process() != before);
    runs("after the daemon's crash", &brought, "two");
    supervisor.kill();
    supervisor.go_on();
    runs("after the supervisor's crash", &brought, "two");
    daemon.stop().unwrap();
    supervisor.kill();
    supervisor.go_on();
    daemon = board.keep_running();
    runs("after a start of both", &brought, "two");

    // One whose daemon ends at once, three times: its set goes back, and the daemon is the one before it and says so.
    engineer.no_daemon("three");
    engineer.bring("shop-next", "three", 3);
    let (done, said) = engineer
        .0
        .release("deploy --board acme.b1 --wait shop-next.json");
    assert!(
        !done && said.contains("program three was executed as coracled 3 times"),
        "{said}"
    );
    runs("the one before", &brought, "two");
    drop(daemon);
}
