//! Reading an image, together with the images that it stands on.

use crate::PAGE;
use crate::error::{HeaderError, ImageError};
use crate::header::{HEADER_LENGTH, Header, ImageId, Section};
use crate::index::{self, RamBlock, SLOT_LENGTH, Slots};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// Most images that one may stand on.
pub const MOST_PARENTS: usize = 256;

/// An image that stands alone needs no other: to be given to [`MemoryImage::open`].
pub fn no_parents(_: ImageId) -> Option<PathBuf> {
    None
}

/// An image, open with all that it stands on.
///
/// Files that are replaced or removed after this was made are read as they were: it
/// holds them open. All methods block.
pub struct MemoryImage {
    /// The image itself, its parent, the parent's parent, ...
    chain: Vec<ImageFile>,
    blocks: Vec<RamBlock>,
    /// For each block where each page is.
    map: Vec<Vec<Place>>,
}

/// Where a page is: zero, or a slot of one of the files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    const UNKNOWN: Place = Place(u64::MAX);
    const ZERO: Place = Place(u64::MAX - 1);
    const SLOT_BITS: u32 = 48;

    fn stored(file: usize, slot: usize) -> Place {
        Place(((file as u64) << Self::SLOT_BITS) | slot as u64)
    }

    /// The file's number in the chain, and the slot.
    pub(crate) fn slot(self) -> Option<(usize, usize)> {
        if self == Self::ZERO || self == Self::UNKNOWN {
            return None;
        }
        let slot = self.0 & ((1 << Self::SLOT_BITS) - 1);
        Some((
            usize::try_from(self.0 >> Self::SLOT_BITS).ok()?,
            usize::try_from(slot).ok()?,
        ))
    }
}

/// What neighbouring pages have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// All their bytes are zero.
    Zero,
    /// They hold data.
    Data,
}

/// Neighbouring pages of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The first one.
    pub first: u64,
    /// How many.
    pub pages: u64,
    /// What they hold.
    pub kind: RunKind,
}

/// A page that is stored in the image's own file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPage {
    /// Number of its block.
    pub block: usize,
    /// Its number in the block.
    pub page: u64,
    /// Its hash, with the secret of the header.
    pub hash: u128,
}

/// One file of a chain, its index in memory.
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

    /// Whether the sections fit each other.
    fn check_lengths(&self) -> Result<(), ImageError> {
        let bits = self.blocks.iter().map(index::bitmap_length);
        if self.zero.len() != bits.fold(0, usize::saturating_add) {
            return Err(self.contradiction("the map of zero pages has another length".into()));
        }
        if !self.slots.0.len().is_multiple_of(SLOT_LENGTH) {
            return Err(self.contradiction("the index of pages has half an entry".into()));
        }
        let data = (self.slots.len() as u64).saturating_mul(PAGE as u64);
        if data != self.header.data_length || !self.groups.is_empty() {
            return Err(self.contradiction("its data is longer or shorter than its index".into()));
        }
        Ok(())
    }

    pub(crate) fn contradiction(&self, what: String) -> ImageError {
        ImageError::Contradiction {
            path: self.path.clone(),
            what,
        }
    }

    /// The bits of a block's zero pages.
    fn zero_bits(&self, block: usize) -> &[u8] {
        let lengths = || self.blocks.iter().map(index::bitmap_length);
        let start: usize = lengths().take(block).sum();
        let length = lengths().nth(block).unwrap_or(0);
        self.zero.get(start..start + length).unwrap_or_default()
    }

    /// Where an uncompressed slot lies.
    pub(crate) fn offset(&self, slot: usize) -> u64 {
        HEADER_LENGTH as u64 + slot as u64 * PAGE as u64
    }
}

