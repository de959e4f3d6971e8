//! The guest's disks: which ones it may count on, and reading and writing their counter blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use demo_guest::disk::{
    BlockBuffer, CounterBlock, DiskCounter, MINIMUM_DISK_SIZE, SLOT_OFFSETS, slot_offset,
};
use demo_guest::protocol::DiskState;

/// How far from the start a disk must be blank to be taken: file systems, partition tables and
/// volume managers leave their marks before that.
const BLANK_BYTES: u64 = 128 << 10;

/// A disk the guest counts on.
pub struct DataDisk {
    name: String,
    bus: String,
    file: File,
    /// The last counter written, or found when it was taken.
    pub counter: u64,
    /// Rounds written one after the other since it was taken, or since the last failed write.
    streak: u64,
    buffer: Box<BlockBuffer>,
}

impl DataDisk {
    /// Takes the disk, unless it holds something that is not the guest's: then none.
    fn take(name: &str) -> io::Result<Option<Self>> {
        let sectors = fs::read_to_string(format!("/sys/block/{name}/size"))?;
        let size = sectors
            .trim()
            .parse::<u64>()
            .unwrap_or(0)
            .saturating_mul(512);
        let read_only = fs::read_to_string(format!("/sys/block/{name}/ro"))?.trim() != "0";
        if size < MINIMUM_DISK_SIZE || read_only {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_SYNC)
            .open(format!("/dev/{name}"))?;
        let mut buffer = Box::new(BlockBuffer::zeroed());
        let mut slots = [None; 2];
        for (slot, offset) in slots.iter_mut().zip(SLOT_OFFSETS) {
            file.read_exact_at(&mut buffer.0, offset)?;
            *slot = buffer.decode();
            if slot.is_none() && !buffer.is_zero() {
                return Ok(None);
            }
        }
        let found = DiskCounter::of_slots(slots);
        if found.is_none() && !is_blank(&file, &mut buffer)? {
            return Ok(None);
        }
        let counter = found.map_or(0, |found| found.newest.counter);
        Ok(Some(Self {
            name: name.to_owned(),
            bus: bus_of(name),
            file,
            counter,
            streak: 0,
            buffer,
        }))
    }

    /// Writes the block of a round.
    pub fn write(&mut self, contents: CounterBlock) -> io::Result<()> {
        self.buffer.encode(contents);
        let streak = std::mem::take(&mut self.streak);
        self.file
            .write_all_at(&self.buffer.0, slot_offset(contents.counter))?;
        self.counter = contents.counter;
        self.streak = streak + 1;
        Ok(())
    }

    /// Whether the slot that a round is about to overwrite still holds what memory says was
    /// written there two rounds ago. After going back to a snapshot whose disks are of another
    /// instant than its memory, it does not.
    pub fn is_in_step(&mut self, next: CounterBlock) -> io::Result<bool> {
        match next.counter.checked_sub(2) {
            Some(counter) if self.streak >= 2 => self.verify(CounterBlock { counter, ..next }),
            _ => Ok(true),
        }
    }

    /// Whether the disk gives back the block of a round.
    pub fn verify(&mut self, contents: CounterBlock) -> io::Result<bool> {
        self.file
            .read_exact_at(&mut self.buffer.0, slot_offset(contents.counter))?;
        Ok(self.buffer.decode() == Some(contents))
    }

    /// The kernel's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state as the protocol says it.
    pub fn state(&self) -> DiskState {
        DiskState {
            name: self.name.clone(),
            bus: self.bus.clone(),
            counter: self.counter,
        }
    }
}

/// All disks of the machine, by the kernel's names, in order.
pub fn present() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("sd") || name.starts_with("vd") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Takes the disks that may be counted on; gives them and the names of the others. A disk that
/// cannot be read is one of the others.
pub fn take_all(names: &[String]) -> (Vec<DataDisk>, Vec<String>) {
    let mut taken = Vec::new();
    let mut ignored = Vec::new();
    for name in names {
        match DataDisk::take(name) {
            Ok(Some(disk)) => taken.push(disk),
            Ok(None) | Err(_) => ignored.push(name.clone()),
        }
    }
    (taken, ignored)
}

fn is_blank(file: &File, buffer: &mut BlockBuffer) -> io::Result<bool> {
    let mut offset = 0;
    while offset < BLANK_BYTES {
        file.read_exact_at(&mut buffer.0, offset)?;
        if !buffer.is_zero() {
            return Ok(false);
        }
        offset += 4096;
    }
    Ok(true)
}

fn bus_of(name: &str) -> String {
    let path = fs::read_link(format!("/sys/block/{name}")).unwrap_or_default();
    let path = path.to_string_lossy();
    let bus = if path.contains("/ata") {
        "ide"
    } else if path.contains("/virtio") {
        "virtio"
    } else {
        "other"
    };
    bus.to_owned()
}
