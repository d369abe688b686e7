//! Messages that are heard: each value is taken against the bounds of the message, which is held against [`LARGEST`].

use super::*;

/// One that was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub answers: Option<u32>,
    pub interface: String,
    pub member: String,
    pub error: String,
    pub sender: String,
    pub signature: String,
    big_endian: bool,
    body: Vec<u8>,
}

/// How long the whole message is, which begins with these bytes.
pub fn length(fixed: &[u8; FIXED]) -> Result<usize, &'static str> {
    let big_endian = endianness(fixed[0])?;
    if fixed[3] != 1 {
        return Err("a message of another version of D-Bus");
    }
    let mut reader = Reader::new(fixed, big_endian);
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    if body > LARGEST || fields > LARGEST {
        return Err("a message that is too large");
    }
    let whole = (FIXED + fields).next_multiple_of(8) + body;
    if whole > LARGEST {
        return Err("a message that is too large");
    }
    Ok(whole)
}

/// The whole of it.
pub fn parse(bytes: &[u8]) -> Result<Message, &'static str> {
    let fixed = bytes.first_chunk().ok_or(CUT)?;
    if length(fixed)? != bytes.len() {
        return Err(CUT);
    }
    let mut message = Message {
        kind: bytes[1],
        big_endian: endianness(bytes[0])?,
        ..Message::default()
    };
    let mut reader = Reader::new(bytes, message.big_endian);
    reader.at = 12;
    let end = reader.u32()? as usize + FIXED;
    while reader.at < end {
        reader.align(8)?;
        let code = reader.byte()?;
        let kind = reader.signature()?;
        let (mut number, mut text) = (0, "");
        match kind {
            "u" => number = reader.u32()?,
            "s" | "o" => text = reader.text()?,
            "g" => text = reader.signature()?,
            "y" => number = reader.byte()?.into(),
            _ => return Err("a header field of an unknown kind"),
        }
        match (code, kind) {
            (REPLY_SERIAL, "u") => message.answers = Some(number),
            (INTERFACE, "s") => message.interface = text.into(),
            (MEMBER, "s") => message.member = text.into(),
            (ERROR_NAME, "s") => message.error = text.into(),
            (SENDER, "s") => message.sender = text.into(),
            (SIGNATURE, "g") => message.signature = text.into(),
            (INTERFACE | MEMBER | ERROR_NAME | REPLY_SERIAL | SENDER | SIGNATURE, _) => {
                return Err("a header field of a wrong kind");
            }
            _ => {}
        }
    }
    if reader.at != end {
        return Err(CUT);
    }
    reader.align(8)?;
    message.body = bytes[reader.at..].into();
    Ok(message)
}

impl Message {
    /// Its arguments, which must be these.
    pub fn arguments(&self, signature: &str) -> Result<Reader<'_>, &'static str> {
        if self.signature != signature {
            return Err("other arguments than expected");
        }
        Ok(Reader::new(&self.body, self.big_endian))
    }

    /// What an error says for people; nothing when it says nothing.
    pub fn explanation(&self) -> &str {
        if !self.signature.starts_with('s') {
            return "";
        }
        Reader::new(&self.body, self.big_endian)
            .text()
            .unwrap_or_default()
    }
}

fn endianness(byte: u8) -> Result<bool, &'static str> {
    match byte {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err("something that is no D-Bus message"),
    }
}

const CUT: &str = "a message that does not fit its own lengths";

/// Takes one value after another.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], big_endian: bool) -> Reader<'a> {
        Reader {
            bytes,
            at: 0,
            big_endian,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), &'static str> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    pub fn u32(&mut self) -> Result<u32, &'static str> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| CUT)?;
        Ok(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// Also the path of an object.
    pub fn text(&mut self) -> Result<&'a str, &'static str> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<&'a str, &'static str> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    /// A text within a variant.
    pub fn variant_text(&mut self) -> Result<&'a str, &'static str> {
        match self.signature()? {
            "s" => self.text(),
            _ => Err("a value of another kind than text"),
        }
    }

    fn terminated(&mut self, length: usize) -> Result<&'a str, &'static str> {
        let text = self.take(length)?;
        if self.byte()? != 0 || text.contains(&0) {
            return Err(CUT);
        }
        std::str::from_utf8(text).map_err(|_| "text that is no UTF-8")
    }
}
