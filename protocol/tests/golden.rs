//! The JSON of every message, as it is on the wire and on disk: `golden/<name>.json`. A change here
//! is a change of the protocol: boards in the field read what stands in these files.
//!
//! `CORACLE_WRITE_GOLDEN=1` writes them anew, for a person to look at.

use coracle_protocol::Sha256Digest;
use coracle_protocol::command::{Action, Command, CommandResult};
use coracle_protocol::counters::{Counter, Seen};
use coracle_protocol::desired::{Desired, Document, RootNotice};
use coracle_protocol::dsse::{Envelope, Signature};
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest, EnrolmentFile};
use coracle_protocol::local::{
    Answer, AppAction, Call, Event, Exec, FileFault, LayerNeed, LayerSource, Message, Needs, Reply,
    Request, Status, StickWord, StoreAction, StoreCheck, StoreFault, StoreKind, StoreState,
    Trusted, Verdict, VolumeAction, VolumeStatus, Waiting,
};
use coracle_protocol::names::{ActionName, AppName, BoardId, DeviceName, ProductName, VolumeName};
use coracle_protocol::release::{AppLimits, Blob, DeviceAccess, DiskOn, Port, Protocol};
use coracle_protocol::renewal::{RenewAnswer, RenewRequest, Standing, State};
use coracle_protocol::report::{
    AppPressure, AppState, AppStatus, AppUse, AppUsers, BoardFacts, BoardUse, Current,
    DeviceStatus, DiskUse, Feedback, Fetched, FlashReserve, HeatState, HeatStatus, LinkKind,
    OwnProgram, Phase, Presence, Pressure, SetState, SetStatus, Stall, StorageWear, Telemetry,
};
use coracle_protocol::stick::Stick;
use coracle_protocol::time::TimeBound;
use coracle_protocol::topics::Separator;
use coracle_protocol::trust_state::TrustState;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    dir.join(format!("{name}.json"))
}

/// The JSON, and the JSON after it was read and written again.
fn twice<T: Serialize + DeserializeOwned>(value: &T) -> (String, String) {
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    let back: T = serde_json::from_str(&text).unwrap();
    (text, serde_json::to_string_pretty(&back).unwrap() + "\n")
}

fn digest(of: &str) -> Sha256Digest {
    Sha256Digest::of(of.as_bytes())
}

fn blob(of: &str) -> Blob {
    Blob {
        digest: digest(of),
        size: of.len() as u64,
    }
}

fn envelope(kind: &str) -> Envelope {
    Envelope {
        payload: "e30=".into(),
        payload_type: format!("application/vnd.coracle.{kind}.v1+json"),
        signatures: vec![Signature {
            keyid: "0123456789abcdef".into(),
            sig: "c2ln".into(),
        }],
    }
}

fn board() -> BoardFacts {
    BoardFacts {
        profile: "qemux86-64".into(),
        hardware: "qemux86-64".into(),
        architecture: "x86_64".into(),
        kernel: "6.12.9".into(),
        agent: "0.1.0".into(),
        memory_bytes: 1 << 30,
        cpus: 4,
    }
}

fn app() -> AppName {
    AppName::new("web").unwrap()
}

fn command() -> Command {
    Command {
        spec_version: 1,
        critical: vec![],
        board: BoardId::new("acme.board-1").unwrap(),
        epoch: 1,
        seq: 3,
        issued_at: 1_800_000_000,
        expires: 1_800_000_120,
        action: Action::Restart { app: app() },
    }
}

fn reindex() -> Action {
    Action::Run {
        app: app(),
        name: ActionName::new("reindex").unwrap(),
    }
}

fn disk_use() -> DiskUse {
    DiskUse {
        bytes: 4096,
        inodes: 2,
        limit_bytes: Some(64 << 20),
        limit_inodes: Some(4096),
    }
}

fn volume() -> VolumeStatus {
    VolumeStatus {
        name: VolumeName::new("data").unwrap(),
        owner: Some(1000),
        created_at: 1_800_000_000,
        used: disk_use(),
        means: Some("image".into()),
        held_bytes: 70 << 20,
        path: "/var/lib/coracle/volumes/data/room/data".into(),
        apps: vec![app()],
        in_previous: true,
    }
}

