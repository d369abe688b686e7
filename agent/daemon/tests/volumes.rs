//! Volumes through the real daemon: the unmodified Docker client, backups and restores, and who asked.

mod support;

use coracle_protocol::local::{Answer, Request, Verdict, VolumeAction, VolumeStatus};
use coracle_protocol::names::VolumeName;
use coracle_protocol::report::DiskUse;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use std::path::PathBuf;
use std::process::Command;
use support::daemon::Daemon;
use support::supervisor::{FakeSupervisor, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

fn volume(name: &VolumeName, limit: Option<u64>) -> VolumeStatus {
    VolumeStatus {
        name: name.clone(),
        owner: Some(0),
        created_at: 1_700_000_000,
        used: DiskUse {
            bytes: 4096,
            inodes: 2,
            limit_bytes: limit,
            limit_inodes: limit.map(|bytes| bytes / 16_384),
        },
        means: Some("image".into()),
        held_bytes: 6 << 20,
        path: format!("/var/lib/coracle/volumes/{name}/room/data"),
        apps: vec![],
        in_previous: false,
    }
}

/// A supervisor that has what was made through it, and sends transfers to `socket`.
fn script(socket: PathBuf) -> impl FnMut(&Request, &State) -> Option<Answer> + Send {
    let mut there: Vec<VolumeStatus> = Vec::new();
    let failed = |code: &str| Answer::Failed {
        code: code.into(),
        reason: format!("it is {code}"),
    };
    move |request, _| {
        let Request::Volume { action, .. } = request else {
            return None;
        };
        Some(match action {
            VolumeAction::List => Answer::Volumes {
                volumes: there.clone(),
            },
            VolumeAction::Create {
                name, size_bytes, ..
            } => {
                if there.iter().any(|v| v.name == *name) {
                    return Some(failed("volume-exists"));
                }
                let made = volume(name, *size_bytes);
                there.push(made.clone());
                Answer::Volumes {
                    volumes: vec![made],
                }
            }
            VolumeAction::Remove { name } if name.as_str() == "used" => failed("volume-in-use"),
            VolumeAction::Remove { name } => {
                let at = there.iter().position(|v| v.name == *name);
                match at {
                    Some(at) => Answer::Volumes {
                        volumes: vec![there.remove(at)],
                    },
                    None => failed("no-volume"),
                }
            }
            VolumeAction::Prune => Answer::Volumes {
                volumes: std::mem::take(&mut there),
            },
            VolumeAction::Backup { name } | VolumeAction::Restore { name } => match name.as_str() {
                "mine" => Answer::Transfer {
                    socket: socket.to_str().unwrap().into(),
                },
                _ => failed("not-owner"),
            },
        })
    }
}

async fn start() -> (Daemon, FakeSupervisor, UnixListener) {
    let mut daemon = Daemon::prepare();
    let socket = daemon.folder().join("transfer.sock");
    let transfers = UnixListener::bind(&socket).unwrap();
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), script(socket));
    daemon.start().await;
    for _ in 0..200 {
        let (_, status) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
        if status["supervisor_up"] == true {
            return (daemon, supervisor, transfers);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the daemon never reached the supervisor:\n{}", daemon.log());
}

/// Runs the real client; whether it succeeded, and what it prints.
async fn docker(daemon: &Daemon, args: &[&str]) -> (bool, String) {
    let mut command = Command::new("docker");
    command
        .args([
            "-H",
            &format!("unix://{}", daemon.docker_socket().display()),
        ])
        .args(args)
        .env("DOCKER_CONFIG", daemon.folder());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("this test needs the `docker` client on PATH");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

#[tokio::test]
async fn the_unmodified_docker_client_has_volumes() {
    let (daemon, supervisor, _transfers) = start().await;
    let good = |(good, text): (bool, String)| {
        assert!(good, "{text}\n{}", daemon.log());
        text
    };
    let create = ["volume", "create", "-o", "size=64m", "mine"];
    assert_eq!(good(docker(&daemon, &create).await), "mine\n");
    assert_eq!(
        good(docker(&daemon, &create).await),
        "mine\n",
        "as Docker's engine does"
    );
    let calls = supervisor.state.calls.lock().unwrap().clone();
    let uid = nix::unistd::getuid().as_raw();
    assert!(calls.contains(&Request::Volume {
        action: VolumeAction::Create {
            name: VolumeName::new("mine").unwrap(),
            size_bytes: Some(64 << 20),
            inodes: None,
        },
        uid,
    }));
    let listed = good(docker(&daemon, &["volume", "ls"]).await);
    assert!(listed.contains("local     mine"), "{listed}");
    let format = "{{.Name}} {{.Driver}} {{.Options.size}} {{.Mountpoint}} {{.CreatedAt}}";
    let shown = good(docker(&daemon, &["volume", "inspect", "--format", format, "mine"]).await);
    assert_eq!(
        shown,
        "mine local 67108864 /var/lib/coracle/volumes/mine/room/data 2023-11-14T22:13:20.000000000Z\n"
    );
    let named = ["volume", "ls", "-q", "--filter", "name=other"];
    assert_eq!(good(docker(&daemon, &named).await), "");

    let bad = |(good, text): (bool, String)| {
        assert!(!good, "{text}");
        text
    };
    let text = bad(docker(&daemon, &["volume", "inspect", "none"]).await);
    assert!(text.contains("no such volume"), "{text}");
    let text = bad(docker(&daemon, &["volume", "rm", "used"]).await);
    assert!(text.contains("volume-in-use"), "{text}");
    for (args, words) in [
        (&["-d", "nfs", "x"][..], "only `local`"),
        (&["-o", "device=/etc", "x"], "option `device` is not known"),
        (&["-o", "size=many", "x"], "is no number"),
        (&["--label", "a=b", "x"], "no labels"),
        (&["../x"], "is not a volume name"),
    ] {
        let text = bad(docker(&daemon, &[&["volume", "create"], args].concat()).await);
        assert!(text.contains(words), "{text}");
    }

    // Without -a only volumes that nobody named would go.
    good(docker(&daemon, &["volume", "prune", "-f"]).await);
    assert!(good(docker(&daemon, &["volume", "ls"]).await).contains("mine"));
    let pruned = good(docker(&daemon, &["volume", "prune", "-f", "-a"]).await);
    assert!(
        pruned.contains("mine") && pruned.contains("6.291MB"),
        "{pruned}"
    );
    good(docker(&daemon, &["volume", "create", "mine"]).await);
    assert_eq!(
        good(docker(&daemon, &["volume", "rm", "mine"]).await),
        "mine\n"
    );
    bad(docker(&daemon, &["volume", "rm", "mine"]).await);
    good(docker(&daemon, &["volume", "rm", "-f", "mine"]).await);

    let log = daemon.log();
    for what in ["create", "remove", "prune"] {
        let audited = log.lines().any(|line| {
            line.contains("audit") && line.contains(&format!("uid={uid}")) && line.contains(what)
        });
        assert!(audited, "no audit line for {what}:\n{log}");
    }
}

#[tokio::test]
async fn coracles_own_path_does_not_take_one_volume_for_another() {
    let (daemon, _supervisor, _transfers) = start().await;
    let body = br#"{"Name": "mine", "DriverOpts": {"size": "65536", "inodes": "16"}}"#;
    let path = "/volumes/create?new=1";
    let (status, made) = daemon.json(Method::POST, path, body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, again) = daemon.json(Method::POST, path, body).await;
    assert_eq!(
        (status, again["code"].as_str()),
        (StatusCode::CONFLICT, Some("volume-exists"))
    );
    let (_, all) = daemon.json(Method::GET, "/coracle/v1/volumes", b"").await;
    assert_eq!(all[0]["used"]["limit_bytes"], 65_536);
    let (status, _) = daemon
        .json(Method::POST, "/volumes/create", b"{\"Nmae\": \"x\"}")
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn backups_and_restores_pass_through_and_end_as_the_supervisor_says() {
    let (daemon, _supervisor, transfers) = start().await;
    let tar: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = tar.clone();
    let verdict = serde_json::to_vec(&Verdict::Failed {
        code: "bad-tar".into(),
        reason: "it leads out".into(),
    });
    let served = tokio::spawn(async move {
        let (mut stream, _) = transfers.accept().await.unwrap();
        stream.write_all(&sent).await.unwrap();
        drop(stream);
        let mut got = Vec::new();
        for words in [serde_json::to_vec(&Verdict::Done), verdict, Ok(Vec::new())] {
            let (mut stream, _) = transfers.accept().await.unwrap();
            got.clear();
            stream.read_to_end(&mut got).await.unwrap();
            stream.write_all(&words.unwrap()).await.unwrap();
        }
        got
    });
    let answer = daemon
        .send(Method::GET, "/coracle/v1/volumes/mine/backup", b"")
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), tar.len());
    assert_eq!(body, tar);

    let path = "/coracle/v1/volumes/mine/restore";
    let answer = daemon.send(Method::PUT, path, &tar).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let (status, told) = daemon.json(Method::PUT, path, &tar).await;
    assert_eq!(
        (status, told["code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("bad-tar"))
    );
    assert_eq!(told["message"], "it leads out");
    let (status, _) = daemon.json(Method::PUT, path, &tar).await;
    assert_eq!(
        status,
        StatusCode::BAD_GATEWAY,
        "without a word it is no success"
    );
    assert_eq!(served.await.unwrap(), tar);

    let other = "/coracle/v1/volumes/others/backup";
    let (status, _) = daemon.json(Method::GET, other, b"").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        daemon
            .log()
            .lines()
            .any(|l| l.contains("audit") && l.contains("restore"))
    );
}
