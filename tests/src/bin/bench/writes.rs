//! Bytes that reach the block device in one update, beside `docker pull` and `podman pull`: each tool has a loop device with ext4
//! for all that it keeps. Bytes do not depend on how busy the machine is.

use crate::dockerd::Dockerd;
use crate::peers;
use anyhow::{Context, Result, ensure};
use coracle_tests::board::{Board, BoardOptions};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::measure::human;
use coracle_tests::service::{Service, run};
use coracle_tests::world::World;
use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// Room for what the board's profile promises to apps, beside what it holds back, in bytes; the file is sparse.
const DISK_BYTES: u64 = 2 << 30;
/// Sectors of /sys/block/*/stat, whatever the device's own are (Documentation/block/stat.rst).
const SECTOR_BYTES: u64 = 512;

/// An update: two versions of an image, as `name:1` and `name:2` in the engineer's layout.
struct Update {
    what: String,
    image: &'static str,
    /// Releases of it for boards, the first and the second version.
    releases: [Versions; 2],
}

/// One version's releases.
struct Versions {
    /// The app's writable layer is in memory: as where project quotas hold it, nothing of it is on the disk before the app writes.
    bare: PathBuf,
    /// It is an image, as where the kernel has no project quotas: a new file system for each version.
    image: PathBuf,
}

impl Versions {
    /// `app`: what an app has beside its writable layer, up to and with its limits.
    fn sign(engineer: &Engineer, name: &str, number: usize, app: &str) -> Result<Self> {
        let sign = |way: &str, disk: &str| {
            let text = format!(
                "product = \"{name}\"\nversion = \"{number}\"\nrelease_counter = {number}\nexpires = \"90d\"\nhardware = [\"qemux86-64\"]\n\n\
                 [[apps]]\nname = \"app\"\ntrial_seconds = 2\n{app}{disk}\n\n[apps.network]\nmode = \"bridge\"\n"
            );
            engineer.sign_release(&format!("{name}-{number}-{way}"), &text)
        };
        Ok(Self {
            bare: sign("bare", "disk = \"1MiB\"\ndisk_on = \"memory\"")?,
            image: sign("image", "disk = \"64MiB\"")?,
        })
    }
}

pub fn table(world: &World, engineer: &Engineer, console: &Console) -> Result<String> {
    let updates = [
        small(world, engineer, Times::Kept)?,
        small(world, engineer, Times::New)?,
        python(engineer)?,
    ];
    let registry = Registry::start(world)?;
    let mut out = format!(
        "ext4 has no reflinks, and a hard link shares its time: of a layer that changed, a file is written again unless its time is the old one too. \
         Bytes written to a loop device with ext4 that holds all that the tool keeps, from the first version at rest to the second one there: \
         sectors of /sys/block/*/stat, the file system frozen and thawed before each reading, so that its journal is empty. coracle: an update from \
         assignment to commit, by a delta, with its trial, its journal and the app's log; of an app that runs, whose writable layer takes nothing before it is written \
         to, as where project quotas hold it. With an image: this machine's kernel has no project quotas, and each version's writable layer is a new file system of 64 MiB, \
         with a journal of its own. docker, podman: `pull`, which \
         starts nothing; layers packed by gzip, from Debian's docker-registry, temporary files on the same device. {}; {}.\n\n\
         | update | coracle | `docker pull` | of docker | `podman pull` | of podman | coracle with an image |\n|---|---|---|---|---|---|---|\n",
        peers::version(Path::new("dockerd")),
        peers::version(Path::new("podman")),
    );
    for (number, update) in updates.iter().enumerate() {
        for tag in ["1", "2"] {
            registry.put(engineer, &format!("{}:{tag}", update.image))?;
        }
        let ours = |nth: usize, of: fn(&Versions) -> &PathBuf| {
            let releases = [of(&update.releases[0]), of(&update.releases[1])];
            coracle(
                world,
                engineer,
                console,
                releases,
                (2 * number + nth) as u8 + 2,
            )
        };
        let bare = ours(0, |versions| &versions.bare)?;
        let image = ours(1, |versions| &versions.image)?;
        let docker = docker(world, &registry, update)?;
        let podman = podman(world, &registry, update)?;
        writeln!(
            out,
            "| {} | {} | {} | {:.2}x | {} | {:.2}x | {} |",
            update.what,
            human(bare),
            human(docker),
            bare as f64 / docker as f64,
            human(podman),
            bare as f64 / podman as f64,
            human(image)
        )?;
    }
    Ok(out)
}

