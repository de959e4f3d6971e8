//! What a guest had to wait for when it was last restored, to be sent first the next time.
//!
//! The pages that a guest touches in its first moments (its kernel's code and tables, the programs
//! that run all the time) are much the same from one restore to the next, as long as it has not
//! booted anew in between; an image tells only which of them it wrote to.

use super::{PageSource, RamSection};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pages that are remembered, most of them of the first moments.
const MOST: usize = 128;

/// The pages that the guest of one machine has asked for. Clones are the same memory; what is in it
/// makes a restore quicker, and nothing is lost with it.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<VecDeque<(usize, u64)>>>);

impl Asked {
    fn pages(&self) -> MutexGuard<'_, VecDeque<(usize, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, page: (usize, u64)) {
        let mut pages = self.pages();
        if pages.contains(&page) {
            return;
        }
        if pages.len() == MOST {
            pages.pop_front();
        }
        pages.push_back(page);
    }
}

/// A source that sends first what was asked for before.
pub struct Remembered<S> {
    source: Arc<S>,
    asked: Asked,
}

impl<S: PageSource> Remembered<S> {
    /// Of a machine whose guests have asked for these pages.
    pub fn new(source: Arc<S>, asked: Asked) -> Self {
        Self { source, asked }
    }
}

impl<S: PageSource> PageSource for Remembered<S> {
    fn blocks(&self) -> Vec<(String, u64)> {
        self.source.blocks()
    }

    fn configuration(&self) -> &[u8] {
        self.source.configuration()
    }

    fn devices(&self) -> &[u8] {
        self.source.devices()
    }

    fn ram_section(&self) -> RamSection {
        self.source.ram_section()
    }

    fn is_zero(&self, block: usize, page: u64) -> bool {
        self.source.is_zero(block, page)
    }

    fn read(&self, block: usize, first: u64, buffer: &mut [u8]) -> Result<(), String> {
        self.source.read(block, first, buffer)
    }

    fn data_pages(&self) -> u64 {
        self.source.data_pages()
    }

    fn wanted_first(&self, most: usize) -> Vec<(usize, u64)> {
        let mut pages: Vec<_> = self.asked.pages().iter().copied().collect();
        pages.extend(self.source.wanted_first(most));
        pages.truncate(most);
        pages
    }

    fn expect(&self, block: usize, first: u64, pages: u64) {
        self.source.expect(block, first, pages);
    }

    fn asked(&self, block: usize, page: u64) {
        self.asked.add((block, page));
        self.source.asked(block, page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows one page that will be wanted.
    struct One;

    impl PageSource for One {
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
            vec![(0, 7)]
        }
    }

    #[test]
    fn what_was_asked_for_comes_first_in_its_order() {
        let asked = Asked::default();
        let first = Remembered::new(Arc::new(One), asked.clone());
        assert_eq!(first.wanted_first(10), [(0, 7)]);
        for page in [(1, 3), (0, 9), (1, 3)] {
            first.asked(page.0, page.1);
        }
        let next = Remembered::new(Arc::new(One), asked);
        assert_eq!(next.wanted_first(10), [(1, 3), (0, 9), (0, 7)]);
        assert_eq!(next.wanted_first(2), [(1, 3), (0, 9)]);
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_are_too_many() {
        let source = Remembered::new(Arc::new(One), Asked::default());
        for page in 0..=MOST as u64 {
            source.asked(0, page);
        }
        let wanted = source.wanted_first(usize::MAX);
        assert_eq!(wanted.len(), MOST + 1);
        assert_eq!(wanted.first(), Some(&(0, 1)));
    }
}
