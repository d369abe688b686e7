//! Step 10: the same signed files on a stick, for a board without network or clock.

use crate::Demo;
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use std::time::Instant;

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
