//! What a source of a postcopy migration sends, as bytes (QEMU's `migration/savevm.c` and
//! `migration/ram.c`; all numbers big-endian).
//!
//! | | |
//! |---|---|
//! | magic, version 3, configuration | as recorded |
//! | `OPEN_RETURN_PATH`, `POSTCOPY_ADVISE` | page sizes; the destination drops all its memory |
//! | section start of `ram` | the memory blocks; with the page size where it is not 4096 |
//! | `POSTCOPY_RAM_DISCARD` | of one page; see [`Stream::discard`] |
//! | `PACKAGED` | `POSTCOPY_LISTEN`, the devices, `PING`, `POSTCOPY_RUN`: read as a whole before it is acted upon, because devices that load may need memory |
//! | section part of `ram` | pages, until none is missing |
//! | section end of `ram`, end of stream | |
//!
//! After a broken connection: `RECV_BITMAP` for each block, `POSTCOPY_RESUME`, then again a part.

use super::{RamSection, SourceBlock};

/// Bytes of a page of the guest.
pub const PAGE: u64 = 4096;

const MAGIC: u32 = 0x5145_564d;
const VERSION: u32 = 3;

const END_OF_STREAM: u8 = 0x00;
const SECTION_START: u8 = 0x01;
const SECTION_PART: u8 = 0x02;
const SECTION_END: u8 = 0x03;
const COMMAND: u8 = 0x08;
const SECTION_FOOTER: u8 = 0x7e;

const OPEN_RETURN_PATH: u16 = 1;
const PING: u16 = 2;
const POSTCOPY_ADVISE: u16 = 3;
const POSTCOPY_LISTEN: u16 = 4;
const POSTCOPY_RUN: u16 = 5;
const POSTCOPY_RAM_DISCARD: u16 = 6;
const PACKAGED: u16 = 7;
const POSTCOPY_RESUME: u16 = 9;
const RECV_BITMAP: u16 = 10;

const FLAG_ZERO: u64 = 0x02;
const FLAG_SIZES: u64 = 0x04;
const FLAG_PAGE: u64 = 0x08;
const FLAG_END: u64 = 0x10;
const FLAG_SAME_BLOCK: u64 = 0x20;

/// The number of the ping that follows the devices: its answer says that they are loaded.
pub const DEVICES_LOADED: u32 = 3;

/// The part of the stream that is being put together.
#[derive(Default)]
pub struct Stream {
    bytes: Vec<u8>,
    /// The block of the last page; the next page of the same block need not name it.
    last_block: Option<usize>,
}

impl Stream {
    /// What was put together, to be sent; the next part begins empty.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins the next part.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    fn be16(&mut self, number: u16) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn be32(&mut self, number: u32) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn be64(&mut self, number: u64) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn name(&mut self, name: &str) {
        let name = name.as_bytes();
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        self.bytes.push(length);
        self.bytes.extend(name.iter().take(usize::from(length)));
    }

    fn command(&mut self, command: u16, data: &[u8]) {
        self.bytes.push(COMMAND);
        self.be16(command);
        // No command that is sent here has more than 300 bytes of data.
        self.be16(u16::try_from(data.len()).unwrap_or(u16::MAX));
        self.bytes.extend(data);
    }

    /// From the first byte to the list of memory blocks. `configuration` begins with its mark.
    pub fn beginning(&mut self, configuration: &[u8], ram: RamSection, blocks: &[SourceBlock]) {
        self.be32(MAGIC);
        self.be32(VERSION);
        self.bytes.extend(configuration);
        self.command(OPEN_RETURN_PATH, &[]);
        let sizes = blocks.iter().fold(0, |all, block| all | block.page_size);
        let mut advice = sizes.to_be_bytes().to_vec();
        advice.extend(PAGE.to_be_bytes());
        self.command(POSTCOPY_ADVISE, &advice);
        self.bytes.push(SECTION_START);
        self.be32(ram.id);
        self.name("ram");
        self.be32(ram.instance);
        self.be32(ram.version);
        let total = blocks.iter().fold(0u64, |n, b| n.saturating_add(b.length));
        self.be64(total | FLAG_SIZES);
        for block in blocks {
            self.name(&block.name);
            self.be64(block.length);
            if block.page_size != PAGE {
                self.be64(block.page_size);
            }
        }
        self.be64(FLAG_END);
        self.footer(ram);
        if let Some(block) = blocks.first() {
            self.discard(block);
        }
    }

    /// Drops the first page of a block, which is not there yet. A destination that goes from advice
    /// to listening without dropping anything takes itself for one that gets all memory before it
    /// runs, writes pages into the guest's memory directly, and then waits for itself (10.0).
    fn discard(&mut self, block: &SourceBlock) {
        let mut data = Stream::default();
        data.bytes.push(0);
        data.name(&block.name);
        data.bytes.push(0);
        data.be64(0);
        data.be64(block.page_size);
        self.command(POSTCOPY_RAM_DISCARD, &data.bytes);
    }

    /// The devices, and what lets the guest run without its memory.
    pub fn package(&mut self, devices: &[u8]) -> Result<(), TooLong> {
        let mut inner = Stream::default();
        inner.command(POSTCOPY_LISTEN, &[]);
        inner.bytes.extend(devices);
        inner.command(PING, &DEVICES_LOADED.to_be_bytes());
        inner.command(POSTCOPY_RUN, &[]);
        let length = u32::try_from(inner.bytes.len()).map_err(|_| TooLong)?;
        self.command(PACKAGED, &length.to_be_bytes());
        self.bytes.append(&mut inner.bytes);
        Ok(())
    }

    /// From here on, pages.
    pub fn begin_pages(&mut self, ram: RamSection) {
        self.bytes.push(SECTION_PART);
        self.be32(ram.id);
        self.last_block = None;
    }

    /// A page of data. A host page of more than [`PAGE`] must be sent whole, in order, and without
    /// another page in between.
    pub fn page(&mut self, number: usize, block: &SourceBlock, offset: u64, page: &[u8]) {
        self.place(number, block, offset | FLAG_PAGE);
        self.bytes.extend(page);
    }

    /// A page of zeros.
    pub fn zero_page(&mut self, number: usize, block: &SourceBlock, offset: u64) {
        self.place(number, block, offset | FLAG_ZERO);
        self.bytes.push(0);
    }

    fn place(&mut self, number: usize, block: &SourceBlock, place: u64) {
        if self.last_block == Some(number) {
            return self.be64(place | FLAG_SAME_BLOCK);
        }
        self.be64(place);
        self.name(&block.name);
        self.last_block = Some(number);
    }

    /// All pages are sent.
    pub fn end(&mut self, ram: RamSection) {
        self.be64(FLAG_END);
        self.footer(ram);
        self.bytes.push(SECTION_END);
        self.be32(ram.id);
        self.be64(FLAG_END);
        self.footer(ram);
        self.bytes.push(END_OF_STREAM);
    }

    fn footer(&mut self, ram: RamSection) {
        if ram.footers {
            self.bytes.push(SECTION_FOOTER);
            self.be32(ram.id);
        }
    }

    /// Asks which pages of a block the destination has; answered by a bitmap.
    pub fn ask_received(&mut self, block: &SourceBlock) {
        let mut asked = Stream::default();
        asked.name(&block.name);
        self.command(RECV_BITMAP, &asked.bytes);
    }

    /// Goes on after a broken connection; answered, then pages follow.
    pub fn resume(&mut self) {
        self.command(POSTCOPY_RESUME, &[]);
    }
}

/// Device states of 4 GiB or more cannot be packaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of its devices is too long for a postcopy migration")]
pub struct TooLong;
