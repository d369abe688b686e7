//! D-Bus messages (D-Bus specification, "Type System" and "Message Protocol"): what is said of systemd's calls, and what may be
//! heard. Everything heard is checked against its own bounds, and the whole against [`LARGEST`].

/// A message that is larger is none that we wait for.
pub const LARGEST: usize = 256 << 10;

/// Before a message's fields: enough to know how long it is.
pub const FIXED: usize = 16;

pub const METHOD_CALL: u8 = 1;
pub const METHOD_RETURN: u8 = 2;
pub const ERROR: u8 = 3;
pub const SIGNAL: u8 = 4;

/// What a property can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    Numbers(Vec<u32>),
    /// Path and number.
    Rates(Vec<(String, u64)>),
    /// Path and access.
    Access(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Number(_) => "t",
            Value::Text(_) => "s",
            Value::Bytes(_) => "ay",
            Value::Numbers(_) => "au",
            Value::Rates(_) => "a(st)",
            Value::Access(_) => "a(ss)",
        }
    }
}

/// Arguments, written one after another, little-endian.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
    signature: String,
}

impl Body {
    pub fn text(mut self, text: &str) -> Body {
        self.signature.push('s');
        self.put_text(text);
        self
    }

    pub fn flag(mut self, flag: bool) -> Body {
        self.signature.push('b');
        self.put_u32(u32::from(flag));
        self
    }

    pub fn properties(mut self, properties: &[(&str, Value)]) -> Body {
        self.signature.push_str("a(sv)");
        self.put_array(8, properties, |body, (name, value)| {
            body.align(8);
            body.put_text(name);
            body.put_variant(value);
        });
        self
    }

    /// The other units of a StartTransientUnit.
    pub fn no_units(mut self) -> Body {
        self.signature.push_str("a(sa(sv))");
        self.put_array(8, &[(); 0], |_, ()| {});
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put_u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.align(8);
        self.bytes.extend(number.to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn put_signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// Its length counts from the first element, behind what aligns it.
    fn put_array<T>(&mut self, alignment: usize, all: &[T], put: impl Fn(&mut Body, &T)) {
        self.put_u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        for one in all {
            put(self, one);
        }
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn put_variant(&mut self, value: &Value) {
        self.put_signature(value.signature());
        match value {
            Value::Bool(flag) => self.put_u32(u32::from(*flag)),
            Value::Number(number) => self.put_u64(*number),
            Value::Text(text) => self.put_text(text),
            Value::Bytes(bytes) => self.put_array(1, bytes, |body, byte| body.bytes.push(*byte)),
            Value::Numbers(all) => self.put_array(4, all, |body, number| body.put_u32(*number)),
            Value::Rates(all) => self.put_array(8, all, |body, (path, number)| {
                body.align(8);
                body.put_text(path);
                body.put_u64(*number);
            }),
            Value::Access(all) => self.put_array(8, all, |body, (path, access)| {
                body.align(8);
                body.put_text(path);
                body.put_text(access);
            }),
        }
    }
}

/// To whom a call goes.
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

pub fn call(serial: u32, to: &Call<'_>, body: &Body) -> Vec<u8> {
    let mut message = Body::default();
    // Little-endian, no flags, version 1.
    message.bytes.extend([b'l', METHOD_CALL, 0, 1]);
    message.put_u32(body.bytes.len() as u32);
    message.put_u32(serial);
    let fields = [
        (PATH, "o", to.path),
        (INTERFACE, "s", to.interface),
        (MEMBER, "s", to.member),
        (DESTINATION, "s", to.destination),
        (SIGNATURE, "g", body.signature.as_str()),
    ];
    let given = if body.signature.is_empty() { 4 } else { 5 };
    message.put_array(8, &fields[..given], |message, (code, kind, text)| {
        message.align(8);
        message.bytes.push(*code);
        message.put_signature(kind);
        match *kind {
            "g" => message.put_signature(text),
            _ => message.put_text(text),
        }
    });
    message.align(8);
    message.bytes.extend(&body.bytes);
    message.bytes
}

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

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

#[cfg(test)]
pub mod tests;
