//! Reading an image, together with the images that it stands on.

use crate::PAGE;
use crate::builder::ContentHash;
use crate::error::ImageError;
use crate::file::{GroupCache, ImageFile};
use crate::header::{Header, ImageId};
use crate::index::{self, RamBlock};
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

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
    cache: GroupCache,
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
            if opened.header.secret != last.header.secret {
                return Err(ImageError::WrongParent {
                    path: last.path.clone(),
                    parent: found,
                });
            }
            chain.push(opened);
        }
        MemoryImage::of(chain)
    }

    pub(crate) fn of(chain: Vec<ImageFile>) -> Result<MemoryImage, ImageError> {
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
        let mut image = MemoryImage {
            chain,
            blocks,
            map,
            cache: GroupCache::default(),
        };
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
        let mut hash = ContentHash::default();
        for (block, places) in self.blocks.iter().zip(&self.map) {
            for (page, place) in places.iter().enumerate() {
                if *place == Place::UNKNOWN {
                    let what = format!("page {page} of the memory block {} is nowhere", block.name);
                    return Err(own.contradiction(what));
                }
                hash.add(self.hash_at(*place));
            }
        }
        if hash.end() == own.header.content {
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

    /// The hash of a page; `None` if there is no such page.
    pub(crate) fn hash_of(&self, block: usize, page: usize) -> Option<u128> {
        let place = self.map.get(block)?.get(page)?;
        Some(self.hash_at(*place))
    }

    pub(crate) fn places(&self, block: usize) -> &[Place] {
        self.map.get(block).map(Vec::as_slice).unwrap_or_default()
    }

    /// Pages in the image's own file, those that were replaced included.
    pub(crate) fn pages_in_own_file(&self) -> u64 {
        self.own().slots.len() as u64
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
                Some((number, slot)) => match self.chain.get(number) {
                    Some(file) => file.read_slots(slot, now, &self.cache)?,
                    None => return Err(none(first)),
                },
            }
            buffer = later;
            places = places.get(same..).unwrap_or_default();
        }
        Ok(())
    }

    /// Lets the kernel read pages into its cache that will soon be read from here, wherever in the
    /// chain they are. A hint, which does not wait for them.
    pub fn prefetch(&self, block: usize, first: u64, pages: u64) {
        let start = usize::try_from(first).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(pages).unwrap_or(usize::MAX));
        let places = self.places(block);
        let places = places.get(start..end.min(places.len())).unwrap_or_default();
        let mut slots = places.iter().filter_map(|place| place.slot());
        let Some(mut run) = slots.next().map(|(file, slot)| (file, slot, 1)) else {
            return;
        };
        let expect = |(file, slot, length): (usize, usize, usize)| {
            if let Some(file) = self.chain.get(file) {
                file.prefetch(slot, length);
            }
        };
        for (file, slot) in slots {
            if file == run.0 && slot == run.1 + run.2 {
                run.2 += 1;
            } else {
                expect(run);
                run = (file, slot, 1);
            }
        }
        expect(run);
    }

    /// Reads every byte of all files of the chain and compares it with its hash. `progress` is told
    /// how many bytes are done, and how many there are; it may wait, and ends the work by saying so.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), ImageError> {
        let length = |file: &ImageFile| file.header.file_length();
        let total = self.chain.iter().map(length).sum();
        let mut before = 0;
        for file in &self.chain {
            file.verify(&mut |done| progress(before + done, total))?;
            before += length(file);
        }
        Ok(())
    }

    /// The same for the image's own file alone.
    pub fn verify_own(
        &self,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), ImageError> {
        let own = self.own();
        let total = own.header.file_length();
        own.verify(&mut |done| progress(done, total))
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

    /// The pages that came before their turn, the earliest first, at most `most`: QEMU sends memory
    /// from its beginning to its end, but a page that the running guest wants to write to at once.
    /// So these are the pages that the guest wrote to first after the instant of the image, and
    /// will again. Those of the image's own file, then those of the files below it; some may
    /// be told twice. None is known of an image that was written anew.
    pub fn first_written(&self, most: usize) -> Vec<(usize, u64)> {
        let mut found = Vec::new();
        for file in &self.chain {
            if file.blocks == self.blocks {
                found.extend(before_their_turn(&file.slots, most));
            }
            if found.len() >= most {
                break;
            }
        }
        found.truncate(most);
        found
    }

    /// Pages that are not zero, in the whole chain.
    pub fn data_pages(&self) -> u64 {
        let data = |places: &Vec<Place>| places.iter().filter(|p| p.slot().is_some()).count();
        self.map.iter().map(data).sum::<usize>() as u64
    }
}

/// A page that a later one stands before has come early.
fn before_their_turn(slots: &index::Slots, most: usize) -> VecDeque<(usize, u64)> {
    let mut early = VecDeque::new();
    let mut first_behind = None;
    for slot in (0..slots.len())
        .rev()
        .filter_map(|number| slots.get(number))
    {
        let page = (slot.block, slot.page);
        if first_behind.is_some_and(|behind| page > behind) {
            early.push_front(page);
            early.truncate(most);
        } else {
            first_behind = Some(page);
        }
    }
    early
}
