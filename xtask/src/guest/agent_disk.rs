//! A disk with QEMU's guest agent for the demo guest: Debian's `qemu-ga` with the libraries that it
//! needs, and the kernel module of its channel, on an ext4 file system. The boot disk stays small:
//! only who wants the agent has it, as
//!
//! ```text
//! mkdir -p /data && mount -t ext4 /dev/sdb /data && sh /data/agent/start
//! ```
//!
//! in the guest's shell. The agent runs from memory then, so that its own disk can be brought to
//! rest, too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use xxhash_rust::xxh3::Xxh3;

use super::modules;
use crate::apt::{Apt, Package};
use crate::setup::{self, Need};
use crate::{Failure, process, workspace};

const SIZE: u64 = 64 << 20;
const PACKAGES: &[Package] = &[
    Package("qemu-guest-agent", None),
    Package("libc6", None),
    Package("libglib2.0-0", None),
    Package("libpcre2-8-0", None),
    Package("libnuma1", None),
    Package("libudev1", None),
    Package("liburing2", None),
];
const PROGRAM: &str = "usr/sbin/qemu-ga";
const LOADER: &str = "ld-linux-x86-64.so.2";
const LIBRARIES: &[&str] = &[
    LOADER,
    "libc.so.6",
    "libm.so.6",
    "libglib-2.0.so.0",
    "libgmodule-2.0.so.0",
    "libpcre2-8.so.0",
    "libnuma.so.1",
    "libudev.so.1",
    "liburing.so.2",
];
const LIBRARY_FOLDERS: &[&str] = &["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Run by the guest's shell; waits until the kernel has found the channel. The kernel refuses the
/// modules that it has already, and without the others there is no channel.
const START: &str = "\
set -e
here=/tmp/agent
busybox mkdir -p $here
busybox cp ${0%/*}/* $here
for module in $here/*.ko; do busybox insmod $module 2>/dev/null || true; done
tries=0
until port=$(busybox ls /dev/vport*p1 2>/dev/null); do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || exit 3
    busybox sleep 0.1
done
exec $here/ld-linux-x86-64.so.2 --library-path $here $here/qemu-ga --daemonize \\
    --method virtio-serial --path $port --statedir $here --logfile $here/log --pidfile $here/pid
";

/// The disk as a raw image in the cache, built if anything that goes into it has changed.
pub fn agent_disk() -> Result<PathBuf, Failure> {
    setup::ensure(&[Need::Ext4])?;
    let _lock = workspace::lock_cache()?;
    let apt = Apt::new()?;
    let agent = apt.unpack("agent", PACKAGES)?;
    let kernel = apt.unpack(super::FOLDER, super::PACKAGES)?;
    let folder = workspace::cache("agent-disk")?;
    let image = folder.join(format!("{:032x}.raw", hash_of_inputs(&agent, &kernel)?));
    if image.exists() {
        return Ok(image);
    }
    eprintln!("building the demo guest's disk with the guest agent");
    let work = tempfile::tempdir_in(&folder)?;
    let contents = work.path().join("contents");
    fill(
        &contents.join("agent"),
        &agent.join("root"),
        &kernel.join("root"),
    )?;
    let disk = work.path().join("disk");
    File::create(&disk)?.set_len(SIZE)?;
    let mkfs = setup::sbin("mkfs.ext4").ok_or("mkfs.ext4 is not there")?;
    process::quiet(
        Command::new(mkfs)
            // What the guest's older kernel does not know.
            .args([
                "-q",
                "-F",
                "-O",
                "^metadata_csum,^metadata_csum_seed,^orphan_file",
                "-d",
            ])
            .arg(&contents)
            .arg(&disk),
    )?;
    fs::rename(disk, &image)?;
    Ok(image)
}

fn fill(folder: &Path, agent: &Path, kernel: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    fs::copy(agent.join(PROGRAM), folder.join("qemu-ga"))?;
    for name in LIBRARIES {
        let places = LIBRARY_FOLDERS.iter().map(|f| agent.join(f).join(name));
        let found = places.into_iter().find(|place| place.exists());
        let found = found.ok_or_else(|| format!("no package has {name}"))?;
        fs::copy(found, folder.join(name))?;
    }
    let wanted = modules::with_dependencies(&kernel.join("lib/modules"), &["virtio_console"])?;
    for (place, (name, module)) in wanted.iter().enumerate() {
        fs::write(folder.join(format!("{place:02}-{name}")), module)?;
    }
    fs::write(folder.join("start"), START)?;
    Ok(())
}

fn hash_of_inputs(agent: &Path, kernel: &Path) -> Result<u128, Failure> {
    let mut hash = Xxh3::new();
    for file in [
        &agent.join("versions"),
        &kernel.join("versions"),
        &std::env::current_exe()?,
    ] {
        let contents = fs::read(file)?;
        hash.update(&u64::try_from(contents.len())?.to_le_bytes());
        hash.update(&contents);
    }
    Ok(hash.digest128())
}
