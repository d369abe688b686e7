//! What differs between architectures.

use anyhow::Result;
use coracle_tests::service::run;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Arm64,
    /// 32-bit ARM with hardware floating point: Debian's armhf.
    Armhf,
}

impl Arch {
    /// Debian's package that depends on the newest kernel. For x86-64 the small variant, of which the virtual machine's
    /// devices are enough.
    pub fn kernel_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "linux-image-cloud-amd64",
            Arch::Arm64 => "linux-image-arm64:arm64",
            Arch::Armhf => "linux-image-armmp:armhf",
        }
    }

    pub fn busybox_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "busybox-static:amd64",
            Arch::Arm64 => "busybox-static:arm64",
            Arch::Armhf => "busybox-static:armhf",
        }
    }

    /// Debian's suite to take packages from; None where this machine's apt is set up for the architecture.
    pub const fn suite(self) -> Option<&'static str> {
        match self {
            Arch::X86_64 | Arch::Arm64 => None,
            Arch::Armhf => Some("bookworm"),
        }
    }

    pub fn qemu(self) -> &'static str {
        match self {
            Arch::X86_64 => "qemu-system-x86_64",
            Arch::Arm64 => "qemu-system-aarch64",
            Arch::Armhf => "qemu-system-arm",
        }
    }

    /// Machine and processor: on x86 all that QEMU can do, on ARM what a Raspberry Pi 4 has.
    pub fn qemu_arguments(self) -> &'static [&'static str] {
        match self {
            Arch::X86_64 => &["-M", "q35", "-cpu", "max"],
            Arch::Arm64 => &["-M", "virt", "-cpu", "cortex-a72"],
            // A kernel without LPAE reaches nothing above 4 GiB.
            Arch::Armhf => &["-M", "virt,highmem=off", "-cpu", "cortex-a15"],
        }
    }

    /// How instructions are translated: on x86 by one thread for all CPUs, since kernels patch their own code behind an
    /// `int3` that the others must not run into, and with a thread for each they did (Linux 6.12 on QEMU 7.2).
    pub fn qemu_accelerator(self) -> &'static str {
        match self {
            Arch::X86_64 => "tcg,thread=single",
            Arch::Arm64 | Arch::Armhf => "tcg,thread=multi",
        }
    }

    /// Further words for the kernel: a machine that is busy is late with the first ticks of the timer, which Linux takes for a
    /// broken one, and stops.
    pub fn kernel_words(self) -> &'static str {
        match self {
            Arch::X86_64 => " no_timer_check",
            Arch::Arm64 | Arch::Armhf => "",
        }
    }

    /// The kernel's name of the first serial line.
    pub fn console(self) -> &'static str {
        match self {
            Arch::X86_64 => "ttyS0",
            Arch::Arm64 | Arch::Armhf => "ttyAMA0",
        }
    }

    /// Rust's name and the linker, when this machine is another one. Then programs are static, for there are no
    /// libraries to copy.
    pub fn cross(self) -> Option<(&'static str, &'static str)> {
        match self {
            Arch::X86_64 if cfg!(target_arch = "x86_64") => None,
            Arch::Arm64 if cfg!(target_arch = "aarch64") => None,
            Arch::X86_64 => Some(("x86_64-unknown-linux-gnu", "x86_64-linux-gnu-gcc")),
            Arch::Arm64 => Some(("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc")),
            Arch::Armhf => Some(("armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf-gcc")),
        }
    }

    /// What `make arm` gives rustc: on ARMv7 Thumb instructions, which are a quarter shorter.
    pub fn shipped_flags(self) -> Result<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/board/flags.sh");
        let mut command = Command::new(script);
        if self == Arch::Armhf {
            command.arg("+thumb-mode");
        }
        run(&mut command)
    }
}
