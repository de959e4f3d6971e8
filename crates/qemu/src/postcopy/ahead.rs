//! Telling the source what will be read soon, so that reading does not wait for the disk.
//!
//! Memory of a snapshot that stands on others lies in many pieces, and a disk that gives one after
//! the other takes long for them. Told of many at once, it does not.

use super::pages::HostPage;
use super::server::{HUGE_PAGE, SENT_FIRST};
use super::wire::PAGE;
use super::{Asked, PageSource};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// So much around the pages wanted first is told of before anybody asks: a page of the host may be
/// as large.
const AROUND: u64 = HUGE_PAGE / PAGE;
/// Most of them, 128 MiB.
const MOST_AROUND: usize = 64;
/// Pages of the guest that are told of at once, 8 MiB.
const STEP: u64 = 2048;

/// Tells a source of the pages that a guest will want first, one that has `asked` for some before. For the time in which QEMU starts.
pub fn expect_first(source: &dyn PageSource, asked: &Asked) {
    let mut told = HashSet::new();
    for (block, page) in asked.before(source.wanted_first(SENT_FIRST), SENT_FIRST) {
        if told.len() == MOST_AROUND {
            return;
        }
        let first = page - page % AROUND;
        if told.insert((block, first)) {
            source.expect(block, first, AROUND);
        }
    }
}

/// Tells a source, on a thread of its own, what lies before whoever reads on and on.
pub(super) struct Ahead {
    to_thread: Option<Sender<(usize, u64)>>,
    /// What was told of last: a block, and from where to where.
    told: Option<(usize, u64, u64)>,
}

impl Ahead {
    /// Without a thread for it nobody is told.
    pub fn of(source: Arc<dyn PageSource>) -> Ahead {
        let (to_thread, pieces): (_, Receiver<(usize, u64)>) = channel();
        let thread = std::thread::Builder::new().name("memory-ahead".into());
        let started = thread.spawn(move || {
            for (block, first) in pieces {
                source.expect(block, first, STEP);
            }
        });
        Ahead {
            to_thread: started.ok().map(|_| to_thread),
            told: None,
        }
    }

    /// Reading has come to this page, of `guest_pages` pages of the guest.
    pub fn reads(&mut self, page: HostPage, guest_pages: u64) {
        let at = page.number.saturating_mul(guest_pages);
        let next = match self.told {
            Some((block, from, to)) if block == page.block && (from..to).contains(&at) => {
                if to - at > STEP {
                    return;
                }
                to
            }
            _ => at - at % STEP,
        };
        let from = if next > at { at } else { next };
        self.told = Some((page.block, from, next.saturating_add(STEP)));
        if let Some(thread) = &self.to_thread {
            // One that has ended only makes it slower.
            let _ = thread.send((page.block, next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RamSection;
    use super::*;

    struct Told(Sender<(usize, u64, u64)>);

    impl PageSource for Told {
        fn blocks(&self) -> Vec<(String, u64)> {
            Vec::new()
        }
        fn configuration(&self) -> &[u8] {
            &[]
        }
        fn devices(&self) -> &[u8] {
            &[]
        }
        fn ram_section(&self) -> RamSection {
            RamSection::default()
        }
        fn is_zero(&self, _: usize, _: u64) -> bool {
            false
        }
        fn read(&self, _: usize, _: u64, _: &mut [u8]) -> Result<(), String> {
            Err("nobody reads".into())
        }
        fn data_pages(&self) -> u64 {
            0
        }
        fn wanted_first(&self, _: usize) -> Vec<(usize, u64)> {
            vec![(0, 700), (1, 3), (0, 513)]
        }
        fn expect(&self, block: usize, first: u64, pages: u64) {
            self.0.send((block, first, pages)).unwrap();
        }
    }

    #[test]
    fn what_lies_around_the_pages_wanted_first_is_told_of_once() {
        let (told, hears) = channel();
        expect_first(&Told(told), &Asked::default());
        let all: Vec<_> = hears.try_iter().collect();
        assert_eq!(all, [(0, 512, AROUND), (1, 0, AROUND)]);
    }

    #[test]
    fn a_reader_is_told_of_everything_once_and_before_it_gets_there() {
        let (told, hears) = channel();
        let mut ahead = Ahead::of(Arc::new(Told(told)));
        let mut reads = |block, number| ahead.reads(HostPage { block, number }, 1);
        for number in (100..3 * STEP).step_by(32) {
            reads(0, number);
        }
        // It jumps, as after a page that was asked for.
        reads(1, 10 * STEP + 5);
        drop(ahead);
        let all: Vec<_> = hears.iter().collect();
        let from = |block, first| (block, first, STEP);
        let in_order = (0..4).map(|step| from(0, step * STEP));
        let jumped = [from(1, 10 * STEP)];
        assert_eq!(all, in_order.chain(jumped).collect::<Vec<_>>());
    }
}
