//! Step 10: the same signed files on a stick, for a board without network or clock.

use crate::Demo;
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use std::time::Instant;

/// For one board, with a secret that only this board can open.
pub fn sealed_to_a_board(demo: &mut Demo) -> Result<()> {
    const VALUE: &str = "good morning from the stick";
    let (board, engineer) = (&demo.board, &demo.engineer);
    let status = board.status()?;
    let key = status["trust"]["secret_key"].as_str();
    let (keys, value) = (engineer.file("board-keys.json"), engineer.file("greeting"));
    std::fs::write(&value, VALUE)?;
    let mut pin = engineer.release("secret");
    pin.args(["pin", "--board", board.id().as_str(), "--key"])
        .arg(key.context("the board shows no key for secrets")?)
        .arg("--board-keys")
        .arg(&keys);
    run(&mut pin)?;
    let release = engineer.create_release_with("4.0", 4, "shop/web:2", true, &["greeting"])?;
    let folder = demo.world.dir().join("stick-of-one");
    let mut stick = engineer.release("usb");
    stick
        .arg("--release")
        .arg(&release)
        .arg("--images")
        .arg(engineer.images())
        .arg("--key")
        .arg(engineer.key("offline-deploy"))
        .args(["--board", board.id().as_str(), "--seq", "1"])
        .arg("--secret")
        .arg(format!("web/greeting={}", value.display()))
        .arg("--board-keys")
        .arg(&keys)
        .arg("--output")
        .arg(&folder);
    demo.say
        .while_waiting("writing the stick", || run(&mut stick))?;
    run(&mut board.coracle(&["usb", "apply", folder.to_str().context("path")?]))?;
    let told = board.get_inside("http://127.0.0.1:8080/greeting")?;
    ensure!(told == VALUE, "the app's secret is `{told}`");
    let sealed = run(std::process::Command::new("grep")
        .args(["-rqs", VALUE])
        .arg(&folder)
        .arg(board.state_dir()));
    ensure!(sealed.is_err(), "the secret lies open: {sealed:?}");
    demo.say.line(
        "a stick for board A with a secret that only it can open: the app reads it, and it lies open nowhere on stick or disk",
    );
    Ok(())
}

/// A folder, then a vfat image, applied to a second board.
pub fn offline_board(demo: &mut Demo) -> Result<()> {
    demo.say.step(
        10,
        "A USB stick for a board with no network and its clock in 1970",
    );
    let board = crate::start_board(&demo.world, &demo.engineer, "demo.board-b", 2, false)?;
    let stick = |release: &str, seq: &str| {
        let mut command = demo.engineer.release("usb");
        command
            .arg("--release")
            .arg(demo.engineer.file(release))
            .arg("--images")
            .arg(demo.engineer.images())
            .arg("--base-images")
            .arg(demo.engineer.images())
            .arg("--key")
            .arg(demo.engineer.key("offline-deploy"))
            .args(["--hardware", "qemux86-64", "--seq", seq]);
        command
    };
    let folder = demo.world.dir().join("stick");
    run(stick("release-1.0.json", "1").arg("--output").arg(&folder))?;
    let image = demo.world.dir().join("stick.img");
    demo.say.while_waiting("writing the stick", || {
        run(stick("release-2.0.json", "2").arg("--image").arg(&image))
    })?;
    let listing = run(std::process::Command::new("mdir")
        .arg("-i")
        .arg(&image)
        .arg("::/coracle"))?;
    ensure!(
        listing.contains("stick"),
        "mtools does not read the stick:\n{listing}"
    );

    for (path, version) in [(&folder, "1.0"), (&image, "2.0")] {
        let start = Instant::now();
        let out = run(&mut board.coracle(&["usb", "apply", path.to_str().context("path")?]))?;
        demo.say.quote(&out);
        let body = board.get_inside("http://127.0.0.1:8080/")?;
        ensure!(
            body.contains(version),
            "the offline board answers `{}`",
            body.trim()
        );
        demo.say.line(&format!(
            "{} applied in {:.1} s; the app answers as {version}",
            path.display(),
            start.elapsed().as_secs_f32()
        ));
    }
    let again = board
        .coracle(&["usb", "apply", folder.to_str().context("path")?])
        .output()?;
    ensure!(
        again.status.code() == Some(3),
        "the older stick was not refused: {again:?}"
    );
    demo.say.line(&format!(
        "the older stick again: refused, {}",
        String::from_utf8_lossy(&again.stderr).trim()
    ));
    demo.say.figure(
        "USB: folder and vfat image, no network, clock in 1970",
        "applied; an older stick refused".into(),
    );
    Ok(())
}
