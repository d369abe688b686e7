//! A board while it runs: QEMU, the shell on its serial line, and its published ports.

use super::disk::Shipped;
use super::qmp::{self, Qmp};
use anyhow::{Context, Result, bail, ensure};
use coracle_tests::service::{Service, wait_for};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// As the profile qemux86-64 has it.
pub const MEMORY_MIB: u32 = 256;

/// How long a board may take to its shell, and to be off, in emulation, with other work on the machine.
const BOOT: Duration = Duration::from_secs(120);

/// Where the board's disk is.
pub enum Disk<'a> {
    /// A file of this machine, which the board writes to.
    File(&'a Path),
    /// An NBD server's socket.
    Nbd(&'a Path),
}

/// A port of this machine's loopback that leads to one of the board's.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    pub here: u16,
    pub there: u16,
}

/// What a board is made of.
pub struct Setup<'a> {
    /// Of its files in `folder`: `<name>.console` gets what its serial console says.
    pub name: &'a str,
    pub shipped: &'a Shipped,
    pub disk: Disk<'a>,
    /// An image behind a second drive.
    pub stick: Option<&'a Path>,
    pub forwards: &'a [Forward],
    pub folder: &'a Path,
    pub memory_mib: u32,
    pub cpus: u32,
}

pub struct Machine {
    qemu: Service,
    pub qmp: Qmp,
    shell: UnixStream,
    heard: Arc<Mutex<String>>,
    commands: u32,
    pub powered_at: Instant,
}

impl Setup<'_> {
    /// Power on; answers when the shell does.
    pub fn power_on(&self) -> Result<Machine> {
        let (name, folder) = (self.name, self.folder);
        let socket = folder.join(format!("{name}.shell"));
        let control = folder.join(format!("{name}.qmp"));
        for socket in [&socket, &control] {
            let _ = std::fs::remove_file(socket);
        }
        let powered_at = Instant::now();
        let command = self.command(&socket, &control);
        let mut qemu = Service::start(&format!("{name}-qemu"), command, folder)?;
        let shell = qemu.wait_for("QEMU's socket", Duration::from_secs(20), || {
            Ok(UnixStream::connect(&socket).ok())
        })?;
        let heard = Arc::new(Mutex::new(String::new()));
        let (mut reader, into) = (shell.try_clone()?, heard.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).replace('\r', "");
                into.lock().expect("the shell's text").push_str(&text);
            }
        });
        let mut machine = Machine {
            qemu,
            qmp: Qmp::connect(&control)?,
            shell,
            heard,
            commands: 0,
            powered_at,
        };
        machine.wait_for_shell(folder, name)?;
        Ok(machine)
    }

    fn command(&self, shell: &Path, control: &Path) -> Command {
        let arch = self.shipped.arch;
        // The machine goes with this program, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", arch.qemu()]);
        command
            .args(arch.qemu_arguments())
            .args(["-accel", arch.qemu_accelerator()])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &self.memory_mib.to_string()])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
            ])
            .arg("-serial")
            .arg(format!(
                "file:{}",
                self.folder.join(format!("{}.console", self.name)).display()
            ))
            .arg("-kernel")
            .arg(&self.shipped.kernel)
            .arg("-initrd")
            .arg(&self.shipped.initramfs)
            .arg("-append")
            .arg(format!(
                "console={} panic=-1 loglevel=4{}",
                arch.console(),
                self.shipped.words
            ));
        let source = match self.disk {
            Disk::File(path) => format!("file={},format=raw,cache=writeback", path.display()),
            Disk::Nbd(socket) => format!(
                "file=nbd:unix:{},format=raw,cache=writeback",
                socket.display()
            ),
        };
        let mut drives = vec![source];
        drives.extend(
            self.stick
                .map(|path| format!("file={},format=raw,readonly=on", path.display())),
        );
        for (at, source) in drives.iter().enumerate() {
            command
                .arg("-drive")
                .arg(format!("if=none,id=disk{at},{source}"))
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive=disk{at}"));
        }
        let forwards: String = self
            .forwards
            .iter()
            .map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.here, f.there))
            .collect();
        let cable = qmp::CABLE;
        command
            .arg("-netdev")
            .arg(format!("user,id={cable}{forwards}"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev={cable},romfile="))
            .args(["-device", &format!("qemu-xhci,id={}", qmp::USB)])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", control.display()))
            .arg("-chardev")
            .arg(format!(
                "socket,id=shell,path={},server=on,wait=off",
                shell.display()
            ))
            .args([
                "-device",
                "virtio-serial-pci",
                "-device",
                "virtconsole,chardev=shell",
            ]);
        command
    }
}

