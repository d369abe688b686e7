//! Parts of the kernel that are built in, loaded, or wait on the disk.

use super::Presence;
use crate::text::read_text;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Symbols of the kernel that are looked through, in bytes; Linux 6.18 with everything has 12 MiB.
const KALLSYMS_BYTES: u64 = 64 << 20;

/// Parts of the kernel that may be built in or be modules.
pub(super) struct Modules {
    pub(super) overlay: Presence,
    pub(super) nf_tables: Presence,
    pub(super) bridge: Presence,
    pub(super) veth: Presence,
}

impl Modules {
    /// Three places tell: /sys/module (loaded, or built in with parameters), the lists of
    /// modprobe, and the kernel's symbols. Only when the symbols can be read does "not found"
    /// mean "not there".
    pub(super) fn look(root: &Path, release: &str) -> Self {
        // A function that each of them cannot be without.
        const SYMBOLS: [(&str, &str); 4] = [
            ("overlay", "ovl_fill_super"),
            ("nf_tables", "nf_tables_newtable"),
            ("bridge", "br_dev_setup"),
            ("veth", "veth_setup"),
        ];
        let lists = ["modules.builtin", "modules.dep"]
            .map(|list| root.join("lib/modules").join(release).join(list))
            .map(|path| read_text(&path, 4 << 20));
        let mut found = SYMBOLS.map(|(module, _)| {
            let file = format!("/{module}.ko");
            let loaded = root.join("sys/module").join(module).is_dir();
            loaded || lists.iter().any(|list| list.contains(&file))
        });
        let mut looked = false;
        if found.contains(&false)
            && let Ok(symbols) = File::open(root.join("proc/kallsyms"))
        {
            // Lines are "address type name [module]"; with kptr_restrict the address is 0.
            for line in BufReader::new(symbols.take(KALLSYMS_BYTES))
                .lines()
                .map_while(Result::ok)
            {
                looked = true;
                let name = line.split(' ').nth(2).unwrap_or("");
                let name = name.split(['\t', '.']).next().unwrap_or("");
                if let Some(at) = SYMBOLS.iter().position(|(_, symbol)| *symbol == name) {
                    found[at] = true;
                }
            }
        }
        let [overlay, nf_tables, bridge, veth] = found.map(|seen| match (seen, looked) {
            (true, _) => Presence::Present,
            (false, true) => Presence::Absent,
            (false, false) => Presence::Unknown,
        });
        Self {
            overlay,
            nf_tables,
            bridge,
            veth,
        }
    }
}
