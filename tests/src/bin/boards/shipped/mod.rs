//! A board that boots its disk as shipped: kernel, init, `coracle-supervisor`, `coracled`. The console and its broker
//! run on this machine, outside; the board reaches them through QEMU's user network.
//!
//! | file | what it holds |
//! |---|---|
//! | `kind` | the boards there are, and how much of the loop |
//! | `disk` | the programs, the disk and the initramfs |
//! | `machine` | the board while it runs: power, shell, ports |
//! | `qmp` | what is plugged into it meanwhile |
//! | `fleet` | console, keys and releases for it |
//! | `addresses` | ports of this machine |
//! | `greedy` | an app that tries to pass each of its limits |
//! | `agent` | a release that brings the board's own program |
//! | `usb` | sticks that are plugged in and pulled out |
//! | `hostile` | those whose file system is made to hurt |
//! | `rest` | what it takes while nothing is asked of it |
//! | `whole_loop` | enrol, run within limits, update by a delta, go back, apply a stick |
//! | `table` | what was measured, in docs/boards.md |

mod addresses;
pub mod agent;
pub mod disk;
pub mod fleet;
mod greedy;
mod hostile;
mod kind;
pub mod machine;
mod qmp;
mod rest;
mod table;
mod usb;
mod whole_loop;

use crate::arch::Arch;
use crate::board::Board;
use anyhow::{Context, Result, bail};
use coracle_tests::packages::Cache;
use kind::{Extent, Kind, SHIPPED};

/// Debian's kernel for x86-64 that knows USB: the one for clouds has none of it.
const WITH_USB: &str = "linux-image-amd64";

/// `coracle-boards shipped [--quick] [--memory MIB] [--site FILE] [--table] [BOARD…]`
pub fn all(cache: &Cache, arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut names, mut memory_mib, mut site) = (Vec::new(), None, None);
    let (mut write_table, mut extent) = (false, Extent::Whole);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--memory" => {
                let value = arguments.next().unwrap_or_default();
                let parsed = value.parse();
                let parsed = parsed.with_context(|| format!("--memory {value}: whole MiB"))?;
                memory_mib = Some(parsed);
            }
            "--site" => {
                let file = arguments.next().unwrap_or_default();
                let text = std::fs::read_to_string(&file);
                site = Some(text.with_context(|| format!("--site {file}"))?);
            }
            "--table" => write_table = true,
            "--quick" => extent = Extent::Quick,
            _ => names.push(argument),
        }
    }
    if write_table && extent == Extent::Quick {
        bail!("--table has what the whole loop measures: leave --quick out");
    }
    let known = SHIPPED.map(|kind| kind.name);
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!(
            "no disk is made for {name}; there are: {}",
            known.join(", ")
        );
    }
    let chosen = |kind: &Kind| names.is_empty() || names.iter().any(|wanted| wanted == kind.name);
    let mut rows = Vec::new();
    for (number, kind) in (0..).zip(&SHIPPED).filter(|(_, kind)| chosen(kind)) {
        let kind = Kind {
            memory_mib: memory_mib.unwrap_or(kind.memory_mib),
            site: site.as_deref().or(kind.site),
            ..*kind
        };
        let board = Board::named(kind.board)?;
        let board = Board {
            kernel: match (kind.usb, board.arch) {
                (true, Arch::X86_64) => Some(WITH_USB),
                _ => board.kernel,
            },
            ..*board
        };
        rows.extend(whole_loop::run(&kind, number, &board, cache, extent)?);
        if write_table {
            table::write(&rows)?;
        }
    }
    Ok(())
}