fn set() -> SetStatus {
    let limits = AppLimits {
        memory_bytes: 64 << 20,
        memory_min_bytes: Some(16 << 20),
        memory_reservation_bytes: Some(32 << 20),
        memory_swap_bytes: Some(96 << 20),
        oom_group: true,
        cpu_millis: 500,
        cpu_burst_micros: Some(20_000),
        cpus_exclusive: Some(2),
        pids: 32,
        io_read_bytes_per_second: Some(1 << 20),
        io_write_bytes_per_second: Some(1 << 20),
        io_read_operations_per_second: Some(100),
        io_write_operations_per_second: Some(100),
        open_files: Some(256),
        disk_bytes: Some(64 << 20),
        disk_inodes: Some(4096),
        disk_on: DiskOn::Memory,
    };
    let running = AppStatus {
        name: app(),
        image: "shop/web:2".into(),
        image_manifest: digest("manifest"),
        state: AppState::Running,
        paused: true,
        exit_code: Some(137),
        oom_killed: true,
        restarts: 1,
        healthy: Some(true),
        waiting_for: None,
        health_text: Some("answered 503".into()),
        pid: Some(4321),
        started_at: Some(1_800_000_000),
        ip: Some([172, 30, 0, 2].into()),
        networks: vec![],
        network_mode: String::new(),
        network_of: None,
        ports: vec![Port {
            host: 8080,
            container: 80,
            protocol: Protocol::Tcp,
            host_ip: Some([127, 0, 0, 1].into()),
        }],
        args: vec!["/usr/bin/web".into()],
        init: true,
        limits,
        cgroup: Some("coracle/web".into()),
        memory_bytes: Some(1 << 20),
        cpu_usage_us: Some(12),
        pids: Some(3),
        pressure: Some(AppPressure {
            cpu: Some(Pressure {
                some: Stall {
                    avg10_hundredths: 1205,
                    total_us: 345,
                },
                full: Some(Stall {
                    avg10_hundredths: 50,
                    total_us: 12,
                }),
            }),
            memory: Some(Pressure {
                some: Stall::default(),
                full: None,
            }),
            io: None,
        }),
        disk: Some(disk_use()),
        users: Some(AppUsers::Own {
            first: 1_879_048_192,
            count: 65_536,
        }),
        cpus: Some("2,3".into()),
        cpu_percent: Some(60),
        devices: vec![DeviceStatus {
            name: DeviceName::new("serial").unwrap(),
            access: DeviceAccess::Read,
            nodes: vec!["/dev/ttyUSB0".into()],
            gone: vec!["/dev/ttyUSB0".into()],
        }],
    };
    let waiting = AppStatus {
        name: AppName::new("logger").unwrap(),
        image: "shop/logger:1".into(),
        image_manifest: digest("manifest 2"),
        state: AppState::Restarting,
        paused: false,
        exit_code: None,
        oom_killed: false,
        restarts: 0,
        healthy: None,
        waiting_for: None,
        health_text: None,
        pid: None,
        started_at: None,
        ip: None,
        networks: vec![],
        network_mode: String::new(),
        network_of: None,
        ports: vec![],
        args: vec![],
        init: false,
        limits: AppLimits {
            memory_bytes: 1 << 20,
            cpu_millis: 10,
            pids: 1,
            ..AppLimits::default()
        },
        cgroup: None,
        memory_bytes: None,
        cpu_usage_us: None,
        pids: None,
        pressure: None,
        disk: None,
        users: Some(AppUsers::Board {
            because: "it uses the board's network".into(),
        }),
        cpus: None,
        cpu_percent: None,
        devices: vec![],
    };
    SetStatus {
        deployment: digest("assignment"),
        release: digest("release"),
        product: "shop".into(),
        version: "2.0".into(),
        state: SetState::Trial,
        stale_since: Some(1_790_000_000),
        apps: vec![running, waiting],
    }
}

fn trust() -> TrustState {
    TrustState {
        root_version: 2,
        root: digest("root"),
        root_expires: 1_900_000_000,
        time: 1_800_000_000,
        clock_kept: true,
        secret_key: None,
        deploy: Counter {
            epoch: 1,
            value: 42,
        },
        offline_deploy: Counter::default(),
        releases: BTreeMap::from([(
            ProductName::new("shop").unwrap(),
            Counter { epoch: 1, value: 7 },
        )]),
        damage: Some("no counter slot is whole".into()),
    }
}

fn board_use() -> BoardUse {
    BoardUse {
        memory_total_bytes: Some(1 << 30),
        memory_used_bytes: Some(300 << 20),
        agent_memory_bytes: Some(4 << 20),
        load_hundredths: Some(52),
        uptime_seconds: Some(86_400),
        zone: Some("cpu-thermal".into()),
        millidegrees: Some(61_200),
        throttle_celsius: Some(75),
        state_total_bytes: Some(8 << 30),
        state_free_bytes: Some(3 << 30),
        images_total_bytes: Some(4 << 30),
        images_free_bytes: Some(1 << 30),
        link: Some("wlan0".into()),
        link_kind: Some(LinkKind::Wifi),
    }
}

