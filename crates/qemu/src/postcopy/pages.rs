//! Which pages have still to be sent, and in which order.
//!
//! The unit is the page of the host that the destination places at once: 4 KiB, or 2 MiB where a
//! block is made of those. Pages of zeros are not pushed into blocks of small pages: what was not
//! sent by the end reads as zero anyway. Huge pages are all pushed, those of zeros last, so that
//! the guest's memory is filled when the migration ends, as a snapshot without a long pause needs it.

use super::wire::PAGE;
use super::{PageSource, SourceBlock};

/// A page of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPage {
    /// Number of its block.
    pub block: usize,
    /// Its number in the block.
    pub number: u64,
}

/// Bits of a block, one a host page.
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: u64) -> Bits {
        let words = usize::try_from(length.div_ceil(64)).unwrap_or(usize::MAX);
        Bits(vec![0; words])
    }

    fn split(number: u64) -> (usize, u64) {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        (word, 1 << (number % 64))
    }

    fn get(&self, number: u64) -> bool {
        let (word, bit) = Bits::split(number);
        self.0.get(word).is_some_and(|w| w & bit != 0)
    }

    fn set(&mut self, number: u64) {
        let (word, bit) = Bits::split(number);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// The first clear bit from `from` on, below `end`.
    fn next_clear(&self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            let (word, _) = Bits::split(at);
            let taken = self.0.get(word).copied().unwrap_or(u64::MAX) >> (at % 64);
            let free = u64::from((!taken).trailing_zeros());
            if at % 64 + free < 64 {
                return Some(at + free).filter(|found| *found < end);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

struct Block {
    host_pages: u64,
    /// Pages of the guest in one of the host.
    guest_pages: u64,
    sent: Bits,
    /// Sent, or not to be pushed for now.
    passed: Bits,
}

/// What has still to be sent.
pub struct Outstanding {
    blocks: Vec<Block>,
    /// Where pushing goes on.
    next: HostPage,
    /// Only huge pages of zeros are left.
    zeros: bool,
}

impl Outstanding {
    /// Everything is to be sent.
    pub fn new(blocks: &[SourceBlock]) -> Outstanding {
        let blocks = blocks.iter().map(|block| {
            let host_pages = block.length.div_ceil(block.page_size.max(PAGE));
            Block {
                host_pages,
                guest_pages: (block.page_size / PAGE).max(1),
                sent: Bits::new(host_pages),
                passed: Bits::new(host_pages),
            }
        });
        Outstanding {
            blocks: blocks.collect(),
            next: HostPage {
                block: 0,
                number: 0,
            },
            zeros: false,
        }
    }

    /// The destination has these pages of the guest.
    pub fn received(&mut self, block: usize, bits: &[u8]) {
        let Some(block) = self.blocks.get_mut(block) else {
            return;
        };
        for number in 0..block.host_pages {
            // It marks whole pages of the host only.
            let first = number.saturating_mul(block.guest_pages);
            let byte = usize::try_from(first / 8).ok().and_then(|at| bits.get(at));
            if byte.is_some_and(|byte| byte >> (first % 8) & 1 == 1) {
                block.sent.set(number);
                block.passed.set(number);
            }
        }
    }

    /// Pages of the guest in a page of the host, of this block.
    pub fn guest_pages(&self, block: usize) -> u64 {
        self.blocks.get(block).map_or(1, |b| b.guest_pages)
    }

    /// The page of the host that holds a byte of a block.
    pub fn at(&self, block: usize, offset: u64) -> Option<HostPage> {
        let of = self.blocks.get(block)?;
        let number = offset / PAGE / of.guest_pages;
        (number < of.host_pages).then_some(HostPage { block, number })
    }

    /// Whether a page has been sent. To be asked before sending one: QEMU takes none twice.
    pub fn is_sent(&self, page: HostPage) -> bool {
        let block = self.blocks.get(page.block);
        block.is_none_or(|b| b.sent.get(page.number))
    }

    /// A page is sent.
    pub fn mark_sent(&mut self, page: HostPage) {
        if let Some(block) = self.blocks.get_mut(page.block) {
            block.sent.set(page.number);
            block.passed.set(page.number);
        }
    }

    /// Pushing goes on behind this page: its neighbours are likely to be wanted next.
    pub fn go_on_behind(&mut self, page: HostPage) {
        if !self.zeros {
            self.next = HostPage {
                number: page.number.saturating_add(1),
                ..page
            };
        }
    }

    /// The next pages to push, neighbours, at most `most` pages of the guest (but at least one of
    /// the host); none, if nothing is left.
    pub fn next(&mut self, source: &dyn PageSource, most: u64) -> Option<(HostPage, u64)> {
        loop {
            if let Some(first) = self.next_in_turn(source) {
                return Some((first, self.run(source, first, most)));
            }
            if self.zeros {
                return None;
            }
            // Everything with data is sent: now the zeros of huge pages.
            self.zeros = true;
            self.next = HostPage {
                block: 0,
                number: 0,
            };
            for block in self.blocks.iter_mut().filter(|b| b.guest_pages > 1) {
                block.passed.0.clone_from(&block.sent.0);
            }
        }
    }

    /// The first page to push from `self.next` on, all the way round.
    fn next_in_turn(&mut self, source: &dyn PageSource) -> Option<HostPage> {
        let from = self.next;
        let blocks = self.blocks.len();
        for turn in 0..=blocks {
            let number = (from.block + turn) % blocks.max(1);
            let start = if turn == 0 { from.number } else { 0 };
            if let Some(found) = self.next_in_block(source, number, start) {
                self.next = found;
                return Some(found);
            }
        }
        None
    }

    fn next_in_block(
        &mut self,
        source: &dyn PageSource,
        block: usize,
        start: u64,
    ) -> Option<HostPage> {
        let zeros = self.zeros;
        let of = self.blocks.get_mut(block)?;
        let mut at = start;
        while let Some(number) = of.passed.next_clear(at, of.host_pages) {
            if zeros || has_data(source, block, number, of.guest_pages) {
                return Some(HostPage { block, number });
            }
            of.passed.set(number);
            at = number + 1;
        }
        None
    }

    /// How many neighbours from `first` on are to be pushed.
    fn run(&self, source: &dyn PageSource, first: HostPage, most: u64) -> u64 {
        let Some(of) = self.blocks.get(first.block) else {
            return 1;
        };
        let most = (most / of.guest_pages).max(1);
        let wanted = |number: &u64| {
            *number < of.host_pages
                && !of.passed.get(*number)
                && (self.zeros || has_data(source, first.block, *number, of.guest_pages))
        };
        let behind = first.number + 1..first.number.saturating_add(most);
        1 + behind.take_while(wanted).count() as u64
    }
}

fn has_data(source: &dyn PageSource, block: usize, number: u64, guest_pages: u64) -> bool {
    let first = number.saturating_mul(guest_pages);
    (first..first.saturating_add(guest_pages)).any(|page| !source.is_zero(block, page))
}
