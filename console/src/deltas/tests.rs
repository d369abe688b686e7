use super::*;
use coracle_protocol::release::{Blob, Layer};

fn id(name: &str) -> Sha256Digest {
    Sha256Digest::of(name.as_bytes())
}

/// Neither layer is in the registry, and the old one is too large to be compared: computing it would be noted as of no use.
fn pair() -> Pair {
    let layer = |name: &str, unpacked_size: u64| Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest: id(name),
        size: 1000,
        diff_id: id(name),
        unpacked_size,
        entries: None,
    };
    let blob = Blob {
        digest: id("blob"),
        size: 1,
    };
    Pair {
        from: layer("old", 2 << 30),
        to: layer("new", 1000),
        image: "shop/web:2".into(),
        manifest: blob,
        config: blob,
        source: [blob; 2],
    }
}

fn row(size: u64) -> DeltaRow {
    let (from, to) = (id("old"), id("new"));
    let delta = Delta {
        from,
        to,
        media_type: "d".into(),
        digest: id("delta"),
        size,
    };
    DeltaRow {
        from,
        to,
        full_size: 1000,
        outcome: Ok(delta),
    }
}

async fn deltas(dir: &std::path::Path) -> Deltas {
    let store = Store::open(&dir.join("db")).await.unwrap();
    let blobs = Blobs::open(&dir.join("registry")).unwrap();
    let manifests = Manifests::new(&dir.join("registry"), blobs.clone());
    Deltas::new(
        store,
        blobs,
        manifests,
        Live::default(),
        CancellationToken::new(),
    )
}

#[test]
fn a_delta_is_offered_for_larger_blobs_only() {
    assert_eq!(for_blob(row(100), 100), None);
    assert_eq!(for_blob(row(100), 99), None);
    // The size that a board is told is that of the blob it would fetch.
    assert_eq!(for_blob(row(100), 101).unwrap().full_size, 101);
    let useless = DeltaRow {
        outcome: Err("it is larger".into()),
        ..row(0)
    };
    assert_eq!(for_blob(useless, 1 << 20), None);
}

#[tokio::test]
async fn a_pair_that_another_one_noted_meanwhile_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let deltas = deltas(dir.path()).await;
    // As by somebody who looked before it was noted, and has his turn after it.
    let turn = deltas.turn.acquire().await.unwrap();
    let mut done = deltas.begin(&pair());
    let noted = DeltaRow {
        outcome: Err("by another".into()),
        ..row(0)
    };
    deltas.store.add_delta(&noted, now()).await.unwrap();
    drop(turn);
    assert!(done.changed().await.is_err(), "it is done");
    let known = deltas.store.delta(&id("old"), &id("new")).await.unwrap();
    assert_eq!(known, Some(noted));
}

#[tokio::test]
async fn a_delta_whose_blob_is_gone_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let deltas = deltas(dir.path()).await;
    deltas.store.add_delta(&row(100), now()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let made = deltas.get(&pair(), until).await.unwrap().unwrap();
    let why = made.outcome.unwrap_err();
    assert!(why.contains("at most"), "{why}");
}
