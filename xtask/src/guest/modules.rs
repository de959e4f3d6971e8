//! Which kernel modules the guest needs, and in which order they load.
//!
//! The order is that of the dependencies the modules name themselves, so the guest needs no
//! `modprobe`. Each load returns when the devices found are ready, so disks come in a fixed order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// What the guest needs, drivers for kinds of disks before the controllers they hang on.
const WANTED: &[&str] = &[
    "sd_mod",
    "sr_mod",
    "isofs",
    "ata_piix",
    "virtio_pci",
    "virtio_scsi",
    "virtio_blk",
    "virtio_balloon",
    "button",
    "evdev",
];

/// The guest's modules and all they depend on, found in a tree of modules.
pub fn in_load_order(tree: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    with_dependencies(tree, WANTED)
}

/// These modules and all they depend on, in the order in which they load.
pub fn with_dependencies(tree: &Path, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut files = BTreeMap::new();
    find_modules(tree, &mut files)?;
    let mut order = Vec::new();
    for name in wanted {
        add_with_dependencies(name, &files, &mut order)?;
    }
    Ok(order
        .into_iter()
        .map(|(name, contents)| (format!("{name}.ko"), contents))
        .collect())
}

fn add_with_dependencies(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Failure> {
    if order.iter().any(|(added, _)| added == name) {
        return Ok(());
    }
    let file = files
        .get(name)
        .ok_or_else(|| format!("the kernel package has no module {name}"))?;
    let contents = fs::read(file)?;
    for dependency in dependencies(&contents) {
        add_with_dependencies(&dependency.replace('-', "_"), files, order)?;
    }
    order.push((name.to_owned(), contents));
    Ok(())
}

fn find_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_modules(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(name) = path.file_stem()
        {
            files.insert(name.to_string_lossy().replace('-', "_"), path);
        }
    }
    Ok(())
}

/// A module's information is a series of `key=value` strings, each ended by a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module.get(start + KEY.len()..).unwrap_or_default();
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
