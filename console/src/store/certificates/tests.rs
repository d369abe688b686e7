use super::*;
use crate::ca::{BoardRequest, Ca};
use crate::store::Revoked;
use std::time::Duration;

fn request() -> BoardRequest {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::new(Vec::new()).unwrap();
    BoardRequest::read(&request.serialize_request(&key).unwrap().pem().unwrap()).unwrap()
}

#[tokio::test]
async fn certificates_that_an_older_version_issued_are_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let ca = Ca::open(
        &dir.path().join("pki"),
        "localhost",
        Duration::from_secs(900),
    )
    .unwrap();
    let board = BoardId::new("acme.b1").unwrap();
    let issued = ca.issue_board(&board, &request()).unwrap();
    for (id, text) in [("acme.b1", issued.pem.as_str()), ("acme.b2", "damaged")] {
        sqlx::query(
            "INSERT INTO boards (id, created_at, enrolled_at, certificate) VALUES ($1, 5, 7, $2)",
        )
        .bind(id)
        .bind(text)
        .execute(&store.pool)
        .await
        .unwrap();
    }
    for _ in 0..2 {
        crate::certificates::take_in(&store).await.unwrap();
        let all = store.certificates(&board).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].serial.as_str(), all[0].issued_at),
            (issued.serial.as_str(), 7)
        );
        assert_eq!(all[0].key_hash, issued.key_hash);
    }
    let damaged = BoardId::new("acme.b2").unwrap();
    assert_eq!(store.certificates(&damaged).await.unwrap(), []);
    // Unused ones of a board that keeps nothing do not pile up; a used one makes room.
    let more = |n: u64| CertificateRow {
        serial: format!("{n:x}"),
        issued_at: 10 + n,
        ..store_row(&board, issued.not_after)
    };
    let add = async |old: &str, n| {
        store
            .add_certificate(old, &more(n), 20, 0, 4)
            .await
            .unwrap()
    };
    for n in 0..3 {
        assert_eq!(add(&issued.serial, n).await, Added::Noted);
    }
    assert_eq!(add(&issued.serial, 3).await, Added::TooMany);
    store.note_use(&more(2), 21).await.unwrap();
    assert_eq!(add(&issued.serial, 3).await, Added::NotInForce);
    assert_eq!(add("2", 3).await, Added::Noted);
    let superseded = store.certificate("1").await.unwrap().unwrap();
    assert_eq!(superseded.superseded_at, Some(21));
    assert_eq!(
        store.certificate("3").await.unwrap().unwrap().superseded_at,
        None
    );
}

fn store_row(board: &BoardId, not_after: u64) -> CertificateRow {
    CertificateRow {
        serial: String::new(),
        board: board.clone(),
        key_hash: "k".into(),
        issued_at: 0,
        not_after,
        how: "renewed".into(),
        last_used: None,
        superseded_at: None,
        revoked_at: None,
        revoked_why: None,
    }
}

/// A store with board `acme.b1`, which has certificate `old` from `issued_at` on.
async fn with_one(dir: &std::path::Path, issued_at: u64) -> (Store, BoardId) {
    let store = Store::open(&dir.join("db")).await.unwrap();
    let board = BoardId::new("acme.b1").unwrap();
    store.add_enrolment(&board, "t", 5, 9).await.unwrap();
    let old = row(&board, "old", issued_at);
    store.use_enrolment("t", &old, 5).await.unwrap();
    (store, board)
}

fn row(board: &BoardId, serial: &str, issued_at: u64) -> CertificateRow {
    CertificateRow {
        serial: serial.into(),
        issued_at,
        ..store_row(board, 100 * DAY)
    }
}

#[tokio::test]
async fn a_renewal_that_a_revocation_overtakes_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, board) = with_one(dir.path(), 5).await;
    // It was judged before the revocation, and is written after it.
    let revoked = store.revoke(&board, "stolen", 7).await.unwrap();
    assert_eq!(revoked, Revoked::Certificates(1));
    let new = row(&board, "new", 8);
    let added = store.add_certificate("old", &new, 8, 0, 16).await.unwrap();
    assert_eq!(added, Added::NotInForce);
    assert_eq!(store.certificates(&board).await.unwrap().len(), 1);
    assert_eq!(
        store.revoke(&board, "x", 8).await.unwrap(),
        Revoked::Already
    );
    // One that got in all the same is of no use, and can be taken back.
    insert(&mut store.pool.acquire().await.unwrap(), &new)
        .await
        .unwrap();
    let found = store.certificate("new").await.unwrap().unwrap();
    assert_eq!(found.revoked_why.as_deref(), Some("stolen"));
    let open = || store.add_enrolment(&board, "t2", 9, 99);
    open().await.unwrap();
    let again = store.revoke(&board, "again", 9).await.unwrap();
    assert_eq!(again, Revoked::Certificates(1));
    let all = store.certificates(&board).await.unwrap();
    assert!(all.iter().all(|row| row.revoked_at.is_some()), "{all:?}");
    // The new file of a board that was revoked before is meant to bring it back.
    assert_eq!(store.enrolment("t2", 10).await.unwrap(), board);
    let nobody = BoardId::new("acme.b2").unwrap();
    assert_eq!(
        store.revoke(&nobody, "", 9).await.unwrap(),
        Revoked::NoBoard
    );
}

