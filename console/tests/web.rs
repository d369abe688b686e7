//! The pages, as a browser asks for them.

mod support;

use serde_json::json;
use support::{Answer, Fleet, curl, noise};

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Where the pages are, and the cookie of somebody who may see them.
fn signed_in(fleet: &Fleet) -> (String, String) {
    let base = format!("http://127.0.0.1:{}", fleet.http);
    let form = format!("token={}", fleet.token());
    let answer = curl(&["-d", &form, &format!("{base}/sign-in")]);
    let cookie = answer.header("set-cookie").unwrap();
    (base, cookie.split(';').next().unwrap().to_owned())
}

#[test]
fn pages_need_a_session_and_escape_what_boards_say() {
    let fleet = Fleet::start();
    let base = format!("http://127.0.0.1:{}", fleet.http);
    let closed = curl(&[&format!("{base}/")]);
    assert_eq!(
        (closed.status, closed.header("location").as_deref()),
        (303, Some("/sign-in"))
    );
    assert!(
        closed
            .header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert_eq!(curl(&[&format!("{base}/events")]).status, 303);
    let wrong = curl(&["-d", "token=wrong", &format!("{base}/sign-in")]);
    assert_eq!(wrong.status, 401);

    let form = format!("token={}", fleet.token());
    let signed_in = curl(&["-d", &form, &format!("{base}/sign-in")]);
    assert_eq!(signed_in.status, 303);
    let cookie = signed_in.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(
        !cookie.contains(&fleet.token()),
        "the token itself is not in the cookie"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let open = |path: &str| curl(&["-b", &cookie, &format!("{base}{path}")]);

    let board = fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 500))]);
    let ordered = fleet.deploy(&release, &["acme.b1"]);
    board.publish(
        &board.topic("feedback"),
        &json!({"activity": ordered["boards"][0]["activity"], "sequence": 1, "phase": "refused",
            "code": "over-budget", "reason": "<img src=x onerror=alert(1)> needs 900 MiB"}),
    );
    let page = support::wait_for("the reason on the page", 10, || {
        let page = text(&open("/"));
        page.contains("needs 900 MiB").then_some(page)
    });
    assert!(
        page.contains("&lt;img src=x") && !page.contains("<img"),
        "{page}"
    );
    let id = ordered["id"].as_str().unwrap();
    for path in [
        "/boards/acme.b1",
        "/deployments",
        &format!("/deployments/{id}"),
        "/audit",
    ] {
        let answer = open(path);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
    }
    assert_eq!(open("/boards/acme.nobody").status, 404);

    // The form deploys; the same form from another site does not.
    let form = format!("release={release}&board=acme.b1").replace(':', "%3A");
    let url = format!("{base}/deployments");
    let evil = curl(&[
        "-b",
        &cookie,
        "-H",
        "Origin: http://evil.example",
        "-d",
        &form,
        &url,
    ]);
    assert_eq!(evil.status, 403);
    let evil = curl(&[
        "-b",
        &cookie,
        "-H",
        "Sec-Fetch-Site: cross-site",
        "-d",
        &form,
        &url,
    ]);
    assert_eq!(evil.status, 403);
    let made = curl(&[
        "-b",
        &cookie,
        "-H",
        "Sec-Fetch-Site: same-origin",
        "-d",
        &form,
        &url,
    ]);
    assert_eq!(made.status, 303, "{}", text(&made));
    assert_eq!(fleet.get("/api/v1/boards/acme.b1")["assignment"]["seq"], 2);

    let out = curl(&["-X", "POST", "-b", &cookie, &format!("{base}/sign-out")]);
    assert_eq!(out.status, 303);
    assert_eq!(open("/").status, 303, "the session is over");
}

