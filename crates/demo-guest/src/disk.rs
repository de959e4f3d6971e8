//! The counter on a data disk: the block the guest writes, and reading it out of a disk image.
//!
//! Reading never needs the guest: [`read_counter`] takes a raw image, [`read_counter_of_chain`]
//! lets `qemu-img` resolve any format and backing chain.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::pattern;

/// Size of one counter block.
pub const BLOCK_SIZE: usize = 4096;
/// Where the two counter blocks lie. Far apart, so that they fall into different clusters.
pub const SLOT_OFFSETS: [u64; 2] = [0, 1 << 20];
/// The smallest disk the guest counts on.
pub const MINIMUM_DISK_SIZE: u64 = 2 << 20;

const MAGIC: &[u8; 16] = b"rootvirt-counter";
const WORDS: usize = BLOCK_SIZE / 8;

/// What one valid counter block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterBlock {
    /// The boot that wrote it ([`crate::protocol::Ready::boot`]).
    pub boot: u64,
    /// The round that wrote it.
    pub counter: u64,
}

/// A block in memory, aligned as direct I/O wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
pub struct BlockBuffer(pub [u8; BLOCK_SIZE]);

impl BlockBuffer {
    /// A block of zeros.
    #[must_use]
    pub const fn zeroed() -> Self {
        Self([0; BLOCK_SIZE])
    }

    /// Makes this the block of `contents`.
    pub fn encode(&mut self, contents: CounterBlock) {
        for (index, word) in (0..).zip(self.0.chunks_exact_mut(8)) {
            word.copy_from_slice(&expected_word(contents, index).to_le_bytes());
        }
    }

    /// The contents, if every word of the block is what such a block holds.
    #[must_use]
    pub fn decode(&self) -> Option<CounterBlock> {
        let word_at = |index: usize| {
            let bytes = self.0.get(index * 8..index * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let contents = CounterBlock {
            boot: word_at(2)?,
            counter: word_at(3)?,
        };
        (0..WORDS)
            .zip(0..)
            .all(|(index, place)| word_at(index) == Some(expected_word(contents, place)))
            .then_some(contents)
    }

    /// Whether the block holds nothing but zeros.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// Which slot the round `counter` writes to.
#[must_use]
pub const fn slot_offset(counter: u64) -> u64 {
    if counter.is_multiple_of(2) {
        SLOT_OFFSETS[0]
    } else {
        SLOT_OFFSETS[1]
    }
}

fn expected_word(contents: CounterBlock, index: u64) -> u64 {
    let [m0, m1, m2, m3, m4, m5, m6, m7, rest @ ..] = *MAGIC;
    match index {
        0 => u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
        1 => u64::from_le_bytes(rest),
        2 => contents.boot,
        3 => contents.counter,
        _ => pattern::word(contents.counter ^ contents.boot, index),
    }
}

/// The counters found on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskCounter {
    /// The newest valid block: the disk's counter D.
    pub newest: CounterBlock,
    /// The other slot's block, if it is valid. In a boot that has done two rounds with this disk it
    /// is that of the round before; anything else means a lost write.
    pub other: Option<CounterBlock>,
}

impl DiskCounter {
    /// The newest of two slots' contents.
    #[must_use]
    pub fn of_slots(slots: [Option<CounterBlock>; 2]) -> Option<Self> {
        match slots {
            [Some(first), Some(second)] if second > first => Some(Self {
                newest: second,
                other: Some(first),
            }),
            [Some(newest), other] | [other, Some(newest)] => Some(Self { newest, other }),
            [None, None] => None,
        }
    }
}

/// Why a counter cannot be read out of an image.
#[derive(Debug, thiserror::Error)]
pub enum ReadCounterError {
    /// The image cannot be read.
    #[error("cannot read the image {image}: {source}")]
    Read {
        /// The image.
        image: String,
        /// The cause.
        source: io::Error,
    },
    /// `qemu-img` cannot be started.
    #[error("cannot start qemu-img: {0}; install QEMU's disk image tools (cargo xtask setup)")]
    Start(io::Error),
    /// `qemu-img` refused the image.
    #[error("qemu-img cannot read {image}: {message}")]
    QemuImg {
        /// The image.
        image: String,
        /// What it said.
        message: String,
    },
    /// No counter block is on the disk.
    #[error("{image} holds no valid counter block: no demo guest has counted on it yet")]
    NoCounter {
        /// The image.
        image: String,
    },
}

/// Reads the counter out of a raw disk image.
///
/// # Errors
/// When the image cannot be read or no guest has counted on it.
pub fn read_counter(image: &Path) -> Result<DiskCounter, ReadCounterError> {
    let name = || image.display().to_string();
    let read = |source| ReadCounterError::Read {
        image: name(),
        source,
    };
    let file = File::open(image).map_err(read)?;
    let mut slots = [None; 2];
    for (slot, offset) in slots.iter_mut().zip(SLOT_OFFSETS) {
        let mut block = BlockBuffer::zeroed();
        match file.read_exact_at(&mut block.0, offset) {
            Ok(()) => *slot = block.decode(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(read(error)),
        }
    }
    DiskCounter::of_slots(slots).ok_or_else(|| ReadCounterError::NoCounter { image: name() })
}

/// Reads the counter out of a disk image of any format, with its backing chain.
///
/// `image` is what `qemu-img` takes: a file name, or `json:{...}` for a chain that the image's
/// header does not name. The image may be in use by a running virtual machine; what is read then is
/// a moment of it.
///
/// # Errors
/// When `qemu-img` is missing or refuses the image, or when no guest has counted on it.
pub fn read_counter_of_chain(image: &str) -> Result<DiskCounter, ReadCounterError> {
    let read = |source| ReadCounterError::Read {
        image: image.to_owned(),
        source,
    };
    let folder = tempfile::tempdir().map_err(read)?;
    let scratch = folder.path().join("blocks.raw");
    let blocks = SLOT_OFFSETS[1] / 4096 + 1;
    let output = Command::new("qemu-img")
        .args([
            "dd",
            "-U",
            "-O",
            "raw",
            "bs=4096",
            &format!("count={blocks}"),
        ])
        .arg(format!("if={image}"))
        .arg(format!("of={}", scratch.display()))
        .output()
        .map_err(ReadCounterError::Start)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ReadCounterError::QemuImg {
            image: image.to_owned(),
            message,
        });
    }
    read_counter(&scratch).map_err(|error| match error {
        ReadCounterError::NoCounter { .. } => ReadCounterError::NoCounter {
            image: image.to_owned(),
        },
        other => other,
    })
}
