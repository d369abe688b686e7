//! What is on the board beside processor, memory and disk: devices that apps may ask for, the
//! watchdog, lights, temperatures, and where the serial number stands.

use super::{Count, Percent};
use crate::config::PlainName;
use crate::devices;
use crate::text::{Text, cut, read_text};
use heapless::Vec;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One entry of `devices`: what an app may ask for by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppDevice {
    /// `gpio`; what an app says.
    pub name: PlainName,
    /// What it is.
    pub kind: DeviceKind,
    /// Patterns over `/dev/…`, `*` and `?`, which end at each `/`: every character device that matches belongs to it.
    pub nodes: Vec<Text, 8>,
}

impl AppDevice {
    /// Whether a pattern stays where such devices are.
    pub(super) fn may_have(&self, pattern: &str) -> bool {
        match (self.kind, pattern.strip_prefix("/dev/")) {
            (DeviceKind::Can, _) => !pattern.is_empty() && !pattern.contains('/'),
            // An app is told of several with a space between.
            (_, Some(below)) => {
                let mut parts = below.split('/');
                parts.all(|part| !["", ".", ".."].contains(&part) && !devices::is_torn(part))
            }
            (_, None) => false,
        }
    }
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Lines of a GPIO chip.
    Gpio,
    /// An I²C bus.
    I2c,
    /// An SPI chip select.
    Spi,
    /// A serial line.
    Tty,
    /// A CAN link: a network link, so that its nodes are patterns over link names.
    Can,
    /// A graphics processor.
    Gpu,
    /// A camera.
    Camera,
}

/// `[watchdog]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// `/dev/watchdog0`.
    pub device: Text,
    /// The board resets when it is not fed for so long, in seconds. No longer than the hardware
    /// can count: the Raspberry Pi's stops at 15.
    pub timeout_seconds: Count,
    /// Resets a day for the sake of a critical app; then the board stays up, and says so.
    #[serde(default = "resets_per_day")]
    pub resets_per_day: Count,
}

fn resets_per_day() -> Count {
    Count::new(4)
}

/// One entry of `leds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Led {
    /// Its name in /sys/class/leds.
    pub name: Text,
    /// While the committed set runs.
    #[serde(default)]
    pub running: LedPattern,
    /// While a deployment is under way.
    #[serde(default)]
    pub updating: LedPattern,
    /// While a new set is on trial; as `updating` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<LedPattern>,
    /// After one that did not stay, and while an app is down.
    #[serde(default)]
    pub failed: LedPattern,
    /// While a stick is read; as `updating` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick_reading: Option<LedPattern>,
    /// For a minute after a stick has done its work; as `running` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick_done: Option<LedPattern>,
    /// For a minute after a stick was not taken; as `failed` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick_refused: Option<LedPattern>,
}

/// What a light tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedState {
    /// The committed set runs.
    Running,
    /// A deployment is under way.
    Updating,
    /// A new set is on trial.
    Trial,
    /// A deployment did not stay, or an app is down.
    Failed,
    /// A stick is being read; it can stay where it is.
    StickReading,
    /// A stick has done its work, and can be pulled out.
    StickDone,
    /// A stick was not taken.
    StickRefused,
}

impl Led {
    /// What it does then.
    pub fn pattern(&self, state: LedState) -> LedPattern {
        match state {
            LedState::Running => self.running,
            LedState::Updating => self.updating,
            LedState::Trial => self.trial.unwrap_or(self.updating),
            LedState::Failed => self.failed,
            LedState::StickReading => self.stick_reading.unwrap_or(self.updating),
            LedState::StickDone => self.stick_done.unwrap_or(self.running),
            LedState::StickRefused => self.stick_refused.unwrap_or(self.failed),
        }
    }

    /// Whether the name stays in its folder.
    pub(super) fn is_one(&self) -> bool {
        let name = self.name.as_str();
        !name.contains(['/', '\0']) && !["", ".", ".."].contains(&name)
    }
}

/// What a light does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedPattern {
    /// As the kernel or another program left it.
    #[default]
    Untouched,
    /// Dark.
    Off,
    /// Lit.
    On,
    /// The kernel's trigger of this name.
    Heartbeat,
    /// A second lit, a second dark.
    SlowBlink,
    /// A tenth lit, a tenth dark.
    FastBlink,
}

/// `[thermal]`: when apps get less CPU so that the board cools down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thermal {
    /// What is measured; the hottest against its own threshold counts.
    pub zones: Vec<ThermalZone, 8>,
    /// How often, in seconds, 2 to 3600; four times as seldom, up to a minute, while every zone is 15 °C below its threshold.
    pub interval_seconds: Count,
    /// How much of an app's CPU quota is taken or given back at once.
    pub step_percent: Percent,
    /// What an app keeps of its CPU quota however hot it is.
    pub floor_percent: Percent,
}

/// One entry of `thermal.zones`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenZone")]
pub struct ThermalZone {
    /// `type` of /sys/class/thermal/thermal_zone*, which is the device tree's name of the zone.
    pub zone: Text,
    /// From here on apps are slowed, in °C. Below what the kernel itself acts on.
    pub throttle_celsius: u8,
    /// Below this they get back what was taken, in °C.
    pub restore_celsius: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenZone {
    zone: Text,
    throttle_celsius: u8,
    restore_celsius: u8,
}

impl TryFrom<WrittenZone> for ThermalZone {
    type Error = String;
    fn try_from(written: WrittenZone) -> Result<Self, String> {
        if !(written.restore_celsius < written.throttle_celsius && written.throttle_celsius <= 150)
        {
            return Err(format!(
                "restore_celsius {} and throttle_celsius {} are not allowed; allowed are restore < throttle <= 150",
                written.restore_celsius, written.throttle_celsius
            ));
        }
        Ok(Self {
            zone: written.zone,
            throttle_celsius: written.throttle_celsius,
            restore_celsius: written.restore_celsius,
        })
    }
}

/// `[identity]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Files that hold the serial number; the first that is there and not empty counts.
    pub serial_number: Vec<Text, 4>,
}

impl Identity {
    /// The serial number, looked for below `root`, which is `/` on a board. Firmware ends it with a
    /// NUL in the device tree and with a line break in sysfs.
    pub fn read(&self, root: &Path) -> Option<Text> {
        let files = self.serial_number.iter();
        files
            .map(|file| read_text(&root.join(file.trim_start_matches('/')), 256))
            .map(|text| cut(text.trim_matches(|c: char| c == '\0' || c.is_whitespace())))
            .find(|serial| !serial.is_empty())
    }
}