#[test]
fn a_read_only_token_looks_and_changes_nothing() {
    let fleet = Fleet::start();
    let state = fleet.path("state");
    let console = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_coracle-console"))
            .args(arguments)
            .arg("--state")
            .arg(&state)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        )
    };
    let (code, token) = console(&["token", "new", "--name", "wall", "--read-only"]);
    assert_eq!(code, Some(0));
    let auth = format!("Authorization: Bearer {token}");
    let base = format!("http://127.0.0.1:{}", fleet.http);
    assert_eq!(
        curl(&["-H", &auth, &format!("{base}/api/v1/boards")]).status,
        200
    );
    let refused = curl(&[
        "-H",
        &auth,
        "-d",
        r#"{"board":"a.b"}"#,
        &format!("{base}/api/v1/enrolments"),
    ]);
    assert_eq!(refused.status, 403);
    assert!(
        refused.json()["hint"]
            .as_str()
            .unwrap()
            .contains("--read-only")
    );
    let push = curl(&[
        "-H",
        &auth,
        "-X",
        "POST",
        &format!("{base}/v2/x/blobs/uploads/"),
    ]);
    assert_eq!(push.status, 403);
    assert_eq!(
        console(&["token", "new", "--name", "wall"]).0,
        Some(1),
        "the name is taken"
    );
    assert_eq!(
        console(&["token", "list"]).1,
        "admin\tadmin\nwall\tread-only"
    );
    assert_eq!(console(&["token", "delete", "--name", "wall"]).0, Some(0));
    assert_eq!(
        curl(&["-H", &auth, &format!("{base}/api/v1/boards")]).status,
        401
    );
    assert_eq!(console(&["token", "nonsense"]).0, Some(2));
    let (code, report) = console(&["check"]);
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn an_open_page_is_told_and_let_go() {
    let mut fleet = Fleet::start();
    let (base, cookie) = signed_in(&fleet);
    let listener =
        std::thread::spawn(move || text(&curl(&["-N", "-b", &cookie, &format!("{base}/events")])));
    // A listener that is not there yet misses an event: tell it until it is gone.
    for _ in 0..10 {
        fleet.enrolment("acme.b1");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let took = fleet.stop_console();
    assert!(
        took.as_secs() < 8,
        "an open page held the console for {took:?}"
    );
    let events = listener.join().unwrap();
    assert!(events.contains("data: changed"), "{events:?}");
}

#[test]
fn a_broker_that_is_already_there_serves_too() {
    // One console's broker is the foreign one of another, with the first fleet's certificates.
    let first = Fleet::start();
    let [ca, crt, key] = first
        .console_certificates()
        .map(|p| p.display().to_string());
    let broker = format!("127.0.0.1:{}", first.mqtt);
    let second = Fleet::start_with(&[
        "--mqtt-broker",
        &broker,
        "--mqtt-ca",
        &ca,
        "--mqtt-cert",
        &crt,
        "--mqtt-key",
        &key,
    ]);
    assert_eq!(second.enrolment("acme.b1").mqtt, broker);
}

#[test]
fn a_board_is_revoked_from_its_page() {
    let fleet = Fleet::start();
    let (base, cookie) = signed_in(&fleet);
    let board = fleet.enrol("acme.b1");
    let page = || text(&curl(&["-b", &cookie, &format!("{base}/boards/acme.b1")]));
    let serial = board.standing()["serial"].as_str().unwrap().to_owned();
    let before = page();
    assert!(
        before.contains(&serial) && before.contains("in force"),
        "{before}"
    );
    assert!(before.contains("Revoke this board"), "{before}");
    let url = format!("{base}/boards/acme.b1/revoke");
    let evil = [
        "-b",
        &cookie,
        "-H",
        "Origin: http://evil.example",
        "-d",
        "reason=x",
        &url,
    ];
    assert_eq!(curl(&evil).status, 403);
    let done = curl(&["-b", &cookie, "-d", "reason=lost+%26+found", &url]);
    assert_eq!(done.status, 303, "{}", text(&done));
    let after = page();
    assert!(
        after.contains("lost &amp; found") && !after.contains("Revoke this board"),
        "{after}"
    );
    assert!(text(&curl(&["-b", &cookie, &format!("{base}/")])).contains("revoked"));
    assert_eq!(board.standing()["state"], "revoked");
}

#[test]
fn a_deployment_is_paused_resumed_and_cancelled_from_its_page() {
    let fleet = Fleet::start();
    let (base, cookie) = signed_in(&fleet);
    fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 500))]);
    let ordered = fleet.deploy(&release, &["acme.b1"]);
    let url = format!("{base}/deployments/{}", ordered["id"].as_str().unwrap());
    let page = || text(&curl(&["-b", &cookie, &url]));
    let change = |word: &str, header: &str| {
        let url = format!("{url}/{word}");
        curl(&["-X", "POST", "-b", &cookie, "-H", header, &url]).status
    };
    let here = "Sec-Fetch-Site: same-origin";
    assert_eq!(change("pause", "Origin: http://evil.example"), 403);
    assert_eq!(change("erase", here), 404);
    assert!(page().contains("/pause\"") && !page().contains("/resume\""));
    assert_eq!(change("pause", here), 303);
    let paused = page();
    assert!(
        paused.contains("/resume\"") && paused.contains("held"),
        "{paused}"
    );
    assert_eq!(change("resume", here), 303);
    assert!(page().contains("/pause\""));
    assert_eq!(change("cancel", here), 303);
    let over = page();
    assert!(over.contains("Cancelled just now"), "{over}");
    assert!(over.contains("cancelled before it was sent"), "{over}");
    assert!(!over.contains("/cancel\""), "{over}");
    let list = text(&curl(&["-b", &cookie, &format!("{base}/deployments")]));
    assert!(list.contains("cancelled"), "{list}");
}

