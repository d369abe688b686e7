//! A TPM's error codes (TCG, "TPM 2.0 Library", part 2, section 6.6) in words that say what to do.

/// A code of format one without the number of the parameter, handle or session that it is about.
fn plain(code: u32) -> u32 {
    match code & 0x80 {
        0 => code,
        _ => code & 0xbf,
    }
}

const INTEGRITY: u32 = 0x9f;

/// The wrapped key was not wrapped by this TPM as it is now.
pub(super) fn is_integrity(code: u32) -> bool {
    plain(code) == INTEGRITY
}

/// TPM_RC_YIELDED, _TESTING, _NV_RATE, _RETRY.
pub(super) fn is_busy(code: u32) -> bool {
    matches!(code, 0x908 | 0x90a | 0x920 | 0x922)
}

pub(super) fn words(code: u32) -> &'static str {
    match plain(code) {
        0x85 | 0x120 => "its owner hierarchy is switched off; the firmware's settings switch it on",
        0x8b | 0x910..=0x916 => "another user of it took the key away; it is tried again",
        0x8e | 0xa2 => {
            "its owner hierarchy has a password, and Coracle knows none: `tpm2_changeauth -c owner` takes it away"
        }
        0x84 | 0x92 | 0xa6 | 0x143 => {
            "it knows no ECDSA P-256, or not as it is asked for; `[identity] key = \"file\"` does without"
        }
        INTEGRITY => "the key was not wrapped by it as it is now",
        0x100 => {
            "it was not started: TPM2_Startup is the firmware's, or swtpm's `--flags startup-clear`"
        }
        0x101 => {
            "it has failed its own test; power the board off and on, and if that does not help replace it"
        }
        0x902..=0x905 => {
            "it has no memory left for keys: use /dev/tpmrm0, or find out who else uses it without the kernel's resource manager"
        }
        0x921 => "it is locked after wrong passwords; it opens by itself after a while",
        code if is_busy(code) => "it is busy; it is tried again",
        _ => "see TPM_RC in part 2 of the TPM 2.0 library, or `tpm2_rc_decode`",
    }
}
