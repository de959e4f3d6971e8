//! The boot disk itself: a boot record, one FAT partition, SYSLINUX on it.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, process};

const SECTOR: u64 = 512;
const PARTITION_START: u32 = 2048;
const PARTITION_SECTORS: u32 = 60 << 10;
const TYPE_FAT16_LBA: u8 = 0x0e;
const BOOT_CODE_SIZE: usize = 440;

/// Boot parameters. Most take out what costs boot time under emulation and does nothing here.
const CONFIGURATION: &str = "\
default guest
prompt 0
timeout 0
label guest
  kernel /vmlinuz
  initrd /initrd
  append console=ttyS0 quiet loglevel=3 nokaslr mitigations=off random.trust_cpu=on \
audit=0 apparmor=0 cryptomgr.notests nowatchdog rcupdate.rcu_expedited=1 no_timer_check \
i8042.noaux
";

/// Builds the disk in the folder `work` with the tools unpacked below `root`; gives its file.
pub fn build(work: &Path, root: &Path, kernel: &Path, initial: &[u8]) -> Result<PathBuf, Failure> {
    let partition = work.join("partition");
    File::create(&partition)?.set_len(u64::from(PARTITION_SECTORS) * SECTOR)?;
    let tools = Tools {
        root,
        partition: &partition,
    };
    let hidden = PARTITION_START.to_string();
    let sectors = PARTITION_SECTORS.to_string();
    tools.mtools(
        "mformat",
        &["-H", &hidden, "-T", &sectors, "-h", "16", "-s", "63", "::"],
    )?;
    tools.copy_in(&work.join("initrd"), initial, "::initrd")?;
    tools.copy_in(
        &work.join("syslinux.cfg"),
        CONFIGURATION.as_bytes(),
        "::syslinux.cfg",
    )?;
    tools.mtools("mcopy", &[&kernel.display().to_string(), "::vmlinuz"])?;
    tools.install_syslinux()?;

    let disk = work.join("disk");
    let mut file = File::create(&disk)?;
    file.write_all(&boot_record(&fs::read(
        root.join("usr/lib/syslinux/mbr/mbr.bin"),
    )?))?;
    file.seek(SeekFrom::Start(u64::from(PARTITION_START) * SECTOR))?;
    std::io::copy(&mut File::open(&partition)?, &mut file)?;
    file.sync_all()?;
    Ok(disk)
}

struct Tools<'a> {
    root: &'a Path,
    partition: &'a Path,
}

impl Tools<'_> {
    fn mtools(&self, tool: &str, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(self.root.join("usr/bin/mtools"));
        command
            .arg("-c")
            .arg(tool)
            .arg("-i")
            .arg(self.partition)
            .args(arguments);
        process::quiet(command.env("MTOOLS_SKIP_CHECK", "1"))?;
        Ok(())
    }

    fn copy_in(&self, scratch: &Path, contents: &[u8], name: &str) -> Result<(), Failure> {
        fs::write(scratch, contents)?;
        self.mtools("mcopy", &[&scratch.display().to_string(), name])
    }

    /// SYSLINUX's installer runs mtools by name.
    fn install_syslinux(&self) -> Result<(), Failure> {
        let tools = self.root.join("usr/bin");
        let mut path = tools.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        process::quiet(
            Command::new(tools.join("syslinux"))
                .arg("--install")
                .arg(self.partition)
                .env("PATH", path),
        )?;
        Ok(())
    }
}

/// The first sector: SYSLINUX's boot code and a table with one active partition.
fn boot_record(code: &[u8]) -> Vec<u8> {
    // The largest cylinder, head and sector: the partition is found by its block address.
    const NO_GEOMETRY: [u8; 3] = [0xfe, 0xff, 0xff];
    let mut record: Vec<u8> = code.iter().copied().take(BOOT_CODE_SIZE).collect();
    record.resize(BOOT_CODE_SIZE, 0);
    record.extend_from_slice(b"RVDG\0\0");
    record.push(0x80);
    record.extend_from_slice(&NO_GEOMETRY);
    record.push(TYPE_FAT16_LBA);
    record.extend_from_slice(&NO_GEOMETRY);
    record.extend_from_slice(&PARTITION_START.to_le_bytes());
    record.extend_from_slice(&PARTITION_SECTORS.to_le_bytes());
    record.resize(510, 0);
    record.extend_from_slice(&[0x55, 0xaa]);
    record
}
