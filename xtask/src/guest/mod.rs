//! `cargo xtask guest FILE`: makes the demo guest's boot disk, without root and without mounting.
//!
//! The disk boots by itself under SeaBIOS: SYSLINUX on a FAT partition loads Debian's cloud kernel
//! and an initial file system of three parts: BusyBox, the kernel modules for the disks a machine
//! may have, and our counting program as process 1 (crate `demo-guest`). The result is kept in the
//! cache under a hash of all that goes into it.

mod agent_disk;
mod boot_disk;
mod initramfs;
mod modules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xxhash_rust::xxh3::Xxh3;

use crate::apt::{Apt, Package};
use crate::{Failure, Outcome, WrongUsage, process, setup, workspace};

pub use agent_disk::agent_disk;

pub const USAGE: &str = "guest FILE [--data-disk FILE]... [--agent-disk FILE]\n      \
    makes the bootable demo disk, blank disks for it to count on, and a disk with QEMU's guest agent;\n      \
    *.qcow2 is qcow2, else raw";

const TARGET: &str = "x86_64-unknown-linux-gnu";
const DATA_DISK_SIZE: &str = "64M";
/// The folder of the cache with what is unpacked for the boot disk.
const FOLDER: &str = "debian";
const PACKAGES: &[Package] = &[
    Package("linux-image-cloud-amd64", Some("linux-image-")),
    Package("busybox-static", None),
    Package("mtools", None),
    Package("syslinux", None),
    Package("syslinux-common", None),
];

pub fn run(arguments: &[String]) -> Outcome {
    let (mut boot, mut data, mut agent) = (None, Vec::new(), None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data-disk" => data.push(PathBuf::from(
                arguments
                    .next()
                    .ok_or_else(|| WrongUsage("--data-disk needs a FILE".into()))?,
            )),
            "--agent-disk" => {
                let file = arguments.next();
                let file = file.ok_or_else(|| WrongUsage("--agent-disk needs a FILE".into()))?;
                agent = Some(PathBuf::from(file));
            }
            flag if flag.starts_with('-') => {
                return Err(WrongUsage(format!("guest takes no {flag}")).into());
            }
            file if boot.is_none() => boot = Some(PathBuf::from(file)),
            _ => return Err(WrongUsage("guest makes one FILE".into()).into()),
        }
    }
    let boot = boot.ok_or_else(|| WrongUsage("guest needs a FILE".into()))?;
    setup::ensure(&[setup::Need::Qemu])?;
    let image = boot_image()?;
    convert(&image, &boot)?;
    if let Some(file) = agent {
        convert(&agent_disk()?, &file)?;
    }
    for file in data {
        let format = format_of(&file);
        process::quiet(
            Command::new("qemu-img")
                .args(["create", "-f", format])
                .arg(&file)
                .arg(DATA_DISK_SIZE),
        )?;
    }
    Ok(())
}

/// The boot disk as a raw image in the cache, built if anything that goes into it has changed.
pub fn boot_image() -> Result<PathBuf, Failure> {
    let _lock = workspace::lock_cache()?;
    let packages = Apt::new()?.unpack(FOLDER, PACKAGES)?;
    let program = build_program()?;
    let folder = workspace::cache("guest")?;
    let image = folder.join(format!("{:032x}.raw", hash_of_inputs(&packages, &program)?));
    if image.exists() {
        return Ok(image);
    }
    eprintln!("building the demo guest's boot disk");
    let root = packages.join("root");
    let kernel = one_file(&root.join("boot"), "vmlinuz-")?;
    let initial = initramfs::build(&initramfs::Contents {
        program: fs::read(&program)?,
        busybox: fs::read(root.join("bin/busybox"))?,
        modules: modules::in_load_order(&root.join("lib/modules"))?,
    });
    let work = tempfile::tempdir_in(&folder)?;
    let made = boot_disk::build(work.path(), &root, &kernel, &initial)?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "raw") {
            fs::remove_file(path)?;
        }
    }
    fs::rename(made, &image)?;
    Ok(image)
}

/// The kernel that is on the boot disk.
pub fn kernel() -> Result<PathBuf, Failure> {
    let _lock = workspace::lock_cache()?;
    one_file(
        &Apt::new()?.unpack(FOLDER, PACKAGES)?.join("root/boot"),
        "vmlinuz-",
    )
}

/// Builds the counting program, linked statically: the guest has no libraries.
fn build_program() -> Result<PathBuf, Failure> {
    let target_folder = workspace::cache("guest-target")?;
    process::quiet(
        process::cargo()
            .args([
                "rustc",
                "--quiet",
                "--locked",
                "--package",
                "demo-guest",
                "--release",
            ])
            .args([
                "--bin",
                "demo-guest-init",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(&target_folder)
            .args([
                "--",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "strip=symbols",
            ]),
    )?;
    Ok(target_folder.join(TARGET).join("release/demo-guest-init"))
}

/// Everything the image depends on: the packages, our program, and this builder itself.
fn hash_of_inputs(packages: &Path, program: &Path) -> Result<u128, Failure> {
    let mut hash = Xxh3::new();
    for file in [
        &packages.join("versions"),
        program,
        &std::env::current_exe()?,
    ] {
        let contents = fs::read(file)?;
        hash.update(&u64::try_from(contents.len())?.to_le_bytes());
        hash.update(&contents);
    }
    Ok(hash.digest128())
}

fn convert(image: &Path, file: &Path) -> Outcome {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".part");
    process::quiet(
        Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", format_of(file)])
            .arg(image)
            .arg(&unfinished),
    )?;
    fs::rename(unfinished, file)?;
    Ok(())
}

fn format_of(file: &Path) -> &'static str {
    if file
        .extension()
        .is_some_and(|extension| extension == "qcow2")
    {
        "qcow2"
    } else {
        "raw"
    }
}

fn one_file(folder: &Path, prefix: &str) -> Result<PathBuf, Failure> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    Err(format!("{} holds no {prefix}*", folder.display()).into())
}
