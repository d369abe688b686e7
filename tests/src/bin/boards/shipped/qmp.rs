//! QEMU's control socket (QMP): what is plugged into a board and pulled out of it while it runs, and its network cable.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The controller that sticks are plugged into, and the network's end outside the board: QEMU's names of them.
pub const USB: &str = "usb";
pub const CABLE: &str = "net";

/// QEMU answers at once, but for a machine that is busy.
const ANSWER: Duration = Duration::from_secs(60);

pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// Told between the answers.
    events: VecDeque<Value>,
}

impl Qmp {
    pub fn connect(socket: &Path) -> Result<Qmp> {
        let writer = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        writer.set_read_timeout(Some(ANSWER))?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut qmp = Qmp {
            reader,
            writer,
            events: VecDeque::new(),
        };
        // Its greeting.
        qmp.line()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).context("QEMU's answer")?;
        anyhow::ensure!(read > 0, "QEMU closed its control socket");
        serde_json::from_str(&line).with_context(|| format!("QEMU said `{}`", line.trim()))
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<()> {
        let line = json!({"execute": command, "arguments": arguments});
        writeln!(self.writer, "{line}")?;
        loop {
            let said = self.line().with_context(|| command.to_owned())?;
            if said.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = said.get("error") {
                bail!("{line}: {}", error["desc"]);
            }
            self.events.push_back(said);
        }
    }

    /// A stick with the bytes of `image`, under a name of its own. `bytes_per_second`: it is read no faster.
    pub fn plug(&mut self, name: &str, image: &Path, bytes_per_second: Option<u64>) -> Result<()> {
        let bytes = json!({"driver": "raw", "file": {"driver": "file", "filename": image}});
        let mut node = match bytes_per_second {
            None => bytes,
            Some(rate) => {
                let limit = json!({"qom-type": "throttle-group", "id": group(name), "limits": {"bps-read": rate}});
                self.execute("object-add", limit)?;
                json!({"driver": "throttle", "throttle-group": group(name), "file": bytes})
            }
        };
        node["node-name"] = json!(name);
        self.execute("blockdev-add", node)?;
        let device = json!({"driver": "usb-storage", "id": name, "bus": format!("{USB}.0"), "drive": name, "removable": true});
        self.execute("device_add", device)
    }

    /// Whatever the board does with it. `slow`: it was plugged with a rate.
    pub fn pull(&mut self, name: &str, slow: bool) -> Result<()> {
        self.execute("device_del", json!({"id": name}))?;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["event"] == "DEVICE_DELETED" && event["data"]["device"] == name {
                    self.execute("blockdev-del", json!({"node-name": name}))?;
                    if slow {
                        self.execute("object-del", json!({"id": group(name)}))?;
                    }
                    return Ok(());
                }
            }
            let event = self.line().with_context(|| format!("pulling {name} out"))?;
            self.events.push_back(event);
        }
    }

    /// Puts the network cable in, or out.
    pub fn cable(&mut self, is_in: bool) -> Result<()> {
        self.execute("set_link", json!({"name": CABLE, "up": is_in}))
    }
}

fn group(name: &str) -> String {
    format!("slow-{name}")
}
