//! What the sections behind the data hold.
//!
//! - Blocks: their number (u32), then for each the length of its name (u8), the name and its
//!   length in bytes (u64).
//! - Zero: one bit a page, lowest bit first, each block's bits in whole bytes. It is complete: every
//!   zero page is marked, whatever the parent says.
//! - Slots: for each page in the data, in the order of the data, its block and number
//!   (u64: 16 bits block, 48 bits page) and its hash (u128). A later slot replaces an earlier one
//!   for the same page, and a mark in Zero replaces both. Every other page is the parent's.
//! - Groups (only if compressed): for each 16 slots the offset (u64), the length (u32), zero (u32)
//!   and the plain xxh3-128 of the stored bytes. A length of as many pages as the group has says
//!   that it is not compressed.

use crate::PAGE;
use crate::header::SECRET_LENGTH;
use xxhash_rust::xxh3::xxh3_128_with_secret;

/// Most memory blocks of a guest.
pub const MOST_BLOCKS: usize = 1024;
/// Most memory of a guest, in bytes: 16 TiB.
pub const MOST_MEMORY: u64 = 16 << 40;
/// Slots in a compressed group.
pub const GROUP: usize = 16;
/// Bytes of a slot in the file.
pub const SLOT_LENGTH: usize = 24;
/// Bytes of a group in the file.
pub const GROUP_LENGTH: usize = 32;

const PAGE_BITS: u32 = 48;

/// A block of the guest's memory, as QEMU names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBlock {
    /// QEMU's name of it, at most 255 bytes.
    pub name: String,
    /// Its length in bytes, whole pages.
    pub length: u64,
}

impl RamBlock {
    /// Bytes of a page of the guest.
    pub const PAGE_SIZE: u64 = PAGE as u64;

    /// Its pages.
    pub fn pages(&self) -> u64 {
        self.length / Self::PAGE_SIZE
    }
}

/// The hash of a page.
pub fn page_hash(page: &[u8], secret: &[u8; SECRET_LENGTH]) -> u128 {
    xxh3_128_with_secret(page, secret)
}

/// Writes the list of blocks.
pub fn encode_blocks(blocks: &[RamBlock]) -> Vec<u8> {
    let count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
    let mut bytes = count.to_le_bytes().to_vec();
    for block in blocks {
        let name = block.name.as_bytes();
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        bytes.push(length);
        bytes.extend(name.iter().take(usize::from(length)));
        bytes.extend(block.length.to_le_bytes());
    }
    bytes
}

/// Reads the list of blocks.
pub fn decode_blocks(mut bytes: &[u8]) -> Result<Vec<RamBlock>, String> {
    let count = u32::from_le_bytes(*take::<4>(&mut bytes).ok_or("the list of blocks is cut off")?);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MOST_BLOCKS {
        return Err(format!("it has {count} memory blocks"));
    }
    let mut blocks: Vec<RamBlock> = Vec::new();
    for _ in 0..count {
        let [length] = *take::<1>(&mut bytes).ok_or("the list of blocks is cut off")?;
        let name = bytes.split_at_checked(usize::from(length));
        let (name, rest) = name.ok_or("the list of blocks is cut off")?;
        bytes = rest;
        let name = std::str::from_utf8(name).map_err(|_| "a block's name is no text")?;
        let length = take::<8>(&mut bytes).ok_or("the list of blocks is cut off")?;
        blocks.push(RamBlock {
            name: name.to_owned(),
            length: u64::from_le_bytes(*length),
        });
    }
    if !bytes.is_empty() {
        return Err("the list of blocks is too long".into());
    }
    check_blocks(&blocks)?;
    Ok(blocks)
}

/// Whether blocks can be a guest's.
pub fn check_blocks(blocks: &[RamBlock]) -> Result<(), String> {
    if blocks.is_empty() || blocks.len() > MOST_BLOCKS {
        return Err(format!("it has {} memory blocks", blocks.len()));
    }
    let mut total = 0u64;
    for (number, block) in blocks.iter().enumerate() {
        if block.length == 0 || !block.length.is_multiple_of(RamBlock::PAGE_SIZE) {
            let RamBlock { name, length } = block;
            return Err(format!("the memory block {name} is {length} bytes long"));
        }
        if blocks.iter().take(number).any(|b| b.name == block.name) {
            return Err(format!("the memory block {} is there twice", block.name));
        }
        total = total.saturating_add(block.length);
    }
    if total > MOST_MEMORY {
        return Err(format!("its memory is {total} bytes"));
    }
    Ok(())
}

/// Bytes that a block's bits take.
pub fn bitmap_length(block: &RamBlock) -> usize {
    usize::try_from(block.pages().div_ceil(8)).unwrap_or(usize::MAX)
}

/// The pages in the data, as they are in the file.
#[derive(Clone, Debug, Default)]
pub struct Slots(pub Vec<u8>);

/// A page in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub block: usize,
    pub page: u64,
    pub hash: u128,
}

impl Slots {
    pub fn len(&self) -> usize {
        self.0.len() / SLOT_LENGTH
    }

    pub fn get(&self, number: usize) -> Option<Slot> {
        let at = number.checked_mul(SLOT_LENGTH)?;
        self.0.get(at..at.checked_add(SLOT_LENGTH)?).and_then(slot)
    }

    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.chunks_exact(SLOT_LENGTH).filter_map(slot)
    }
}

fn slot(mut bytes: &[u8]) -> Option<Slot> {
    let place = u64::from_le_bytes(*take::<8>(&mut bytes)?);
    Some(Slot {
        block: usize::try_from(place >> PAGE_BITS).ok()?,
        page: place & ((1 << PAGE_BITS) - 1),
        hash: u128::from_le_bytes(*take::<16>(&mut bytes)?),
    })
}

/// A slot as it is in the file.
pub fn slot_bytes(block: usize, page: u64, hash: u128) -> [u8; SLOT_LENGTH] {
    let place = ((block as u64) << PAGE_BITS) | page;
    let mut bytes = [0; SLOT_LENGTH];
    let (first, last) = bytes.split_at_mut(8);
    first.copy_from_slice(&place.to_le_bytes());
    last.copy_from_slice(&hash.to_le_bytes());
    bytes
}

/// Where a compressed group lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub offset: u64,
    pub length: u32,
    pub hash: u128,
}

/// A group as it is in the file.
pub fn group_bytes(group: Group) -> [u8; GROUP_LENGTH] {
    let mut bytes = [0; GROUP_LENGTH];
    let (place, hash) = bytes.split_at_mut(16);
    hash.copy_from_slice(&group.hash.to_le_bytes());
    let (offset, length) = place.split_at_mut(8);
    offset.copy_from_slice(&group.offset.to_le_bytes());
    length.copy_from_slice(&u64::from(group.length).to_le_bytes());
    bytes
}

/// The group with this number.
pub fn group(groups: &[u8], number: usize) -> Option<Group> {
    let at = number.checked_mul(GROUP_LENGTH)?;
    let mut bytes = groups.get(at..at.checked_add(GROUP_LENGTH)?)?;
    let offset = u64::from_le_bytes(*take::<8>(&mut bytes)?);
    let length = u32::from_le_bytes(*take::<4>(&mut bytes)?);
    let zero = u32::from_le_bytes(*take::<4>(&mut bytes)?);
    let hash = u128::from_le_bytes(*take::<16>(&mut bytes)?);
    (zero == 0).then_some(Group {
        offset,
        length,
        hash,
    })
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(first)
}
