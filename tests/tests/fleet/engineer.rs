//! Who builds images and releases, and brings them to a console.

use super::{Board, Fleet, program, until};
use serde_json::json;
use std::path::Path;

/// With the fleet's keys, on the console's own machine.
pub struct Engineer<'a> {
    pub dir: &'a Path,
    pub fleet: &'a Fleet,
    hardware: String,
}

impl<'a> Engineer<'a> {
    /// For `board`, which is enrolled by this name and online then, with the image `still:1` of one program.
    pub fn of(dir: &'a Path, fleet: &'a Fleet, board: &Board, name: &str) -> Self {
        until("docker.sock", || board.status().is_ok());
        let file = fleet.ask("/enrolments", Some(json!({"board": name})));
        board.ask("enrol", Some(&file.to_string())).unwrap();
        until("the board is online", || fleet.online(name));
        let hardware = board.status().unwrap()["board"]["hardware"].clone();
        let engineer = Self {
            dir,
            fleet,
            hardware: hardware.as_str().unwrap().to_owned(),
        };
        engineer.still();
        engineer
    }

    /// `coracle-release` with these words: whether it went well, and what it said.
    pub fn release(&self, line: &str) -> (bool, String) {
        let console = format!("http://127.0.0.1:{}", self.fleet.http);
        let output = program("coracle-release")
            .current_dir(self.dir)
            .env("CORACLE_CONSOLE", console)
            .env("CORACLE_TOKEN_FILE", self.dir.join("console/admin.token"))
            .args(line.split_whitespace())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    pub fn done(&self, line: &str) -> String {
        let (done, said) = self.release(line);
        assert!(done, "{line}: {said}");
        said
    }

    fn still(&self) {
        let folder = self.dir.join("still");
        std::fs::create_dir(&folder).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
        std::fs::copy(busybox, folder.join("busybox")).unwrap();
        self.done("image build --rootfs still --platform linux/amd64 --entrypoint /busybox --output images --tag still:1");
    }

    /// `<name>.json`, signed and pushed: a release with one app that waits for so many seconds. `tables`: what else is in its file.
    pub fn bring(
        &self,
        name: &str,
        (product, version, counter): (&str, &str, u64),
        seconds: u64,
        tables: &str,
    ) {
        let text = format!(
            "product = \"{product}\"\nversion = \"{version}\"\nrelease_counter = {counter}\nexpires = \"90d\"\n\
             hardware = [\"{}\"]\n{tables}[[apps]]\nname = \"still\"\nimage = \"still:1\"\n\
             args = [\"/busybox\", \"sleep\", \"{seconds}\"]\ninit = true\ntrial_seconds = 1\n\
             [apps.limits]\nmemory = \"8MiB\"\ncpu_millis = 100\npids = 8\n[apps.network]\nmode = \"none\"\n",
            self.hardware
        );
        std::fs::write(self.dir.join(format!("{name}.toml")), text).unwrap();
        self.done(&format!(
            "release create {name}.toml --images images --key release --platform linux/amd64 --output {name}.json"
        ));
        self.done(&format!("push --images images {name}.json"));
    }
}
