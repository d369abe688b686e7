use super::*;
use coracle_protocol::names::{AppName, DeviceName, NetworkName};
use coracle_protocol::release::{AppLimits, DeviceAccess, Port, Protocol};
use coracle_protocol::report::{AppUsers, BoardFacts, DeviceStatus, PlaceStatus, SetState};

fn app() -> AppStatus {
    AppStatus {
        name: AppName::new("web").unwrap(),
        image: "shop/web:1".into(),
        image_manifest: Sha256Digest([1; 32]),
        state: AppState::Running,
        paused: false,
        exit_code: None,
        oom_killed: false,
        restarts: 2,
        healthy: Some(true),
        waiting_for: None,
        health_text: None,
        pid: Some(42),
        started_at: Some(1_700_000_000),
        ip: Some([172, 30, 0, 2].into()),
        networks: vec![PlaceStatus {
            network: NetworkName::new("bridge").unwrap(),
            interface: "eth0".into(),
            ip: [172, 30, 0, 2].into(),
            prefix: 16,
            gateway: [172, 30, 0, 1].into(),
            ipv6: None,
            mac: "02:c0:ac:1e:00:02".parse().unwrap(),
            aliases: vec![],
            rates: Default::default(),
            traffic: None,
        }],
        network_mode: "bridge".into(),
        network_of: None,
        ports: vec![Port {
            host: 8080,
            container: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
        }],
        args: vec!["/bin/web".into(), "-v".into()],
        init: true,
        limits: AppLimits {
            memory_bytes: 64 << 20,
            cpu_millis: 500,
            pids: 20,
            ..AppLimits::default()
        },
        cgroup: Some("coracle/web".into()),
        memory_bytes: Some(5 << 20),
        cpu_usage_us: Some(1000),
        pids: Some(3),
        disk: None,
        users: None,
        cpus: None,
        pressure: None,
        cpu_percent: None,
        devices: vec![DeviceStatus {
            name: DeviceName::new("serial").unwrap(),
            access: DeviceAccess::Read,
            nodes: vec!["/dev/ttyUSB0".into()],
            gone: vec![],
        }],
    }
}

fn set() -> SetStatus {
    SetStatus {
        deployment: Sha256Digest([2; 32]),
        release: Sha256Digest([3; 32]),
        product: "shop".into(),
        version: "1.0".into(),
        state: SetState::Committed,
        stale_since: None,
        apps: vec![app()],
    }
}

/// Compares with `golden/<name>.json`; `BLESS=1` writes it anew, to be read before it is committed.
fn golden(name: &str, got: &Value) {
    let path = format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = serde_json::to_string_pretty(got).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, want, "{path}");
}

#[test]
fn list_and_inspect() {
    let (set, app) = (set(), app());
    let mut summary = containers::summary(&set, &app);
    assert!(summary["Status"].as_str().unwrap().starts_with("Up "));
    summary["Status"] = "Up".into();
    golden("container-list", &summary);
    let log = std::path::Path::new("/var/lib/coracle/logs/web/web.log");
    golden(
        "container-inspect",
        &containers::inspect(&set, &app, Some(log)),
    );
}

#[test]
fn whose_users_an_app_has_is_dockers_userns_mode() {
    let mode = |users| {
        let mut app = app();
        app.users = users;
        containers::inspect(&set(), &app, None)["HostConfig"]["UsernsMode"].clone()
    };
    let own = AppUsers::Own {
        first: 1_879_048_192,
        count: 65_536,
    };
    let because = "it uses the board's network".to_owned();
    assert_eq!(mode(Some(own)), "");
    assert_eq!(mode(Some(AppUsers::Board { because })), "host");
    assert_eq!(mode(None), "");
}

#[test]
fn version_images_info_stats() {
    let status = Status {
        heat: None,
        storage: vec![],
        metered: vec![],
        decommissioned: false,
        own_memory_bytes: None,
        resetting: false,
        networks: vec![],
        version: "0".into(),
        program: None,
        board: BoardFacts {
            profile: "generic".into(),
            hardware: "generic-x86-64".into(),
            architecture: "x86_64".into(),
            kernel: "6.1".into(),
            agent: "0".into(),
            memory_bytes: 1 << 30,
            cpus: 2,
        },
        current: Some(set()),
        previous: None,
        waiting: None,
        last_failure: None,
        over_budget: None,
        layers: vec![],
        trust: None,
    };
    let machine = Machine {
        kernel: "6.1".into(),
        architecture: "x86_64".into(),
    };
    golden("version", &version(&machine));
    golden("images", &images(&status));
    let mut told = info(&status, "coracle");
    told["SystemTime"] = "".into();
    golden("info", &told);
    let mut mapped = status.clone();
    if let Some(set) = &mut mapped.current {
        set.apps[0].users = Some(AppUsers::Own {
            first: 1_879_048_192,
            count: 65_536,
        });
    }
    let options = info(&mapped, "coracle")["SecurityOptions"].clone();
    assert_eq!(options[2], "name=userns", "{options}");
    let sample = stats::Sample::now(&app(), &status);
    let mut stats = stats::shape("id", &app(), &sample, &sample);
    for key in ["read", "preread"] {
        stats[key] = "".into();
    }
    for key in ["cpu_stats", "precpu_stats"] {
        stats[key]["system_cpu_usage"] = 0.into();
    }
    golden("stats", &stats);
}

#[test]
fn the_id_is_that_of_assignment_and_app() {
    let id = container_id(&set(), &app());
    let text = format!("sha256:{}web", "02".repeat(32));
    assert_eq!(id, Sha256Digest::of(text.as_bytes()).hex());
}

#[test]
fn filters_take_both_spellings_and_refuse_others() {
    let accept = |text: &str| filters::Filters::parse(text).unwrap().accept("abc", &app());
    assert!(accept(""));
    assert!(accept(r#"{"name":["we"],"status":{"running":true}}"#));
    assert!(accept(r#"{"ancestor":["shop/web"]}"#));
    assert!(!accept(r#"{"name":["db"]}"#));
    assert!(!accept(r#"{"health":["unhealthy"]}"#));
    assert!(filters::Filters::parse(r#"{"since":["x"]}"#).is_err());
    assert!(filters::Filters::parse("{").is_err());
    for wrong in [
        r#"{"name":"web"}"#,
        r#"{"name":[1]}"#,
        r#"{"name":{"web":"yes"}}"#,
    ] {
        let error = filters::Filters::parse(wrong).unwrap_err();
        assert!(error.contains("'name'"), "{error}");
    }
}
