//! A program in a running app: what may be asked, and what goes over its socket.
//!
//! Both sides send pieces: eight bytes of head, then at most [`Stream::PIECE`] bytes. The head is Docker's of multiplexed streams
//! (kind, three zeros, a 4-byte big-endian length), so that what the program writes can be passed on as it comes.

#[cfg(doc)]
use super::Request;
use crate::limits::LIMITS;
use crate::names::AppName;
use serde::{Deserialize, Serialize};

/// A program for a running app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Which.
    pub app: AppName,
    /// The program, and its arguments.
    pub args: Vec<String>,
    /// `KEY=value`, over the app's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `name|uid[:group|gid]`, looked up in the image; the app's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The app's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Whether anything comes for its standard input.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// It has a terminal of so many rows and columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<(u16, u16)>,
}

impl Exec {
    /// Why it cannot be asked for, in words.
    ///
    /// # Errors
    /// It goes beyond [`LIMITS`], or there is nothing to run.
    pub fn check(&self) -> Result<(), String> {
        let many = |what, got: usize| match got > LIMITS.entries_per_app {
            true => Err(format!(
                "{got} {what}; the limit is {}",
                LIMITS.entries_per_app
            )),
            false => Ok(()),
        };
        many("arguments", self.args.len())?;
        many("variables", self.env.len())?;
        let texts = self.args.iter().chain(&self.env);
        for text in texts.chain(&self.user).chain(&self.cwd) {
            if text.len() > LIMITS.text_bytes || text.contains('\0') {
                let limit = LIMITS.text_bytes;
                return Err(format!(
                    "a text of {} bytes, or with a zero in it; the limit is {limit}",
                    text.len()
                ));
            }
        }
        let texts = self.args.iter().chain(&self.env);
        let bytes: usize = texts.map(String::len).sum();
        if bytes > LIMITS.exec_bytes {
            return Err(format!(
                "arguments and variables of {bytes} bytes; the limit is {}",
                LIMITS.exec_bytes
            ));
        }
        if self.args.first().is_none_or(String::is_empty) {
            return Err("no program is named".to_owned());
        }
        if let Some(cwd) = self.cwd.as_ref().filter(|cwd| !cwd.starts_with('/')) {
            return Err(format!("the folder `{cwd}` does not begin with /"));
        }
        match self.env.iter().find(|one| one.find('=') < Some(1)) {
            Some(bad) => Err(format!("the variable `{bad}` is not KEY=value")),
            None => Ok(()),
        }
    }
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// To the program; an empty one is the end of it.
    Stdin,
    /// From the program; all that comes of a terminal.
    Stdout,
    /// From the program.
    Stderr,
    /// The last piece, from the supervisor: four bytes with the exit code as a shell has it. Words follow when there was no
    /// program: why.
    End,
    /// To the terminal: rows and columns, two bytes each.
    Size,
    /// The first piece, from the supervisor, when the program runs: four bytes with its process on the board.
    Started,
}

/// Bytes of a piece's head.
pub const HEAD: usize = 8;

impl Stream {
    /// Bytes of a piece at most, without its head.
    pub const PIECE: usize = 16 << 10;

    /// The head of a piece of `length` bytes.
    pub fn head(self, length: usize) -> [u8; HEAD] {
        let [a, b, c, d] = (length as u32).to_be_bytes();
        [self as u8, 0, 0, 0, a, b, c, d]
    }

    /// What follows a head, and how many bytes. `None`: it is no head.
    pub fn of_head(head: [u8; HEAD]) -> Option<(Stream, usize)> {
        let [kind, 0, 0, 0, a, b, c, d] = head else {
            return None;
        };
        let stream = match kind {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::End,
            4 => Stream::Size,
            5 => Stream::Started,
            _ => return None,
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        (length <= Self::PIECE).then_some((stream, length))
    }

    /// A whole piece.
    pub fn piece(self, bytes: &[u8]) -> Vec<u8> {
        [&self.head(bytes.len()), bytes].concat()
    }

    /// [`Stream::End`]'s.
    pub fn end(code: i32, words: &str) -> Vec<u8> {
        let words = words.as_bytes();
        let words = &words[..words.len().min(Self::PIECE - 4)];
        Stream::End.piece(&[&code.to_be_bytes(), words].concat())
    }

    /// Exit code, and why there was no program.
    pub fn read_end(bytes: &[u8]) -> Option<(i32, String)> {
        let (code, words) = bytes.split_first_chunk()?;
        let words = String::from_utf8_lossy(words).into_owned();
        Some((i32::from_be_bytes(*code), words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Exec {
        Exec {
            app: AppName::new("web").unwrap(),
            args: vec!["sh".into()],
            env: vec!["A=b=c".into()],
            user: None,
            cwd: Some("/tmp".into()),
            stdin: false,
            tty: None,
        }
    }

    #[test]
    fn what_goes_beyond_the_limits_is_refused_by_name() {
        assert_eq!(exec().check(), Ok(()));
        let refused = |change: fn(&mut Exec)| {
            let mut wanted = exec();
            change(&mut wanted);
            wanted.check().unwrap_err()
        };
        assert_eq!(refused(|e| e.args.clear()), "no program is named");
        assert_eq!(refused(|e| e.args[0].clear()), "no program is named");
        let many = refused(|e| e.args = vec!["a".into(); LIMITS.entries_per_app + 1]);
        assert_eq!(many, "129 arguments; the limit is 128");
        let many = refused(|e| e.env = vec!["a=b".into(); LIMITS.entries_per_app + 1]);
        assert_eq!(many, "129 variables; the limit is 128");
        let long = refused(|e| e.args.push("x".repeat(LIMITS.text_bytes + 1)));
        assert!(long.ends_with("the limit is 4096"), "{long}");
        assert!(refused(|e| e.args.push("a\0b".into())).contains("zero"));
        assert!(refused(|e| e.cwd = Some("tmp".into())).contains("`tmp`"));
        for bad in ["A", "=b", ""] {
            let mut wanted = exec();
            wanted.env = vec![bad.into()];
            assert!(wanted.check().unwrap_err().contains("KEY=value"), "{bad}");
        }
    }

    #[test]
    fn pieces_are_dockers() {
        assert_eq!(Stream::Stderr.piece(b"hi"), b"\x02\0\0\0\0\0\0\x02hi");
        let head = Stream::Stdout.head(Stream::PIECE);
        assert_eq!(Stream::of_head(head), Some((Stream::Stdout, Stream::PIECE)));
        for bad in [
            Stream::Stdout.head(Stream::PIECE + 1),
            [6, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Stream::of_head(bad), None, "{bad:?}");
        }
        let end = Stream::end(-1, "no");
        assert_eq!(Stream::read_end(&end[HEAD..]), Some((-1, "no".into())));
        assert_eq!(Stream::read_end(b"abc"), None);
        let long = Stream::end(1, &"x".repeat(1 << 20));
        assert_eq!(long.len(), HEAD + Stream::PIECE);
    }
}
