//! A release that brings the board's own program, all the way: `coracle-release`, the real console with its broker, the real
//! daemon, which finds to the program that took over, and the real supervisor.

mod fleet;

use coracle_digest::Sha256Digest;
use fleet::{Board, Fleet, Supervisor, program, until};
use serde_json::json;
use std::path::Path;
use std::process::Command;

const NAME: &str = "acme.b1";

struct Engineer<'a> {
    dir: &'a Path,
    fleet: &'a Fleet,
    hardware: String,
}

impl Engineer<'_> {
    /// `coracle-release` with these words: whether it went well, and what it said.
    fn release(&self, line: &str) -> (bool, String) {
        let output = program("coracle-release")
            .current_dir(self.dir)
            .env(
                "CORACLE_CONSOLE",
                format!("http://127.0.0.1:{}", self.fleet.http),
            )
            .env("CORACLE_TOKEN_FILE", self.dir.join("console/admin.token"))
            .args(line.split_whitespace())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn done(&self, line: &str) {
        let (done, said) = self.release(line);
        assert!(done, "{line}: {said}");
    }

    /// The program that the tests run, as small as one is that ships and with `tail` behind it, as an image: its digest.
    fn agent(&self, tail: &str) -> Sha256Digest {
        let folder = self.dir.join(format!("agent-{tail}"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("coracle-agent");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&path);
        strip.arg(program("coracle-supervisor").get_program());
        assert!(strip.status().unwrap().success());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(tail.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        self.done(&format!(
            "image build --rootfs agent-{tail} --owner 0:0 --platform linux/amd64 --entrypoint /coracle-agent \
             --output images --tag coracle/agent:{tail}"
        ));
        Sha256Digest::of(&bytes)
    }

    /// A signed and pushed release of `product` with one app, and the agent `tail` under `counter`.
    fn bring(&self, product: &str, tail: &str, counter: u64) {
        let text = format!(
            "product = \"{product}\"\nversion = \"{tail}\"\nrelease_counter = 1\nexpires = \"90d\"\nhardware = [\"{}\"]\n\
             [agent]\nversion = \"{tail}\"\ncounter = {counter}\nimage = \"coracle/agent:{tail}\"\n\
             [[apps]]\nname = \"still\"\nimage = \"still:1\"\nargs = [\"/busybox\", \"sleep\", \"1000\"]\ninit = true\n\
             trial_seconds = 1\n[apps.limits]\nmemory = \"8MiB\"\ncpu_millis = 100\npids = 8\n[apps.network]\nmode = \"none\"\n",
            self.hardware
        );
        std::fs::write(self.dir.join(format!("{product}.toml")), text).unwrap();
        self.done(&format!(
            "release create {product}.toml --images images --key release --platform linux/amd64 --output {product}.json"
        ));
        self.done(&format!("push --images images {product}.json"));
    }
}

#[test]
fn a_new_agent_goes_from_the_engineer_to_the_board_and_an_older_one_does_not() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    let supervisor = Supervisor::start(&board);
    let _daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = fleet.ask("/enrolments", Some(json!({"board": NAME})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online(NAME));
    let hardware = board.status().unwrap()["board"]["hardware"].clone();
    let engineer = Engineer {
        dir: dir.path(),
        fleet: &fleet,
        hardware: hardware.as_str().unwrap().to_owned(),
    };
    std::fs::create_dir(dir.path().join("still")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
    std::fs::copy(busybox, dir.path().join("still/busybox")).unwrap();
    engineer
        .done("image build --rootfs still --platform linux/amd64 --entrypoint /busybox --output images --tag still:1");

    let two = engineer.agent("two");
    let executed = || std::fs::read_link(format!("/proc/{}/exe", supervisor.pid())).unwrap();
    let brought = board.dir.join("state/agent").join(two.hex());
    engineer.bring("shop", "two", 2);
    assert_ne!(executed(), brought);
    engineer.done("deploy --board acme.b1 --wait shop.json");
    assert_eq!(executed(), brought);
    until("the board says what it runs", || {
        let told = fleet.ask("/boards/acme.b1", None);
        told.to_string().contains("\"two\"")
    });

    // The console may assign whatever the developers signed. Not this: the other product was left behind.
    engineer.agent("one");
    engineer.bring("kiosk", "one", 1);
    let (done, said) = engineer.release("deploy --board acme.b1 --wait kiosk.json");
    assert!(
        !done && said.contains("old-agent") && said.contains("agent.counter"),
        "{said}"
    );
    assert_eq!(executed(), brought);
}
