//! One file of a chain: its header and index in memory, its pages on the disk.

use crate::PAGE;
use crate::error::{HeaderError, ImageError};
use crate::header::{Compression, HEADER_LENGTH, Header, ImageId, Section};
use crate::index::{self, GROUP, GROUP_LENGTH, Group, RamBlock, SLOT_LENGTH, Slots};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_128;

/// Pages that are verified at once.
const VERIFY_AT_ONCE: usize = 256;

/// One file of a chain.
pub(crate) struct ImageFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) header: Header,
    pub(crate) blocks: Vec<RamBlock>,
    pub(crate) configuration: Vec<u8>,
    pub(crate) devices: Vec<u8>,
    zero: Vec<u8>,
    pub(crate) slots: Slots,
    pub(crate) groups: Vec<u8>,
}

impl ImageFile {
    pub(crate) fn open(path: &Path) -> Result<ImageFile, ImageError> {
        let failed = |cause| io_error("opened", path, 0, cause);
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        let refused = |cause| ImageError::Header {
            path: path.into(),
            cause,
        };
        let mut page = [0; HEADER_LENGTH];
        match file.read_exact_at(&mut page, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(refused(HeaderError::TooShort));
            }
            other => other.map_err(|cause| io_error("read", path, 0, cause))?,
        }
        let header = Header::decode(&page).map_err(refused)?;
        let expected = header.file_length();
        if found != expected {
            return Err(ImageError::WrongLength {
                path: path.into(),
                expected,
                found,
            });
        }
        let section = |section| read_section(&file, path, &header, section);
        let blocks = section(Section::Blocks)?;
        let mut opened = ImageFile {
            blocks: Vec::new(),
            configuration: section(Section::Configuration)?,
            devices: section(Section::Devices)?,
            zero: section(Section::Zero)?,
            slots: Slots(section(Section::Slots)?),
            groups: section(Section::Groups)?,
            path: path.into(),
            file,
            header,
        };
        opened.blocks = index::decode_blocks(&blocks).map_err(|what| opened.contradiction(what))?;
        opened.check_lengths()?;
        Ok(opened)
    }

    /// The same file, open once more.
    pub(crate) fn again(&self) -> Result<ImageFile, ImageError> {
        let file = self.file.try_clone();
        let file = file.map_err(|cause| io_error("opened", &self.path, 0, cause))?;
        Ok(ImageFile {
            path: self.path.clone(),
            file,
            header: self.header.clone(),
            blocks: self.blocks.clone(),
            configuration: self.configuration.clone(),
            devices: self.devices.clone(),
            zero: self.zero.clone(),
            slots: self.slots.clone(),
            groups: self.groups.clone(),
        })
    }

    /// Whether the sections fit each other.
    fn check_lengths(&self) -> Result<(), ImageError> {
        let bits = self.blocks.iter().map(index::bitmap_length);
        if self.zero.len() != bits.fold(0, usize::saturating_add) {
            return Err(self.contradiction("the map of zero pages has another length".into()));
        }
        if !self.slots.0.len().is_multiple_of(SLOT_LENGTH) {
            return Err(self.contradiction("the index of pages has half an entry".into()));
        }
        let data = match self.header.compression {
            Compression::None => {
                let empty = self.groups.is_empty();
                empty.then(|| (self.slots.len() as u64).saturating_mul(PAGE as u64))
            }
            Compression::Zstd => self.groups_end()?.checked_next_multiple_of(PAGE as u64),
        };
        if data != Some(self.header.data_length) {
            return Err(self.contradiction("its data is longer or shorter than its index".into()));
        }
        Ok(())
    }

    /// Bytes that the compressed groups take, which follow each other.
    fn groups_end(&self) -> Result<u64, ImageError> {
        let wrong = || self.contradiction("its index of compressed groups is wrong".into());
        let count = self.slots.len().div_ceil(GROUP);
        if self.groups.len() != count.saturating_mul(GROUP_LENGTH) {
            return Err(wrong());
        }
        let mut end = HEADER_LENGTH as u64;
        for number in 0..count {
            let group = self.group(number).ok_or_else(wrong)?;
            let most = self.group_pages(number) * PAGE;
            let fits = group.length > 0 && group.length as usize <= most;
            if group.offset != end || !fits {
                return Err(wrong());
            }
            end = end.saturating_add(u64::from(group.length));
        }
        Ok(end - HEADER_LENGTH as u64)
    }

    fn group(&self, number: usize) -> Option<Group> {
        index::group(&self.groups, number)
    }

    /// Pages in a group: less than all only in the last.
    fn group_pages(&self, number: usize) -> usize {
        let before = number.saturating_mul(GROUP);
        self.slots.len().saturating_sub(before).min(GROUP)
    }

    pub(crate) fn contradiction(&self, what: String) -> ImageError {
        ImageError::Contradiction {
            path: self.path.clone(),
            what,
        }
    }

    /// The bits of a block's zero pages.
    pub(crate) fn zero_bits(&self, block: usize) -> &[u8] {
        let lengths = || self.blocks.iter().map(index::bitmap_length);
        let start: usize = lengths().take(block).sum();
        let length = lengths().nth(block).unwrap_or(0);
        self.zero.get(start..start + length).unwrap_or_default()
    }

    /// Where a slot lies; of a compressed one, its group.
    pub(crate) fn offset(&self, slot: usize) -> u64 {
        match self.header.compression {
            Compression::None => HEADER_LENGTH as u64 + slot as u64 * PAGE as u64,
            Compression::Zstd => self.group(slot / GROUP).map_or(0, |group| group.offset),
        }
    }

    /// Reads neighbouring slots and compares each with its hash.
    pub(crate) fn read_slots(
        &self,
        slot: usize,
        buffer: &mut [u8],
        cache: &GroupCache,
    ) -> Result<(), ImageError> {
        match self.header.compression {
            Compression::None => {
                let offset = self.offset(slot);
                let read = self.file.read_exact_at(buffer, offset);
                read.map_err(|cause| io_error("read", &self.path, offset, cause))?;
            }
            Compression::Zstd => self.read_compressed(slot, buffer, cache)?,
        }
        for (number, page) in buffer.chunks_exact(PAGE).enumerate() {
            self.check_slot(slot + number, page)?;
        }
        Ok(())
    }

    fn check_slot(&self, slot: usize, page: &[u8]) -> Result<(), ImageError> {
        let hash = index::page_hash(page, &self.header.secret);
        match self.slots.get(slot) {
            Some(entry) if entry.hash != hash => Err(ImageError::DamagedPage {
                path: self.path.clone(),
                block: self
                    .blocks
                    .get(entry.block)
                    .map_or(String::new(), |block| block.name.clone()),
                page: entry.page,
                offset: self.offset(slot),
            }),
            _ => Ok(()),
        }
    }

    fn read_compressed(
        &self,
        first: usize,
        buffer: &mut [u8],
        cache: &GroupCache,
    ) -> Result<(), ImageError> {
        let mut cached = cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, page) in buffer.chunks_exact_mut(PAGE).enumerate() {
            let slot = first + number;
            let key = (self.header.id, slot / GROUP);
            if cached.as_ref().is_none_or(|(known, _)| *known != key) {
                *cached = Some((key, self.decompress(slot / GROUP)?));
            }
            let at = slot % GROUP * PAGE;
            let bytes = cached.as_ref().and_then(|(_, all)| all.get(at..at + PAGE));
            page.copy_from_slice(bytes.ok_or_else(|| self.nowhere(slot))?);
        }
        Ok(())
    }

    fn nowhere(&self, slot: usize) -> ImageError {
        self.contradiction(format!("its page {slot} is nowhere"))
    }

    /// The pages of a group.
    fn decompress(&self, number: usize) -> Result<Vec<u8>, ImageError> {
        let group = self.group(number).ok_or_else(|| self.nowhere(number))?;
        let mut stored = vec![0; group.length as usize];
        let read = self.file.read_exact_at(&mut stored, group.offset);
        read.map_err(|cause| io_error("read", &self.path, group.offset, cause))?;
        let damaged = || ImageError::DamagedGroup {
            path: self.path.clone(),
            offset: group.offset,
            length: u64::from(group.length),
        };
        if xxh3_128(&stored) != group.hash {
            return Err(damaged());
        }
        let length = self.group_pages(number) * PAGE;
        if stored.len() == length {
            return Ok(stored);
        }
        let pages = zstd::bulk::decompress(&stored, length);
        pages
            .ok()
            .filter(|pages| pages.len() == length)
            .ok_or_else(damaged)
    }

    /// Reads every byte of the file and compares it with its hash. `progress` is told how many
    /// bytes are done; it may wait, and ends the work by saying so.
    pub(crate) fn verify(
        &self,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), ImageError> {
        let mut page = [0; HEADER_LENGTH];
        let read = self.file.read_exact_at(&mut page, 0);
        read.map_err(|cause| io_error("read", &self.path, 0, cause))?;
        Header::decode(&page).map_err(|cause| ImageError::Header {
            path: self.path.clone(),
            cause,
        })?;
        let cache = GroupCache::default();
        let mut buffer = vec![0; VERIFY_AT_ONCE * PAGE];
        let mut slot = 0;
        while slot < self.slots.len() {
            let pages = VERIFY_AT_ONCE.min(self.slots.len() - slot);
            let now = buffer.get_mut(..pages * PAGE).unwrap_or_default();
            self.read_slots(slot, now, &cache)?;
            slot += pages;
            let done = match self.header.compression {
                Compression::None => self.offset(slot),
                Compression::Zstd => self.offset(slot - 1),
            };
            // What lies in the cache now would hide what happens to the disk later.
            self.forget();
            if progress(done).is_break() {
                return Err(ImageError::Cancelled);
            }
        }
        self.check_padding()?;
        for section in Section::ALL {
            read_section(&self.file, &self.path, &self.header, section)?;
        }
        self.forget();
        let found = self.file.metadata();
        let found = found.map_err(|cause| io_error("read", &self.path, 0, cause))?;
        let expected = self.header.file_length();
        if found.len() != expected {
            return Err(ImageError::WrongLength {
                path: self.path.clone(),
                expected,
                found: found.len(),
            });
        }
        match progress(expected) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ImageError::Cancelled),
        }
    }

    /// What lies between the last compressed group and the sections is zero.
    fn check_padding(&self) -> Result<(), ImageError> {
        if self.header.compression == Compression::None {
            return Ok(());
        }
        let end = HEADER_LENGTH as u64 + self.groups_end()?;
        let length = HEADER_LENGTH as u64 + self.header.data_length - end;
        let mut padding = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut padding, end);
        read.map_err(|cause| io_error("read", &self.path, end, cause))?;
        match padding.iter().position(|byte| *byte != 0) {
            None => Ok(()),
            Some(at) => Err(ImageError::DamagedPadding {
                path: self.path.clone(),
                offset: end + at as u64,
            }),
        }
    }

    /// Lets the kernel read neighbouring slots into its cache.
    pub(crate) fn prefetch(&self, slot: usize, slots: usize) {
        let start = self.offset(slot);
        let length = match self.header.compression {
            Compression::None => slots as u64 * PAGE as u64,
            Compression::Zstd => self.offset(slot + slots).saturating_sub(start),
        };
        // It is a hint: nothing depends on it. No length would mean all of the file.
        let length = std::num::NonZeroU64::new(length.max(PAGE as u64));
        let _ = rustix::fs::fadvise(&self.file, start, length, rustix::fs::Advice::WillNeed);
    }

    /// Lets the kernel drop what it has cached of the file.
    fn forget(&self) {
        // It is a hint: nothing depends on it.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// The compressed group that was read last.
#[derive(Default)]
pub(crate) struct GroupCache(Mutex<Option<CachedGroup>>);

type CachedGroup = ((ImageId, usize), Vec<u8>);

pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
    offset: u64,
    cause: io::Error,
) -> ImageError {
    ImageError::Io {
        action,
        path: path.into(),
        offset,
        cause,
    }
}

fn read_section(
    file: &File,
    path: &Path,
    header: &Header,
    section: Section,
) -> Result<Vec<u8>, ImageError> {
    let extent = header.section(section);
    let mut bytes = Vec::new();
    // The length is at most the file's, which has been compared.
    let length = usize::try_from(extent.length).ok();
    length
        .and_then(|length| bytes.try_reserve_exact(length).ok())
        .ok_or_else(|| ImageError::NoMemory { path: path.into() })?;
    bytes.resize(length.unwrap_or(0), 0);
    file.read_exact_at(&mut bytes, extent.offset)
        .map_err(|cause| io_error("read", path, extent.offset, cause))?;
    if xxh3_128(&bytes) != extent.hash {
        return Err(ImageError::DamagedSection {
            path: path.into(),
            section: section.name(),
            offset: extent.offset,
            length: extent.length,
        });
    }
    Ok(bytes)
}
