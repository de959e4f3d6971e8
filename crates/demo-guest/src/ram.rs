//! The guest's counters in its memory: one state page and a ring of pages, both recognisable in a
//! dump of the guest's physical memory, and [`inspect`], which judges such a dump.
//!
//! The pages are made of atomics: the guest's threads share them, and every write reaches memory.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::pattern;

/// Size of a page.
pub const PAGE_SIZE: usize = 4096;
/// How many pages the ring has where memory allows.
pub const RING_PAGES: usize = 16_384;

const WORDS: usize = PAGE_SIZE / 8;
const STATE_MAGIC: u64 = u64::from_le_bytes(*b"rv-state");
const RING_MAGIC: u64 = u64::from_le_bytes(*b"rv-ring\0");

/// One page of the guest's own, aligned, written word by word.
#[repr(C, align(4096))]
pub struct Page([AtomicU64; WORDS]);

impl Default for Page {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }
}

impl Page {
    /// The words of the page.
    #[must_use]
    pub const fn words(&self) -> &[AtomicU64; WORDS] {
        &self.0
    }

    /// The words as they are now.
    #[must_use]
    pub fn load(&self) -> [u64; WORDS] {
        std::array::from_fn(|index| self.0.get(index).map_or(0, |word| word.load(SeqCst)))
    }
}

/// The page with the counters A and B.
#[derive(Default)]
pub struct StatePage(Page);

impl StatePage {
    /// Writes what stays for the whole boot; the magic comes last.
    pub fn set_up(&self, boot: u64, start: u64, ring: u64) {
        let [magic, boot_word, start_word, ring_word, a, b, ..] = self.0.words();
        boot_word.store(boot, SeqCst);
        start_word.store(start, SeqCst);
        ring_word.store(ring, SeqCst);
        a.store(start, SeqCst);
        b.store(start, SeqCst);
        magic.store(STATE_MAGIC, SeqCst);
    }

    /// The counter written first in a round.
    #[must_use]
    pub const fn a(&self) -> &AtomicU64 {
        let [_, _, _, _, a, ..] = self.0.words();
        a
    }

    /// The counter written last in a round.
    #[must_use]
    pub const fn b(&self) -> &AtomicU64 {
        let [_, _, _, _, _, b, ..] = self.0.words();
        b
    }
}

impl From<StatePage> for Page {
    fn from(StatePage(page): StatePage) -> Self {
        page
    }
}

/// Writes round `value` into the ring's page `index`.
pub fn write_ring_page(page: &Page, boot: u64, index: u64, value: u64) {
    let [magic, boot_word, index_word, value_word, rest @ ..] = page.words();
    magic.store(RING_MAGIC, SeqCst);
    boot_word.store(boot, SeqCst);
    index_word.store(index, SeqCst);
    value_word.store(value, SeqCst);
    for (place, word) in (0..).zip(rest) {
        word.store(pattern::word(value ^ boot, place), SeqCst);
    }
}

/// The value that ring page `index` holds when `last` is the last round done, of a boot that began
/// after round `start`: the newest round of that page, or `start` if there was none.
#[must_use]
pub fn expected_ring_value(index: u64, last: u64, start: u64, ring: u64) -> u64 {
    if ring == 0 {
        return start;
    }
    let behind = (last % ring + ring - index % ring) % ring;
    match last.checked_sub(behind) {
        Some(value) if value > start => value,
        _ => start,
    }
}

/// A ring page's words, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPage {
    /// Its place in the ring.
    pub index: u64,
    /// The round written in it.
    pub value: u64,
    /// Whether all its words are of that round.
    pub whole: bool,
}

/// Judges the words of a page, if it is a ring page of `boot`.
#[must_use]
pub fn judge_ring_page(words: &[u64; WORDS], boot: u64) -> Option<RingPage> {
    let [magic, page_boot, index, value, rest @ ..] = words;
    if *magic != RING_MAGIC || *page_boot != boot {
        return None;
    }
    let whole = (0..)
        .zip(rest)
        .all(|(place, word)| *word == pattern::word(value ^ boot, place));
    Some(RingPage {
        index: *index,
        value: *value,
        whole,
    })
}