fn storage() -> StorageWear {
    StorageWear {
        disk: "mmcblk0".into(),
        written_bytes: 3 << 30,
        budget_bytes: 2 << 30,
        worn_percent: Some(20),
        reserve: Some(FlashReserve::Low),
    }
}

fn store_check() -> StoreCheck {
    let fault = |kind, state, need| StoreFault {
        digest: digest("tar"),
        kind,
        state,
        needed_by: vec!["app `web` of the running set 1.2".into()],
        faults: vec![FileFault {
            path: "bin/app".into(),
            what: "has other bytes".into(),
        }],
        more: 2,
        need,
    };
    let need = LayerNeed {
        diff_id: digest("tar"),
        full: blob("layer"),
        deltas: vec![blob("delta")],
    };
    StoreCheck {
        running: true,
        done: 3,
        of: 7,
        found: vec![
            fault(StoreKind::Layer, StoreState::Broken, Some(need)),
            fault(StoreKind::Layer, StoreState::Mended, None),
            fault(StoreKind::Blob, StoreState::Unknown, None),
        ],
        more: 1,
    }
}

fn brought() -> OwnProgram {
    OwnProgram {
        version: "2".into(),
        brought: Some(digest("agent")),
    }
}

fn all() -> Vec<(&'static str, (String, String))> {
    let activity = || "0123abcd".to_owned();
    let call = |request| twice(&Call { id: 7, request });
    let volumes = |action| call(Request::Volume { action, uid: 1000 });
    let store = |action| call(Request::Store { action });
    let reply = |answer| twice(&Message::Reply(Reply { id: 7, answer }));
    let status = Status {
        heat: Some(HeatStatus {
            state: HeatState::Hot,
            zone: "cpu-thermal".into(),
            millidegrees: 76_200,
            throttle_celsius: 75,
        }),
        storage: vec![storage()],
        metered: vec!["wwan0".into()],
        decommissioned: false,
        own_memory_bytes: Some(2 << 20),
        resetting: false,
        networks: vec![],
        version: "0.1.0".into(),
        program: Some(brought()),
        board: board(),
        current: Some(set()),
        previous: Some((digest("old assignment"), "1.0".into())),
        last_failure: Some("web: unhealthy".into()),
        over_budget: Some("memory: the apps ask for too much".into()),
        waiting: Some(Waiting {
            activity: activity(),
            deployment: digest("next assignment"),
            version: "3.0".into(),
            code: "update-lock".into(),
            reason: "app `web` holds the update lock".into(),
        }),
        layers: vec![digest("tar")],
        trust: Some(trust()),
    };
    let needs = Needs {
        already: false,
        configs: vec![blob("config")],
        layers: vec![LayerNeed {
            diff_id: digest("tar"),
            full: blob("layer"),
            deltas: vec![blob("delta")],
        }],
    };
    let reason = || "in words".to_owned();
    let code = || "old-release".to_owned();
    vec![
        (
            "desired_inline",
            twice(&Desired {
                activity: activity(),
                deploy: Document::Inline(envelope("deploy")),
                release: Document::Inline(envelope("release")),
            }),
        ),
        (
            "desired_blob",
            twice(&Desired {
                activity: activity(),
                deploy: Document::Blob(blob("deploy")),
                release: Document::Blob(blob("release")),
            }),
        ),
        (
            "presence",
            twice(&Presence {
                online: true,
                session: 3,
            }),
        ),
        (
            "current",
            twice(&Current {
                decommissioned: false,
                version: 9,
                board: board(),
                set: Some(set()),
                layers: vec![digest("tar")],
                trust: Some(trust()),
                supervisor: Some(brought()),
                daemon: Some(OwnProgram {
                    version: "0.1.0".into(),
                    brought: None,
                }),
            }),
        ),
        (
            "current_empty",
            twice(&Current {
                decommissioned: false,
                version: 1,
                board: board(),
                set: None,
                layers: vec![],
                trust: None,
                supervisor: None,
                daemon: None,
            }),
        ),
        (
            "feedback",
            twice(&Feedback {
                activity: activity(),
                sequence: 4,
                phase: Phase::RolledBack,
                percent: Some(60),
                code: Some("unhealthy".into()),
                reason: Some(reason()),
                fetched: Some(Fetched {
                    wire_bytes: 10,
                    delta_bytes: 8,
                    full_bytes: 100,
                }),
                blob: Some(
                    "layer 2 of 3 of web, as a delta: 8 of 20 bytes, from the console".into(),
                ),
            }),
        ),
        (
            "feedback_short",
            twice(&Feedback {
                activity: activity(),
                sequence: 1,
                phase: Phase::Received,
                percent: None,
                code: None,
                reason: None,
                fetched: None,
                blob: None,
            }),
        ),
        (
            "phases",
            twice(&vec![
                Phase::Received,
                Phase::Verified,
                Phase::Fetching,
                Phase::Staging,
                Phase::Waiting,
                Phase::Switching,
                Phase::Trial,
                Phase::Committed,
                Phase::Refused,
                Phase::RolledBack,
                Phase::Failed,
            ]),
        ),
        (
            "app_states",
            twice(&vec![
                AppState::Created,
                AppState::Running,
                AppState::Restarting,
                AppState::Exited,
            ]),
        ),
        (
            "set_states",
            twice(&vec![SetState::Trial, SetState::Committed]),
        ),
        (
            "telemetry",
            twice(&Telemetry {
                at: 1_800_000_000,
                apps: vec![AppUse {
                    name: app(),
                    memory_bytes: 1,
                    cpu_usage_us: 2,
                    pids: 3,
                }],
                storage: vec![storage()],
                board: Some(board_use()),
            }),
        ),
        (
            "telemetry_older",
            twice(&Telemetry {
                at: 1_800_000_000,
                apps: vec![],
                storage: vec![],
                board: None,
            }),
        ),
        (
            "link_kinds",
            twice(&vec![
                LinkKind::Ethernet,
                LinkKind::Wifi,
                LinkKind::Cellular,
                LinkKind::Other,
            ]),
        ),
        ("call_status", call(Request::Status)),
        ("call_watch", call(Request::Watch)),
        (
            "call_program",
            call(Request::Program {
                running: Some(digest("agent")),
            }),
        ),
        (
            "call_program_of_the_image",
            call(Request::Program { running: None }),
        ),
        (
            "call_stick",
            call(Request::Stick {
                word: StickWord::Reading,
            }),
        ),
        (
            "call_identity",
            call(Request::Identity {
                board: BoardId::new("acme.board-1").unwrap(),
            }),
        ),
        (
            "call_offer",
            call(Request::Offer {
                activity: activity(),
                deploy: envelope("deploy"),
                release: envelope("release"),
            }),
        ),
        (
            "call_stage_full",
            call(Request::Stage {
                activity: activity(),
                diff_id: digest("tar"),
                from: LayerSource::Full,
            }),
        ),
        (
            "call_stage_delta",
            call(Request::Stage {
                activity: activity(),
                diff_id: digest("tar"),
                from: LayerSource::Delta(digest("delta")),
            }),
        ),
        (
            "call_activate",
            call(Request::Activate {
                activity: activity(),
            }),
        ),
        (
            "call_accept",
            call(Request::Accept {
                deployment: digest("next assignment"),
                uid: 1000,
            }),
        ),
        (
            "call_control",
            call(Request::Control {
                app: app(),
                action: AppAction::Restart,
                uid: 1000,
            }),
        ),
        (
            "call_pause",
            call(Request::Control {
                app: app(),
                action: AppAction::Pause,
                uid: 1000,
            }),
        ),
        (
            "call_signal",
            call(Request::Signal {
                app: app(),
                signal: "SIGHUP".into(),
                uid: 1000,
            }),
        ),
        ("call_processes", call(Request::Processes { app: app() })),
        (
            "reply_processes",
            reply(Answer::Processes {
                titles: vec!["PID".into(), "CMD".into()],
                rows: vec![vec!["7".into(), "sleep 60".into()]],
            }),
        ),
        ("call_volume_list", volumes(VolumeAction::List)),
        (
            "call_volume_create",
            volumes(VolumeAction::Create {
                name: volume().name,
                size_bytes: Some(64 << 20),
                inodes: Some(4096),
            }),
        ),
        (
            "call_volume_remove",
            volumes(VolumeAction::Remove {
                name: volume().name,
            }),
        ),
        ("call_volume_prune", volumes(VolumeAction::Prune)),
        (
            "call_volume_backup",
            volumes(VolumeAction::Backup {
                name: volume().name,
            }),
        ),
        (
            "call_volume_restore",
            volumes(VolumeAction::Restore {
                name: volume().name,
            }),
        ),
        (
            "reply_volumes",
            reply(Answer::Volumes {
                volumes: vec![volume()],
            }),
        ),
        (
            "reply_transfer",
            reply(Answer::Transfer {
                socket: "/run/coracle/transfer-1.sock".into(),
            }),
        ),
        ("call_store_check", store(StoreAction::Check)),
        ("call_store_look", store(StoreAction::Look)),
        (
            "call_store_mend",
            store(StoreAction::Mend {
                diff_id: digest("tar"),
                from: LayerSource::Full,
            }),
        ),
        ("reply_store", reply(Answer::Store(store_check()))),
        (
            "verdicts",
            twice(&vec![
                Verdict::Done,
                Verdict::Failed {
                    code: code(),
                    reason: reason(),
                },
            ]),
        ),
        ("reply_done", reply(Answer::Done)),
        ("reply_status", reply(Answer::Status(status))),
        (
            "reply_program",
            reply(Answer::Program {
                program: Some(digest("agent")),
            }),
        ),
        ("reply_needs", reply(Answer::Needs(needs))),
        (
            "reply_refused",
            reply(Answer::Refused {
                code: code(),
                reason: reason(),
            }),
        ),
        (
            "reply_failed",
            reply(Answer::Failed {
                code: code(),
                reason: reason(),
            }),
        ),
        (
            "event_deployment",
            twice(&Message::Event(Event::Deployment {
                activity: activity(),
                phase: Phase::Trial,
                code: Some(code()),
                reason: None,
            })),
        ),
        (
            "event_app_changed",
            twice(&Message::Event(Event::AppChanged {
                app: app(),
                what: "started".into(),
            })),
        ),
        (
            "enrolment_file",
            twice(&EnrolmentFile {
                board: BoardId::new("acme.board-1").unwrap(),
                console_url: "https://console.example:8443".into(),
                mqtt: "console.example:8883".into(),
                ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
                token: "one-time".into(),
                topic_separator: Separator::Dot,
            }),
        ),
        (
            "enrolment_file_with_colon",
            twice(&EnrolmentFile {
                board: BoardId::new("acme.board-1").unwrap(),
                console_url: "https://console.example:8443".into(),
                mqtt: "console.example:8883".into(),
                ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
                token: "one-time".into(),
                topic_separator: Separator::Colon,
            }),
        ),
        (
            "enrol_request",
            twice(&EnrolRequest {
                token: "one-time".into(),
                csr_pem: "-----BEGIN CERTIFICATE REQUEST-----\n".into(),
            }),
        ),
        (
            "enrol_answer",
            twice(&EnrolAnswer {
                board: BoardId::new("acme.board-1").unwrap(),
                certificate_pem: "-----BEGIN CERTIFICATE-----\n".into(),
            }),
        ),
        (
            "renew_request",
            twice(&RenewRequest {
                csr_pem: "-----BEGIN CERTIFICATE REQUEST-----\n".into(),
            }),
        ),
        (
            "renew_answer",
            twice(&RenewAnswer {
                board: BoardId::new("acme.board-1").unwrap(),
                certificate_pem: "-----BEGIN CERTIFICATE-----\n".into(),
            }),
        ),
        (
            "standing",
            twice(&Standing {
                board: BoardId::new("acme.board-1").unwrap(),
                serial: "4f00".into(),
                not_after: 2_000_000_000,
                state: State::Revoked,
                reason: Some("revoked: stolen".into()),
                ask_in_seconds: 86_400,
            }),
        ),
        (
            "stick",
            twice(&Stick {
                stick_version: 1,
                deploy: envelope("deploy"),
                release: envelope("release"),
                deploys: vec![],
                roots: vec![],
            }),
        ),
        (
            "stick_with_roots",
            twice(&Stick {
                stick_version: 1,
                deploy: envelope("deploy"),
                release: envelope("release"),
                deploys: vec![],
                roots: vec![envelope("root")],
            }),
        ),
        (
            "stick_for_single_boards",
            twice(&Stick {
                stick_version: 1,
                deploy: envelope("deploy"),
                release: envelope("release"),
                deploys: vec![envelope("of one"), envelope("of another")],
                roots: vec![],
            }),
        ),
        (
            "root_notice",
            twice(&RootNotice {
                version: 2,
                root: Some(envelope("root")),
            }),
        ),
        ("call_trust", call(Request::Trust)),
        (
            "call_root",
            call(Request::Root {
                root: envelope("root"),
            }),
        ),
        (
            "reply_trust",
            reply(Answer::Trust(Trusted {
                root: envelope("root"),
                state: trust(),
            })),
        ),
        (
            "event_root",
            twice(&Message::Event(Event::Root { version: 2 })),
        ),
        (
            "seen",
            twice(&Seen {
                releases: BTreeMap::from([(
                    ProductName::new("shop").unwrap(),
                    Counter { epoch: 1, value: 7 },
                )]),
                deploy: Counter {
                    epoch: 1,
                    value: 42,
                },
                offline_deploy: Counter { epoch: 2, value: 1 },
                command: Counter::default(),
                reset: Counter::default(),
                agent: Counter::default(),
                newest_issued_at: 1_800_000_000,
                time: TimeBound::at(1_800_000_000),
            }),
        ),
        (
            "seen_command",
            twice(&Seen {
                command: Counter { epoch: 1, value: 3 },
                ..Seen::default()
            }),
        ),
        (
            "seen_agent",
            twice(&Seen {
                agent: Counter { epoch: 1, value: 4 },
                ..Seen::default()
            }),
        ),
        ("command_restart", twice(&command())),
        (
            "command_logs",
            twice(&Command {
                action: Action::Logs {
                    app: app(),
                    tail: 100,
                },
                ..command()
            }),
        ),
        (
            "command_action",
            twice(&Command {
                action: reindex(),
                ..command()
            }),
        ),
        (
            "command_factory_reset",
            twice(&Command {
                action: Action::FactoryReset { volumes: true },
                ..command()
            }),
        ),
        (
            "command_decommission",
            twice(&Command {
                action: Action::Decommission {},
                ..command()
            }),
        ),
        (
            "call_reset",
            call(Request::Reset {
                decommission: false,
                volumes: true,
            }),
        ),
        (
            "call_exec",
            call(Request::Exec {
                exec: Exec {
                    app: app(),
                    args: vec!["sh".into(), "-c".into(), "id".into()],
                    env: vec!["A=b".into()],
                    user: Some("web".into()),
                    cwd: Some("/tmp".into()),
                    stdin: true,
                    tty: Some((24, 80)),
                },
                uid: 0,
            }),
        ),
        ("call_enrolled", call(Request::Enrolled)),
        (
            "call_command",
            call(Request::Command {
                command: envelope("command"),
            }),
        ),
        (
            "reply_command",
            reply(Answer::Command { command: command() }),
        ),
        (
            "reply_ran",
            reply(Answer::Ran {
                command: Command {
                    action: reindex(),
                    ..command()
                },
                fault: Some("exited with 3".into()),
                output: "a line\n".into(),
            }),
        ),
        (
            "command_result",
            twice(&CommandResult {
                command: digest("command"),
                part: 0,
                parts: 1,
                code: Some("no-app".into()),
                text: reason(),
            }),
        ),
        (
            "command_result_text",
            twice(&CommandResult {
                command: digest("command"),
                part: 1,
                parts: 2,
                code: None,
                text: "a line\n".into(),
            }),
        ),
    ]
}

