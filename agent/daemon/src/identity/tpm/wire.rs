//! Bytes of commands and answers (TCG, "TPM 2.0 Library", part 2: Structures). Integers are big-endian; a sized buffer
//! has its length, two bytes, before it.

/// Longest answer that is read. TPM2_PT_MAX_RESPONSE_SIZE is 4096 where there are TPMs.
pub(super) const ANSWER_LIMIT: usize = 4096;
/// A wrapped P-256 key has some 130 bytes.
pub(super) const PRIVATE_LIMIT: usize = 512;
/// Bytes before what an answer is about: tag, size, code.
pub(super) const HEADER: usize = 10;

/// TPM_CC.
pub(super) const CREATE_PRIMARY: u32 = 0x131;
pub(super) const CREATE: u32 = 0x153;
pub(super) const LOAD: u32 = 0x157;
pub(super) const SIGN: u32 = 0x15d;
pub(super) const FLUSH: u32 = 0x165;
/// TPM_RH_OWNER.
pub(super) const OWNER: u32 = 0x4000_0001;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const ECC: u16 = 0x0023;
const SHA256: u16 = 0x000b;
const NONE: u16 = 0x0010;
const ECDSA: u16 = 0x0018;
const NIST_P256: u16 = 0x0003;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA.
const FIXED: u32 = 0x472;
const RESTRICTED_DECRYPT: u32 = 0x3_0000;
const SIGNS: u32 = 0x4_0000;

/// A command on `handles`, the first of which is opened by an empty password; on none at all without it.
pub(super) fn command(code: u32, handles: &[u32], parameters: &[u8]) -> Vec<u8> {
    let tag = match handles {
        [] => NO_SESSIONS,
        _ => SESSIONS,
    };
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(code.to_be_bytes());
    for handle in handles {
        bytes.extend(handle.to_be_bytes());
    }
    if tag == SESSIONS {
        // TPM_RS_PW, no nonce, no attributes, no password.
        bytes.extend(b"\0\0\0\x09\x40\0\0\x09\0\0\0\0\0");
    }
    bytes.extend(parameters);
    let size = (bytes.len() as u32).to_be_bytes();
    bytes[2..6].copy_from_slice(&size);
    bytes
}

/// Appends a sized buffer.
pub(super) fn sized(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend(content);
}

/// Of a command that makes a key: no password, `template`, nothing else.
pub(super) fn creation(template: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 4, 0, 0, 0, 0];
    sized(&mut bytes, template);
    // No outside information, no PCR.
    bytes.extend([0; 6]);
    bytes
}

/// A P-256 key that wraps others: `TPM2_ECC` of the storage hierarchy, AES-128 in CFB mode.
pub(super) fn parent_template() -> Vec<u8> {
    template(FIXED | RESTRICTED_DECRYPT, &[0x0006, 128, 0x0043, NONE])
}

/// A P-256 key that signs by ECDSA with SHA-256.
pub(super) fn signing_template() -> Vec<u8> {
    template(FIXED | SIGNS, &[NONE, ECDSA, SHA256])
}

/// TPMT_PUBLIC; `kind` is what stands before the curve.
fn template(attributes: u32, kind: &[u16]) -> Vec<u8> {
    let mut bytes = beginning(attributes, kind);
    // No point yet.
    bytes.extend([0; 4]);
    bytes
}

fn beginning(attributes: u32, kind: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ECC.to_be_bytes());
    bytes.extend(SHA256.to_be_bytes());
    bytes.extend(attributes.to_be_bytes());
    // No policy.
    bytes.extend([0; 2]);
    for word in kind.iter().chain(&[NIST_P256, NONE]) {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// The wrapped and the public half of a key that was made; what proves how it was made is passed over.
pub(super) fn made(answer: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut read = Read(answer);
    Some((read.sized()?.to_vec(), read.sized()?.to_vec()))
}

/// The point of a key that was made by [`signing_template`]: uncompressed, 65 bytes.
pub(super) fn point(public: &[u8]) -> Option<Vec<u8>> {
    let begins = beginning(FIXED | SIGNS, &[NONE, ECDSA, SHA256]);
    let mut read = Read(public.strip_prefix(&begins[..])?);
    let mut point = vec![4];
    for _ in 0..2 {
        point.extend(number(read.sized()?)?);
    }
    read.0.is_empty().then_some(point)
}

/// 32 bytes, of which a TPM may leave the first ones out.
fn number(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut all = [0; 32];
    let free = 32_usize.checked_sub(bytes.len())?;
    all[free..].copy_from_slice(bytes);
    Some(all)
}

/// Of TPM2_Sign: the digest, the scheme, and no ticket, which a key that is not restricted needs none of.
pub(super) fn to_sign(digest: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    sized(&mut bytes, digest);
    bytes.extend(ECDSA.to_be_bytes());
    bytes.extend(SHA256.to_be_bytes());
    bytes.extend(b"\x80\x24\x40\0\0\x07\0\0");
    bytes
}

/// `r` and `s` of TPMT_SIGNATURE.
pub(super) fn signature(answer: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let mut read = Read(answer);
    let (scheme, hash) = (read.u16()?, read.u16()?);
    let (r, s) = (number(read.sized()?)?, number(read.sized()?)?);
    (scheme == ECDSA && hash == SHA256 && read.0.is_empty()).then_some((r, s))
}

/// What is left of an answer.
pub(super) struct Read<'a>(pub(super) &'a [u8]);

impl<'a> Read<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

/// What an answer holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// TPM_RC.
    pub(super) code: u32,
    pub(super) handle: Option<u32>,
    pub(super) parameters: Vec<u8>,
}

/// Reads a whole answer; one to a command with a session, which every one is that is looked at.
pub(super) fn answer(bytes: &[u8], has_handle: bool) -> Option<Answer> {
    let mut read = Read(bytes);
    let (tag, size, code) = (read.u16()?, read.u32()?, read.u32()?);
    if usize::try_from(size) != Ok(bytes.len()) {
        return None;
    }
    if code != 0 {
        return Some(Answer {
            code,
            handle: None,
            parameters: Vec::new(),
        });
    }
    let handle = match has_handle {
        true => Some(read.u32()?),
        false => None,
    };
    if tag != SESSIONS {
        return None;
    }
    let length = read.u32()?;
    let parameters = read.take(length.try_into().ok()?)?.to_vec();
    Some(Answer {
        code,
        handle,
        parameters,
    })
}
