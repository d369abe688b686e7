//! Mounts and their options (runtime-spec config.md, Linux mount options).

use std::path::Path;

use coracle_runtime::spec::{FileSystem, Origin, Owners};
use nix::mount::MsFlags;
use oci_spec::runtime::{Linux, LinuxIdMapping, Mount, Spec};

use super::{namespaces, propagation};
use crate::failure::Failure;

/// linux/mount.h; nix does not know it.
const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

/// Set by the first word, cleared by the second.
const SWITCHES: [(&str, &str, MsFlags); 11] = [
    ("ro", "rw", MsFlags::MS_RDONLY),
    ("nosuid", "suid", MsFlags::MS_NOSUID),
    ("nodev", "dev", MsFlags::MS_NODEV),
    ("noexec", "exec", MsFlags::MS_NOEXEC),
    ("noatime", "atime", MsFlags::MS_NOATIME),
    ("nodiratime", "diratime", MsFlags::MS_NODIRATIME),
    ("relatime", "norelatime", MsFlags::MS_RELATIME),
    ("strictatime", "nostrictatime", MsFlags::MS_STRICTATIME),
    ("sync", "async", MsFlags::MS_SYNCHRONOUS),
    ("mand", "nomand", MsFlags::MS_MANDLOCK),
    ("nosymfollow", "symfollow", NOSYMFOLLOW),
];

const ATIME: u64 = libc::MOUNT_ATTR__ATIME;

/// For everything below a mount too: attributes set and cleared.
const RECURSIVE: [(&str, u64, u64); 20] = [
    ("rro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rrw", 0, libc::MOUNT_ATTR_RDONLY),
    ("rnosuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("rsuid", 0, libc::MOUNT_ATTR_NOSUID),
    ("rnodev", libc::MOUNT_ATTR_NODEV, 0),
    ("rdev", 0, libc::MOUNT_ATTR_NODEV),
    ("rnoexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("rexec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("rnodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("rdiratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("rrelatime", libc::MOUNT_ATTR_RELATIME, ATIME),
    ("rnorelatime", 0, ATIME),
    ("rnoatime", libc::MOUNT_ATTR_NOATIME, ATIME),
    ("ratime", 0, ATIME),
    ("rstrictatime", libc::MOUNT_ATTR_STRICTATIME, ATIME),
    ("rnostrictatime", 0, ATIME),
    ("rnosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("rsymfollow", 0, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ("rnomand", 0, 0),
    ("rmand", 0, 0),
];

pub fn plan(spec: &Spec, bundle: &Path) -> Result<Vec<FileSystem>, Failure> {
    let mounts = spec.mounts().iter().flatten();
    mounts.map(|mount| one(mount, bundle)).collect()
}

/// Names that `features` lists.
pub fn known_options() -> Vec<String> {
    let mut all: Vec<String> = SWITCHES
        .iter()
        .flat_map(|(set, clear, _)| [*set, *clear])
        .chain(RECURSIVE.iter().map(|(name, _, _)| *name))
        .chain([
            "bind",
            "rbind",
            "defaults",
            "dirsync",
            "remount",
            "tmpcopyup",
            "idmap",
            "ridmap",
            "silent",
            "loud",
        ])
        .chain(["private", "shared", "slave", "unbindable"])
        .chain(["rprivate", "rshared", "rslave", "runbindable"])
        .map(Into::into)
        .collect();
    all.sort_unstable();
    all
}

pub fn root_propagation(linux: &Linux) -> Result<MsFlags, Failure> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(MsFlags::empty()),
        Some(word) => propagation(word)
            .ok_or_else(|| Failure::Config(format!("rootfsPropagation {word:?} is unknown"))),
    }
}

fn one(mount: &Mount, bundle: &Path) -> Result<FileSystem, Failure> {
    let target = mount.destination().clone();
    let mut planned = FileSystem {
        origin: Origin::Cgroup,
        // Some write it relative, which older versions of the specification allowed.
        target: Path::new("/").join(target),
        flags: MsFlags::empty(),
        cleared: MsFlags::empty(),
        propagation: Vec::new(),
        recursive: (0, 0),
        data: String::new(),
        copy_up: false,
        owners: None,
    };
    let mut bind = None;
    let mut data: Vec<&str> = Vec::new();
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "bind" => bind = bind.or(Some(false)),
            "rbind" => bind = Some(true),
            option => apply(option, &mut planned, &mut data)?,
        }
    }
    planned.data = data.join(",");

    let kind = mount.typ().as_deref().unwrap_or("none");
    let source = mount.source().clone().unwrap_or_default();
    planned.origin = match (kind, bind) {
        ("bind", _) | (_, Some(_)) => Origin::Bind {
            source: bundle.join(source),
            recursive: bind.unwrap_or(false),
        },
        ("cgroup" | "cgroup2", None) => Origin::Cgroup,
        (kind, None) => Origin::New {
            kind: kind.into(),
            source: source.to_string_lossy().into_owned(),
        },
    };
    planned.owners = owners(mount, &planned)?;
    Ok(planned)
}

