//! A record in the making.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use flate2::Crc;

use super::{END, FILE, Last, MAGIC, MOST, NEW, SAME, filling};

/// So many bytes that are the same are worth an operation of their own.
const WORTH: u64 = 4;

/// New bytes that are held before they are written.
const HELD: usize = 4096;

/// Passes a tar stream on and records it, if there is a file for that.
pub(crate) struct Recorder<R> {
    inner: R,
    /// None: not wanted, or given up.
    out: Option<BufWriter<File>>,
    written: u64,
    contents: bool,
    last: Last,
    new: Vec<u8>,
    /// Bytes that are the same, behind the new ones.
    same: u64,
    /// Of the file whose contents pass.
    file: u64,
    crc: Crc,
    /// Zeros that are still to come behind it.
    filling: u64,
}

impl<R> Recorder<R> {
    pub(crate) fn new(inner: R, file: Option<File>) -> Self {
        Self {
            inner,
            out: file.map(|file| BufWriter::with_capacity(HELD, file)),
            written: 0,
            contents: false,
            last: Last::new(),
            new: Vec::new(),
            same: 0,
            file: 0,
            crc: Crc::new(),
            filling: 0,
        }
    }

    /// Whether what is read next is a file's contents.
    pub(crate) fn is_contents(&mut self, contents: bool) {
        self.contents = contents;
    }

    /// Whether there is a whole record now.
    pub(crate) fn finish(mut self) -> io::Result<bool> {
        self.end_file()?;
        self.flush()?;
        self.number(END)?;
        match &mut self.out {
            Some(out) => out.flush().map(|()| true),
            None => Ok(false),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.contents {
            if self.file == 0 {
                self.flush()?;
            }
            self.file += bytes.len() as u64;
            self.crc.update(bytes);
            return Ok(());
        }
        self.end_file()?;
        for &byte in bytes {
            if self.filling > 0 {
                self.filling -= 1;
                if byte != 0 {
                    self.out = None;
                }
                continue;
            }
            self.push(byte)?;
        }
        Ok(())
    }

    fn push(&mut self, byte: u8) -> io::Result<()> {
        if byte == self.last.one() {
            self.same += 1;
        } else {
            if self.same >= WORTH || self.new.len() >= HELD {
                self.flush()?;
            }
            let few = self.last.bytes.iter().cycle();
            let from = self.last.at + self.last.bytes.len() - self.same as usize;
            self.new.extend(few.skip(from).take(self.same as usize));
            self.same = 0;
            self.new.push(byte);
        }
        self.last.push(byte);
        Ok(())
    }

    /// Writes what is held.
    fn flush(&mut self) -> io::Result<()> {
        let new = std::mem::take(&mut self.new);
        if !new.is_empty() {
            self.number((new.len() as u64) << 2 | NEW)?;
            self.put(&new)?;
        }
        let same = std::mem::take(&mut self.same);
        if same > 0 {
            self.number(same << 2 | SAME)?;
        }
        self.new = new;
        self.new.clear();
        Ok(())
    }

    fn end_file(&mut self) -> io::Result<()> {
        if self.file > 0 {
            self.number(self.file << 2 | FILE)?;
            self.put(&self.crc.sum().to_le_bytes())?;
            self.filling = filling(self.file);
            self.file = 0;
            self.crc.reset();
        }
        Ok(())
    }

    fn number(&mut self, mut number: u64) -> io::Result<()> {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            bytes[length] = (number & 0x7f) as u8;
            number >>= 7;
            length += 1;
            if number == 0 {
                return self.put(&bytes[..length]);
            }
            bytes[length - 1] |= 0x80;
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        if self.written == 0 {
            out.write_all(MAGIC)?;
        }
        self.written += bytes.len() as u64;
        if self.written > MOST {
            self.out = None;
            return Ok(());
        }
        out.write_all(bytes)
    }
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.out.is_some() {
            self.take(&buffer[..read])?;
        }
        Ok(read)
    }
}