#[test]
fn a_set_that_has_expired_is_told_on_its_boards_page() {
    let fleet = Fleet::start();
    let (base, cookie) = signed_in(&fleet);
    let board = fleet.enrol("acme.b1");
    let digest = format!("sha256:{}", "a".repeat(64));
    let facts = json!({"profile": "generic", "hardware": "generic", "architecture": "x86_64",
        "kernel": "6.1", "agent": "0.1.0", "memory_bytes": 1 << 30, "cpus": 4});
    let page = |version: u64, stale: Option<u64>| {
        let product = format!("shop{version}");
        let mut set = json!({"deployment": digest, "release": digest, "product": product, "version": "1",
            "state": "committed", "apps": []});
        if let Some(since) = stale {
            set["stale_since"] = since.into();
        }
        let current = json!({"version": version, "board": facts, "set": set, "layers": []});
        let message = current.to_string();
        board.publish_with(&board.topic("current"), message.as_bytes(), &["-q", "1"]);
        support::wait_for("what it said on its page", 10, || {
            let page = text(&curl(&["-b", &cookie, &format!("{base}/boards/acme.b1")]));
            page.contains(&product).then_some(page)
        })
    };
    assert!(!page(1, None).contains("expired"));
    let since = 1_700_000_000;
    assert!(page(2, Some(since)).contains("Its documents expired"));
}

