//! A board that boots its disk as shipped: kernel, init, `coracle-supervisor`, `coracled`. The console and its broker
//! run on this machine, outside; the board reaches them through QEMU's user network.
//!
//! | file | what it holds |
//! |---|---|
//! | `disk` | the programs, the disk and the initramfs |
//! | `machine` | the board while it runs: power, shell, ports |
//! | `fleet` | console, keys and releases for it |
//! | `whole_loop` | enrol, run, update by a delta, go back, apply a stick |

pub mod disk;
pub mod fleet;
pub mod machine;
mod whole_loop;

use crate::board::Board;
use anyhow::{Context, Result, bail};
use coracle_tests::packages::Cache;
use disk::Init;

/// The boards that are booted so: name, the board whose kernel it has, what starts the programs.
const SHIPPED: [(&str, &str, Init); 3] = [
    ("x86-64", "x86-64", Init::Sysvinit),
    ("x86-64-systemd", "x86-64", Init::Systemd),
    ("arm64", "arm64", Init::Sysvinit),
];

/// `coracle-boards shipped [--memory MIB] [BOARD…]`
pub fn all(cache: &Cache, arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut names, mut memory_mib) = (Vec::new(), machine::MEMORY_MIB);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--memory" => {
                let value = arguments.next().unwrap_or_default();
                let parsed = value.parse();
                memory_mib = parsed.with_context(|| format!("--memory {value}: whole MiB"))?;
            }
            _ => names.push(argument),
        }
    }
    let known = SHIPPED.map(|(name, ..)| name);
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!(
            "no disk is made for {name}; there are: {}",
            known.join(", ")
        );
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    for (name, of, init) in SHIPPED.into_iter().filter(|(name, ..)| chosen(name)) {
        whole_loop::run(name, Board::named(of)?, init, memory_mib, cache)?;
    }
    Ok(())
}
