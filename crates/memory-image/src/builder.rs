//! Making an image out of the pages of a stream.
//!
//! A page goes into the data when it is not zero and not what the parent has. Data goes out in
//! large blocks, each behind the one before, then the sections follow, then the header: until
//! then the file is none.

use crate::PAGE;
use crate::error::ImageError;
use crate::header::{
    Compression, Extent, HEADER_LENGTH, Header, ImageId, Origin, SECRET_LENGTH, SECTIONS, Section,
};
use crate::image::MemoryImage;
use crate::index::{self, GROUP, Group, RamBlock};
use crate::stream::{Frame, Sink};
use std::ops::DerefMut;
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// The level of compression: the fastest that is worth it.
const LEVEL: i32 = 1;

/// Where the bytes of a new image go.
pub trait Output {
    /// Memory for some of them: whole pages, and as it suits the disk.
    type Buffer: DerefMut<Target = [u8]>;
    /// Why it cannot be written.
    type Error;
    /// Memory that is free; waits for it.
    fn buffer(&mut self) -> Result<Self::Buffer, Self::Error>;
    /// Writes the first `length` bytes, whole pages, at an offset that is one, too. It need not be
    /// done when this returns.
    fn write(
        &mut self,
        offset: u64,
        buffer: Self::Buffer,
        length: usize,
    ) -> Result<(), Self::Error>;
}

/// What an image is to be.
#[derive(Clone)]
pub struct Plan {
    /// Its identity.
    pub id: ImageId,
    /// The image whose pages need not be stored again.
    pub parent: Option<Arc<MemoryImage>>,
    /// How pages are stored.
    pub compression: Compression,
    /// What it is taken from.
    pub origin: Origin,
    /// Program and version, for the header.
    pub producer: String,
    /// When, in microseconds since 1970.
    pub created_micros: i64,
}

/// Why there is no image.
#[derive(Debug)]
pub enum BuildError<E> {
    /// The output failed.
    Output(E),
    /// The compressor failed.
    Compressing(std::io::Error),
    /// No random numbers.
    Random(std::io::Error),
    /// There is not enough memory for the index.
    NoMemory,
    /// A page never came.
    MissingPage {
        /// Its block.
        block: String,
        /// Its number.
        page: u64,
    },
}

/// What became of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages with data that came.
    pub data: u64,
    /// Pages of zeros that came.
    pub zero: u64,
    /// Pages with data that are as the parent has them.
    pub inherited: u64,
    /// Pages that were stored.
    pub stored: u64,
}

/// Makes one image.
pub struct Builder<O: Output> {
    plan: Plan,
    secret: [u8; SECRET_LENGTH],
    blocks: Vec<Building>,
    slots: Vec<u8>,
    groups: Groups,
    counts: Counts,
    out: Appender<O>,
}

/// The compressed groups so far, and the pages of the next one.
#[derive(Default)]
struct Groups {
    waiting: Vec<u8>,
    index: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

/// One block of memory.
struct Building {
    block: RamBlock,
    /// The same block of the parent.
    inherits: Option<usize>,
    /// The pages' hashes, zero for pages of zeros.
    hashes: Vec<u128>,
    seen: Bits,
    zero: Bits,
    /// Pages that the data holds, whatever came later.
    stored: Bits,
}

#[derive(Default)]
struct Bits(Vec<u8>);

impl Bits {
    fn set(&mut self, number: usize, value: bool) {
        if let Some(byte) = self.0.get_mut(number / 8) {
            let bit = 1 << (number % 8);
            *byte = if value { *byte | bit } else { *byte & !bit };
        }
    }

    fn get(&self, number: usize) -> bool {
        let byte = self.0.get(number / 8).copied().unwrap_or(0);
        byte >> (number % 8) & 1 == 1
    }
}

impl<O: Output> Builder<O> {
    /// Begins; nothing is written yet.
    pub fn new(plan: Plan, output: O) -> Result<Builder<O>, BuildError<O::Error>> {
        let secret = match &plan.parent {
            Some(parent) => parent.header().secret,
            None => random().map_err(BuildError::Random)?,
        };
        Builder::of_lineage(plan, secret, output)
    }

    pub(crate) fn of_lineage(
        plan: Plan,
        secret: [u8; SECRET_LENGTH],
        output: O,
    ) -> Result<Builder<O>, BuildError<O::Error>> {
        let compressor = match plan.compression {
            Compression::None => None,
            Compression::Zstd => {
                Some(zstd::bulk::Compressor::new(LEVEL).map_err(BuildError::Compressing)?)
            }
        };
        Ok(Builder {
            plan,
            secret,
            blocks: Vec::new(),
            slots: Vec::new(),
            groups: Groups {
                compressor,
                ..Groups::default()
            },
            counts: Counts::default(),
            out: Appender {
                output,
                buffer: None,
                filled: 0,
                flushed: HEADER_LENGTH as u64,
            },
        })
    }