impl Machine {
    fn wait_for_shell(&mut self, folder: &Path, name: &str) -> Result<()> {
        let end = Instant::now() + BOOT;
        while Instant::now() < end {
            self.qemu.check_alive()?;
            // The line is told back, so that what is asked must not look like the answer.
            let _ = self.shell.write_all(b"echo shell'-is-'here\n");
            std::thread::sleep(Duration::from_millis(300));
            if self.text()?.contains("shell-is-here") {
                return self.wait_for_silence(end);
            }
        }
        let told = console(folder, name);
        bail!(
            "no shell after {} s; the serial console:\n{told}",
            BOOT.as_secs()
        )
    }

    /// A slow board has many of those lines before it: what is typed while it works them off may be lost.
    fn wait_for_silence(&self, end: Instant) -> Result<()> {
        let mut heard = 0;
        while Instant::now() < end {
            let now = self.text()?.len();
            if now == heard {
                break;
            }
            heard = now;
            std::thread::sleep(Duration::from_millis(700));
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        match self.heard.lock() {
            Ok(text) => Ok(text.clone()),
            Err(_) => bail!("the reader of the shell died"),
        }
    }

    /// A command on the board; what it printed. Fails unless it ends with 0.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<String> {
        let (code, text) = self.try_run(command, limit)?;
        ensure!(
            code == 0,
            "`{command}` on the board ended with {code}:\n{text}"
        );
        Ok(text)
    }

    /// As [`Machine::run`], with the exit code.
    pub fn try_run(&mut self, command: &str, limit: Duration) -> Result<(i32, String)> {
        self.commands += 1;
        let number = self.commands;
        self.heard.lock().expect("the shell's text").clear();
        let line = format!("echo 'begin-'{number}; {command}; echo \"end-\"{number} $?\n");
        self.shell.write_all(line.as_bytes())?;
        let (begin, end) = (format!("begin-{number}\n"), format!("end-{number} "));
        wait_for(&format!("`{command}` on the board"), limit, || {
            self.qemu.check_alive()?;
            let text = self.text()?;
            let ended = text
                .split_once(&begin)
                .and_then(|(_, after)| after.split_once(&end))
                .and_then(|(said, rest)| Some((said, rest.split_once('\n')?.0)));
            let (said, code) = ended.with_context(|| format!("the shell said:\n{text}"))?;
            Ok(Some((code.trim().parse()?, said.to_owned())))
        })
    }

    /// A small file on the board, which has a 4 KiB line at most: in pieces.
    pub fn write_file(&mut self, path: &str, content: &str) -> Result<()> {
        let limit = Duration::from_secs(20);
        self.run(&format!(": > {path}"), limit)?;
        ensure!(!content.contains('\''), "{path}: a quote cannot be passed");
        let characters: Vec<char> = content.chars().collect();
        for piece in characters.chunks(512) {
            let piece: String = piece.iter().collect();
            self.run(&format!("printf %s '{piece}' >> {path}"), limit)?;
        }
        Ok(())
    }

    /// The power goes: QEMU is killed where it stands.
    pub fn cut(mut self) -> Result<()> {
        self.qemu.kill().map(drop)
    }

    /// Ends what runs, unmounts, powers off.
    pub fn power_off(mut self) -> Result<()> {
        self.shell.write_all(b"poweroff\n")?;
        let ended = wait_for("power off", BOOT, || {
            Ok(self.qemu.check_alive().is_err().then_some(()))
        });
        self.qemu.kill()?;
        ended
    }
}

/// What the serial console said so far.
pub fn console(folder: &Path, name: &str) -> String {
    let path: PathBuf = folder.join(format!("{name}.console"));
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
