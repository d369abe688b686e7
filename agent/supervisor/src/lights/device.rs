//! A light of the kernel's (Documentation/leds/leds-class.rst): `trigger` says who drives it, `brightness` how bright it is
//! where nobody does. What blinks is blinked by the kernel.

use coracle_board_support::profile::LedPattern;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of a file: `trigger` lists every trigger of the kernel, one for each card and CPU.
const FILE_BYTES: u64 = 64 * 1024;

/// How a light was before it was ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    trigger: String,
    brightness: String,
    /// Of the trigger `timer`: lit, dark, in milliseconds.
    delays: Option<(String, String)>,
}

/// A light.
#[derive(Debug)]
pub struct Light {
    folder: PathBuf,
    triggers: Vec<String>,
    active: String,
}

impl Light {
    /// The light `name`; `None` when the board has none.
    pub fn open(hardware_root: &Path, name: &str) -> Option<Self> {
        let folder = hardware_root.join("sys/class/leds").join(name);
        let text = read(&folder.join("trigger")).ok()?;
        // `none [mmc0] timer`
        let words = text.split_whitespace();
        let bare = |word: &str| word.trim_matches(['[', ']']).to_owned();
        let active = words.clone().find(|word| word.starts_with('['));
        Some(Self {
            active: bare(active.or(words.clone().next()).unwrap_or("none")),
            triggers: words.map(bare).collect(),
            folder,
        })
    }

    /// How it is.
    pub fn before(&self) -> Before {
        let file = |name| read(&self.folder.join(name)).ok();
        let trigger = self.active.clone();
        Before {
            delays: match trigger.as_str() {
                "timer" => file("delay_on").zip(file("delay_off")),
                _ => None,
            },
            brightness: file("brightness").unwrap_or_else(|| "0".to_owned()),
            trigger,
        }
    }

    /// Back to how it was.
    pub fn restore(&self, before: &Before) -> io::Result<()> {
        self.write("trigger", &before.trigger)?;
        if let Some((on, off)) = &before.delays {
            self.write("delay_on", on)?;
            return self.write("delay_off", off);
        }
        match before.trigger.as_str() {
            "none" => self.write("brightness", &before.brightness),
            _ => Ok(()),
        }
    }

    /// A kernel that cannot blink by itself leaves a light on that should.
    pub fn show(&self, pattern: LedPattern) -> io::Result<()> {
        match pattern {
            LedPattern::Untouched => Ok(()),
            LedPattern::Off => self.steady("0"),
            LedPattern::On => self.steady(&self.brightest()),
            LedPattern::Heartbeat if self.has("heartbeat") => self.write("trigger", "heartbeat"),
            LedPattern::Heartbeat | LedPattern::SlowBlink => self.blink(1000),
            LedPattern::FastBlink => self.blink(100),
        }
    }

    fn steady(&self, brightness: &str) -> io::Result<()> {
        self.write("trigger", "none")?;
        self.write("brightness", brightness)
    }

    fn blink(&self, millis: u32) -> io::Result<()> {
        if self.has("timer") {
            self.write("trigger", "timer")?;
            self.write("delay_on", &millis.to_string())?;
            return self.write("delay_off", &millis.to_string());
        }
        let brightest = self.brightest();
        if self.has("pattern") {
            // Brightness and how long it takes to the next one, in pairs (leds-trigger-pattern).
            self.write("trigger", "pattern")?;
            let pattern = format!("{brightest} {millis} {brightest} 0 0 {millis} 0 0");
            return self.write("pattern", &pattern);
        }
        self.steady(&brightest)
    }

    fn has(&self, trigger: &str) -> bool {
        self.triggers.iter().any(|known| known == trigger)
    }

    fn brightest(&self) -> String {
        let text = read(&self.folder.join("max_brightness"));
        text.unwrap_or_else(|_| "255".to_owned())
    }

    /// Into a file that is there: the kernel makes them, and nobody else.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let path = self.folder.join(file);
        let mut file = File::options().write(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}