/// What a dump of the guest's memory shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryReport {
    /// The boot the pages belong to.
    pub boot: u64,
    /// Counter A, written first in a round.
    pub a: u64,
    /// Counter B, written last in a round.
    pub b: u64,
    /// The counter before the first round of this boot.
    pub start: u64,
    /// Pages the ring has.
    pub ring: u64,
    /// Ring pages found.
    pub ring_found: u64,
    /// Ring pages that do not hold what they must at A and B, missing ones included.
    pub ring_wrong: u64,
}

impl MemoryReport {
    /// Whether memory by itself is of one instant.
    #[must_use]
    pub const fn is_consistent(&self) -> bool {
        self.ring_wrong == 0 && (self.a == self.b || self.a == self.b + 1)
    }

    /// Whether a disk with the counter `disk` is of the same instant as this memory.
    #[must_use]
    pub const fn agrees_with_disk(&self, disk: u64) -> bool {
        self.b <= disk && disk <= self.a
    }
}

/// Why a dump cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The dump cannot be read.
    #[error("cannot read the memory dump: {0}")]
    Read(#[from] io::Error),
    /// No state page is in the dump.
    #[error(
        "the dump holds no state page of a demo guest: pages must lie at multiples of 4096 bytes, \
         as in a dump of physical memory, and the guest must have said that it is ready"
    )]
    NoStatePage,
}

/// Judges a dump of the guest's physical memory: pages at multiples of 4096 bytes, in any order
/// (QMP `pmemsave`, or a snapshot's page-placed image).
///
/// Memory may hold pages of earlier boots; the newest boot counts.
///
/// # Errors
/// When the dump cannot be read, or holds no state page.
pub fn inspect(mut dump: impl Read) -> Result<MemoryReport, InspectError> {
    let mut state: Option<[u64; 6]> = None;
    let mut ring_pages: Vec<(u64, RingPage)> = Vec::new();
    let mut bytes = [0_u8; PAGE_SIZE];
    while read_page(&mut dump, &mut bytes)? {
        let mut words = [0_u64; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.try_into().map_or(0, u64::from_le_bytes);
        }
        let [magic, boot, w2, w3, w4, w5, rest @ ..] = &words;
        if *magic == STATE_MAGIC && rest.iter().all(|word| *word == 0) {
            if state.is_none_or(|[_, newest, ..]| newest < *boot) {
                state = Some([*magic, *boot, *w2, *w3, *w4, *w5]);
            }
        } else if let Some(page) = judge_ring_page(&words, *boot) {
            ring_pages.push((*boot, page));
        }
    }
    let [_, boot, start, ring, a, b] = state.ok_or(InspectError::NoStatePage)?;
    let own = ring_pages
        .into_iter()
        .filter(|(page_boot, _)| *page_boot == boot);
    let mut ring_found = 0;
    let mut right = 0;
    for (_, page) in own {
        ring_found += 1;
        if ring_page_is_right(page, a, b, start, ring) {
            right += 1;
        }
    }
    let ring_wrong = ring.abs_diff(right);
    Ok(MemoryReport {
        boot,
        a,
        b,
        start,
        ring,
        ring_found,
        ring_wrong,
    })
}

/// The page being written when A is ahead of B may hold either round, or a part of both.
fn ring_page_is_right(page: RingPage, a: u64, b: u64, start: u64, ring: u64) -> bool {
    if page.index >= ring {
        return false;
    }
    let in_flight = a != b && ring != 0 && a % ring == page.index;
    in_flight
        || (page.whole && page.value == expected_ring_value(page.index, b.min(a), start, ring))
}

fn read_page(dump: &mut impl Read, page: &mut [u8; PAGE_SIZE]) -> io::Result<bool> {
    match dump.read_exact(page) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
