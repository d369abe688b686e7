//! `usb apply` against a daemon that says what the test wants.

mod daemon;
mod stick;

use coracle_protocol::Sha256Digest;
use coracle_protocol::dsse::Envelope;
use daemon::Daemon;
use serde_json::{Value, json};
use stick::{
    APPLY, CONFIG, DELTA, LARGER_DELTA, OFFER, ROOT, apply, blob, board_and_stick,
    board_and_stick_with, committed, config, full, image_of, phases, put,
};

#[test]
fn the_smallest_delta_is_sent_and_each_phase_is_said() {
    let (daemon, stick) = board_and_stick(&[CONFIG, LARGER_DELTA, DELTA, &full()]);
    daemon.answer(APPLY, 200, committed());
    let (code, out, err) = apply(&daemon, &stick);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "verified\nsent 1 layers, 5 B, 1 of them as deltas (195 KiB in full)\n\
         staging\nswitching\ntrial 5 s\ncommitted\n"
    );
    assert_eq!(daemon.asked(&put(DELTA))[0].body.as_deref(), Some(DELTA));
    assert_eq!(daemon.asked("PUT").len(), 2, "config and one delta");
    let body = daemon.asked(APPLY)[0].body.clone().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({"activity": "local-1"})
    );
}

#[test]
fn without_a_delta_the_full_layer_is_sent() {
    let (daemon, stick) = board_and_stick(&[CONFIG, &full()]);
    daemon.answer(APPLY, 200, committed());
    let (code, _, err) = apply(&daemon, &stick);
    assert_eq!(code, 0, "{err}");
    assert_eq!(daemon.asked(&put(&full()))[0].body, Some(full()));
}

#[test]
fn a_delta_that_does_not_serve_is_followed_by_the_full_layer() {
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA, &full()]);
    let end = json!({"phase": "failed", "code": "no-blob", "reason": "blob was not given"});
    daemon.answer(
        APPLY,
        200,
        phases(&["received", "verified", "staging"], end),
    );
    daemon.answer(APPLY, 200, committed());
    let (code, out, err) = apply(&daemon, &stick);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("a delta did not serve; taking full layers\n"),
        "{out}"
    );
    assert_eq!(daemon.asked(&put(&full())).len(), 1);
    assert_eq!(daemon.asked(OFFER).len(), 2);
}

#[test]
fn ends_and_their_exit_codes() {
    for (end, want, word) in [
        (
            json!({"phase": "refused", "code": "rollback", "reason": "the counter is old"}),
            3,
            "the counter is old (rollback)",
        ),
        (
            json!({"phase": "rolled-back", "reason": "web: exited with 1"}),
            1,
            "rolled back: web: exited with 1",
        ),
        (
            json!({"phase": "failed", "code": "no-space"}),
            1,
            "failed: no-space",
        ),
    ] {
        let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
        daemon.answer(APPLY, 200, phases(&["received"], end));
        let (code, out, err) = apply(&daemon, &stick);
        assert_eq!(code, want, "{out}{err}");
        assert!(err.contains(word), "{err}");
    }
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    daemon.answer(APPLY, 200, "");
    let (code, _, err) = apply(&daemon, &stick);
    assert_eq!(code, 1);
    assert!(err.contains("stopped telling"), "{err}");
}

/// A release brought another program of the board's own, which the daemon became in the middle.
#[test]
fn a_daemon_that_is_started_anew_is_offered_the_same_and_followed_on() {
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    daemon.answer(APPLY, 200, "");
    daemon.answer(APPLY, 200, committed());
    let (code, out, err) = apply(&daemon, &stick);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("coracled is started anew\n"), "{out}");
    assert!(out.ends_with("committed\n"), "{out}");
    assert_eq!(daemon.asked(OFFER).len(), 2);

    // Its set went back before that one was there.
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    let gone = json!({"code": "rolled-back", "message": "2 did not stay: it ended"});
    daemon.answer(OFFER, 403, gone.to_string());
    daemon.answer(APPLY, 200, "");
    let (code, out, err) = apply(&daemon, &stick);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.contains("rolled back: 2 did not stay: it ended"),
        "{err}"
    );
}

