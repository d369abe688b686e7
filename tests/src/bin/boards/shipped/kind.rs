//! The boards that boot their disks, and how much each is asked for.

use super::disk::{Init, Shipped};

/// The boards that are booted so. Memory is that of the board that each stands for.
pub const SHIPPED: [Kind; 7] = [
    // The profile qemux86-64, as are the next ones. Where there are two CPUs, an app can have one for itself.
    Kind {
        name: "x86-64",
        board: "x86-64",
        init: Init::Sysvinit,
        memory_mib: 256,
        cpus: 2,
        site: None,
        usb: true,
    },
    Kind {
        name: "x86-64-v1",
        board: "x86-64-v1",
        init: Init::Sysvinit,
        memory_mib: 256,
        cpus: 2,
        site: None,
        usb: true,
    },
    Kind {
        name: "x86-64-systemd",
        board: "x86-64",
        init: Init::Systemd,
        memory_mib: 256,
        cpus: 1,
        site: None,
        usb: true,
    },
    Kind {
        name: "x86-64-systemd-v1",
        board: "x86-64-v1",
        init: Init::Systemd,
        memory_mib: 256,
        cpus: 1,
        site: None,
        usb: true,
    },
    // The least that has room for these apps and what Linux and Coracle take themselves.
    Kind {
        name: "x86-64-least",
        board: "x86-64",
        init: Init::Sysvinit,
        memory_mib: 106,
        cpus: 1,
        site: Some("[reserve]\nmemory_mib = 24\n"),
        usb: false,
    },
    // A Raspberry Pi 3.
    Kind {
        name: "arm64",
        board: "arm64",
        init: Init::Sysvinit,
        memory_mib: 1024,
        cpus: 4,
        site: None,
        usb: true,
    },
    // A BeagleBone Black.
    Kind {
        name: "armv7",
        board: "armhf",
        init: Init::Sysvinit,
        memory_mib: 512,
        cpus: 1,
        site: None,
        usb: true,
    },
];

/// How much of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// What an update hangs on, in minutes: without each limit being tried, what is measured at rest, sticks, and another agent.
    Quick,
}

impl Extent {
    pub fn name(self) -> &'static str {
        match self {
            Extent::Whole => "whole",
            Extent::Quick => "quick",
        }
    }
}

/// A board that boots its disk.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    pub name: &'a str,
    /// Whose kernel and cgroups it has.
    pub board: &'a str,
    pub init: Init,
    pub memory_mib: u32,
    pub cpus: u32,
    /// What its site changes of the profile.
    pub site: Option<&'a str>,
    /// Whether its kernel knows USB: sticks are plugged in while it runs. Elsewhere one is a second disk.
    pub usb: bool,
}

impl Kind<'_> {
    /// For the table of docs/boards.md.
    pub fn made_of(&self, shipped: &Shipped) -> String {
        let init = match self.init {
            Init::Sysvinit => "busybox",
            Init::Systemd => "systemd",
        };
        let (layout, cpus) = (shipped.layout.name(), self.cpus);
        let plural = if cpus == 1 { "" } else { "s" };
        format!("{}, {layout}, {init}, {cpus} CPU{plural}", shipped.release)
    }
}