#[test]
fn messages_are_as_they_were() {
    for (name, (once, again)) in all() {
        if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
            std::fs::write(path(name), &once).unwrap();
        }
        let golden = std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(once, golden, "{name}");
        assert_eq!(again, golden, "{name}, read and written again");
    }
}

#[test]
fn every_file_has_its_message() {
    let files = std::fs::read_dir(path("x").parent().unwrap()).unwrap();
    assert_eq!(files.count(), all().len());
}

/// A name that ends up in logs is held to what a log can show.
#[test]
fn an_activity_is_visible() {
    let (desired, _) = &all()[0].1;
    for bad in ["", "two words", "\\u001b[2J", &"x".repeat(129)] {
        let text = desired.replace("0123abcd", bad);
        assert!(serde_json::from_str::<Desired>(&text).is_err(), "{bad:?}");
    }
}

#[test]
fn a_stick_of_another_version_is_refused() {
    let (stick, _) = &all()
        .into_iter()
        .find(|(name, _)| *name == "stick")
        .unwrap()
        .1;
    assert!(Stick::parse(stick.as_bytes()).is_ok());
    let newer = stick.replace("\"stick_version\": 1", "\"stick_version\": 2");
    let error = Stick::parse(newer.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    let padded = stick.clone() + &" ".repeat(Stick::BYTES);
    assert!(Stick::parse(padded.as_bytes()).is_err());
}
