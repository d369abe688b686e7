//! The board's user that has no capability, from /etc/passwd and /etc/group themselves.
//!
//! Not by the C library: it asks whatever /etc/nsswitch.conf names (`files systemd` on Debian) by loading that module, and in a
//! static program, as those for ARM are, that ends in a crash before a line is logged.

use std::io;
use std::path::Path;

/// Groups beside its own that an account may have.
const GROUPS: usize = 32;
/// /etc/passwd and /etc/group have no more.
const BYTES: u64 = 1 << 20;

/// A user of the board's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All of its groups.
    pub groups: heapless::Vec<u32, { GROUPS + 1 }>,
}

/// The account `name` of the system whose root folder is `root`; `None` where no line of passwd has that name and numbers.
///
/// # Errors
/// When a file cannot be read.
pub fn look_up(root: &Path, name: &str) -> io::Result<Option<Account>> {
    let passwd = read(&root.join("etc/passwd"))?;
    let found = passwd.lines().find_map(|line| {
        let fields: heapless::Vec<&str, 8> = line.splitn(8, ':').collect();
        let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
        // -1 is "leave as it is" to the kernel.
        let usable = |number: &u32| *number != u32::MAX;
        let is_it = fields.first() == Some(&name);
        is_it.then(|| Some((number(2).filter(usable)?, number(3).filter(usable)?)))?
    });
    let Some((uid, gid)) = found else {
        return Ok(None);
    };
    let mut groups = heapless::Vec::new();
    let _ = groups.push(gid);
    for line in read(&root.join("etc/group"))?.lines() {
        let mut fields = line.splitn(4, ':');
        let number = fields.nth(2).and_then(|gid| gid.parse().ok());
        let mut members = fields.next().unwrap_or_default().split(',');
        if let Some(gid) = number.filter(|gid| !groups.contains(gid))
            && members.any(|member| member == name)
            && groups.push(gid).is_err()
        {
            break;
        }
    }
    Ok(Some(Account {
        name: name.to_owned(),
        uid,
        gid,
        groups,
    }))
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_what_the_two_files_say() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        assert!(look_up(root.path(), "coracle").is_err(), "no files");
        let passwd = "root:x:0:0:root:/root:/bin/sh\ncoraclex:x:5:5::/:\nbroken:x:y:1::/:\nall:x:4294967295:1::/:\n\
                      coracle:x:990:991:, the agent's:/:/bin/false\n";
        std::fs::write(etc.join("passwd"), passwd).unwrap();
        let many: String = (1000..1100)
            .map(|gid| format!("g{gid}:x:{gid}:many\n"))
            .collect();
        let group = format!(
            "root:x:0:\ncoracle:x:991:coracle\ngpio:x:44:a,coracle,b\nx:x:45:coraclex\nshort\n{many}"
        );
        std::fs::write(etc.join("group"), group).unwrap();
        let found = look_up(root.path(), "coracle").unwrap().unwrap();
        assert_eq!((found.uid, found.gid), (990, 991));
        assert_eq!(found.groups.as_slice(), [991, 44]);
        for name in ["nobody", "", "broken", "all", "990"] {
            assert_eq!(look_up(root.path(), name).unwrap(), None, "{name}");
        }
        let passwd = format!("{passwd}many:x:7:7::/:\n");
        std::fs::write(etc.join("passwd"), passwd).unwrap();
        let many = look_up(root.path(), "many").unwrap().unwrap();
        assert_eq!(many.groups.len(), GROUPS + 1);
    }
}
