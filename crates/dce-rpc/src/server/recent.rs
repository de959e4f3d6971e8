//! A table of bounded size in which new entries take the place of those that were used longest ago.

use std::collections::HashMap;
use std::hash::Hash;

/// Entries by key, at most so many.
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    most: usize,
    /// Counts uses; the larger an entry's number, the later it was used.
    clock: u64,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Recent {
            entries: HashMap::new(),
            most: most.max(1),
            clock: 0,
        }
    }

    fn now(&mut self) -> u64 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }

    /// An entry, which thereby is used.
    pub(super) fn get(&mut self, key: K) -> Option<&mut V> {
        let now = self.now();
        let (used, value) = self.entries.get_mut(&key)?;
        *used = now;
        Some(value)
    }

    /// Adds or replaces an entry. A new one that has no place takes that of the one that was used
    /// longest ago.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let now = self.now();
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (now, value));
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.entries.remove(&key).map(|(_, value)| value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }
}
