use std::fs;

use super::*;

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path(), &Limits::default()).unwrap();
    (dir, layout)
}

/// A manifest in Docker's words, as `docker push` writes it.
fn docker_image(layout: &Layout, architecture: &str, layers: usize) -> Descriptor {
    let diff_ids = vec![Sha256Digest::of(b"layer"); layers];
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "unknown": 1,
        "config": {"Env": null, "Cmd": ["/bin/sh"], "ExposedPorts": {"80/tcp": {}}, "Labels": null,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000u64}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = layout.put_json(DOCKER_CONFIG, &config).unwrap();
    let layer = layout
        .put(
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            b"layer",
        )
        .unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": [layer],
    });
    layout.put_json(DOCKER_MANIFEST, &manifest).unwrap()
}

#[test]
fn an_index_gives_the_manifest_for_the_machine() {
    let (_dir, layout) = layout();
    let mut entries = Vec::new();
    for (architecture, variant) in [
        ("amd64", None),
        ("arm", Some("v6")),
        ("arm", Some("v7")),
        ("arm64", Some("v8")),
    ] {
        let mut entry = docker_image(&layout, architecture, 1);
        entry
            .annotations
            .insert("variant".into(), variant.unwrap_or("none").into());
        entry.platform = Some(Platform::linux(architecture, variant));
        entries.push(entry);
    }
    let list =
        serde_json::json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries});
    layout
        .tag(layout.put_json(DOCKER_LIST, &list).unwrap(), "app")
        .unwrap();
    let variant = |architecture, variant| {
        let machine = Platform::linux(architecture, variant);
        let found = layout.resolve(layout.find(Some("app")).unwrap(), &machine);
        found.map(|entry| entry.annotations["variant"].clone())
    };
    assert_eq!(variant("arm", Some("v7")).unwrap(), "v7");
    assert_eq!(variant("arm", Some("v6")).unwrap(), "v6");
    assert_eq!(variant("arm", Some("v8")).unwrap(), "v7");
    assert_eq!(variant("arm64", None).unwrap(), "v8");
    assert!(matches!(
        variant("riscv64", None),
        Err(LayoutError::NoPlatform { .. })
    ));
    assert!(matches!(
        variant("arm", Some("v5")),
        Err(LayoutError::NoPlatform { .. })
    ));
    let image = layout
        .image(Some("app"), &Platform::linux("amd64", None))
        .unwrap();
    assert_eq!(image.config.config.cmd, ["/bin/sh"]);
    assert_eq!(
        image.config.config.healthcheck.unwrap().interval,
        5_000_000_000
    );
    assert_eq!(
        LayerType::from_media_type(&image.manifest.layers[0].media_type),
        Some(LayerType::TarGzip)
    );
}

#[test]
fn tags_replace_each_other_and_one_image_needs_none() {
    let (_dir, layout) = layout();
    let machine = Platform::linux("amd64", None);
    assert!(matches!(layout.find(None), Err(LayoutError::Ambiguous(0))));
    let first = docker_image(&layout, "amd64", 1);
    layout.tag(first, "app").unwrap();
    let second = docker_image(&layout, "arm64", 1);
    layout.tag(second.clone(), "app").unwrap();
    assert_eq!(
        layout.image(None, &machine).unwrap().descriptor.digest,
        second.digest
    );
    layout
        .add(Descriptor::new("application/x", second.digest, 3))
        .unwrap();
    assert_eq!(layout.index().unwrap().manifests.len(), 1);
    assert!(matches!(
        layout.find(Some("other")),
        Err(LayoutError::NoTag(_))
    ));
}

#[test]
fn documents_are_checked_before_they_are_parsed() {
    let (_dir, layout) = layout();
    let machine = Platform::linux("amd64", None);
    let image = docker_image(&layout, "amd64", 2);
    let error = layout.image_of(image.clone()).unwrap_err();
    assert!(
        matches!(
            error,
            LayoutError::LayerCount {
                layers: 1,
                diff_ids: 2
            }
        ),
        "{error}"
    );
    fs::write(
        layout.store().path(&image.digest),
        vec![b' '; image.size as usize],
    )
    .unwrap();
    assert!(matches!(
        layout.image_of(image).unwrap_err(),
        LayoutError::Damaged(_)
    ));

    let huge = layout.put(MANIFEST, &vec![b' '; 2 << 20]).unwrap();
    assert!(matches!(
        layout.image_of(huge).unwrap_err(),
        LayoutError::TooLarge { .. }
    ));
    let artifact = layout.put("application/x", b"{}").unwrap();
    assert!(matches!(
        layout.resolve(artifact, &machine).unwrap_err(),
        LayoutError::NotAnImage(_)
    ));
    // An index that names indexes for ever can't exist by digest; a deep one is refused.
    let mut entry = docker_image(&layout, "amd64", 1);
    for _ in 0..5 {
        entry.platform = Some(machine.clone());
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        entry = layout.put_json(INDEX, &index).unwrap();
    }
    assert!(layout.resolve(entry, &machine).is_err());
}

#[test]
fn other_folders_are_no_layouts() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Layout::open(dir.path(), &Limits::default()),
        Err(LayoutError::NotALayout(_))
    ));
    fs::write(
        dir.path().join(LAYOUT_FILE),
        "{\"imageLayoutVersion\":\"2.0.0\"}",
    )
    .unwrap();
    assert!(matches!(
        Layout::open(dir.path(), &Limits::default()),
        Err(LayoutError::NotALayout(_))
    ));
}

#[test]
fn names_that_are_given_at_once_are_all_there() {
    let (_dir, layout) = layout();
    let entry = layout.put(MANIFEST, b"{}").unwrap();
    let give = |who: &str| {
        for number in 0..20 {
            let name = format!("{who}:{number}");
            layout.tag(entry.clone(), &name).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| give("a"));
        scope.spawn(|| give("b"));
    });
    assert_eq!(layout.index().unwrap().manifests.len(), 40);
}
