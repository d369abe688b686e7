//! Sticks that are plugged into a board while it runs, and pulled out: QEMU's USB controller and mass storage, the board's own
//! kernel, and what its init makes of that. With systemd nothing is typed; a board without udev is told by hand.

use super::addresses::Addresses;
use super::disk::Init;
use super::fleet::{Fleet, committed};
use super::hostile;
use super::machine::{Machine, console};
use super::whole_loop::{LONG, SHORT, told};
use anyhow::{Context, Result, ensure};
use coracle_tests::service::{run, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Another board of the same fleet, as a stick names it.
const OTHER_BOARD: &str = "shipped.other";

/// A slow stick: a second and more for what it brings to be read.
const SLOW: u64 = 128 * 1024;

/// What is left free on a disk that is too full for a release's one new layer.
const LEFT_KIB: u64 = 1024;

/// What sticks are made with, and where.
pub struct Desk<'a> {
    pub fleet: &'a Fleet,
    /// With the board's files.
    pub folder: &'a Path,
    pub hardware: &'a str,
    pub init: Init,
    /// The example app.
    pub app: &'a Path,
    pub addresses: Addresses,
}

/// A stick's image, and what is on it.
pub struct Stick {
    name: String,
    pub image: PathBuf,
    /// Where its file system begins, in MiB.
    at: usize,
}

impl Stick {
    /// The same as shops sell them: one partition, behind a table (MBR).
    fn partitioned(self) -> Result<Stick> {
        let files = std::fs::read(&self.image)?;
        let sectors = |bytes: usize| u32::try_from(bytes / 512).map(u32::to_le_bytes);
        let table = 1 << 20;
        let mut disk = vec![0; table];
        // Of type 0c, vfat by sector numbers.
        disk[446..454].copy_from_slice(&[0, 254, 255, 255, 0x0c, 254, 255, 255]);
        disk[454..458].copy_from_slice(&sectors(table)?);
        disk[458..462].copy_from_slice(&sectors(files.len())?);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk.extend(files);
        std::fs::write(&self.image, disk)?;
        Ok(Stick { at: 1, ..self })
    }
}

/// Plugs in what a board must take and what it must refuse. It runs version 2 before and what this says afterwards.
pub fn sticks(desk: &Desk<'_>, machine: &mut Machine) -> Result<u64> {
    desk.taken(machine)?;
    if desk.init == Init::Sysvinit {
        return Ok(4);
    }
    desk.taken_with_the_cable_out(machine)?;
    desk.two_refused(machine)?;
    desk.fleet.image(desk.app, 3)?;
    let release = desk.fleet.release(6, 3, true)?;
    // Without bases: its layer is read from the stick in full.
    let stick = desk.stick("six", &release, 4, None, false)?;
    hostile::sticks(desk, machine, &stick, "5")?;
    desk.pulled_out(machine, &stick)?;
    desk.too_full(machine, &stick)?;
    Ok(6)
}

