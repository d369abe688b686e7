//! Capabilities: names, Docker's default set, and putting them on a process.

use crate::failure::{At, Failure, Step};
use crate::kernel::confine;

macro_rules! capabilities {
    ($($name:ident = $number:literal,)*) => {
        /// One capability, by the kernel's number (linux/capability.h).
        #[allow(non_camel_case_types, reason = "the names that people write in compose files and man pages")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Capability { $($name = $number,)* }

        impl Capability {
            /// All that this version knows.
            pub const ALL: &[Capability] = &[$(Capability::$name,)*];

            /// Without the `CAP_` in front.
            pub fn name(self) -> &'static str {
                match self { $(Capability::$name => stringify!($name),)* }
            }
        }
    };
}

capabilities! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6, SETUID = 7,
    SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10, NET_BROADCAST = 11, NET_ADMIN = 12, NET_RAW = 13,
    IPC_LOCK = 14, IPC_OWNER = 15, SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20,
    SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25, SYS_TTY_CONFIG = 26, MKNOD = 27,
    LEASE = 28, AUDIT_WRITE = 29, AUDIT_CONTROL = 30, SETFCAP = 31, MAC_OVERRIDE = 32, MAC_ADMIN = 33, SYSLOG = 34,
    WAKE_ALARM = 35, BLOCK_SUSPEND = 36, AUDIT_READ = 37, PERFMON = 38, BPF = 39, CHECKPOINT_RESTORE = 40,
}

impl Capability {
    /// `CAP_NET_RAW`, `NET_RAW` or `net_raw`.
    pub fn from_name(name: &str) -> Option<Capability> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }

    fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// Docker's default fourteen (moby `oci/caps/defaults.go`).
pub const DOCKER: [Capability; 14] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FSETID,
    Capability::FOWNER,
    Capability::MKNOD,
    Capability::NET_RAW,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETFCAP,
    Capability::SETPCAP,
    Capability::NET_BIND_SERVICE,
    Capability::SYS_CHROOT,
    Capability::KILL,
    Capability::AUDIT_WRITE,
];

/// What a process may hold. It fills all five sets of the kernel: bounding always; permitted and effective for root;
/// inheritable and ambient stay empty unless [`ambient`](Capabilities::ambient) asks, since a filled inheritable set
/// let a file's capabilities through to ordinary users (CVE-2022-24769).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    bits: u64,
    /// What a user other than root keeps as well; always within the set.
    ambient: u64,
    /// In place of what follows from the two above.
    exact: Option<Sets>,
}

/// The kernel's other sets (capabilities(7)); `bits` is the bounding one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

impl Capabilities {
    pub fn none() -> Capabilities {
        Capabilities::default()
    }

    pub fn docker() -> Capabilities {
        DOCKER
            .into_iter()
            .fold(Capabilities::none(), Capabilities::with)
    }

    /// The five sets one by one, whoever the user is: bounding, effective, permitted, inheritable, ambient.
    pub fn exactly(sets: [&[Capability]; 5]) -> Capabilities {
        let [bits, effective, permitted, inheritable, ambient] =
            sets.map(|set| set.iter().fold(0, |bits, one| bits | one.bit()));
        Capabilities {
            bits,
            ambient,
            exact: Some(Sets {
                effective,
                permitted,
                inheritable,
            }),
        }
    }

    #[must_use]
    pub fn with(mut self, capability: Capability) -> Capabilities {
        self.bits |= capability.bit();
        self
    }

    #[must_use]
    pub fn without(mut self, capability: Capability) -> Capabilities {
        self.bits &= !capability.bit();
        self.ambient &= self.bits;
        self
    }

    /// Adds one that the process keeps even as an ordinary user and through execve.
    #[must_use]
    pub fn ambient(self, capability: Capability) -> Capabilities {
        let mut with = self.with(capability);
        with.ambient |= capability.bit();
        with
    }

    pub fn contains(self, capability: Capability) -> bool {
        self.bits & capability.bit() != 0
    }

    /// First half, before the change of user, while CAP_SETPCAP is still there.
    pub(crate) fn bound(self) -> Result<(), Failure> {
        confine::limit_bounding_set(self.bits).at(Step::Capabilities, "bounding set")?;
        // Otherwise a change from root to another user empties permitted, and ambient would have nothing to draw on.
        nix::sys::prctl::set_keepcaps(true).at(Step::Capabilities, "keepcaps")
    }

    /// Second half, after it.
    pub(crate) fn apply(self, uid: u32) -> Result<(), Failure> {
        let held = if uid == 0 { self.bits } else { self.ambient };
        let sets = self.exact.unwrap_or(Sets {
            effective: held,
            permitted: held,
            inheritable: self.ambient,
        });
        confine::set_capabilities(sets.effective, sets.permitted, sets.inheritable)
            .at(Step::Capabilities, "permitted set")?;
        confine::set_ambient(self.ambient).at(Step::Capabilities, "ambient set")?;
        nix::sys::prctl::set_keepcaps(false).at(Step::Capabilities, "keepcaps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_set_is_the_well_known_mask() {
        // CapBnd of a process in `docker run`.
        assert_eq!(Capabilities::docker().bits, 0x0000_0000_a804_25fb);
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for name in ["CAP_NET_RAW", "NET_RAW", "net_raw", "cap_net_raw"] {
            assert_eq!(
                Capability::from_name(name),
                Some(Capability::NET_RAW),
                "{name}"
            );
        }
        assert_eq!(Capability::from_name("NET_COOKED"), None);
    }

    #[test]
    fn numbers_are_their_positions() {
        for (number, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(*capability as usize, number);
        }
    }

    #[test]
    fn dropping_one_drops_it_from_ambient_too() {
        let set = Capabilities::none()
            .ambient(Capability::NET_RAW)
            .without(Capability::NET_RAW);
        assert_eq!(set, Capabilities::none());
    }
}
