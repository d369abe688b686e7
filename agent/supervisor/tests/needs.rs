//! What a release needs and this kernel, or this file system, does not have: refused with the app's name before anything is
//! fetched, and asked again when it is offered again.

mod board;

use board::{Board, app, rootfs};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image};
use serde_json::{Value, json};
use std::process::Command;

fn on(image: &Image, name: &str, network: Value) -> App {
    let mut app = app(image, "exec sleep 1000");
    app.name = AppName::new(name).unwrap();
    app.network = serde_json::from_value(network).unwrap();
    app.stop_grace_seconds = 0;
    app
}

/// The reason, where the board refuses it for its kernel.
fn lacks(board: &mut Board, apps: Vec<App>) -> Option<String> {
    let (release, deploy) = board.documents("1", apps);
    match board.offer("1", &release, &deploy) {
        Answer::Refused { code, reason } => {
            assert_eq!(code, "kernel-lacks", "{reason}");
            Some(reason)
        }
        Answer::Needs(_) => None,
        other => panic!("{other:?}"),
    }
}

/// Whether this kernel can, by another program's word.
fn can(line: &str) -> bool {
    let mut there = Command::new("unshare");
    let there = there.args(["--net", "sh", "-ec", line]).output().unwrap();
    there.status.success()
}

#[test]
fn a_kernel_without_what_a_network_is_made_of_is_told_with_the_app() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    board.ip("link add eth1 type veth peer name far");
    let wire = "ip link add v type veth";
    let lines = [
        (
            "macvlan links",
            json!({"driver": "macvlan"}),
            "ip link add link v name m type macvlan",
        ),
        (
            "ipvlan links",
            json!({"driver": "ipvlan"}),
            "ip link add link v name m type ipvlan",
        ),
        (
            "VLANs",
            json!({"driver": "macvlan", "vlan": 3}),
            "ip link add link v name m type vlan id 3",
        ),
    ];
    for (need, more, line) in lines {
        let mut spec = json!({"name": "plant", "parent": "eth1", "subnet": "192.168.7.0/24"});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        board.networks = vec![serde_json::from_value(spec).unwrap()];
        let station = on(&image, "station", json!({"networks": [{"name": "plant"}]}));
        let other = on(&image, "other", json!({"mode": "none"}));
        let refused = lacks(&mut board, vec![station, other]);
        assert_eq!(
            refused.is_none(),
            can(&format!("{wire}; {line}")),
            "{need}: {refused:?}"
        );
        if let Some(reason) = refused {
            let words =
                format!("`station` needs {need}, which this board's kernel does not have: ");
            assert!(
                reason.contains(&words) && !reason.contains("`other`"),
                "{reason}"
            );
            assert!(reason.contains("coracle board check"), "{reason}");
        }
    }
    // Nothing of the trials is left on the board.
    assert!(!board.links().contains("check"), "{}", board.links());

    // Rates and lists of places.
    board.networks.clear();
    let rates = json!({"rates": {"ingress_bytes_per_second": 9000, "egress_bytes_per_second": 9000}, "egress": []});
    let rates = on(&image, "held", rates);
    let bucket = "tc qdisc add dev v root tbf rate 1mbit burst 32kbit latency 400ms";
    let both = can(&format!("{wire}; {bucket}"))
        && can(&format!(
            "{wire}; nft add table netdev t; nft 'add chain netdev t c {{ type filter hook ingress device v priority 0; }}'; nft add rule netdev t c limit rate over 9000 bytes/second drop"
        ));
    assert_eq!(lacks(&mut board, vec![rates]).is_none(), both);
}

#[test]
fn a_kernel_without_filters_of_system_calls_is_told_and_asked_again() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    let quiet = || on(&image, "quiet", json!({"mode": "none"}));
    board.kill_supervisor();
    board.without_calls = vec![libc::SYS_seccomp as u32];
    board.start_supervisor();
    let reason = lacks(&mut board, vec![quiet()]).expect("it was to be refused");
    let words = "`quiet` needs seccomp filters, which this board's kernel does not have: Function not implemented";
    assert!(reason.contains(words), "{reason}");
    assert!(!reason.contains("overlayfs"), "{reason}");
    board.kill_supervisor();
    board.without_calls.clear();
    board.start_supervisor();
    board.commit("2", vec![quiet()]);
}

#[test]
fn a_state_folder_that_layers_cannot_lie_on_is_told_before_anything_is_fetched() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    let quiet = || on(&image, "quiet", json!({"mode": "none"}));
    assert_eq!(lacks(&mut board, vec![quiet()]), None);
    // The state folder comes to lie on an overlay, which takes no second one as its upper side.
    board.kill_supervisor();
    let state = board.state();
    let sides = ["upper", "work"].map(|name| board.dir.path().join(name));
    sides
        .iter()
        .for_each(|side| std::fs::create_dir(side).unwrap());
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        state.display(),
        sides[0].display(),
        sides[1].display()
    );
    let mount = |words: &[&str]| {
        assert!(
            Command::new("mount")
                .args(words)
                .status()
                .unwrap()
                .success()
        )
    };
    mount(&[
        "-t",
        "overlay",
        "overlay",
        "-o",
        &options,
        state.to_str().unwrap(),
    ]);
    board.start_supervisor();
    let reason = lacks(&mut board, vec![quiet()]);
    board.kill_supervisor();
    assert!(
        Command::new("umount")
            .args(["-l"])
            .arg(&state)
            .status()
            .unwrap()
            .success()
    );
    board.start_supervisor();
    let reason = reason.expect("it was to be refused");
    assert!(
        reason.contains("`quiet` needs overlayfs, which"),
        "{reason}"
    );
    assert_eq!(lacks(&mut board, vec![quiet()]), None);
}

#[test]
fn a_full_disk_says_nothing_of_the_kernel_and_the_same_offer_is_good_later() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "here"), RunConfig::default());
    board.kill_supervisor();
    let (state, aside) = (board.state(), board.dir.path().join("aside"));
    let shell = |line: String| {
        let status = Command::new("sh").args(["-ec", &line]).status().unwrap();
        assert!(status.success(), "{line}");
    };
    let (at, aside) = (state.display(), aside.display());
    shell(format!(
        "cp -a {at} {aside}; mount -t tmpfs -o nr_inodes=3000,mode=755 tmpfs {at}; cp -a {aside}/. {at}/; mkdir {at}/filler {at}/.coracle-check-layers-4194305"
    ));
    board.start_supervisor();
    let left = state.join(".coracle-check-layers-4194305").exists();
    let (release, deploy) =
        board.documents("1", vec![on(&image, "quiet", json!({"mode": "none"}))]);
    let filler = state.join("filler");
    let full = (0..3000).any(|n| std::fs::write(filler.join(n.to_string()), "").is_err());
    let answer = board.offer("1", &release, &deploy);
    std::fs::remove_dir_all(&filler).unwrap();
    let later = board.offer("1", &release, &deploy);
    board.kill_supervisor();
    shell(format!("umount -l {at}"));
    board.start_supervisor();
    assert!(full && !left);
    let Answer::Failed { code, reason } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code, "cannot-try", "{reason}");
    assert!(reason.contains("overlayfs: No space left"), "{reason}");
    assert!(matches!(later, Answer::Needs(_)), "{later:?}");
}