impl Desk<'_> {
    /// A stick with a release, for the whole class of hardware or for one board. It asks for a result.
    fn stick(
        &self,
        name: &str,
        release: &Path,
        seq: u64,
        board: Option<&str>,
        deltas: bool,
    ) -> Result<Stick> {
        let engineer = &self.fleet.engineer;
        let image = self.folder.join(format!("stick-{name}.img"));
        let mut usb = engineer.release("usb");
        usb.arg("--release")
            .arg(release)
            .arg("--images")
            .arg(engineer.images())
            .arg("--key")
            .arg(engineer.key("offline-deploy"))
            .args(["--result", "--seq", &seq.to_string()])
            .arg("--image")
            .arg(&image);
        if deltas {
            usb.arg("--base-images").arg(engineer.images());
        }
        match board {
            Some(board) => usb.args(["--board", board]),
            None => usb.args(["--hardware", self.hardware]),
        };
        run(&mut usb)?;
        let name = name.to_owned();
        Ok(Stick { name, image, at: 0 })
    }

    /// The release that the board lacks, on a stick.
    fn taken(&self, machine: &mut Machine) -> Result<()> {
        let release = self.fleet.release(4, 1, true)?;
        let stick = self.stick("four", &release, 1, None, true)?;
        let (start, mark) = (Instant::now(), self.mark());
        machine.qmp.plug(&stick.name, &stick.image, None)?;
        if self.init == Init::Sysvinit {
            machine.run(
                "n=0; while [ ! -b /dev/sda ] && [ $n -lt 30 ]; do sleep 1; n=$((n+1)); done; [ -b /dev/sda ]",
                SHORT,
            )?;
            let said = machine.run("coracle usb apply /dev/sda", LONG)?;
            ensure!(said.contains("left result-"), "no result is left:\n{said}");
        } else {
            self.hear(mark, "left result-")?;
        }
        self.addresses.answer("4")?;
        told(
            "a stick plugged in, to committed and its result left",
            start,
        );
        machine.qmp.pull(&stick.name, false)?;
        let left = self.result(&stick)?;
        ensure!(left["outcome"] == "committed", "on the stick: {left}");
        self.fleet.wait_for_phase(4, "committed", LONG).map(drop)
    }

    /// Nobody outside hears of it until the cable is in again.
    fn taken_with_the_cable_out(&self, machine: &mut Machine) -> Result<()> {
        let release = self.fleet.release(5, 2, true)?;
        let stick = self.stick("five", &release, 2, None, true)?;
        let stick = stick.partitioned()?;
        let before = self.fleet.seen()?["feedback"]["activity"].clone();
        machine.qmp.cable(false)?;
        wait_for("the board to miss its cable", SHORT, || {
            let (code, _) = machine.try_run("grep -q 0 /sys/class/net/e*/carrier", SHORT)?;
            Ok((code == 0).then_some(()))
        })?;
        let mark = self.mark();
        machine.qmp.plug(&stick.name, &stick.image, None)?;
        self.hear(mark, "left result-")?;
        let status = status(machine)?;
        ensure!(
            status["current"]["version"] == "5" && status["current"]["state"] == "committed",
            "without its cable the board has {}",
            status["current"]
        );
        let seen = self.fleet.seen()?;
        ensure!(
            committed(&seen) == Some(4) && seen["feedback"]["activity"] == before,
            "the console heard what nobody can have told it: {seen}"
        );
        machine.qmp.pull(&stick.name, false)?;
        let left = self.result(&stick)?;
        ensure!(left["outcome"] == "committed", "on the stick: {left}");
        let start = Instant::now();
        machine.qmp.cable(true)?;
        let seen = self.fleet.wait_for_phase(5, "committed", LONG)?;
        ensure!(
            seen["feedback"]["activity"] != before,
            "the console has not heard how the stick's release ended: {seen}"
        );
        self.addresses.answer("5")?;
        told("cable in, to what the stick did on the console", start);
        Ok(())
    }

    /// One is another board's, one was taken before; both come at once.
    fn two_refused(&self, machine: &mut Machine) -> Result<()> {
        let release = self.fleet.engineer.file("release-5.json");
        let other = self.stick("other", &release, 3, Some(OTHER_BOARD), true)?;
        let old = Stick {
            name: "old".into(),
            image: self.folder.join("stick-old.img"),
            at: 0,
        };
        std::fs::copy(self.folder.join("stick-four.img"), &old.image)?;
        let mark = self.mark();
        for stick in [&other, &old] {
            machine.qmp.plug(&stick.name, &stick.image, None)?;
        }
        self.hear(mark, &format!("the assignment is for `{OTHER_BOARD}`"))?;
        // Each has had its result: what the first one left on stick four stays.
        self.hear(mark, "left result-shipped.board.json")?;
        self.hear(mark, "left result-shipped.board-2.json")?;
        for (stick, name, code) in [
            (&other, "result-shipped.board.json", "wrong-board"),
            (&old, "result-shipped.board-2.json", "old-assignment"),
        ] {
            machine.qmp.pull(&stick.name, false)?;
            let left = self.file(stick, name)?;
            ensure!(
                left["outcome"] == "refused" && left["code"] == code,
                "on stick {}: {left}",
                stick.name
            );
            println!("  stick {} refused: {}", stick.name, left["reason"]);
        }
        self.addresses.answer("5")
    }

    /// In the middle of what it brings.
    fn pulled_out(&self, machine: &mut Machine, stick: &Stick) -> Result<()> {
        let mark = self.mark();
        machine.qmp.plug(&stick.name, &stick.image, Some(SLOW))?;
        self.hear(mark, "verified")?;
        let said = self.since(mark);
        ensure!(!said.contains("sent "), "all of it was read:\n{said}");
        machine.qmp.pull(&stick.name, true)?;
        wait_for("nobody to read the stick any more", SHORT, || {
            let (code, _) = machine.try_run("pidof coracle", SHORT)?;
            Ok((code != 0).then_some(()))
        })?;
        machine.run("systemctl is-active coracled coracle-supervisor", SHORT)?;
        let status = status(machine)?;
        ensure!(
            status["current"]["version"] == "5" && status["current"]["state"] == "committed",
            "with half a stick the board has {}",
            status["current"]
        );
        println!(
            "  stick {} pulled out while it was read: version 5 stays",
            stick.name
        );
        self.addresses.answer("5")
    }

    /// There is no room for what it brings, and then there is.
    fn too_full(&self, machine: &mut Machine, stick: &Stick) -> Result<()> {
        let state = "/var/lib/coracle";
        machine.run(
            &format!("fallocate -l $(($(df -k --output=avail {state} | tail -1)-{LEFT_KIB}))K {state}/filler"),
            SHORT,
        )?;
        let mark = self.mark();
        machine.qmp.plug(&stick.name, &stick.image, None)?;
        self.hear(mark, "left result-")?;
        machine.qmp.pull(&stick.name, false)?;
        let left = self.result(stick)?;
        let reason = left["reason"].as_str().unwrap_or_default();
        let numbers = reason.split_whitespace().filter(|word| {
            let number = word.trim_matches(|c: char| !c.is_ascii_digit());
            !number.is_empty()
        });
        ensure!(
            left["outcome"] == "refused" && numbers.count() >= 2 && left["runs"] == "shop 5",
            "on the stick for a full disk: {left}"
        );
        println!("  disk full, refused: {reason}");
        self.addresses.answer("5")?;

        machine.run(&format!("rm {state}/filler"), SHORT)?;
        let mark = self.mark();
        machine.qmp.plug(&stick.name, &stick.image, None)?;
        self.hear(mark, "left result-")?;
        self.addresses.answer("6")?;
        machine.qmp.pull(&stick.name, false)?;
        let left = self.file(stick, "result-shipped.board-2.json")?;
        ensure!(left["outcome"] == "committed", "on the stick: {left}");
        self.fleet.wait_for_phase(6, "committed", LONG).map(drop)
    }

    /// How much the board's console has said so far.
    pub fn mark(&self) -> usize {
        console(self.folder, "board").len()
    }

    fn since(&self, mark: usize) -> String {
        let all = console(self.folder, "board");
        all.get(mark..).unwrap_or_default().to_owned()
    }

    /// Waits until the board's console says so: it is what a person with a stick sees.
    fn hear(&self, mark: usize, words: &str) -> Result<()> {
        self.hear_one_of(mark, &[words])
    }

    pub fn hear_one_of(&self, mark: usize, words: &[&str]) -> Result<()> {
        wait_for(
            &format!("`{}` on the console", words.join("` or `")),
            LONG,
            || {
                let said = self.since(mark);
                let heard = words.iter().any(|words| said.contains(words));
                ensure!(heard, "it said:\n{said}");
                Ok(Some(()))
            },
        )
    }

    /// The first result that the board left there.
    fn result(&self, stick: &Stick) -> Result<Value> {
        self.file(stick, &format!("result-{}.json", self.fleet.board))
    }

    fn file(&self, stick: &Stick, name: &str) -> Result<Value> {
        let text = run(Command::new("mtype")
            .arg("-i")
            .arg(format!("{}@@{}M", stick.image.display(), stick.at))
            .arg(format!("::/coracle/{name}")))?;
        serde_json::from_str(&text).with_context(|| format!("{name} on stick {}", stick.name))
    }
}

pub fn status(machine: &mut Machine) -> Result<Value> {
    let text = machine.run("coracle status --json", SHORT)?;
    serde_json::from_str(&text).with_context(|| text.clone())
}
