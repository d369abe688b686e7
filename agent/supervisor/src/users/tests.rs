use super::*;
use crate::apps::tests::plain_app as app;
use coracle_protocol::names::AppName;
use coracle_protocol::release::BindMount;

fn board(wanted: UserNamespaces) -> UsersPolicy {
    UsersPolicy {
        wanted,
        first: 1 << 20,
        on_disk: Ok(()),
        in_memory: Err("tmpfs cannot".into()),
        is_open: false,
    }
}

fn words(outcome: Result<Users, UsersRefused>) -> String {
    match outcome {
        Ok(Users::Own) => "own".to_owned(),
        Ok(Users::Boards(why)) => format!("board: {why}"),
        Err(why) => format!("refused: {why}"),
    }
}

/// Of a release that says nothing, `false`, `true`.
fn all_three(mut app: App, user: Option<&User>, board: &UsersPolicy) -> [String; 3] {
    [None, Some(false), Some(true)].map(|said| {
        app.user_namespace = said;
        words(decide(&app, user, board))
    })
}

fn begin(words: &[String; 3], with: [&str; 3]) {
    for (words, with) in words.iter().zip(with) {
        assert!(words.starts_with(with), "`{words}` is not `{with}…`");
    }
}

use UserNamespaces::{Auto, Off, Required};

#[test]
fn board_and_release_decide_together() {
    let plain = |wanted| all_three(app(), None, &board(wanted));
    begin(&plain(Auto), ["own", "board: the release says", "own"]);
    begin(
        &plain(Off),
        [
            "board: the board",
            "board: the board",
            "refused: the release",
        ],
    );
    begin(&plain(Required), ["own", "refused: the release", "own"]);
}

#[test]
fn what_stands_against_it_is_named() {
    let mut host = app();
    host.network.mode = NetworkMode::Host;
    let said = |app: &App, wanted| all_three(app.clone(), None, &board(wanted));
    let network = "board: it uses the board's network";
    begin(
        &said(&host, Auto),
        [network, "board: the release", "refused: it cannot"],
    );
    begin(
        &said(&host, Required),
        ["refused: it cannot"; 3].map(|w| &w[..8]),
    );

    let mut memory = app();
    memory.limits.disk_on = DiskOn::Memory;
    begin(
        &said(&memory, Auto),
        ["board: tmpfs cannot", "board: the", "refused: it"],
    );
    let refused = decide(&memory, None, &board(Required)).unwrap_err();
    assert!(refused.kernel);
    assert!(
        refused
            .to_string()
            .contains("profile requires it: tmpfs cannot")
    );
    let mut neither = board(Auto);
    neither.on_disk = Err("ext3 cannot".into());
    neither.in_memory = Ok(());
    begin(
        &all_three(memory.clone(), None, &neither),
        ["board: ext3 cannot", "board", "refused: it"],
    );
    memory.read_only_root = true;
    begin(&said(&memory, Auto), ["own", "board", "own"]);

    let far = User {
        uid: 70_000,
        ..User::default()
    };
    let said = all_three(app(), Some(&far), &board(Auto));
    begin(
        &said,
        [
            "board: it runs as user or group 70000",
            "board",
            "refused: it cannot",
        ],
    );
}

#[test]
fn what_a_board_gave_away_stays_open_until_the_release_says_otherwise() {
    let mut writer = app();
    writer.binds.push(BindMount {
        source: "/srv/media".into(),
        target: "/media".into(),
        read_only: false,
    });
    let said = |app: &App, wanted| all_three(app.clone(), None, &board(wanted));
    let folder = "board: it has the board's folder `/srv/media`";
    begin(&said(&writer, Auto), [folder, "board: the release", "own"]);
    begin(&said(&writer, Required), ["own", "refused", "own"]);
    // What only root may read is as lost to a stranger as what only root may write.
    writer.binds[0].read_only = true;
    begin(&said(&writer, Auto), [folder, "board", "own"]);
}

#[test]
fn maps_of_processes_are_read() {
    assert_eq!(parse("         0          0 4294967295\n"), None);
    let range = IdRange {
        first: 1_879_048_192,
        count: 65_536,
    };
    assert_eq!(parse("         0 1879048192      65536\n"), Some(range));
    for bad in ["", "0", "1 2 3", "0 x 3", "0 99999999999 1"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
    assert_eq!(of_process(i32::MAX), None);
}

#[test]
fn an_app_keeps_its_range_and_nobody_else_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.json");
    let name = |text: &str| AppName::new(text).unwrap();
    let mut ranges = Ranges::load(&path, 1 << 20).unwrap();
    let a = ranges.of(&name("a"), &[]).unwrap();
    let b = ranges.of(&name("b"), &[]).unwrap();
    assert_eq!((a.first, b.first), (1 << 20, (1 << 20) + 65_536));
    assert_eq!(ranges.of(&name("a"), &[b]).unwrap(), a);
    // Over a restart, and a cut that left a file without its name.
    std::fs::write(folder.path().join("ids.json.new"), b"{\"ids").unwrap();
    let mut ranges = Ranges::load(&path, 1 << 20).unwrap();
    assert_eq!(ranges.of(&name("b"), &[a]).unwrap(), b);
    // What is gone is given away again, what is there never.
    ranges.retain(|app| app.as_str() != "a").unwrap();
    assert_eq!(ranges.of(&name("c"), &[]).unwrap(), a);
    let mut ranges = Ranges::load(&path, 1 << 20).unwrap();
    assert_ne!(ranges.of(&name("a"), &[]).unwrap(), a);
    // One that still runs, whatever is written down, and however the first id was moved.
    let moved = IdRange {
        first: (1 << 20) + 3 * 65_536 - 1,
        count: 2,
    };
    assert_eq!(
        ranges.of(&name("d"), &[moved]).unwrap().first,
        (1 << 20) + 4 * 65_536
    );
    let own = ranges.of(&name("b"), &[b]).unwrap();
    assert_ne!(own, b);
}

#[test]
fn ranges_are_bounded_and_a_damaged_file_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.json");
    let mut ranges = Ranges::load(&path, 1 << 20).unwrap();
    for number in 0..256 {
        let name = AppName::new(&format!("{}{number}", "a".repeat(40))).unwrap();
        ranges.of(&name, &[]).unwrap();
    }
    let more = AppName::new("more").unwrap();
    let fault = ranges.of(&more, &[]).unwrap_err();
    assert!(matches!(fault, RangeError::TooMany), "{fault}");
    let mut ranges = Ranges::load(&path, 1 << 20).unwrap();
    assert!(ranges.of(&more, &[]).is_err());
    for damaged in [
        "{",
        r#"{"ids_version":1,"apps":{"a":1,"b":1}}"#,
        r#"{"ids_version":1,"apps":{"a":256}}"#,
        r#"{"ids_version":2,"apps":{}}"#,
    ] {
        std::fs::write(&path, damaged).unwrap();
        let mut ranges = Ranges::load(&path, 1 << 20).unwrap();
        assert!(!path.exists());
        let aside = std::fs::read_to_string(folder.path().join("ids.json.bad")).unwrap();
        assert_eq!(aside, damaged);
        assert_eq!(ranges.of(&more, &[]).unwrap().first, 1 << 20);
    }
}