    /// What became of the pages so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A page whose hash is known is what the parent has.
    pub(crate) fn inherit(&mut self, block: usize, page: u64, hash: u128) {
        let number = usize::try_from(page).unwrap_or(usize::MAX);
        if let Some(building) = self.blocks.get_mut(block)
            && let Some(known) = building.hashes.get_mut(number)
        {
            *known = hash;
            building.seen.set(number, true);
            self.counts.inherited += 1;
        }
    }

    fn store(&mut self, page: &[u8; PAGE]) -> Result<(), BuildError<O::Error>> {
        if self.plan.compression == Compression::None {
            return self.out.append(page);
        }
        self.groups.waiting.extend_from_slice(page);
        match self.groups.waiting.len() < GROUP * PAGE {
            true => Ok(()),
            false => self.store_group(),
        }
    }

    /// Compresses the pages that wait, unless that makes them longer.
    fn store_group(&mut self) -> Result<(), BuildError<O::Error>> {
        let Some(compressor) = &mut self.groups.compressor else {
            return Ok(());
        };
        let pages = std::mem::take(&mut self.groups.waiting);
        if pages.is_empty() {
            return Ok(());
        }
        let compressed = compressor
            .compress(&pages)
            .map_err(BuildError::Compressing)?;
        let smaller = compressed.len() < pages.len();
        let stored = if smaller { &compressed } else { &pages };
        self.groups.index.extend(index::group_bytes(Group {
            offset: self.out.position(),
            length: u32::try_from(stored.len()).unwrap_or(u32::MAX),
            hash: xxh3_128(stored),
        }));
        self.out.append(stored)
    }

    /// The stream has ended: writes the rest. Whoever does the output cuts the file to
    /// [`Header::file_length`] then.
    pub fn finish(mut self, frame: &Frame) -> Result<(Header, O), BuildError<O::Error>> {
        let content = self.content()?;
        self.store_group()?;
        // The sections begin at a page.
        let tail = self.out.position() % PAGE as u64;
        if tail != 0 {
            let padding = vec![0; PAGE - usize::try_from(tail).unwrap_or(0)];
            self.out.append(&padding)?;
        }
        let data_length = self.out.position() - HEADER_LENGTH as u64;
        let list: Vec<RamBlock> = self.blocks.iter().map(|b| b.block.clone()).collect();
        let list = index::encode_blocks(&list);
        let zero: Vec<u8> = self
            .blocks
            .iter()
            .flat_map(|b| &b.zero.0)
            .copied()
            .collect();
        let mut sections = [Extent::default(); SECTIONS];
        for (extent, section) in sections.iter_mut().zip(Section::ALL) {
            let bytes: &[u8] = match section {
                Section::Configuration => &frame.configuration,
                Section::Blocks => &list,
                Section::Zero => &zero,
                Section::Slots => &self.slots,
                Section::Groups => &self.groups.index,
                Section::Devices => &frame.devices,
            };
            *extent = Extent {
                offset: self.out.position(),
                length: bytes.len() as u64,
                hash: xxh3_128(bytes),
            };
            self.out.append(bytes)?;
        }
        self.out.flush()?;
        let header = Header {
            id: self.plan.id,
            parent: self.plan.parent.as_ref().map(|parent| parent.header().id),
            content,
            data_length,
            compression: self.plan.compression,
            ram: frame.ram,
            secret: self.secret,
            sections,
            origin: self.plan.origin,
            producer: self.plan.producer,
            created_micros: self.plan.created_micros,
        };
        self.out.write_header(&header)?;
        Ok((header, self.out.output))
    }

    /// The hash over all pages; each must have come.
    fn content(&self) -> Result<u128, BuildError<O::Error>> {
        let mut content = ContentHash::default();
        for building in &self.blocks {
            for (page, hash) in building.hashes.iter().enumerate() {
                if !building.seen.get(page) {
                    return Err(BuildError::MissingPage {
                        block: building.block.name.clone(),
                        page: page as u64,
                    });
                }
                content.add(*hash);
            }
        }
        Ok(content.end())
    }
}

impl<O: Output> Sink for Builder<O> {
    type Error = BuildError<O::Error>;

    fn blocks(&mut self, blocks: &[RamBlock]) -> Result<(), Self::Error> {
        for block in blocks {
            let pages = usize::try_from(block.pages()).unwrap_or(usize::MAX);
            let mut hashes = Vec::new();
            hashes
                .try_reserve_exact(pages)
                .map_err(|_| BuildError::NoMemory)?;
            hashes.resize(pages, 0);
            let bits = || Bits(vec![0; pages.div_ceil(8)]);
            let parents = self.plan.parent.as_ref().map(|parent| parent.blocks());
            self.blocks.push(Building {
                block: block.clone(),
                inherits: parents.and_then(|all| all.iter().position(|b| b == block)),
                hashes,
                seen: bits(),
                zero: bits(),
                stored: bits(),
            });
        }
        Ok(())
    }

