use super::*;
use Separator::{Colon, Dot};
use coracle_protocol::names::BoardId;

async fn store(dir: &Path) -> (State, Store) {
    let state = State {
        root: dir.to_owned(),
    };
    let store = Store::open(&state.database()).await.unwrap();
    (state, store)
}

async fn enrol(store: &Store, name: &str) {
    let board = BoardId::new(name).unwrap();
    store.add_enrolment(&board, name, 1, 9).await.unwrap();
    let row = crate::store::CertificateRow {
        serial: name.into(),
        board,
        key_hash: name.into(),
        issued_at: 1,
        not_after: 9,
        how: "enrolled".into(),
        last_used: None,
        superseded_at: None,
        revoked_at: None,
        revoked_why: None,
    };
    store.use_enrolment(name, &row, 2).await.unwrap();
}

#[tokio::test]
async fn a_fleet_keeps_its_topics_while_boards_are_enrolled() {
    let dir = tempfile::tempdir().unwrap();
    let (state, store) = store(dir.path()).await;
    for asked in [Dot, Colon, Dot, Colon] {
        separator(&state, &store, asked).await.unwrap();
    }
    enrol(&store, "acme.b1").await;
    separator(&state, &store, Colon).await.unwrap();
    let refused = separator(&state, &store, Dot).await.unwrap_err();
    let words = refused.to_string();
    for word in ["1 boards", "`:`", "`.`", "topic-separator"] {
        assert!(words.contains(word), "{words}");
    }
    // What the words say to do.
    std::fs::write(state.topic_separator(), ".\n").unwrap();
    separator(&state, &store, Dot).await.unwrap();
    std::fs::write(state.topic_separator(), "").unwrap();
    let refused = separator(&state, &store, Dot).await.unwrap_err();
    assert!(matches!(refused, ServeError::Remembered { .. }));
}

#[tokio::test]
async fn a_fleet_of_before_has_topics_with_a_dot() {
    let dir = tempfile::tempdir().unwrap();
    let (state, store) = store(dir.path()).await;
    enrol(&store, "acme.b1").await;
    assert!(separator(&state, &store, Colon).await.is_err());
    separator(&state, &store, Dot).await.unwrap();
    assert!(state.topic_separator().exists());
    // The last one is revoked: nobody is left who was told.
    let board = BoardId::new("acme.b1").unwrap();
    store.revoke(&board, "", 3).await.unwrap();
    separator(&state, &store, Colon).await.unwrap();
}

#[test]
fn the_console_keeps_an_identifier_that_nobody_guesses() {
    let dir = tempfile::tempdir().unwrap();
    let state = State {
        root: dir.path().to_owned(),
    };
    let first = identifier(&state, Colon).unwrap();
    assert!(
        first.starts_with("console-") && first.len() == 40,
        "{first}"
    );
    assert_eq!(identifier(&state, Colon).unwrap(), first);
    assert_eq!(identifier(&state, Dot).unwrap(), "console");
    std::fs::remove_file(state.mqtt_identifier()).unwrap();
    assert_ne!(identifier(&state, Colon).unwrap(), first);
}
