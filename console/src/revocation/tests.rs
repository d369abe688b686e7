use super::*;
use crate::ca::BoardRequest;
use crate::mosquitto::Broker;
use crate::store::CertificateRow;
use std::path::Path;

const DAY: u64 = 24 * 3600;

fn ca(dir: &Path) -> Arc<Ca> {
    let life = Duration::from_secs(900);
    Arc::new(Ca::open(&dir.join("pki"), "localhost", life).unwrap())
}

/// A database in which `board` is enrolled with `serial`.
async fn database(dir: &Path, name: &str, boards: &[(&str, &str)]) -> Store {
    let store = Store::open(&dir.join(name)).await.unwrap();
    for (board, serial) in boards {
        let id = BoardId::new(board).unwrap();
        store.add_enrolment(&id, board, 1, 9).await.unwrap();
        let row = CertificateRow {
            serial: (*serial).into(),
            board: id,
            key_hash: (*serial).into(),
            issued_at: 1,
            // Over for a month, by this clock.
            not_after: now() - 30 * DAY,
            how: "enrolled".into(),
            last_used: None,
            superseded_at: None,
            revoked_at: None,
            revoked_why: None,
        };
        store.use_enrolment(board, &row, 1).await.unwrap();
    }
    store
}

#[tokio::test]
async fn a_database_from_an_old_backup_does_not_bring_back_what_was_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (ca, file) = (ca(dir), dir.join("fleet.crl"));
    let id = |name: &str| BoardId::new(name).unwrap();
    let today = database(
        dir,
        "today",
        &[("acme.b1", "41"), ("acme.b2", "42"), ("acme.b3", "43")],
    )
    .await;
    for board in ["acme.b1", "acme.b2"] {
        today.revoke(&id(board), "stolen", 5).await.unwrap();
    }
    let (_, lists) = Keeper::open(today, ca.clone(), file.clone()).await.unwrap();
    // However long its end is past: this clock may be ahead.
    assert!(lists.holds("41") && lists.holds("42") && !lists.holds("43"));

    // The backup does not know the second board yet.
    let backup = database(dir, "backup", &[("acme.b1", "41"), ("acme.b3", "43")]).await;
    let open = backup.add_enrolment(&id("acme.b1"), "open", 1, 9).await;
    open.unwrap();
    for _ in 0..2 {
        let opened = Keeper::open(backup.clone(), ca.clone(), file.clone()).await;
        let (keeper, lists) = opened.unwrap();
        assert!(lists.holds("41") && lists.holds("42") && !lists.holds("43"));
        assert_eq!(keeper.boards, BTreeSet::from([id("acme.b1")]));
        assert!(backup.is_revoked(&id("acme.b1")).await.unwrap());
        let on_disk = ca.read_revocation_list(&std::fs::read(&file).unwrap());
        let on_disk = on_disk.unwrap();
        let serials: Vec<&str> = on_disk.iter().map(|one| one.serial.as_str()).collect();
        assert_eq!(serials, ["41", "42"]);
    }
    // An enrolment that was open when it was saved brings no board back.
    assert!(backup.enrolment("open", 6).await.is_err());
    // In a broker's file another CA's list may stand before ours; one that somebody else signed in our name counts for nothing.
    let ours = std::fs::read(&file).unwrap();
    let other = Ca::open(&dir.join("other"), "127.0.0.1", Duration::from_secs(60));
    let other = other.unwrap().revocation_list(&[], 9).unwrap().into_bytes();
    // Both bear the same name: it is the signature that tells them apart.
    assert!(ca.read_revocation_list(&other).is_err());
    assert!(ca.read_revocation_list(b"").is_err());
    let both = [other, ours].concat();
    assert_eq!(ca.read_revocation_list(&both).unwrap().len(), 2);
    // One that cannot be read is not lost, and stops nothing.
    std::fs::write(&file, b"damaged \xff").unwrap();
    Keeper::open(backup, ca, file.clone()).await.unwrap();
    let aside = std::fs::read(dir.join("fleet.crl.unreadable")).unwrap();
    assert_eq!(aside, b"damaged \xff");
}

#[tokio::test]
async fn certificates_of_a_lost_database_are_taken_in_from_known_boards_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = database(dir.path(), "db", &[("acme.b1", "41"), ("acme.b2", "42")]).await;
    let ca = ca(dir.path());
    let issue = |board: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let request = request.serialize_request(&key).unwrap().pem().unwrap();
        let request = BoardRequest::read(&request).unwrap();
        let issued = ca
            .issue_board(&BoardId::new(board).unwrap(), &request)
            .unwrap();
        CertificateRow {
            serial: issued.serial,
            board: BoardId::new(board).unwrap(),
            key_hash: issued.key_hash,
            issued_at: 100,
            not_after: issued.not_after,
            how: "adopted".into(),
            last_used: None,
            superseded_at: None,
            revoked_at: None,
            revoked_why: None,
        }
    };
    let one = issue("acme.b1");
    assert_eq!(store.adopt(&one, 200).await.unwrap(), Some(one.clone()));
    store.note_use(&one, 201).await.unwrap();
    // A copy of an older one, shown later, is superseded from the start.
    let older = CertificateRow {
        issued_at: 50,
        ..issue("acme.b1")
    };
    let adopted = store.adopt(&older, 202).await.unwrap().unwrap();
    assert_eq!(adopted.superseded_at, Some(202));
    // Nor a key that was revoked, a revoked board, or one that nobody knows.
    store
        .revoke(&BoardId::new("acme.b2").unwrap(), "", 203)
        .await
        .unwrap();
    let stolen = CertificateRow {
        key_hash: "42".into(),
        ..issue("acme.b1")
    };
    for refused in [issue("acme.b2"), issue("acme.b9"), stolen] {
        assert_eq!(store.adopt(&refused, 204).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_list_that_the_broker_did_not_get_is_written_at_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (ca, file, folder) = (ca(dir), dir.join("fleet.crl"), dir.join("mosquitto"));
    let store = database(dir, "db", &[("acme.b1", "41")]).await;
    let opened = Keeper::open(store.clone(), ca.clone(), file).await;
    let (mut keeper, _) = opened.unwrap();
    let listen = "127.0.0.1:1".parse().unwrap();
    let broker = Broker::prepare(Path::new("/bin/true"), &folder, listen, &ca, "").unwrap();
    let followers = Followers {
        broker: Some(broker.reload()),
        target: Target {
            host: "127.0.0.1".into(),
            port: 1,
            client_id: "console".into(),
        },
        broker_ca: ca.files().certificate.clone(),
        republish: Republish::default(),
        live: Live::default(),
    };
    let mut expulsion = Expulsion::new(Way {
        store: store.clone(),
        ca: ca.clone(),
        target: followers.target.clone(),
        broker_ca: followers.broker_ca.clone(),
    });
    let board = BoardId::new("acme.b1").unwrap();
    store.revoke(&board, "sold", 5).await.unwrap();
    // As on a disk that is full for a moment.
    let away = dir.join("away");
    std::fs::rename(&folder, &away).unwrap();
    let failed = keeper.follow(&followers, &mut expulsion).await;
    assert!(matches!(failed, Err(RevocationError::File(_))));
    std::fs::rename(&away, &folder).unwrap();
    keeper.follow(&followers, &mut expulsion).await.unwrap();
    let list = std::fs::read_to_string(folder.join("revoked.crl")).unwrap();
    let list = ca.read_revocation_list(list.as_bytes()).unwrap();
    assert_eq!(list[0].serial, "41");
}
