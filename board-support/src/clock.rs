//! Whether the kernel holds its clock to be right. Boards without a battery start in 1970, others come up
//! years ahead; only a clock that somebody keeps (NTP, PTP, GNSS) can tell that something has expired.

use crate::kernel;

/// `STA_UNSYNC` is not set and the state is not `TIME_ERROR` (adjtimex(2)). The kernel sets both at boot, and
/// again when nobody has disciplined the clock for hours.
pub fn is_synchronised() -> bool {
    kernel::clock_state()
        .is_some_and(|(state, status)| state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        let (state, status) = kernel::clock_state().expect("adjtimex");
        assert!((0..=libc::TIME_ERROR).contains(&state), "{state}");
        let unsynchronised = status & libc::STA_UNSYNC != 0;
        assert!(!(unsynchronised && is_synchronised()));
    }
}