    fn page(&mut self, block: usize, page: u64, bytes: &[u8; PAGE]) -> Result<(), Self::Error> {
        if *bytes == [0; PAGE] {
            return self.zero(block, page);
        }
        self.counts.data += 1;
        let hash = index::page_hash(bytes, &self.secret);
        let number = usize::try_from(page).unwrap_or(usize::MAX);
        let Some(building) = self.blocks.get_mut(block) else {
            return Ok(());
        };
        let Some(known) = building.hashes.get_mut(number) else {
            return Ok(());
        };
        let same = building.seen.get(number) && *known == hash;
        *known = hash;
        building.seen.set(number, true);
        building.zero.set(number, false);
        let stored = building.stored.get(number);
        if same {
            return Ok(());
        }
        // What the data holds of a page counts more than what the parent has.
        if !stored
            && let (Some(parent), Some(at)) = (&self.plan.parent, building.inherits)
            && parent.hash_of(at, number) == Some(hash)
        {
            self.counts.inherited += 1;
            return Ok(());
        }
        building.stored.set(number, true);
        self.counts.stored += 1;
        let place = index::slot_bytes(block, page, hash);
        self.slots.extend_from_slice(&place);
        self.store(bytes)
    }

    fn zero(&mut self, block: usize, page: u64) -> Result<(), Self::Error> {
        self.counts.zero += 1;
        let number = usize::try_from(page).unwrap_or(usize::MAX);
        if let Some(building) = self.blocks.get_mut(block)
            && let Some(hash) = building.hashes.get_mut(number)
        {
            *hash = 0;
            building.seen.set(number, true);
            building.zero.set(number, true);
        }
        Ok(())
    }
}

/// The hash over the hashes of all pages.
#[derive(Default)]
pub(crate) struct ContentHash {
    hash: Xxh3Default,
    waiting: Vec<u8>,
}

impl ContentHash {
    pub(crate) fn add(&mut self, page: u128) {
        self.waiting.extend_from_slice(&page.to_le_bytes());
        if self.waiting.len() >= 1 << 14 {
            self.hash.update(&self.waiting);
            self.waiting.clear();
        }
    }

    pub(crate) fn end(mut self) -> u128 {
        self.hash.update(&self.waiting);
        self.hash.digest128()
    }
}

fn random() -> std::io::Result<[u8; SECRET_LENGTH]> {
    let mut secret = [0; SECRET_LENGTH];
    let mut rest = secret.as_mut_slice();
    while !rest.is_empty() {
        let got = rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())?;
        rest = rest.get_mut(got..).unwrap_or_default();
    }
    Ok(secret)
}

/// Collects bytes into large blocks, each behind the one before.
struct Appender<O: Output> {
    output: O,
    buffer: Option<O::Buffer>,
    filled: usize,
    /// Where `buffer` will be written.
    flushed: u64,
}

impl<O: Output> Appender<O> {
    fn position(&self) -> u64 {
        self.flushed + self.filled as u64
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), BuildError<O::Error>> {
        while !bytes.is_empty() {
            let buffer = match &mut self.buffer {
                Some(buffer) => buffer,
                none => none.insert(self.output.buffer().map_err(BuildError::Output)?),
            };
            let room = buffer.get_mut(self.filled..).unwrap_or_default();
            let length = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(length);
            if let Some(room) = room.get_mut(..length) {
                room.copy_from_slice(now);
            }
            self.filled += length;
            bytes = later;
            if self.filled >= buffer.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what there is; the last page is filled up with zeros.
    fn flush(&mut self) -> Result<(), BuildError<O::Error>> {
        let Some(mut buffer) = self.buffer.take() else {
            return Ok(());
        };
        let length = self.filled.next_multiple_of(PAGE);
        if let Some(tail) = buffer.get_mut(self.filled..length) {
            tail.fill(0);
        }
        let at = self.flushed;
        self.flushed += self.filled as u64;
        self.filled = 0;
        let result = self.output.write(at, buffer, length);
        result.map_err(BuildError::Output)
    }

    fn write_header(&mut self, header: &Header) -> Result<(), BuildError<O::Error>> {
        let mut buffer = self.output.buffer().map_err(BuildError::Output)?;
        if let Some(page) = buffer.get_mut(..HEADER_LENGTH) {
            page.copy_from_slice(&header.encode());
        }
        let result = self.output.write(0, buffer, HEADER_LENGTH);
        result.map_err(BuildError::Output)
    }
}

impl BuildError<std::io::Error> {
    /// The error with the name of the file that was to be made.
    pub fn at(self, path: &std::path::Path) -> ImageError {
        let path = path.to_owned();
        match self {
            BuildError::NoMemory => ImageError::NoMemory { path },
            BuildError::Output(cause)
            | BuildError::Random(cause)
            | BuildError::Compressing(cause) => ImageError::Io {
                action: "made",
                path,
                offset: 0,
                cause,
            },
            BuildError::MissingPage { block, page } => ImageError::Contradiction {
                path,
                what: format!("page {page} of the memory block {block} is nowhere"),
            },
        }
    }
}