#[tokio::test]
async fn a_board_that_lost_what_it_got_is_renewed_on_another_day() {
    let dir = tempfile::tempdir().unwrap();
    let (store, board) = with_one(dir.path(), 5).await;
    store.note_use(&row(&board, "old", 5), 6).await.unwrap();
    // Its disk is full for a week: each answer is lost.
    for day in 1..=7 {
        for n in 0..16 {
            let now = day * DAY + n;
            let new = row(&board, &format!("{day}-{n}"), now);
            let added = store
                .add_certificate("old", &new, now, 0, 16)
                .await
                .unwrap();
            assert_eq!(added, Added::Noted, "day {day}, {n}");
        }
        let now = day * DAY + 16;
        let new = row(&board, "too many", now);
        let added = store
            .add_certificate("old", &new, now, 0, 16)
            .await
            .unwrap();
        assert_eq!(added, Added::TooMany);
    }
    // Those that a newer one has superseded are not counted.
    store
        .note_use(&row(&board, "7-15", 7 * DAY + 15), 7 * DAY + 20)
        .await
        .unwrap();
    let new = row(&board, "last", 7 * DAY + 21);
    let added = store
        .add_certificate("7-15", &new, 7 * DAY + 21, 0, 16)
        .await;
    assert_eq!(added.unwrap(), Added::Noted);
}

#[tokio::test]
async fn two_of_one_second_do_not_supersede_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, board) = with_one(dir.path(), 5).await;
    let (one, two) = (row(&board, "one", 7), row(&board, "two", 7));
    for new in [&one, &two] {
        store.add_certificate("old", new, 7, 0, 16).await.unwrap();
    }
    store.note_use(&one, 8).await.unwrap();
    store.note_use(&two, 9).await.unwrap();
    let superseded = async |serial| {
        let row = store.certificate(serial).await.unwrap().unwrap();
        row.superseded_at
    };
    assert_eq!(superseded("one").await, None);
    assert_eq!(superseded("two").await, Some(8));
}

#[tokio::test]
async fn a_revocation_waits_for_whoever_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, board) = with_one(dir.path(), 5).await;
    let other = Store::open(&dir.path().join("db")).await.unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            other
                .add_enrolment(&BoardId::new("acme.b2").unwrap(), "x", n, n)
                .await
                .unwrap();
            other
                .revoke(&BoardId::new("acme.b2").unwrap(), "", n)
                .await
                .unwrap();
        }
    });
    for n in 0..60 {
        store
            .add_enrolment(&board, &format!("e{n}"), n, 999)
            .await
            .unwrap();
        store
            .use_enrolment(&format!("e{n}"), &row(&board, &format!("s{n}"), n), n)
            .await
            .unwrap();
        store.revoke(&board, "", n).await.unwrap();
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_full_disk_keeps_out_nobody_who_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let (store, board) = with_one(dir.path(), 5).await;
    let full =
        "CREATE TRIGGER full BEFORE UPDATE ON certificates BEGIN SELECT RAISE(ABORT, 'full'); END";
    sqlx::query(full).execute(&store.pool).await.unwrap();
    let old = row(&board, "old", 5);
    assert!(store.note_use(&old, 10).await.is_err());
    let used = CertificateRow {
        last_used: Some(10),
        ..old
    };
    store.note_use(&used, 10 + 2 * DAY).await.unwrap();
}

#[tokio::test]
async fn the_first_revocation_after_an_update_takes_back_what_is_there_as_text_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (state, db) = (dir.path().to_owned(), dir.path().join("console.db"));
    let life = Duration::from_secs(900);
    let ca = Ca::open(&dir.path().join("pki"), "localhost", life).unwrap();
    let store = Store::open(&db).await.unwrap();
    let mut serials = Vec::new();
    for (id, revoked) in [("acme.b1", None), ("acme.b2", Some(6))] {
        let issued = ca
            .issue_board(&BoardId::new(id).unwrap(), &request())
            .unwrap();
        let sql = "INSERT INTO boards (id, created_at, certificate, revoked_at, revoked_why) VALUES ($1, 5, $2, $3, 'w')";
        let insert = sqlx::query(sql).bind(id).bind(&issued.pem).bind(revoked);
        insert.execute(&store.pool).await.unwrap();
        serials.push(issued.serial);
    }
    let said = crate::boards::run(crate::settings::BoardsCommand::Revoke {
        state,
        board: BoardId::new("acme.b1").unwrap(),
        reason: "sold".into(),
    })
    .await
    .unwrap();
    assert!(said.contains("with 1 certificates"), "{said}");
    // The second was revoked before anybody knew its certificate.
    serials.sort();
    let listed = store.revoked_certificates().await.unwrap();
    let listed: Vec<&str> = listed.iter().map(|one| one.serial.as_str()).collect();
    assert_eq!(listed, serials);
}