/// The Python of the demo.
fn python(engineer: &Engineer) -> Result<Update> {
    let release = |number: usize| {
        let app = format!(
            "image = \"shop/web:{number}\"\n\n[apps.env]\nHEALTHY = \"true\"\nAPP_VERSION = \"{number}\"\n\n[apps.limits]\n\
             memory = \"64MiB\"\ncpu_millis = 500\npids = 32\n"
        );
        Versions::sign(engineer, "python", number, &app)
    };
    Ok(Update {
        what: "Python 3.11 of Debian, security update; one layer of three".to_owned(),
        image: "shop/web",
        releases: [release(1)?, release(2)?],
    })
}

/// What the second version's files have as their times.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    /// Those of the first one, unless their bytes changed: as a build that is reproducible has it.
    Kept,
    /// Others, each of them.
    New,
}

/// A layer that stays, and one of 128 files of 64 KiB, of which four have other bytes.
fn small(world: &World, engineer: &Engineer, times: Times) -> Result<Update> {
    let (image, what) = match times {
        Times::Kept => ("made/kept", "whose times stay"),
        Times::New => ("made/new", "all with new times"),
    };
    let dir = world.dir().join(image);
    let base = dir.join("base");
    std::fs::create_dir_all(base.join("data"))?;
    std::fs::copy(world.static_example(), base.join("hello"))?;
    std::fs::write(base.join("data/all"), noise(1, 8 << 20))?;
    let mut releases = Vec::new();
    for version in 1..=2_u64 {
        let app = dir.join(format!("app-{version}"));
        std::fs::create_dir_all(app.join("srv"))?;
        for file in 0..128 {
            let mut bytes = noise(2 + file, 64 << 10);
            if file % 32 == 0 {
                bytes[..1024].copy_from_slice(&noise(1000 + version, 1024));
            }
            let path = app.join(format!("srv/{file}"));
            std::fs::write(&path, bytes)?;
            let is_new = version == 2 && (times == Times::New || file % 32 == 0);
            let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + u64::from(is_new));
            std::fs::File::options()
                .write(true)
                .open(path)?
                .set_modified(time)?;
        }
        run(engineer
            .release("image")
            .arg("build")
            .arg("--layer")
            .arg(&base)
            .arg("--layer")
            .arg(&app)
            .args(["--entrypoint", "/hello", "--env", "PORT=9000", "--output"])
            .arg(engineer.images())
            .args(["--tag", &format!("{image}:{version}")]))?;
        let app = format!(
            "image = \"{image}:{version}\"\n\n[apps.limits]\nmemory = \"8MiB\"\ncpu_millis = 50\npids = 8\n"
        );
        releases.push(Versions::sign(
            engineer,
            &image[5..],
            version as usize,
            &app,
        )?);
    }
    Ok(Update {
        what: format!("4 of 128 files of 64 KiB, {what}, in a layer of 8 MiB"),
        image,
        releases: releases.try_into().ok().context("two releases")?,
    })
}

fn coracle(
    world: &World,
    engineer: &Engineer,
    console: &Console,
    releases: [&PathBuf; 2],
    number: u8,
) -> Result<u64> {
    let state = world.dir().join(format!("board-{number}/state"));
    let disk = Disk::mount(world, &format!("board-{number}"), &state)?;
    let options = BoardOptions {
        number,
        connected: true,
        clock_in_1970: false,
        profile: "qemux86-64",
    };
    let id = format!("bench.board-{number}");
    let mut board = Board::start(world, &id, engineer.root(), options)?;
    ensure!(
        board.state_dir() == state,
        "the board keeps its state elsewhere"
    );
    board.enrol(console)?;
    let deploy = |release: &Path| {
        engineer.push(console, release)?;
        let mut deploy = console.release("deploy");
        run(deploy
            .args(["--board", board.id().as_str(), "--wait"])
            .arg(release))
    };
    deploy(releases[0])?;
    let before = disk.written()?;
    let said = deploy(releases[1])?;
    let written = disk.written()? - before;
    ensure!(said.contains("delta"), "no delta was made: {said}");
    board.stop()?;
    Ok(written)
}

fn docker(world: &World, registry: &Registry, update: &Update) -> Result<u64> {
    let dir = world
        .dir()
        .join(format!("docker-{}", update.image.replace('/', "-")));
    let disk = Disk::mount(world, "docker", &dir.join("data"))?;
    let options = ["--storage-driver", "overlay2"];
    let dockerd = Dockerd::start(world, &dir.join("data/docker"), &dir, &options)?;
    let pull = |tag: &str| {
        run(dockerd
            .docker()
            .args(["pull", "-q", &registry.name(update.image, tag)]))
    };
    pull("1")?;
    let before = disk.written()?;
    pull("2")?;
    let written = disk.written()? - before;
    dockerd.end()?;
    Ok(written)
}

