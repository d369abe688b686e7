//! How a header operation brings the template up to date.

use super::sections::Control;
use crate::delta::DeltaError;
use crate::delta::format::field;
use crate::delta::tar_header::{self as tar, DoesNotFit, Template};

/// Reads the fields that changed. `known` are those that the operation may bring.
pub(super) fn update(
    template: &mut Template,
    control: &mut Control,
    known: u8,
) -> Result<(), DeltaError> {
    let fields = control.byte()?;
    if fields & !known != 0 {
        return Err(DeltaError::Malformed("unknown header field"));
    }
    if fields & field::NAME != 0 {
        let kept = control.number()? as usize;
        let added = control.number()? as usize;
        let mut name = template.name().to_vec();
        if kept > name.len() || added > tar::NAME {
            return Err(DeltaError::Malformed(
                "a name does not fit its header field",
            ));
        }
        name.truncate(kept);
        name.resize(kept + added, 0);
        control.fill(&mut name[kept..])?;
        template.set_text(0..tar::NAME, &name).map_err(unfit)?;
    }
    if fields & field::SIZE != 0 {
        let size = control.number()?;
        template.set_number(tar::SIZE, size).map_err(unfit)?;
    }
    if fields & field::MTIME != 0 {
        let change = control.signed()?;
        let mtime = template.number(tar::MTIME).wrapping_add_signed(change);
        template.set_number(tar::MTIME, mtime).map_err(unfit)?;
    }
    if fields & field::MODE != 0 {
        let mode = control.number()?;
        template.set_number(tar::MODE, mode).map_err(unfit)?;
    }
    if fields & field::TYPE != 0 {
        template.0[tar::TYPE] = control.byte()?;
    }
    if fields & field::LINK != 0 {
        let length = control.number()?;
        let link = control.text(length, tar::LINK.len())?;
        template.set_text(tar::LINK, &link).map_err(unfit)?;
    }
    if fields & field::OWNER != 0 {
        let uid = control.number()?;
        let gid = control.number()?;
        template.set_number(tar::UID, uid).map_err(unfit)?;
        template.set_number(tar::GID, gid).map_err(unfit)?;
    }
    Ok(())
}

/// A value that its header field has no room for.
pub(super) fn unfit(_: DoesNotFit) -> DeltaError {
    DeltaError::Malformed("a value does not fit its header field")
}