/// Mappings say so without the option too; the option without mappings takes the container's.
fn owners(mount: &Mount, planned: &FileSystem) -> Result<Option<Owners>, Failure> {
    let wrong = |reason: &str| {
        let target = planned.target.display();
        Err(Failure::Config(format!(
            "id-mapped mount {target}: {reason}"
        )))
    };
    let listed = |maps: &Option<Vec<LinuxIdMapping>>| namespaces::maps(maps);
    let (uids, gids) = (listed(mount.uid_mappings()), listed(mount.gid_mappings()));
    if planned.owners.is_none() && uids.is_empty() && gids.is_empty() {
        return Ok(None);
    }
    if !matches!(planned.origin, Origin::Bind { .. }) {
        return wrong("it is no bind mount");
    }
    if uids.is_empty() != gids.is_empty() {
        return wrong("uidMappings and gidMappings go together");
    }
    if uids.is_empty() {
        return Ok(planned.owners.clone());
    }
    let below = matches!(planned.owners, Some(Owners::OfContainer { below: true }));
    Ok(Some(Owners::Listed { uids, gids, below }))
}

fn apply<'a>(
    option: &'a str,
    planned: &mut FileSystem,
    data: &mut Vec<&'a str>,
) -> Result<(), Failure> {
    for (set, clear, flag) in SWITCHES {
        if option == set {
            planned.flags |= flag;
            planned.cleared -= flag;
            return Ok(());
        }
        if option == clear {
            planned.flags -= flag;
            planned.cleared |= flag;
            return Ok(());
        }
    }
    if let Some((_, set, clear)) = RECURSIVE.iter().find(|(name, _, _)| *name == option) {
        planned.recursive.0 = planned.recursive.0 & !clear | set;
        planned.recursive.1 = planned.recursive.1 & !set | clear;
        return Ok(());
    }
    if let Some(flags) = propagation(option) {
        planned.propagation.push(flags);
        return Ok(());
    }
    match option {
        "defaults" | "loud" | "" => {}
        "silent" => planned.flags |= MsFlags::MS_SILENT,
        "dirsync" => planned.flags |= MsFlags::MS_DIRSYNC,
        "remount" => planned.flags |= MsFlags::MS_REMOUNT,
        "tmpcopyup" => planned.copy_up = true,
        "idmap" => planned.owners = Some(Owners::OfContainer { below: false }),
        "ridmap" => planned.owners = Some(Owners::OfContainer { below: true }),
        other => data.push(other),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> FileSystem {
        let mount: Mount = serde_json::from_str(json).unwrap();
        one(&mount, Path::new("/bundle")).unwrap()
    }

    #[test]
    fn a_tmpfs_keeps_what_is_for_the_file_system() {
        let one = planned(
            r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]}"#,
        );
        assert_eq!(one.flags, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME);
        assert_eq!(one.data, "mode=755,size=65536k");
        let origin = Origin::New {
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
        };
        assert_eq!(one.origin, origin);
    }

    #[test]
    fn a_bind_mount_is_one_by_type_or_by_option() {
        for (json, recursive) in [
            (
                r#"{"destination":"/x","type":"bind","source":"data"}"#,
                false,
            ),
            (
                r#"{"destination":"/x","type":"none","source":"data","options":["rbind"]}"#,
                true,
            ),
            (
                r#"{"destination":"x","source":"data","options":["bind","rbind"]}"#,
                true,
            ),
        ] {
            let one = planned(json);
            let source = "/bundle/data".into();
            assert_eq!(one.origin, Origin::Bind { source, recursive }, "{json}");
            assert_eq!(one.target, Path::new("/x"));
        }
    }

    #[test]
    fn later_options_win() {
        let one = planned(
            r#"{"destination":"/x","type":"bind","source":"/d","options":["ro","rw","exec","rslave","rro","rrw","rnoatime"]}"#,
        );
        assert_eq!(one.flags, MsFlags::empty());
        assert_eq!(one.cleared, MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC);
        assert_eq!(one.propagation, [MsFlags::MS_SLAVE | MsFlags::MS_REC]);
        assert_eq!(
            one.recursive,
            (libc::MOUNT_ATTR_NOATIME, ATIME | libc::MOUNT_ATTR_RDONLY)
        );
    }

    #[test]
    fn owners_are_the_container_s_or_listed() {
        let maps = r#"[{"containerID":0,"hostID":7,"size":1}]"#;
        let one = planned(
            r#"{"destination":"/x","type":"bind","source":"/d","options":["rbind","ridmap"]}"#,
        );
        assert_eq!(one.owners, Some(Owners::OfContainer { below: true }));
        let one = planned(&format!(
            r#"{{"destination":"/x","type":"bind","source":"/d","uidMappings":{maps},"gidMappings":{maps}}}"#
        ));
        let map = coracle_runtime::namespaces::IdMap {
            inside: 0,
            outside: 7,
            size: 1,
        };
        let (uids, gids, below) = (vec![map], vec![map], false);
        assert_eq!(one.owners, Some(Owners::Listed { uids, gids, below }));
    }

    #[test]
    fn half_an_id_mapping_is_refused_and_so_is_one_of_a_new_file_system() {
        for json in [
            r#"{"destination":"/x","type":"bind","source":"/d","uidMappings":[{"containerID":0,"hostID":7,"size":1}]}"#,
            r#"{"destination":"/x","type":"tmpfs","source":"t","options":["idmap"]}"#,
        ] {
            let mount: Mount = serde_json::from_str(json).unwrap();
            let refused = one(&mount, Path::new("/")).unwrap_err().to_string();
            assert!(refused.contains("id-mapped mount /x"), "{refused}");
        }
    }
}
