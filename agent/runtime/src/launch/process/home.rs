//! A user's home folder, by the container's own /etc/passwd.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// More than any user list of an image; the file is the image's, and may be anything.
const LIMIT: u64 = 1 << 20;

/// `HOME=…`, which is `/` for a user that nobody has heard of, as in Docker.
pub(super) fn of(uid: u32) -> CString {
    let home = find(uid).unwrap_or_else(|| "/".into());
    CString::new(format!("HOME={home}")).unwrap_or_else(|_| c"HOME=/".into())
}

fn find(uid: u32) -> Option<String> {
    // A fifo must not stop us.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/etc/passwd")
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    home_in(&text, uid)
}

fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then_some(())?;
        fields
            .nth(2)
            .filter(|home| home.starts_with('/'))
            .map(Into::into)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_user_is_the_sixth_field() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nme:x:1000:1000::/home/me:/bin/sh\nbad:x:7:7::relative:\n";
        assert_eq!(home_in(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(passwd, 1000).as_deref(), Some("/home/me"));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in(passwd, 8), None);
    }
}