#[test]
fn a_refused_offer_sends_nothing() {
    let refusing = Daemon::start();
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    refusing.answer(
        OFFER,
        403,
        r#"{"message":"1 of 2 signatures","code":"threshold"}"#,
    );
    let (code, out, err) = apply(&refusing, &stick);
    assert_eq!((code, out.as_str()), (3, ""));
    assert_eq!(err, "coracle: refused: 1 of 2 signatures (threshold)\n");
    assert!(refusing.asked("PUT").is_empty());
    drop(daemon);
}

#[test]
fn a_damaged_blob_is_never_sent_whole() {
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA, &full()]);
    daemon.answer(APPLY, 200, committed());
    let blobs = stick.join("coracle/blobs/sha256");
    std::fs::write(blobs.join(Sha256Digest::of(DELTA).hex()), b"dElta").unwrap();
    let (code, out, err) = apply(&daemon, &stick);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("damaged: its bytes have another digest; trying another\n"),
        "{out}"
    );
    assert!(daemon.asked(&put(DELTA)).iter().all(|a| a.body.is_none()));
    let mut wrong = full();
    wrong[199_999] = 8;
    std::fs::write(blobs.join(Sha256Digest::of(&full()).hex()), wrong).unwrap();
    let before = daemon.asked(APPLY).len();
    let (code, _, err) = apply(&daemon, &stick);
    assert_eq!(code, 1);
    assert!(err.contains("is damaged"), "{err}");
    let sent = daemon.asked(&put(&full()));
    assert_eq!(
        sent.len(),
        2,
        "once whole, before it was damaged, and once broken off"
    );
    assert!(sent[0].body.is_some() && sent[1].body.is_none());
    assert_eq!(daemon.asked(APPLY).len(), before);
}

/// Whoever pulls a stick and puts another in its place, or writes to it, after its documents were read.
#[test]
fn contents_of_a_stick_swapped_between_check_and_use() {
    let (daemon, stick) = board_and_stick(&[CONFIG, &full()]);
    daemon.answer(APPLY, 200, committed());
    let swapped = stick.clone();
    daemon.meanwhile(OFFER, move || {
        let inner = swapped.join("coracle");
        std::fs::rename(&inner, swapped.join("away")).unwrap();
        let blobs = inner.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(inner.join("stick.json"), b"{}").unwrap();
        for bytes in [CONFIG, &full()] {
            // Of the same name and size.
            let evil = vec![b'x'; bytes.len()];
            std::fs::write(blobs.join(Sha256Digest::of(bytes).hex()), evil).unwrap();
        }
    });
    let (_, _, err) = apply(&daemon, &stick);
    let good = [CONFIG, &full()];
    let whole: Vec<Vec<u8>> = daemon
        .asked("PUT")
        .into_iter()
        .filter_map(|asked| asked.body)
        .collect();
    assert!(
        whole.iter().all(|bytes| good.contains(&&bytes[..])),
        "evil bytes went to the daemon whole"
    );
    // From the old folder everything, from the new one nothing.
    assert!(
        err.contains("is damaged") || whole.len() == good.len(),
        "{err}"
    );
}

#[test]
fn a_stick_brings_root_documents_before_its_offer() {
    let stick = || {
        let roots = [b"two", b"thr"].map(|name| Envelope::unsigned("root", name));
        board_and_stick_with(&[CONFIG, &full()], roots.to_vec())
    };
    let lines = |daemon: &Daemon| -> Vec<String> {
        let asked = daemon.asked("POST");
        asked.into_iter().map(|asked| asked.line).collect()
    };
    let (daemon, place) = stick();
    daemon.answer(ROOT, 204, "").answer(APPLY, 200, committed());
    let (code, _, err) = apply(&daemon, &place);
    assert_eq!(code, 0, "{err}");
    assert_eq!(lines(&daemon), [ROOT, ROOT, OFFER, APPLY]);
    let body = daemon.asked(ROOT)[0].body.clone().unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["root"]["payload"], json!("dHdv"), "the oldest first");

    // One that the board refuses ends it there.
    let (daemon, place) = stick();
    let refused = r#"{"message":"this board has version 1","code":"bad-root"}"#;
    daemon.answer(ROOT, 403, refused);
    let (code, _, err) = apply(&daemon, &place);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("this board has version 1"), "{err}");
    assert_eq!(lines(&daemon), [ROOT]);
}

