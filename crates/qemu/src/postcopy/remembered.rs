//! What a guest had to wait for when it was last restored, to be sent first the next time.
//!
//! The pages that a guest touches in its first moments (its kernel's code and tables, the programs
//! that run all the time) are much the same from one restore to the next, as long as it has not
//! booted anew in between; an image tells only which of them it wrote to.

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

    /// The guest, in its first moments, had to ask for what holds this page of a block.
    pub(super) fn add(&self, page: (usize, u64)) {
        let mut pages = self.pages();
        if pages.contains(&page) {
            return;
        }
        if pages.len() == MOST {
            pages.pop_front();
        }
        pages.push_back(page);
    }

    /// At most `most` pages to be sent first: those asked for before, in their order, then these.
    pub(super) fn before(&self, wanted: Vec<(usize, u64)>, most: usize) -> Vec<(usize, u64)> {
        let mut pages: Vec<_> = self.pages().iter().copied().collect();
        pages.extend(wanted);
        pages.truncate(most);
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an image knows of.
    const KNOWN: (usize, u64) = (0, 7);

    #[test]
    fn what_was_asked_for_comes_first_in_its_order() {
        let asked = Asked::default();
        assert_eq!(asked.before(vec![KNOWN], 10), [(0, 7)]);
        for page in [(1, 3), (0, 9), (1, 3)] {
            asked.clone().add(page);
        }
        assert_eq!(asked.before(vec![KNOWN], 10), [(1, 3), (0, 9), (0, 7)]);
        assert_eq!(asked.before(vec![KNOWN], 2), [(1, 3), (0, 9)]);
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_are_too_many() {
        let asked = Asked::default();
        for page in 0..=MOST as u64 {
            asked.add((0, page));
        }
        let wanted = asked.before(vec![KNOWN], usize::MAX);
        assert_eq!(wanted.len(), MOST + 1);
        assert_eq!(wanted.first(), Some(&(0, 1)));
    }
}
