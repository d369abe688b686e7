//! Tar headers as what differs from the header before.

use super::super::format::{field, op, put_number, put_signed};
use super::super::tar_header::{self as tar, BLOCK, Template};

/// The decoder's template, followed step by step.
pub(super) struct Headers {
    template: Template,
}

impl Headers {
    pub(super) fn new() -> Self {
        Self {
            template: Template::new(),
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        self.template.name()
    }

    pub(super) fn set(&mut self, template: Template) {
        self.template = template;
    }

    /// Writes a header operation for `block`, if the template can be brought to it.
    pub(super) fn differing(&mut self, block: &[u8; BLOCK], control: &mut Vec<u8>) -> bool {
        self.write(block, op::HEADER, control)
    }

    /// The same for a file whose content and size are those of the base file of its name.
    pub(super) fn same_file(&mut self, block: &[u8; BLOCK], control: &mut Vec<u8>) -> bool {
        self.write(block, op::SAME_FILE, control)
    }

    fn write(&mut self, block: &[u8; BLOCK], operation: u8, control: &mut Vec<u8>) -> bool {
        let wanted = Template(*block);
        let mut made = self.template.clone();
        let mut out = Vec::new();
        let Some(fields) = fields(&mut made, &wanted, operation == op::SAME_FILE, &mut out) else {
            return false;
        };
        // The last word has the comparison: a header may be unusual in a hundred ways.
        if made.set_checksum().is_err() || made.0 != wanted.0 {
            return false;
        }
        self.template = made;
        control.extend([operation, fields]);
        control.extend(out);
        true
    }
}

fn fields(made: &mut Template, wanted: &Template, same: bool, out: &mut Vec<u8>) -> Option<u8> {
    let mut fields = 0;
    if made.name() != wanted.name() {
        let (old, new) = (made.name(), wanted.name());
        let kept = old
            .iter()
            .zip(new)
            .take_while(|(old, new)| old == new)
            .count();
        put_number(out, kept as u64);
        put_number(out, (new.len() - kept) as u64);
        out.extend_from_slice(&new[kept..]);
        made.set_text(0..tar::NAME, wanted.name()).ok()?;
        fields |= field::NAME;
    }
    let size = wanted.number(tar::SIZE);
    if same {
        made.set_number(tar::SIZE, size).ok()?;
    } else if made.number(tar::SIZE) != size {
        put_number(out, size);
        made.set_number(tar::SIZE, size).ok()?;
        fields |= field::SIZE;
    }
    let (old, new) = (made.number(tar::MTIME), wanted.number(tar::MTIME));
    if old != new {
        put_signed(out, new.wrapping_sub(old) as i64);
        made.set_number(tar::MTIME, new).ok()?;
        fields |= field::MTIME;
    }
    let mode = wanted.number(tar::MODE);
    if made.number(tar::MODE) != mode {
        put_number(out, mode);
        made.set_number(tar::MODE, mode).ok()?;
        fields |= field::MODE;
    }
    if made.0[tar::TYPE] != wanted.0[tar::TYPE] {
        made.0[tar::TYPE] = wanted.0[tar::TYPE];
        out.push(wanted.0[tar::TYPE]);
        fields |= field::TYPE;
    }
    if made.text(tar::LINK) != wanted.text(tar::LINK) {
        let link = wanted.text(tar::LINK);
        put_number(out, link.len() as u64);
        out.extend_from_slice(link);
        made.set_text(tar::LINK, link).ok()?;
        fields |= field::LINK;
    }
    let (uid, gid) = (wanted.number(tar::UID), wanted.number(tar::GID));
    if (made.number(tar::UID), made.number(tar::GID)) != (uid, gid) {
        put_number(out, uid);
        put_number(out, gid);
        made.set_number(tar::UID, uid).ok()?;
        made.set_number(tar::GID, gid).ok()?;
        fields |= field::OWNER;
    }
    Some(fields)
}
