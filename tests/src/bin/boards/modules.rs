//! A kernel's modules, in the order in which they can be loaded.
//!
//! The packages have no modules.dep (depmod makes it at installation), so the dependencies are read where depmod has
//! them from too: `depends=` in each module's .modinfo section. What is built into the kernel needs no loading.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name and decompressed content.
pub type Module = (String, Vec<u8>);

/// The modules `welcome`, of those the kernel has, and the modules `wanted`, each after those it depends on. `folder` is
/// `lib/modules/<release>`.
pub fn in_load_order(folder: &Path, welcome: &[&str], wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(&folder.join("kernel"), &mut files)?;
    let path = folder.join("modules.builtin");
    let builtin = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let builtin: Vec<String> = builtin.lines().map(|line| name(Path::new(line))).collect();

    let mut ordered = Vec::new();
    let there = welcome.iter().filter(|module| files.contains_key(**module));
    for module in there.chain(wanted) {
        load(module, &files, &builtin, &mut ordered)?;
    }
    Ok(ordered)
}

fn load(
    module: &str,
    files: &BTreeMap<String, PathBuf>,
    builtin: &[String],
    ordered: &mut Vec<Module>,
) -> Result<()> {
    if builtin.iter().any(|b| b == module) || ordered.iter().any(|(known, _)| known == module) {
        return Ok(());
    }
    let path = files
        .get(module)
        .with_context(|| format!("this kernel has no module {module}"))?;
    let content = decompressed(path)?;
    for needed in depends(&content) {
        load(&needed, files, builtin, ordered)?;
    }
    ordered.push((module.to_owned(), content));
    Ok(())
}

fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else {
            files.insert(name(&path), path);
        }
    }
    Ok(())
}

/// `nf-tables.ko.xz` is the module nf_tables.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|e| e.to_str()) {
        Some("ko") => return std::fs::read(path).with_context(|| path.display().to_string()),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{}: in a compression not known here", path.display()),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(path)
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} -dc {} failed", path.display());
    }
    Ok(output.stdout)
}

fn depends(module: &[u8]) -> Vec<String> {
    // Strings of .modinfo end with a NUL and begin after one.
    module
        .split(|byte| *byte == 0)
        .filter_map(|text| text.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let folder = std::env::temp_dir().join(format!("coracle-modules-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("kernel/net")).unwrap();
        std::fs::write(folder.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        for (file, depends) in [
            ("nf-nat.ko", "nf-core,ext4"),
            ("nft.ko", "nf-nat,nf-core"),
            ("nf-core.ko", ""),
        ] {
            let content = format!("code\0license=GPL\0depends={depends}\0");
            std::fs::write(folder.join("kernel/net").join(file), content).unwrap();
        }
        let loaded = in_load_order(&folder, &["nf-none"], &["nft", "nf_nat"]).unwrap();
        let names: Vec<&str> = loaded.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["nf_core", "nf_nat", "nft"]);
        assert!(in_load_order(&folder, &[], &["missing"]).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