#[test]
fn a_stick_for_other_boards_is_said_before_anything_is_sent() {
    let (daemon, stick) = board_and_stick(&[CONFIG]);
    let (code, _, err) = apply(&daemon, &stick);
    assert_eq!(code, 1);
    assert!(err.contains("boards that run another release"), "{err}");
    assert!(daemon.asked("PUT").is_empty());
}

#[test]
fn what_is_no_stick() {
    let daemon = Daemon::start();
    let (code, _, err) = apply(&daemon, daemon.folder());
    assert_eq!(code, 1);
    assert!(err.contains("holds no coracle/stick.json"), "{err}");
    assert!(daemon.asked("").is_empty());
}

#[test]
fn a_stick_for_several_boards_gives_each_its_own_assignment() {
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    let path = stick.join("coracle/stick.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let of = |board: &str| {
        let deploy = json!({"spec_version": 1, "role": "offline-deploy", "target": {"boards": [board]},
            "release": blob(b"r"), "epoch": 1, "seq": 1, "issued_at": 1, "expires": 2});
        Envelope::unsigned("d", deploy.to_string().as_bytes())
    };
    index["deploys"] = json!([of("acme.a"), of("acme.b")]);
    std::fs::write(&path, index.to_string()).unwrap();
    daemon.answer(
        "GET /coracle/v1/status",
        200,
        json!({"link": {"board": "acme.b"}}).to_string(),
    );
    daemon.answer(APPLY, 200, committed());
    let (code, _, err) = apply(&daemon, &stick);
    assert_eq!((code, err.as_str()), (0, ""));
    let body = daemon.asked(OFFER)[0].body.clone().unwrap();
    let offered: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(offered["deploy"], json!(of("acme.b")));
}

/// The user that `coracle usb plugged DEVICE` is, by /proc.
fn user_of_plugged(device: &std::path::Path) -> Option<String> {
    let wanted = format!("\0usb\0plugged\0{}\0", device.display());
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let process = all.map(|entry| entry.path()).find(|path| {
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&wanted)
    })?;
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("Uid:"))?;
    Some(line.to_owned())
}

#[test]
fn a_stick_that_is_plugged_in_is_opened_by_root_and_read_by_another() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test opens a device as root does: run it as root"
    );
    let (daemon, stick) = board_and_stick(&[CONFIG, &full()]);
    daemon.answer(APPLY, 200, committed());
    let image = image_of(&stick);
    let config = config(&daemon, "");
    let (seen, device) = (
        std::sync::Arc::new(std::sync::Mutex::new(None)),
        image.clone(),
    );
    let note = seen.clone();
    daemon.meanwhile(OFFER, move || {
        *note.lock().unwrap() = user_of_plugged(&device)
    });
    let plugged = |path: &std::path::Path| {
        daemon.run(&[
            "--config",
            &config,
            "usb",
            "plugged",
            path.to_str().unwrap(),
        ])
    };
    let output = plugged(&image);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{:?}", output.stderr);
    assert!(
        text.contains("a stick of Coracle\n") && text.ends_with("committed\n"),
        "{text}"
    );
    assert_eq!(daemon.asked(&put(&full()))[0].body, Some(full()));
    let user = seen.lock().unwrap().clone().unwrap();
    assert_eq!(user, "Uid:\t65534\t65534\t65534\t65534");

    // Somebody's photographs.
    std::fs::remove_dir_all(stick.join("coracle")).unwrap();
    std::fs::write(stick.join("photo.jpg"), "x").unwrap();
    let (asked, output) = (daemon.asked("").len(), plugged(&image_of(&stick)));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("is no stick of Coracle"),
        "{text}"
    );
    assert_eq!(daemon.asked("").len(), asked);
}

#[test]
fn a_site_may_leave_sticks_to_people() {
    let (daemon, stick) = board_and_stick(&[CONFIG, &full()]);
    let config = config(&daemon, "[usb]\nplugged = \"ignore\"\n");
    let image = image_of(&stick);
    let output = daemon.run(&[
        "--config",
        &config,
        "usb",
        "plugged",
        image.to_str().unwrap(),
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("`coracle usb apply` takes it"),
        "{text}"
    );
    assert!(daemon.asked("").is_empty());
}