fn io_error(action: &'static str, path: &Path, offset: u64, cause: io::Error) -> ImageError {
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

impl MemoryImage {
    /// Opens an image and all that it stands on, whose paths `parents` knows. Headers, indexes and
    /// device states are read and checked, pages are not.
    pub fn open(
        path: &Path,
        parents: &dyn Fn(ImageId) -> Option<PathBuf>,
    ) -> Result<MemoryImage, ImageError> {
        let mut chain = vec![ImageFile::open(path)?];
        while let Some(last) = chain.last()
            && let Some(parent) = last.header.parent
        {
            if chain.len() > MOST_PARENTS {
                return Err(ImageError::TooDeep {
                    path: path.into(),
                    limit: MOST_PARENTS,
                });
            }
            let found = parents(parent).ok_or_else(|| ImageError::MissingParent {
                path: last.path.clone(),
                parent,
            })?;
            let opened = match ImageFile::open(&found) {
                Err(ImageError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                    return Err(ImageError::MissingParent {
                        path: last.path.clone(),
                        parent,
                    });
                }
                other => other?,
            };
            if opened.header.id != parent {
                return Err(ImageError::WrongImage {
                    path: found,
                    expected: parent,
                    found: opened.header.id,
                });
            }
            chain.push(opened);
        }
        MemoryImage::of(chain)
    }

    fn of(chain: Vec<ImageFile>) -> Result<MemoryImage, ImageError> {
        let Some(own) = chain.first() else {
            return Err(ImageError::NoMemory { path: "".into() });
        };
        let blocks = own.blocks.clone();
        let mut map = Vec::new();
        for block in &blocks {
            let pages = usize::try_from(block.pages()).unwrap_or(usize::MAX);
            let mut places = Vec::new();
            places
                .try_reserve_exact(pages)
                .map_err(|_| ImageError::NoMemory {
                    path: own.path.clone(),
                })?;
            places.resize(pages, Place::UNKNOWN);
            map.push(places);
        }
        let mut image = MemoryImage { chain, blocks, map };
        for number in (0..image.chain.len()).rev() {
            image.lay_over(number)?;
        }
        image.check_content()?;
        Ok(image)
    }

    /// Puts what the file with this number says over what those below it say.
    fn lay_over(&mut self, number: usize) -> Result<(), ImageError> {
        let Some(file) = self.chain.get(number) else {
            return Ok(());
        };
        // A parent's blocks count where name and length are the same; a child stores all pages of
        // the others.
        let here = |block: &RamBlock| self.blocks.iter().position(|b| b == block);
        let here: Vec<Option<usize>> = file.blocks.iter().map(here).collect();
        for (number_of_slot, slot) in file.slots.iter().enumerate() {
            let block = file.blocks.get(slot.block);
            if block.is_none_or(|block| slot.page >= block.pages()) {
                let what = format!("its page {number_of_slot} belongs nowhere");
                return Err(file.contradiction(what));
            }
            let places = here.get(slot.block).copied().flatten();
            let places = places.and_then(|block| self.map.get_mut(block));
            let page = usize::try_from(slot.page).unwrap_or(usize::MAX);
            if let Some(place) = places.and_then(|places| places.get_mut(page)) {
                *place = Place::stored(number, number_of_slot);
            }
        }
        for (block, here) in here.iter().enumerate() {
            let Some(places) = here.and_then(|here| self.map.get_mut(here)) else {
                continue;
            };
            for (pages, bits) in places.chunks_mut(8).zip(file.zero_bits(block)) {
                for (bit, place) in pages.iter_mut().enumerate() {
                    if bits >> bit & 1 == 1 {
                        *place = Place::ZERO;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether every page is somewhere, and all of them are what the header says.
    fn check_content(&self) -> Result<(), ImageError> {
        let Some(own) = self.chain.first() else {
            return Ok(());
        };
        let mut hash = Xxh3Default::new();
        for (block, places) in self.blocks.iter().zip(&self.map) {
            for (page, place) in places.iter().enumerate() {
                if *place == Place::UNKNOWN {
                    let what = format!("page {page} of the memory block {} is nowhere", block.name);
                    return Err(own.contradiction(what));
                }
                hash.update(&self.hash_at(*place).to_le_bytes());
            }
        }
        if hash.digest128() == own.header.content {
            return Ok(());
        }
        match self.chain.get(1) {
            Some(parent) => Err(ImageError::WrongParent {
                path: own.path.clone(),
                parent: parent.path.clone(),
            }),
            None => Err(own.contradiction("its pages are not those of its header".into())),
        }
    }

    /// The hash of the page in a place; zero for a zero page.
    pub(crate) fn hash_at(&self, place: Place) -> u128 {
        let slot = place.slot().and_then(|(file, slot)| {
            let file = self.chain.get(file)?;
            file.slots.get(slot)
        });
        slot.map_or(0, |slot| slot.hash)
    }

    /// The files, the image's own first.
    pub(crate) fn chain(&self) -> &[ImageFile] {
        &self.chain
    }

    fn own(&self) -> &ImageFile {
        // `of` refuses an empty chain.
        &self.chain[0]
    }

    /// The image's own file.
    pub fn path(&self) -> &Path {
        &self.own().path
    }

    /// The files of the whole chain, the image's own first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.chain.iter().map(|file| file.path.as_path())
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.own().header
    }

    /// How many files it is made of; 1 if it stands alone.
    pub fn depth(&self) -> usize {
        self.chain.len()
    }

    /// The guest's memory blocks, in QEMU's order.
    pub fn blocks(&self) -> &[RamBlock] {
        &self.blocks
    }

    /// The bytes of the stream between its version and its first section: QEMU's machine type and
    /// what it wants to be the same on both sides.
    pub fn configuration(&self) -> &[u8] {
        &self.own().configuration
    }

    /// The bytes of the stream behind memory, to the last: the sections of the devices, the mark
    /// of the end and QEMU's description of them.
    pub fn device_state(&self) -> &[u8] {
        &self.own().devices
    }

    /// Reads whole pages of a block, from `first` on, as many as `buffer` has room for, from
    /// wherever in the chain they are, and compares each with its hash.
    pub fn read(&self, block: usize, first: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let none = |page| ImageError::NoSuchPage {
            path: self.path().into(),
            block,
            page,
        };
        let places = self.map.get(block).ok_or_else(|| none(first))?;
        let wanted = buffer.len() / PAGE;
        let start = usize::try_from(first).unwrap_or(usize::MAX);
        let places = places.get(start..start.saturating_add(wanted));
        let mut places = places.ok_or_else(|| none(first.saturating_add(wanted as u64)))?;
        let mut buffer = buffer;
        while let Some(place) = places.first() {
            let same = match place.slot() {
                None => places.iter().take_while(|p| p.slot().is_none()).count(),
                Some((file, slot)) => {
                    let next = |(n, p): &(usize, &Place)| p.slot() == Some((file, slot + *n));
                    places.iter().enumerate().take_while(next).count()
                }
            };
            let (now, later) = buffer.split_at_mut((same * PAGE).min(buffer.len()));
            match place.slot() {
                None => now.fill(0),
                Some((file, slot)) => self.read_slots(file, slot, now)?,
            }
            buffer = later;
            places = places.get(same..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads neighbouring slots of one file.
    fn read_slots(&self, file: usize, slot: usize, buffer: &mut [u8]) -> Result<(), ImageError> {
        let Some(file) = self.chain.get(file) else {
            return Ok(());
        };
        let offset = file.offset(slot);
        file.file
            .read_exact_at(buffer, offset)
            .map_err(|cause| io_error("read", &file.path, offset, cause))?;
        for (number, page) in buffer.chunks_exact(PAGE).enumerate() {
            let entry = file.slots.get(slot + number);
            let hash = index::page_hash(page, &file.header.secret);
            if let Some(entry) = entry.filter(|entry| entry.hash != hash) {
                let name = file.blocks.get(entry.block).map(|b| b.name.clone());
                return Err(ImageError::DamagedPage {
                    path: file.path.clone(),
                    block: name.unwrap_or_default(),
                    page: entry.page,
                    offset: file.offset(slot + number),
                });
            }
        }
        Ok(())
    }

    /// Whether a page is zero; `None` if there is no such page.
    pub fn is_zero(&self, block: usize, page: u64) -> Option<bool> {
        let place = self.map.get(block)?.get(usize::try_from(page).ok()?)?;
        Some(place.slot().is_none())
    }

    /// All pages of a block as runs of zero pages and of data.
    pub fn runs(&self, block: usize) -> impl Iterator<Item = PageRun> + '_ {
        let places = self.map.get(block).map(Vec::as_slice).unwrap_or_default();
        let mut first = 0;
        places
            .chunk_by(|a, b| a.slot().is_none() == b.slot().is_none())
            .map(move |run| {
                let pages = run.len() as u64;
                let zero = run.first().is_some_and(|place| place.slot().is_none());
                let run = PageRun {
                    first,
                    pages,
                    kind: if zero { RunKind::Zero } else { RunKind::Data },
                };
                first += pages;
                run
            })
    }

    /// The pages in the image's own file, in the order in which they came from the guest.
    pub fn pages_stored(&self) -> impl Iterator<Item = StoredPage> + '_ {
        let own = self.own();
        let current = |(number, slot): (usize, index::Slot)| {
            let places = self.map.get(slot.block)?;
            let place = places.get(usize::try_from(slot.page).ok()?)?;
            // One that was replaced by a later one does not count.
            (place.slot() == Some((0, number))).then_some(StoredPage {
                block: slot.block,
                page: slot.page,
                hash: slot.hash,
            })
        };
        own.slots.iter().enumerate().filter_map(current)
    }

    /// Pages that are not zero, in the whole chain.
    pub fn data_pages(&self) -> u64 {
        let data = |places: &Vec<Place>| places.iter().filter(|p| p.slot().is_some()).count();
        self.map.iter().map(data).sum::<usize>() as u64
    }
}
