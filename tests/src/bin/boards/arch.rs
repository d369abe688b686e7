//! What differs between architectures.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
}

impl Arch {
    /// Debian's package that depends on the newest kernel; the small variants for virtual machines, where there is one.
    pub fn kernel_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "linux-image-cloud-amd64",
        }
    }

    pub fn qemu(self) -> &'static str {
        match self {
            Arch::X86_64 => "qemu-system-x86_64",
        }
    }

    /// Machine and processor.
    pub fn qemu_arguments(self) -> &'static [&'static str] {
        match self {
            Arch::X86_64 => &["-M", "q35", "-cpu", "max"],
        }
    }

    /// The kernel's name of the first serial line.
    pub fn console(self) -> &'static str {
        match self {
            Arch::X86_64 => "ttyS0",
        }
    }
}