#[test]
fn what_a_board_itself_uses_is_on_its_page_in_rest_and_in_the_list_and_outlives_the_console() {
    let mut fleet = Fleet::start();
    let (base, cookie) = signed_in(&fleet);
    let board = fleet.enrol("acme.b1");
    let facts = json!({"profile": "generic", "hardware": "generic", "architecture": "x86_64",
        "kernel": "6.1", "agent": "0.1.0", "memory_bytes": 1 << 30, "cpus": 4});
    let current = json!({"version": 1, "board": facts, "set": null, "layers": []});
    board.publish(&board.topic("current"), &current);
    board.publish(
        &board.topic("presence"),
        &json!({"online": true, "session": 1}),
    );
    let used = || fleet.get("/api/v1/boards/acme.b1")["used"].clone();
    let look = |path: &str| text(&curl(&["-b", &cookie, &format!("{base}{path}")]));
    // One of an older agent.
    board.publish(&board.topic("telemetry"), &json!({"at": 1, "apps": []}));
    support::wait_for("the telemetry", 10, || {
        let said = fleet.get("/api/v1/boards/acme.b1")["telemetry"].clone();
        (said["at"] == 1).then_some(())
    });
    assert_eq!(used(), json!(null));
    assert!(!look("/boards/acme.b1").contains("Memory in use"));

    let gib = 1u64 << 30;
    let said = json!({"at": 2, "apps": [], "board": {
        "memory_total_bytes": gib, "memory_used_bytes": gib / 4, "agent_memory_bytes": 4 << 20, "load_hundredths": 152,
        "uptime_seconds": 259_200, "zone": "cpu<thermal>", "millidegrees": 76_200, "throttle_celsius": 75,
        "state_total_bytes": 8 * gib, "state_free_bytes": gib / 2, "link": "wlan0", "link_kind": "wifi", "fans": 2}});
    board.publish(&board.topic("telemetry"), &said);
    let seen = support::wait_for("what it uses", 10, || {
        Some(used()).filter(|used| used["load_hundredths"] == 152)
    });
    assert_eq!(seen["marks"], json!(["hot", "disk-nearly-full"]));
    assert!(seen["received_at"].as_u64().unwrap() > 1_700_000_000);
    let page = look("/boards/acme.b1");
    for words in [
        "256 MiB of 1 GiB",
        "1.52 on 4 cores",
        "76.2 °C (cpu&lt;thermal&gt;), apps are slowed from 75 °C",
        "512 MiB of 8 GiB",
        "3 days",
        "Wi-Fi (wlan0)",
        "disk nearly full",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let list = look("/");
    assert!(
        list.contains("hot") && list.contains("disk nearly full"),
        "{list}"
    );

    // What no board can mean is left out, the rest is heard.
    let odd = json!({"at": 3, "apps": [], "board": {
        "memory_total_bytes": 5, "memory_used_bytes": u64::MAX, "millidegrees": i32::MIN, "zone": "\u{1b}[31m",
        "load_hundredths": 7, "uptime_seconds": u64::MAX, "state_total_bytes": u64::MAX, "state_free_bytes": 1}});
    board.publish(&board.topic("telemetry"), &odd);
    let seen = support::wait_for("the rest", 10, || {
        Some(used()).filter(|used| used["load_hundredths"] == 7)
    });
    assert_eq!(seen.as_object().unwrap().len(), 3, "{seen}");
    assert_eq!(seen["marks"], json!([]));

    // A console that starts anew has what was kept before that minute.
    fleet.stop_console();
    fleet.start_console();
    let kept = fleet.get("/api/v1/boards/acme.b1");
    assert_eq!(kept["telemetry"], json!(null));
    assert_eq!(kept["used"]["load_hundredths"], 152);
    assert_eq!(kept["used"]["marks"], json!(["hot", "disk-nearly-full"]));
}

#[test]
fn a_board_that_floods_the_console_is_told_once_and_counted() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let other = fleet.enrol("acme.b2");
    let dropped = || fleet.get("/api/v1/boards/acme.b1")["dropped"].clone();
    let flood = |topic: &str, message: &[u8]| {
        // One connection for all of them: a line each.
        let lines = [message, b"\n"].concat().repeat(100);
        board.publish_lines(&board.topic(topic), &lines);
    };
    flood("feedback", b"{}");
    let feedback = json!({"activity": "x".repeat(200), "sequence": 1, "phase": "fetching"});
    flood("feedback", feedback.to_string().as_bytes());
    // The broker takes none of 64 KiB.
    board.publish(&board.topic("feedback"), &json!("x".repeat(70_000)));
    let presence = json!({"online": true, "session": 7});
    flood("presence", presence.to_string().as_bytes());
    let wanted = json!({"too-long": 0, "malformed": 200, "repeated": 99});
    support::wait_for("all of it", 20, || (dropped() == wanted).then_some(()));
    let told = |log: &str| log.matches("message dropped").count();
    assert_eq!(told(&fleet.log()), 1, "{}", fleet.log());

    // It was the one board's, and that one is heard as before.
    assert_eq!(
        fleet.get("/api/v1/boards/acme.b2")["dropped"],
        json!({"too-long": 0, "malformed": 0, "repeated": 0})
    );
    other.publish(&other.topic("feedback"), &json!({}));
    support::wait_for("the other one's", 10, || {
        (told(&fleet.log()) == 2).then_some(())
    });
    board.say_current(1, &[]);
    support::wait_for("what it says in earnest", 10, || {
        (!fleet.get("/api/v1/boards/acme.b1")["current"].is_null()).then_some(())
    });
}
