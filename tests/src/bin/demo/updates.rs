//! Steps 4 to 7: the first release, the second as a delta, the third that goes back.

use crate::{Demo, shown};
use anyhow::{Context, Result, ensure};
use coracle_tests::measure::{cgroup_value, get, human};
use coracle_tests::service::{run, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

impl Demo {
    /// The app's page, from outside the board.
    pub fn page(&self) -> Result<String> {
        let (status, body) = get(&format!("http://{}:8080/", self.board.ip()))?;
        ensure!(status == 200, "the app answered {status}");
        Ok(body)
    }

    /// Fails unless the app answers as `version`.
    pub fn app_answers(&self, version: &str) -> Result<()> {
        let body = self.page()?;
        ensure!(
            body.contains(version),
            "the app answered `{}`, not as version {version}",
            body.trim()
        );
        Ok(())
    }

    /// `coracle-release deploy --wait`, its output quoted; the exit code.
    pub fn deploy(&self, release: &Path) -> Result<i32> {
        let mut command = self.console.release("deploy");
        command
            .arg("--board")
            .arg(self.board.id().as_str())
            .arg("--wait")
            .arg(release);
        let output = command.stdin(Stdio::null()).output()?;
        self.say.quote(&String::from_utf8_lossy(&output.stdout));
        self.say.quote(&String::from_utf8_lossy(&output.stderr));
        output.status.code().context("deploy was killed")
    }

    /// What the console last heard from the board about a deployment.
    pub fn feedback(&self) -> Result<Value> {
        Ok(self.console.board(self.board.id())?["feedback"].clone())
    }
}

/// Step 4 and 5: push, run, answer, limits.
pub fn first(demo: &mut Demo) -> Result<()> {
    demo.say.step(4, "Release 1: signed, pushed, assigned");
    let release = demo.engineer.create_release("1.0", 1, "shop/web:1", true)?;
    demo.say.while_waiting("pushing images", || {
        demo.engineer.push(&demo.console, &release)
    })?;
    let start = Instant::now();
    ensure!(demo.deploy(&release)? == 0, "release 1 was not committed");
    wait_for("the app", Duration::from_secs(10), || Ok(demo.page().ok()))?;
    demo.app_answers("1.0")?;
    demo.say.figure(
        "from assignment to committed (5 s of it is the trial)",
        format!("{:.1} s", start.elapsed().as_secs_f32()),
    );

    demo.say
        .step(5, "It runs inside hard limits, and every tool shows it");
    let ps: Value = serde_json::from_str(&run(&mut demo.board.coracle(&["ps", "--json"]))?)?;
    let web = ps
        .as_array()
        .into_iter()
        .flatten()
        .find(|a| a["name"] == "web")
        .context("no web in coracle ps")?;
    let cgroup = web["cgroup"].as_str().context("no cgroup")?;
    for (v1, v2) in [
        (("memory", "memory.limit_in_bytes"), "memory.max"),
        (("cpu", "cpu.cfs_quota_us"), "cpu.max"),
        (("pids", "pids.max"), "pids.max"),
        (("blkio", "blkio.throttle.write_bps_device"), "io.max"),
    ] {
        let (path, value) = cgroup_value(cgroup, v1, v2)?;
        ensure!(
            !value.is_empty() && value != "max",
            "{} is not set",
            path.display()
        );
        demo.say.line(&format!("{} = {value}", path.display()));
    }
    demo.say.quote(&run(&mut demo.board.coracle(&["ps"]))?);
    let docker = run(&mut demo.board.docker(&["ps"]))?;
    ensure!(
        docker.contains("web") && docker.contains("8080"),
        "docker ps shows no web"
    );
    demo.say.quote(&docker);
    let state = run(&mut demo.board.docker(&[
        "inspect",
        "--format",
        "{{.State.Status}} {{.HostConfig.Memory}}",
        "web",
    ]))?;
    ensure!(
        state.trim() == format!("running {}", 64 << 20),
        "docker inspect says `{}`",
        state.trim()
    );
    let logs = run(&mut demo.board.docker(&["logs", "web"]))?;
    let ours = run(&mut demo.board.coracle(&["logs", "web"]))?;
    ensure!(!ours.trim().is_empty(), "coracle logs web is empty");
    demo.say.line(&format!(
        "docker inspect: {}; docker logs: {} lines; coracle logs: {} lines",
        state.trim(),
        logs.lines().count(),
        ours.lines().count()
    ));
    ensure!(
        demo.board
            .get_inside("http://127.0.0.1:9000/")?
            .contains("1.0"),
        "hello does not answer on the board's 127.0.0.1"
    );
    shown::memory(demo)
}

/// Step 6: only what changed travels.
pub fn second_by_delta(demo: &mut Demo) -> Result<()> {
    demo.say
        .step(6, "Release 2: a new Python, fetched as a delta");
    let release = demo.engineer.create_release("2.0", 2, "shop/web:2", true)?;
    demo.say.while_waiting("pushing images", || {
        demo.engineer.push(&demo.console, &release)
    })?;
    let code = demo
        .say
        .while_waiting("the console makes the delta; the board fetches it", || {
            demo.deploy(&release)
        })?;
    ensure!(code == 0, "release 2 was not committed");
    demo.app_answers("2.0")?;
    let fetched = demo.feedback()?["fetched"].clone();
    let number = |field: &str| {
        fetched[field]
            .as_u64()
            .with_context(|| format!("no {field} in {fetched}"))
    };
    let (wire, delta, full) = (
        number("wire_bytes")?,
        number("delta_bytes")?,
        number("full_bytes")?,
    );
    ensure!(
        delta > 0 && wire < full / 2,
        "the update took {wire} bytes, {delta} of them deltas; the full layers are {full}"
    );
    demo.say.figure(
        "bytes on the wire for release 2",
        format!(
            "{} (full layers: {}, {:.1}x)",
            human(wire),
            human(full),
            full as f64 / wire as f64
        ),
    );
    Ok(())
}

/// Step 7: an update that does not prove healthy is undone by the board itself.
pub fn third_goes_back(demo: &mut Demo) -> Result<()> {
    demo.say.step(
        7,
        "Release 3: its health check fails; the board goes back by itself",
    );
    let release = demo
        .engineer
        .create_release("3.0", 3, "shop/web:2", false)?;
    demo.engineer.push(&demo.console, &release)?;
    let watch = Watch::start(format!("http://{}:8080/", demo.board.ip()));
    let code = demo.deploy(&release)?;
    ensure!(
        code == 1,
        "a release that is not healthy ended with exit code {code}, not 1"
    );
    wait_for("release 2 again", Duration::from_secs(10), || {
        Ok(demo.app_answers("2.0").ok())
    })?;
    let gap = watch.stop();
    let feedback = demo.feedback()?;
    ensure!(
        feedback["phase"] == "rolled-back",
        "the console has {feedback}"
    );
    let reason = feedback["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(
        reason.contains("web"),
        "the reason does not name the app: `{reason}`"
    );
    let status = run(&mut demo.console.release("status"))?;
    ensure!(
        status.contains(&reason),
        "coracle-release status does not say why:\n{status}"
    );
    demo.say.quote(&status);
    demo.say.figure(
        "longest silence of the app while release 3 was tried and undone",
        format!("{:.1} s", gap.as_secs_f32()),
    );
    let page = demo.console.page(&format!("/boards/{}", demo.board.id()))?;
    ensure!(
        page.contains("is unhealthy"),
        "the console's page does not say why"
    );
    demo.say.line("the console's page says the same");
    Ok(())
}

/// Asks a page all the time and keeps the longest time without an answer.
struct Watch {
    stop: Arc<AtomicBool>,
    longest_ms: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(url: String) -> Self {
        let (stop, longest_ms) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let (stop_seen, longest) = (stop.clone(), longest_ms.clone());
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !stop_seen.load(Ordering::Relaxed) {
                if get(&url).is_ok_and(|(status, _)| status == 200) {
                    longest.fetch_max(last.elapsed().as_millis() as u32, Ordering::Relaxed);
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            longest.fetch_max(last.elapsed().as_millis() as u32, Ordering::Relaxed);
        });
        Self {
            stop,
            longest_ms,
            thread,
        }
    }
    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed).into())
    }
}
