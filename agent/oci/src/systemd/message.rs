//! D-Bus messages (D-Bus specification, "Type System" and "Message Protocol"): what is said of systemd's calls, and what may be
//! heard. Everything heard is checked against its own bounds, and the whole against [`LARGEST`].

mod heard;

pub use heard::{Message, length, parse};

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

#[cfg(test)]
pub mod tests;