fn podman(world: &World, registry: &Registry, update: &Update) -> Result<u64> {
    let dir = world
        .dir()
        .join(format!("podman-{}", update.image.replace('/', "-")));
    let disk = Disk::mount(world, "podman", &dir.join("data"))?;
    let temporary = dir.join("data/tmp");
    std::fs::create_dir(&temporary)?;
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command
            .env("TMPDIR", &temporary)
            .arg("--root")
            .arg(dir.join("data/storage"))
            .arg("--runroot")
            .arg(dir.join("run"))
            .args([
                "--storage-driver",
                "overlay",
                "--cgroup-manager",
                "cgroupfs",
            ])
            .args(["--events-backend", "none"])
            .args(arguments);
        run(&mut command)
    };
    let pull = |tag: &str| {
        let name = registry.name(update.image, tag);
        podman(&["pull", "-q", "--tls-verify=false", &name])
    };
    pull("1")?;
    let before = disk.written()?;
    pull("2")?;
    let written = disk.written()? - before;
    // What it holds mounted below its folder.
    let held = dir.join("data/storage/overlay");
    let _ = Command::new("umount").arg(&held).output();
    Ok(written)
}

/// A loop device with ext4, mounted; gone when this is.
struct Disk {
    mounted: PathBuf,
    statistics: PathBuf,
    file: PathBuf,
}

impl Disk {
    fn mount(world: &World, name: &str, at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let file = world.dir().join(format!("{name}.ext4"));
        std::fs::File::create(&file)?.set_len(DISK_BYTES)?;
        // Nothing is left for the kernel to write on its own later.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&file))?;
        // The device goes with the last mount.
        run(Command::new("mount")
            .args(["-o", "loop,noatime"])
            .arg(&file)
            .arg(at))?;
        let device = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(at));
        let device = device.and_then(|device| {
            let name = device.trim().rsplit('/').next().map(str::to_owned);
            name.context("no device")
        });
        let disk = Self {
            mounted: at.to_owned(),
            statistics: PathBuf::from(format!(
                "/sys/block/{}/stat",
                device.as_deref().unwrap_or("?")
            )),
            file,
        };
        device?;
        Ok(disk)
    }

    /// Bytes until now, of all that is in the file system.
    fn written(&self) -> Result<u64> {
        for step in ["--freeze", "--unfreeze"] {
            run(Command::new("fsfreeze").arg(step).arg(&self.mounted))?;
        }
        let path = &self.statistics;
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let sectors = text.split_whitespace().nth(6).and_then(|n| n.parse().ok());
        let sectors: u64 = sectors.with_context(|| format!("{}: {text}", path.display()))?;
        Ok(sectors * SECTOR_BYTES)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let umount = |lazy: &[&str]| {
            let done = Command::new("umount")
                .args(lazy)
                .arg(&self.mounted)
                .output();
            done.is_ok_and(|done| done.status.success())
        };
        if !umount(&[]) {
            umount(&["--lazy"]);
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Debian's docker-registry.
struct Registry {
    host: String,
    dir: PathBuf,
    _service: Service,
}

impl Registry {
    fn start(world: &World) -> Result<Self> {
        let dir = world.dir().join("registry");
        std::fs::create_dir_all(&dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let host = format!("127.0.0.1:{port}");
        let settings = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n",
            dir.join("stored").display()
        );
        std::fs::write(&settings, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&settings);
        let mut service = Service::start("docker-registry", command, &world.logs())?;
        service.wait_for("docker-registry", Duration::from_secs(60), || {
            Ok(TcpStream::connect(&host).ok())
        })?;
        Ok(Self {
            host,
            dir,
            _service: service,
        })
    }

    /// Layers packed by gzip, as Docker 20.10 reads no others.
    fn put(&self, engineer: &Engineer, image: &str) -> Result<()> {
        let archive = self.dir.join("image.tar");
        run(engineer
            .release("image")
            .arg("export")
            .arg(&archive)
            .arg("--images")
            .arg(engineer.images())
            .args(["--tag", image]))?;
        run(Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{image}", self.host)))?;
        std::fs::remove_file(&archive).map_err(Into::into)
    }

    fn name(&self, image: &str, tag: &str) -> String {
        format!("{}/{image}:{tag}", self.host)
    }
}

/// Bytes that do not compress (xorshift, Marsaglia 2003).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
